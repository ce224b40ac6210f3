//! The local KMS: what AWS KMS does, over a keyring in a directory. Names, states, errors and limits are AWS's.
#![forbid(unsafe_code)]

mod admin;
pub mod api;
mod audit;
mod authorization;
mod blob;
mod grant_calls;
mod grants;
mod key_policies;
mod keyring;
mod local;
mod lookup;
mod policy;
mod principal;
mod processes;
mod service;
#[cfg(test)]
mod tests_of_access;
#[cfg(test)]
mod tests_of_users;
mod users;

pub use admin::{
    Administrator, AliasEntry, Ciphertext, DataKeySpec, Deletion, Expiration, ImportParameters, ImportRequest,
    Imported, KeyMetadata, NewKey, Page, PageRequest, Plaintext, Rotation, RotationKind, RotationStatus, Tag,
    WrappingKeySpec,
};
pub use audit::{
    AuditLog, Audited, ConnectSyslog, Destination, Finding, Verification, WhenFull, Writer, connect_syslog, verify_log,
};
pub use authorization::Ask;
pub use grant_calls::{GrantEntry, GrantRequest, Retired};
pub use grants::{Constraints, Grant};
pub use keyring::{
    Backup, KeyManager, KeyOrigin, KeyState, Keyring, KeyringParameters, OpenError, Restored, RootKey, SlotInfo, Unlock,
};
pub use local::{Clock, KmsCalls, LocalKms, Machine, Moment, boot_id};
pub use processes::{read_process, read_processes_through};
pub use users::{SystemUsers, User, UserDatabase};

use kmsfs_crypto::SecretKey;
use std::collections::BTreeMap;

/// String pairs bound to a ciphertext blob as additional data; the KMS meaning only.
pub type EncryptionContext = BTreeMap<String, String>;

/// The Linux process on whose behalf a key is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    pub pid: u32,
}

/// A data key as `GenerateDataKey` answers it.
pub struct GeneratedDataKey {
    /// ARN of the KMS key that was used, never an alias.
    pub key_arn: String,
    pub plaintext: SecretKey,
    pub ciphertext_blob: Vec<u8>,
}

/// What kmsfs needs of a KMS. Calls can fail, be denied and take milliseconds; a remote KMS is a second implementation.
pub trait Kms: Send + Sync {
    /// `key_id`: key id, key ARN, alias name or alias ARN. `alias/aws/s3` is made at its first use.
    fn generate_data_key(
        &self,
        key_id: &str,
        context: &EncryptionContext,
        caller: &Caller,
    ) -> Result<GeneratedDataKey, Error>;

    /// Wraps a data key that exists already (UpdateObjectEncryption). Answers the key's ARN and the blob.
    fn encrypt(
        &self,
        key_id: &str,
        plaintext: &SecretKey,
        context: &EncryptionContext,
        caller: &Caller,
    ) -> Result<(String, Vec<u8>), Error>;

    /// `key_arn` is the key that the blob must name (`IncorrectKeyException` otherwise).
    fn decrypt(
        &self,
        key_arn: &str,
        ciphertext_blob: &[u8],
        context: &EncryptionContext,
        caller: &Caller,
    ) -> Result<SecretKey, Error>;

    /// Whether a `Decrypt` (or `GenerateDataKey`) by this caller would be answered now: state and policy of the key,
    /// without using it. For data keys that a cached bucket key protects; `context` is the bucket key's.
    fn authorize(
        &self,
        key_arn: &str,
        operation: Operation,
        context: &EncryptionContext,
        caller: &Caller,
    ) -> Result<(), Error>;

    /// Whether callers who ask for the use of that key may be answered differently, so that what one has read under it is
    /// nothing to share with others. The default is for a KMS that does not know.
    fn distinguishes(&self, _key_arn: &str, _context: &EncryptionContext) -> bool {
        true
    }

    /// Does what time has brought (deletions, rotations): a mount calls it every few seconds. The default is for a KMS that
    /// does so by itself.
    fn tick(&self) {}

    /// Looks whether somebody changed keys or who may use them, and answers a number that grows whenever that was so.
    /// Cheap: a mount asks several times a second. The default is for a KMS whose keys never change.
    fn version(&self) -> u64 {
        0
    }

    /// Calls that were answered so far.
    fn calls(&self) -> KmsCalls {
        KmsCalls::default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    Decrypt,
    GenerateDataKey,
}

/// An AWS KMS error: `code` without the suffix `Exception` where AWS has it, message as AWS words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub struct Error {
    pub code: Code,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Disabled,
    KmsInvalidState,
    NotFound,
    /// A name that no key here can have: AWS has the code of a key that is not there for it.
    InvalidKeyId,
    InvalidArn,
    IncorrectKey,
    InvalidCiphertext,
    AccessDenied,
    AlreadyExists,
    InvalidAliasName,
    LimitExceeded,
    Validation,
    UnsupportedOperation,
    Tag,
    InvalidMarker,
    InvalidImportToken,
    ExpiredImportToken,
    IncorrectKeyMaterial,
    InvalidKeyUsage,
    KeyUnavailable,
    MalformedPolicyDocument,
    InvalidGrantId,
    InvalidGrantToken,
    KmsInternal,
}

