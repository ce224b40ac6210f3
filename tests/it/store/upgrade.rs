//! Stores of earlier versions get a store key, whatever interrupts it, and cannot be put back afterwards.

mod values;

use super::{NODE, StoreOptions};
use kmsfs_kms::ServiceKey;
use kmsfs_kms_local::{LocalKms, Unlock};
use kmsfs_sse::KeyService;
use kmsfs_store::backend::{Access, Backend, Dir, NewNode};
use kmsfs_store::prelude::*;
use kmsfs_store::{self as store, Store};
use kmsfs_testing::disk::{CrashPoint, SimulatedDisk};
use parking_lot::Mutex;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");

/// Everything of a golden store but its keyring, which no simulated disk can hold.
fn copy(from: &Path, to: &dyn Dir) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, name) = (entry.file_type().unwrap(), entry.file_name());
        if kind.is_dir() && name != "keyring" {
            to.make_dir(&name, &NewNode { mode: 0o700, ..NODE }).unwrap();
            copy(&entry.path(), to.open_dir(&name).unwrap().as_ref());
        } else if kind.is_symlink() {
            to.make_symlink(&name, fs::read_link(entry.path()).unwrap().as_os_str().as_bytes(), &NODE).unwrap();
        } else if kind.is_file() {
            to.create_file(&name, &NODE).unwrap().write_at(&fs::read(entry.path()).unwrap(), 0).unwrap();
        }
    }
}

fn golden_disk(name: &str) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    copy(&Path::new(DATA).join(name), disk.root().unwrap().as_ref());
    disk.sync_all().unwrap();
    disk
}

/// A golden store's keyring, copied, as nobody has used it since.
struct Ring {
    kms: Arc<LocalKms>,
    _dir: tempfile::TempDir,
}

impl Ring {
    fn of(name: &str) -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let place = dir.path().join("keyring");
        fs::DirBuilder::new().mode(0o700).create(&place).unwrap();
        let put = |from: &Path, to: &Path| {
            fs::write(to, fs::read(from).unwrap()).unwrap();
            fs::set_permissions(to, fs::Permissions::from_mode(0o600)).unwrap();
        };
        for file in ["slots.json", "keyring"] {
            put(&Path::new(DATA).join(name).join("keyring").join(file), &place.join(file));
        }
        let key = dir.path().join("key");
        put(&Path::new(DATA).join("store-v1.key"), &key);
        let unlock = Unlock::KeyFile(kmsfs_crypto::key_file::read(&key).unwrap());
        Self { kms: LocalKms::open(&place, &unlock).unwrap(), _dir: dir }
    }

    fn open(&self, disk: &SimulatedDisk, read_only: bool) -> store::Result<Arc<Store>> {
        let keys = Arc::new(KeyService::new(self.kms.clone(), self.kms.clone()));
        Store::open(Arc::new(disk.clone()), keys, StoreOptions { read_only, ..StoreOptions::default() })
    }

    fn format(&self) -> u16 {
        ServiceKey::store_format(&*self.kms).unwrap()
    }
}

