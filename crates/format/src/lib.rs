//! Pure bytes: layout of object files, header, tag pages, sidecar records, log records. No I/O and no keys.
#![forbid(unsafe_code)]

pub mod bytes;
pub mod data_key;
pub mod entry;
pub mod header;
pub mod layout;
pub mod log_header;
pub mod log_record;
pub mod sidecar;
pub mod tree;

/// Version of every format below, written to store.json too.
pub const VERSION: u16 = 1;

/// 16 random bytes that name an object for as long as it lives, whatever its path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(pub [u8; 16]);

impl ObjectId {
    pub fn random() -> Self {
        Self(kmsfs_crypto::random::bytes())
    }
}

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// Bytes that are not what this format says: what is wrong, in words for a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);
