//! The space that an object has on the disk follows what is in it, as on any file system. On a real directory.

use super::*;
use crate::harness::Disk;
use kmsfs_store::Error;
use kmsfs_store::backend::RealBackend;
use std::path::Path;
use tempfile::TempDir;

const CHUNK: u64 = 4096;
const MIB: u64 = 1 << 20;

/// A store in a directory, with a bucket.
struct Place {
    store: Arc<Store>,
    dir: Arc<Dir>,
}

impl Place {
    fn at(path: &Path) -> Self {
        let (backend, keys): (Arc<dyn Backend>, _) = (RealBackend::open(path).unwrap(), keys());
        let parameters = Parameters { store_id: [1; 16], account_id: "000000000000".into(), region: "r".into() };
        kmsfs_store::create(&*backend, &parameters, keys.service()).unwrap();
        let store = Store::open(backend, keys, StoreOptions::default()).unwrap();
        let dir = bucket(&store);
        Self { store, dir }
    }

    fn create(&self, want: &Encryption) -> Arc<Object> {
        self.store.create(&self.dir, OsStr::new("o"), &NODE, want, "o", &CALLER).unwrap().0
    }
}

/// Bytes on the disk.
fn used(object: &Object) -> u64 {
    object.attr().unwrap().blocks * 512
}

fn in_a_directory(test: impl Fn(&Place, &Encryption)) {
    for want in [aes256(), dsse("one")] {
        let dir = TempDir::new().unwrap();
        test(&Place::at(dir.path()), &want);
    }
}

#[test]
fn a_punched_hole_gives_its_space_back_with_the_next_checkpoint() {
    in_a_directory(|place, want| {
        let object = place.create(want);
        let data = pattern(1, 4 * MIB as usize);
        object.write(0, &data).unwrap();
        object.commit().unwrap();
        place.store.checkpoint().unwrap();
        assert!(used(&object) >= 4 * MIB);
        // Through the header's entries, whole pages, and parts of pages.
        object.punch(CHUNK, 3 * MIB).unwrap();
        object.commit().unwrap();
        assert!(used(&object) >= 4 * MIB, "a crash would need it");
        let changed = object.attr().unwrap().mtime;
        place.store.checkpoint().unwrap();
        assert!(used(&object) < MIB + 20 * CHUNK, "{} bytes", used(&object));
        assert_eq!(object.attr().unwrap().mtime, changed);
        let mut expected = data;
        expected[CHUNK as usize..(CHUNK + 3 * MIB) as usize].fill(0);
        assert!(content(&object) == expected);
        // And is used again.
        object.write(MIB, &pattern(2, 10_000)).unwrap();
        expected[MIB as usize..MIB as usize + 10_000].copy_from_slice(&pattern(2, 10_000));
        object.fsync().unwrap();
        place.store.checkpoint().unwrap();
        assert!(content(&object) == expected);
        place.store.release(&object);
    });
}

#[test]
fn what_is_written_into_a_hole_before_its_space_has_gone_stays() {
    in_a_directory(|place, want| {
        let object = place.create(want);
        object.write(0, &pattern(1, MIB as usize)).unwrap();
        object.fsync().unwrap();
        object.punch(0, MIB).unwrap();
        object.write(300 * 1024, &pattern(2, 50_000)).unwrap();
        object.commit().unwrap();
        object.punch(600 * 1024, CHUNK).unwrap();
        place.store.checkpoint().unwrap();
        let mut expected = vec![0; MIB as usize];
        expected[300 * 1024..300 * 1024 + 50_000].copy_from_slice(&pattern(2, 50_000));
        assert!(content(&object) == expected);
        assert!(used(&object) < 100 * 1024, "{} bytes", used(&object));
        place.store.release(&object);
    });
}

#[test]
fn what_was_never_committed_goes_at_once() {
    in_a_directory(|place, want| {
        let object = place.create(want);
        object.write(0, &pattern(1, MIB as usize)).unwrap();
        object.punch(0, MIB).unwrap();
        assert!(used(&object) < 10 * CHUNK, "{} bytes", used(&object));
        object.allocate(0, MIB).unwrap();
        assert!(used(&object) >= MIB);
        object.punch(0, MIB).unwrap();
        assert!(used(&object) < 10 * CHUNK, "{} bytes", used(&object));
        assert!(content(&object) == vec![0; MIB as usize]);
        place.store.release(&object);
    });
}

#[test]
fn a_file_that_is_cut_and_grows_again_keeps_no_space_of_before() {
    in_a_directory(|place, want| {
        let object = place.create(want);
        object.write(0, &pattern(1, MIB as usize)).unwrap();
        object.fsync().unwrap();
        object.truncate(100).unwrap();
        object.truncate(MIB).unwrap();
        object.commit().unwrap();
        place.store.checkpoint().unwrap();
        assert!(used(&object) < 10 * CHUNK, "{} bytes", used(&object));
        place.store.release(&object);
    });
}

#[test]
fn what_is_reserved_beyond_the_end_goes_with_a_cut_and_not_before() {
    in_a_directory(|place, want| {
        let object = place.create(want);
        object.write(0, b"text").unwrap();
        object.fsync().unwrap();
        object.allocate(0, MIB).unwrap();
        place.store.checkpoint().unwrap();
        assert!(used(&object) >= MIB);
        object.write(0, b"TEXT").unwrap();
        object.fsync().unwrap();
        place.store.checkpoint().unwrap();
        assert!(used(&object) >= MIB);
        object.truncate(4).unwrap();
        object.commit().unwrap();
        place.store.checkpoint().unwrap();
        assert!(used(&object) < 10 * CHUNK, "{} bytes", used(&object));
        assert_eq!(content(&object), b"TEXT");
        place.store.release(&object);
    });
}

/// As FALLOC_FL_ZERO_RANGE does it: zeros, and the space for what comes later.
#[test]
fn what_is_punched_and_reserved_again_stays_reserved() {
    in_a_directory(|place, want| {
        let object = place.create(want);
        object.write(0, &pattern(1, MIB as usize)).unwrap();
        object.fsync().unwrap();
        object.punch(0, MIB).unwrap();
        object.allocate(MIB / 2, MIB / 2).unwrap();
        object.commit().unwrap();
        place.store.checkpoint().unwrap();
        assert!((MIB / 2..MIB / 2 + 20 * CHUNK).contains(&used(&object)), "{} bytes", used(&object));
        place.store.release(&object);
    });
}

#[test]
fn a_reservation_that_fails_leaves_the_disk_as_it_was() {
    let disk = Disk::with_blocks(4096, 64);
    let place = Place::at(&disk.path());
    let object = place.create(&aes256());
    object.write(0, b"text").unwrap();
    object.fsync().unwrap();
    place.store.checkpoint().unwrap();
    assert_eq!(object.allocate(0, 1 << 30), Err(Error::Errno(libc::ENOSPC)));
    assert!(used(&object) < 10 * CHUNK, "{} bytes", used(&object));
    object.write(0, &pattern(1, 20 * MIB as usize)).unwrap();
    object.fsync().unwrap();
    place.store.release(&object);
    place.store.close().unwrap();
}
