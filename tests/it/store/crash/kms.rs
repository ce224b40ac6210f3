//! The KMS refuses, does not answer or takes long in the middle of anything: who asked is told, nothing is lost, and
//! nobody else waits.

use super::campaign::{Campaign, Effort, seeds};
use super::crashed::{CrashedStore, SPREAD};
use super::faults::{BEFORE, Run, WORKLOAD};
use crate::store::*;
use kmsfs_kms::Code;
use kmsfs_sse::RequestError;
use kmsfs_store::backend;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// As many calls as the workload makes, with the service's own key behind the same KMS.
fn calls(kms: &Moody, keys: &Arc<KeyService>, encryption: &Encryption) -> u64 {
    let crashed = CrashedStore::with(keys, encryption.clone(), SPREAD, true);
    BEFORE.split(';').for_each(|op| crashed.try_step(op.trim()).unwrap());
    kms.answer(|_| Ok(()));
    WORKLOAD.split(';').for_each(|op| crashed.try_step(op.trim()).unwrap());
    kms.calls()
}

#[test]
fn each_call_to_the_kms_may_be_refused_or_unanswered() {
    for seed in seeds(12) {
        for (code, encryption) in [(Code::AccessDenied, aws_kms("0")), (Code::KmsInternal, dsse("0"))] {
            let kms = Moody::new();
            let keys = Arc::new(KeyService::new(kms.clone(), kms.clone()));
            let mut campaign = Campaign::with_keys(seed, keys.clone());
            let count = calls(&kms, &keys, &encryption);
            assert!(count > 20, "{count}");
            for nth in 1..=count {
                let error = move || Error::new(code, "not now");
                let told = kmsfs_store::Error::Sse(RequestError::Kms(error()));
                let crashed = CrashedStore::with(&keys, encryption.clone(), SPREAD, true);
                let story = format!("call {nth} of {count} to the KMS answers {}", code.name());
                let heals = |crashed: &CrashedStore, error: &kmsfs_store::Error| {
                    kms.answer(|_| Ok(()));
                    if *error != told {
                        crashed.misread.lock().push(format!("the caller was told {error:?}"));
                    }
                    true
                };
                Run::new(&mut campaign, story).run(
                    &crashed,
                    |_| kms.answer(move |call| if call.number == nth { Err(error()) } else { Ok(()) }),
                    heals,
                );
                kms.answer(|_| Ok(()));
            }
            campaign.finish();
        }
    }
}

/// Everything that needs no answer from this KMS.
fn use_everything_else(store: &Arc<Store>, dir: &Arc<Dir>, open: &Object) {
    open.write(0, &pattern(2, 5000)).unwrap();
    open.fsync().unwrap();
    // More than there are of anything that is shared out by inode numbers.
    for n in 0..40 {
        let name = format!("new-{n}");
        let new = create(store, dir, &name);
        new.write(0, b"new").unwrap();
        new.commit().unwrap();
        store.release(&new);
        let again = open_object(store, dir, &name);
        assert_eq!(content(&again), b"new");
        store.release(&again);
    }
    let rename = |from: &str, to: &str| {
        store.rename(dir, OsStr::new(from), dir, OsStr::new(to), backend::Rename::Replace).unwrap();
    };
    rename("new-0", "new-1");
    store.fsync_dir(dir).unwrap();
    store.commit_all();
    store.checkpoint().unwrap();
    for n in 1..40 {
        store.unlink(dir, OsStr::new(&format!("new-{n}"))).unwrap();
    }
    store.checkpoint().unwrap();
}

/// Does something for which this KMS is asked, and all else while it has not answered.
fn nobody_waits_for(what: &str, act: impl FnOnce(&Arc<Store>, &Arc<Dir>, &Arc<Object>) + Send) {
    let (kms, service) = (Moody::new(), Moody::new());
    let keys = Arc::new(KeyService::new(kms.clone(), service));
    let disk = disk_for(&keys);
    let store = open(&disk, &keys);
    for (name, encryption) in [("victim", aws_kms("k")), ("closed", aws_kms("k")), ("other", aes256())] {
        let object = store.create(&bucket(&store), OsStr::new(name), &NODE, &encryption, name, &CALLER).unwrap().0;
        object.write(0, &pattern(1, 9000)).unwrap();
        store.release(&object);
    }
    store.close().unwrap();
    let store = open(&disk, &keys);
    let dir = bucket(&store);
    let (victim, other) = (open_object(&store, &dir, "victim"), open_object(&store, &dir, "other"));
    let (reached, go_on) = kms.hold_next();
    let outcome = thread::scope(|scope| {
        let acting = scope.spawn(|| act(&store, &dir, &victim));
        reached.recv().unwrap();
        let (done, is_done) = channel();
        let (store, dir, other) = (&store, &dir, &other);
        scope.spawn(move || {
            use_everything_else(store, dir, other);
            let _ = done.send(());
        });
        let outcome = is_done.recv_timeout(Duration::from_secs(60));
        drop(go_on);
        acting.join().unwrap();
        outcome
    });
    assert!(outcome.is_ok(), "somebody waited while {what} waited for the KMS");
    assert_eq!(content(&victim), pattern(1, 9000), "{what}");
    store.release(&victim);
    store.release(&other);
    store.close().unwrap();
}

