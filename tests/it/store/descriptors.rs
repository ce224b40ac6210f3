//! The descriptors of closed objects, which are kept for whoever opens them again.

use super::*;
use kmsfs::store::Error;
use kmsfs::store::backend::simulated::{Call, FaultPlan};
use std::sync::Barrier;
use std::thread;

fn closed_object(store: &Arc<Store>, dir: &Arc<Dir>, name: &str) -> u64 {
    let object = create(store, dir, name);
    object.write(0, name.as_bytes()).unwrap();
    object.commit().unwrap();
    store.release(&object);
    object.ino()
}

/// Whether it is opened without the disk; closes it again.
fn is_at_hand(store: &Arc<Store>, ino: u64) -> bool {
    let object = store.open_again(ino, &CALLER).unwrap();
    object.inspect(|object| store.release(object)).is_some()
}

#[test]
fn a_closed_object_is_opened_again_without_a_call_to_the_disk() {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let ino = closed_object(&store, &bucket(&store), "object");
    for _ in 0..3 {
        let before = disk.calls();
        let object = store.open_again(ino, &CALLER).unwrap().expect("it was closed just now");
        assert_eq!(disk.calls().since(&before).total(), 0);
        assert_eq!(content(&object), b"object");
        store.release(&object);
    }
    store.close().unwrap();
}

#[test]
fn of_too_many_closed_objects_the_one_closed_longest_ago_gives_up_its_descriptor() {
    let (disk, keys) = new_disk();
    let store = open_with(&disk, &keys, StoreOptions { spare_descriptors: 2, ..StoreOptions::default() });
    let dir = bucket(&store);
    let [one, two, three] = ["one", "two", "three"].map(|name| closed_object(&store, &dir, name));
    assert_eq!([one, two, three].map(|ino| is_at_hand(&store, ino)), [false, true, true]);
    let object = open_object(&store, &dir, "one");
    assert_eq!(content(&object), b"one");
    store.release(&object);
    assert_eq!([two, three, one].map(|ino| is_at_hand(&store, ino)), [false, true, true]);
    store.close().unwrap();
}

#[test]
fn the_spare_descriptors_are_given_up_when_there_is_none_left_for_others() {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let dir = bucket(&store);
    for name in ["one", "two"] {
        closed_object(&store, &dir, name);
    }
    store.close().unwrap();
    for errno in [libc::EMFILE, libc::ENFILE] {
        let store = open(&disk, &keys);
        let dir = bucket(&store);
        let object = open_object(&store, &dir, "one");
        store.release(&object);
        disk.fail(FaultPlan::nth(1, errno).of(&[Call::OpenFile]));
        let other = open_object(&store, &dir, "two");
        assert!(!is_at_hand(&store, object.ino()), "its descriptor made room");
        // The other one is open: there is none left to give up.
        disk.fail(FaultPlan::nth(1, errno).of(&[Call::OpenFile]));
        let refused = store.open_object(&dir, OsStr::new("one"), &CALLER);
        assert!(matches!(refused, Err(Error::Errno(code)) if code == errno), "{:?}", refused.err());
        store.release(&other);
        store.close().unwrap();
    }
}

/// Or the space of a file that was read once would not come back.
#[test]
fn the_descriptor_goes_with_the_last_name() {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let dir = bucket(&store);
    let ino = closed_object(&store, &dir, "name");
    store.link(&dir, OsStr::new("name"), &dir, OsStr::new("other")).unwrap();
    store.unlink(&dir, OsStr::new("name")).unwrap();
    assert!(is_at_hand(&store, ino));
    store.unlink(&dir, OsStr::new("other")).unwrap();
    assert!(!is_at_hand(&store, ino));
    store.close().unwrap();
}

/// Its record would be freed while somebody writes.
#[test]
fn whoever_opens_an_unlinked_object_while_its_last_handle_goes_has_it_or_not_at_all() {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let dir = bucket(&store);
    for _ in 0..2000 {
        let object = create(&store, &dir, "object");
        store.unlink(&dir, OsStr::new("object")).unwrap();
        let (ino, both) = (object.ino(), Barrier::new(2));
        thread::scope(|scope| {
            scope.spawn(|| {
                both.wait();
                store.release(&object);
            });
            both.wait();
            if let Some(again) = store.open_again(ino, &CALLER).unwrap() {
                assert!(is_at_hand(&store, ino), "it is among the dead, and open");
                store.release(&again);
            }
        });
        assert!(!is_at_hand(&store, ino));
    }
    store.close().unwrap();
}
