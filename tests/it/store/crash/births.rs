//! The birth of an object where noting it fails: no file becomes unreadable of it.

use super::super::*;
use kmsfs_testing::disk::{Call, FaultPlan};

const BORN: &str = "user.kmsfs.born";

fn has_birth(disk: &SimulatedDisk, name: &str) -> bool {
    let root = disk.root().unwrap();
    let dir = root.open_dir(OsStr::new("buckets")).unwrap().open_dir(OsStr::new(BUCKET)).unwrap();
    dir.get_xattr(Some(OsStr::new(name)), OsStr::new(BORN)).is_ok()
}

/// Reads it, and answers its mode.
fn look(disk: &SimulatedDisk, keys: &Arc<KeyService>, name: &str) -> (Vec<u8>, u32) {
    let store = open(disk, keys);
    let object = open_object(&store, &bucket(&store), name);
    let found = (content(&object), object.attr().unwrap().mode & 0o7777);
    store.release(&object);
    store.close().unwrap();
    found
}

#[test]
fn an_object_whose_birth_cannot_be_noted_is_synced_at_once() {
    for errno in [libc::ENOSPC, libc::EDQUOT, libc::EIO] {
        let (disk, keys) = new_disk();
        let store = open(&disk, &keys);
        let dir = bucket(&store);
        // The first time, and once more after it is in memory.
        disk.fail(FaultPlan::nth(1, errno).of(&[Call::SetXattr]).from_then_on());
        let object = create(&store, &dir, "a");
        disk.heal();
        assert!(!has_birth(&disk, "a"));
        object.write(0, &pattern(1, 9000)).unwrap();
        object.commit().unwrap();
        store.fsync_dir(&dir).unwrap();
        for cut in disk.crash_point().power_cuts(8, 1) {
            let (read, _) = look(&cut, &keys, "a");
            assert!(read.is_empty() || read == pattern(1, 9000), "{} bytes", read.len());
        }
    }
}
