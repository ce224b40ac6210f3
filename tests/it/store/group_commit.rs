//! The redo log under many writers: whoever waits shares a sync, and neither the log nor recovery grows without bound.

use super::*;
use kmsfs_store::LogUsage;
use kmsfs_testing::disk::Call;
use std::thread;
use std::time::{Duration, Instant};

const CHUNK: usize = 4096;

/// Objects of four chunks each, durable, so that overwriting them goes through the log alone.
fn durable_objects(store: &Arc<Store>, count: usize) -> Vec<Arc<Object>> {
    let dir = bucket(store);
    let objects: Vec<_> = (0..count).map(|n| create(store, &dir, &format!("object-{n}"))).collect();
    for object in &objects {
        object.write(0, &pattern(1, 4 * CHUNK)).unwrap();
        object.fsync().unwrap();
    }
    objects
}

/// So many writers fsync at once, all but one of them while the first one's sync is under way: answers how often the
/// log was synced for them.
fn syncs_for(writers: usize) -> u64 {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let objects = durable_objects(&store, writers);
    for object in &objects {
        object.write(0, &pattern(2, CHUNK)).unwrap();
    }
    let before = disk.calls();
    let (began, callback) = std::sync::mpsc::channel();
    let watched = disk.clone();
    let appended = before.of(Call::Write) + writers as u64;
    disk.during_sync(move |call| {
        assert_eq!(call, Call::SyncData, "nothing but the log is synced");
        let _ = began.send(());
        let patience = Instant::now() + Duration::from_secs(30);
        // Until the commits of all the others are in the log, too late for this sync.
        while watched.calls().of(Call::Write) < appended && Instant::now() < patience {
            thread::sleep(Duration::from_millis(1));
        }
    });
    thread::scope(|scope| {
        let (first, others) = objects.split_first().unwrap();
        let first = scope.spawn(|| first.fsync().unwrap());
        callback.recv().unwrap();
        for object in others {
            scope.spawn(|| object.fsync().unwrap());
        }
        first.join().unwrap();
    });
    disk.unwatch();
    let calls = disk.calls().since(&before);
    assert_eq!((calls.of(Call::Sync), calls.of(Call::SyncDir), calls.of(Call::SyncAll)), (0, 0, 0));
    assert_eq!(calls.of(Call::Write), writers as u64, "one write for each commit");
    // What they were told is true.
    for after in disk.crash_point().power_cuts(3, 1) {
        let store = open(&after, &keys);
        let dir = bucket(&store);
        for n in 0..writers {
            let object = open_object(&store, &dir, &format!("object-{n}"));
            assert!(content(&object)[..CHUNK] == pattern(2, CHUNK)[..], "object-{n}");
            store.release(&object);
        }
        store.close().unwrap();
    }
    calls.of(Call::SyncData)
}

#[test]
fn all_who_wait_share_one_sync_of_the_log() {
    assert_eq!(syncs_for(1), 1);
    assert_eq!(syncs_for(4), 2);
    assert_eq!(syncs_for(16), 2);
}

fn log_length(disk: &SimulatedDisk) -> u64 {
    disk.root().unwrap().open_dir(OsStr::new("log")).unwrap().stat(OsStr::new("redo")).unwrap().len
}

#[test]
fn the_log_keeps_its_bound_under_continuous_writes_and_recovery_reads_no_more_than_that() {
    const BOUND: u64 = 2 << 20;
    const WRITE: usize = 64 << 10;
    let (disk, keys) = new_disk();
    let options = || StoreOptions { log_bound: BOUND, ..StoreOptions::default() };
    let store = open_with(&disk, &keys, options());
    let dir = bucket(&store);
    let object = create(&store, &dir, "object");
    object.write(0, &pattern(0, 16 * WRITE)).unwrap();
    object.fsync().unwrap();
    // Twenty times the bound, and never a checkpoint that anybody asked for.
    for n in 1..=640_u64 {
        object.write((n % 16) * WRITE as u64, &pattern(n, WRITE)).unwrap();
        if n % 7 == 0 {
            object.fsync().unwrap();
        }
        // One write beyond the bound, and doubling.
        assert!(log_length(&disk) <= 2 * (BOUND + 2 * WRITE as u64), "{} after {n} writes", log_length(&disk));
    }
    object.fsync().unwrap();
    let killed = disk.crash_point().kill();
    let before = killed.calls();
    let store_again = open_with(&killed, &keys, options());
    let calls = killed.calls().since(&before);
    // Records of at least a chunk each, once to their homes, and a few calls for the log and the parameters.
    let most = 2 * BOUND / CHUNK as u64 + 20;
    assert!(calls.total() <= most, "recovery made {} calls", calls.total());
    let again = open_object(&store_again, &bucket(&store_again), "object");
    for n in 625..=640_u64 {
        let mut bytes = vec![0; WRITE];
        again.read((n % 16) * WRITE as u64, &mut bytes).unwrap();
        assert!(bytes == pattern(n, WRITE), "write {n}");
    }
    store.release(&object);
    store_again.release(&again);
}

