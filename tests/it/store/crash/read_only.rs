//! A store that a crash left is read without being written: what recovery would have written home is kept in memory.

use super::crashed::{CrashedStore, SPREAD};
use super::looking::look;
use super::workloads::{NAMES, SEQUENTIAL};
use crate::store::*;
use kmsfs_store::Error;

fn read_only() -> StoreOptions {
    StoreOptions { read_only: true, cache: 4 << 20, ..StoreOptions::default() }
}

fn open_read_only(disk: &SimulatedDisk, keys: &Arc<KeyService>) -> Arc<Store> {
    disk.watch(|_| panic!("a read-only store was written"));
    open_with(disk, keys, read_only())
}

#[test]
fn a_read_only_store_shows_what_recovery_would_bring_back_and_writes_nothing() {
    let keys = keys();
    let mut looked = 0;
    for workload in SEQUENTIAL.iter().chain(NAMES) {
        let crashed = CrashedStore::new(&keys, SPREAD, true);
        let points = crashed.run(workload);
        for (n, point) in points.iter().enumerate().skip(2).step_by(5) {
            let cut = point.disk.power_cuts(2, n as u64).last().unwrap();
            for (disk, killed) in [(point.disk.kill(), true), (cut, false)] {
                let recovered = disk.crash_point().kill();
                let store = open_read_only(&disk, &keys);
                let found = look(&disk, &store, SPREAD);
                assert_eq!(point.told.violations(&found, killed), Vec::<String>::new(), "point {n} of {workload}");
                store.close().unwrap();
                let store = open(&recovered, &keys);
                let written = look(&recovered, &store, SPREAD);
                assert_eq!(found.objects, written.objects, "point {n} of {workload}");
                store.close().unwrap();
                looked += 1;
            }
        }
    }
    println!("crash states: {looked}");
}

#[test]
fn every_change_of_a_read_only_store_is_refused() {
    let keys = keys();
    let crashed = CrashedStore::new(&keys, SPREAD, true);
    let points = crashed.run("mkdir d; create a; write a 0 4; fsync a; write a 0 1; close a; create b; fsync b");
    let disk = points.last().unwrap().disk.kill();
    let store = open_read_only(&disk, &keys);
    let dir = bucket(&store);
    let [a, c] = ["a", "c"].map(OsStr::new);
    let object = store.open_object(&dir, a, &CALLER).unwrap();
    let refused = |outcome: Result<(), Error>| assert_eq!(outcome, Err(Error::ReadOnly));
    refused(object.write(0, b"x"));
    refused(object.truncate(0));
    refused(object.punch(0, 4096));
    refused(object.fsync());
    refused(store.rewrap(&object, &aws_kms("k"), "a", &CALLER));
    refused(store.create(&dir, c, &NODE, &aes256(), "c", &CALLER).map(drop));
    refused(store.unlink(&dir, a));
    refused(store.rename(&dir, a, &dir, c, kmsfs_store::backend::Rename::Replace));
    refused(store.link(&dir, a, &dir, c).map(drop));
    refused(store.make_dir(&dir, c, &NODE).map(drop));
    refused(store.make_symlink(&dir, c, b"a", &NODE).map(drop));
    refused(store.remove_dir(&dir, OsStr::new("d")));
    refused(store.checkpoint());
    assert_eq!(object.commit(), Ok(()), "there is nothing to commit");
    assert_eq!(store.fsync_dir(&dir), Ok(()), "there is nothing to sync");
    store.release(&object);
    store.close().unwrap();
}

#[test]
fn two_read_only_mounts_share_a_store_and_keep_writers_out() {
    let (disk, keys) = new_disk();
    let (one, other) = (open_with(&disk, &keys, read_only()), open_with(&disk, &keys, read_only()));
    let backend: Arc<dyn Backend> = Arc::new(disk.clone());
    let writer = Store::open(backend, keys.clone(), StoreOptions::default());
    assert!(matches!(writer.err(), Some(Error::InUse(_))));
    one.close().unwrap();
    other.close().unwrap();
    open(&disk, &keys).close().unwrap();
}

/// Content that was written straight home and not committed makes the object file longer than its seal says.
#[test]
fn an_object_that_a_kill_left_longer_is_read_up_to_its_sealed_length() {
    let keys = keys();
    let crashed = CrashedStore::new(&keys, SPREAD, true);
    let points = crashed.run("create a; write a 0 2; fsync a; checkpoint; write a 2 4; punch a 3");
    let disk = points[points.len() - 1].disk.kill();
    let store = open_read_only(&disk, &keys);
    let object = open_object(&store, &bucket(&store), "a");
    assert_eq!(object.attr().unwrap().size, 4096);
    assert_eq!(content(&object), 1_u64.to_le_bytes().repeat(512));
    store.release(&object);
    store.close().unwrap();
}
