//! What AWS's own signer signs is verified, whatever the path, the parameters and the headers are.

use super::support::*;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use kmsfs_sigv4::{Endpoint, Request, SecretAccessKey, Service, Signer};
use proptest::prelude::*;
use std::time::Duration;

#[derive(Clone, Debug)]
struct Asked {
    method: &'static str,
    segments: Vec<String>,
    parameters: Vec<(String, String)>,
    /// Names without the prefix, and values.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Which of the reserved characters are sent as they are.
    raw: bool,
    presigned: bool,
}

/// As clients write a path or a parameter on the wire; what is sent raw is what HTTP allows there.
fn encoded(text: &str, raw: &[u8]) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || raw.contains(&byte);
    text.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn text() -> impl Strategy<Value = String> {
    let characters = prop::sample::select(
        "abzAZ019-._~ !\"#$%&'()*+,/:;<=>?@[\\]^`{|}\u{e9}\u{1234}\u{1f512}\u{1}\t\n".chars().collect::<Vec<_>>(),
    );
    prop::collection::vec(characters, 0..6).prop_map(|characters| characters.into_iter().collect())
}

fn asked() -> impl Strategy<Value = Asked> {
    let segment =
        prop_oneof![6 => text(), 1 => Just(".".to_owned()), 1 => Just("..".to_owned()), 1 => Just(String::new())];
    let name = "[a-cA-C][a-c-]{0,3}";
    let value = "[ -~]{0,12}";
    (
        prop::sample::select(vec!["GET", "PUT", "POST", "DELETE", "HEAD"]),
        prop::collection::vec(segment, 0..5),
        prop::collection::vec((text(), text()), 0..5),
        prop::collection::vec((name, value), 0..5),
        prop::collection::vec(any::<u8>(), 0..9),
        any::<(bool, bool)>(),
    )
        .prop_map(|(method, segments, parameters, headers, body, (raw, presigned))| {
            // A parameter without a name is none for the signer.
            let parameters = parameters.into_iter().filter(|(name, _)| !name.is_empty()).collect();
            Asked { method, segments, parameters, headers, body, raw, presigned }
        })
}

/// The request as it is sent, and by what it is signed. In the canonical form all but unreserved characters are
/// escapes; the signer takes paths as they are, so that it is shown that form, whatever is sent.
fn signed(asked: &Asked, service: &str) -> Sent {
    let of_s3 = service == "s3";
    let path = |raw: &[u8]| {
        let segments: Vec<_> = asked.segments.iter().map(|segment| encoded(segment, raw)).collect();
        format!("/{}", segments.join("/"))
    };
    let query = |raw: &[u8]| {
        let pairs =
            asked.parameters.iter().map(|(name, value)| format!("{}={}", encoded(name, raw), encoded(value, raw)));
        pairs.collect::<Vec<_>>().join("&")
    };
    let on_wire: &[u8] = if asked.raw { b"!$'()*,:@" } else { b"" };
    let shown = if of_s3 { path(b"/") } else { path(on_wire) };
    let sent_path = if of_s3 && asked.raw { path(b"!$&'()*+,;=:@/") } else { shown.clone() };
    let uri = format!("https://h.example:9000{shown}?{}", query(on_wire));

    let mut settings = SigningSettings::default();
    if of_s3 {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    if asked.presigned {
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_secs(60));
    }
    let identity = Credentials::new(ACCESS_KEY, SECRET, None, None, "test").into();
    let time = std::time::UNIX_EPOCH + Duration::from_secs(date().unix_timestamp().cast_unsigned());
    let params = v4::SigningParams::builder().identity(&identity).region("us-east-1").name(service).time(time);
    let params = params.settings(settings).build().unwrap().into();
    let mut headers = vec![("Host".to_owned(), "h.example:9000".to_owned())];
    headers.extend(asked.headers.iter().map(|(name, value)| (format!("X-Amz-Meta-{name}"), value.clone())));
    let body = if of_s3 && asked.presigned { SignableBody::UnsignedPayload } else { SignableBody::Bytes(&asked.body) };
    let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let signable = SignableRequest::new(asked.method, uri.as_str(), pairs, body).unwrap();
    let (instructions, _) = sign(signable, &params).unwrap().into_parts();
    let (more, parameters) = instructions.into_parts();

    headers.extend(more.iter().map(|header| (header.name().to_owned(), header.value().to_owned())));
    let pairs: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let parameters = parameters.iter().map(|(name, value)| format!("{}={}", encoded(name, b""), encoded(value, b"")));
    let query = [query(on_wire)].into_iter().filter(|query| !query.is_empty()).chain(parameters);
    Sent::new(asked.method, &sent_path, &query.collect::<Vec<_>>().join("&"), &pairs)
}

fn body_sha256(asked: &Asked) -> [u8; 32] {
    hex::decode(sha256(&asked.body)).unwrap().try_into().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_to_s3(asked in asked()) {
        let sent = signed(&asked, "s3");
        let verified = sent.verify().map_err(|error| TestCaseError::fail(format!("{sent:?}: {:#?}", error.elements())))?;
        let path = format!("/{}", asked.segments.join("/"));
        prop_assert_eq!(verified.path(), path.as_bytes());
        let own = verified.query().iter().filter(|(name, _)| !name.starts_with(b"X-Amz-"));
        let given: Vec<_> = asked.parameters.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        prop_assert_eq!(own.map(|(name, value)| (&name[..], &value[..])).collect::<Vec<_>>(), given);
        if !asked.presigned {
            prop_assert!(receive(verified.into_body(), [&asked.body[..]]).2.is_ok());
        }
    }

    #[test]
    fn requests_to_kms(asked in asked()) {
        let sent = signed(&asked, "kms");
        let service = |body_sha256| Service::Other { name: "kms", body_sha256 };
        let endpoint = |body_sha256| Endpoint { region: "us-east-1", service: service(body_sha256), now: date() };
        let verified = sent.verify_by(&endpoint(body_sha256(&asked)), SECRET);
        prop_assert!(verified.is_ok(), "{:?}: {:#?}", sent, verified.unwrap_err().elements());
        prop_assert!(sent.verify_by(&endpoint([7; 32]), SECRET).is_err());
    }
    /// The signer here writes, byte for byte, what AWS's own does.
    #[test]
    fn requests_are_signed_as_aws_signs_them(mut asked in asked()) {
        asked.presigned = false;
        let sent = signed(&asked, "kms");
        let is_of_signer = |name: &[u8]| [&b"x-amz-date"[..], b"authorization"].iter().any(|own| name.eq_ignore_ascii_case(own));
        let headers: Vec<(&[u8], &[u8])> = sent.headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        let (theirs, own): (Vec<_>, Vec<_>) = headers.into_iter().partition(|(name, _)| is_of_signer(name));
        let request = Request { method: &sent.method, path: &sent.path, query: &sent.query, headers: &own };
        let secret = SecretAccessKey::new(SECRET);
        let signer = Signer { access_key_id: ACCESS_KEY, secret: &secret, region: "us-east-1", service: "kms" };
        let made = signer.sign(&request, &asked.body, date()).unwrap();
        prop_assert_eq!(theirs.len(), made.len());
        for (name, value) in theirs {
            let made = made.iter().find(|(own, _)| name.eq_ignore_ascii_case(own.as_bytes())).unwrap();
            prop_assert_eq!(String::from_utf8_lossy(value), made.1.as_str());
        }
    }
}
