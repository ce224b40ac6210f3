//! Objects coming into being: made new, or read and verified from their files.

use crate::backend::{File, Metadata};
use crate::memory::Share;
use crate::mistakes::Mistake;
use crate::object::{Home, Homes, Keys, Logged, Object, Ranges, State, Tables, Unverified};
use crate::{Error, Result, Store};
use kmsfs_crypto::{DataKey, ObjectKeys, ObjectParameters};
use kmsfs_format::ObjectId;
use kmsfs_format::header::{ENTRIES_AT, Header, Seal};
use kmsfs_format::layout::{BLOCK, CHUNK, CipherLen, Geometry, PlainLen};
use kmsfs_format::sidecar::{EpochKey, Kind, Place, Record, Sidecar, units_for};
use kmsfs_kms::Caller;
use kmsfs_sse::WrappedDataKey;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Key epoch of a new object's data key.
const FIRST_EPOCH: u16 = 1;

/// A data key with everything a new object is made from.
pub struct NewObject<'a> {
    pub bucket: &'a str,
    pub path: Vec<u8>,
    pub data_key: DataKey,
    pub wrapped: WrappedDataKey,
}

impl Object {
    /// An empty object over an empty file: nothing is written before its first commit.
    pub(crate) fn new(store: &Arc<Store>, file: Arc<dyn File>, new: NewObject<'_>) -> Result<Self> {
        let ino = file.ino();
        let id = ObjectId::random();
        let suite = new.data_key.suite();
        store.allow(suite)?;
        let keys = ObjectKeys::new(new.data_key, parameters(id), FIRST_EPOCH);
        let key = EpochKey { first_epoch: FIRST_EPOCH, wrapped: new.wrapped, commitment: *keys.commitment() };
        let sidecar = Sidecar { bucket: new.bucket.into(), created: store.backend.now(), keys: vec![key] };
        let (record, units) = write_record(&sidecar, id, ino, &keys)?;
        let place = store.segments.take(units)?;
        let seal = Seal {
            sequence: 0,
            length: PlainLen(0),
            entries: [0; 32],
            top: [0; 32],
            epoch: FIRST_EPOCH,
            encryptions: 0,
            md5: None,
        };
        let state = State {
            home: Some(Home { file, patch: None }),
            id,
            suite,
            keys: Arc::new(Keys::new(vec![(FIRST_EPOCH, keys)])),
            sidecar,
            place,
            record,
            record_ino: ino,
            record_unwritten: false,
            length: PlainLen(0),
            tables: Tables::new(Geometry::of(suite), store.seeded),
            memory: Share::of(&store.memory),
            seeded: store.seeded,
            dirty: true,
            seal,
            running_md5: None,
            committed: false,
            cut: 0,
            relocated: false,
            trim: false,
            vacated: Ranges::default(),
            dropped: Vec::new(),
            durable_sequence: 0,
            sidecar_durable: false,
            homes: Homes::default(),
            logged: Logged::default(),
            mtime: None,
            changed_at: 0,
            path: new.path,
            unlinked: false,
            buried: false,
        };
        Ok(Self::with(store, ino, state, Vec::new()))
    }

