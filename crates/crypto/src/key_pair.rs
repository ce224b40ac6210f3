//! Keys sealed to a public key: X25519 (RFC 7748) with an ephemeral key pair, HKDF-SHA-256 over both public keys, and
//! an envelope. This is what HPKE's base mode does. The sender is not authenticated; the caller has to see to that.

use super::{SecretKey, Tampered, envelope, wiped};
use x25519_dalek::{PublicKey, StaticSecret};

const PUBLIC: usize = 32;

/// An X25519 key pair.
pub struct KeyPair {
    private: SecretKey,
    public: [u8; PUBLIC],
}

impl KeyPair {
    /// A fresh key pair.
    pub fn random() -> Self {
        Self::of(SecretKey::random())
    }

    /// Any 32 bytes are a private key.
    pub fn of(private: SecretKey) -> Self {
        let public = wiped(|| PublicKey::from(&exponent(&private)).to_bytes());
        Self { private, public }
    }

    /// The private key, to be kept.
    pub fn private(&self) -> &SecretKey {
        &self.private
    }

    /// The public key, which [`seal_to`] takes.
    pub fn public(&self) -> &[u8; PUBLIC] {
        &self.public
    }

    /// Opens what [`seal_to`] made for this public key and the same additional data.
    ///
    /// # Errors
    ///
    /// [`Tampered`]: it was not made so.
    pub fn open(&self, sealed: &[u8], bound_to: &[u8]) -> Result<SecretKey, Tampered> {
        let (ephemeral, envelope) = sealed.split_first_chunk::<PUBLIC>().ok_or(Tampered)?;
        let wrapping_key = wrapping_key(&self.private, ephemeral, ephemeral, &self.public)?;
        envelope::unwrap(&wrapping_key, envelope, bound_to)
    }
}

/// Seals a key so that only the holder of the private key can open it: an ephemeral public key and an envelope.
///
/// # Errors
///
/// [`Tampered`]: with this public key everybody would share the same secret.
pub fn seal_to(public: &[u8; PUBLIC], key: &SecretKey, bound_to: &[u8]) -> Result<Vec<u8>, Tampered> {
    let ephemeral = KeyPair::random();
    let wrapping_key = wrapping_key(&ephemeral.private, public, &ephemeral.public, public)?;
    Ok([&ephemeral.public[..], &envelope::wrap(&wrapping_key, key, bound_to)].concat())
}

/// Zeroized when it is dropped.
fn exponent(private: &SecretKey) -> StaticSecret {
    StaticSecret::from(*private.expose())
}

/// From what the private key and `theirs` share, and both public keys.
fn wrapping_key(
    private: &SecretKey,
    theirs: &[u8; PUBLIC],
    ephemeral: &[u8; PUBLIC],
    public: &[u8; PUBLIC],
) -> Result<SecretKey, Tampered> {
    wiped(|| {
        let shared = exponent(private).diffie_hellman(&PublicKey::from(*theirs));
        if !shared.was_contributory() {
            return Err(Tampered);
        }
        Ok(SecretKey::derived(None, shared.as_bytes(), &[b"kmsfs sealed to", ephemeral, public]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_with_the_private_key_and_binding_only() {
        let (pair, other, key) = (KeyPair::random(), KeyPair::random(), SecretKey::random());
        let sealed = seal_to(pair.public(), &key, b"to").unwrap();
        assert_eq!(sealed.len(), 96);
        assert_eq!(pair.open(&sealed, b"to").unwrap().expose(), key.expose());
        assert_eq!(pair.open(&sealed, b"so").err(), Some(Tampered));
        assert_eq!(other.open(&sealed, b"to").err(), Some(Tampered));
        assert_ne!(seal_to(pair.public(), &key, b"to").unwrap()[..32], sealed[..32], "another ephemeral key");
        // The highest bit of a public key means nothing in X25519; here it does, since the key is derived from it.
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(pair.open(&damaged, b"to").err(), Some(Tampered), "bit {bit}");
        }
        assert!((0..sealed.len()).all(|len| pair.open(&sealed[..len], b"to").is_err()));
    }

    /// RFC 7748, 5.2: one iteration from the base point.
    #[test]
    fn the_public_key_is_that_of_the_rfc() {
        let nine = SecretKey::from_box(Box::new(std::array::from_fn(|at| if at == 0 { 9 } else { 0 })));
        let expected = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079";
        assert_eq!(hex::encode(KeyPair::of(nine).public()), expected);
    }

    #[test]
    fn a_public_key_of_small_order_is_refused() {
        for public in [[0; 32], std::array::from_fn(|at| u8::from(at == 0))] {
            assert_eq!(seal_to(&public, &SecretKey::random(), b"").err(), Some(Tampered));
        }
    }
}
