//! The local KMS: what AWS KMS does, over a keyring in a directory. Names, states, errors and limits are AWS's.
#![forbid(unsafe_code)]

mod admin;
mod audit;
mod authorization;
mod blob;
mod grant_calls;
mod grants;
mod key_policies;
mod keyring;
mod local;
mod lookup;
mod principal;
mod service;
#[cfg(test)]
mod tests_of_access;
#[cfg(test)]
mod tests_of_users;
mod users;

pub use admin::{Administrator, DataKeySpec, ImportRequest};
pub use audit::{
    AuditLog, Audited, ConnectSyslog, Destination, Finding, Verification, WhenFull, Writer, connect_syslog, verify_log,
};
pub use authorization::Ask;
pub use keyring::{Backup, Keyring, KeyringParameters, OpenError, Restored, RootKey, SlotInfo, Unlock};
pub use local::{Clock, LocalKms, Machine, Moment, boot_id};
pub use users::{SystemUsers, User, UserDatabase};

use kmsfs_crypto::SecretKey;
use kmsfs_kms::{Code, EncryptionContext, Error};

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
