//! The descriptors of closed objects, which are kept for whoever opens them again.

use super::*;
use kmsfs_store::backend::{Access, Rename, XattrFlags};
use kmsfs_store::{Error, Ino, SetAttr, Target, Time, interleaving};
use kmsfs_testing::disk::{Call, FaultPlan};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Barrier;
use std::thread;

fn closed_object(store: &Arc<Store>, dir: &Arc<Dir>, name: &str) -> Ino {
    let object = create(store, dir, name);
    object.write(0, name.as_bytes()).unwrap();
    object.commit().unwrap();
    store.release(&object);
    object.ino()
}

/// Whether it is opened without the disk; closes it again.
fn is_at_hand(store: &Arc<Store>, ino: Ino) -> bool {
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

/// What is asked of an object by its name or inode while its last handle goes.
type Asked = fn(&Arc<Store>, &Arc<Dir>, ino: Ino) -> kmsfs_store::Result<()>;

const ASKED: [(&str, Asked); 13] = [
    ("stat", |store, dir, ino| {
        let attr = store.stat(Target::Name(dir, OsStr::new("object")))?;
        assert_eq!((attr.ino, attr.size), (ino, 6));
        Ok(())
    }),
    ("attributes", |store, _, ino| match store.attached(ino) {
        Some(object) => store.stat(Target::Object(&object)).map(|attr| assert_eq!(attr.size, 6)),
        None => Ok(()),
    }),
    ("extended attributes", |store, _, ino| match store.attached(ino) {
        Some(object) => {
            let (at, name) = (Target::Object(&object), OsStr::new("user.name"));
            store.set_xattr(at, name, b"value", XattrFlags::Any)?;
            assert_eq!(store.get_xattr(at, name)?, b"value");
            assert_eq!(store.list_xattr(at)?, b"user.name\0");
            store.remove_xattr(at, name)
        }
        None => Ok(()),
    }),
    ("chmod and utimes", |store, dir, _| {
        let changes = SetAttr { mode: Some(0o600), mtime: Some(Time(1)), ..SetAttr::default() };
        store.set_attr(Target::Name(dir, OsStr::new("object")), &changes).map(drop)
    }),
    ("rename over a name", |store, dir, _| {
        store.rename(dir, OsStr::new("object"), dir, OsStr::new("other"), Rename::Replace)
    }),
    ("exchange", |store, dir, _| store.rename(dir, OsStr::new("other"), dir, OsStr::new("object"), Rename::Exchange)),
    ("rename", |store, dir, _| store.rename(dir, OsStr::new("object"), dir, OsStr::new("new"), Rename::NoReplace)),
    ("link", |store, dir, _| store.link(dir, OsStr::new("object"), dir, OsStr::new("second")).map(drop)),
    ("unlink", |store, dir, _| store.unlink(dir, OsStr::new("object"))),
    ("fsync of the directory", |store, dir, _| store.fsync_dir(dir)),
    ("commit of everything", |store, _, _| {
        store.commit_all();
        store.lock_closed();
        Ok(())
    }),
    ("checkpoint", |store, _, _| store.checkpoint()),
    ("open", |store, dir, ino| {
        let object = match store.open_again(ino, &CALLER)? {
            Some(object) => object,
            None => store.open_object(dir, OsStr::new("object"), &CALLER)?,
        };
        let read = content(&object);
        store.release(&object);
        assert_eq!(read, b"object");
        Ok(())
    }),
];

/// The handle goes each time that somebody has found the object, once at the first such moment, once at the second, and
/// so on.
#[test]
fn whoever_has_found_an_object_uses_it_although_its_last_handle_goes() {
    for (what, asked) in ASKED {
        for of in [At::FirstCommit, At::LaterCommit, At::Rest] {
            let mut moment = 0;
            while goes_at(moment, of, what, asked) {
                moment += 1;
            }
            assert!(moment > 0, "{what}: nobody looks the object up");
        }
    }
}

/// What was done to the object last.
#[derive(Debug, Clone, Copy)]
enum At {
    /// All of it went straight home, and no sync covers it.
    FirstCommit,
    /// The log holds something of it.
    LaterCommit,
    Rest,
}

/// Whether there was such a moment.
fn goes_at(moment: usize, of: At, what: &str, asked: Asked) -> bool {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let dir = bucket(&store);
    closed_object(&store, &dir, "other");
    // So that the next one need not sync everything, names too.
    store.checkpoint().unwrap();
    let object = create(&store, &dir, "object");
    match of {
        At::FirstCommit => object.write(0, b"object").unwrap(),
        At::LaterCommit => {
            object.write(0, b"before").unwrap();
            object.commit().unwrap();
            object.write(0, b"object").unwrap();
        }
        At::Rest => {
            object.write(0, b"object").unwrap();
            store.checkpoint().unwrap();
        }
    }
    object.commit().unwrap();
    let (ino, left) = (object.ino(), Rc::new(Cell::new(Some(moment))));
    let release = {
        let (store, left) = (store.clone(), left.clone());
        move || match left.get() {
            Some(0) => {
                store.release(&object);
                left.set(None);
            }
            Some(moment) => left.set(Some(moment - 1)),
            None => {}
        }
    };
    interleaving::meanwhile(Some(Box::new(release)));
    let done = asked(&store, &dir, ino);
    interleaving::meanwhile(None);
    assert!(done.is_ok(), "{what}, as the handle goes at moment {moment}, {of:?}: {:?}", done.err());
    let went = left.get().is_none();
    store.close().unwrap();
    went
}

fn closed_with_space_to_give_back(store: &Arc<Store>, dir: &Arc<Dir>) -> Arc<Object> {
    let object = create(store, dir, "object");
    object.write(0, &vec![1; 64 << 10]).unwrap();
    object.truncate(100).unwrap();
    object.commit().unwrap();
    store.release(&object);
    object
}

/// What a checkpoint punches out of an object that was closed meanwhile needs its descriptor.
#[test]
fn an_object_with_space_to_give_back_keeps_its_descriptor_until_a_checkpoint() {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let dir = bucket(&store);
    let object = closed_with_space_to_give_back(&store, &dir);
    assert!(store.attached(object.ino()).is_some(), "it is closed, with space to give back");
    store.checkpoint().unwrap();
    assert!(store.attached(object.ino()).is_none(), "all is given back");
    store.close().unwrap();
}

/// To make room for a new object's descriptor it is closed and opened by its name again. Whatever is there by then was
/// removed.
#[test]
fn what_somebody_puts_in_the_place_of_an_object_that_is_being_made_is_left_alone() {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let dir = bucket(&store);
    let object = closed_with_space_to_give_back(&store, &dir);
    assert!(store.attached(object.ino()).is_some(), "its descriptor waits for a checkpoint");
    let new = OsStr::new("new");
    let other = {
        let root = disk.root().unwrap();
        root.open_dir(OsStr::new("buckets")).unwrap().open_dir(OsStr::new(BUCKET)).unwrap()
    };
    disk.set_few_descriptors(true);
    let (there, mut swapped) = (other.clone(), false);
    disk.during_sync(move |_| {
        if !std::mem::replace(&mut swapped, true) {
            there.unlink(new).unwrap();
            there.create_file(new, &NODE).unwrap().write_at(b"somebody's", 0).unwrap();
        }
    });
    let refused = store.create(&dir, new, &NODE, &aes256(), "new", &CALLER);
    assert_eq!(refused.err(), Some(Error::Errno(libc::ESTALE)));
    let found = other.open_file(new, Access::Read).unwrap();
    let mut there = [0; 10];
    found.read_at(&mut there, 0).unwrap();
    assert_eq!(&there, b"somebody's");
    // Nothing is left of one that nobody has touched.
    let own = OsStr::new("own");
    let refused = store.create(&dir, own, &NODE, &aes256(), "own", &CALLER);
    assert_eq!(refused.err(), Some(Error::Errno(libc::ENFILE)));
    assert!(other.stat(own).is_err());
    disk.set_few_descriptors(false);
    disk.unwatch();
    drop(found);
    store.close().unwrap();
}
