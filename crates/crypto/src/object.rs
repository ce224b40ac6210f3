//! The keys of one object: chunks, seal and sidecar, each derived from the data key for that one purpose.

use super::expanded::Expanded;
use super::nonces::{ChunkNonces, Layer, NonceKey, Nonces};
use super::{SecretKey, Tampered, wiped};
use aes_gcm::aead::AeadInOut;
use hmac::{Hmac, KeyInit, Mac};
use ring::aead::{Aad, LessSafeKey, Nonce, Tag};
use sha2::Sha256;
use zeroize::Zeroizing;

/// How chunks are encrypted; the number is in every object's header (docs/FORMAT.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Suite {
    /// AES-256-GCM with random 96-bit nonces, hedged (`nonces`).
    Aes256Gcm = 1,
    /// Two layers of it, each with a data key, a nonce and an implementation of its own.
    DualAes256Gcm = 2,
}

impl Suite {
    /// The suite of a number in a header; `None` for a number that this version does not know.
    pub fn from_number(number: u16) -> Option<Self> {
        [Self::Aes256Gcm, Self::DualAes256Gcm].into_iter().find(|suite| *suite as u16 == number)
    }
}

/// Nonce and tag of one layer of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerTag {
    /// Random and hedged, never chosen by a caller.
    pub nonce: [u8; 12],
    /// AES-GCM's tag.
    pub tag: [u8; 16],
}

/// What it takes to decrypt a chunk, beside keys. The inner layer is what the plaintext is encrypted in first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkTag {
    /// Of the layer that is on disk.
    pub outer: LayerTag,
    /// Of the layer below it; `None` with one layer.
    pub inner: Option<LayerTag>,
}

/// An object's data key: one for each layer.
#[derive(Debug)]
pub enum DataKey {
    /// One layer: AES256 and aws:kms.
    Single(SecretKey),
    /// Two layers: aws:kms:dsse.
    Dual {
        /// Of the layer that is on disk.
        outer: SecretKey,
        /// Of the layer below it.
        inner: SecretKey,
    },
}

impl DataKey {
    /// The cipher suite that has as many layers.
    pub fn suite(&self) -> Suite {
        match self {
            Self::Single(_) => Suite::Aes256Gcm,
            Self::Dual { .. } => Suite::DualAes256Gcm,
        }
    }

    fn outer(&self) -> &SecretKey {
        match self {
            Self::Single(key) | Self::Dual { outer: key, .. } => key,
        }
    }

    /// What seal, sidecar and commitment are derived from: whoever has the key of one layer alone can forge none of
    /// them.
    fn whole(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self {
            Self::Single(key) => key.expose().to_vec(),
            Self::Dual { outer, inner } => [&outer.expose()[..], &inner.expose()[..]].concat(),
        })
    }
}

impl From<SecretKey> for DataKey {
    fn from(key: SecretKey) -> Self {
        Self::Single(key)
    }
}

/// What an object's keys are bound to, beside the data key.
#[derive(Debug, Clone, Copy)]
pub struct ObjectParameters {
    /// In the header of the object file, and the salt of every derived key.
    pub object_id: [u8; 16],
    /// Bytes.
    pub chunk_size: u32,
}

/// An object's data key with what is derived from it for the whole object: by HKDF-SHA-256 with salt = object id and
/// info = purpose, suite, chunk size, key epoch.
pub struct ObjectKeys {
    data_key: DataKey,
    parameters: ObjectParameters,
    seal: SecretKey,
    sidecar: SecretKey,
    commitment: [u8; 32],
}

impl ObjectKeys {
    /// `first_epoch` is the first key epoch that this data key serves.
    pub fn new(data_key: impl Into<DataKey>, parameters: ObjectParameters, first_epoch: u16) -> Self {
        let data_key = data_key.into();
        wiped(|| {
            let whole = data_key.whole();
            let derive = |purpose| derive(&whole, data_key.suite(), &parameters, first_epoch, purpose);
            let (seal, sidecar) = (derive("kmsfs seal"), derive("kmsfs sidecar"));
            let commitment = *derive("kmsfs commitment").expose();
            Self { data_key, parameters, seal, sidecar, commitment }
        })
    }

    /// The cipher suite of the data key.
    pub fn suite(&self) -> Suite {
        self.data_key.suite()
    }

