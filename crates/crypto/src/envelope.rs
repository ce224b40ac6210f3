//! A key wrapped under another key: a salt of 16 bytes, the encrypted key, AES-256-GCM's tag of 16.
//!
//! The cipher's key comes from the wrapping key and the random salt (HKDF-SHA-256), so every envelope has a cipher of
//! its own: its nonce can be zero, and no wrapping key meets GCM's bound. The salt is hedged: it does not come again
//! with another key or binding even where the random numbers do.

use super::{SecretKey, Tampered, random, wiped};
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit, Nonce};

/// Bytes of an envelope.
pub const LEN: usize = SALT + SecretKey::LEN + TAG;
pub(super) const SALT: usize = 16;
pub(super) const TAG: usize = 16;

/// Wraps `key`. `bound_to` is additional data; unwrapping needs the same. Returns [`LEN`] bytes.
pub fn wrap(wrapping_key: &SecretKey, key: &SecretKey, bound_to: &[u8]) -> Vec<u8> {
    let salt = random::hedged(wrapping_key, &[b"kmsfs envelope", bound_to, key.expose()]);
    let mut envelope = Vec::with_capacity(LEN);
    envelope.extend_from_slice(&salt);
    envelope.extend_from_slice(key.expose());
    let tag = encrypt(wrapping_key, &salt, b"kmsfs envelope", bound_to, &mut envelope[SALT..]);
    envelope.extend_from_slice(&tag);
    envelope
}

/// The key in an envelope that [`wrap`] made under the same wrapping key and for the same `bound_to`.
///
/// # Errors
///
/// [`Tampered`]: it is another length, or was not made so.
pub fn unwrap(wrapping_key: &SecretKey, envelope: &[u8], bound_to: &[u8]) -> Result<SecretKey, Tampered> {
    let envelope: &[u8; LEN] = envelope.try_into().map_err(|_| Tampered)?;
    let (salt, rest) = envelope.split_first_chunk::<SALT>().ok_or(Tampered)?;
    let (text, tag) = rest.split_first_chunk::<{ SecretKey::LEN }>().ok_or(Tampered)?;
    let tag = tag.try_into().map_err(|_| Tampered)?;
    let mut key = Box::new(*text);
    decrypt(wrapping_key, salt, b"kmsfs envelope", bound_to, &mut key[..], tag)?;
    Ok(SecretKey::from_box(key))
}

/// In place, under the cipher of one salt for one purpose; returns the tag.
pub(super) fn encrypt(
    key: &SecretKey,
    salt: &[u8; SALT],
    purpose: &[u8],
    bound_to: &[u8],
    text: &mut [u8],
) -> [u8; TAG] {
    let encrypt = || {
        let cipher = cipher(key, salt, purpose);
        cipher.encrypt_inout_detached(&Nonce::<Aes256Gcm>::default(), bound_to, text.into())
    };
    wiped(encrypt).expect("the text is shorter than AES-GCM's bound").into()
}

/// Decrypts in place what [`encrypt`] made.
pub(super) fn decrypt(
    key: &SecretKey,
    salt: &[u8; SALT],
    purpose: &[u8],
    bound_to: &[u8],
    text: &mut [u8],
    tag: [u8; TAG],
) -> Result<(), Tampered> {
    let decrypt = || {
        let cipher = cipher(key, salt, purpose);
        cipher.decrypt_inout_detached(&Nonce::<Aes256Gcm>::default(), bound_to, text.into(), &tag.into())
    };
    wiped(decrypt).map_err(|_| Tampered)
}

fn cipher(key: &SecretKey, salt: &[u8; SALT], purpose: &[u8]) -> Aes256Gcm {
    let derived = SecretKey::derived(Some(salt), key.expose(), &[purpose]);
    Aes256Gcm::new_from_slice(derived.expose()).expect("the key has AES-256's length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_box(Box::new([byte; 32]))
    }

    #[test]
    fn a_key_comes_back_under_the_same_key_and_binding_only() {
        let envelope = wrap(&key(1), &key(2), b"arn");
        assert_eq!(envelope.len(), LEN);
        assert_eq!(unwrap(&key(1), &envelope, b"arn").unwrap().expose(), key(2).expose());
        assert_eq!(unwrap(&key(1), &envelope, b"other").err(), Some(Tampered));
        assert_eq!(unwrap(&key(3), &envelope, b"arn").err(), Some(Tampered));
    }

    #[test]
    fn every_flipped_bit_and_every_other_length_is_refused() {
        let envelope = wrap(&key(1), &key(2), b"");
        for bit in 0..LEN * 8 {
            let mut tampered = envelope.clone();
            tampered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unwrap(&key(1), &tampered, b"").err(), Some(Tampered), "bit {bit}");
        }
        for len in 0..LEN {
            assert_eq!(unwrap(&key(1), &envelope[..len], b"").err(), Some(Tampered), "{len} bytes");
        }
        assert_eq!(unwrap(&key(1), &[&envelope[..], &[0]].concat(), b"").err(), Some(Tampered));
    }

    #[test]
    fn an_envelope_does_not_repeat() {
        let (one, two) = (wrap(&key(1), &key(2), b""), wrap(&key(1), &key(2), b""));
        assert_ne!(one[..SALT], two[..SALT]);
        assert_ne!(one[SALT..], two[SALT..]);
    }
}
