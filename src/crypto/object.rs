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

/// What an object's keys are bound to, beside the data key.
#[derive(Debug, Clone, Copy)]
pub struct ObjectParameters {
    pub object_id: [u8; 16],
    pub suite: Suite,
    /// Bytes.
    pub chunk_size: u32,
}

/// An object's data key with what is derived from it for the whole object: by HKDF-SHA-256 with salt = object id and
/// info = purpose, suite, chunk size, key epoch.
pub struct ObjectKeys {
    data_key: SecretKey,
    parameters: ObjectParameters,
    seal: SecretKey,
    sidecar: SecretKey,
    commitment: [u8; 32],
}

impl ObjectKeys {
    /// `first_epoch` is the first key epoch that this data key serves.
    pub fn new(data_key: SecretKey, parameters: ObjectParameters, first_epoch: u16) -> Self {
        let derive = |purpose| derive(&data_key, &parameters, first_epoch, purpose);
        let (seal, sidecar) = (derive("kmsfs seal"), derive("kmsfs sidecar"));
        let commitment = *derive("kmsfs commitment").expose();
        Self { data_key, parameters, seal, sidecar, commitment }
    }

    /// Stored in the sidecar and compared before anything is decrypted: AES-GCM alone does not commit to its key.
    pub fn commitment(&self) -> &[u8; 32] {
        &self.commitment
    }

    pub fn chunk_cipher(&self, epoch: u16) -> ChunkCipher {
        let key = derive(&self.data_key, &self.parameters, epoch, "kmsfs chunk");
        ChunkCipher { key: Box::new(expanded(key.expose())), aad: ChunkAad::new(&self.parameters, epoch) }
    }

    pub fn mac_seal(&self, sealed: &[u8]) -> [u8; 32] {
        hmac(&self.seal, sealed).finalize().into_bytes().into()
    }

    pub fn verify_seal(&self, sealed: &[u8], mac: &[u8; 32]) -> Result<(), Tampered> {
        hmac(&self.seal, sealed).verify_slice(mac).map_err(|_| Tampered)
    }

    pub fn mac_sidecar(&self, record: &[u8]) -> [u8; 32] {
        hmac(&self.sidecar, record).finalize().into_bytes().into()
    }

    pub fn verify_sidecar(&self, record: &[u8], mac: &[u8; 32]) -> Result<(), Tampered> {
        hmac(&self.sidecar, record).verify_slice(mac).map_err(|_| Tampered)
    }
}

/// Encrypts and decrypts the chunks of one object in one key epoch.
pub struct ChunkCipher {
    /// Boxed, so that moving the cipher leaves no copy behind.
    key: Box<LessSafeKey>,
    aad: ChunkAad,
}

impl Drop for ChunkCipher {
    /// ring does not wipe its expanded keys: another one takes the place of this one, so that it is not left in memory.
    fn drop(&mut self) {
        *self.key = expanded(&[0; SecretKey::LEN]);
        std::hint::black_box(&self.key);
    }
}

fn expanded(key: &[u8; SecretKey::LEN]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("the key has AES-256's length"))
}

impl ChunkCipher {
    /// Encrypts a chunk in place under a fresh random nonce.
    pub fn seal(&self, index: u64, chunk: &mut [u8]) -> ChunkTag {
        let mut nonce = [0; 12];
        rand::rng().fill_bytes(&mut nonce);
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(self.aad.at(index)), chunk)
            .expect("a chunk is shorter than AES-GCM's bound");
        ChunkTag { nonce, tag: tag.as_ref().try_into().expect("a GCM tag has 16 bytes") }
    }

    /// Decrypts a chunk in place. On an error the buffer's content is unspecified and must not be used.
    pub fn open(&self, index: u64, tag: &ChunkTag, chunk: &mut [u8]) -> Result<(), Tampered> {
        let nonce = Nonce::assume_unique_for_key(tag.nonce);
        self.key
            .open_in_place_separate_tag(nonce, Aad::from(self.aad.at(index)), Tag::from(tag.tag), chunk, 0..)
            .map(|_| ())
            .map_err(|_| Tampered)
    }
}

/// The additional data of a chunk: format version, suite, object id, key epoch, chunk index.
struct ChunkAad([u8; 30]);

impl ChunkAad {
    const FORMAT_VERSION: u16 = 1;

