//! A KMS as AWS has it: what kmsfs asks of one, the calls as values, key policies, and who asks.
//!
//! Nothing here keeps a key. A KMS implements [`Kms`], which mounts ask for data keys, and [`api::Service`], which
//! takes the calls of AWS KMS as values; [`iam::Service`] is for access keys. Decorators go around any of them:
//!
//! - [`audit::Audited`] records each use in CloudTrail's form.
//! - [`Router`] passes each call on to the KMS that keeps the key.
//! - [`Authorized`] asks a key policy ([`policy`]) here before it asks a KMS that does not know the users here.
//! - [`Timely`] gives a call up at its [`deadline`].
//!
//! Whoever must not wait says so with [`waits`].
//!
//! ```
//! use kmsfs_kms::api::Request;
//! use kmsfs_kms::{Code, Error, Kind};
//!
//! let request = Request::DescribeKey { key_id: "alias/invoices".into() };
//! assert_eq!((request.name(), request.key_id()), ("DescribeKey", Some("alias/invoices")));
//! assert_eq!(request.parameters().to_string(), r#"{"keyId":"alias/invoices"}"#);
//!
//! // What an error says of those who may use a key: a KMS that is away takes nothing from anybody.
//! assert_eq!(Error::new(Code::KeyUnavailable, "it is away").kind(), Kind::Outage);
//! assert_eq!(Error::new(Code::AccessDenied, "no").kind(), Kind::Refusal);
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod api;
pub mod audit;
mod authorized;
mod caller;
pub mod deadline;
pub mod elsewhere;
mod error;
pub mod iam;
pub mod policy;
mod principal;
mod processes;
mod router;
mod timely;
pub mod waits;

pub use authorized::{Authorized, Authorizer, KeyUse};
pub use caller::Caller;
pub use error::{Code, Error, Kind};
pub use principal::{AccessKeyId, Principal, SignedRequest};
pub use processes::{process_started, read_process, read_processes_through};
pub use router::{Home, Provider, Router, check_route};
pub use timely::Timely;
pub use waits::{Waits, WouldWait};

use kmsfs_crypto::SecretKey;
use std::collections::BTreeMap;

/// String pairs bound to a ciphertext blob as additional data; the KMS meaning only.
pub type EncryptionContext = BTreeMap<String, String>;

/// A data key as `GenerateDataKey` answers it.
pub struct GeneratedDataKey {
    /// ARN of the KMS key that was used, never an alias.
    pub key_arn: String,
    /// The key itself.
    pub plaintext: SecretKey,
    /// What `Decrypt` makes the key of again.
    pub ciphertext_blob: Vec<u8>,
}