    /// To be wrapped.
    pub fn data_key(&self) -> &DataKey {
        &self.data_key
    }

    /// Stored in the sidecar and compared before anything is decrypted: AES-GCM alone does not commit to its key.
    pub fn commitment(&self) -> &[u8; 32] {
        &self.commitment
    }

    /// The cipher of one key epoch. Deriving its keys costs some microseconds: a caller keeps it.
    pub fn chunk_cipher(&self, epoch: u16) -> ChunkCipher {
        let suite = self.data_key.suite();
        let derive = |key: &[u8], purpose| derive(key, suite, &self.parameters, epoch, purpose);
        let aad = ChunkAad::new(&self.parameters, suite, epoch);
        wiped(|| {
            let outer = Expanded::of_ring(&derive(self.data_key.outer().expose(), "kmsfs chunk"));
            let inner = match &self.data_key {
                DataKey::Single(_) => None,
                DataKey::Dual { inner, .. } => Some(Inner::new(&derive(inner.expose(), "kmsfs inner chunk"))),
            };
            let nonces = NonceKey::new(&derive(&self.data_key.whole(), "kmsfs nonce"));
            ChunkCipher { outer, inner, nonces, aad }
        })
    }

    /// HMAC-SHA-256 of the bytes of a header that the seal covers.
    pub fn mac_seal(&self, sealed: &[u8]) -> [u8; 32] {
        wiped(|| hmac(&self.seal, sealed).finalize().into_bytes().into())
    }

    /// Compares in constant time.
    ///
    /// # Errors
    ///
    /// [`Tampered`]: the seal is not of this data key or of these bytes.
    pub fn verify_seal(&self, sealed: &[u8], mac: &[u8; 32]) -> Result<(), Tampered> {
        wiped(|| hmac(&self.seal, sealed).verify_slice(mac)).map_err(|_| Tampered)
    }

    /// HMAC-SHA-256 of a sidecar record.
    pub fn mac_sidecar(&self, record: &[u8]) -> [u8; 32] {
        wiped(|| hmac(&self.sidecar, record).finalize().into_bytes().into())
    }

    /// Compares in constant time.
    ///
    /// # Errors
    ///
    /// [`Tampered`]: the record is not of this data key or of these bytes.
    pub fn verify_sidecar(&self, record: &[u8], mac: &[u8; 32]) -> Result<(), Tampered> {
        wiped(|| hmac(&self.sidecar, record).verify_slice(mac)).map_err(|_| Tampered)
    }
}

/// Encrypts and decrypts the chunks of one object in one key epoch. Many chunks of one request are best done within
/// [`wiped`], once for all.
pub struct ChunkCipher {
    outer: Expanded<LessSafeKey>,
    inner: Option<Inner>,
    nonces: NonceKey,
    aad: ChunkAad,
}

/// Encrypts the chunks of one request: the kernel is asked for random bytes once for all of them.
pub struct Sealing<'a> {
    cipher: &'a ChunkCipher,
    nonces: Nonces<'a>,
}

/// The inner layer. Its cipher is not ring's: a flaw in one implementation leaves the other layer standing.
struct Inner(Expanded<aes_gcm::Aes256Gcm>);

impl Inner {
    fn new(key: &SecretKey) -> Self {
        Self(Expanded::new(key, |key| aes_gcm::Aes256Gcm::new(key.into())))
    }

    fn seal(&self, nonces: &ChunkNonces<'_>, aad: &[u8], chunk: &mut [u8]) -> LayerTag {
        let nonce = nonces.layer(Layer::Inner);
        let tag = self.0.encrypt_inout_detached(&nonce.into(), aad, chunk.into());
        LayerTag { nonce, tag: tag.expect("a chunk is shorter than AES-GCM's bound").into() }
    }

    fn open(&self, aad: &[u8], tag: &LayerTag, chunk: &mut [u8]) -> Result<(), Tampered> {
        let opened = self.0.decrypt_inout_detached(&tag.nonce.into(), aad, chunk.into(), &tag.tag.into());
        opened.map_err(|_| Tampered)
    }
}

