//! What is refused, with which code, status and words.

use super::published::{get_object, presigned};
use super::support::*;
use kmsfs_sigv4::{Endpoint, Error, Service};
use time::Duration;

#[track_caller]
fn refused(sent: &Sent, code: &str, status: u16, message: &str) -> Error {
    let error = sent.verify().unwrap_err();
    assert_eq!((error.code(), error.status(), error.to_string().as_str()), (code, status, message));
    error
}

fn reauthorized(change: impl Fn(&str) -> String) -> Sent {
    let sent = get_object();
    let (_, value) = sent.headers.iter().find(|(name, _)| name == b"Authorization").unwrap();
    let changed = change(std::str::from_utf8(value).unwrap());
    sent.without("authorization").with("Authorization", &changed)
}

fn requeried(from: &str, to: &str) -> Sent {
    let mut sent = presigned();
    let query = String::from_utf8(sent.query).unwrap();
    assert!(query.contains(from), "{from}");
    sent.query = query.replace(from, to).into_bytes();
    sent
}

#[test]
fn clients_write_the_authorization_header_in_several_ways() {
    for between in [",", ", ", " , ", ",\t"] {
        assert!(reauthorized(|text| text.replace(',', between)).verify().is_ok(), "{between:?}");
    }
    assert!(reauthorized(|text| text.replacen(' ', "   ", 1)).verify().is_ok());
    let turned = |text: &str| {
        let (algorithm, rest) = text.split_once(' ').unwrap();
        let parts: Vec<_> = rest.split(',').rev().collect();
        format!("{algorithm} {}", parts.join(", "))
    };
    assert!(reauthorized(turned).verify().is_ok());
    let unsorted = |text: &str| text.replace("host;range", "range;host");
    assert!(reauthorized(unsorted).verify().is_ok());
}

#[test]
fn an_authorization_header_that_is_none() {
    let malformed = "AuthorizationHeaderMalformed";
    let cases = [
        (
            "AWS4-HMAC-SHA256",
            "InvalidArgument",
            "Authorization header is invalid -- one and only one ' ' (space) required",
        ),
        ("", "InvalidArgument", "Authorization header is invalid -- one and only one ' ' (space) required"),
        ("Basic dTpw", "InvalidArgument", "Unsupported Authorization Type"),
        ("aws4-hmac-sha256 Credential=a", "InvalidArgument", "Unsupported Authorization Type"),
        (
            "AWS AKID:c2ln",
            "InvalidRequest",
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
        ),
        (
            "AWS4-HMAC-SHA256 x",
            malformed,
            "The authorization header is malformed; the authorization component \"x\" is malformed.",
        ),
        (
            "AWS4-HMAC-SHA256 Signature=0,SignedHeaders=host",
            malformed,
            "The authorization header is malformed; missing Credential.",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=a/b,Signature=0,SignedHeaders=host",
            malformed,
            "The authorization header is malformed; the Credential is mal-formed; expecting \
             \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=a/20130524/us-east-1/s3/aws3_request,Signature=0,SignedHeaders=host",
            malformed,
            "The authorization header is malformed; incorrect terminal \"aws3_request\". This endpoint uses \
             \"aws4_request\".",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=a/20130532/us-east-1/s3/aws4_request,Signature=0,SignedHeaders=host",
            malformed,
            "The authorization header is malformed; incorrect date format \"20130532\". This date in the credential must \
             be in the format \"yyyyMMdd\".",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=a/20130525/us-east-1/s3/aws4_request,Signature=0,SignedHeaders=host",
            malformed,
            "The authorization header is malformed; Invalid credential date \"20130525\". This date is not the same as \
             X-Amz-Date: \"20130524\".",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=a/20130524/us-east-1/sts/aws4_request,Signature=0,SignedHeaders=host",
            malformed,
            "The authorization header is malformed; incorrect service \"sts\". This endpoint belongs to \"s3\".",
        ),
    ];
    for (text, code, message) in cases {
        refused(&reauthorized(|_| text.to_owned()), code, 400, message);
    }
    for again in ["Credential=a", "SignedHeaders=host", "Signature=0", "Other=1", ""] {
        let error = reauthorized(|text| format!("{text}, {again}")).verify().unwrap_err();
        assert_eq!(error.code(), malformed, "{again}");
    }
    for names in ["", "Host;range", "host;host", "host;", ";host", "ho st"] {
        let changed = reauthorized(|text| text.replace("host;range;x-amz-content-sha256;x-amz-date", names));
        assert_eq!(changed.verify().unwrap_err().code(), malformed, "{names}");
    }
}

