//! Keys, authenticated encryption and key derivation: the only package that touches the bytes of a key.
//!
//! It knows nothing of files, stores or KMSs. Other packages hold a [`SecretKey`], which shows and copies nothing, and
//! hand it to what does something with it. Nonces are never parameters: they are made here, from random bytes of the
//! kernel ([`random`]), and hedged against random bytes that come twice. Whatever handles key bytes runs in [`wiped`],
//! which overwrites the stack that it used.
//!
//! - [`ObjectKeys`] derives an object's keys from its data key; [`ChunkCipher`] encrypts and decrypts its chunks.
//! - [`envelope`] and [`sealed`] encrypt a key or a byte string under a key, [`seal_to`] to a public key.
//! - [`passphrase`], [`recovery_key`] and [`key_file`] are what a person unlocks a keyring with.
//! - [`StoreKey`], [`MacKey`] and [`ChainKey`] authenticate; [`MetadataCipher`] encrypts symlink targets and
//!   attributes.
//!
//! ```
//! use kmsfs_crypto::{ObjectKeys, ObjectParameters, SecretKey};
//!
//! let parameters = ObjectParameters { object_id: [7; 16], chunk_size: 4096 };
//! let keys = ObjectKeys::new(SecretKey::random(), parameters, 0);
//! let cipher = keys.chunk_cipher(0);
//!
//! let mut chunk = *b"my name is Bond";
//! let tag = cipher.sealing().seal(3, &mut chunk);
//! assert_ne!(&chunk, b"my name is Bond");
//! // It opens as the chunk that it is, and as no other one.
//! assert!(cipher.open(4, &tag, &mut chunk.clone()).is_err());
//! cipher.open(3, &tag, &mut chunk)?;
//! assert_eq!(&chunk, b"my name is Bond");
//! # Ok::<(), kmsfs_crypto::Tampered>(())
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

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
