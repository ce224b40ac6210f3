//! Objects read back what was written to them, through every length and across mounts.

use super::*;
use kmsfs_store::{Error, SeekTo};
use proptest::prelude::*;

const CHUNK: usize = 4096;

#[test]
fn what_was_written_reads_back_before_and_after_closing() {
    let (disk, keys) = new_disk();
    for (n, len) in
        [0, 1, 4095, 4096, 4097, 64 * CHUNK, 64 * CHUNK + 1, 200 * CHUNK, 400 * CHUNK + 5].into_iter().enumerate()
    {
        let name = format!("o{n}");
        let data = pattern(n as u64, len);
        let store = open(&disk, &keys);
        let dir = bucket(&store);
        let object = create(&store, &dir, &name);
        object.write(0, &data).unwrap();
        assert!(content(&object) == data, "{len} before the commit");
        object.commit().unwrap();
        store.release(&object);
        assert_eq!(store.stat(kmsfs_store::Target::Name(&dir, OsStr::new(&name))).unwrap().size, len as u64);
        store.close().unwrap();
        let store = open(&disk, &keys);
        let dir = bucket(&store);
        assert_eq!(store.stat(kmsfs_store::Target::Name(&dir, OsStr::new(&name))).unwrap().size, len as u64);
        let object = open_object(&store, &dir, &name);
        assert!(content(&object) == data, "{len} after a new mount");
        store.release(&object);
        store.close().unwrap();
    }
}

#[test]
fn a_sparse_object_of_many_levels_keeps_its_chunks_and_holes() {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let dir = bucket(&store);
    let object = create(&store, &dir, "sparse");
    let places = [0, 70 << 20, (10 << 30) + 17, 100 << 30];
    for (n, place) in places.iter().enumerate() {
        object.write(*place, &pattern(n as u64, 5000)).unwrap();
        object.commit().unwrap();
    }
    store.release(&object);
    store.close().unwrap();
    let store = open(&disk, &keys);
    let dir = bucket(&store);
    let object = open_object(&store, &dir, "sparse");
    for (n, place) in places.iter().enumerate() {
        let mut bytes = vec![0; 5000];
        assert_eq!(object.read(*place, &mut bytes).unwrap(), 5000);
        assert_eq!(bytes, pattern(n as u64, 5000));
        let hole = object.seek(*place, SeekTo::Hole).unwrap();
        assert_eq!(hole, (place + 5000).next_multiple_of(4096).min((100 << 30) + 5000));
    }
    assert_eq!(object.seek(1 << 20, SeekTo::Data).unwrap(), 70 << 20);
    assert_eq!(object.seek(200 << 30, SeekTo::Data), Err(Error::Errno(libc::ENXIO)));
    object.truncate((10 << 30) + 20).unwrap();
    object.truncate(50 << 30).unwrap();
    object.commit().unwrap();
    let mut bytes = vec![1; 5000];
    object.read((10 << 30) + 17, &mut bytes).unwrap();
    assert_eq!(bytes[..3], pattern(2, 5000)[..3]);
    assert!(bytes[3..].iter().all(|byte| *byte == 0));
    store.release(&object);
    store.close().unwrap();
}

#[test]
fn the_key_epoch_rises_at_the_bound_of_encryptions_and_old_chunks_stay_readable() {
    // Chunks a write: a large one is encrypted before the object is locked, and again if its epoch has ended.
    for (count, bound) in [(1, 10), (40, 100)] {
        let (disk, keys) = new_disk();
        let options = StoreOptions { encryptions: bound, ..StoreOptions::default() };
        let store = open_with(&disk, &keys, options);
        let dir = bucket(&store);
        let object = create(&store, &dir, "o");
        let mut expected = Vec::new();
        for n in 0..50 {
            let data = pattern(n, count * CHUNK);
            object.write(expected.len() as u64, &data).unwrap();
            expected.extend(data);
        }
        object.fsync().unwrap();
        store.release(&object);
        store.close().unwrap();
        let store = open(&disk, &keys);
        let object = open_object(&store, &bucket(&store), "o");
        assert!(content(&object) == expected);
        store.release(&object);
        store.close().unwrap();
    }
}

