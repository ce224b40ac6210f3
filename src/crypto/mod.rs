//! Keys, AEAD and key derivation. The only layer that touches key bytes; it knows nothing of files.

mod metadata;
mod object;
mod secret;

pub use metadata::MetadataCipher;
pub use object::{ChunkCipher, ChunkTag, ObjectKeys, ObjectParameters, Suite};
pub use secret::SecretKey;

/// Something failed its authentication: the bytes are not what was sealed under this key for this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tampered;

impl std::fmt::Display for Tampered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("authentication failed")
    }
}

impl std::error::Error for Tampered {}
