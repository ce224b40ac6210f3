//! Objects in a store in TMPDIR, which is a tmpfs or a disk as one likes: made, opened, read, written and removed.

use crate::keys::{ROOT, kms};
use criterion::{BatchSize, Criterion, Throughput};
use kmsfs_kms::EncryptionContext;
use kmsfs_sse::{Algorithm, Encryption, KeyService};
use kmsfs_store::backend::{NewNode, RealBackend};
use kmsfs_store::prelude::*;
use kmsfs_store::{self as store, Dir, Object, Parameters, Store, StoreOptions, Target};
use std::cell::Cell;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;

const NODE: NewNode = NewNode { mode: 0o644, umask: 0, owner: None };
const CHUNK: usize = 4096;
const LARGE: usize = 64 << 20;

struct BenchedStore {
    store: Arc<Store>,
    dir: Arc<Dir>,
    names: Cell<u64>,
}

impl BenchedStore {
    fn new(dir: &Path) -> Self {
        let kms = kms(dir);
        let place = dir.join("store");
        fs::create_dir(&place).unwrap();
        let backend = RealBackend::open(&place).unwrap();
        let parameters =
            Parameters { store_id: [1; 16], account_id: "000000000000".into(), region: "us-east-1".into() };
        store::create(&*backend, &parameters, &*kms).unwrap();
        let keys = Arc::new(KeyService::new(kms.clone(), kms));
        let store = Store::open(backend, keys, StoreOptions::default()).unwrap();
        store.make_dir(store.root(), "bucket".as_ref(), &NewNode { mode: 0o755, ..NODE }).unwrap();
        let dir = store.open_dir(store.root(), "bucket".as_ref()).unwrap();
        Self { store, dir, names: Cell::new(0) }
    }

    fn name(&self) -> OsString {
        self.names.set(self.names.get() + 1);
        format!("object-{}", self.names.get()).into()
    }

    fn create(&self, name: &OsString, algorithm: Algorithm) -> Arc<Object> {
        let want = Encryption { algorithm, key_id: None, bucket_key: false, context: EncryptionContext::new() };
        self.store.create(&self.dir, name, &NODE, &want, &name.to_string_lossy(), &ROOT).unwrap().0
    }

    /// As a program that writes a small file and closes it.
    fn make(&self, algorithm: Algorithm, content: &[u8]) -> OsString {
        let name = self.name();
        let object = self.create(&name, algorithm);
        object.write(0, content).unwrap();
        object.commit().unwrap();
        self.store.release(&object);
        name
    }

    fn open(&self, name: &OsString) -> Arc<Object> {
        self.store.open_object(&self.dir, name, &ROOT).unwrap()
    }
}

pub fn all(criterion: &mut Criterion) {
    let place = tempfile::tempdir().unwrap();
    let benched = BenchedStore::new(place.path());
    small(criterion, &benched);
    large(criterion, &benched);
    scale(criterion, &benched);
    benched.store.close().unwrap();
}

fn small(criterion: &mut Criterion, benched: &BenchedStore) {
    let content = vec![0x5a; CHUNK];
    let mut group = criterion.benchmark_group("small objects");
    for (algorithm, name) in [(Algorithm::Aes256, "AES256"), (Algorithm::AwsKms, "aws:kms")] {
        group.bench_function(format!("create, write, close and unlink, {name}"), |bench| {
            bench.iter(|| {
                let name = benched.make(algorithm, &content);
                benched.store.unlink(&benched.dir, &name).unwrap();
            });
        });
        // More than are kept in memory, so that each is read in again.
        let names: Vec<_> = (0..20_000).map(|_| benched.make(algorithm, &content)).collect();
        let next = Cell::new(0);
        group.bench_function(format!("open, read and close, not in memory, {name}"), |bench| {
            let mut buffer = vec![0; CHUNK];
            bench.iter(|| {
                next.set((next.get() + 1) % names.len());
                let object = benched.open(&names[next.get()]);
                object.read(0, &mut buffer).unwrap();
                benched.store.release(&object);
            });
        });
        group.bench_function(format!("open, read and close, in memory, {name}"), |bench| {
            let mut buffer = vec![0; CHUNK];
            bench.iter(|| {
                let object = benched.open(&names[0]);
                object.read(0, &mut buffer).unwrap();
                benched.store.release(&object);
            });
        });
        for name in names {
            benched.store.unlink(&benched.dir, &name).unwrap();
        }
    }
    group.finish();
}