/// A large request is encrypted before the object is locked: by then the key may be another one, or the object's id.
#[test]
fn large_requests_beside_changes_of_the_key_are_under_the_key_that_is_there() {
    const SLOT: usize = 16 * CHUNK;
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let object = create(&store, &bucket(&store), "o");
    object.write(0, &pattern(0, 4 * SLOT)).unwrap();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|slot| {
                let object = &object;
                scope.spawn(move || {
                    for round in 0..20 {
                        object.write((slot * SLOT) as u64, &pattern(round * 4 + slot as u64, SLOT)).unwrap();
                    }
                })
            })
            .collect();
        let mut changes = [aws_kms("one"), dsse("two"), aes256()].into_iter().cycle();
        let mut changed = 0;
        while writers.iter().any(|writer| !writer.is_finished()) {
            store.rewrap(&object, &changes.next().unwrap(), "o", &CALLER).unwrap();
            changed += 1;
        }
        assert!(changed > 2);
    });
    for slot in 0..4 {
        let mut bytes = vec![0; SLOT];
        assert_eq!(object.read((slot * SLOT) as u64, &mut bytes).unwrap(), SLOT);
        assert!(bytes == pattern(19 * 4 + slot as u64, SLOT), "slot {slot}");
    }
    store.release(&object);
    store.close().unwrap();
}

#[test]
fn a_large_object_gets_a_new_data_key_chunk_by_chunk_through_a_small_log() {
    let (disk, keys) = new_disk();
    let options = || StoreOptions { rewritten: 0, log_bound: 1 << 20, cache: 64 << 10, ..StoreOptions::default() };
    let store = open_with(&disk, &keys, options());
    let dir = bucket(&store);
    let object = create(&store, &dir, "o");
    let mut expected = pattern(1, 6 << 20);
    object.write(0, &expected).unwrap();
    object.write(80 << 20, b"behind a hole").unwrap();
    object.fsync().unwrap();
    let mtime = object.attr().unwrap().mtime;
    store.rewrap(&object, &aws_kms("one"), "o", &CALLER).unwrap();
    store.begin_epoch(&object, &aws_kms("two"), "o", &CALLER).unwrap();
    let next = object.reencrypt_some(0, 100).unwrap().unwrap();
    assert_eq!(next, 100);
    assert_eq!(object.attr().unwrap().mtime, mtime);
    assert_eq!(object.kms_keys().into_iter().map(|(key, _)| key).collect::<Vec<_>>(), [arn("one"), arn("two")]);
    object.write(4096 * 99 + 7, b"between").unwrap();
    expected[4096 * 99 + 7..][..7].copy_from_slice(b"between");
    store.release(&object);
    store.close().unwrap();

    let store = open_with(&disk, &keys, options());
    let dir = bucket(&store);
    let object = open_object(&store, &dir, "o");
    let holds = |object: &Object| {
        let mut bytes = vec![0; 6 << 20];
        assert_eq!(object.read(0, &mut bytes).unwrap(), 6 << 20);
        assert!(bytes == expected);
        let mut tail = [1; 20];
        assert_eq!(object.read((80 << 20) - 7, &mut tail).unwrap(), 20);
        assert_eq!(&tail, b"\0\0\0\0\0\0\0behind a hole");
    };
    holds(&object);
    store.rewrap(&object, &aes256(), "o", &CALLER).unwrap();
    assert_eq!(object.kms_keys(), [], "nothing is under a KMS key any more");
    assert!(!object.has_old_keys());
    holds(&object);
    object.fsync().unwrap();
    store.release(&object);
    let killed = disk.crash_point().kill();
    let store = open_with(&killed, &keys, options());
    let object = open_object(&store, &bucket(&store), "o");
    holds(&object);
    store.release(&object);
    store.close().unwrap();
}

#[test]
fn a_rewrap_leaves_content_etag_and_mtime_alone() {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let dir = bucket(&store);
    let object = create(&store, &dir, "o");
    object.write(0, b"content").unwrap();
    object.fsync().unwrap();
    let (etag, mtime) = (object.etag().unwrap(), object.attr().unwrap().mtime);
    store.rewrap(&object, &aws_kms("one"), "o", &CALLER).unwrap();
    assert_eq!(object.encryption().key_arn.unwrap(), arn("one"));
    assert_eq!((object.etag().unwrap(), object.attr().unwrap().mtime), (etag.clone(), mtime));
    store.release(&object);
    store.close().unwrap();
    let store = open(&disk, &keys);
    let object = open_object(&store, &bucket(&store), "o");
    assert_eq!(object.encryption().key_arn.unwrap(), arn("one"));
    assert_eq!(object.etag().unwrap(), etag);
    assert_eq!(content(&object), b"content");
    store.release(&object);
    store.close().unwrap();
}

