//! Symlink targets and extended attribute values, under a bucket's metadata data key.

use super::expanded::Expanded;
use super::{SecretKey, Tampered, random, wiped};
use ring::aead::{Aad, LessSafeKey, Nonce};

/// Encrypts short values. The key is one bucket's, so 2^32 values are its bound; each has a random nonce, hedged.
pub struct MetadataCipher {
    cipher: Expanded<LessSafeKey>,
    key: SecretKey,
}

impl MetadataCipher {
    /// Bytes that a sealed value is longer than its plaintext: nonce and tag.
    pub const OVERHEAD: usize = 28;

    /// A cipher under a bucket's metadata data key.
    pub fn new(data_key: SecretKey) -> Self {
        Self { cipher: Expanded::of_ring(&data_key), key: data_key }
    }

    /// Seals a value: nonce, ciphertext and tag. `bound_to` says what the value belongs to; opening needs the same.
    pub fn seal(&self, bound_to: &[u8], value: &[u8]) -> Vec<u8> {
        let nonce: [u8; 12] = random::hedged(&self.key, &[b"kmsfs metadata", bound_to, value]);
        let mut sealed = nonce.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let mut text = value.to_vec();
        wiped(|| self.cipher.seal_in_place_append_tag(nonce, Aad::from(bound_to), &mut text))
            .expect("values are short");
        sealed.append(&mut text);
        sealed
    }

    /// The value that [`MetadataCipher::seal`] sealed for the same `bound_to`.
    ///
    /// # Errors
    ///
    /// [`Tampered`]: it is too short, or was not made so.
    pub fn open(&self, bound_to: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Tampered> {
        let (nonce, text) = sealed.split_at_checked(12).ok_or(Tampered)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Tampered)?;
        let mut text = text.to_vec();
        let opened = wiped(|| self.cipher.open_in_place(nonce, Aad::from(bound_to), &mut text).map(|text| text.len()));
        let opened = opened.map_err(|_| Tampered)?;
        text.truncate(opened);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_where_it_belongs_only() {
        let cipher = MetadataCipher::new(SecretKey::random());
        let sealed = cipher.seal(b"user.a", b"value");
        assert_eq!(sealed.len(), 5 + MetadataCipher::OVERHEAD);
        assert_eq!(cipher.open(b"user.a", &sealed), Ok(b"value".to_vec()));
        assert_eq!(cipher.open(b"user.b", &sealed), Err(Tampered));
        assert_eq!(cipher.open(b"user.a", &sealed[..11]), Err(Tampered));
        assert_eq!(MetadataCipher::new(SecretKey::random()).open(b"user.a", &sealed), Err(Tampered));
    }
}
