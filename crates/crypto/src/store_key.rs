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

    /// The last of a chain of tags, each the key of the next: the first text's tag is under `secret`, which has any
    /// length (AWS Signature Version 4 derives its signing keys so).
    ///
    /// # Panics
    /// If there is no text.
    pub fn chained(secret: &[u8], texts: &[&[u8]]) -> Self {
        assert!(!texts.is_empty(), "a chain of no tags");
        let mut key = Box::new([0; SecretKey::LEN]);
        wiped(|| {
            for (n, text) in texts.iter().enumerate() {
                let under: &[u8] = if n == 0 { secret } else { &key[..] };
                let tag: [u8; Self::LEN] = mac(under, &[text]).finalize().into_bytes().into();
                *key = tag;
            }
        });
        Self(SecretKey::from_box(key))
    }

    /// Of a key that was derived elsewhere.
    pub fn from_secret(key: SecretKey) -> Self {
        Self(key)
    }

    /// The key itself, to hand to whoever is to make and check such tags.
    pub fn into_secret(self) -> SecretKey {
        self.0
    }

    /// The MAC of the parts, one after another. The caller has to make sure that their borders are unambiguous.
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; Self::LEN] {
        wiped(|| mac(self.0.expose(), parts).finalize().into_bytes().into())
    }

    /// Whether `tag` is the MAC of the parts, in constant time. It may be cut to its first bytes, 16 at least.
    pub fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        tag.len() >= 16 && wiped(|| mac(self.0.expose(), parts).verify_truncated_left(tag).is_ok())
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store_key(byte: u8) -> StoreKey {
        StoreKey::new(SecretKey::from_box(Box::new([byte; 32])))
    }

    /// The signing key of the example in the AWS General Reference, "Examples of how to derive a signing key".
    #[test]
    fn a_chain_of_tags_is_as_aws_derives_signing_keys() {
        let secret = b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let key = MacKey::chained(secret, &[b"20150830", b"us-east-1", b"iam", b"aws4_request"]);
        let expected = "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9";
        assert_eq!(hex::encode(&*key.into_secret().into_plaintext()), expected);
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
