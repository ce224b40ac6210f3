//! The local KMS: what AWS KMS does, over a keyring in a directory. Names, states, errors and limits are AWS's.
//!
//! [`LocalKms`] is what others see. It implements the traits of `kmsfs-kms`: data keys for mounts, calls as values
//! ([`Administrator`] has a method for each), access keys, the service's own key, and whoever decides by this keyring's
//! policies about keys of other KMSs. [`Keyring`] is what lies in the directory, and how it is unlocked ([`Unlock`]),
//! backed up and rotated.
//!
//! ```
//! use kmsfs_crypto::SecretKey;
//! use kmsfs_kms::{Caller, EncryptionContext, Kms, Principal};
//! use kmsfs_kms_local::{KeyringParameters, LocalKms, Unlock};
//!
//! let dir = tempfile::tempdir()?;
//! let (account_id, region) = ("111122223333".into(), "eu-central-1".into());
//! let parameters = KeyringParameters { store_id: [7; 16], account_id, region };
//! let kms = LocalKms::create(&dir.path().join("keyring"), &parameters, &Unlock::KeyFile(SecretKey::random()))?;
//!
//! let root = Principal::Process(Caller { uid: 0, gid: 0, pid: 1 });
//! let context = EncryptionContext::from([("aws:s3:arn".into(), "arn:aws:s3:::bucket/object".into())]);
//! let made = Kms::generate_data_key(&*kms, "alias/aws/s3", &context, &root)?;
//! let opened = Kms::decrypt(&*kms, &made.key_arn, &made.ciphertext_blob, &context, &root)?;
//! assert_eq!(opened.into_plaintext(), made.plaintext.into_plaintext());
//! // The blob is another object's with another context, and does not open.
//! assert!(Kms::decrypt(&*kms, &made.key_arn, &made.ciphertext_blob, &EncryptionContext::new(), &root).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

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
mod key_stores;
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
mod tests_of_keys_elsewhere;
#[cfg(test)]
mod tests_of_users;
mod users;

pub use access_keys::Signer;
pub use admin::{Administrator, DataKeySpec, ImportRequest};
pub use authorization::Ask;
pub use key_stores::BUILT_IN;
pub use keyring::{
    BACKUP_VERSION, Backup, KEYRING_VERSION, Keyring, KeyringParameters, OpenError, Restored, RootKey, SlotInfo, Unlock,
};
pub use local::{Clock, LocalKms, Machine, Moment, boot_id};
pub use users::{SystemUsers, User, UserDatabase};

use kmsfs_kms::{Code, Error};

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        Self::new(Code::KmsInternal, format!("the keyring: {error}"))
    }
}
