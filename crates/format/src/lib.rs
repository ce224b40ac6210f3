//! The bytes of a store: how object files are laid out, headers, tag entries, sidecar records and redo log records, as
//! docs/FORMAT.md specifies them.
//!
//! This package does no I/O and has no keys. It takes bytes apart and puts them together; the caller supplies a MAC, or
//! verifies one, through a closure. What it reads may come from an attacker: every parser refuses what no writer of
//! kmsfs makes with [`Malformed`], and none panics.
//!
//! - [`layout`] alone converts between plaintext lengths and offsets in object files.
//! - [`header`], [`entry`] and [`tree`] are an object file's header block, tag entries and hash tree.
//! - [`sidecar`] and [`data_key`] are what is kept of wrapped data keys.
//! - [`log_header`] and [`log_record`] are the redo log.
//!
//! ```
//! use kmsfs_format::layout::{BLOCK, ChunkIndex, CipherLen, Geometry, PlainLen};
//!
//! // One byte of content is one byte of ciphertext after the header block.
//! assert_eq!(PlainLen(1).cipher(Geometry::Single), CipherLen(BLOCK + 1));
//! assert_eq!(CipherLen(BLOCK + 1).plain(Geometry::Single), Ok(PlainLen(1)));
//! assert_eq!(ChunkIndex::at(4096).offset(Geometry::Single), 2 * BLOCK);
//! // No writer makes an object file that ends inside its header.
//! assert!(CipherLen(BLOCK - 1).plain(Geometry::Single).is_err());
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

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
    /// A new id, from the kernel.
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
