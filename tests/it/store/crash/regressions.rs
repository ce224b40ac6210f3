//! What these tests have found, each by its name.

use super::campaign::{Campaign, Effort};
use super::crashed::{CrashedStore, SPREAD};
use crate::store::*;
use kmsfs_format::header::SEAL;
use kmsfs_store::Error;
use kmsfs_testing::disk::{Call, FaultPlan};

fn check(workload: &str) {
    let mut campaign = Campaign::new(1);
    campaign.check(workload, Effort { one_in: 1, cuts: 12, lives: 0 });
    campaign.finish();
}

/// The checkpoint did not sync the closed object's file, and noted that it had: fsync then had nothing to do.
#[test]
fn an_object_closed_before_a_checkpoint_is_synced_by_its_next_fsync() {
    check("create a; write a 0 4; close a; checkpoint; fsync a");
    check("create a; write a 0 4; close a; tick; checkpoint; write a 0 1; fsync a; checkpoint");
}

/// Only the directory of the last name was synced before the sidecar was zeroed, so a crash brought another name back.
#[test]
fn a_sidecar_is_freed_when_all_names_of_its_object_are_durably_gone() {
    check(
        "mkdir d; create d/a; write d/a 0 4; link d/a b; fsync b; fsyncdir; fsyncdir d; unlink d/a; unlink b; \
         checkpoint; create b; write b 0 2; fsync b",
    );
}

/// The object's own name was durable, the directory's new one was not.
#[test]
fn fsync_below_a_renamed_directory_makes_the_new_path_durable() {
    check("mkdir d; create d/a; write d/a 0 3; fsync d/a; move d e; write e/a 2 2; fsync e/a");
}

/// The record stayed in its place, which had more units than its length asks for, and was refused as impossible.
#[test]
fn a_sidecar_that_a_rewrap_made_shorter_is_readable() {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let object = create(&store, &bucket(&store), "a");
    object.write(0, b"content").unwrap();
    object.fsync().unwrap();
    for key_id in ["x".repeat(900), "x".repeat(400), "short".into()] {
        store.rewrap(&object, &aws_kms(&key_id), "a", &CALLER).unwrap();
    }
    store.release(&object);
    store.close().unwrap();
    let store = open(&disk, &keys);
    let object = open_object(&store, &bucket(&store), "a");
    assert_eq!(content(&object), b"content");
    assert_eq!(object.encryption().key_arn, Some("arn:aws:kms:us-east-1:000000000000:key/short".into()));
    store.release(&object);
    store.close().unwrap();
}

/// The header named the record's new place in the next commit, and nobody had written the record there.
#[test]
fn a_rewrap_that_failed_halfway_is_made_good_by_the_next_commit() {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let object = create(&store, &bucket(&store), "a");
    object.write(0, b"content").unwrap();
    object.fsync().unwrap();
    // From here on the log holds nothing of the sidecar.
    store.checkpoint().unwrap();
    disk.fail(FaultPlan::nth(1, libc::EIO).of(&[Call::Write]));
    let failed = store.rewrap(&object, &aws_kms(&"x".repeat(900)), "a", &CALLER);
    assert_eq!(failed, Err(Error::Errno(libc::EIO)));
    disk.heal();
    object.write(0, b"C").unwrap();
    object.commit().unwrap();
    store.release(&object);
    store.close().unwrap();
    let store = open(&disk, &keys);
    let object = open_object(&store, &bucket(&store), "a");
    assert_eq!(content(&object), b"Content");
    store.release(&object);
    store.close().unwrap();
}

/// Any error of stat counted as "no such bucket", and the record with the key of its symlinks was replaced.
#[test]
fn a_bucket_that_cannot_be_looked_up_keeps_its_record() {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let (dir, name) = (bucket(&store), OsStr::new("link"));
    store.make_symlink(&dir, name, b"target", &NODE).unwrap();
    disk.fail(FaultPlan::nth(1, libc::EIO).of(&[Call::Stat]));
    let made = store.make_dir(store.root(), OsStr::new(BUCKET), &NODE);
    assert_eq!(made.err(), Some(Error::Errno(libc::EIO)));
    disk.heal();
    assert_eq!(store.read_link(&bucket(&store), name).unwrap(), b"target");
    store.close().unwrap();
}

/// The tables had grown to the new length already, and stayed so.
#[test]
fn a_write_that_cannot_read_a_page_leaves_the_object_as_it_was() {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let object = create(&store, &bucket(&store), "a");
    let data = pattern(1, 150 * 4096);
    object.write(0, &data).unwrap();
    object.write(300 * 4096, &data).unwrap();
    object.commit().unwrap();
    let data = content(&object);
    store.release(&object);
    store.close().unwrap();
    for nth in 1..=5 {
        let disk = disk.crash_point().kill();
        let store = open(&disk, &keys);
        let object = open_object(&store, &bucket(&store), "a");
        disk.fail(FaultPlan::nth(nth, libc::EIO).of(&[Call::Read]));
        // From a page inside to one more page than there was.
        if object.write(100 * 4096 + 1, &pattern(2, 500 * 4096)).is_ok() {
            assert!(nth > 2, "it read nothing");
            store.release(&object);
            store.close().unwrap();
            continue;
        }
        disk.heal();
        object.write(0, &data[..10]).unwrap();
        object.commit().unwrap();
        assert!(content(&object) == data, "read {nth}");
        store.release(&object);
        store.close().unwrap();
        let store = open(&disk, &keys);
        let object = open_object(&store, &bucket(&store), "a");
        assert!(content(&object) == data, "read {nth}, after a new mount");
        store.release(&object);
        store.close().unwrap();
    }
}