impl Sealing<'_> {
    /// Encrypts a chunk in place, each layer under a nonce of its own.
    pub fn seal(&self, index: u64, chunk: &mut [u8]) -> ChunkTag {
        wiped(|| self.seal_here(index, chunk))
    }

    fn seal_here(&self, index: u64, chunk: &mut [u8]) -> ChunkTag {
        let ChunkCipher { outer, inner, aad, .. } = self.cipher;
        let nonces = self.nonces.of(index, chunk);
        let aad = aad.at(index);
        let inner = inner.as_ref().map(|inner| inner.seal(&nonces, &aad, chunk));
        let nonce = nonces.layer(Layer::Outer);
        let tag = outer
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), chunk)
            .expect("a chunk is shorter than AES-GCM's bound");
        let tag = tag.as_ref().try_into().expect("a GCM tag has 16 bytes");
        ChunkTag { outer: LayerTag { nonce, tag }, inner }
    }
}

impl ChunkCipher {
    /// Begins a request: asks the kernel for random bytes, once for all of its chunks.
    pub fn sealing(&self) -> Sealing<'_> {
        wiped(|| Sealing { cipher: self, nonces: self.nonces.draw() })
    }

    /// Decrypts a chunk in place. On an error the buffer's content is unspecified and must not be used.
    pub fn open(&self, index: u64, tag: &ChunkTag, chunk: &mut [u8]) -> Result<(), Tampered> {
        wiped(|| self.open_here(index, tag, chunk))
    }

    fn open_here(&self, index: u64, tag: &ChunkTag, chunk: &mut [u8]) -> Result<(), Tampered> {
        let aad = self.aad.at(index);
        let ChunkTag { outer, inner } = tag;
        let nonce = Nonce::assume_unique_for_key(outer.nonce);
        self.outer
            .open_in_place_separate_tag(nonce, Aad::from(aad), Tag::from(outer.tag), chunk, 0..)
            .map_err(|_| Tampered)?;
        match (&self.inner, inner) {
            (None, None) => Ok(()),
            (Some(cipher), Some(tag)) => cipher.open(&aad, tag, chunk),
            _ => Err(Tampered),
        }
    }
}

/// The additional data of a chunk: format version, suite, object id, key epoch, chunk index.
struct ChunkAad([u8; 30]);

impl ChunkAad {
    const FORMAT_VERSION: u16 = 1;

