//! The file system without FUSE over a KMS that can deny a user, and with a kernel's cache that is played by the test.

use crate::store::NODE;
use kmsfs_fs::{Creation, Fs, FsOptions, HandleId, Ino, Observer, Refusal, Stale, Writer};
use kmsfs_kms::{self as kms, Caller, Code, Kms, Operation, ServiceKey, Timely};
use kmsfs_sse::KeyService;
use kmsfs_store::backend::Backend;
use kmsfs_store::prelude::*;
use kmsfs_store::{Parameters, Store, StoreOptions};
use kmsfs_testing::disk::SimulatedDisk;
use kmsfs_testing::kms::Moody;
use parking_lot::Mutex;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

pub const ANN: Caller = Caller { uid: 1000, gid: 1000, pid: 10 };
pub const BOB: Caller = Caller { uid: 2000, gid: 2000, pid: 20 };
const CONFIGURATION: &[u8] =
    br#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"aws:kms"},"BucketKeyEnabled":BUCKET_KEY}]}"#;

pub struct MoodyFs {
    pub kms: Arc<Moody>,
    /// Of the service's own key.
    pub service: Arc<Moody>,
    keys: Arc<KeyService>,
    pub fs: Arc<Fs>,
    store: Weak<Store>,
    pub bucket: Ino,
}

impl MoodyFs {
    pub fn new(bucket_key: bool) -> Self {
        Self::over(Arc::new(SimulatedDisk::new()), bucket_key)
    }

    pub fn over(disk: Arc<dyn Backend>, bucket_key: bool) -> Self {
        Self::asking(disk, bucket_key, |kms, service| KeyService::new(kms.clone(), service.clone()))
    }

    /// As `over`, and nobody waits longer for the KMS than that.
    pub fn in_time(disk: &SimulatedDisk, bucket_key: bool, limit: Duration) -> Self {
        Self::asking(Arc::new(disk.clone()), bucket_key, |kms, service| {
            let timely = Timely::new(kms.clone() as Arc<dyn Kms>, limit, 8);
            KeyService::new(Arc::new(timely), service.clone()).waiting_at_most(limit)
        })
    }

    /// `keys` is asked for data keys of the two KMSs.
    fn asking(
        disk: Arc<dyn Backend>,
        bucket_key: bool,
        keys: impl FnOnce(&Arc<Moody>, &Arc<Moody>) -> KeyService,
    ) -> Self {
        let (kms, service) = (Moody::new(), Moody::new());
        let parameters =
            Parameters { store_id: [1; 16], account_id: "000000000000".into(), region: "us-east-1".into() };
        kmsfs_store::create(&*disk, &parameters, &*service as &dyn ServiceKey).unwrap();
        let keys = Arc::new(keys(&kms, &service));
        let (store, fs) = open(disk, &keys);
        let bucket = fs.mkdir(fs.root(), OsStr::new("bucket"), &creation(0o755, &ANN)).unwrap().ino();
        let configuration = String::from_utf8_lossy(CONFIGURATION).replace("BUCKET_KEY", &bucket_key.to_string());
        let moody = Self { kms, service, keys, fs, store, bucket };
        // One that others' files follow is put by root or the directory's owner.
        let (_, handle) = moody.create(".encryption.json", &Caller { uid: 0, gid: 0, ..ANN });
        moody.fs.write(handle, 0, configuration.as_bytes(), Writer::Privileged).unwrap();
        moody.fs.flush(handle).unwrap();
        moody.fs.release(handle);
        moody
    }

    /// The same KMS over a store that it has made.
    pub fn again(&self, disk: Arc<dyn Backend>) -> Self {
        let (store, fs) = open(disk, &self.keys);
        let bucket = fs.lookup(fs.root(), OsStr::new("bucket")).unwrap().ino();
        Self { kms: self.kms.clone(), service: self.service.clone(), keys: self.keys.clone(), fs, store, bucket }
    }

    fn create(&self, name: &str, caller: &Caller) -> (Ino, HandleId) {
        let (entry, handle) = self.fs.create(self.bucket, OsStr::new(name), &creation(0o666, caller)).unwrap();
        (entry.ino(), handle)
    }

    /// A closed object with that content.
    pub fn make(&self, name: &str, content: &[u8]) -> Ino {
        let (ino, handle) = self.create(name, &ANN);
        self.fs.write(handle, 0, content, Writer::Privileged).unwrap();
        self.fs.flush(handle).unwrap();
        self.fs.release(handle);
        ino
    }