/// What a failed append had written followed later records of another length as if it had been appended after them.
#[test]
fn records_of_a_failed_append_never_count() {
    let keys = keys();
    let disk = disk_for(&keys);
    let store = open(&disk, &keys);
    let dir = bucket(&store);
    let [a, b] = ["a", "b"].map(|name| create(&store, &dir, name));
    a.write(0, &pattern(1, 4096)).unwrap();
    b.write(0, &pattern(2, SEAL.len())).unwrap();
    a.fsync().unwrap();
    b.fsync().unwrap();
    store.checkpoint().unwrap();
    // Both have their paths in this epoch's log, so that records are as long as their bytes.
    for object in [&a, &b] {
        store.rewrap(object, &aws_kms("k"), "", &CALLER).unwrap();
        object.fsync().unwrap();
    }
    // A commit of a seal, tag entries and a mark is written, and answered by an error all the same.
    a.punch(0, 4096).unwrap();
    disk.fail(FaultPlan::nth(1, libc::EIO).of(&[Call::Write]).after_sectors(100));
    assert_eq!(a.commit(), Err(Error::Errno(libc::EIO)));
    disk.heal();
    // A chunk as long as a seal: where its record ends, the failed commit's tag entries began.
    b.write(0, &pattern(3, SEAL.len())).unwrap();
    let killed = disk.crash_point().kill();
    let store = open(&killed, &keys);
    let object = open_object(&store, &bucket(&store), "a");
    assert!(content(&object) == pattern(1, 4096));
    store.release(&object);
    store.close().unwrap();
}

/// The header of the next epoch may have reached the disk, so that the records of this one no longer counted.
#[test]
fn what_is_acknowledged_after_an_epoch_could_not_be_raised_survives() {
    let keys = keys();
    for call in [Call::SyncData, Call::Write] {
        for nth in 1..=6 {
            let crashed = CrashedStore::new(&keys, SPREAD, true);
            for op in ["create a", "write a 0 2", "fsync a", "write a 0 1", "close a"] {
                crashed.try_step(op).unwrap();
            }
            // The last of them is that of the epoch; a write that fails may have been done all the same.
            crashed.disk.fail(FaultPlan::nth(nth, libc::EIO).of(&[call]).after_sectors(100));
            let _ = crashed.try_step("checkpoint");
            crashed.disk.heal();
            let _ = crashed.try_step("write a 1 1").and_then(|()| crashed.try_step("fsync a"));
            let told = crashed.told.lock().clone();
            for disk in crashed.disk.crash_point().power_cuts(20, 1) {
                let store = open(&disk, &keys);
                let wrong = told.violations(&super::look(&disk, &store, SPREAD), false);
                assert_eq!(wrong, Vec::<String>::new(), "{call:?} {nth}");
                store.close().unwrap();
            }
        }
    }
}

/// A sync of the log that failed had left records in the page cache alone; recovery wrote them home half, and a power
/// cut then found no record of the other half.
#[test]
fn recovery_writes_home_only_what_is_durable_in_the_log() {
    let keys = keys();
    let crashed = CrashedStore::new(&keys, SPREAD, true);
    for op in ["create a", "write a 0 8", "fsync a", "write a 0 8"] {
        crashed.try_step(op).unwrap();
    }
    crashed.disk.fail(FaultPlan::nth(1, libc::EIO).of(&[Call::SyncData]).losing_writes());
    assert_eq!(crashed.try_step("fsync a"), Err(Error::Errno(libc::EIO)));
    let told = crashed.told.lock().clone();
    let disk = crashed.disk.crash_point().kill();
    let points: Arc<parking_lot::Mutex<Vec<_>>> = Arc::default();
    let seen = points.clone();
    disk.watch(move |point| seen.lock().push(point.clone()));
    open(&disk, &keys).close().unwrap();
    disk.unwatch();
    for point in std::mem::take(&mut *points.lock()) {
        for disk in point.power_cuts(6, 1) {
            let store = open(&disk, &keys);
            assert_eq!(told.violations(&super::look(&disk, &store, SPREAD), false), Vec::<String>::new());
            store.close().unwrap();
        }
    }
}

/// Length and keys had changed before the new content was written, and the next commit sealed what there was of it.
#[test]
fn a_change_of_the_data_key_that_fails_leaves_the_content_as_it_was() {
    let keys = keys();
    for nth in 1..=4 {
        for call in [Call::Write, Call::Read, Call::Stat] {
            let disk = disk_for(&keys);
            let store = open(&disk, &keys);
            let object = create(&store, &bucket(&store), "a");
            let data = pattern(1, 70 * 4096 + 9);
            object.write(0, &data).unwrap();
            object.fsync().unwrap();
            disk.fail(FaultPlan::nth(nth, libc::EIO).of(&[call]));
            let changed = store.rewrap(&object, &aes256(), "a", &CALLER);
            disk.heal();
            assert!(content(&object) == data, "{call:?} {nth}: {changed:?}");
            object.write(0, &data[..1]).unwrap();
            object.commit().unwrap();
            store.release(&object);
            let killed = disk.crash_point().kill();
            store.close().unwrap();
            for disk in [disk, killed] {
                let store = open(&disk, &keys);
                let object = open_object(&store, &bucket(&store), "a");
                assert!(content(&object) == data, "{call:?} {nth}: {changed:?}");
                store.release(&object);
                store.close().unwrap();
            }
        }
    }
}

/// There was no segment of sidecars yet, and the checkpoint that looked for the dead object's failed.
#[test]
fn an_object_unlinked_before_any_was_committed_is_in_nobodys_way() {
    check("create a; write a 0 2; unlink a; checkpoint; create b; write b 0 2; fsync b; checkpoint");
}