fn description(disk: &SimulatedDisk) -> serde_json::Value {
    let file = disk.root().unwrap().open_file(OsStr::new("store.json"), Access::Read).unwrap();
    let mut bytes = vec![0; file.metadata().unwrap().len as usize];
    file.read_at(&mut bytes, 0).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn put_back(disk: &SimulatedDisk, text: &[u8]) {
    let root = disk.root().unwrap();
    let file = root.open_file(OsStr::new("store.json"), Access::ReadWrite).unwrap();
    file.set_len(0).unwrap();
    file.write_at(text, 0).unwrap();
}

/// What golden stores have in `plain`.
fn expect_link(store: &Arc<Store>) {
    let dir = store.open_dir(store.root(), OsStr::new("plain")).unwrap();
    assert_eq!(store.read_link(&dir, OsStr::new("link")).unwrap(), b"../elsewhere");
}

#[test]
fn a_store_gets_its_key_at_the_first_opening_for_writing_and_keeps_it() {
    let (disk, ring) = (golden_disk("store-v1"), Ring::of("store-v1"));
    let before = description(&disk);
    expect_link(&ring.open(&disk, true).unwrap());
    assert_eq!(description(&disk), before, "reading changes nothing");
    assert_eq!(ring.format(), 0);
    let store = ring.open(&disk, false).unwrap();
    expect_link(&store);
    store.close().unwrap();
    let after = description(&disk);
    assert_eq!(after["format_version"], 4);
    for unchanged in ["store_id", "account_id", "region"] {
        assert_eq!(after[unchanged], before[unchanged]);
    }
    assert_eq!(ring.format(), 4);
    for read_only in [false, true] {
        let store = ring.open(&disk, read_only).unwrap();
        expect_link(&store);
        store.close().unwrap();
        assert_eq!(description(&disk), after, "there is one key");
    }
}

#[test]
fn features_stay_when_a_store_of_version_2_gets_its_key() {
    let (disk, ring) = (golden_disk("store-v2-dual"), Ring::of("store-v2-dual"));
    ring.open(&disk, false).unwrap().close().unwrap();
    let after = description(&disk);
    assert_eq!((&after["format_version"], &after["features"][0]), (&4.into(), &"dual-layer-encryption".into()));
    ring.open(&disk, false).unwrap().close().unwrap();
}

/// Raises a store, which takes more than `least` changes, and cuts the power at each: the next opening, with the
/// keyring `name` as it was then, finds what is expected and goes on to the present version.
fn cut_anywhere(name: &str, disk: &SimulatedDisk, ring: &Ring, least: usize, expect: impl Fn(&Arc<Store>)) {
    let points: Arc<Mutex<Vec<(CrashPoint, u16)>>> = Arc::default();
    let (seen, kms) = (points.clone(), ring.kms.clone());
    disk.watch(move |point| seen.lock().push((point.clone(), ServiceKey::store_format(&*kms).unwrap())));
    ring.open(disk, false).unwrap().close().unwrap();
    disk.unwatch();
    let points = std::mem::take(&mut *points.lock());
    assert!(points.len() > least, "{} changes", points.len());
    for (point, format) in &points {
        for cut in point.power_cuts(4, 1).chain([point.kill()]) {
            let again = Ring::of(name);
            ServiceKey::raise_store_format(&*again.kms, *format).unwrap();
            let store = again.open(&cut, false).unwrap_or_else(|error| panic!("{name}, format {format}: {error}"));
            expect(&store);
            store.close().unwrap();
            assert_eq!(description(&cut)["format_version"], 4);
            assert_eq!(again.format(), 4);
        }
    }
}

#[test]
fn a_power_cut_anywhere_in_the_upgrade_loses_nothing() {
    for name in ["store-v1", "store-v1-killed"] {
        cut_anywhere(name, &golden_disk(name), &Ring::of(name), 5, expect_link);
    }
}

#[test]
fn a_store_that_is_put_back_to_an_earlier_version_is_refused() {
    let (disk, ring) = (golden_disk("store-v1"), Ring::of("store-v1"));
    let old = serde_json::to_vec(&description(&disk)).unwrap();
    ring.open(&disk, false).unwrap().close().unwrap();
    let new = serde_json::to_vec(&description(&disk)).unwrap();
    for read_only in [false, true] {
        put_back(&disk, &old);
        let Err(store::Error::Unusable(why)) = ring.open(&disk, read_only) else { panic!("it opens") };
        assert!(why.contains("format version 1") && why.contains("raised to 4"), "{why}");
    }
    put_back(&disk, &new);
    ring.open(&disk, false).unwrap().close().unwrap();
}

#[test]
fn what_store_json_says_is_authenticated() {
    let (disk, ring) = (golden_disk("store-v2-dual"), Ring::of("store-v2-dual"));
    ring.open(&disk, false).unwrap().close().unwrap();
    let good = description(&disk);
    for (member, value) in
        [("features", serde_json::json!([])), ("account_id", "999999999999".into()), ("region", "eu-central-2".into())]
    {
        let mut changed = good.clone();
        assert_ne!(changed[member], value);
        changed[member] = value;
        put_back(&disk, &serde_json::to_vec(&changed).unwrap());
        let Err(store::Error::Unusable(why)) = ring.open(&disk, false) else { panic!("{member}: it opens") };
        assert!(why.contains("store.json is not what was written"), "{why}");
    }
}

#[test]
fn a_store_key_of_another_store_or_none_is_refused() {
    let (disk, ring) = (golden_disk("store-v1"), Ring::of("store-v1"));
    ring.open(&disk, false).unwrap().close().unwrap();
    let good = description(&disk);
    let (other, of_other) = (golden_disk("store-v2-dual"), Ring::of("store-v2-dual"));
    of_other.open(&other, false).unwrap().close().unwrap();
    let foreign = description(&other)["store_key"].clone();
    for (key, finding) in
        [(foreign, "the keyring does not open it"), ("".into(), "store key"), ("0q".into(), "store key")]
    {
        let mut changed = good.clone();
        changed["store_key"] = key;
        put_back(&disk, &serde_json::to_vec(&changed).unwrap());
        let Err(store::Error::Unusable(why)) = ring.open(&disk, false) else { panic!("it opens") };
        assert!(why.contains(finding), "{why}");
    }
}

/// The log's header: its version, and where a crash of version 1 would be said to begin.
fn log_header(disk: &SimulatedDisk) -> (u16, i64) {
    let root = disk.root().unwrap();
    let log = root.open_dir(OsStr::new("log")).unwrap().open_file(OsStr::new("redo"), Access::Read).unwrap();
    let mut sector = [0; 512];
    assert_eq!(log.read_at(&mut sector, 0).unwrap(), sector.len());
    (u16::from_le_bytes(sector[8..10].try_into().unwrap()), i64::from_le_bytes(sector[24..32].try_into().unwrap()))
}

/// Version 1 told by the clock what a crash caught before its first commit. It is believed once.
#[test]
fn what_a_crash_of_version_1_caught_before_its_first_commit_is_empty_and_no_clock_is_believed_later() {
    let (disk, ring) = (golden_disk("store-v1-killed"), Ring::of("store-v1-killed"));
    let (version, written) = log_header(&disk);
    assert_eq!(version, 1);
    let bucket = |disk: &SimulatedDisk| {
        let buckets = disk.root().unwrap().open_dir(OsStr::new("buckets")).unwrap();
        buckets.open_dir(OsStr::new("plain")).unwrap()
    };
    let make = |disk: &SimulatedDisk, name: &str, time: i64| {
        disk.set_clock(time);
        let file = bucket(disk).create_file(OsStr::new(name), &NODE).unwrap();
        file.write_at(&[0; 4096], 0).unwrap();
        disk.sync_all().unwrap();
    };
    let is_empty = |store: &Arc<Store>, name: &str| {
        let dir = store.open_dir(store.root(), OsStr::new("plain")).unwrap();
        store.was_never_committed(&dir, OsStr::new(name))
    };
    make(&disk, "before", written - 1_000_000);
    make(&disk, "caught", written + 1_000_000);
    disk.set_clock(written + 2_000_000);
    let store = ring.open(&disk, true).unwrap();
    assert!(is_empty(&store, "caught") && !is_empty(&store, "before"));
    store.close().unwrap();
    for _ in 0..2 {
        let store = ring.open(&disk, false).unwrap();
        assert!(is_empty(&store, "caught") && !is_empty(&store, "before"));
        expect_link(&store);
        store.close().unwrap();
        assert_eq!(log_header(&disk).0, 2);
        // Whoever writes the store later sets a time of then.
        make(&disk, "later", written + 1_000_000);
        let store = ring.open(&disk, true).unwrap();
        assert!(!is_empty(&store, "later"));
        store.close().unwrap();
        bucket(&disk).unlink(OsStr::new("later")).unwrap();
    }
}