    pub fn open(&self, ino: Ino, caller: &Caller) -> HandleId {
        self.fs.open(ino, false, true, caller).unwrap()
    }

    pub fn read(&self, handle: HandleId) -> Result<Vec<u8>, i32> {
        let mut bytes = vec![0; 100];
        let read = self.fs.read(handle, 0, &mut bytes).map_err(|refusal| kmsfs_fuse::errno(&refusal))?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// What both threads do.
    pub fn notice(&self) {
        self.fs.watch_keys();
        self.fs.drain_revoked();
    }

    /// The object in memory. It has a handle, so that a second one for a moment changes nothing.
    pub fn is_locked(&self, name: &str) -> bool {
        let store = self.store.upgrade().unwrap();
        let dir = store.open_dir(store.root(), OsStr::new("bucket")).unwrap();
        store.known(&dir, OsStr::new(name)).expect("it is in memory").is_locked()
    }
}

fn open(disk: Arc<dyn Backend>, keys: &Arc<KeyService>) -> (Weak<Store>, Arc<Fs>) {
    let store = Store::open(disk, keys.clone(), StoreOptions::default()).unwrap();
    let options = FsOptions { read_only: false, keep_owners: false, noatime: false, open_dirs: 16, most_inodes: None };
    (Arc::downgrade(&store), Fs::new(store, options))
}

pub fn creation(mode: u32, caller: &Caller) -> Creation {
    Creation { mode: NODE.mode | mode, umask: 0, caller: *caller }
}

fn errno<T: std::fmt::Debug>(done: Result<T, Refusal>) -> i32 {
    kmsfs_fuse::errno(&done.unwrap_err())
}

#[test]
fn only_the_handles_of_the_user_who_is_denied_fail() {
    for bucket_key in [false, true] {
        let moody = MoodyFs::new(bucket_key);
        let ino = moody.make("object", b"content");
        let other = moody.make("other", b"other");
        let (ann, bob) = (moody.open(ino, &ANN), moody.open(ino, &BOB));
        let source = moody.open(other, &BOB);
        moody.kms.deny(&ANN);
        moody.notice();
        let fs = &moody.fs;
        assert_eq!(moody.read(ann), Err(libc::EACCES));
        assert_eq!(errno(fs.write(ann, 0, b"x", Writer::Privileged)), libc::EACCES);
        assert_eq!(errno(fs.truncate(ino, Some(ann), 0, &ANN)), libc::EACCES);
        assert_eq!(errno(fs.truncate(ino, None, 0, &ANN)), libc::EACCES);
        let range = kmsfs_fs::Range { offset: 0, len: 10 };
        assert_eq!(errno(fs.fallocate(ann, range, 0, &ANN)), libc::EACCES);
        assert_eq!(errno(fs.seek(ann, 0, kmsfs_store::SeekTo::Data)), libc::EACCES);
        assert_eq!(errno(fs.copy(source, 0, ann, 0, 5, &BOB)), libc::EACCES);
        assert_eq!(errno(fs.copy(ann, 0, source, 0, 5, &BOB)), libc::EACCES);
        assert_eq!(errno(fs.check_handle(ann)), libc::EACCES);
        for (inode, write) in [(ino, false), (ino, true), (other, false)] {
            assert_eq!(errno(fs.open(inode, false, write, &ANN)), libc::EACCES, "{inode} {write}");
        }
        assert_eq!(errno(fs.create(moody.bucket, OsStr::new("new"), &creation(0, &ANN))), libc::EACCES);
        assert_eq!(errno(fs.create(moody.bucket, OsStr::new("new"), &creation(0, &ANN))), libc::EACCES);
        // What is committed already needs nothing.
        fs.flush(ann).unwrap();
        fs.fsync(ann).unwrap();
        assert_eq!(fs.getattr(ino).unwrap().size, 7);
        assert!(fs.is_revoked(ino) && !fs.is_revoked(other));
        // Bob goes on, also for what the kernel names Ann's handle for.
        assert_eq!(moody.read(bob), Ok(b"content".to_vec()));
        fs.write(bob, 0, b"C", Writer::Privileged).unwrap();
        fs.write_back(ann, 1, b"O").unwrap();
        assert_eq!(moody.read(moody.open(ino, &BOB)), Ok(b"COntent".to_vec()));
        assert!(!moody.is_locked("object"));
        moody.kms.allow_all();
        moody.notice();
        assert!(!fs.is_revoked(ino));
        assert_eq!(moody.read(ann), Ok(b"COntent".to_vec()));
        fs.write(ann, 0, b"c", Writer::Privileged).unwrap();
        assert_eq!(moody.read(bob), Ok(b"cOntent".to_vec()));
    }
}

/// A kernel with dirty pages: writes them back when it is told to drop them, and says what it was told.
struct Kernel {
    fs: Weak<Fs>,
    dirty: Mutex<Vec<(HandleId, u64, &'static [u8])>>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Observer for Kernel {
    fn is_stale(&self, _what: Stale) {}

    fn forget_attributes(&self, ino: Ino) {
        self.told.lock().push(format!("attributes {ino}"));
    }

    fn ask_attributes(&self, path: &Path) {
        self.told.lock().push(format!("attributes of {}", path.display()));
    }

    fn drop_pages(&self, ino: Ino) {
        let fs = self.fs.upgrade().unwrap();
        for (handle, offset, data) in self.dirty.lock().drain(..) {
            // By now nothing new is accepted, and that has to be.
            assert_eq!(errno(fs.write(handle, offset, data, Writer::Privileged)), libc::EACCES);
            fs.write_back(handle, offset, data).unwrap();
        }
        self.told.lock().push(format!("pages {ino}"));
    }
}

#[test]
fn dirty_pages_are_written_back_and_durable_before_the_keys_go() {
    let simulated = SimulatedDisk::new();
    let moody = MoodyFs::over(Arc::new(simulated.clone()), false);
    let ino = moody.make("object", b"content");
    let handle = moody.open(ino, &ANN);
    let told = Arc::new(Mutex::new(Vec::new()));
    let dirty = Mutex::new(vec![(handle, 0, &b"DIRTY"[..]), (handle, 7, b"!")]);
    moody.fs.observe(Box::new(Kernel { fs: Arc::downgrade(&moody.fs), dirty, told: told.clone() }));
    moody.kms.deny(&ANN);
    moody.fs.watch_keys();
    assert_eq!(moody.read(handle), Err(libc::EACCES), "at once");
    assert!(!moody.is_locked("object"), "what is dirty needs the key");
    assert!(moody.fs.drain_revoked());
    assert!(moody.is_locked("object"));
    let pages = format!("pages {ino}");
    let expected = [&format!("attributes {ino}"), "attributes of bucket/object", &pages, &pages];
    assert_eq!(*told.lock(), expected);
    assert_eq!(errno(moody.fs.write_back(handle, 0, b"late")), libc::EACCES);
    // The power goes: what was written back is there.
    moody.kms.allow_all();
    for disk in simulated.crash_point().power_cuts(8, 1) {
        let (_, fs) = open(Arc::new(disk), &moody.keys);
        let bucket = fs.lookup(fs.root(), OsStr::new("bucket")).unwrap().ino();
        let found = fs.lookup(bucket, OsStr::new("object")).unwrap().ino();
        let again = fs.open(found, false, false, &ANN).unwrap();
        let mut bytes = [0; 20];
        let read = fs.read(again, 0, &mut bytes).unwrap();
        assert_eq!(&bytes[..read], b"DIRTYnt!");
    }
    moody.notice();
    assert!(moody.is_locked("object"), "until somebody uses it");
    assert_eq!(moody.read(handle), Ok(b"DIRTYnt!".to_vec()));
    assert!(!moody.is_locked("object"));
    moody.fs.write(handle, 0, b"dirty", Writer::Privileged).unwrap();
    moody.fs.fsync(handle).unwrap();
}

#[test]
fn a_handle_that_comes_while_everything_is_judged_is_judged_too() {
    let moody = MoodyFs::new(false);
    let ino = moody.make("object", b"content");
    let (kms, fs) = (moody.kms.clone(), Arc::downgrade(&moody.fs));
    // Ann is denied right after she was answered, and everybody else is judged before she has her handle.
    moody.kms.after_decrypt(move || {
        kms.deny(&ANN);
        fs.upgrade().unwrap().watch_keys();
    });
    let handle = moody.open(ino, &ANN);
    assert_eq!(moody.read(handle), Err(libc::EACCES));
    assert!(moody.fs.drain_revoked());
    assert!(moody.is_locked("object"));
}

#[test]
fn an_outage_refuses_nobody_who_was_allowed() {
    let moody = MoodyFs::new(false);
    let ino = moody.make("object", b"content");
    let (ann, bob) = (moody.open(ino, &ANN), moody.open(ino, &BOB));
    moody.kms.deny(&ANN);
    moody.notice();
    moody.kms.fail(Some(kms::Error::new(Code::KmsInternal, "out of order")));
    moody.kms.change();
    moody.notice();
    assert_eq!(moody.read(bob), Ok(b"content".to_vec()));
    assert_eq!(moody.read(ann), Err(libc::EACCES), "nor does it allow anybody who was denied");
    assert_eq!(errno(moody.fs.open(ino, false, false, &BOB)), libc::EIO);
    moody.kms.fail(None);
    moody.kms.change();
    moody.notice();
    assert_eq!(moody.read(ann), Err(libc::EACCES), "she is still denied");
}

#[test]
fn whoever_made_an_object_goes_on_without_decrypt() {
    let moody = MoodyFs::new(false);
    let (_, handle) = moody.create("object", &ANN);
    moody.kms.deny_operation(Operation::Decrypt, &ANN);
    moody.notice();
    moody.fs.write(handle, 0, b"log line", Writer::Privileged).unwrap();
    moody.fs.flush(handle).unwrap();
    moody.kms.deny(&ANN);
    moody.notice();
    assert_eq!(errno(moody.fs.write(handle, 0, b"x", Writer::Privileged)), libc::EACCES);
    moody.kms.allow_operation(Operation::GenerateDataKey, &ANN);
    moody.notice();
    assert_eq!(
        errno(moody.fs.write(handle, 0, b"x", Writer::Privileged)),
        libc::EACCES,
        "the data key has to be decrypted now"
    );
}

#[test]
fn closed_objects_keep_no_keys_over_a_change_and_answer_nobody_who_is_denied() {
    let moody = MoodyFs::new(true);
    let ino = moody.make("object", b"content");
    moody.fs.store().checkpoint().unwrap();
    assert!(!moody.is_locked("object"), "kept for the next open");
    moody.kms.deny(&ANN);
    moody.notice();
    assert!(moody.is_locked("object"));
    assert_eq!(errno(moody.fs.open(ino, false, false, &ANN)), libc::EACCES);
    assert!(moody.is_locked("object"));
    assert_eq!(moody.read(moody.open(ino, &BOB)), Ok(b"content".to_vec()));
}

#[test]
fn keys_go_with_the_last_handle_that_may_use_them() {
    let moody = MoodyFs::new(false);
    let ino = moody.make("object", b"content");
    let (ann, bob) = (moody.open(ino, &ANN), moody.open(ino, &BOB));
    moody.kms.deny(&ANN);
    moody.notice();
    assert!(!moody.is_locked("object"));
    moody.fs.release(bob);
    moody.fs.drain_revoked();
    assert!(moody.is_locked("object"));
    moody.fs.release(ann);
    assert!(!moody.fs.is_revoked(ino));
}

#[test]
fn keys_go_also_if_a_refused_program_closes_its_file_before() {
    let moody = MoodyFs::new(false);
    let handle = moody.open(moody.make("object", b"content"), &ANN);
    moody.kms.deny(&ANN);
    moody.fs.watch_keys();
    moody.fs.release(handle);
    assert!(!moody.is_locked("object"), "what is dirty needs the key");
    assert!(moody.fs.drain_revoked());
    assert!(moody.is_locked("object"));
}

#[test]
fn keys_of_closed_objects_go_also_where_permission_ends_by_itself() {
    let moody = MoodyFs::new(false);
    moody.make("object", b"content");
    assert!(!moody.is_locked("object"));
    // Nothing has changed, and the first look is always due.
    moody.fs.watch_keys();
    assert!(moody.is_locked("object"));
}

#[test]
fn a_key_that_comes_once_its_handle_is_refused_goes_again() {
    let moody = MoodyFs::new(false);
    let handle = moody.open(moody.make("object", b"content"), &ANN);
    moody.kms.deny(&ANN);
    moody.notice();
    moody.kms.allow_all();
    moody.notice();
    assert!(moody.is_locked("object"), "until somebody uses it");
    let (kms, fs) = (moody.kms.clone(), Arc::downgrade(&moody.fs));
    moody.kms.after_decrypt(move || {
        kms.deny(&ANN);
        fs.upgrade().unwrap().watch_keys();
        fs.upgrade().unwrap().drain_revoked();
    });
    assert_eq!(moody.read(handle), Err(libc::EACCES));
    assert!(moody.fs.drain_revoked());
    assert!(moody.is_locked("object"));
}

#[test]
fn a_key_that_an_attribute_needed_while_it_was_taken_away_goes_too() {
    let moody = MoodyFs::new(false);
    let ino = moody.make("object", b"content");
    moody.fs.store().checkpoint().unwrap();
    let (kms, fs) = (moody.kms.clone(), Arc::downgrade(&moody.fs));
    moody.kms.after_decrypt(move || {
        kms.deny(&ANN);
        fs.upgrade().unwrap().watch_keys();
    });
    assert_eq!(moody.fs.get_xattr(ino, OsStr::new("user.etag"), &ANN).unwrap().len(), 32);
    moody.fs.drain_revoked();
    assert!(moody.is_locked("object"));
}

#[test]
fn pages_of_closed_files_are_dropped_too() {
    let moody = MoodyFs::new(true);
    let (of_ann, of_bob) = (moody.make("ann's", b"content"), moody.make("bob's", b"content"));
    moody.fs.release(moody.open(of_bob, &BOB));
    let told = Arc::new(Mutex::new(Vec::new()));
    let dirty = Mutex::default();
    moody.fs.observe(Box::new(Kernel { fs: Arc::downgrade(&moody.fs), dirty, told: told.clone() }));
    moody.kms.deny(&ANN);
    moody.notice();
    moody.fs.drop_closed();
    assert!(told.lock().is_empty(), "the key serves somebody still");
    moody.kms.deny(&BOB);
    moody.notice();
    moody.fs.drop_closed();
    let mut dropped = std::mem::take(&mut *told.lock());
    dropped.sort();
    let mut expected = [of_ann, of_bob].map(|ino| format!("pages {ino}"));
    expected.sort();
    assert_eq!(dropped, expected, "once, and not the configuration, which no KMS key protects");
    moody.kms.deny(&BOB);
    moody.notice();
    moody.fs.drop_closed();
    assert!(told.lock().is_empty(), "they have been dropped");
}

/// Does something once while pages are dropped.
struct Meanwhile(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Observer for Meanwhile {
    fn is_stale(&self, _what: Stale) {}

    fn forget_attributes(&self, _ino: Ino) {}

    fn ask_attributes(&self, _path: &Path) {}

    fn drop_pages(&self, _ino: Ino) {
        if let Some(act) = self.0.lock().take() {
            act();
        }
    }
}

#[test]
fn who_is_refused_anew_while_a_refusal_ends_has_the_same_time_to_write_back() {
    let moody = MoodyFs::new(false);
    let ino = moody.make("object", b"content");
    let handle = moody.open(ino, &ANN);
    let (kms, fs) = (moody.kms.clone(), Arc::downgrade(&moody.fs));
    let allow_and_deny = move || {
        kms.allow_all();
        fs.upgrade().unwrap().watch_keys();
        kms.deny(&ANN);
        fs.upgrade().unwrap().watch_keys();
    };
    moody.fs.observe(Box::new(Meanwhile(Mutex::new(Some(Box::new(allow_and_deny))))));
    moody.kms.deny(&ANN);
    moody.notice();
    assert_eq!(moody.read(handle), Err(libc::EACCES));
    assert!(!moody.is_locked("object"));
    moody.fs.write_back(handle, 0, b"WRITTEN").unwrap();
    assert!(moody.fs.drain_revoked(), "it is queued again");
    assert!(moody.is_locked("object"));
    assert_eq!(errno(moody.fs.write_back(handle, 0, b"late")), libc::EACCES);
    moody.kms.allow_all();
    moody.notice();
    assert_eq!(moody.read(handle), Ok(b"WRITTEN".to_vec()));
}

/// A file that was never synced is there after a kill, and its key decides who reads it: a refusal is no damage.
#[test]
fn a_file_whose_key_refuses_after_a_crash_is_not_taken_for_empty() {
    let disk = SimulatedDisk::new();
    let moody = MoodyFs::over(Arc::new(disk.clone()), false);
    moody.make("object", b"content");
    // Whatever is made anew would be under the service's own key, which refuses nobody.
    moody.fs.unlink(moody.bucket, OsStr::new(".encryption.json")).unwrap();
    let killed = moody.again(Arc::new(disk.crash_point().kill()));
    for code in [Code::Disabled, Code::KeyUnavailable] {
        killed.kms.fail(Some(kms::Error::new(code, "not now")));
        let ino = killed.fs.lookup(killed.bucket, OsStr::new("object")).unwrap().ino();
        assert!(killed.fs.open(ino, false, false, &ANN).is_err(), "{code:?}");
    }
    killed.kms.fail(None);
    let ino = killed.fs.lookup(killed.bucket, OsStr::new("object")).unwrap().ino();
    let handle = killed.open(ino, &ANN);
    assert_eq!(killed.read(handle), Ok(b"content".to_vec()));
}
