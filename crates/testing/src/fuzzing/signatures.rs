//! Requests that are signed, and their bodies. Whatever comes in pieces comes out as it does at once, and nobody gets
//! in by another key.

use kmsfs_crypto::MacKey;
use kmsfs_sigv4::{
    Body, Complete, Endpoint, Error, Event, Request, SecretAccessKey, Service, SigningKey, Verified, verify,
};
use sha2::{Digest, Sha256};
use time::macros::datetime;

pub(super) const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
pub(super) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const DATE: &str = "20130524T000000Z";
const SCOPE: &str = "20130524/us-east-1/s3/aws4_request";

/// A request as HTTP has it, with line feeds; of the signed ones in AWS's documentation the corpus has some.
pub(super) fn sigv4_request(bytes: &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let mut lines = bytes[..end].split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let (method, target) = split(first, b' ');
    let (path, query) = split(target, b'?');
    let headers: Vec<_> = lines.map(|line| split(line, b':')).collect();
    let Ok(method) = std::str::from_utf8(method) else { return };
    let request = Request { method, path, query, headers: &headers };
    let other = Service::Other { name: "kms", body_sha256: [0; 32] };
    for service in [Service::S3, other] {
        let Ok(verified) = by(SECRET, &request, service) else { continue };
        let refusal = by("another secret", &request, service).expect_err("another key's signature is taken");
        assert_eq!(refusal.code(), "SignatureDoesNotMatch");
        let body = bytes.get(end + 2..).unwrap_or_default();
        let again = by(SECRET, &request, service).expect("what is verified once is verified again");
        assert_eq!(received(verified.into_body(), [body]), received(again.into_body(), body.chunks(3)));
    }
}

/// A form of body, a length of two bytes, and the body.
pub(super) fn aws_chunked(bytes: &[u8]) {
    let [form, low, high, body @ ..] = bytes else { return };
    let length = u16::from_le_bytes([*low, *high]);
    let crc32 = Some("x-amz-checksum-crc32");
    let (value, trailer) = match form % 4 {
        0 => ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", None),
        1 => ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", crc32),
        2 => ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", crc32),
        _ => ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", None),
    };
    let body_of = || upload(value, length, trailer).into_body();
    let at_once = received(body_of(), [body]);
    for size in [1, 2, 7] {
        assert_eq!(received(body_of(), body.chunks(size)), at_once);
    }
    let (object, verified, Ok(complete)) = at_once else { return };
    assert_eq!((object.len() as u64, complete.length), (u64::from(length), u64::from(length)));
    assert_eq!(complete.trailer.as_ref().map(|(name, _)| *name), trailer);
    if form % 4 < 2 {
        assert_eq!(verified, object.len(), "there is a chunk that nobody has signed");
    } else {
        // In one chunk it is the same object.
        let trailer = complete.trailer.as_ref().map(|(name, value)| format!("{name}:{value}\r\n")).unwrap_or_default();
        let chunk = if object.is_empty() {
            Vec::new()
        } else {
            [format!("{length:x}\r\n").as_bytes(), &object, b"\r\n"].concat()
        };
        let written = [&chunk[..], b"0\r\n", trailer.as_bytes(), b"\r\n"].concat();
        assert_eq!(received(body_of(), [&written[..]]), (object, 0, Ok(complete)));
    }
}

/// Before and behind the separator; all before where there is none.
fn split(text: &[u8], at: u8) -> (&[u8], &[u8]) {
    let place = text.iter().position(|byte| *byte == at);
    place.map_or((text, &[]), |place| (&text[..place], &text[place + 1..]))
}

pub(super) fn by(secret: &str, request: &Request<'_>, service: Service<'_>) -> Result<Verified, Error> {
    let endpoint = Endpoint { region: "us-east-1", service, now: datetime!(2013-05-24 00:00:00 UTC) };
    verify(request, &endpoint, |credential| {
        let secret = SecretAccessKey::new(secret);
        let derive = || SigningKey::derive(&secret, &credential.date, &credential.region, &credential.service);
        (credential.access_key_id == ACCESS_KEY).then(derive)
    })
}

/// All bytes, how many of them were verified, and the end.
fn received<'a>(
    mut body: Body,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<u8>, usize, Result<Complete, Error>) {
    let (mut bytes, mut verified) = (Vec::new(), 0);
    for mut piece in pieces {
        loop {
            match body.decode(&mut piece) {
                Ok(Some(Event::Unverified(more))) => bytes.extend_from_slice(more),
                Ok(Some(Event::Verified)) => verified = bytes.len(),
                Ok(None) => break,
                Err(error) => return (bytes, verified, Err(error)),
            }
        }
    }
    (bytes, verified, body.finish())
}

/// An upload whose line and headers are signed.
fn upload(value: &str, length: u16, trailer: Option<&str>) -> Verified {
    let length = length.to_string();
    let mut headers = vec![
        ("host", "localhost"),
        ("x-amz-content-sha256", value),
        ("x-amz-date", DATE),
        ("x-amz-decoded-content-length", &length),
    ];
    headers.extend(trailer.map(|name| ("x-amz-trailer", name)));
    let lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let canonical = format!("PUT\n/bucket/key\n\n{}\n{names}\n{value}", lines.concat());
    let hash = hex::encode(Sha256::digest(canonical));
    let secret = format!("AWS4{SECRET}");
    let key = MacKey::chained(secret.as_bytes(), &[b"20130524", b"us-east-1", b"s3", b"aws4_request"]);
    let signature = hex::encode(key.tag(&[format!("AWS4-HMAC-SHA256\n{DATE}\n{SCOPE}\n{hash}").as_bytes()]));
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{SCOPE}, SignedHeaders={names}, Signature={signature}");
    headers.push(("authorization", &authorization));
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let request = Request { method: "PUT", path: b"/bucket/key", query: b"", headers: &headers };
    by(SECRET, &request, Service::S3).expect("the upload is signed")
}