#[test]
fn while_the_kms_takes_its_time_nobody_else_waits() {
    let name = OsStr::new;
    nobody_waits_for("creating", |store, dir, _| {
        let made = store.create(dir, name("made"), &NODE, &aws_kms("k"), "made", &CALLER).unwrap().0;
        store.release(&made);
    });
    nobody_waits_for("opening", |store, dir, _| store.release(&open_object(store, dir, "closed")));
    nobody_waits_for("opening what is open", |store, dir, _| store.release(&open_object(store, dir, "victim")));
    nobody_waits_for("truncating at open", |store, dir, _| {
        let opened = store.open_truncated(dir, name("closed"), &aws_kms("k"), "closed", &CALLER).unwrap();
        store.release(&opened);
    });
    nobody_waits_for("wrapping anew", |store, _, victim| {
        store.rewrap(victim, &aws_kms("another"), "victim", &CALLER).unwrap();
    });
    nobody_waits_for("a new data key", |store, _, victim| {
        store.rewrap(victim, &dsse("k"), "victim", &CALLER).unwrap();
    });
    nobody_waits_for("unlocking", |store, _, victim| {
        victim.lock().unwrap();
        store.unlock(victim, &CALLER).unwrap();
    });
}

/// What is refused, and why.
type Refused<'a> = &'a (dyn Fn(&Arc<Store>, &Arc<Dir>) -> Option<kmsfs_store::Error> + Sync);

/// Nothing would note its birth any more, nor that it is there.
#[test]
fn no_file_is_made_by_whoever_asked_the_kms_when_the_store_was_closed() {
    let (kms, service) = (Moody::new(), Moody::new());
    let keys = Arc::new(KeyService::new(kms.clone(), service));
    let disk = disk_for(&keys);
    let damaged = {
        let store = open(&disk, &keys);
        let object = store.create(&bucket(&store), OsStr::new("damaged"), &NODE, &aes256(), "damaged", &CALLER);
        let object = object.unwrap().0;
        object.write(0, &pattern(1, 9000)).unwrap();
        store.release(&object);
        store.close().unwrap();
        let file = disk.root().unwrap().open_dir(OsStr::new("buckets")).unwrap();
        let file = file.open_dir(OsStr::new(BUCKET)).unwrap();
        file.open_file(OsStr::new("damaged"), backend::Access::ReadWrite).unwrap()
    };
    damaged.write_at(&[0xff; 64], 50).unwrap();
    let bytes = || {
        let mut bytes = vec![0; damaged.metadata().unwrap().len as usize];
        damaged.read_at(&mut bytes, 0).unwrap();
        bytes
    };
    let before = bytes();
    let acts: [Refused<'_>; 2] = [
        &|store, dir| store.create(dir, OsStr::new("made"), &NODE, &aws_kms("k"), "made", &CALLER).err(),
        &|store, dir| store.open_truncated(dir, OsStr::new("damaged"), &aws_kms("k"), "damaged", &CALLER).err(),
    ];
    for act in acts {
        let store = open(&disk, &keys);
        let dir = bucket(&store);
        let (reached, go_on) = kms.hold_next();
        let refused = thread::scope(|scope| {
            let acting = scope.spawn(|| act(&store, &dir));
            reached.recv().unwrap();
            store.close().unwrap();
            drop(go_on);
            acting.join().unwrap()
        });
        assert_eq!(refused, Some(kmsfs_store::Error::ReadOnly));
        assert!(store.stat_if_there(&dir, OsStr::new("made")).unwrap().is_none());
        assert!(bytes() == before, "it is written anew");
    }
}

#[test]
fn without_a_mood_nothing_is_wrong() {
    let kms = Moody::new();
    let mut campaign = Campaign::with_keys(13, Arc::new(KeyService::new(kms.clone(), kms)));
    campaign.encryption = aws_kms("0");
    campaign.check(&format!("{BEFORE}; {WORKLOAD}"), Effort { one_in: 4, cuts: 2, lives: 1 });
    campaign.finish();
}
