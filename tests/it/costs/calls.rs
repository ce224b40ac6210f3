use super::{compare, stated};
use crate::store::{CALLER, keys, pattern};
use kmsfs_fs::{Creation, Fs, FsOptions, HandleId, Ino, Writer};
use kmsfs_sse::KeyService;
use kmsfs_store::backend::Rename;
use kmsfs_store::{self as store, Parameters, Store, StoreOptions};
use kmsfs_testing::disk::{Call, SimulatedDisk};
use std::ffi::OsStr;
use std::sync::Arc;

const GIB: u64 = 1 << 30;

/// A mount without FUSE: what the kernel's requests call is called here.
struct CountedFs {
    disk: SimulatedDisk,
    keys: Arc<KeyService>,
    fs: Arc<Fs>,
    bucket: Ino,
}

impl CountedFs {
    fn new() -> Self {
        let (disk, keys) = (SimulatedDisk::new(), keys());
        let parameters =
            Parameters { store_id: [1; 16], account_id: "000000000000".into(), region: "us-east-1".into() };
        store::create(&disk, &parameters, keys.service()).unwrap();
        let fs = mount(&disk, &keys);
        fs.mkdir(fs.root(), OsStr::new("bucket"), &creation(0o755)).unwrap();
        let mut counted = Self { disk, keys, fs, bucket: Ino(0) };
        counted.remount();
        // The log has its file and the first segment of sidecars is there.
        counted.make("warm", &[1; 100]);
        counted
    }

    /// Nothing is in memory any more.
    fn remount(&mut self) {
        self.fs.store().close().unwrap();
        self.fs = mount(&self.disk, &self.keys);
        self.bucket = self.fs.lookup(self.fs.root(), OsStr::new("bucket")).unwrap().ino();
        let _ = self.fs.lookup(self.bucket, OsStr::new("nothing"));
    }

    fn make(&self, name: &str, content: &[u8]) {
        let (_, handle) = self.fs.create(self.bucket, OsStr::new(name), &creation(0o644)).unwrap();
        self.fs.write(handle, 0, content, Writer::Privileged).unwrap();
        self.close(handle);
    }

    fn ino(&self, name: &str) -> Ino {
        self.fs.lookup(self.bucket, OsStr::new(name)).unwrap().ino()
    }

    fn open(&self, name: &str) -> HandleId {
        self.fs.open(self.ino(name), false, true, &CALLER).unwrap()
    }

    fn close(&self, handle: HandleId) {
        self.fs.flush(handle).unwrap();
        self.fs.release(handle);
    }

    fn read(&self, handle: HandleId, offset: u64) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        let read = self.fs.read(handle, offset, &mut bytes).unwrap();
        bytes.truncate(read);
        bytes
    }

    /// The calls to the disk that something makes.
    fn calls(&self, act: impl FnOnce()) -> kmsfs_testing::disk::Calls {
        let before = self.disk.calls();
        act();
        self.disk.calls().since(&before)
    }
}

fn mount(disk: &SimulatedDisk, keys: &Arc<KeyService>) -> Arc<Fs> {
    let store = Store::open(Arc::new(disk.clone()), keys.clone(), StoreOptions::default()).unwrap();
    Fs::new(store, FsOptions { read_only: false, keep_owners: true, noatime: true, open_dirs: 100, most_inodes: None })
}

fn creation(mode: u32) -> Creation {
    Creation { mode, umask: 0o022, caller: CALLER }
}

#[test]
fn no_operation_takes_more_calls_than_the_document_says() {
    let mut counted = CountedFs::new();
    let mut measured = Vec::new();
    let mut measure = |counted: &CountedFs, operation: &'static str, act: &dyn Fn(&CountedFs)| {
        let calls = counted.calls(|| act(counted));
        measured.push((operation, calls.total(), format!("{calls:?}")));
    };
    measure(&counted, "create, write 4 KiB, close", &|counted| counted.make("file", &[7; 4096]));
    counted.remount();
    let stat = |counted: &CountedFs| {
        assert_eq!(counted.fs.lookup(counted.bucket, OsStr::new("file")).unwrap().attr.size, 4096);
    };
    measure(&counted, "stat, cold", &stat);
    let read = |counted: &CountedFs| {
        let handle = counted.open("file");
        assert_eq!(counted.read(handle, 0), [7; 4096]);
        counted.close(handle);
    };
    measure(&counted, "open, read 4 KiB, close, cold", &read);
    measure(&counted, "open, read 4 KiB, close", &read);
    counted.remount();
    let handle = counted.open("file");
    let overwrite = |counted: &CountedFs| counted.fs.write(handle, 0, &[8; 4096], Writer::Privileged).unwrap();
    overwrite(&counted);
    counted.fs.fsync(handle).unwrap();
    measure(&counted, "overwrite 4 KiB of an open file, fsync", &|counted| {
        overwrite(counted);
        counted.fs.fsync(handle).unwrap();
    });
    measure(&counted, "overwrite 4 KiB of an open file, commit", &|counted| {
        overwrite(counted);
        counted.fs.flush(handle).unwrap();
    });
    counted.close(handle);
    counted.remount();
    let rename = |counted: &CountedFs, from: &str, to: &str| {
        let (from, to) = (OsStr::new(from), OsStr::new(to));
        counted.fs.rename(counted.bucket, from, counted.bucket, to, Rename::Replace, &CALLER).unwrap();
    };
    measure(&counted, "rename", &|counted| rename(counted, "file", "moved"));
    measure(&counted, "unlink", &|counted| counted.fs.unlink(counted.bucket, OsStr::new("moved")).unwrap());
    counted.make("used", &[7; 4096]);
    measure(&counted, "unlink of what was used before", &|counted| {
        counted.fs.unlink(counted.bucket, OsStr::new("used")).unwrap();
    });
    compare(&stated("What an operation costs", 2), &measured);
}