fn large(criterion: &mut Criterion, benched: &BenchedStore) {
    let name = benched.name();
    let object = benched.create(&name, Algorithm::AwsKms);
    let mib = vec![0x5a; 1 << 20];
    let mut group = criterion.benchmark_group("a large object");
    group.sample_size(20);
    group.throughput(Throughput::Bytes(1 << 20));
    group.bench_function("write 1 MiB of a new object", |bench| {
        let fresh = || benched.create(&benched.name(), Algorithm::AwsKms);
        bench.iter_batched(fresh, |object| object.write(0, &mib).unwrap(), BatchSize::LargeInput);
    });
    for at in (0..LARGE).step_by(mib.len()) {
        object.write(at as u64, &mib).unwrap();
    }
    object.fsync().unwrap();
    let mut buffer = vec![0; 1 << 20];
    group.bench_function("read 1 MiB", |bench| {
        bench.iter(|| object.read(16 << 20, &mut buffer).unwrap());
    });
    group.throughput(Throughput::Bytes(CHUNK as u64));
    let next = Cell::new(0);
    let chunk = || {
        next.set((next.get() + 7919) % (LARGE / CHUNK));
        (next.get() * CHUNK) as u64
    };
    group.bench_function("read 4 KiB anywhere", |bench| {
        bench.iter(|| object.read(chunk(), &mut buffer[..CHUNK]).unwrap());
    });
    group.bench_function("overwrite 4 KiB through the log", |bench| {
        bench.iter(|| object.write(chunk(), &mib[..CHUNK]).unwrap());
    });
    group.bench_function("overwrite 4 KiB and commit", |bench| {
        bench.iter(|| {
            object.write(chunk(), &mib[..CHUNK]).unwrap();
            object.commit().unwrap();
        });
    });
    group.bench_function("overwrite 4 KiB and fsync", |bench| {
        bench.iter(|| {
            object.write(chunk(), &mib[..CHUNK]).unwrap();
            object.fsync().unwrap();
        });
    });
    group.finish();
    benched.store.release(&object);
}

/// The same in small and in large: files with holes, directories.
fn scale(criterion: &mut Criterion, benched: &BenchedStore) {
    let mut group = criterion.benchmark_group("scale");
    group.sample_size(20);
    let chunk = vec![0x5a; CHUNK];
    for (size, shown) in [(1_u64 << 20, "1 MiB"), (1 << 30, "1 GiB"), (100 << 30, "100 GiB")] {
        let name = benched.name();
        let object = benched.create(&name, Algorithm::Aes256);
        for at in [0, size / 2, size - CHUNK as u64] {
            object.write(at, &chunk).unwrap();
        }
        object.fsync().unwrap();
        benched.store.release(&object);
        benched.store.checkpoint().unwrap();
        group.bench_function(format!("open, read and overwrite 4 KiB, commit, close, in {shown}"), |bench| {
            let mut buffer = vec![0; CHUNK];
            bench.iter(|| {
                let object = benched.open(&name);
                object.read(size / 2, &mut buffer).unwrap();
                object.write(size / 2, &chunk).unwrap();
                object.commit().unwrap();
                benched.store.release(&object);
            });
        });
    }
    for count in [10, 100_000] {
        let names: Vec<_> = (0..count).map(|_| benched.make(Algorithm::Aes256, b"")).collect();
        group.bench_function(format!("create, stat and unlink among {count} names"), |bench| {
            bench.iter(|| {
                let name = benched.make(Algorithm::Aes256, &chunk);
                benched.store.stat(Target::Name(&benched.dir, &name)).unwrap();
                benched.store.unlink(&benched.dir, &name).unwrap();
            });
        });
        for name in names {
            benched.store.unlink(&benched.dir, &name).unwrap();
        }
    }
    group.finish();
}