#[test]
fn a_store_is_opened_by_one_at_a_time() {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let again = Store::open(Arc::new(disk.clone()), keys.clone(), StoreOptions::default());
    assert_eq!(again.err(), Some(Error::InUse(Some(std::process::id()))));
    store.close().unwrap();
}

#[test]
fn an_object_that_goes_before_anything_is_written_does_not_hold_up_a_checkpoint() {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let dir = bucket(&store);
    let object = create(&store, &dir, "o");
    store.unlink(&dir, OsStr::new("o")).unwrap();
    store.release(&object);
    store.checkpoint().unwrap();
    store.close().unwrap();
}

#[test]
fn what_was_read_ahead_is_forgotten_when_it_changes_through_the_log() {
    let steps = [Step::Write(2464, 4096), Step::Remount, Step::Truncate(1), Step::Checkpoint, Step::Write(1, 1)];
    run(&steps, &StoreOptions::default());
}

#[derive(Debug, Clone)]
enum Step {
    Write(u32, u32),
    Truncate(u32),
    Punch(u32, u32),
    Read(u32, u32),
    Commit,
    Fsync,
    Checkpoint,
    Reopen,
    Remount,
}

fn step() -> impl Strategy<Value = Step> {
    let at = prop_oneof![0..20_000u32, 0..1_500_000u32, Just(64 * 4096), Just(192 * 4096), Just(320 * 4096)];
    let len = prop_oneof![1..200u32, 1..9000u32, 1..600_000u32, Just(4096)];
    prop_oneof![
        8 => (at.clone(), len.clone()).prop_map(|(at, len)| Step::Write(at, len)),
        3 => at.clone().prop_map(Step::Truncate),
        2 => (at.clone(), len.clone()).prop_map(|(at, len)| Step::Punch(at, len)),
        3 => (at, len).prop_map(|(at, len)| Step::Read(at, len)),
        2 => Just(Step::Commit),
        2 => Just(Step::Fsync),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
        1 => Just(Step::Remount),
    ]
}

/// A plain vector does the same.
fn run(steps: &[Step], options: &StoreOptions) {
    let (disk, keys) = new_disk();
    let mut store = open_with(&disk, &keys, options.clone());
    let mut dir = bucket(&store);
    let mut object = create(&store, &dir, "o");
    let mut model: Vec<u8> = Vec::new();
    for (n, step) in steps.iter().enumerate() {
        match step {
            Step::Write(at, len) => {
                let (at, data) = (*at as usize, pattern(n as u64, *len as usize));
                object.write(at as u64, &data).unwrap();
                model.resize(model.len().max(at + data.len()), 0);
                model[at..at + data.len()].copy_from_slice(&data);
            }
            Step::Truncate(len) => {
                object.truncate(u64::from(*len)).unwrap();
                model.resize(*len as usize, 0);
            }
            Step::Punch(at, len) => {
                object.punch(u64::from(*at), u64::from(*len)).unwrap();
                let from = model.len().min(*at as usize);
                let to = model.len().min((at + len) as usize);
                model[from..to].fill(0);
            }
            Step::Read(at, len) => {
                let mut bytes = vec![0; *len as usize];
                let read = object.read(u64::from(*at), &mut bytes).unwrap();
                let from = model.len().min(*at as usize);
                let to = model.len().min((at + len) as usize);
                assert!(bytes[..read] == model[from..to], "step {n}: read at {at} of {len}");
            }
            Step::Commit => object.commit().unwrap(),
            Step::Fsync => object.fsync().unwrap(),
            Step::Checkpoint => store.checkpoint().unwrap(),
            Step::Reopen | Step::Remount => {
                let anew = matches!(step, Step::Remount).then_some(|| open_with(&disk, &keys, options.clone()));
                (store, dir, object) = reopened(store, dir, object, anew);
            }
        }
        assert_eq!(object.attr().unwrap().size, model.len() as u64, "step {n}");
    }
    assert!(content(&object) == model);
    store.release(&object);
    store.close().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn random_changes_read_back_as_from_a_vector(steps in prop::collection::vec(step(), 1..60)) {
        run(&steps, &StoreOptions { cache: 30_000, log_bound: 2 << 20, ..StoreOptions::default() });
    }
}
