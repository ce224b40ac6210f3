//! What of a request only who has the signing keys can find out.

use crate::claim::ALGORITHM;
use crate::credential::Credential;
use crate::error::MAX_SKEW;
use crate::key::{Signature, SigningKey};
use crate::payload::Payload;
use crate::timestamp::Timestamp;
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

/// Whether a string was signed with somebody's key. Everything in it was written by whoever sent the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whose key, and for what.
    pub credential: Credential,
    /// What would have been signed: algorithm, time, scope and a hash.
    pub string_to_sign: String,
    /// The signature in the request.
    pub signature: String,
    /// The canonical request, where what follows is signed chunk by chunk, so that the key itself is needed to go on:
    /// its last line says so, and its hash is what was signed.
    pub canonical_request: Option<Vec<u8>>,
}

/// The answer.
#[derive(Debug)]
pub enum Finding {
    /// There is no such access key.
    NoSuchKey,
    /// The signature is another one.
    Wrong,
    /// The signature is right. With the key where the request that was signed says that its chunks are signed too, and
    /// nowhere else: what it signs is its user's.
    Right(Option<SigningKey>),
}

impl Question {
    /// Compares the signature, in constant time. `key`: that of the credential, if there is one.
    pub fn examine(&self, key: Option<SigningKey>) -> Finding {
        let Some(key) = key else { return Finding::NoSuchKey };
        let signature = Signature::parse(self.signature.as_bytes());
        if signature.is_some_and(|signature| key.signed(&self.string_to_sign, &signature)) {
            Finding::Right(self.signs_chunks().then_some(key))
        } else {
            Finding::Wrong
        }
    }

    fn signs_chunks(&self) -> bool {
        let Some(canonical) = &self.canonical_request else { return false };
        let hash = hex::encode(Sha256::digest(canonical));
        let last = canonical.rsplit(|byte| *byte == b'\n').next().and_then(|line| std::str::from_utf8(line).ok());
        self.string_to_sign.rsplit('\n').next() == Some(hash.as_str())
            && last.is_some_and(|line| Payload::parse(line).is_ok_and(Payload::has_signed_chunks))
    }

    /// Whether the string has the form of a request's, with this credential's scope, and its time is near enough to
    /// now: for whoever has the keys and takes nobody's word for it. A chunk's string has another form, and a presigned
    /// URL may be a week old.
    pub fn is_of_a_request(&self, now: OffsetDateTime) -> bool {
        const OLDEST: Duration = Duration::weeks(1);
        let mut lines = self.string_to_sign.splitn(3, '\n');
        let (Some(ALGORITHM), Some(time), Some(rest)) = (lines.next(), lines.next(), lines.next()) else {
            return false;
        };
        let Some(signed_at) = Timestamp::parse(time) else { return false };
        let Some((scope, hash)) = rest.split_once('\n') else { return false };
        let is_hash = hash.len() == 64 && hash.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let age = now - signed_at.time();
        is_hash
            && scope == self.credential.scope()
            && signed_at.date() == self.credential.date
            && age <= OLDEST + MAX_SKEW
            && age >= -MAX_SKEW
    }
}

/// What a request's signature is of.
pub(crate) fn string_to_sign(signed_at: Timestamp, credential: &Credential, hash: &str) -> String {
    format!("{ALGORITHM}\n{signed_at}\n{}\n{hash}", credential.scope())
}
