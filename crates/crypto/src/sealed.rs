//! Byte strings sealed under a key: a salt of 16 bytes, the ciphertext, AES-256-GCM's tag of 16. As in `envelope`, the
//! salt gives each one a cipher of its own.

use super::envelope::{SALT, TAG, decrypt, encrypt};
use super::{SecretKey, Tampered, random};
use zeroize::Zeroizing;

/// Seals `text`. `bound_to` is additional data; opening needs the same. Returns 32 bytes more than the text has.
pub fn seal(key: &SecretKey, text: &[u8], bound_to: &[u8]) -> Vec<u8> {
    let salt: [u8; SALT] = random::hedged(key, &[b"kmsfs sealed", bound_to, text]);
    let mut sealed = Vec::with_capacity(SALT + text.len() + TAG);
    sealed.extend_from_slice(&salt);
    sealed.extend_from_slice(text);
    let tag = encrypt(key, &salt, b"kmsfs sealed", bound_to, &mut sealed[SALT..]);
    sealed.extend_from_slice(&tag);
    sealed
}

/// The text that [`seal`] sealed under the same key and for the same `bound_to`.
///
/// # Errors
///
/// [`Tampered`]: it is too short, or was not made so.
pub fn open(key: &SecretKey, sealed: &[u8], bound_to: &[u8]) -> Result<Zeroizing<Vec<u8>>, Tampered> {
    let (salt, rest) = sealed.split_first_chunk::<SALT>().ok_or(Tampered)?;
    let (text, tag) = rest.split_last_chunk::<TAG>().ok_or(Tampered)?;
    let mut text = Zeroizing::new(text.to_vec());
    decrypt(key, salt, b"kmsfs sealed", bound_to, &mut text, *tag)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_opens_whole_and_unchanged_only() {
        let (key, other) = (SecretKey::random(), SecretKey::random());
        let sealed = seal(&key, b"text", b"to");
        assert_eq!(open(&key, &sealed, b"to").unwrap()[..], b"text"[..]);
        assert_eq!(open(&key, &sealed, b"so").err(), Some(Tampered));
        assert_eq!(open(&other, &sealed, b"to").err(), Some(Tampered));
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&key, &damaged, b"to").err(), Some(Tampered), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert_eq!(open(&key, &sealed[..len], b"to").err(), Some(Tampered), "{len} bytes");
        }
    }
}
