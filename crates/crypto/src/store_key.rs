//! A store's own key, and the keys for each purpose that come from it.

use super::{SecretKey, wiped};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Authenticates what a store says about itself. The key never leaves this type: only keys derived from it are used.
pub struct StoreKey(SecretKey);

impl StoreKey {
    /// The key of a store, from its keyring.
    pub fn new(secret: SecretKey) -> Self {
        Self(secret)
    }

    /// HKDF-SHA-256 without salt of the store key; `purpose` is info, and no two uses share one.
    pub fn mac_key(&self, purpose: &str) -> MacKey {
        MacKey(SecretKey::derived(None, self.0.expose(), &[purpose.as_bytes()]))
    }
}

/// A key for HMAC-SHA-256 for one purpose: only its holder can write what kmsfs believes.
pub struct MacKey(SecretKey);

impl MacKey {
    /// Bytes of a tag.
    pub const LEN: usize = 32;

    /// The MAC of the parts, one after another. The caller has to make sure that their borders are unambiguous.
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; Self::LEN] {
        wiped(|| self.mac(parts).finalize().into_bytes().into())
    }

    /// Whether `tag` is the MAC of the parts, in constant time. It may be cut to its first bytes, 16 at least.
    pub fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        tag.len() >= 16 && wiped(|| self.mac(parts).verify_truncated_left(tag).is_ok())
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose()).expect("HMAC takes keys of any length");
        for part in parts {
            mac.update(part);
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store_key(byte: u8) -> StoreKey {
        StoreKey::new(SecretKey::from_box(Box::new([byte; 32])))
    }

    #[test]
    fn a_tag_is_of_one_text_one_purpose_and_one_store() {
        let key = store_key(1).mac_key("kmsfs one");
        let tag = key.tag(&[b"te", b"xt"]);
        assert!(store_key(1).mac_key("kmsfs one").verify(&[b"text"], &tag));
        assert!(key.verify(&[b"text"], &tag[..16]), "cut to half");
        assert!(!key.verify(&[b"text"], &tag[..15]), "cut too short");
        assert!(!key.verify(&[b"text"], b""));
        assert!(!key.verify(&[b"Text"], &tag));
        assert!(!store_key(1).mac_key("kmsfs two").verify(&[b"text"], &tag));
        assert!(!store_key(2).mac_key("kmsfs one").verify(&[b"text"], &tag));
        for bit in 0..256 {
            let mut changed = tag;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.verify(&[b"text"], &changed), "bit {bit}");
        }
    }
}
