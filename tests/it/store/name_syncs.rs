//! What names have synced: never left out after a change, and not repeated without one.

use super::*;
use kmsfs_store::backend::{Rename, XattrFlags};
use kmsfs_store::{SetAttr, Target, Time};
use kmsfs_testing::disk::{Call, FaultPlan};

fn syncs(disk: &SimulatedDisk, act: impl FnOnce()) -> u64 {
    let before = disk.calls();
    act();
    let calls = disk.calls().since(&before);
    calls.of(Call::SyncDir) + calls.of(Call::SyncAll)
}

/// A store and its bucket, with all that is new at first made durable: the bucket's name, the first segment's.
fn settled(disk: &SimulatedDisk, keys: &Arc<KeyService>) -> (Arc<Store>, Arc<Dir>) {
    let store = open(disk, keys);
    let dir = bucket(&store);
    create(&store, &dir, "first").fsync().unwrap();
    (store, dir)
}

#[test]
fn a_directory_is_synced_again_after_any_change_and_only_then() {
    let (disk, keys) = new_disk();
    let (store, dir) = settled(&disk, &keys);
    let name = OsStr::new;
    store.make_dir(&dir, name("other"), &NODE).unwrap();
    let other = store.open_dir(&dir, name("other")).unwrap();
    let attribute = name("user.colour");
    let times = SetAttr { mtime: Some(Time(5)), ..SetAttr::default() };
    let mode = SetAttr { mode: Some(0o700), ..SetAttr::default() };
    let changes: &[(&str, &dyn Fn())] = &[
        ("create", &|| drop(create(&store, &dir, "object"))),
        ("mkdir", &|| _ = store.make_dir(&dir, name("inner"), &NODE).unwrap()),
        ("symlink", &|| _ = store.make_symlink(&dir, name("symlink"), b"target", &NODE).unwrap()),
        ("mknod", &|| _ = store.make_node(&dir, name("fifo"), libc::S_IFIFO, 0, &NODE).unwrap()),
        ("link", &|| _ = store.link(&dir, name("object"), &dir, name("second")).unwrap()),
        ("rename", &|| store.rename(&dir, name("second"), &dir, name("third"), Rename::Replace).unwrap()),
        ("rename away", &|| store.rename(&dir, name("third"), &other, name("third"), Rename::Replace).unwrap()),
        ("rename over", &|| store.rename(&other, name("third"), &dir, name("symlink"), Rename::Replace).unwrap()),
        ("exchange", &|| store.rename(&dir, name("fifo"), &dir, name("inner"), Rename::Exchange).unwrap()),
        ("unlink one of two", &|| store.unlink(&dir, name("symlink")).unwrap()),
        ("unlink the last", &|| store.unlink(&dir, name("object")).unwrap()),
        ("rmdir", &|| store.remove_dir(&dir, name("fifo")).unwrap()),
        ("chmod", &|| _ = store.set_attr(Target::Dir(&dir), &mode).unwrap()),
        ("utimes", &|| _ = store.set_attr(Target::Dir(&dir), &times).unwrap()),
        ("utimes of a name", &|| _ = store.set_attr(Target::Name(&dir, name("other")), &times).unwrap()),
        ("setxattr", &|| store.set_xattr(Target::Dir(&dir), attribute, b"red", XattrFlags::Any).unwrap()),
        ("removexattr", &|| store.remove_xattr(Target::Dir(&dir), attribute).unwrap()),
    ];
    store.fsync_dir(&dir).unwrap();
    for (what, change) in changes {
        assert_eq!(syncs(&disk, || store.fsync_dir(&dir).unwrap()), 0, "nothing has changed before {what}");
        change();
        assert!(syncs(&disk, || store.fsync_dir(&dir).unwrap()) > 0, "{what}");
    }
}

/// As every transaction of sqlite does with its journal.
#[test]
fn the_sync_of_a_new_file_is_one_of_its_directory() {
    let (disk, keys) = new_disk();
    let (store, dir) = settled(&disk, &keys);
    let object = create(&store, &dir, "journal");
    object.write(0, &pattern(1, 100)).unwrap();
    assert_eq!(syncs(&disk, || object.fsync().unwrap()), 1);
    assert_eq!(syncs(&disk, || store.fsync_dir(&dir).unwrap()), 0);
    // Another one has been the last since.
    store.fsync_dir(store.root()).unwrap();
    assert_eq!(syncs(&disk, || store.fsync_dir(&dir).unwrap()), 1);
}

