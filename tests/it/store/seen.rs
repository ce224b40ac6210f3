//! A store that was put back, or has another copy that went on, is refused; one that lost nothing never is.

use super::*;
use kmsfs_store::Error;
use kmsfs_testing::disk::{Call, CrashPoint, FaultPlan};

fn with(witness: &Arc<Memory>, rollback: Rollback) -> StoreOptions {
    let options = watched(witness);
    StoreOptions { watch: Watch { rollback, ..options.watch.clone() }, ..options }
}

fn try_open(disk: &SimulatedDisk, keys: &Arc<KeyService>, options: &StoreOptions) -> Result<Arc<Store>, Error> {
    Store::open(Arc::new(disk.clone()), keys.clone(), options.clone())
}

/// As a mount does that changes something.
fn use_once(disk: &SimulatedDisk, keys: &Arc<KeyService>, options: &StoreOptions) {
    let store = try_open(disk, keys, options).unwrap();
    drop(bucket(&store));
    store.close().unwrap();
}

fn copy(disk: &SimulatedDisk) -> SimulatedDisk {
    disk.crash_point().kill()
}

/// What it says of a store that is refused, and that it changes nothing of it.
fn refusal(disk: &SimulatedDisk, keys: &Arc<KeyService>, options: &StoreOptions) -> String {
    disk.watch(|_| panic!("a store that is refused was changed"));
    let refused = try_open(disk, keys, options).err();
    disk.unwatch();
    match refused {
        Some(Error::RolledBack(text)) => text,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_store_that_was_put_back_is_refused_unchanged_until_that_is_accepted() {
    let (disk, keys) = new_disk();
    let witness = Arc::<Memory>::default();
    let options = watched(&witness);
    use_once(&disk, &keys, &options);
    let earlier = copy(&disk);
    use_once(&disk, &keys, &options);
    let seen = witness.record();
    for read_only in [false, true] {
        let text = refusal(&earlier, &keys, &StoreOptions { read_only, ..options.clone() });
        assert!(text.starts_with("the store was put back to an earlier state: on 20"), "{text}");
        assert!(text.contains("--accept-rollback"), "{text}");
    }
    assert_eq!(witness.record(), seen);
    use_once(&disk, &keys, &options);
    use_once(&earlier, &keys, &with(&witness, Rollback::Accept));
    use_once(&earlier, &keys, &options);
    let text = refusal(&disk, &keys, &options);
    assert!(text.starts_with("another copy of the store has gone on by itself: "), "{text}");
}

#[test]
fn of_two_copies_that_both_went_on_the_second_is_refused_however_far_it_went() {
    let (disk, keys) = new_disk();
    let witness = Arc::<Memory>::default();
    let options = watched(&witness);
    use_once(&disk, &keys, &options);
    let other = copy(&disk);
    use_once(&disk, &keys, &options);
    for _ in 0..5 {
        // Where nobody knows of the first.
        use_once(&other, &keys, &StoreOptions::default());
        let text = refusal(&other, &keys, &options);
        assert!(text.contains("--accept-rollback"), "{text}");
    }
    assert!(refusal(&other, &keys, &options).starts_with("another copy of the store has gone on by itself: "));
    use_once(&disk, &keys, &options);
}

#[test]
fn a_copy_that_was_made_while_the_store_was_used_is_another_as_soon_as_it_goes_on() {
    let (disk, keys) = new_disk();
    let witness = Arc::<Memory>::default();
    let store = try_open(&disk, &keys, &watched(&witness)).unwrap();
    drop(bucket(&store));
    store.checkpoint().unwrap();
    let other = copy(&disk);
    store.close().unwrap();
    assert!(refusal(&other, &keys, &watched(&witness)).starts_with("the store was put back"));
    use_once(&other, &keys, &StoreOptions::default());
    assert!(
        refusal(&other, &keys, &watched(&witness)).starts_with("another copy of the store has gone on by itself: ")
    );
    use_once(&disk, &keys, &watched(&witness));
}

#[test]
fn a_store_that_went_on_elsewhere_alone_and_one_of_which_nothing_is_known_are_taken() {
    let (disk, keys) = new_disk();
    let witness = Arc::<Memory>::default();
    use_once(&disk, &keys, &watched(&witness));
    for _ in 0..3 {
        use_once(&disk, &keys, &StoreOptions::default());
        use_once(&disk, &keys, &watched(&Arc::default()));
    }
    use_once(&disk, &keys, &watched(&witness));
    // As often as the list does not reach back.
    for _ in 0..300 {
        use_once(&disk, &keys, &StoreOptions::default());
    }
    use_once(&disk, &keys, &watched(&witness));
}

#[test]
fn what_is_only_looked_at_counts_as_seen() {
    let (disk, keys) = new_disk();
    let witness = Arc::<Memory>::default();
    let looking = StoreOptions { read_only: true, ..watched(&witness) };
    use_once(&disk, &keys, &StoreOptions::default());
    let earlier = copy(&disk);
    use_once(&disk, &keys, &StoreOptions::default());
    let store = try_open(&disk, &keys, &looking).unwrap();
    let seen = witness.record();
    assert!(seen.is_some());
    store.close().unwrap();
    try_open(&disk, &keys, &looking).unwrap().close().unwrap();
    assert_eq!(witness.record(), seen, "nothing is told twice");
    assert!(refusal(&earlier, &keys, &watched(&witness)).starts_with("the store was put back"));
    let reporting = StoreOptions { read_only: true, ..with(&witness, Rollback::Report) };
    let store = try_open(&earlier, &keys, &reporting).unwrap();
    assert!(store.rolled_back().unwrap().starts_with("the store was put back"), "{:?}", store.rolled_back());
    store.close().unwrap();
    assert_eq!(witness.record(), seen, "and is not accepted by being looked at");
    let accepting = StoreOptions { read_only: true, ..with(&witness, Rollback::Accept) };
    try_open(&earlier, &keys, &accepting).unwrap().close().unwrap();
    use_once(&earlier, &keys, &watched(&witness));
}

#[test]
fn no_changed_byte_of_the_record_makes_a_rollback_pass() {
    let (disk, keys) = new_disk();
    let witness = Arc::<Memory>::default();
    use_once(&disk, &keys, &watched(&witness));
    let earlier = copy(&disk);
    use_once(&disk, &keys, &watched(&witness));
    let record = witness.record().unwrap();
    for at in 0..record.len() {
        for bit in 0..8 {
            let mut changed = record.clone();
            changed[at] ^= 1 << bit;
            refusal(&earlier, &keys, &watched(&Arc::new(Memory::of(Some(changed)))));
        }
    }
    for record in [&b""[..], &record[..40], b"{}"] {
        let text = refusal(&disk, &keys, &watched(&Arc::new(Memory::of(Some(record.to_vec())))));
        assert!(text.starts_with("what was last seen of the store was changed since"), "{text}");
    }
    use_once(&disk, &keys, &watched(&witness));
}

#[test]
fn a_lost_list_of_openings_refuses_what_only_it_would_show_and_nothing_else() {
    let (disk, keys) = new_disk();
    let (witness, behind) = (Arc::<Memory>::default(), Arc::<Memory>::default());
    use_once(&disk, &keys, &watched(&behind));
    use_once(&disk, &keys, &watched(&witness));
    disk.root().unwrap().unlink(OsStr::new("openings")).unwrap();
    let text = refusal(&disk, &keys, &watched(&behind));
    assert!(text.contains("its list of openings is missing"), "{text}");
    use_once(&disk, &keys, &watched(&witness));
    use_once(&disk, &keys, &watched(&witness));
}

#[test]
fn the_one_of_two_copies_in_use_that_was_not_accepted_stops_telling() {
    let (disk, keys) = new_disk();
    let witness = Arc::<Memory>::default();
    use_once(&disk, &keys, &watched(&witness));
    let other = copy(&disk);
    let store = try_open(&disk, &keys, &watched(&witness)).unwrap();
    let accepted = try_open(&other, &keys, &with(&witness, Rollback::Accept)).unwrap();
    let seen = witness.record();
    drop(bucket(&store));
    store.close().unwrap();
    assert_eq!(witness.record(), seen);
    accepted.close().unwrap();
    assert!(refusal(&disk, &keys, &watched(&witness)).starts_with("another copy"));
    use_once(&other, &keys, &watched(&witness));
}

/// Crashes at every call of opening, using and closing a store, at all that a power cut may leave, once more after what
/// that leaves: it is refused nowhere.
pub fn openings_survive() -> Result<(), String> {
    let (disk, keys) = new_disk();
    let witness = Arc::<Memory>::default();
    use_once(&disk, &keys, &watched(&witness));
    let mut lives = vec![(disk, witness.record())];
    for life in 0..2 {
        let mut next = Vec::new();
        for (disk, record) in lives {
            for (n, (point, record)) in points(&disk, &keys, record, &format!("object{life}"))?.into_iter().enumerate()
            {
                let cuts = point.power_cuts(6, n as u64).chain([point.kill()]);
                for cut in cuts.collect::<Vec<_>>() {
                    if life == 0 && n % 7 == 0 {
                        next.push((copy(&cut), record.clone()));
                    }
                    let opened = try_open(&cut, &keys, &watched(&Arc::new(Memory::of(record.clone()))));
                    let store = opened.map_err(|error| format!("life {life}, call {n}: {error}"))?;
                    store.close().map_err(|error| error.to_string())?;
                }
            }
        }
        lives = next.into_iter().step_by(5).collect();
    }
    Ok(())
}

/// Every instant of a life of a store, and what was told by then.
type Points = Vec<(CrashPoint, Option<Vec<u8>>)>;

fn points(disk: &SimulatedDisk, keys: &Arc<KeyService>, record: Option<Vec<u8>>, name: &str) -> Result<Points, String> {
    let witness = Arc::new(Memory::of(record));
    let points: Arc<Mutex<Points>> = Arc::default();
    let (kept, telling) = (points.clone(), witness.clone());
    disk.watch(move |point| kept.lock().push((point.clone(), telling.record())));
    let store = try_open(disk, keys, &watched(&witness)).map_err(|error| error.to_string())?;
    let object = create(&store, &bucket(&store), name);
    object.write(0, b"content").unwrap();
    store.release(&object);
    store.checkpoint().unwrap();
    store.close().unwrap();
    disk.unwatch();
    points.lock().push((disk.crash_point(), witness.record()));
    let points = std::mem::take(&mut *points.lock());
    Ok(points)
}

#[test]
fn a_store_that_lost_nothing_is_refused_after_no_crash() {
    assert_eq!(openings_survive(), Ok(()));
}

/// Whatever fails while a store is opened and used, and is mended since: what was told is no more than what is there.
#[test]
fn a_store_that_lost_nothing_is_refused_after_no_failure() {
    let (first, keys) = new_disk();
    let told = Arc::<Memory>::default();
    use_once(&first, &keys, &watched(&told));
    for errno in [libc::ENOSPC, libc::EIO] {
        for call in [Call::Create, Call::Write, Call::Sync, Call::SyncData, Call::SyncDir, Call::SyncAll, Call::Rename]
        {
            for nth in 1..12 {
                let disk = copy(&first);
                let witness = Arc::new(Memory::of(told.record()));
                disk.fail(FaultPlan::nth(nth, errno).of(&[call]));
                if let Ok(store) = try_open(&disk, &keys, &watched(&witness)) {
                    let _ = store.checkpoint();
                    let _ = store.close();
                }
                disk.heal();
                for cut in disk.crash_point().power_cuts(4, nth).chain([copy(&disk)]).collect::<Vec<_>>() {
                    let opened = try_open(&cut, &keys, &watched(&Arc::new(Memory::of(witness.record()))));
                    assert!(
                        !matches!(opened, Err(Error::RolledBack(_))),
                        "{errno} at {call:?} {nth}: {:?}",
                        opened.err()
                    );
                    opened.unwrap().close().unwrap();
                }
            }
        }
    }
}
