//! RSA keys under which key material is brought in: RSAES_OAEP_SHA_256, as AWS KMS takes it.

use super::{SecretKey, Tampered, random, wiped};
use hmac::{Hmac, KeyInit, Mac};
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey};
use rsa::rand_core::{Infallible, TryCryptoRng, TryRng};
use rsa::{Oaep, PrivateKey};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Length of an RSA key: those that AWS KMS offers for imports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modulus {
    /// RSA_2048.
    Bits2048,
    /// RSA_3072.
    Bits3072,
    /// RSA_4096.
    Bits4096,
}

/// A private key, made for one import.
pub struct ImportKey(PrivateKey);

impl ImportKey {
    /// Makes a key, which takes up to some seconds.
    pub fn generate(modulus: Modulus) -> Result<Self, Tampered> {
        let bits = match modulus {
            Modulus::Bits2048 => 2048,
            Modulus::Bits3072 => 3072,
            Modulus::Bits4096 => 4096,
        };
        wiped(|| PrivateKey::new(&mut Kernel, bits)).map(Self).map_err(|_| Tampered)
    }

    /// PKCS #8, DER.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, Tampered> {
        wiped(|| Ok(self.0.to_pkcs8_der().map_err(|_| Tampered)?.to_bytes()))
    }

    /// The key that [`ImportKey::to_bytes`] returned.
    ///
    /// # Errors
    ///
    /// [`Tampered`]: the bytes are no such key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Tampered> {
        wiped(|| PrivateKey::from_pkcs8_der(bytes)).map(Self).map_err(|_| Tampered)
    }

    /// SubjectPublicKeyInfo, DER.
    pub fn public(&self) -> Result<Vec<u8>, Tampered> {
        Ok(self.0.to_public_key().to_public_key_der().map_err(|_| Tampered)?.into_vec())
    }

    /// Decrypts a key of 256 bits that was encrypted for this one.
    ///
    /// # Errors
    ///
    /// [`Tampered`]: it was not encrypted for this key, or has another length.
    pub fn unwrap(&self, encrypted: &[u8]) -> Result<SecretKey, Tampered> {
        let bytes = wiped(|| self.0.decrypt(Oaep::<Sha256>::new(), encrypted)).map(Zeroizing::new);
        SecretKey::from_plaintext(&bytes.map_err(|_| Tampered)?).ok_or(Tampered)
    }
}

/// The kernel's generator, as the crate rsa asks for one.
struct Kernel;

impl TryRng for Kernel {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(random::bytes()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(random::bytes()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        random::fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for Kernel {}

/// HMAC-SHA-256 of a key under the key of fingerprints: equal for equal keys, and worth nothing without that key.
pub fn fingerprint(of_fingerprints: &SecretKey, key: &SecretKey) -> [u8; 32] {
    wiped(|| {
        let mut hmac = Hmac::<Sha256>::new_from_slice(of_fingerprints.expose()).expect("HMAC takes keys of any length");
        hmac.update(b"kmsfs fingerprint");
        hmac.update(key.expose());
        hmac.finalize().into_bytes().into()
    })
}
