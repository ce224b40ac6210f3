//! Bodies whose chunks are signed one by one: all of it is right, or nothing of it is an object.

use super::Served;
use super::client::{Client, Reply, Signed};
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use sha2::{Digest, Sha256};
use std::fs;
use std::time::SystemTime;

const PAYLOAD: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
/// Bytes of a chunk, as SDKs have it.
const CHUNK: usize = 64 << 10;

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A body of signed chunks, and what of it a test may have otherwise.
struct Sent {
    signed: Signed,
    chunks: Vec<(Vec<u8>, String)>,
    /// Name, value and signature.
    trailer: Option<(String, String, String)>,
}

impl Sent {
    /// `trailer`: the value of `x-amz-checksum-crc32` behind the body.
    fn new(client: &Client, target: &str, content: &[u8], trailer: Option<&str>) -> Self {
        let length = content.len().to_string();
        let mut headers = vec![("content-encoding", "aws-chunked"), ("x-amz-decoded-content-length", length.as_str())];
        headers.extend(trailer.map(|_| ("x-amz-trailer", "x-amz-checksum-crc32")));
        let text = if trailer.is_some() { TRAILER } else { PAYLOAD };
        let signed = client.sign_text("PUT", target, &headers, text, b"");
        let date = signed.header("x-amz-date").to_owned();
        let (_, seed) = signed.header("authorization").rsplit_once("Signature=").unwrap();
        let scope = format!("{}/us-east-1/s3/aws4_request", &date[..8]);
        let key = generate_signing_key(&client.key.secret, SystemTime::now(), "us-east-1", "s3");
        let sign = |kind: &str, last: &str, hashes: &str| {
            calculate_signature(&key, format!("{kind}\n{date}\n{scope}\n{last}\n{hashes}").as_bytes())
        };
        let mut last = seed.to_owned();
        let mut chunks = Vec::new();
        for chunk in content.chunks(CHUNK).chain([&[][..]]) {
            last = sign("AWS4-HMAC-SHA256-PAYLOAD", &last, &format!("{}\n{}", sha256(b""), sha256(chunk)));
            chunks.push((chunk.to_vec(), last.clone()));
        }
        let trailer = trailer.map(|value| {
            let name = "x-amz-checksum-crc32";
            let signature = sign("AWS4-HMAC-SHA256-TRAILER", &last, &sha256(format!("{name}:{value}\n").as_bytes()));
            (name.to_owned(), value.to_owned(), signature)
        });
        Self { signed, chunks, trailer }
    }

    fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (chunk, signature) in &self.chunks {
            body.extend(format!("{:x};chunk-signature={signature}\r\n", chunk.len()).into_bytes());
            body.extend_from_slice(chunk);
            // Behind the last one are trailers, or nothing.
            if !chunk.is_empty() {
                body.extend_from_slice(b"\r\n");
            }
        }
        if let Some((name, value, signature)) = &self.trailer {
            body.extend(format!("{name}:{value}\r\nx-amz-trailer-signature:{signature}\r\n").into_bytes());
        }
        body.extend_from_slice(b"\r\n");
        body
    }

    fn send(&self, client: &Client) -> Reply {
        self.send_body(client, self.body())
    }

    fn send_body(&self, client: &Client, body: Vec<u8>) -> Reply {
        Signed { body, ..self.signed.clone() }.send(&client.address)
    }
}

fn other_digit(signature: &mut String) {
    let other = if signature.starts_with('0') { "1" } else { "0" };
    signature.replace_range(..1, other);
}

