//! Examples that AWS has published, with their signatures.

use super::support::*;
use kmsfs_sigv4::{Endpoint, Payload, Service};
use time::Duration;
use time::macros::datetime;

const HOST: (&str, &str) = ("Host", "examplebucket.s3.amazonaws.com");

fn get(path: &str, query: &str, more: &[(&str, &str)], signed: &str, signature: &str) -> Sent {
    let own = [HOST, ("x-amz-content-sha256", EMPTY), ("x-amz-date", DATE)];
    let headers: Vec<_> = own.into_iter().chain(more.iter().copied()).collect();
    Sent::new("GET", path, query, &headers).with("Authorization", &authorization(signed, signature))
}

/// The example of a presigned URL, "Authenticating Requests: Using Query Parameters".
pub fn presigned() -> Sent {
    let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256\
        &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
        &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
        &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    Sent::new("GET", "/test.txt", query, &[HOST])
}

/// "GET Object" of "Transferring Payload in a Single Chunk".
pub fn get_object() -> Sent {
    let signed = "host;range;x-amz-content-sha256;x-amz-date";
    let signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
    get("/test.txt", "", &[("Range", "bytes=0-9")], signed, signature)
}

#[test]
fn s3_get_object() {
    let verified = get_object().verify().unwrap();
    assert_eq!(verified.credential().access_key_id, ACCESS_KEY);
    assert_eq!((verified.path(), verified.is_presigned()), (&b"/test.txt"[..], false));
    assert_eq!(verified.payload(), Payload::Sha256(hex::decode(EMPTY).unwrap().try_into().unwrap()));
    assert_eq!(receive(verified.into_body(), []).2.unwrap().length, 0);
}

#[test]
fn s3_get_bucket_lifecycle_and_list_objects() {
    let signed = "host;x-amz-content-sha256;x-amz-date";
    let signature = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543";
    let verified = get("/", "lifecycle", &[], signed, signature).verify().unwrap();
    assert_eq!(verified.query(), [(b"lifecycle".to_vec(), Vec::new())]);
    let signature = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7";
    assert!(get("/", "max-keys=2&prefix=J", &[], signed, signature).verify().is_ok());
    assert!(get("/", "prefix=J&max-keys=2", &[], signed, signature).verify().is_ok());
    assert!(get("/", "prefix=J&max-keys=3", &[], signed, signature).verify().is_err());
}

#[test]
fn s3_presigned_url_is_good_for_its_day() {
    let at = |after| presigned().verify_at(Service::S3, date() + after);
    let verified = at(Duration::ZERO).unwrap();
    assert!(verified.is_presigned());
    assert_eq!(verified.payload(), Payload::Unsigned);
    assert!(at(Duration::seconds(86_400)).is_ok());
    let expired = at(Duration::seconds(86_401)).unwrap_err();
    assert_eq!(
        (expired.code(), expired.status(), expired.to_string().as_str()),
        ("AccessDenied", 403, "Request has expired")
    );
    assert!(at(Duration::minutes(-15)).is_ok());
    assert_eq!(at(Duration::seconds(-901)).unwrap_err().to_string(), "Request is not valid yet");
}

