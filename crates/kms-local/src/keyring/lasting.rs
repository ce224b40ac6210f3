//! Keys of the keyring's own: wrapped under the root key, and the same when that changes.

use super::OpenError;
use super::contents::{Contents, KEYRING};
use kmsfs_crypto::{ChainKey, SecretKey, envelope};

/// Keys of the keyring's own, which stay when the root key changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// Of the audit log's chain.
    AuditLog,
    /// Tells whether the same material is imported again.
    Fingerprint,
    /// Seals import tokens.
    ImportToken,
    /// Each slot has it too, so that nobody else can give it another root key.
    Slots,
}

impl Lasting {
    pub const ALL: [Self; 4] = [Self::AuditLog, Self::Fingerprint, Self::ImportToken, Self::Slots];

    pub fn name(self) -> &'static str {
        match self {
            Self::AuditLog => "audit-log-key",
            Self::Fingerprint => "fingerprint-key",
            Self::ImportToken => "import-token-key",
            Self::Slots => "slots-key",
        }
    }

    fn bound_to(self) -> Vec<u8> {
        [b"kmsfs ", self.name().as_bytes()].concat()
    }
}

impl Contents {
    /// Whether it is as the first keyrings are: material without secrets of its own, keys that are the root key's own.
    pub fn is_of_first_version(&self) -> bool {
        self.attribute(&KEYRING, Lasting::Slots.name()).is_none()
    }

    /// A key of the keyring's own. In the first keyrings it is the root key, or derived from it.
    pub fn lasting(&self, which: Lasting, root: &SecretKey) -> Result<SecretKey, OpenError> {
        match (self.attribute(&KEYRING, which.name()), which) {
            (Some(envelope), _) => envelope::unwrap(root, envelope, &which.bound_to())
                .map_err(|_| OpenError::Other(format!("its {} is damaged: restore it from a backup", which.name()))),
            (None, Lasting::AuditLog) => Ok(ChainKey::of_root(root).into_key()),
            (None, Lasting::Fingerprint | Lasting::ImportToken) => Ok(root.duplicate()),
            (None, Lasting::Slots) => Ok(SecretKey::random()),
        }
    }

    pub(super) fn keep(&mut self, which: Lasting, key: &SecretKey, root: &SecretKey) {
        self.set_attribute(&KEYRING, which.name(), envelope::wrap(root, key, &which.bound_to()));
    }
}
