//! The chain of signatures of a body: each is of the one before it and of a chunk.

use crate::credential::Credential;
use crate::error::{Error, Mismatch};
use crate::key::{Signature, SigningKey};
use crate::timestamp::Timestamp;
use sha2::{Digest, Sha256};

/// The end of the chain so far. It begins with the signature of the request's line and headers, the seed.
#[derive(Debug)]
pub(crate) struct Chain {
    key: SigningKey,
    previous: String,
    signed_at: Timestamp,
    credential: Credential,
}

impl Chain {
    pub(crate) fn new(key: SigningKey, seed: Signature, signed_at: Timestamp, credential: Credential) -> Self {
        Self { key, previous: seed.to_string(), signed_at, credential }
    }

    /// A chunk whose bytes have that SHA-256 (Amazon S3 API Reference, "Transferring Payload in Multiple Chunks").
    pub(super) fn chunk(&mut self, sha256: [u8; 32], signature: &str) -> Result<(), Error> {
        let what = format!("{}\n{}", hex::encode(Sha256::digest(b"")), hex::encode(sha256));
        self.link("AWS4-HMAC-SHA256-PAYLOAD", &what, signature)
    }

    /// The trailer behind the last chunk (Amazon S3 API Reference, "Including Trailing Headers").
    pub(super) fn trailer(&mut self, name: &str, value: &str, signature: &str) -> Result<(), Error> {
        let what = hex::encode(Sha256::digest(format!("{name}:{value}\n")));
        self.link("AWS4-HMAC-SHA256-TRAILER", &what, signature)
    }

    fn link(&mut self, algorithm: &str, what: &str, signature: &str) -> Result<(), Error> {
        let scope = self.credential.scope();
        let string_to_sign = format!("{algorithm}\n{}\n{scope}\n{}\n{what}", self.signed_at, self.previous);
        let parsed = Signature::parse(signature.as_bytes());
        if parsed.is_some_and(|parsed| self.key.signed(&string_to_sign, &parsed)) {
            signature.clone_into(&mut self.previous);
            return Ok(());
        }
        Err(Error::SignatureDoesNotMatch(Box::new(Mismatch {
            access_key_id: self.credential.access_key_id.clone(),
            string_to_sign,
            signature_provided: signature.to_owned(),
            canonical_request: None,
        })))
    }
}