/// One open of the object file, one read of it, one of its sidecar.
#[test]
fn a_cold_open_of_a_small_file_reads_twice() {
    let mut counted = CountedFs::new();
    counted.make("file", &pattern(1, 4096));
    counted.remount();
    let calls = counted.calls(|| {
        let handle = counted.open("file");
        assert_eq!(counted.read(handle, 0), pattern(1, 4096));
    });
    assert_eq!((calls.of(Call::OpenFile), calls.of(Call::Read)), (1, 2), "{calls:?}");
}

#[test]
fn a_file_that_is_written_once_puts_nothing_into_the_log() {
    let counted = CountedFs::new();
    let calls = counted.calls(|| counted.make("file", &vec![7; 100_000]));
    // Content, sidecar, header; the tables are in the header.
    assert_eq!(calls.of(Call::Write), 3, "{calls:?}");
    assert_eq!(calls.of(Call::Allocate), 0, "{calls:?}");
}

#[test]
fn opening_and_changing_a_little_costs_the_same_in_large_files() {
    let mut counted = CountedFs::new();
    let sizes = [1 << 20, GIB, 100 * GIB];
    for size in sizes {
        let name = size.to_string();
        counted.make(&name, &[7; 4096]);
        let handle = counted.open(&name);
        counted.fs.write(handle, size - 4096, &[7; 4096], Writer::Privileged).unwrap();
        counted.fs.write(handle, size / 2, &[7; 4096], Writer::Privileged).unwrap();
        counted.close(handle);
    }
    let mut costs = Vec::new();
    for size in sizes {
        counted.remount();
        let calls = counted.calls(|| {
            let handle = counted.open(&size.to_string());
            assert_eq!(counted.read(handle, size / 2), [7; 4096]);
            counted.fs.write(handle, size / 2, &[8; 4096], Writer::Privileged).unwrap();
            counted.close(handle);
        });
        costs.push(calls.total());
    }
    assert!(costs.iter().all(|cost| *cost <= 2 * costs[0]), "{costs:?}");
}

#[test]
fn names_cost_the_same_in_large_directories() {
    let mut counted = CountedFs::new();
    let mut costs = Vec::new();
    for (from, to) in [(0, 10), (10, 10_000)] {
        for n in from..to {
            counted.fs.mknod(counted.bucket, OsStr::new(&n.to_string()), libc::S_IFIFO, 0, &creation(0o644)).unwrap();
        }
        counted.make("old", &[7; 4096]);
        counted.remount();
        let calls = counted.calls(|| {
            counted.make("new", &[7; 4096]);
            counted.fs.lookup(counted.bucket, OsStr::new("old")).unwrap();
            counted.fs.unlink(counted.bucket, OsStr::new("old")).unwrap();
        });
        counted.fs.unlink(counted.bucket, OsStr::new("new")).unwrap();
        costs.push(calls.total());
    }
    assert_eq!(costs[0], costs[1]);
}

#[test]
fn copying_a_file_of_holes_costs_what_is_there() {
    let mut costs = Vec::new();
    for size in [GIB, 1024 * GIB, 15 * 1024 * GIB] {
        let mut counted = CountedFs::new();
        counted.make("from", &[7; 4096]);
        let handle = counted.open("from");
        counted.fs.write(handle, size / 2, &[8; 4096], Writer::Privileged).unwrap();
        counted.fs.truncate(counted.ino("from"), Some(handle), size, &CALLER).unwrap();
        counted.close(handle);
        counted.make("to", &[9; 10_000]);
        counted.remount();
        let calls = counted.calls(|| {
            let (from, to) = (counted.open("from"), counted.open("to"));
            assert_eq!(counted.fs.copy(from, 0, to, 0, size, &CALLER).unwrap(), size);
            assert_eq!((counted.read(to, 4096), counted.read(to, size / 2)), (vec![0; 4096], vec![8; 4096]));
            counted.close(from);
            counted.close(to);
        });
        assert_eq!(counted.fs.lookup(counted.bucket, OsStr::new("to")).unwrap().attr.size, size);
        costs.push(calls.total());
    }
    assert!(costs.iter().all(|cost| *cost <= costs[0] + 24 && *cost < 120), "{costs:?}");
}