/// What kmsfs needs of a KMS. Calls can fail, be denied and take milliseconds; a remote KMS is a second implementation.
pub trait Kms: Send + Sync {
    /// `key_id`: key id, key ARN, alias name or alias ARN. `alias/aws/s3` is made at its first use.
    fn generate_data_key(
        &self,
        key_id: &str,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<GeneratedDataKey, Error>;

    /// Wraps a data key that exists already (UpdateObjectEncryption). Answers the key's ARN and the blob.
    fn encrypt(
        &self,
        key_id: &str,
        plaintext: &SecretKey,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<(String, Vec<u8>), Error>;

    /// `key_arn` is the key that the blob must name (`IncorrectKeyException` otherwise).
    fn decrypt(
        &self,
        key_arn: &str,
        ciphertext_blob: &[u8],
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<SecretKey, Error>;

    /// The ARN of the key that is named, as for the calls above, whatever its state. The caller must be allowed to
    /// describe the key (`kms:DescribeKey`).
    fn describe_key(&self, key_id: &str, caller: &Principal) -> Result<String, Error>;

    /// Whether this operation by this caller would succeed now: state and policy of the key, without using it. For data
    /// keys that a cached bucket key protects (`context` is the bucket key's), and before many keys are wrapped.
    fn authorize(
        &self,
        key_id: &str,
        operation: Operation,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<(), Error>;

    /// As much of [`Kms::authorize`] as is known without waiting for a KMS that is elsewhere: an error is as that would
    /// be, and its absence says nothing. Nothing is recorded of it. The default is for a KMS that knows nothing of its
    /// keys' users without being asked.
    fn authorize_here(
        &self,
        _key_id: &str,
        _operation: Operation,
        _context: &EncryptionContext,
        _caller: &Principal,
    ) -> Result<(), Error> {
        Ok(())
    }

    /// Whether callers who ask for the use of that key may be answered differently, so that what one has read under it
    /// is nothing to share with others. The default is for a KMS that does not know.
    fn distinguishes(&self, _key_arn: &str, _context: &EncryptionContext) -> bool {
        true
    }

    /// Whether a call may take longer than a computation and a write to memory do: because the KMS is elsewhere, or has
    /// to tell somebody of each call. Whoever must not be kept waiting ([`waits`]) then leaves its calls to another
    /// thread. The default is for a KMS of this process.
    fn may_wait(&self) -> bool {
        false
    }

    /// As [`Kms::may_wait`], of calls about that key. The default is for a KMS that keeps all of them in one place.
    fn may_wait_for(&self, _key_id: &str) -> bool {
        self.may_wait()
    }

    /// Does what time has brought (deletions, rotations): a mount calls it every few seconds. The default is for a KMS
    /// that does so by itself.
    fn tick(&self) {}

    /// Looks whether somebody changed keys or who may use them, and answers a number that grows whenever that was so.
    /// Cheap: a mount asks several times a second. The default is for a KMS whose keys never change.
    fn version(&self) -> u64 {
        0
    }

    /// How the KMSs that are elsewhere are, of those that this one asks.
    fn providers(&self) -> Vec<elsewhere::ProviderStatus> {
        Vec::new()
    }

    /// Outages of theirs that have begun or ended since this was asked before.
    fn take_outages(&self) -> Vec<elsewhere::Outage> {
        Vec::new()
    }

    /// Calls that were answered so far.
    fn calls(&self) -> KmsCalls {
        KmsCalls::default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
/// What a key is used for by a mount.
pub enum Operation {
    /// A data key is unwrapped.
    Decrypt,
    /// A data key that exists is wrapped.
    Encrypt,
    /// A data key is made.
    GenerateDataKey,
}

impl Operation {
    /// AWS's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decrypt => "Decrypt",
            Self::Encrypt => "Encrypt",
            Self::GenerateDataKey => "GenerateDataKey",
        }
    }
}

/// How often the KMS was asked, the service's own key aside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KmsCalls {
    /// Calls of GenerateDataKey.
    pub generate_data_key: u64,
    /// Calls of Decrypt.
    pub decrypt: u64,
    /// Calls of Encrypt.
    pub encrypt: u64,
}

impl std::ops::Add for KmsCalls {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            generate_data_key: self.generate_data_key + other.generate_data_key,
            decrypt: self.decrypt + other.decrypt,
            encrypt: self.encrypt + other.encrypt,
        }
    }
}

/// The key of the service itself: wraps the data keys of SSE-S3 objects and of bucket records; no KMS call shows it.
pub trait ServiceKey: Send + Sync {
    /// Why what it is kept in should not be used, where it was opened to be looked at.
    fn rolled_back(&self) -> Option<String> {
        None
    }

    /// A new data key, and what wraps it.
    fn generate_data_key(&self, context: &EncryptionContext) -> Result<(SecretKey, Vec<u8>), Error>;
    /// Wraps a data key that exists.
    fn encrypt(&self, plaintext: &SecretKey, context: &EncryptionContext) -> Result<Vec<u8>, Error>;
    /// The data key that was wrapped with that context (`InvalidCiphertext` with another one).
    fn decrypt(&self, ciphertext_blob: &[u8], context: &EncryptionContext) -> Result<SecretKey, Error>;
    /// The store's format version that was sealed here, 0 if none was. It is kept where the service's key is, out of
    /// reach of whoever writes the store.
    fn store_format(&self) -> Result<u16, Error>;
    /// Durable once it returns; never lowers it.
    fn raise_store_format(&self, version: u16) -> Result<(), Error>;
}
