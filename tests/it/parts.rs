//! Store, KMS and keyring put together without FUSE in between: KMS calls counted, and every bit's change noticed.

use crate::harness::noise;
use kmsfs_crypto::key_file;
use kmsfs_kms::{Caller, EncryptionContext, KmsCalls};
use kmsfs_kms_local::{KeyringParameters, LocalKms, Unlock};
use kmsfs_sse::{Algorithm, Encryption, KeyService};
use kmsfs_store::backend::{NewNode, RealBackend};
use kmsfs_store::prelude::*;
use kmsfs_store::{self as store, Dir, Error, Parameters, Store, StoreOptions};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const CALLER: Caller = Caller { uid: 0, gid: 0, pid: 1 };
const NODE: NewNode = NewNode { mode: 0o755, umask: 0, owner: None };

/// A store with its keyring, in memory.
struct Parts {
    dir: tempfile::TempDir,
}

impl Parts {
    fn new() -> Self {
        let parts = Self { dir: tempfile::tempdir_in("/dev/shm").unwrap() };
        fs::create_dir(parts.path("store")).unwrap();
        key_file::create(&parts.path("key")).unwrap();
        let (store_id, account_id, region) = ([1; 16], "000000000000".to_owned(), "us-east-1".to_owned());
        let of_keyring = KeyringParameters { store_id, account_id: account_id.clone(), region: region.clone() };
        let kms = LocalKms::create(&parts.path("ring"), &of_keyring, &parts.unlock()).unwrap();
        let parameters = Parameters { store_id, account_id, region };
        store::create(&*RealBackend::open(&parts.path("store")).unwrap(), &parameters, &*kms).unwrap();
        parts
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn unlock(&self) -> Unlock {
        Unlock::KeyFile(key_file::read(&self.path("key")).unwrap())
    }

    fn kms(&self) -> Option<Arc<LocalKms>> {
        LocalKms::open(&self.path("ring"), &self.unlock()).ok()
    }

    fn open(&self, kms: &Arc<LocalKms>, read_only: bool) -> store::Result<Arc<Store>> {
        let keys = Arc::new(KeyService::new(kms.clone(), kms.clone()));
        let backend = RealBackend::open(&self.path("store")).unwrap();
        Store::open(backend, keys, StoreOptions { read_only, ..StoreOptions::default() })
    }

    /// Makes an object named `object` in a bucket and closes the store.
    fn put(&self, content: &[u8], want: &Encryption) {
        let store = self.open(&self.kms().unwrap(), false).unwrap();
        store.make_dir(store.root(), OsStr::new("bucket"), &NODE).unwrap();
        make(&store, &bucket(&store), "object", content, want);
        store.close().unwrap();
    }

    /// The object's content as a fresh store reads it.
    fn get(&self, kms: &Arc<LocalKms>) -> store::Result<Vec<u8>> {
        let store = self.open(kms, true)?;
        let bucket = store.open_dir(store.root(), OsStr::new("bucket"));
        let content = bucket.and_then(|bucket| read(&store, &bucket, "object"));
        store.close().unwrap();
        content
    }
}

fn bucket(store: &Arc<Store>) -> Arc<Dir> {
    store.open_dir(store.root(), OsStr::new("bucket")).unwrap()
}

fn make(store: &Arc<Store>, dir: &Arc<Dir>, name: &str, content: &[u8], want: &Encryption) {
    let (object, _) = store.create(dir, OsStr::new(name), &NODE, want, name, &CALLER).unwrap();
    object.write(0, content).unwrap();
    object.commit().unwrap();
    store.release(&object);
}

fn read(store: &Arc<Store>, dir: &Arc<Dir>, name: &str) -> store::Result<Vec<u8>> {
    let object = store.open_object(dir, OsStr::new(name), &CALLER)?;
    let mut content = vec![0; 1 << 20];
    let read = object.read(0, &mut content)?;
    content.truncate(read);
    store.release(&object);
    Ok(content)
}

fn aws_kms(bucket_key: bool) -> Encryption {
    Encryption { algorithm: Algorithm::AwsKms, key_id: None, bucket_key, context: EncryptionContext::new() }
}

#[test]
fn a_bucket_key_saves_nearly_all_kms_calls() {
    const OBJECTS: u64 = 50;
    for (bucket_key, makes, reads) in [(false, OBJECTS, OBJECTS), (true, 1, 1)] {
        let parts = Parts::new();
        let kms = parts.kms().unwrap();
        let store = parts.open(&kms, false).unwrap();
        store.make_dir(store.root(), OsStr::new("bucket"), &NODE).unwrap();
        let dir = bucket(&store);
        for n in 0..OBJECTS {
            make(&store, &dir, &n.to_string(), b"content", &aws_kms(bucket_key));
        }
        assert_eq!(kms.calls(), KmsCalls { generate_data_key: makes, decrypt: 0, encrypt: 0 }, "{bucket_key}");
        store.close().unwrap();
        drop((dir, store));

        let kms = parts.kms().unwrap();
        let store = parts.open(&kms, false).unwrap();
        let dir = bucket(&store);
        for n in 0..OBJECTS {
            assert_eq!(read(&store, &dir, &n.to_string()).unwrap(), b"content");
        }
        assert_eq!(kms.calls(), KmsCalls { generate_data_key: 0, decrypt: reads, encrypt: 0 }, "{bucket_key}");
        store.close().unwrap();
    }
}

#[test]
fn objects_under_the_services_own_key_ask_no_kms() {
    let parts = Parts::new();
    let kms = parts.kms().unwrap();
    let store = parts.open(&kms, false).unwrap();
    store.make_dir(store.root(), OsStr::new("bucket"), &NODE).unwrap();
    let want = Encryption { algorithm: Algorithm::Aes256, ..aws_kms(false) };
    make(&store, &bucket(&store), "object", b"content", &want);
    assert_eq!(read(&store, &bucket(&store), "object").unwrap(), b"content");
    assert_eq!(kms.calls(), KmsCalls { generate_data_key: 0, decrypt: 0, encrypt: 0 });
}

/// Flips one bit at every offset of the file in turn, and tells where reading went on as if nothing were.
fn unnoticed(file: &Path, mut is_noticed: impl FnMut() -> bool) -> Vec<usize> {
    let good = fs::read(file).unwrap();
    assert!(!good.is_empty());
    let unnoticed = (0..good.len()).filter(|&offset| {
        let mut bytes = good.clone();
        bytes[offset] ^= 1 << (offset % 8);
        fs::write(file, &bytes).unwrap();
        !is_noticed()
    });
    let unnoticed = unnoticed.collect();
    fs::write(file, good).unwrap();
    unnoticed
}

/// The object is read right, or refused as what it is: damaged.
fn is_refused(parts: &Parts, kms: &Arc<LocalKms>, content: &[u8]) -> bool {
    match parts.get(kms) {
        Ok(read) => {
            assert_eq!(read, content, "wrong bytes");
            false
        }
        Err(Error::Corrupt(_) | Error::Sse(_)) => true,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_flipped_bit_anywhere_in_an_object_or_its_sidecar_is_noticed() {
    let parts = Parts::new();
    let content = noise(1, 5000);
    parts.put(&content, &aws_kms(false));
    let kms = parts.kms().unwrap();
    assert_eq!(parts.get(&kms).unwrap(), content);
    let object = parts.path("store/buckets/bucket/object");
    assert_eq!(fs::metadata(&object).unwrap().len(), 4096 + 5000, "header and two chunks");
    assert_eq!(unnoticed(&object, || is_refused(&parts, &kms, &content)), Vec::<usize>::new());
    // What lies in the segment beside this one record is space to give out.
    let segment = parts.path("store/sidecars/00000000");
    let bytes = fs::read(&segment).unwrap();
    let record = (0..bytes.len()).step_by(512).find(|&at| bytes[at..].starts_with(b"KMSR")).expect("a record");
    let units = usize::from(u16::from_le_bytes([bytes[record + 6], bytes[record + 7]]));
    let free = |offset: &usize| !(record..record + units * 512).contains(offset);
    let unnoticed = unnoticed(&segment, || is_refused(&parts, &kms, &content));
    assert!(unnoticed.iter().all(free), "{unnoticed:?}");
    assert_eq!(parts.get(&kms).unwrap(), content);
}

#[test]
fn a_flipped_bit_anywhere_in_the_keyring_is_noticed() {
    let parts = Parts::new();
    let content = noise(1, 5000);
    parts.put(&content, &aws_kms(false));
    assert!(parts.kms().is_some());
    for name in ["slots.json", "keyring"] {
        let unnoticed = unnoticed(&parts.path("ring").join(name), || match parts.kms() {
            None => true,
            Some(kms) => is_refused(&parts, &kms, &content),
        });
        assert_eq!(unnoticed, Vec::<usize>::new(), "{name}");
    }
    assert_eq!(parts.get(&parts.kms().unwrap()).unwrap(), content);
}

#[test]
fn a_flipped_bit_in_a_buckets_record_never_leads_to_another_symlink() {
    const TARGET: &[u8] = b"where it leads";
    let parts = Parts::new();
    parts.put(b"content", &aws_kms(false));
    let kms = parts.kms().unwrap();
    let store = parts.open(&kms, false).unwrap();
    store.make_symlink(&bucket(&store), OsStr::new("symlink"), TARGET, &NODE).unwrap();
    store.close().unwrap();
    let target = || {
        let store = parts.open(&kms, true).unwrap();
        let bucket = store.open_dir(store.root(), OsStr::new("bucket"));
        let target = bucket.and_then(|bucket| store.read_link(&bucket, OsStr::new("symlink")));
        store.close().unwrap();
        target
    };
    assert_eq!(target().unwrap(), TARGET);
    let unnoticed = unnoticed(&parts.path("store/meta/bucket"), || match target() {
        Ok(read) => {
            assert_eq!(read, TARGET);
            false
        }
        Err(_) => true,
    });
    // The date of creation, and letters whose case says nothing.
    assert!(unnoticed.len() < 20, "{unnoticed:?}");
}
