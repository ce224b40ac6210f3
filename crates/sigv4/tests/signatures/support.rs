//! Requests that tests take apart and put together, and an own signer of chunks.

use hmac::{Hmac, KeyInit, Mac};
use kmsfs_sigv4::{
    Body, Complete, Endpoint, Error, Event, Request, SecretAccessKey, Service, SigningKey, Verified, verify,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

pub const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// Of all examples of S3's.
pub const DATE: &str = "20130524T000000Z";
pub const SCOPE: &str = "20130524/us-east-1/s3/aws4_request";
pub const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The moment of [`DATE`].
pub fn date() -> OffsetDateTime {
    time::macros::datetime!(2013-05-24 00:00:00 UTC)
}

/// A request that owns its parts.
#[derive(Clone, Debug)]
pub struct Sent {
    pub method: String,
    pub path: Vec<u8>,
    pub query: Vec<u8>,
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Sent {
    pub fn new(method: &str, path: &str, query: &str, headers: &[(&str, &str)]) -> Self {
        let headers =
            headers.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
        Self { method: method.to_owned(), path: path.into(), query: query.into(), headers }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name.as_bytes()));
        self
    }

    /// By the server of the examples, at that moment.
    pub fn verify_at(&self, service: Service<'_>, now: OffsetDateTime) -> Result<Verified, Error> {
        self.verify_by(&Endpoint { region: "us-east-1", service, now }, SECRET)
    }

    pub fn verify_by(&self, endpoint: &Endpoint<'_>, secret: &str) -> Result<Verified, Error> {
        let headers: Vec<(&[u8], &[u8])> = self.headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        let request = Request { method: &self.method, path: &self.path, query: &self.query, headers: &headers };
        verify(&request, endpoint, |credential| {
            let secret = SecretAccessKey::new(secret);
            let derive = || SigningKey::derive(&secret, &credential.date, &credential.region, &credential.service);
            [ACCESS_KEY, "AKIDEXAMPLE"].contains(&credential.access_key_id.as_str()).then(derive)
        })
    }

    /// At S3, in the second that the examples were signed in.
    pub fn verify(&self) -> Result<Verified, Error> {
        self.verify_at(Service::S3, date())
    }
}

/// `Authorization` of the examples' access key.
pub fn authorization(signed_headers: &str, signature: &str) -> String {
    format!("AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{SCOPE},SignedHeaders={signed_headers},Signature={signature}")
}

pub fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(text).finalize().into_bytes().to_vec()
}

pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A signer of its own, of the examples' access key, day and scope.
pub fn sign(string_to_sign: &str) -> String {
    let parts = ["20130524", "us-east-1", "s3", "aws4_request"];
    let key = parts.iter().fold(format!("AWS4{SECRET}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
    hex::encode(hmac(&key, string_to_sign.as_bytes()))
}

/// A request with a body in chunks, and the seed signature in its header.
pub fn upload(sha256_of: &str, length: u64, trailer: Option<&str>) -> (Sent, String) {
    let mut headers = vec![
        ("host".to_owned(), "s3.amazonaws.com".to_owned()),
        ("x-amz-content-sha256".to_owned(), sha256_of.to_owned()),
        ("x-amz-date".to_owned(), DATE.to_owned()),
        ("x-amz-decoded-content-length".to_owned(), length.to_string()),
    ];
    headers.extend(trailer.map(|name| ("x-amz-trailer".to_owned(), name.to_owned())));
    let lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let canonical = format!("PUT\n/bucket/key\n\n{}\n{}\n{sha256_of}", lines.concat(), names.join(";"));
    let seed = sign(&format!("AWS4-HMAC-SHA256\n{DATE}\n{SCOPE}\n{}", sha256(canonical.as_bytes())));
    let pairs: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let sent = Sent::new("PUT", "/bucket/key", "", &pairs);
    (sent.with("Authorization", &authorization(&names.join(";"), &seed)), seed)
}

/// Signs chunk after chunk.
pub struct ChunkSigner {
    pub previous: String,
}

impl ChunkSigner {
    pub fn chunk(&mut self, bytes: &[u8]) -> String {
        let Self { previous } = self;
        let text = format!("AWS4-HMAC-SHA256-PAYLOAD\n{DATE}\n{SCOPE}\n{previous}\n{EMPTY}\n{}", sha256(bytes));
        self.previous = sign(&text);
        self.previous.clone()
    }

    pub fn trailer(&mut self, line: &str) -> String {
        let Self { previous } = self;
        let text = format!("AWS4-HMAC-SHA256-TRAILER\n{DATE}\n{SCOPE}\n{previous}\n{}", sha256(line.as_bytes()));
        self.previous = sign(&text);
        self.previous.clone()
    }
}

/// The chunks as a client sends them, with the empty one at the end and nothing behind that.
pub fn signed_chunks(seed: &str, chunks: &[&[u8]]) -> (Vec<u8>, ChunkSigner) {
    let mut signer = ChunkSigner { previous: seed.to_owned() };
    let mut sent = Vec::new();
    for bytes in chunks.iter().copied().chain([&[][..]]) {
        sent.extend(format!("{:x};chunk-signature={}\r\n", bytes.len(), signer.chunk(bytes)).into_bytes());
        sent.extend_from_slice(bytes);
        if !bytes.is_empty() {
            sent.extend_from_slice(b"\r\n");
        }
    }
    (sent, signer)
}

/// What came out of a body that was put in piece by piece: all bytes, those that were called verified, and how it
/// ended.
pub type Outcome = (Vec<u8>, usize, Result<Complete, Error>);

pub fn receive<'a>(mut body: Body, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let (mut bytes, mut verified) = (Vec::new(), 0);
    for mut piece in pieces {
        loop {
            match body.decode(&mut piece) {
                Ok(Some(Event::Unverified(more))) => {
                    assert!(!more.is_empty());
                    bytes.extend_from_slice(more);
                }
                Ok(Some(Event::Verified)) => verified = bytes.len(),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(body.decode(&mut &b"more"[..]), Err(error.clone()), "a refusal is final");
                    assert_eq!(body.finish(), Err(error.clone()), "a refusal is final");
                    return (bytes, verified, Err(error));
                }
            }
        }
        assert!(piece.is_empty(), "what was given is taken");
    }
    (bytes, verified, body.finish())
}