#[test]
fn a_directory_whose_sync_failed_is_synced_the_next_time() {
    let (disk, keys) = new_disk();
    let (store, dir) = settled(&disk, &keys);
    drop(create(&store, &dir, "object"));
    disk.fail(FaultPlan::nth(1, libc::EIO).of(&[Call::SyncDir, Call::SyncAll]));
    assert_eq!(store.fsync_dir(&dir).unwrap_err().to_string(), kmsfs_store::Error::Errno(libc::EIO).to_string());
    disk.heal();
    assert!(syncs(&disk, || store.fsync_dir(&dir).unwrap()) > 0);
}

/// A bucket goes with a sync of its own. That it failed does not make the next one unnecessary.
#[test]
fn a_bucket_that_went_without_its_sync_is_synced_by_the_next_one() {
    let (disk, keys) = new_disk();
    let (store, _) = settled(&disk, &keys);
    let doomed = OsStr::new("doomed");
    store.make_dir(store.root(), doomed, &NODE).unwrap();
    store.fsync_dir(store.root()).unwrap();
    assert_eq!(syncs(&disk, || store.fsync_dir(store.root()).unwrap()), 0);
    disk.fail(FaultPlan::nth(1, libc::EIO).of(&[Call::SyncDir]));
    assert!(store.remove_dir(store.root(), doomed).is_err());
    disk.heal();
    assert!(syncs(&disk, || store.fsync_dir(store.root()).unwrap()) > 0);
}

/// As a mail server delivers: sync(2) would write all that anybody has on that file system.
#[test]
fn the_name_of_what_was_synced_and_closed_and_of_a_directory_needs_no_sync_of_everything() {
    let (disk, keys) = new_disk();
    let (store, dir) = settled(&disk, &keys);
    store.make_dir(&dir, OsStr::new("new"), &NODE).unwrap();
    let message = create(&store, &dir, "message");
    message.write(0, &pattern(1, 5000)).unwrap();
    message.fsync().unwrap();
    store.release(&message);
    let new = store.open_dir(&dir, OsStr::new("new")).unwrap();
    store.rename(&dir, OsStr::new("message"), &new, OsStr::new("message"), Rename::Replace).unwrap();
    let before = disk.calls();
    store.fsync_dir(&new).unwrap();
    assert_eq!(disk.calls().since(&before).of(Call::SyncAll), 0);
    for after in disk.crash_point().power_cuts(20, 1) {
        let store = open(&after, &keys);
        let new = store.open_dir(&bucket(&store), OsStr::new("new")).unwrap();
        assert!(content(&open_object(&store, &new, "message")) == pattern(1, 5000));
    }
    // Of what was never synced, the name alone would be worth nothing.
    let closed = create(&store, &dir, "closed");
    closed.write(0, &pattern(2, 5000)).unwrap();
    store.release(&closed);
    store.fsync_dir(&dir).unwrap();
    for after in disk.crash_point().power_cuts(20, 1) {
        let store = open(&after, &keys);
        assert!(content(&open_object(&store, &bucket(&store), "closed")) == pattern(2, 5000));
    }
}

/// As editors and package managers save.
#[test]
fn renaming_over_a_name_syncs_nothing_of_what_was_synced_before() {
    for (synced, closed) in [(true, false), (true, true), (false, false), (false, true)] {
        let (disk, keys) = new_disk();
        let (store, dir) = settled(&disk, &keys);
        let new = create(&store, &dir, "new");
        new.write(0, &pattern(1, 5000)).unwrap();
        if synced {
            new.fsync().unwrap();
        }
        if closed {
            store.release(&new);
        }
        let before = disk.calls();
        store.rename(&dir, OsStr::new("new"), &dir, OsStr::new("first"), Rename::Replace).unwrap();
        let calls = disk.calls().since(&before);
        let syncs = calls.of(Call::Sync) + calls.of(Call::SyncData);
        assert_eq!(syncs == 0, synced, "{syncs} syncs, closed {closed}");
        for after in disk.crash_point().power_cuts(20, 1) {
            let store = open(&after, &keys);
            let found = content(&open_object(&store, &bucket(&store), "first"));
            assert!(found.is_empty() || found == pattern(1, 5000), "neither old nor new");
        }
    }
}
