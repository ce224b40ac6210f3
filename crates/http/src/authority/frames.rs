//! Questions and answers. Each is a value of fixed shape, so that the authority parses nothing else.

use kmsfs_crypto::SecretKey;
use kmsfs_sigv4::{Credential, Finding, Question, SigningKey};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// What the front asks.
#[derive(Serialize, Deserialize)]
pub enum Ask {
    /// Whether a request is signed as it says. `connect`: with a new connection to the worker of the user who signed
    /// it, where the signature is right.
    Verify {
        /// What was signed.
        signed: Signed,
        /// Whether a connection is wanted.
        connect: bool,
        /// Where the request came from; `None` if not over a network.
        source: Option<IpAddr>,
    },
    /// A call of KMS, which is made if it is signed as it says.
    Kms {
        /// What was signed.
        signed: Signed,
        /// What is called for.
        request: Box<kmsfs_kms::api::Request>,
        /// Where it came from.
        source: Option<IpAddr>,
        /// What the client calls itself.
        user_agent: Option<String>,
    },
    /// Who has signed: `GetCallerIdentity`.
    Sts {
        /// What was signed.
        signed: Signed,
        /// Where it came from.
        source: Option<IpAddr>,
    },
}

/// [`Question`] on its way.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // As there.
pub struct Signed {
    pub access_key_id: String,
    pub date: String,
    pub region: String,
    pub service: String,
    pub string_to_sign: String,
    pub signature: String,
    pub canonical_request: Option<Vec<u8>>,
}

/// What the authority answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Told {
    /// Of [`Ask::Verify`]; of the others where the signature is not right.
    Verified(Found),
    /// Of [`Ask::Kms`]: the call was made, or refused.
    Called {
        /// Who has signed.
        user: User,
        /// What the client is told.
        reply: kmsfs_kms_json::Reply,
    },
    /// Of [`Ask::Sts`].
    Caller {
        /// Who has signed.
        user: User,
        /// The same, as AWS names it.
        identity: kmsfs_kms_json::sts::CallerIdentity,
    },
    /// The user is known, and is not served here; why.
    NotServed(String),
    /// The keyring, the user database or the spawner of workers cannot be asked: to be tried again.
    Outage(String),
}

/// What was found out about a signature.
#[derive(Debug, Serialize, Deserialize)]
pub enum Found {
    /// There is no such access key, or it is inactive.
    NoSuchKey,
    /// The signature is another one.
    Wrong,
    /// It is right.
    Right {
        /// Whose it is.
        user: User,
        /// The signing key, where chunks are signed.
        key: Option<Key>,
    },
}

/// A user of this machine, whose access key it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// By number.
    pub uid: u32,
    /// By name.
    pub name: String,
}

/// A signing key on its way.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl From<SigningKey> for Key {
    fn from(key: SigningKey) -> Self {
        let bytes = key.into_secret().into_plaintext();
        Self(bytes[..].try_into().expect("a key has 32 bytes"))
    }
}

impl From<&Key> for SigningKey {
    fn from(key: &Key) -> Self {
        Self::from_secret(SecretKey::from_plaintext(&key.0).expect("32 bytes are a key"))
    }
}

impl From<&Question> for Signed {
    fn from(question: &Question) -> Self {
        let Credential { access_key_id, date, region, service } = question.credential.clone();
        let Question { string_to_sign, signature, canonical_request, .. } = question.clone();
        Self { access_key_id, date, region, service, string_to_sign, signature, canonical_request }
    }
}

impl From<Signed> for Question {
    fn from(signed: Signed) -> Self {
        let Signed { access_key_id, date, region, service, string_to_sign, signature, canonical_request } = signed;
        let credential = Credential { access_key_id, date, region, service };
        Self { credential, string_to_sign, signature, canonical_request }
    }
}

impl From<&Found> for Finding {
    fn from(found: &Found) -> Self {
        match found {
            Found::NoSuchKey => Self::NoSuchKey,
            Found::Wrong => Self::Wrong,
            Found::Right { key, .. } => Self::Right(key.as_ref().map(SigningKey::from)),
        }
    }
}
