//! The local KMS: what AWS KMS does, over a keyring in a directory. Names, states, errors and limits are AWS's.
#![forbid(unsafe_code)]

mod access_keys;
mod admin;
mod audited;
mod authorization;
mod blob;
#[cfg(feature = "testing")]
pub mod fuzzing;
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
mod tests_of_access_keys;
#[cfg(test)]
mod tests_of_users;
mod users;

pub use access_keys::Signer;
pub use admin::{Administrator, DataKeySpec, ImportRequest};
pub use authorization::Ask;
pub use keyring::{Backup, Keyring, KeyringParameters, OpenError, Restored, RootKey, SlotInfo, Unlock};
pub use local::{Clock, LocalKms, Machine, Moment, boot_id};
pub use users::{SystemUsers, User, UserDatabase};

use kmsfs_kms::{Code, Error};

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        Self::new(Code::KmsInternal, format!("the keyring: {error}"))
    }
}