impl Code {
    /// AWS's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disabled => "DisabledException",
            Self::KmsInvalidState => "KMSInvalidStateException",
            Self::NotFound | Self::InvalidKeyId => "NotFoundException",
            Self::InvalidArn => "InvalidArnException",
            Self::IncorrectKey => "IncorrectKeyException",
            Self::InvalidCiphertext => "InvalidCiphertextException",
            Self::AccessDenied => "AccessDeniedException",
            Self::AlreadyExists => "AlreadyExistsException",
            Self::InvalidAliasName => "InvalidAliasNameException",
            Self::LimitExceeded => "LimitExceededException",
            Self::Validation => "ValidationException",
            Self::UnsupportedOperation => "UnsupportedOperationException",
            Self::MalformedPolicyDocument => "MalformedPolicyDocumentException",
            Self::InvalidGrantId => "InvalidGrantIdException",
            Self::InvalidGrantToken => "InvalidGrantTokenException",
            Self::Tag => "TagException",
            Self::InvalidMarker => "InvalidMarkerException",
            Self::InvalidImportToken => "InvalidImportTokenException",
            Self::ExpiredImportToken => "ExpiredImportTokenException",
            Self::IncorrectKeyMaterial => "IncorrectKeyMaterialException",
            Self::InvalidKeyUsage => "InvalidKeyUsageException",
            Self::KeyUnavailable => "KeyUnavailableException",
            Self::KmsInternal => "KMSInternalException",
        }
    }
}

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// AWS says no more about a blob that does not open, or not with this context.
    fn invalid_ciphertext() -> Self {
        Self::new(Code::InvalidCiphertext, "")
    }

    /// Whether KMS could not answer, rather than refuse: who was allowed before is not denied by that.
    pub fn is_outage(&self) -> bool {
        matches!(self.code, Code::KmsInternal | Code::LimitExceeded)
    }

    fn incorrect_key() -> Self {
        let text = "The key ID in the request does not identify a CMK that can perform this operation.";
        Self::new(Code::IncorrectKey, text)
    }
}

/// For fuzzing: reads a keyring's contents, and writes what was read again.
#[doc(hidden)]
pub fn decode_keyring(bytes: &[u8]) {
    if let Ok(contents) = keyring::Contents::decode(bytes) {
        assert_eq!(contents.encode().as_deref(), Ok(bytes));
    }
}

/// For fuzzing, as `decode_keyring`.
#[doc(hidden)]
pub fn decode_slots(bytes: &[u8]) {
    if let Ok(slots) = keyring::Slots::decode(bytes) {
        assert_eq!(slots.encode(), bytes);
    }
}

/// For fuzzing, as `decode_keyring`.
#[doc(hidden)]
pub fn decode_backup(bytes: &[u8]) {
    if let Ok(backup) = keyring::Backup::decode(bytes) {
        assert_eq!(backup.encode(), bytes);
    }
}

/// For fuzzing: whether a ciphertext blob opens under this material.
#[doc(hidden)]
pub fn open_blob(bytes: &[u8], material: &SecretKey, context: &EncryptionContext) -> bool {
    blob::names(bytes).is_some() && blob::unwrap(bytes, material, context).is_some()
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        Self::new(Code::KmsInternal, format!("the keyring: {error}"))
    }
}

/// The key of the service itself: wraps the data keys of SSE-S3 objects and of bucket records; no KMS call shows it.
pub trait ServiceKey: Send + Sync {
    /// Why what it is kept in should not be used, where it was opened to be looked at.
    fn rolled_back(&self) -> Option<String> {
        None
    }

    fn generate_data_key(&self, context: &EncryptionContext) -> Result<(SecretKey, Vec<u8>), Error>;
    fn encrypt(&self, plaintext: &SecretKey, context: &EncryptionContext) -> Result<Vec<u8>, Error>;
    fn decrypt(&self, ciphertext_blob: &[u8], context: &EncryptionContext) -> Result<SecretKey, Error>;
    /// The store's format version that was sealed here, 0 if none was. It is kept where the service's key is, out of reach of
    /// whoever writes the store.
    fn store_format(&self) -> Result<u16, Error>;
    /// Durable once it returns; never lowers it.
    fn raise_store_format(&self, version: u16) -> Result<(), Error>;
}