    fn new(parameters: &ObjectParameters, suite: Suite, epoch: u16) -> Self {
        let mut aad = [0; 30];
        aad[0..2].copy_from_slice(&Self::FORMAT_VERSION.to_le_bytes());
        aad[2..4].copy_from_slice(&(suite as u16).to_le_bytes());
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

fn derive(data_key: &[u8], suite: Suite, parameters: &ObjectParameters, epoch: u16, purpose: &str) -> SecretKey {
    let suite = (suite as u16).to_le_bytes();
    let chunk_size = parameters.chunk_size.to_le_bytes();
    let info = [purpose.as_bytes(), &suite, &chunk_size, &epoch.to_le_bytes()];
    SecretKey::derived(Some(&parameters.object_id), data_key, &info)
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

    const PARAMETERS: ObjectParameters = ObjectParameters { object_id: [7; 16], chunk_size: 4096 };

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_box(Box::new([byte; 32]))
    }

    #[test]
    fn each_implementation_opens_the_others_chunks() {
        let chunk_key = derive(key(1).expose(), Suite::Aes256Gcm, &PARAMETERS, 3, "kmsfs chunk");
        let ours = ObjectKeys::new(key(1), PARAMETERS, 3).chunk_cipher(3);
        let theirs = aes_gcm::Aes256Gcm::new_from_slice(chunk_key.expose()).unwrap();
        let aad = ChunkAad::new(&PARAMETERS, Suite::Aes256Gcm, 3).at(9);
        let plain = vec![0x5a; 4096];

        let mut chunk = plain.clone();
        let tag = ours.sealing().seal(9, &mut chunk);
        let sealed = [&chunk[..], &tag.outer.tag].concat();
        let opened = theirs.decrypt(&tag.outer.nonce.into(), Payload { msg: &sealed, aad: &aad }).unwrap();
        assert_eq!(opened, plain);

        let sealed = theirs.encrypt(&[5; 12].into(), Payload { msg: &plain, aad: &aad }).unwrap();
        let tag = LayerTag { nonce: [5; 12], tag: sealed[4096..].try_into().unwrap() };
        let tag = ChunkTag { outer: tag, inner: None };
        let mut chunk = sealed[..4096].to_vec();
        ours.open(9, &tag, &mut chunk).unwrap();
        assert_eq!(chunk, plain);
    }

    #[test]
    fn a_chunk_opens_at_its_index_epoch_and_object_only() {
        let keys = ObjectKeys::new(key(1), PARAMETERS, 1);
        let mut sealed = vec![1, 2, 3];
        let tag = keys.chunk_cipher(1).sealing().seal(4, &mut sealed);
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

    fn dual() -> DataKey {
        DataKey::Dual { outer: key(1), inner: key(2) }
    }

    #[test]
    fn both_layers_have_to_be_what_was_sealed() {
        let cipher = ObjectKeys::new(dual(), PARAMETERS, 1).chunk_cipher(1);
        let mut sealed = vec![0x5a; 4096];
        let tag = cipher.sealing().seal(4, &mut sealed);
        let open = |index, tag: &ChunkTag| {
            let mut chunk = sealed.clone();
            cipher.open(index, tag, &mut chunk).map(|()| chunk)
        };
        assert_eq!(open(4, &tag), Ok(vec![0x5a; 4096]));
        assert_eq!(open(5, &tag), Err(Tampered));
        assert_eq!(open(4, &ChunkTag { inner: None, ..tag }), Err(Tampered));
        let inner = tag.inner.unwrap();
        assert_ne!(inner.nonce, tag.outer.nonce);
        assert_eq!(open(4, &ChunkTag { outer: inner, inner: Some(tag.outer) }), Err(Tampered));
        for bit in 0..12 * 8 {
            let flip = |mut layer: LayerTag| {
                layer.nonce[bit / 8] ^= 1 << (bit % 8);
                layer
            };
            assert_eq!(open(4, &ChunkTag { outer: flip(tag.outer), ..tag }), Err(Tampered));
            assert_eq!(open(4, &ChunkTag { inner: Some(flip(inner)), ..tag }), Err(Tampered));
        }
        for bit in 0..16 * 8 {
            let flip = |mut layer: LayerTag| {
                layer.tag[bit / 8] ^= 1 << (bit % 8);
                layer
            };
            assert_eq!(open(4, &ChunkTag { outer: flip(tag.outer), ..tag }), Err(Tampered));
            assert_eq!(open(4, &ChunkTag { inner: Some(flip(inner)), ..tag }), Err(Tampered));
        }
    }

    #[test]
    fn each_layer_is_aes_gcm_under_its_own_key_and_both_are_needed() {
        let suite = Suite::DualAes256Gcm;
        let mut chunk = vec![7; 100];
        let tag = ObjectKeys::new(dual(), PARAMETERS, 1).chunk_cipher(1).sealing().seal(9, &mut chunk);
        let aad = ChunkAad::new(&PARAMETERS, suite, 1).at(9);
        let open = |data_key, purpose, tag: &LayerTag, text: &[u8]| {
            let key = derive(key(data_key).expose(), suite, &PARAMETERS, 1, purpose);
            let cipher = aes_gcm::Aes256Gcm::new_from_slice(key.expose()).unwrap();
            let sealed = [text, &tag.tag].concat();
            cipher.decrypt(&tag.nonce.into(), Payload { msg: &sealed, aad: &aad }).ok()
        };
        let between = open(1, "kmsfs chunk", &tag.outer, &chunk).unwrap();
        assert_ne!(between, [7; 100]);
        assert_eq!(open(2, "kmsfs inner chunk", &tag.inner.unwrap(), &between), Some(vec![7; 100]));
        assert_eq!(open(1, "kmsfs inner chunk", &tag.inner.unwrap(), &between), None);
    }

    #[test]
    fn the_commitment_is_to_both_keys_in_their_order() {
        let commitment = |outer, inner| {
            *ObjectKeys::new(DataKey::Dual { outer: key(outer), inner: key(inner) }, PARAMETERS, 1).commitment()
        };
        let good = commitment(1, 2);
        for (outer, inner) in [(2, 1), (1, 1), (2, 2), (1, 3), (3, 2)] {
            assert_ne!(commitment(outer, inner), good);
        }
        assert_ne!(*ObjectKeys::new(key(1), PARAMETERS, 1).commitment(), good);
    }
}
