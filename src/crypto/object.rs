//! The keys of one object: chunks, seal and sidecar, each derived from the data key for that one purpose.

use super::{SecretKey, Tampered};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use rand::Rng;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use sha2::Sha256;

/// How chunks are encrypted; the number is in every object's header (docs/FORMAT.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Suite {
    /// AES-256-GCM with random 96-bit nonces.
    Aes256Gcm = 1,
}

impl Suite {
    pub fn from_number(number: u16) -> Option<Self> {
        (number == Self::Aes256Gcm as u16).then_some(Self::Aes256Gcm)
    }
}

/// Nonce and tag of one encrypted chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkTag {
    pub nonce: [u8; 12],
    pub tag: [u8; 16],
}

/// Everything that can be done with an object's data key, for one key epoch. The data key itself is not kept.
pub struct ObjectCipher {
    chunks: LessSafeKey,
    seal: SecretKey,
    sidecar: SecretKey,
    commitment: [u8; 32],
    /// Format version, suite, object id, epoch: the part of `ChunkAad` that all chunks share.
    aad: [u8; 22],
}

const FORMAT_VERSION: u16 = 1;

impl ObjectCipher {
    /// HKDF-SHA-256 with salt = object id and info = purpose, suite, chunk size, epoch.
    pub fn new(data_key: &SecretKey, object_id: &[u8; 16], suite: Suite, chunk_size: u32, epoch: u16) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(object_id), data_key.expose());
        let derive = |purpose: &str| {
            let mut key = Box::new([0; 32]);
            let info: [&[u8]; 4] =
                [purpose.as_bytes(), &(suite as u16).to_le_bytes(), &chunk_size.to_le_bytes(), &epoch.to_le_bytes()];
            // 32 bytes are within HKDF's bound of 255 * 32.
            hkdf.expand_multi_info(&info, &mut key[..]).expect("32 bytes can be derived");
            SecretKey::from_box(key)
        };
        let chunk_key = derive("kmsfs chunk");
        let mut aad = [0; 22];
        aad[0..2].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        aad[2..4].copy_from_slice(&(suite as u16).to_le_bytes());
        aad[4..20].copy_from_slice(object_id);
        aad[20..22].copy_from_slice(&epoch.to_le_bytes());
        Self {
            chunks: LessSafeKey::new(
                UnboundKey::new(&AES_256_GCM, chunk_key.expose()).expect("the key has AES-256's length"),
            ),
            seal: derive("kmsfs seal"),
            sidecar: derive("kmsfs sidecar"),
            commitment: *derive("kmsfs commitment").expose(),
            aad,
        }
    }

    /// Stored in the sidecar and compared before anything is decrypted: AES-GCM alone does not commit to its key.
    pub fn commitment(&self) -> &[u8; 32] {
        &self.commitment
    }

    /// Encrypts a chunk in place under a fresh random nonce.
    pub fn seal_chunk(&self, index: u64, chunk: &mut [u8]) -> ChunkTag {
        let mut nonce = [0; 12];
        rand::rng().fill_bytes(&mut nonce);
        let tag = self
            .chunks
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(self.chunk_aad(index)), chunk)
            .expect("a chunk is shorter than AES-GCM's bound");
        ChunkTag { nonce, tag: tag.as_ref().try_into().expect("a GCM tag has 16 bytes") }
    }

    /// Decrypts a chunk in place. On an error the buffer's content is unspecified and must not be used.
    pub fn open_chunk(&self, index: u64, tag: &ChunkTag, chunk: &mut [u8]) -> Result<(), Tampered> {
        self.chunks
            .open_in_place_separate_tag(
                Nonce::assume_unique_for_key(tag.nonce),
                Aad::from(self.chunk_aad(index)),
                Tag::from(tag.tag),
                chunk,
                0..,
            )
            .map(|_| ())
            .map_err(|_| Tampered)
    }

    pub fn mac_seal(&self, sealed: &[u8]) -> [u8; 32] {
        mac(&self.seal, sealed)
    }

    pub fn verify_seal(&self, sealed: &[u8], tag: &[u8; 32]) -> Result<(), Tampered> {
        verify(&self.seal, sealed, tag)
    }

    pub fn mac_sidecar(&self, record: &[u8]) -> [u8; 32] {
        mac(&self.sidecar, record)
    }

    pub fn verify_sidecar(&self, record: &[u8], tag: &[u8; 32]) -> Result<(), Tampered> {
        verify(&self.sidecar, record, tag)
    }

    fn chunk_aad(&self, index: u64) -> [u8; 30] {
        let mut aad = [0; 30];
        aad[..22].copy_from_slice(&self.aad);
        aad[22..].copy_from_slice(&index.to_le_bytes());
        aad
    }
}

fn hmac(key: &SecretKey) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes keys of any length")
}

fn mac(key: &SecretKey, data: &[u8]) -> [u8; 32] {
    let mut hmac = hmac(key);
    hmac.update(data);
    hmac.finalize().into_bytes().into()
}

fn verify(key: &SecretKey, data: &[u8], tag: &[u8; 32]) -> Result<(), Tampered> {
    let mut hmac = hmac(key);
    hmac.update(data);
    hmac.verify_slice(tag).map_err(|_| Tampered)
}
