//! The keys of an object: its data keys, what its sidecar says of them, and which key epoch new chunks are in.

mod keys;

pub(crate) use keys::Keys;

use crate::{Error, Ino, Result, Store};
use kmsfs_crypto::{ChunkCipher, DataKey, ObjectKeys, ObjectParameters, Suite};
use kmsfs_format::ObjectId;
use kmsfs_format::header::{ENTRIES_AT, Header, Seal};
use kmsfs_format::layout::CHUNK;
use kmsfs_format::sidecar::{EpochKey, Kind, Place, Record, Sidecar, units_for};
use kmsfs_kms::Caller;
use kmsfs_sse::{Algorithm, WrappedDataKey};
use std::sync::Arc;

/// Key epoch of a new object's data key.
const FIRST_EPOCH: u16 = 1;

/// Encryptions under one key epoch: GCM's bound of 2^32 for random nonces, less what a crash may leave uncounted.
pub(crate) const ENCRYPTIONS: u64 = (1 << 32) - (1 << 24);

/// Keys, the sidecar's record that goes with them, and the present key epoch. A copy shares the keys.
#[derive(Clone)]
pub(crate) struct Keyed {
    id: ObjectId,
    suite: Suite,
    /// Without any, the object is locked.
    keys: Arc<Keys>,
    /// Key epoch of new chunks, and chunks encrypted in it so far.
    epoch: u16,
    encryptions: u64,
    sidecar: Sidecar,
    place: Place,
    /// The sidecar's record, as it is on disk or will be.
    record: Vec<u8>,
    /// The inode that the record names: another one if this file is a copy, or its store was restored.
    record_ino: Ino,
}

impl Keyed {
    /// Of a new object; its sidecar gets a place, and is written with the first commit.
    pub(in crate::object) fn new(
        store: &Store,
        ino: Ino,
        bucket: &str,
        data_key: DataKey,
        wrapped: WrappedDataKey,
    ) -> Result<Self> {
        let id = ObjectId::random();
        let suite = data_key.suite();
        store.allow(suite)?;
        let keys = ObjectKeys::new(data_key, parameters(id), FIRST_EPOCH);
        let key = EpochKey { first_epoch: FIRST_EPOCH, wrapped, commitment: *keys.commitment() };
        let sidecar = Sidecar { bucket: bucket.into(), created: store.backend.now().0, keys: vec![key] };
        let (record, units) = write_record(&sidecar, id, ino, &keys)?;
        let place = store.segments.take(units)?;
        let keys = Arc::new(Keys::new(vec![(FIRST_EPOCH, keys)]));
        let (epoch, encryptions) = (FIRST_EPOCH, 0);
        Ok(Self { id, suite, keys, epoch, encryptions, sidecar, place, record, record_ino: ino })
    }

    /// Of an object that was found, whose header and sidecar are verified.
    pub(in crate::object) fn found(header: &Header, keys: Keys, sidecar: Sidecar, record: &Record) -> Self {
        Self {
            id: header.object_id,
            suite: header.suite,
            keys: Arc::new(keys),
            epoch: header.seal.epoch,
            encryptions: header.seal.encryptions,
            sidecar,
            place: header.sidecar,
            record: record.write(header.sidecar.units),
            record_ino: Ino(record.inode),
        }
    }

    pub(crate) fn id(&self) -> ObjectId {
        self.id
    }

    pub(in crate::object) fn suite(&self) -> Suite {
        self.suite
    }

    pub(crate) fn sidecar(&self) -> &Sidecar {
        &self.sidecar
    }

    /// Where the sidecar's record is.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Where its sidecar is, if the record says that it is this inode's: not one that a copy shares with its original.
    pub(crate) fn own_record(&self, ino: Ino) -> Option<Place> {
        (self.record_ino == ino).then_some(self.place)
    }

    pub(in crate::object) fn record(&self) -> &[u8] {
        &self.record
    }

    /// Whether its content is under the store's own key, and no KMS key.
    pub(in crate::object) fn is_aes256(&self) -> bool {
        self.sidecar.newest().wrapped.algorithm == Algorithm::Aes256
    }