#[test]
fn another_region_is_told_which_one_is_right() {
    let other = reauthorized(|text| text.replace("us-east-1", "eu-west-1"));
    let message = "The authorization header is malformed; the region 'eu-west-1' is wrong; expecting 'us-east-1'";
    let error = refused(&other, "AuthorizationHeaderMalformed", 400, message);
    assert_eq!(error.elements(), [("Region", "us-east-1".to_owned())]);
    let message =
        "Error parsing the X-Amz-Credential parameter; the region 'eu-west-1' is wrong; expecting 'us-east-1'";
    let error = refused(&requeried("us-east-1", "eu-west-1"), "AuthorizationQueryParametersError", 400, message);
    assert_eq!(error.elements(), [("Region", "us-east-1".to_owned())]);
}

#[test]
fn a_presigned_url_that_is_none() {
    let code = "AuthorizationQueryParametersError";
    let all = "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, \
        X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.";
    for name in ["Algorithm", "Credential", "Signature", "Date", "SignedHeaders", "Expires"] {
        refused(&requeried(&format!("X-Amz-{name}"), "other"), code, 400, all);
        let mut twice = presigned();
        twice.query.extend(format!("&x-amz-{}=1", name.to_ascii_lowercase()).into_bytes());
        let error = twice.verify().unwrap_err();
        assert_eq!(
            (error.code(), error.to_string()),
            ("InvalidRequest", format!("The request has more than one X-Amz-{name}"))
        );
    }
    refused(
        &requeried("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
        code,
        400,
        "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"",
    );
    refused(
        &requeried("Date=20130524T000000Z", "Date=2013-05-24"),
        code,
        400,
        "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"",
    );
    let too_long = "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less \
        than 604800 seconds";
    refused(&requeried("86400", "604801"), code, 400, too_long);
    refused(&requeried("86400", "-1"), code, 400, "X-Amz-Expires must be non-negative");
    refused(&requeried("86400", "day"), code, 400, "X-Amz-Expires should be a number");
    refused(&requeried("86400", "0"), code, 400, "X-Amz-Expires must be at least 1 second");
    let error = requeried("86400", "86401").verify().unwrap_err();
    assert_eq!(error.code(), "SignatureDoesNotMatch", "for longer than was signed");
}

#[test]
fn one_mechanism_a_request() {
    let message = "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string \
        parameter or the Authorization header should be specified";
    let error = refused(&presigned().with("Authorization", "Bearer x"), "InvalidArgument", 400, message);
    let argument = [("ArgumentName", "Authorization".to_owned()), ("ArgumentValue", "Bearer x".to_owned())];
    assert_eq!(error.elements(), argument);
    let mut version_two = Sent::new("GET", "/", "AWSAccessKeyId=a&Signature=b&Expires=1", &[("Host", "h")]);
    assert_eq!(version_two.verify().unwrap_err(), Error::VersionTwo);
    version_two.query.clear();
    refused(&version_two, "AccessDenied", 403, "Access Denied");
    assert_eq!(version_two.verify().unwrap_err(), Error::Anonymous);
}

#[test]
fn the_time_of_signing_is_of_these_15_minutes() {
    let at = |after| get_object().verify_at(Service::S3, date() + after);
    for seconds in [-900, 900] {
        assert!(at(Duration::seconds(seconds)).is_ok());
    }
    for seconds in [-901, 901] {
        let error = at(Duration::seconds(seconds)).unwrap_err();
        assert_eq!((error.code(), error.status()), ("RequestTimeTooSkewed", 403));
        assert_eq!(error.to_string(), "The difference between the request time and the current time is too large.");
        assert_eq!(error.elements()[0], ("RequestTime", "20130524T000000Z".to_owned()));
    }
    let message = "AWS authentication requires a valid Date or x-amz-date header";
    for date in ["", "yesterday", "20130524T000000"] {
        refused(&get_object().without("x-amz-date").with("x-amz-date", date), "AccessDenied", 403, message);
        refused(&get_object().without("x-amz-date").with("Date", date), "AccessDenied", 403, message);
    }
    refused(&get_object().without("x-amz-date"), "AccessDenied", 403, message);
    let error = get_object().with("X-Amz-Date", DATE).verify().unwrap_err();
    assert_eq!(error, Error::Repeated { name: "x-amz-date" });
}

/// The date is that of `Date` where there is no `x-amz-date`: signed as the examples' ones, and by the same key.
#[test]
fn the_date_header_may_tell_the_time() {
    let canonical = format!("GET\n/\n\nhost:h\n\nhost\n{EMPTY}");
    let text = format!("AWS4-HMAC-SHA256\n{DATE}\n{SCOPE}\n{}", sha256(canonical.as_bytes()));
    for date in ["Fri, 24 May 2013 00:00:00 GMT", DATE] {
        let headers = [("Host", "h"), ("Date", date), ("x-amz-content-sha256", EMPTY)];
        let sent = Sent::new("GET", "/", "", &headers).with("Authorization", &authorization("host", &sign(&text)));
        assert!(sent.verify().is_ok(), "{date}: and x-amz-content-sha256 is signed by its place in the request");
    }
}

#[test]
fn what_takes_effect_has_to_be_signed() {
    let message = "There were headers present in the request which were not signed";
    for sent in [get_object(), presigned()] {
        let sent = sent.with("X-Amz-Acl", "public-read").with("x-amz-copy-source", "/b/k").with("x-amz-acl", "private");
        let error = refused(&sent, "AccessDenied", 403, message);
        assert_eq!(error.elements(), [("HeadersNotSigned", "x-amz-acl, x-amz-copy-source".to_owned())]);
    }
    let no_host = reauthorized(|text| text.replace("host;", ""));
    let error = refused(&no_host, "AccessDenied", 403, message);
    assert_eq!(error.elements(), [("HeadersNotSigned", "host".to_owned())]);
    refused(&get_object().without("host"), "AccessDenied", 403, message);
    assert_eq!(get_object().with("host", "h").verify().unwrap_err(), Error::Repeated { name: "host" });
    for header in [("Content-Type", "text/plain"), ("x-amzn-trace-id", "Root=1"), ("User-Agent", "u")] {
        assert!(get_object().with(header.0, header.1).verify().is_ok(), "{header:?} needs no signature");
        assert!(presigned().with(header.0, header.1).verify().is_ok(), "{header:?} needs no signature");
    }
}

#[test]
fn there_are_no_session_tokens() {
    let message = "The provided token is malformed or otherwise invalid.";
    let mut of_query = presigned();
    of_query.query.extend(b"&X-Amz-Security-Token=t");
    for sent in [get_object().with("X-Amz-Security-Token", "t"), of_query] {
        let error = refused(&sent, "InvalidToken", 400, message);
        assert_eq!(error.elements(), [("Token-0", "t".to_owned())]);
    }
}

#[test]
fn the_body_is_hashed_in_chunks_or_not_signed() {
    let of = |value: &str| get_object().without("x-amz-content-sha256").with("x-amz-content-sha256", value);
    for value in ["", "unsigned-payload", "STREAMING-PAYLOAD", &EMPTY[1..], &format!("{EMPTY}0"), &"g".repeat(64)] {
        let error = of(value).verify().unwrap_err();
        assert_eq!((error.code(), error.status()), ("InvalidArgument", 400), "{value}");
        let argument = [("ArgumentName", "x-amz-content-sha256".to_owned()), ("ArgumentValue", value.to_owned())];
        assert_eq!(error.elements(), argument);
    }
    let missing = get_object().without("x-amz-content-sha256");
    refused(&missing, "InvalidRequest", 400, "Missing required header for this request: x-amz-content-sha256");
    let of_v4a = of("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD");
    let message = "A header you provided implies functionality that is not implemented";
    refused(&of_v4a, "NotImplemented", 501, message);
    for value in ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"] {
        assert_eq!(of(value).verify().unwrap_err().code(), "SignatureDoesNotMatch", "another value than was signed");
        let error = presigned().with("x-amz-content-sha256", value).verify();
        assert_eq!(error.is_ok(), value == "UNSIGNED-PAYLOAD", "{value}");
    }
}

