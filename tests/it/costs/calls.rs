use super::{compare, stated};
use crate::store::{CALLER, keys, pattern};
use kmsfs_fs::{Creation, Fs, FsOptions, Writer};
use kmsfs_sse::KeyService;
use kmsfs_store::backend::Rename;
use kmsfs_store::{self as store, Parameters, Store, StoreOptions};
use kmsfs_testing::disk::{Call, SimulatedDisk};
use std::ffi::OsStr;
use std::sync::Arc;

const GIB: u64 = 1 << 30;

/// A mount without FUSE: what the kernel's requests call is called here.
struct World {
    disk: SimulatedDisk,
    keys: Arc<KeyService>,
    fs: Arc<Fs>,
    bucket: u64,
}

impl World {
    fn new() -> Self {
        let (disk, keys) = (SimulatedDisk::new(), keys());
        let parameters =
            Parameters { store_id: [1; 16], account_id: "000000000000".into(), region: "us-east-1".into() };
        store::create(&disk, &parameters, keys.service()).unwrap();
        let fs = mount(&disk, &keys);
        fs.mkdir(fs.root(), OsStr::new("bucket"), &creation(0o755)).unwrap();
        let mut world = Self { disk, keys, fs, bucket: 0 };
        world.remount();
        // The log has its file and the first segment of sidecars is there.
        world.make("warm", &[1; 100]);
        world
    }

    /// Nothing is in memory any more.
    fn remount(&mut self) {
        self.fs.store().close().unwrap();
        self.fs = mount(&self.disk, &self.keys);
        self.bucket = self.fs.lookup(self.fs.root(), OsStr::new("bucket")).unwrap().attr.ino;
        let _ = self.fs.lookup(self.bucket, OsStr::new("nothing"));
    }

    fn make(&self, name: &str, content: &[u8]) {
        let (_, handle) = self.fs.create(self.bucket, OsStr::new(name), &creation(0o644)).unwrap();
        self.fs.write(handle, 0, content, Writer::Privileged).unwrap();
        self.close(handle);
    }

    fn ino(&self, name: &str) -> u64 {
        self.fs.lookup(self.bucket, OsStr::new(name)).unwrap().attr.ino
    }

    fn open(&self, name: &str) -> u64 {
        self.fs.open(self.ino(name), false, true, &CALLER).unwrap()
    }

    fn close(&self, handle: u64) {
        self.fs.flush(handle).unwrap();
        self.fs.release(handle);
    }

    fn read(&self, handle: u64, offset: u64) -> Vec<u8> {
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
    let mut world = World::new();
    let mut measured = Vec::new();
    let mut measure = |world: &World, operation: &'static str, act: &dyn Fn(&World)| {
        let calls = world.calls(|| act(world));
        measured.push((operation, calls.total(), format!("{calls:?}")));
    };
    measure(&world, "create, write 4 KiB, close", &|world| world.make("file", &[7; 4096]));
    world.remount();
    let stat = |world: &World| assert_eq!(world.fs.lookup(world.bucket, OsStr::new("file")).unwrap().attr.size, 4096);
    measure(&world, "stat, cold", &stat);
    let read = |world: &World| {
        let handle = world.open("file");
        assert_eq!(world.read(handle, 0), [7; 4096]);
        world.close(handle);
    };
    measure(&world, "open, read 4 KiB, close, cold", &read);
    measure(&world, "open, read 4 KiB, close", &read);
    world.remount();
    let handle = world.open("file");
    let overwrite = |world: &World| world.fs.write(handle, 0, &[8; 4096], Writer::Privileged).unwrap();
    overwrite(&world);
    world.fs.fsync(handle).unwrap();
    measure(&world, "overwrite 4 KiB of an open file, fsync", &|world| {
        overwrite(world);
        world.fs.fsync(handle).unwrap();
    });
    measure(&world, "overwrite 4 KiB of an open file, commit", &|world| {
        overwrite(world);
        world.fs.flush(handle).unwrap();
    });
    world.close(handle);
    world.remount();
    let rename = |world: &World, from: &str, to: &str| {
        let (from, to) = (OsStr::new(from), OsStr::new(to));
        world.fs.rename(world.bucket, from, world.bucket, to, Rename::Replace, &CALLER).unwrap();
    };
    measure(&world, "rename", &|world| rename(world, "file", "moved"));
    measure(&world, "unlink", &|world| world.fs.unlink(world.bucket, OsStr::new("moved")).unwrap());
    world.make("used", &[7; 4096]);
    measure(&world, "unlink of what was used before", &|world| {
        world.fs.unlink(world.bucket, OsStr::new("used")).unwrap();
    });
    compare(&stated("What an operation costs", 2), &measured);
}

