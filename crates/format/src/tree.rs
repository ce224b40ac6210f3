//! Hashes of the tree over an object's tag entries. They need no key: the seal's MAC covers the root.

use super::bytes::is_zero;
use sha2::{Digest, Sha256};

/// SHA-256.
pub type Hash = [u8; 32];

/// Hash of an empty table, which is never read from the disk.
pub const NULL: Hash = [0; 32];

/// Hash of a table page (level 0) or an inner node, domain-separated by level.
pub fn table_hash(level: u32, table: &[u8]) -> Hash {
    if is_zero(table) {
        return NULL;
    }
    let mut sha = Sha256::new();
    sha.update(b"kmsfs table");
    sha.update(level.to_le_bytes());
    sha.update(table);
    sha.finalize().into()
}

/// Hash of the tag entries in the header block.
pub fn entries_hash(entries: &[u8]) -> Hash {
    let mut sha = Sha256::new();
    sha.update(b"kmsfs entries");
    sha.update(entries);
    sha.finalize().into()
}