#[test]
fn chunks_need_their_length_and_what_they_announce() {
    let signed = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
    let with_trailer = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
    let unsigned = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
    let crc32 = Some("x-amz-checksum-crc32");
    for (value, trailer, code) in [
        (signed, None, None),
        (signed, crc32, Some("InvalidRequest")),
        (with_trailer, crc32, None),
        (with_trailer, None, Some("MalformedTrailerError")),
        (with_trailer, Some("x-amz-meta-a"), Some("InvalidRequest")),
        (with_trailer, Some("x-amz-checksum-crc32,x-amz-checksum-sha1"), Some("InvalidRequest")),
        (unsigned, None, None),
        (unsigned, Some("X-Amz-Checksum-CRC64NVME"), None),
        ("UNSIGNED-PAYLOAD", None, None),
        ("UNSIGNED-PAYLOAD", crc32, Some("InvalidRequest")),
    ] {
        let (sent, _) = upload(value, 5, trailer);
        assert_eq!(sent.verify().err().map(|error| error.code()), code, "{value} {trailer:?}");
    }
    let (sent, _) = upload(signed, 5, None);
    let error = sent.with("x-amz-decoded-content-length", "5").verify().unwrap_err();
    assert_eq!(error.code(), "SignatureDoesNotMatch", "two values are another text than one");
    // Each is signed as it is sent.
    for length in ["", "-5", "+5", "5 5", "0x5", "18446744073709551616"] {
        let names = "host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length";
        let lines = format!(
            "host:h\nx-amz-content-sha256:{signed}\nx-amz-date:{DATE}\nx-amz-decoded-content-length:{length}\n"
        );
        let canonical = format!("PUT\n/k\n\n{lines}\n{names}\n{signed}");
        let text = format!("AWS4-HMAC-SHA256\n{DATE}\n{SCOPE}\n{}", sha256(canonical.as_bytes()));
        let headers = [
            ("host", "h"),
            ("x-amz-content-sha256", signed),
            ("x-amz-date", DATE),
            ("x-amz-decoded-content-length", length),
        ];
        let sent = Sent::new("PUT", "/k", "", &headers).with("Authorization", &authorization(names, &sign(&text)));
        refused(&sent, "MissingContentLength", 411, "You must provide the Content-Length HTTP header.");
    }
}