    /// `Error::Locked` without data keys.
    pub(in crate::object) fn are_there(&self) -> Result<()> {
        self.keys.are_there()
    }

    pub(in crate::object) fn is_locked(&self) -> bool {
        self.keys.are_there().is_err()
    }

    /// Zeroizes the data keys, once those who use them are done.
    pub(in crate::object) fn lock(&mut self) {
        self.keys = Arc::new(Keys::new(Vec::new()));
    }

    /// Takes the keys that a sidecar like this one led to, unless somebody else has brought them meanwhile, or even
    /// others.
    pub(in crate::object) fn unlock(&mut self, keys: Keys, sidecar: &Sidecar) {
        if self.is_locked() && self.sidecar.keys == sidecar.keys {
            self.keys = Arc::new(keys);
        }
    }

    /// The newest data key's: it authenticates seal and sidecar.
    pub(in crate::object) fn newest(&self) -> Result<&Arc<ObjectKeys>> {
        self.keys.newest()
    }

    /// First epoch of the newest data key.
    pub(in crate::object) fn newest_epoch(&self) -> Result<u16> {
        self.keys.newest_epoch()
    }

    /// Key epoch of new chunks.
    pub(in crate::object) fn epoch(&self) -> u16 {
        self.epoch
    }

    /// Chunks encrypted in that epoch so far.
    pub(in crate::object) fn encryptions(&self) -> u64 {
        self.encryptions
    }

    /// Of chunks of this epoch.
    pub(in crate::object) fn cipher(&self, epoch: u16) -> Result<Arc<ChunkCipher>> {
        self.keys.cipher(epoch)
    }

    /// Of new chunks.
    pub(in crate::object) fn present_cipher(&self) -> Result<Arc<ChunkCipher>> {
        self.keys.cipher(self.epoch)
    }

    /// Counts chunks that are about to be encrypted. Raises the key epoch where GCM's bound would be passed; `EFBIG`
    /// after the last one.
    pub(in crate::object) fn count_encryptions(&mut self, count: u64, limit: u64) -> Result<()> {
        if self.encryptions + count > limit {
            self.begin_epoch(self.next_epoch()?);
        }
        self.encryptions += count;
        Ok(())
    }

    fn next_epoch(&self) -> Result<u16> {
        self.epoch.checked_add(1).ok_or(Error::Errno(libc::EFBIG))
    }

    fn begin_epoch(&mut self, epoch: u16) {
        self.epoch = epoch;
        self.encryptions = 0;
    }

    /// The header block up to its tag entries, sealed.
    pub(in crate::object) fn seal(&self, seal: &Seal) -> Result<[u8; ENTRIES_AT]> {
        let key = self.keys.newest()?;
        Ok(Header::write(self.id, self.suite, seal, self.place, |sealed| key.mac_seal(sealed)))
    }

    /// The record names this inode again: the object is the only one with its id, and the file was copied or restored.
    pub(crate) fn adopt(&mut self, store: &Store, ino: Ino) -> Result<()> {
        self.record_ino = ino;
        let sidecar = self.sidecar.clone();
        // It is as long as before.
        self.replace_record(store, ino, sidecar).map(|_| ())
    }

    /// Another wrapping of the newest data key. The record must fit where the old one is exactly, or it gets a new
    /// place, which the next commit writes into the header. Returns the place that is no longer used, as the following
    /// do.
    pub(crate) fn rewrap(&mut self, store: &Store, ino: Ino, wrapped: WrappedDataKey) -> Result<Option<Place>> {
        let mut sidecar = self.sidecar.clone();
        let newest = sidecar.keys.last_mut().expect("a sidecar has a key");
        newest.wrapped = wrapped;
        self.replace_record(store, ino, sidecar)
    }

    /// A new data key, for an object without content; it may be of another suite.
    pub(in crate::object) fn rekey(
        &mut self,
        store: &Store,
        ino: Ino,
        (data_key, wrapped): (DataKey, WrappedDataKey),
    ) -> Result<Option<Place>> {
        let first_epoch = self.next_epoch()?;
        let suite = data_key.suite();
        let keys = ObjectKeys::new(data_key, parameters(self.id), first_epoch);
        let key = EpochKey { first_epoch, wrapped, commitment: *keys.commitment() };
        let sidecar = Sidecar { keys: vec![key], ..self.sidecar.clone() };
        let place = self.replace_keys(store, ino, Keys::new(vec![(first_epoch, keys)]), sidecar)?;
        self.suite = suite;
        self.begin_epoch(first_epoch);
        Ok(place)
    }