#[test]
fn what_is_written_once_goes_past_the_log() {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let object = create(&store, &bucket(&store), "a");
    object.write(0, &pattern(1, 1 << 20)).unwrap();
    object.commit().unwrap();
    object.write(1 << 20, &pattern(2, 1 << 20)).unwrap();
    assert_eq!(store.log_usage(), LogUsage { bytes: 0, syncs: 0, checkpoints: 0 });
    object.fsync().unwrap();
    // Tag entries of 256 chunks, the seal, the sidecar's record, a mark.
    let once = store.log_usage();
    assert!(once.bytes < 20_000 && once.syncs == 1, "{once:?}");
    object.write(0, &pattern(3, 100 * CHUNK)).unwrap();
    object.fsync().unwrap();
    let logged = store.log_usage().bytes - once.bytes;
    assert!((100 * CHUNK as u64..110 * CHUNK as u64).contains(&logged), "{logged}");
    store.release(&object);
    store.close().unwrap();
}

#[test]
fn while_a_checkpoint_runs_appends_are_known_to_wait_and_readers_go_on() {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let objects = durable_objects(&store, 2);
    objects[0].write(0, &pattern(2, CHUNK)).unwrap();
    assert!(!store.appends_wait());
    let (told, syncs) = std::sync::mpsc::channel();
    let (during, other) = (store.clone(), objects[1].clone());
    disk.during_sync(move |_| {
        let mut bytes = [0; CHUNK];
        // Not by the thread that runs the checkpoint, and has locks for it.
        thread::scope(|scope| scope.spawn(|| other.read(0, &mut bytes).unwrap()).join()).unwrap();
        told.send((during.appends_wait(), bytes[..] == pattern(1, CHUNK))).unwrap();
    });
    store.checkpoint().unwrap();
    disk.unwatch();
    let syncs: Vec<_> = syncs.try_iter().collect();
    assert!(!syncs.is_empty() && syncs.iter().all(|sync| *sync == (true, true)), "{syncs:?}");
    assert!(!store.appends_wait());
    for object in &objects {
        store.release(object);
    }
    store.close().unwrap();
}

#[test]
fn all_who_find_the_log_full_wait_for_one_checkpoint() {
    let (disk, keys) = new_disk();
    let store = open_with(&disk, &keys, StoreOptions { log_bound: 16 * CHUNK as u64, ..StoreOptions::default() });
    let objects = durable_objects(&store, 3);
    let before = store.log_usage().checkpoints;
    while !store.appends_wait() {
        objects[0].write(0, &pattern(2, 4 * CHUNK)).unwrap();
    }
    let (checkpointing, began) = std::sync::mpsc::channel();
    disk.during_sync(move |_| {
        let _ = checkpointing.send(());
        thread::sleep(Duration::from_millis(50));
    });
    thread::scope(|scope| {
        scope.spawn(|| objects[1].write(0, &pattern(3, CHUNK)).unwrap());
        began.recv().unwrap();
        for _ in 0..4 {
            scope.spawn(|| objects[2].write(0, &pattern(4, CHUNK)).unwrap());
        }
    });
    disk.unwatch();
    assert_eq!(store.log_usage().checkpoints - before, 1);
    for object in &objects {
        store.release(object);
    }
    store.close().unwrap();
}
