use super::{random, wiped};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A 256-bit secret: a data key, key material, a root key. It is boxed so that moving it leaves no copy, is zeroized
/// when dropped, and has neither `Clone` nor `Serialize`; printing it shows nothing.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SecretKey(Box<[u8; 32]>);

impl SecretKey {
    /// Bytes of a key.
    pub const LEN: usize = 32;

    /// A fresh key, from the kernel's generator.
    pub fn random() -> Self {
        let mut key = Box::new([0; 32]);
        random::fill(&mut key[..]);
        Self(key)
    }

    /// A key for one purpose that can be derived only with both keys (HKDF-SHA-256).
    #[must_use]
    pub fn with(&self, other: &Self, purpose: &[u8]) -> Self {
        Self::derived(Some(other.expose()), self.expose(), &[purpose])
    }

    /// HKDF-SHA-256; `info` is the parts behind each other.
    pub(crate) fn derived(salt: Option<&[u8]>, key: &[u8], info: &[&[u8]]) -> Self {
        let mut derived = Box::new([0; Self::LEN]);
        wiped(|| Hkdf::<Sha256>::new(salt, key).expand_multi_info(info, &mut derived[..]))
            .expect("32 bytes are within HKDF's bound");
        Self(derived)
    }

    pub(crate) fn copied(bytes: &[u8; Self::LEN]) -> Self {
        let mut key = Box::new([0; Self::LEN]);
        key.copy_from_slice(bytes);
        Self(key)
    }

    /// A key of its own with the same bytes.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self::copied(&self.0)
    }

    pub(crate) fn from_box(bytes: Box<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// A key of 256 bits from the result of a KMS call; `None` for any other length.
    pub fn from_plaintext(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::copied)
    }

    /// The bytes, for a call whose result they are, such as GenerateDataKey.
    pub fn into_plaintext(self) -> zeroize::Zeroizing<Vec<u8>> {
        zeroize::Zeroizing::new(self.0.to_vec())
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(..)")
    }
}
