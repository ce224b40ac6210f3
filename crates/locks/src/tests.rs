//! The checks of a debug build, each on a thread of its own, since what a thread holds is the thread's.

use crate::ranks::{BucketKey, Draft, Drafts, Handles, Modes, ObjectState, Settling, Tree};
use crate::{Condvar, Mutex, ReentrantMutex, RwLock, RwLockWriteGuard, Turn, check_before_asking_the_kms};
use std::mem::size_of;
use std::thread;
use std::time::Duration;

/// What a thread that does it panics with.
fn panic_of(act: impl FnOnce() + Send) -> Option<String> {
    let done = thread::scope(|scope| scope.spawn(act).join());
    done.err().map(|panic| *panic.downcast::<String>().expect("a message"))
}

#[test]
fn a_lock_before_one_that_is_held_is_refused_and_both_are_named() {
    let (drafts, state): (Mutex<Drafts, ()>, RwLock<ObjectState, ()>) = <_>::default();
    let in_order = panic_of(|| {
        let _drafts = drafts.lock();
        drop(state.write());
        drop(state.read());
    });
    assert_eq!(in_order, None);
    let takes: [(&str, &(dyn Fn() + Sync)); 2] = [
        ("lock", &|| drop(drafts.lock())),
        ("try", &|| {
            drop(drafts.try_lock());
        }),
    ];
    for (how, take) in takes {
        let message = panic_of(|| {
            let _state = state.read();
            take();
        });
        let message = message.expect(how);
        assert!(
            message.starts_with("locks are taken out of order: Drafts after ObjectState, which crates"),
            "{message}"
        );
        assert!(message.contains("tests.rs:"), "where it was taken: {message}");
    }
}

#[test]
fn one_of_the_same_rank_is_refused_and_so_is_sharing_twice() {
    let (one, other): (Mutex<Draft, ()>, Mutex<Draft, ()>) = <_>::default();
    let two = || {
        let _one = one.lock();
        drop(other.lock());
    };
    assert!(panic_of(two).is_some());
    let tree: RwLock<Tree, ()> = RwLock::default();
    let shared_twice = || {
        let _shared = tree.read();
        drop(tree.read());
    };
    assert!(panic_of(shared_twice).is_some());
}

#[test]
fn locks_are_given_up_in_any_order() {
    let (drafts, handles, state): (Mutex<Drafts, ()>, Mutex<Handles, ()>, RwLock<ObjectState, ()>) = <_>::default();
    let panic = panic_of(|| {
        let (first, second) = (drafts.lock(), handles.lock());
        drop(first);
        let third = state.write();
        drop(second);
        let third = RwLockWriteGuard::downgrade(third);
        drop(third);
        drop((drafts.lock(), handles.lock()));
    });
    assert_eq!(panic, None);
    let still_held = panic_of(|| {
        let (first, second) = (drafts.lock(), handles.lock());
        drop(first);
        drop(drafts.lock());
        drop(second);
    });
    assert!(still_held.is_some(), "the second one is held still");
}

#[test]
fn a_lock_that_is_not_to_be_had_leaves_nothing_behind() {
    let (drafts, draft): (Mutex<Drafts, ()>, Mutex<Draft, ()>) = <_>::default();
    let _held = draft.lock();
    let panic = panic_of(|| {
        assert!(draft.try_lock().is_none());
        drop(drafts.lock());
    });
    assert_eq!(panic, None);
}

#[test]
fn a_turn_is_in_the_order_as_a_lock_is() {
    let tree: RwLock<Tree, ()> = RwLock::default();
    let after = panic_of(|| {
        let _tree = tree.read();
        drop(Turn::<Settling>::take());
    });
    assert_eq!(after, None);
    let before = panic_of(|| {
        let _settling = Turn::<Settling>::take();
        drop(tree.read());
    });
    assert!(before.expect("it is refused").contains("Tree after Settling"));
}

#[test]
fn a_mutex_that_may_be_taken_again_may() {
    static MODES: ReentrantMutex<Modes, ()> = ReentrantMutex::new(());
    let again = panic_of(|| {
        let _first = MODES.lock();
        let second = MODES.lock();
        drop(second);
        drop(MODES.lock());
    });
    assert_eq!(again, None);
    let drafts: Mutex<Drafts, ()> = Mutex::default();
    let after = panic_of(|| {
        let _first = MODES.lock();
        drop(drafts.lock());
    });
    assert!(after.is_some());
}

#[test]
fn whoever_waits_holds_nothing_that_it_does_not_give_up() {
    let (drafts, draft): (Mutex<Drafts, ()>, Mutex<Draft, ()>) = <_>::default();
    let changed = Condvar::new();
    let moment = Duration::from_millis(1);
    let fine = panic_of(|| {
        let _drafts = drafts.lock();
        assert!(changed.wait_for(&mut draft.lock(), moment), "nobody notifies");
    });
    assert_eq!(fine, None);
    let message = panic_of(|| {
        let mut first = drafts.lock();
        let _second = draft.lock();
        changed.wait_for(&mut first, moment);
    });
    assert!(message.expect("it is refused").contains("Drafts while Draft is held"));
}

#[test]
fn the_kms_is_asked_by_whoever_holds_nothing_but_a_bucket_key() {
    let (key, state): (Mutex<BucketKey, ()>, RwLock<ObjectState, ()>) = <_>::default();
    let fine = panic_of(|| {
        check_before_asking_the_kms();
        let _key = key.lock();
        check_before_asking_the_kms();
    });
    assert_eq!(fine, None);
    let message = panic_of(|| {
        let _state = state.read();
        check_before_asking_the_kms();
    });
    assert!(message.expect("it is refused").contains("the KMS is asked while a lock is held: ObjectState"));
    let message = panic_of(|| {
        let _settling = Turn::<Settling>::take();
        check_before_asking_the_kms();
    });
    assert!(message.expect("it is refused").contains("Settling"));
}

/// In a debug build too: what a thread holds is kept beside it.
#[test]
fn locks_are_as_large_as_without_a_rank() {
    assert_eq!(size_of::<Mutex<Draft, u64>>(), size_of::<parking_lot::Mutex<u64>>());
    assert_eq!(size_of::<RwLock<Tree, ()>>(), size_of::<parking_lot::RwLock<()>>());
    assert_eq!(size_of::<crate::MutexGuard<'_, Draft, u64>>(), size_of::<parking_lot::MutexGuard<'_, u64>>());
    assert_eq!(size_of::<Turn<Settling>>(), 0);
}