#[test]
fn signed_chunks_are_an_object_if_all_of_them_are_right() {
    let served = Served::new();
    let root = served.client("root");
    root.put("/bucket", b"").expect(200);
    let content: Vec<u8> = (0..150_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let short = &content[..20_000];
    let crc = |bytes: &[u8]| {
        // Of what aws-chunked bodies have to agree with: computed bit by bit.
        let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
        });
        base64((!crc).to_be_bytes())
    };
    let path = |name: &str| served.mount.path(&format!("bucket/{name}"));
    let names = || {
        let mut names = crate::harness::names_in(&served.mount.path("bucket"));
        names.sort();
        names
    };
    for (name, content) in [("long", content.as_slice()), ("short", short), ("empty", b"")] {
        Sent::new(&root, &format!("/bucket/{name}"), content, None).send(&root).expect(200);
        assert_eq!(fs::read(path(name)).unwrap(), content, "{name}");
        let trailer = crc(content);
        Sent::new(&root, &format!("/bucket/{name}-t"), content, Some(&trailer)).send(&root).expect(200);
        assert_eq!(fs::read(path(&format!("{name}-t"))).unwrap(), content, "{name}");
        let head = root.sign("HEAD", &format!("/bucket/{name}-t"), &[("x-amz-checksum-mode", "ENABLED")], b"");
        assert_eq!(head.send(&root.address).expect(200).header("x-amz-checksum-crc32"), trailer);
    }
    let there = names();
    assert_eq!(there, ["empty", "empty-t", "long", "long-t", "short", "short-t"]);
    for content in [content.as_slice(), short] {
        let new = |trailer: Option<&str>| Sent::new(&root, "/bucket/new", content, trailer);
        // Another signature of each chunk in turn, the last one's too.
        for at in 0..new(None).chunks.len() {
            let mut wrong = new(None);
            other_digit(&mut wrong.chunks[at].1);
            wrong.send(&root).expect_error(403, "SignatureDoesNotMatch");
        }
        let mut changed = new(None);
        changed.chunks[0].0[7] ^= 1;
        changed.send(&root).expect_error(403, "SignatureDoesNotMatch");
        // The last chunk left away, and the body cut off in the middle of one.
        let mut unfinished = new(None);
        unfinished.chunks.pop();
        assert!((400..500).contains(&unfinished.send(&root).status));
        let body = new(None).body();
        let cut = new(None).send_body(&root, body[..body.len() / 2].to_vec());
        assert!((400..500).contains(&cut.status), "{cut:?}");
        // Fewer bytes than were announced, in chunks that are right.
        let mut fewer = Sent::new(&root, "/bucket/new", &content[..100], None);
        fewer.signed = new(None).signed;
        assert!((400..500).contains(&fewer.send(&root).status));
        // A checksum of other bytes, well signed; the right one with another signature, or none; and none at all.
        new(Some("AAAAAA==")).send(&root).expect_error(400, "BadDigest");
        let right = crc(content);
        let mut forged = new(Some("AAAAAA=="));
        forged.trailer.as_mut().unwrap().1 = right.clone();
        forged.send(&root).expect_error(403, "SignatureDoesNotMatch");
        let mut unsigned = new(Some(&right));
        unsigned.trailer.as_mut().unwrap().2.clear();
        assert!((400..500).contains(&unsigned.send(&root).status));
        let mut without = new(Some(&right));
        without.trailer = None;
        assert!((400..500).contains(&without.send(&root).status));
        let mut other_name = new(Some(&right));
        other_name.trailer.as_mut().unwrap().0 = "x-amz-checksum-sha1".into();
        assert!((400..500).contains(&other_name.send(&root).status));
        assert_eq!(names(), there, "nothing of them is left");
    }
    // The chunks of one request are none of another.
    let (one, mut other) =
        (Sent::new(&root, "/bucket/long", short, None), Sent::new(&root, "/bucket/new", short, None));
    other.chunks = one.chunks;
    other.send(&root).expect_error(403, "SignatureDoesNotMatch");
    assert_eq!(names(), there);
    served.server.end();
}

fn base64(four: [u8; 4]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let number = four.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)) << 16;
    let digits: String = (0..6).map(|at| char::from(DIGITS[(number >> (42 - 6 * at) & 63) as usize])).collect();
    digits + "=="
}