/// "Transferring Payload in Multiple Chunks": 65 KiB of `a`, in chunks of 64 KiB.
fn chunked_upload() -> (Sent, [&'static str; 3]) {
    let signed = "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;\
        x-amz-storage-class";
    let seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
    let headers = [
        ("Host", "s3.amazonaws.com"),
        ("x-amz-date", DATE),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("Authorization", &authorization(signed, seed)),
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
        ("Content-Encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "66560"),
        ("Content-Length", "66824"),
    ];
    let signatures = [
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ];
    (Sent::new("PUT", "/examplebucket/chunkObject.txt", "", &headers), signatures)
}

fn chunks_of_a(signatures: [&str; 3], behind: &str) -> Vec<u8> {
    let [first, second, last] = signatures;
    let (long, short) = ("a".repeat(65_536), "a".repeat(1024));
    let text = format!(
        "10000;chunk-signature={first}\r\n{long}\r\n400;chunk-signature={second}\r\n{short}\r\n\
         0;chunk-signature={last}\r\n{behind}"
    );
    text.into_bytes()
}

#[test]
fn s3_upload_in_chunks() {
    let (sent, signatures) = chunked_upload();
    let body = chunks_of_a(signatures, "\r\n");
    assert_eq!(body.len(), 66_824, "the example's Content-Length");
    let verified = sent.verify().unwrap();
    assert_eq!((verified.payload(), verified.decoded_length()), (Payload::SignedChunks, Some(66_560)));
    for size in [1, 100, body.len()] {
        let (bytes, verified, end) = receive(sent.verify().unwrap().into_body(), body.chunks(size));
        assert_eq!((bytes, verified), (vec![b'a'; 66_560], 66_560));
        let end = end.unwrap();
        assert_eq!((end.length, end.trailer), (66_560, None));
    }
}

/// "Including Trailing Headers": the same object with its CRC32C.
#[test]
fn s3_upload_in_chunks_with_a_trailer() {
    let signed = "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;\
        x-amz-storage-class;x-amz-trailer";
    let seed = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e";
    let headers = [
        ("Host", "s3.amazonaws.com"),
        ("x-amz-date", DATE),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("Authorization", &authorization(signed, seed)),
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
        ("Content-Encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "66560"),
        ("x-amz-trailer", "x-amz-checksum-crc32c"),
    ];
    let sent = Sent::new("PUT", "/examplebucket/chunkObject.txt", "", &headers);
    let signatures = [
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ];
    let signature = "x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435";
    // As SDKs write it, and as minio-go does.
    for line_end in ["\r\n", "\n\r\n"] {
        let body = chunks_of_a(signatures, &format!("x-amz-checksum-crc32c:sOO8/Q=={line_end}{signature}\r\n\r\n"));
        for size in [1, 1000, body.len()] {
            let (bytes, verified, end) = receive(sent.verify().unwrap().into_body(), body.chunks(size));
            assert_eq!((bytes.len(), verified), (66_560, 66_560));
            assert_eq!(end.unwrap().trailer, Some(("x-amz-checksum-crc32c", "sOO8/Q==".to_owned())));
        }
    }
}

/// The example of the IAM User Guide, and one of AWS's test suite of version 4.
#[test]
fn requests_to_other_services() {
    let empty = hex::decode(EMPTY).unwrap().try_into().unwrap();
    let now = datetime!(2015-08-30 12:36:00 UTC);
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let authorization = |service: &str, signed: &str, signature: &str| {
        let credential = format!("AKIDEXAMPLE/20150830/us-east-1/{service}/aws4_request");
        format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature={signature}")
    };
    let iam = authorization(
        "iam",
        "content-type;host;x-amz-date",
        "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
    );
    let headers = [
        ("Host", "iam.amazonaws.com"),
        ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"),
        ("X-Amz-Date", "20150830T123600Z"),
        ("Authorization", &iam),
    ];
    let sent = Sent::new("GET", "/", "Action=ListUsers&Version=2010-05-08", &headers);
    let at = |name, body_sha256| Endpoint { region: "us-east-1", service: Service::Other { name, body_sha256 }, now };
    assert!(sent.verify_by(&at("iam", empty), secret).is_ok());
    assert_eq!(
        sent.verify_by(&at("iam", [0; 32]), secret).unwrap_err().code(),
        "SignatureDoesNotMatch",
        "another body"
    );
    assert_eq!(sent.verify_by(&at("kms", empty), secret).unwrap_err().code(), "AuthorizationHeaderMalformed");

    let vanilla =
        authorization("service", "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
    for path in ["/", "/./", "//", "/example/..", "/a/b/../.."] {
        let headers =
            [("Host", "example.amazonaws.com"), ("X-Amz-Date", "20150830T123600Z"), ("Authorization", &vanilla)];
        assert!(Sent::new("GET", path, "", &headers).verify_by(&at("service", empty), secret).is_ok(), "{path}");
    }
}