/// One open of the object file, one read of it, one of its sidecar.
#[test]
fn a_cold_open_of_a_small_file_reads_twice() {
    let mut world = World::new();
    world.make("file", &pattern(1, 4096));
    world.remount();
    let calls = world.calls(|| {
        let handle = world.open("file");
        assert_eq!(world.read(handle, 0), pattern(1, 4096));
    });
    assert_eq!((calls.of(Call::OpenFile), calls.of(Call::Read)), (1, 2), "{calls:?}");
}

#[test]
fn a_file_that_is_written_once_puts_nothing_into_the_log() {
    let world = World::new();
    let calls = world.calls(|| world.make("file", &vec![7; 100_000]));
    // Content, sidecar, header; the tables are in the header.
    assert_eq!(calls.of(Call::Write), 3, "{calls:?}");
    assert_eq!(calls.of(Call::Allocate), 0, "{calls:?}");
}

#[test]
fn opening_and_changing_a_little_costs_the_same_in_large_files() {
    let mut world = World::new();
    let sizes = [1 << 20, GIB, 100 * GIB];
    for size in sizes {
        let name = size.to_string();
        world.make(&name, &[7; 4096]);
        let handle = world.open(&name);
        world.fs.write(handle, size - 4096, &[7; 4096], Writer::Privileged).unwrap();
        world.fs.write(handle, size / 2, &[7; 4096], Writer::Privileged).unwrap();
        world.close(handle);
    }
    let mut costs = Vec::new();
    for size in sizes {
        world.remount();
        let calls = world.calls(|| {
            let handle = world.open(&size.to_string());
            assert_eq!(world.read(handle, size / 2), [7; 4096]);
            world.fs.write(handle, size / 2, &[8; 4096], Writer::Privileged).unwrap();
            world.close(handle);
        });
        costs.push(calls.total());
    }
    assert!(costs.iter().all(|cost| *cost <= 2 * costs[0]), "{costs:?}");
}

#[test]
fn names_cost_the_same_in_large_directories() {
    let mut world = World::new();
    let mut costs = Vec::new();
    for (from, to) in [(0, 10), (10, 10_000)] {
        for n in from..to {
            world.fs.mknod(world.bucket, OsStr::new(&n.to_string()), libc::S_IFIFO, 0, &creation(0o644)).unwrap();
        }
        world.make("old", &[7; 4096]);
        world.remount();
        let calls = world.calls(|| {
            world.make("new", &[7; 4096]);
            world.fs.lookup(world.bucket, OsStr::new("old")).unwrap();
            world.fs.unlink(world.bucket, OsStr::new("old")).unwrap();
        });
        world.fs.unlink(world.bucket, OsStr::new("new")).unwrap();
        costs.push(calls.total());
    }
    assert_eq!(costs[0], costs[1]);
}

#[test]
fn copying_a_file_of_holes_costs_what_is_there() {
    let mut costs = Vec::new();
    for size in [GIB, 1024 * GIB, 15 * 1024 * GIB] {
        let mut world = World::new();
        world.make("from", &[7; 4096]);
        let handle = world.open("from");
        world.fs.write(handle, size / 2, &[8; 4096], Writer::Privileged).unwrap();
        world.fs.truncate(world.ino("from"), Some(handle), size, &CALLER).unwrap();
        world.close(handle);
        world.make("to", &[9; 10_000]);
        world.remount();
        let calls = world.calls(|| {
            let (from, to) = (world.open("from"), world.open("to"));
            assert_eq!(world.fs.copy(from, 0, to, 0, size, &CALLER).unwrap(), size);
            assert_eq!((world.read(to, 4096), world.read(to, size / 2)), (vec![0; 4096], vec![8; 4096]));
            world.close(from);
            world.close(to);
        });
        assert_eq!(world.fs.lookup(world.bucket, OsStr::new("to")).unwrap().attr.size, size);
        costs.push(calls.total());
    }
    assert!(costs.iter().all(|cost| *cost <= costs[0] + 24 && *cost < 120), "{costs:?}");
}
