//! The keyring: all KMS keys, sealed under one root key that each unlock slot wraps. docs/FORMAT.md has the bytes.

mod access_keys;
mod backup;
mod contents;
mod elsewhere;
mod files;
mod lasting;
mod material;
mod private;
mod rotating;
mod seen;
mod shred;
mod slot;
mod slots;
mod unlocking;

pub(crate) use access_keys::{AccessKey, random_id as random_access_key_id, secret_of as access_key_secret};
pub use backup::{BACKUP_VERSION, Backup, Restored};
pub(crate) use contents::{Alias, Contents, Key};
pub(super) use contents::{GRANTS, PENDING_MATERIAL, POLICY, Pending};
pub use contents::{KeyringParameters, VERSION as KEYRING_VERSION};
pub use files::Keyring;
pub(crate) use files::{Stamp, now};
pub(crate) use lasting::Lasting;
pub(crate) use material::{Material, material_name};
pub(crate) use shred::Wrapping;
pub use slot::{SlotInfo, Unlock};
#[cfg(feature = "testing")]
pub(super) use slots::Slots;
pub use unlocking::RootKey;

/// Why a keyring cannot be opened or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No slot opens with this key file, passphrase or recovery key.
    #[error("this key file or passphrase does not open the keyring")]
    WrongKey,
    /// It is not what was last seen of it: what is known and what to do.
    #[error("{0}")]
    RolledBack(String),
    /// What is wrong and what to do.
    #[error("{0}")]
    Other(String),
}

impl OpenError {
    fn io(what: &str, error: &std::io::Error) -> Self {
        Self::Other(format!("{what}: {error}"))
    }

    /// The directory holds no keyring, or is not there.
    fn missing() -> Self {
        let text = "there is none: it has no slots.json; one that is elsewhere is named with --keyring, one that is lost \
                    comes back from a backup";
        Self::Other(text.into())
    }
}

/// Small letters only, as they are written, so that no flipped bit goes unseen.
fn unhex(text: &str) -> Option<Vec<u8>> {
    hex::decode(text).ok().filter(|bytes| hex::encode(bytes) == text)
}
