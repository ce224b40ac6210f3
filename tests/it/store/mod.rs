//! The store without FUSE: on a simulated disk, with a KMS that always answers.

mod crash;
mod descriptors;

mod dual;
mod group_commit;
mod holes;
mod lease;
mod name_syncs;
mod nonces;
mod objects;
mod rewrapping;
mod seen;
mod space;
mod tamper;
mod upgrade;

use kmsfs_kms::{Caller, EncryptionContext, Error};
use kmsfs_sse::{Algorithm, Encryption, KeyService};
use kmsfs_store::backend::{Backend, NewNode};
use kmsfs_store::prelude::*;
use kmsfs_store::{Dir, Object, Parameters, Store, StoreOptions};
use kmsfs_testing::disk::SimulatedDisk;
use kmsfs_testing::kms::{Moody, OneKey, arn};
use kmsfs_testing::mistakes::options;
use kmsfs_witness::{Rollback, Watch, Witness};
use parking_lot::Mutex;
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

pub const CALLER: Caller = Caller { uid: 0, gid: 0, pid: 1 };
pub const NODE: NewNode = NewNode { mode: 0o644, umask: 0, owner: None };
pub const BUCKET: &str = "bucket";

pub fn aes256() -> Encryption {
    Encryption { algorithm: Algorithm::Aes256, key_id: None, bucket_key: false, context: EncryptionContext::new() }
}

pub fn aws_kms(key_id: &str) -> Encryption {
    Encryption { algorithm: Algorithm::AwsKms, key_id: Some(key_id.into()), ..aes256() }
}

pub fn dsse(key_id: &str) -> Encryption {
    Encryption { algorithm: Algorithm::AwsKmsDsse, ..aws_kms(key_id) }
}

pub fn keys() -> Arc<KeyService> {
    let key = || Arc::new(OneKey::new());
    Arc::new(KeyService::new(key(), key()))
}

/// A disk with an empty store, and the keys that open it.
pub fn new_disk() -> (SimulatedDisk, Arc<KeyService>) {
    let keys = keys();
    (disk_for(&keys), keys)
}

/// A disk with an empty store that these keys open.
fn disk_for(keys: &KeyService) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let parameters = Parameters { store_id: [1; 16], account_id: "000000000000".into(), region: "us-east-1".into() };
    kmsfs_store::create(&disk, &parameters, keys.service()).unwrap();
    disk
}

pub fn open(disk: &SimulatedDisk, keys: &Arc<KeyService>) -> Arc<Store> {
    open_with(disk, keys, options())
}

pub fn open_with(disk: &SimulatedDisk, keys: &Arc<KeyService>, options: StoreOptions) -> Arc<Store> {
    let backend: Arc<dyn Backend> = Arc::new(disk.clone());
    Store::open(backend, keys.clone(), options).unwrap()
}

/// A witness that no crash touches.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Option<Vec<u8>>>);

impl Memory {
    pub fn of(record: Option<Vec<u8>>) -> Self {
        Self(Mutex::new(record))
    }

    pub fn record(&self) -> Option<Vec<u8>> {
        self.0.lock().clone()
    }
}

impl Witness for Memory {
    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.record())
    }

    fn write(&self, record: &[u8]) -> io::Result<()> {
        *self.0.lock() = Some(record.to_vec());
        Ok(())
    }
}

pub fn watched(witness: &Arc<Memory>) -> StoreOptions {
    let witness: Arc<dyn Witness> = witness.clone();
    StoreOptions { watch: Watch { witness: Some(witness), rollback: Rollback::Refuse }, ..options() }
}

/// The bucket of the tests, made if it is not there.
pub fn bucket(store: &Arc<Store>) -> Arc<Dir> {
    let name = OsStr::new(BUCKET);
    if let Ok(dir) = store.open_dir(store.root(), name) {
        return dir;
    }
    store.make_dir(store.root(), name, &NewNode { mode: 0o755, ..NODE }).unwrap();
    store.open_dir(store.root(), name).unwrap()
}

pub fn create(store: &Arc<Store>, dir: &Arc<Dir>, name: &str) -> Arc<Object> {
    store.create(dir, OsStr::new(name), &NODE, &aes256(), name, &CALLER).unwrap().0
}

pub fn open_object(store: &Arc<Store>, dir: &Arc<Dir>, name: &str) -> Arc<Object> {
    store.open_object(dir, OsStr::new(name), &CALLER).unwrap()
}

/// The object `o` committed, closed and opened again; with `anew` in its store, which is closed before.
pub fn reopened(
    store: Arc<Store>,
    dir: Arc<Dir>,
    object: Arc<Object>,
    anew: Option<impl FnOnce() -> Arc<Store>>,
) -> (Arc<Store>, Arc<Dir>, Arc<Object>) {
    object.commit().unwrap();
    store.release(&object);
    drop(object);
    let (store, dir) = match anew {
        None => (store, dir),
        Some(open) => {
            drop(dir);
            store.close().unwrap();
            drop(store);
            let store = open();
            let dir = bucket(&store);
            (store, dir)
        }
    };
    let object = open_object(&store, &dir, "o");
    (store, dir, object)
}

pub fn content(object: &Object) -> Vec<u8> {
    let size = object.attr().unwrap().size as usize;
    let mut bytes = vec![0; size + 10];
    let read = object.read(0, &mut bytes).unwrap();
    assert_eq!(read, size);
    bytes.truncate(read);
    bytes
}

/// Bytes that tell where they are and which write they came from.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    (0..len).map(|n| (seed.wrapping_mul(31).wrapping_add(n as u64 * 7 + n as u64 / 251) % 251) as u8 + 1).collect()
}