    fn new(parameters: &ObjectParameters, epoch: u16) -> Self {
        let mut aad = [0; 30];
        aad[0..2].copy_from_slice(&Self::FORMAT_VERSION.to_le_bytes());
        aad[2..4].copy_from_slice(&(parameters.suite as u16).to_le_bytes());
        aad[4..20].copy_from_slice(&parameters.object_id);
        aad[20..22].copy_from_slice(&epoch.to_le_bytes());
        Self(aad)
    }

    fn at(&self, index: u64) -> [u8; 30] {
        let mut aad = self.0;
        aad[22..].copy_from_slice(&index.to_le_bytes());
        aad
    }
}

fn derive(data_key: &SecretKey, parameters: &ObjectParameters, epoch: u16, purpose: &str) -> SecretKey {
    let hkdf = Hkdf::<Sha256>::new(Some(&parameters.object_id), data_key.expose());
    let suite = (parameters.suite as u16).to_le_bytes();
    let chunk_size = parameters.chunk_size.to_le_bytes();
    let mut key = Box::new([0; 32]);
    hkdf.expand_multi_info(&[purpose.as_bytes(), &suite, &chunk_size, &epoch.to_le_bytes()], &mut key[..])
        .expect("32 bytes are within HKDF's bound");
    SecretKey::from_box(key)
}

fn hmac(key: &SecretKey, data: &[u8]) -> Hmac<Sha256> {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
    hmac.update(data);
    hmac
}

#[cfg(test)]
mod tests {
    use super::*;
    use aes_gcm::aead::Aead;
    use aes_gcm::aead::Payload;

    const PARAMETERS: ObjectParameters =
        ObjectParameters { object_id: [7; 16], suite: Suite::Aes256Gcm, chunk_size: 4096 };

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_box(Box::new([byte; 32]))
    }

    #[test]
    fn each_implementation_opens_the_others_chunks() {
        let chunk_key = derive(&key(1), &PARAMETERS, 3, "kmsfs chunk");
        let ours = ObjectKeys::new(key(1), PARAMETERS, 3).chunk_cipher(3);
        let theirs = aes_gcm::Aes256Gcm::new_from_slice(chunk_key.expose()).unwrap();
        let aad = ChunkAad::new(&PARAMETERS, 3).at(9);
        let plain = vec![0x5a; 4096];

        let mut chunk = plain.clone();
        let tag = ours.seal(9, &mut chunk);
        let sealed = [&chunk[..], &tag.tag].concat();
        let opened = theirs.decrypt(&tag.nonce.into(), Payload { msg: &sealed, aad: &aad }).unwrap();
        assert_eq!(opened, plain);

        let sealed = theirs.encrypt(&[5; 12].into(), Payload { msg: &plain, aad: &aad }).unwrap();
        let tag = ChunkTag { nonce: [5; 12], tag: sealed[4096..].try_into().unwrap() };
        let mut chunk = sealed[..4096].to_vec();
        ours.open(9, &tag, &mut chunk).unwrap();
        assert_eq!(chunk, plain);
    }

    #[test]
    fn a_chunk_opens_at_its_index_epoch_and_object_only() {
        let keys = ObjectKeys::new(key(1), PARAMETERS, 1);
        let mut sealed = vec![1, 2, 3];
        let tag = keys.chunk_cipher(1).seal(4, &mut sealed);
        let open = |keys: &ObjectKeys, epoch, index| keys.chunk_cipher(epoch).open(index, &tag, &mut sealed.clone());
        assert_eq!(open(&keys, 1, 4), Ok(()));
        assert_eq!(open(&keys, 1, 5), Err(Tampered));
        assert_eq!(open(&keys, 2, 4), Err(Tampered));
        let other = ObjectParameters { object_id: [8; 16], ..PARAMETERS };
        assert_eq!(open(&ObjectKeys::new(key(1), other, 1), 1, 4), Err(Tampered));
        assert_eq!(open(&ObjectKeys::new(key(2), PARAMETERS, 1), 1, 4), Err(Tampered));
    }

    #[test]
    fn seal_sidecar_and_commitment_are_of_different_keys() {
        let keys = ObjectKeys::new(key(1), PARAMETERS, 1);
        let mac = keys.mac_seal(b"x");
        assert_eq!(keys.verify_seal(b"x", &mac), Ok(()));
        assert_eq!(keys.verify_seal(b"y", &mac), Err(Tampered));
        assert_eq!(keys.verify_sidecar(b"x", &mac), Err(Tampered));
        assert_ne!(keys.commitment(), ObjectKeys::new(key(1), PARAMETERS, 2).commitment());
    }
}