    /// Verifies downwards: data key, sidecar, seal, tag entries, the tree's top. `unsynced`: it may never have been durable,
    /// so not all of it need be there.
    pub(crate) fn load(
        store: &Arc<Store>,
        found: Unverified<'_>,
        bucket: &str,
        path: Vec<u8>,
        caller: &Caller,
        unsynced: bool,
    ) -> Result<Self> {
        let Unverified { home, metadata, first, mut header, sidecar, record } = found;
        let show = String::from_utf8_lossy(&path).into_owned();
        let corrupt = |finding: &dyn std::fmt::Display| Error::corrupt(&show, finding);
        if sidecar.bucket != bucket {
            return Err(corrupt(&format_args!("it belongs to the bucket {}", sidecar.bucket)));
        }
        let keys = unwrap_keys(store, &sidecar, header.object_id, caller).map_err(|error| error.of(&show))?;
        let geometry = Geometry::of(header.suite);
        let authenticated = Record::authenticated(Kind::Sidecar, &header.object_id, &record.body);
        let key = keys.newest()?;
        if key.suite() != header.suite {
            return Err(corrupt(&"header and sidecar disagree about its layers of encryption"));
        }
        key.verify_sidecar(&authenticated, &record.mac).map_err(|why| corrupt(&format_args!("sidecar: {why}")))?;
        if !store.seeded.is(Mistake::SealOfAnyObject) {
            key.verify_seal(Header::sealed(first), &header.mac).map_err(|why| corrupt(&format_args!("seal: {why}")))?;
        }
        if store.seeded.is(Mistake::LengthFromFile) {
            header.seal.length = CipherLen(home.length_of(&metadata)).plain(geometry).unwrap_or(header.seal.length);
        }
        check_length(store, &home, &metadata, header.seal.length.cipher(geometry), unsynced)
            .map_err(|finding| corrupt(&finding))?;
        let entries = &first[ENTRIES_AT..BLOCK as usize];
        let tables = Tables::load(entries, geometry, header.seal.length, &header.seal, store.seeded);
        let tables = tables.map_err(|error| error.of(&show))?;
        // The last chunk of what was read ahead may be cut, and what lies beyond the first group is no chunk.
        let ahead = &first[BLOCK as usize..];
        let known = header.seal.length.0.min(geometry.header_chunks() * CHUNK).min(ahead.len() as u64);
        let ahead = ahead[..known as usize].to_vec();
        let state = State {
            home: Some(home),
            id: header.object_id,
            suite: header.suite,
            keys: Arc::new(keys),
            record_ino: record.inode,
            record_unwritten: false,
            record: record.write(header.sidecar.units),
            sidecar,
            place: header.sidecar,
            length: header.seal.length,
            tables,
            memory: Share::of(&store.memory),
            seeded: store.seeded,
            dirty: false,
            seal: header.seal,
            running_md5: None,
            committed: true,
            cut: header.seal.length.chunks(),
            relocated: false,
            trim: false,
            vacated: Ranges::default(),
            dropped: Vec::new(),
            durable_sequence: 0,
            sidecar_durable: false,
            homes: Homes::of_found(),
            logged: Logged::default(),
            mtime: None,
            changed_at: 0,
            path,
            unlinked: false,
            buried: false,
        };
        Ok(Self::with(store, metadata.ino, state, ahead))
    }

    fn with(store: &Arc<Store>, ino: u64, state: State, ahead: Vec<u8>) -> Self {
        Self {
            store: store.clone(),
            ino,
            handles: AtomicUsize::new(1),
            users: AtomicUsize::new(0),
            state: RwLock::new(state),
            ahead: Mutex::new(ahead),
            asked: crate::object::shown::Asked::default(),
            has_no_capability: Mutex::default(),
        }
    }
}

impl State {
    /// Where its sidecar is, if the record says that it is this inode's: not one that a copy shares with its original.
    pub(crate) fn own_record(&self, ino: u64) -> Option<Place> {
        (self.record_ino == ino).then_some(self.place)
    }

    /// The record names this inode again: the object is the only one with its id, and the file was copied or restored.
    pub(crate) fn adopt(&mut self, store: &Store, ino: u64) -> Result<()> {
        self.record_ino = ino;
        let sidecar = self.sidecar.clone();
        // It is as long as before.
        self.replace_record(store, ino, sidecar).map(|_| ())
    }

    /// Another wrapping of the newest data key. The record must fit where the old one is exactly, or it gets a new place,
    /// which the next commit writes into the header.
    pub(crate) fn rewrap(&mut self, store: &Store, ino: u64, wrapped: WrappedDataKey) -> Result<Option<Place>> {
        let mut sidecar = self.sidecar.clone();
        let newest = sidecar.keys.last_mut().expect("a sidecar has a key");
        newest.wrapped = wrapped;
        self.replace_record(store, ino, sidecar)
    }

