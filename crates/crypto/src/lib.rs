//! Keys, AEAD and key derivation. The only layer that touches key bytes; it knows nothing of files.
#![forbid(unsafe_code)]

mod chain;
pub mod envelope;
mod expanded;
mod free_memory;
pub mod import_key;
pub mod key_file;
mod key_pair;
mod metadata;
mod nonces;
mod object;
pub mod passphrase;
pub mod random;
pub mod recovery_key;
pub mod sealed;
mod secret;
mod stack;
mod store_key;

pub use chain::ChainKey;
pub use key_pair::{KeyPair, seal_to};
pub use metadata::MetadataCipher;
pub use object::{ChunkCipher, ChunkTag, DataKey, LayerTag, ObjectKeys, ObjectParameters, Sealing, Suite};
pub use secret::SecretKey;
pub use stack::wiped;
pub use store_key::{MacKey, StoreKey};

/// Something failed its authentication: the bytes are not what was sealed under this key for this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("authentication failed")]
pub struct Tampered;

/// A hash of 16 bytes over what identifies a content, for an ETag that is not an MD5.
pub fn opaque_tag(object_id: &[u8; 16], hashes: [&[u8; 32]; 2], length: u64) -> [u8; 16] {
    use sha2::Digest;
    let mut sha = sha2::Sha256::new();
    sha.update(b"kmsfs etag");
    sha.update(object_id);
    for hash in hashes {
        sha.update(hash);
    }
    sha.update(length.to_le_bytes());
    sha.finalize()[..16].try_into().expect("SHA-256 has 32 bytes")
}