    /// One more data key: what is encrypted from here on is under it.
    pub(in crate::object) fn add_epoch(
        &mut self,
        store: &Store,
        ino: Ino,
        (data_key, wrapped): (DataKey, WrappedDataKey),
    ) -> Result<Option<Place>> {
        let first_epoch = self.next_epoch()?;
        let keys = ObjectKeys::new(data_key, parameters(self.id), first_epoch);
        let mut sidecar = self.sidecar.clone();
        sidecar.keys.push(EpochKey { first_epoch, wrapped, commitment: *keys.commitment() });
        let place = self.replace_keys(store, ino, self.keys.and(first_epoch, keys), sidecar)?;
        self.begin_epoch(first_epoch);
        Ok(place)
    }

    /// No chunk is under any data key but the newest.
    pub(in crate::object) fn drop_old_keys(&mut self, store: &Store, ino: Ino) -> Result<Option<Place>> {
        let newest = self.sidecar.newest().clone();
        let sidecar = Sidecar { keys: vec![newest], ..self.sidecar.clone() };
        self.replace_keys(store, ino, self.keys.without_old(), sidecar)
    }

    /// On an error the keys are what they were.
    fn replace_keys(&mut self, store: &Store, ino: Ino, keys: Keys, sidecar: Sidecar) -> Result<Option<Place>> {
        let before = std::mem::replace(&mut self.keys, Arc::new(keys));
        self.replace_record(store, ino, sidecar).inspect_err(|_| self.keys = before)
    }

    /// Returns the place that is no longer used, if the record has moved.
    fn replace_record(&mut self, store: &Store, ino: Ino, sidecar: Sidecar) -> Result<Option<Place>> {
        let (record, needed) = write_record(&sidecar, self.id, self.record_ino, self.keys.newest()?)?;
        let mut moved = None;
        if needed != self.place.units {
            let place = store.segments.take(needed)?;
            moved = self.own_record(ino);
            self.place = place;
        }
        self.record = record;
        self.sidecar = sidecar;
        Ok(moved)
    }
}

/// The data keys that a sidecar has, unwrapped on behalf of a caller.
pub(in crate::object) fn unwrap_keys(store: &Store, sidecar: &Sidecar, id: ObjectId, caller: &Caller) -> Result<Keys> {
    let mut keys = Vec::with_capacity(sidecar.keys.len());
    for key in &sidecar.keys {
        let data_key = store.keys.unwrap(&key.wrapped, caller)?;
        let object_keys = ObjectKeys::new(data_key, parameters(id), key.first_epoch);
        if *object_keys.commitment() != key.commitment {
            return Err(Error::Corrupt("the data key is not the one that the sidecar commits to".into()));
        }
        keys.push((key.first_epoch, object_keys));
    }
    if keys.iter().any(|(_, key)| Some(key.suite()) != keys.last().map(|(_, key)| key.suite())) {
        return Err(Error::Corrupt("the sidecar has data keys for one layer and for two".into()));
    }
    Ok(Keys::new(keys))
}

fn parameters(id: ObjectId) -> ObjectParameters {
    ObjectParameters { object_id: id.0, chunk_size: CHUNK as u32 }
}

/// The record, and how many units it takes.
fn write_record(sidecar: &Sidecar, id: ObjectId, ino: Ino, keys: &ObjectKeys) -> Result<(Vec<u8>, u16)> {
    let body = sidecar.encode();
    let mac = keys.mac_sidecar(&Record::authenticated(Kind::Sidecar, &id, &body));
    let record = Record { kind: Kind::Sidecar, object_id: id, inode: ino.0, body, mac };
    let units = units_for(record.body.len()).ok_or(Error::Errno(libc::ENAMETOOLONG))?;
    Ok((record.write(units), units))
}
