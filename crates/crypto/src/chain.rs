//! Keyed hashes: of an audit log's hash chain, and of a keyring's slots.

use super::{SecretKey, wiped};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The key of a hash chain: only its holder can write records that fit into the chain.
pub struct ChainKey(SecretKey);

impl ChainKey {
    /// A key that was made for a chain and is kept somewhere.
    pub fn new(key: SecretKey) -> Self {
        Self(key)
    }

    /// Derived from a keyring's root key (HKDF-SHA-256), as in the first keyrings.
    pub fn of_root(root: &SecretKey) -> Self {
        Self(SecretKey::derived(None, root.expose(), &[b"kmsfs audit log"]))
    }

    /// The key itself, to be kept.
    pub fn into_key(self) -> SecretKey {
        self.0
    }

    /// HMAC-SHA-256 of a record, which contains the hash of the one before.
    pub fn hash(&self, record: &[u8]) -> [u8; 32] {
        wiped(|| self.mac(record).finalize().into_bytes().into())
    }

    /// Whether `hash` is the one of this record, compared in constant time.
    pub fn verify(&self, record: &[u8], hash: &[u8; 32]) -> bool {
        wiped(|| self.mac(record).verify_slice(hash).is_ok())
    }

    fn mac(&self, record: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose()).expect("HMAC takes keys of any length");
        mac.update(record);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_one_record_under_one_root_key() {
        let root = |byte| SecretKey::from_box(Box::new([byte; 32]));
        let key = ChainKey::of_root(&root(1));
        let hash = key.hash(b"record");
        assert!(ChainKey::of_root(&root(1)).verify(b"record", &hash));
        assert!(!key.verify(b"Record", &hash));
        assert!(!ChainKey::of_root(&root(2)).verify(b"record", &hash));
        for bit in 0..256 {
            let mut changed = hash;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.verify(b"record", &changed), "bit {bit}");
        }
    }
}