    /// A new data key, for an object without content.
    pub(crate) fn rekey(
        &mut self,
        store: &Store,
        ino: u64,
        data_key: DataKey,
        wrapped: WrappedDataKey,
    ) -> Result<Option<Place>> {
        let first_epoch = self.seal.epoch.checked_add(1).ok_or(Error::Errno(libc::EFBIG))?;
        let keys = ObjectKeys::new(data_key, parameters(self.id), first_epoch);
        let key = EpochKey { first_epoch, wrapped, commitment: *keys.commitment() };
        let sidecar = Sidecar { keys: vec![key], ..self.sidecar.clone() };
        let before = std::mem::replace(&mut self.keys, Arc::new(Keys::new(vec![(first_epoch, keys)])));
        match self.replace_record(store, ino, sidecar) {
            Ok(place) => {
                self.seal.epoch = first_epoch;
                self.seal.encryptions = 0;
                self.dirty = true;
                Ok(place)
            }
            Err(error) => {
                self.keys = before;
                Err(error)
            }
        }
    }

    /// One more data key: what is encrypted from here on is under it.
    pub(crate) fn add_epoch(
        &mut self,
        store: &Store,
        ino: u64,
        data_key: DataKey,
        wrapped: WrappedDataKey,
    ) -> Result<Option<Place>> {
        let first_epoch = self.seal.epoch.checked_add(1).ok_or(Error::Errno(libc::EFBIG))?;
        let keys = ObjectKeys::new(data_key, parameters(self.id), first_epoch);
        let mut sidecar = self.sidecar.clone();
        sidecar.keys.push(EpochKey { first_epoch, wrapped, commitment: *keys.commitment() });
        let all = Arc::new(self.keys.and(first_epoch, keys));
        let before = std::mem::replace(&mut self.keys, all);
        let place = self.replace_record(store, ino, sidecar).inspect_err(|_| self.keys = before)?;
        self.seal.epoch = first_epoch;
        self.seal.encryptions = 0;
        self.dirty = true;
        Ok(place)
    }

    /// No chunk is under any data key but the newest.
    pub(crate) fn drop_old_keys(&mut self, store: &Store, ino: u64) -> Result<Option<Place>> {
        let newest = self.sidecar.newest().clone();
        let sidecar = Sidecar { keys: vec![newest], ..self.sidecar.clone() };
        let place = self.replace_record(store, ino, sidecar)?;
        self.keys = Arc::new(self.keys.without_old());
        Ok(place)
    }

    /// Answers the place that is no longer used, if the record has moved.
    fn replace_record(&mut self, store: &Store, ino: u64, sidecar: Sidecar) -> Result<Option<Place>> {
        let (record, needed) = write_record(&sidecar, self.id, self.record_ino, self.keys.newest()?)?;
        let mut moved = None;
        if needed != self.place.units {
            let place = store.segments.take(needed)?;
            moved = self.own_record(ino);
            self.place = place;
            self.dirty = true;
        }
        self.record = record;
        self.sidecar = sidecar;
        Ok(moved)
    }
}

fn parameters(id: ObjectId) -> ObjectParameters {
    ObjectParameters { object_id: id.0, chunk_size: CHUNK as u32 }
}

fn record(sidecar: &Sidecar, id: ObjectId, ino: u64, keys: &ObjectKeys) -> Record {
    let body = sidecar.encode();
    let mac = keys.mac_sidecar(&Record::authenticated(Kind::Sidecar, &id, &body));
    Record { kind: Kind::Sidecar, object_id: id, inode: ino, body, mac }
}

fn write_record(sidecar: &Sidecar, id: ObjectId, ino: u64, keys: &ObjectKeys) -> Result<(Vec<u8>, u16)> {
    let record = record(sidecar, id, ino, keys);
    let units = units_for(record.body.len()).ok_or(Error::Errno(libc::ENAMETOOLONG))?;
    Ok((record.write(units), units))
}

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

/// A shorter file than the seal says is damage. So is a longer one, unless a crash may have left it so.
fn check_length(
    store: &Store,
    home: &Home,
    metadata: &Metadata,
    sealed: CipherLen,
    unsynced: bool,
) -> std::result::Result<(), String> {
    let len = home.length_of(metadata);
    if CipherLen(len) < sealed && !unsynced {
        return Err(format!("the object file is shorter ({len} bytes) than its seal says ({})", sealed.0));
    }
    if CipherLen(len) > sealed {
        if !store.may_be_longer(metadata.ctime) {
            return Err(format!("the object file is longer ({len} bytes) than its seal says ({})", sealed.0));
        }
        if !store.read_only() {
            home.file.set_len(sealed.0).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}
