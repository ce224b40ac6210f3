//! A store with one object and one symlink, one of whose files is replaced by any bytes. Whatever they are: what is
//! read is what was written, or an error.

use crate::disk::{CrashPoint, SimulatedDisk};
use crate::kms::OneKey;
use kmsfs_kms::{Caller, EncryptionContext};
use kmsfs_sse::{Algorithm, Encryption, KeyService};
use kmsfs_store::backend::{Access, Backend, NewNode};
use kmsfs_store::check::{CheckOptions, check};
use kmsfs_store::prelude::*;
use kmsfs_store::{Dir, Parameters, Store, StoreOptions};
use std::ffi::OsStr;
use std::sync::{Arc, LazyLock};

pub(crate) const CALLER: Caller = Caller { uid: 0, gid: 0, pid: 1 };
pub(crate) const NODE: NewNode = NewNode { mode: 0o644, umask: 0, owner: None };
const TARGET: &[u8] = b"where it leads";

/// The keys of every store here.
pub(crate) static KEYS: LazyLock<Arc<KeyService>> = LazyLock::new(|| {
    let key = || Arc::new(OneKey::new());
    Arc::new(KeyService::new(key(), key()))
});

pub(crate) fn encryption() -> Encryption {
    Encryption {
        algorithm: Algorithm::AwsKms,
        key_id: Some("key".into()),
        bucket_key: false,
        context: EncryptionContext::new(),
    }
}

/// Two layers.
pub(crate) fn dual() -> Encryption {
    Encryption { algorithm: Algorithm::AwsKmsDsse, ..encryption() }
}

/// An empty store with a bucket.
pub(crate) fn new_disk() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let parameters = Parameters { store_id: [1; 16], account_id: "000000000000".into(), region: "us-east-1".into() };
    kmsfs_store::create(&disk, &parameters, KEYS.service()).expect("an empty disk takes a store");
    let store = open(&disk).expect("it opens");
    store.make_dir(store.root(), OsStr::new("bucket"), &NewNode { mode: 0o755, ..NODE }).expect("it has no bucket");
    store.close().expect("it closes");
    disk
}

pub(crate) fn open(disk: &SimulatedDisk) -> Option<Arc<Store>> {
    let backend: Arc<dyn Backend> = Arc::new(disk.clone());
    Store::open(backend, KEYS.clone(), StoreOptions::default()).ok()
}

pub(crate) fn bucket(store: &Store) -> Option<Arc<Dir>> {
    store.open_dir(store.root(), OsStr::new("bucket")).ok()
}

/// What the object holds: the first table page is in use, and not every chunk.
fn content() -> Vec<u8> {
    let mut content: Vec<u8> = (0..280_000_u32).map(|n| (n % 251) as u8).collect();
    content[20_480..40_960].fill(0);
    content
}

/// Killed with something in the log, or closed.
struct Victims {
    closed: CrashPoint,
    killed: CrashPoint,
}

static VICTIMS: LazyLock<Victims> = LazyLock::new(|| {
    let disk = new_disk();
    let store = open(&disk).expect("it opens");
    let dir = bucket(&store).expect("it has a bucket");
    let name = OsStr::new("object");
    let (object, _) = store.create(&dir, name, &NODE, &encryption(), "object", &CALLER).expect("the name is free");
    let content = content();
    let write = |at: usize, end: usize| object.write(at as u64, &content[at..end]).expect("the disk has room");
    write(0, 20_480);
    write(40_960, 280_000);
    store.make_symlink(&dir, OsStr::new("link"), TARGET, &NODE).expect("the name is free");
    object.fsync().expect("the disk works");
    write(8192, 12_288);
    object.fsync().expect("the disk works");
    let killed = disk.crash_point();
    store.release(&object);
    store.close().expect("it closes");
    Victims { closed: disk.crash_point(), killed }
});

/// A file of the store, by its path in it, is replaced.
pub(crate) fn open_with(path: &str, bytes: &[u8]) {
    let disk = VICTIMS.closed.kill();
    replace(&disk, path, bytes);
    look(&disk);
}

/// The log keeps its header, so that records are looked at.
pub(crate) fn open_with_log(bytes: &[u8]) {
    let disk = VICTIMS.killed.kill();
    let log = file(&disk, "log/redo");
    log.write_at(bytes, 4096).expect("the disk has room");
    drop(log);
    look(&disk);
}

pub(crate) fn open_with_symlink(bytes: &[u8]) {
    let disk = VICTIMS.closed.kill();
    let root = disk.root().expect("a disk has a root");
    let dir = root.open_dir(OsStr::new("buckets")).and_then(|dir| dir.open_dir(OsStr::new("bucket")));
    let dir = dir.expect("the store has a bucket");
    dir.unlink(OsStr::new("link")).expect("it is there");
    // A backing symlink has no NUL in it, and is not empty.
    if dir.make_symlink(OsStr::new("link"), bytes, &NODE).is_ok() {
        look(&disk);
    }
}

fn replace(disk: &SimulatedDisk, path: &str, bytes: &[u8]) {
    let file = file(disk, path);
    file.set_len(0).expect("a file can be cut");
    file.write_at(bytes, 0).expect("the disk has room");
}

fn file(disk: &SimulatedDisk, path: &str) -> Arc<dyn kmsfs_store::backend::File> {
    let root = disk.root().expect("a disk has a root");
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let dir = above
        .split('/')
        .filter(|name| !name.is_empty())
        .fold(root, |dir, name| dir.open_dir(OsStr::new(name)).expect("the store has it"));
    match dir.open_file(OsStr::new(name), Access::ReadWrite) {
        Ok(file) => file,
        Err(_) => dir.create_file(OsStr::new(name), &NODE).expect("it is not there"),
    }
}

/// Everything that the store returns is what was written, or an error; and a check and a repair come to an end.
fn look(disk: &SimulatedDisk) {
    let Some(store) = open(disk) else { return };
    if let Some(dir) = bucket(&store) {
        let _ = store.stat(kmsfs_store::Target::Name(&dir, OsStr::new("object")));
        if let Ok(object) = store.open_object(&dir, OsStr::new("object"), &CALLER) {
            let content = content();
            for (n, expected) in content.chunks(4096).enumerate() {
                let mut bytes = [0; 4096];
                if let Ok(read) = object.read(n as u64 * 4096, &mut bytes) {
                    assert!(bytes[..read] == expected[..read.min(expected.len())], "chunk {n} reads as other bytes");
                }
            }
            store.release(&object);
        }
        if let Ok(target) = store.read_link(&dir, OsStr::new("link")) {
            assert_eq!(target, TARGET);
        }
    }
    let repair = !store.read_only();
    let _ = check(&store, CheckOptions { scrub: true, repair }, &CALLER, &mut |_| true);
    let _ = store.close();
}