#[test]
fn who_is_not_known_and_who_signed_with_another_secret() {
    let stranger = reauthorized(|text| text.replace(ACCESS_KEY, "AKIAUNKNOWN"));
    let message = "The AWS Access Key Id you provided does not exist in our records.";
    let error = refused(&stranger, "InvalidAccessKeyId", 403, message);
    assert_eq!(error.elements(), [("AWSAccessKeyId", "AKIAUNKNOWN".to_owned())]);

    let endpoint = Endpoint { region: "us-east-1", service: Service::S3, now: date() };
    let error = get_object().verify_by(&endpoint, "another secret").unwrap_err();
    assert_eq!((error.code(), error.status()), ("SignatureDoesNotMatch", 403));
    let elements = error.elements();
    let names: Vec<_> = elements.iter().map(|(name, _)| *name).collect();
    let all = ["AWSAccessKeyId", "StringToSign", "SignatureProvided", "StringToSignBytes", "CanonicalRequest"];
    assert_eq!(names[..5], all);
    // As the example has it in full.
    let canonical = format!(
        "GET\n/test.txt\n\nhost:examplebucket.s3.amazonaws.com\nrange:bytes=0-9\nx-amz-content-sha256:{EMPTY}\n\
         x-amz-date:{DATE}\n\nhost;range;x-amz-content-sha256;x-amz-date\n{EMPTY}"
    );
    assert_eq!(elements[4].1, canonical);
    assert_eq!(
        elements[1].1,
        "AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n\
         7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972"
    );
    for signature in ["", "00", &"0".repeat(64), &"F".repeat(64), &"0".repeat(65)] {
        let changed = reauthorized(|text| format!("{}Signature={signature}", text.split_once("Signature=").unwrap().0));
        let error = changed.verify().unwrap_err();
        assert_eq!((error.code(), &error.elements()[2].1[..]), ("SignatureDoesNotMatch", signature));
    }
}

#[test]
fn what_is_no_request_is_not_looked_at() {
    let mut sent = get_object();
    sent.path = b"/%zz".to_vec();
    refused(&sent, "InvalidURI", 400, "Couldn't parse the specified URI.");
    sent = get_object();
    sent.query = b"a=%".to_vec();
    assert_eq!(sent.verify().unwrap_err(), Error::InvalidUri);
    for (name, value) in [("Range", "a\r\nx-amz-acl: b"), ("a\nb", "c"), ("", "c"), ("a", "\u{7f}")] {
        assert_eq!(get_object().with(name, value).verify().unwrap_err(), Error::InvalidHeader, "{name:?} {value:?}");
    }
    sent = get_object();
    sent.method = "GET\n/other".to_owned();
    assert_eq!(sent.verify().unwrap_err(), Error::InvalidHeader);
}
