//! A KMS that does not answer for a while: whoever asked it waits, and nobody else does. What the answer is worth by
//! the time it comes is another matter, and looked at too.

use crate::harness::wait_until;
use crate::revocation::judged::{ANN, BOB, MoodyFs, creation};
use kmsfs_fs::bulk::Outcome;
use kmsfs_fs::{Changes, Fs, Ino, Refusal, Writer};
use kmsfs_kms::{Code, Error, Operation, Waits, WouldWait, waits};
use kmsfs_store::backend::{Rename, XattrFlags};
use kmsfs_testing::disk::SimulatedDisk;
use kmsfs_testing::kms::{Action, Moody};
use parking_lot::Mutex;
use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// Nothing here takes nearly so long, unless it waits for the KMS.
const LONG: Duration = Duration::from_secs(60);

/// Does what asks the KMS, and everything else once it asks and before it is answered.
fn beside(kms: &Moody, asks: impl FnOnce() + Send, else_: impl FnOnce() + Send) {
    let (reached, go_on) = kms.hold_next();
    held(&reached, go_on, asks, else_);
}

/// The same for whatever says by `reached` that it waits, until `go_on` is dropped.
fn held(reached: &Receiver<()>, go_on: Sender<()>, waits: impl FnOnce() + Send, else_: impl FnOnce() + Send) {
    let outcome = thread::scope(|scope| {
        let waiting = scope.spawn(waits);
        reached.recv_timeout(LONG).expect("it comes to where it is held");
        let (done, is_done) = channel();
        scope.spawn(move || {
            else_();
            let _ = done.send(());
        });
        let outcome = is_done.recv_timeout(LONG);
        drop(go_on);
        waiting.join().unwrap();
        outcome
    });
    assert!(outcome.is_ok(), "somebody waited, or failed");
}

fn etag(fs: &Fs, ino: Ino) -> Vec<u8> {
    fs.get_xattr(ino, OsStr::new("user.etag"), &BOB).unwrap()
}

#[test]
fn while_open_handles_are_evaluated_others_open_read_and_close() {
    let moody = MoodyFs::new(false);
    let fs = &moody.fs;
    let (ino, other) = (moody.make("object", b"content"), moody.make("other", b"other"));
    let (ann, bob) = (moody.open(ino, &ANN), moody.open(other, &BOB));
    moody.kms.change();
    beside(
        &moody.kms,
        || fs.watch_keys(),
        || {
            assert_eq!(moody.read(bob), Ok(b"other".to_vec()));
            assert_eq!(etag(fs, other).len(), 32);
            let (again, new) = (moody.open(ino, &BOB), moody.make("new", b"new"));
            assert_eq!(moody.read(again), Ok(b"content".to_vec()));
            fs.release(again);
            assert_eq!(fs.getattr(new).unwrap().size, 3);
            fs.watch_keys();
        },
    );
    // And while closed files are evaluated, in which case no handle is asked about.
    fs.release(ann);
    fs.release(bob);
    moody.kms.change();
    let others = || {
        let handle = moody.open(other, &BOB);
        fs.release(handle);
    };
    beside(&moody.kms, || fs.watch_keys(), others);
}

/// Evaluates all handles twice, at the same time. The KMS answers the first evaluation last, and with what it would
/// have said at first.
fn evaluated_twice(moody: &MoodyFs, at_first: bool, later: bool) {
    let (reached, has_reached) = channel();
    let (go_on, may_go_on) = channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let answer = |allowed: bool| if allowed { Ok(()) } else { Err(Error::new(Code::AccessDenied, "no")) };
    moody.kms.answer(move |call| {
        if call.number > 1 {
            return answer(later);
        }
        let _ = reached.send(());
        let _ = may_go_on.lock().recv();
        answer(at_first)
    });
    let watch = || {
        moody.kms.change();
        moody.fs.watch_keys();
    };
    held(&has_reached, go_on, watch, watch);
    moody.kms.answer(|_| Ok(()));
}

#[test]
fn an_old_refusal_is_not_acted_on_after_a_newer_permission_nor_the_other_way_round() {
    let moody = MoodyFs::new(false);
    let handle = moody.open(moody.make("object", b"content"), &ANN);
    evaluated_twice(&moody, false, true);
    assert_eq!(moody.read(handle), Ok(b"content".to_vec()));
    evaluated_twice(&moody, true, false);
    assert_eq!(moody.read(handle), Err(libc::EACCES));
    moody.fs.drain_revoked();
    evaluated_twice(&moody, false, true);
    assert_eq!(moody.read(handle), Ok(b"content".to_vec()));
}

#[test]
fn a_handle_is_refused_while_the_kms_is_asked_about_another() {
    let moody = MoodyFs::new(false);
    let handles = ["one", "two"].map(|name| moody.open(moody.make(name, b"content"), &ANN));
    moody.kms.deny(&ANN);
    let (reached, has_reached) = channel();
    let (go_on, may_go_on) = channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    moody.kms.answer(move |call| {
        if call.number == 2 {
            let _ = reached.send(());
            let _ = may_go_on.lock().recv();
        }
        Ok(())
    });
    let refused = || handles.iter().filter(|handle| moody.read(**handle) == Err(libc::EACCES)).count();
    // Both, where it is about the same one that the KMS is asked again.
    let one_is = || assert!(wait_until(|| refused() >= 1), "the one that was asked about");
    held(&has_reached, go_on, || moody.fs.watch_keys(), one_is);
    assert_eq!(refused(), 2);
}

/// Closed objects give their keys up too, and one that is dirty has to be committed before, which is another matter.
#[test]
fn open_handles_are_refused_while_a_checkpoint_runs() {
    let disk = SimulatedDisk::new();
    let moody = MoodyFs::over(Arc::new(disk.clone()), false);
    let fs = &moody.fs;
    let handle = moody.open(moody.make("object", b"content"), &ANN);
    let (reached, has_reached) = channel();
    let (go_on, may_go_on) = channel::<()>();
    disk.during_sync(move |_| {
        let _ = reached.send(());
        let _ = may_go_on.recv();
    });
    held(
        &has_reached,
        go_on,
        || fs.store().checkpoint().unwrap(),
        || {
            let (_, dirty) = fs.create(moody.bucket, OsStr::new("dirty"), &creation(0o644, &BOB)).unwrap();
            fs.write(dirty, 0, b"dirty", Writer::Privileged).unwrap();
            fs.release(dirty);
            moody.kms.deny(&ANN);
            fs.watch_keys();
            assert_eq!(moody.read(handle), Err(libc::EACCES));
            assert!(!moody.is_locked("dirty"), "it is dirty, and no checkpoint was waited for");
        },
    );
    disk.unwatch();
    fs.watch_keys();
    assert!(moody.is_locked("dirty"), "though nothing has changed since");
}

/// Who uses an object without a handle may, whatever those may not who have it open.
#[test]
fn a_key_that_goes_while_an_object_is_used_without_a_handle_comes_back() {
    let name = OsStr::new;
    let order = br#"{"token":7,"how":"NewDataKey","target":null,"from_key":null,"dry_run":false,"from":0}"#;
    let acts: [(&str, &[u8]); 2] =
        [("user.x-amz-server-side-encryption-aws-kms-key-id", b"other"), ("user.x-kmsfs-reencrypt", order)];
    for (attribute, value) in acts {
        let moody = MoodyFs::new(false);
        let ino = moody.make("object", b"content");
        let handle = moody.open(ino, &ANN);
        moody.kms.deny(&ANN);
        moody.notice();
        // While the KMS makes what Bob has asked for, Ann's handle is refused anew, and the keys go.
        let (kms, fs, begun) = (moody.kms.clone(), Arc::downgrade(&moody.fs), AtomicBool::new(false));
        moody.kms.answer(move |call| {
            let is_making = matches!(call.action, Action::Encrypt | Action::GenerateDataKey);
            if is_making && call.uid == Some(BOB.uid) && !begun.swap(true, Ordering::SeqCst) {
                let fs = fs.upgrade().unwrap();
                kms.allow_all();
                fs.watch_keys();
                kms.deny(&ANN);
                fs.watch_keys();
                fs.drain_revoked();
            }
            Ok(())
        });
        moody.fs.set_xattr(ino, name(attribute), value, XattrFlags::Any, &BOB).unwrap();
        if attribute.ends_with("reencrypt") {
            let outcome = moody.fs.get_xattr(ino, name("user.x-kmsfs-reencrypt.7"), &BOB).unwrap();
            let outcome: Outcome = serde_json::from_slice(&outcome).unwrap();
            assert_eq!((outcome.failed, outcome.reencrypted), (vec![], 1));
        }
        assert_eq!(moody.read(handle), Err(libc::EACCES));
        assert_eq!(moody.read(moody.open(ino, &BOB)), Ok(b"content".to_vec()), "{attribute}");
    }
}

#[test]
fn what_cannot_be_read_is_cut_without_another_question() {
    let moody = MoodyFs::new(false);
    let (fs, ino) = (&moody.fs, moody.make("object", b"content"));
    moody.kms.deny_operation(Operation::Decrypt, &ANN);
    moody.kms.be_at_hand();
    moody.kms.take_calls();
    let open = || fs.open(ino, true, true, &ANN);
    assert_eq!(waits::within(Waits::Nothing, open), Err(Refusal::WouldWait(WouldWait(Waits::Disk))));
    let handle = waits::within(Waits::Disk, open).unwrap();
    let asked: Vec<_> = moody.kms.take_calls().iter().map(|call| call.action).collect();
    assert_eq!(asked, [Action::Decrypt, Action::GenerateDataKey]);
    assert_eq!(moody.read(handle), Ok(vec![]));
}

#[test]
fn while_a_configuration_is_read_directories_move_and_others_create() {
    let moody = MoodyFs::new(false);
    let (fs, bucket) = (&moody.fs, moody.bucket);
    let name = OsStr::new;
    let dirs = ["above", "beside"].map(|dir| fs.mkdir(bucket, name(dir), &creation(0o755, &ANN)).unwrap().ino());
    let below = fs.mkdir(dirs[0], name("below"), &creation(0o755, &ANN)).unwrap().ino();
    moody.make("object", b"content");
    // Whose configuration is changes with that, so it is read again.
    forget_configuration(&moody);
    let asks = || {
        let (_, handle) = fs.create(below, name("asks"), &creation(0o755, &ANN)).unwrap();
        fs.release(handle);
    };
    beside(&moody.service, asks, || {
        fs.rename(bucket, name("above"), dirs[1], name("moved"), Rename::NoReplace, &ANN).unwrap();
        let gone = fs.mkdir(below, name("gone"), &creation(0o755, &ANN)).unwrap().ino();
        fs.rmdir(below, name("gone")).unwrap();
        assert!(fs.lookup(gone, name("x")).is_err());
        fs.rename(bucket, name("object"), below, name("object"), Rename::Replace, &ANN).unwrap();
        assert_eq!(fs.lookup(below, name("object")).unwrap().attr.size, 7);
    });
    let made = fs.lookup(below, name("asks")).unwrap().ino();
    let encryption = fs.get_xattr(made, name("user.x-amz-server-side-encryption"), &ANN).unwrap();
    assert_eq!(encryption, b"aws:kms", "the configuration is the bucket's, wherever the directory is");
}

#[test]
fn a_configuration_that_is_removed_while_it_is_read_is_none() {
    let moody = MoodyFs::new(false);
    forget_configuration(&moody);
    let encryption = |name: &str| {
        let made = moody.fs.lookup(moody.bucket, OsStr::new(name)).unwrap().ino();
        moody.fs.get_xattr(made, OsStr::new("user.x-amz-server-side-encryption"), &ANN).unwrap()
    };
    let asks = || {
        moody.make("asks", b"");
    };
    beside(&moody.service, asks, || moody.fs.unlink(moody.bucket, OsStr::new(".encryption.json")).unwrap());
    moody.make("afterwards", b"");
    assert_eq!([encryption("asks"), encryption("afterwards")], [b"AES256", b"AES256"]);
}

#[test]
fn while_a_bucket_is_opened_the_rest_of_the_tree_is_used() {
    let moody = MoodyFs::new(false);
    let fs = &moody.fs;
    let name = OsStr::new;
    let other = fs.mkdir(fs.root(), name("other"), &creation(0o755, &ANN)).unwrap().ino();
    let inner = fs.mkdir(other, name("inner"), &creation(0o755, &ANN)).unwrap().ino();
    let link = fs.symlink(inner, name("link"), b"target", &creation(0o755, &ANN)).unwrap().ino();
    // Directories that are held open are as few as not to be those.
    for n in 0..40 {
        let dir = fs.mkdir(moody.bucket, name(&n.to_string()), &creation(0o755, &ANN)).unwrap().ino();
        assert!(fs.lookup(dir, name("nothing")).is_err());
    }
    let asks = || assert_eq!(fs.readlink(link).unwrap(), b"target");
    beside(&moody.service, asks, || {
        fs.rename(moody.bucket, name("0"), moody.bucket, name("moved"), Rename::NoReplace, &ANN).unwrap();
        fs.rmdir(moody.bucket, name("moved")).unwrap();
        let made = moody.make("made", b"made");
        fs.setattr(made, None, &Changes { mode: Some(0o600), ..Changes::default() }, &ANN).unwrap();
    });
}

#[test]
fn while_a_length_is_in_doubt_after_a_crash_nobody_waits_but_who_asks() {
    let disk = SimulatedDisk::new();
    let before = MoodyFs::over(Arc::new(disk.clone()), false);
    for name in ["object", "other"] {
        before.make(name, b"content");
    }
    let moody = before.again(Arc::new(disk.crash_point().kill()));
    let (fs, bucket) = (&moody.fs, moody.bucket);
    let name = OsStr::new;
    // Looking the name up asks too, for the length.
    let find = |of: &str| {
        let mut found = None;
        fs.read_dir(bucket, 0, &mut |entry| {
            found = found.or((entry.name == name(of)).then_some(entry.ino));
            true
        })
        .unwrap();
        found.unwrap()
    };
    let ino = find("object");
    let asks = || assert_eq!(fs.find(&[ino])[0].as_ref().unwrap().attr.size, 7);
    beside(&moody.kms, asks, || {
        fs.set_xattr(ino, name("user.a"), b"value", XattrFlags::Any, &ANN).unwrap();
        fs.setattr(bucket, None, &Changes { mode: Some(0o700), ..Changes::default() }, &ANN).unwrap();
        fs.rename(bucket, name("object"), bucket, name("moved"), Rename::NoReplace, &ANN).unwrap();
        moody.make("made", b"made");
    });
    assert_eq!(fs.getattr(ino).unwrap().size, 7);
    fs.lookup(bucket, name("other")).unwrap();
}

#[test]
fn what_has_to_wait_for_a_checkpoint_asks_the_kms_nothing_before() {
    let disk = SimulatedDisk::new();
    let moody = MoodyFs::over(Arc::new(disk.clone()), false);
    let fs = &moody.fs;
    moody.kms.be_at_hand();
    let ino = moody.make("object", b"content");
    let size = Changes { size: Some(3), ..Changes::default() };
    let (reached, has_reached) = channel();
    let (go_on, may_go_on) = channel::<()>();
    disk.during_sync(move |_| {
        let _ = reached.send(());
        let _ = may_go_on.recv();
    });
    let not_begun = |act: &dyn Fn() -> Result<(), Refusal>| {
        moody.kms.take_calls();
        let begun = waits::within(Waits::Nothing, act);
        assert_eq!((begun, moody.kms.take_calls()), (Err(Refusal::WouldWait(WouldWait(Waits::Disk))), vec![]));
    };
    held(
        &has_reached,
        go_on,
        || fs.store().checkpoint().unwrap(),
        || {
            assert!(fs.store().appends_wait());
            not_begun(&|| fs.open(ino, true, true, &ANN).map(drop));
            not_begun(&|| fs.setattr(ino, None, &size, &ANN).map(drop));
        },
    );
    disk.unwatch();
    moody.kms.take_calls();
    assert_eq!(fs.setattr(ino, None, &size, &ANN).unwrap().size, 3);
    assert_eq!(moody.kms.take_calls().len(), 1);
}

#[test]
fn a_configuration_is_cut_by_a_thread_that_may_wait_from_the_beginning() {
    let moody = MoodyFs::new(false);
    let (fs, name) = (&moody.fs, OsStr::new(".encryption.json"));
    let (root, before) = (kmsfs_kms::Caller { uid: 0, gid: 0, ..ANN }, fs.lookup(moody.bucket, name).unwrap());
    let ino = before.ino();
    let cut = Changes { size: Some(before.attr.size), ..Changes::default() };
    let begun = waits::within(Waits::Nothing, || fs.setattr(ino, None, &cut, &root));
    assert_eq!(begun.unwrap_err(), Refusal::WouldWait(WouldWait(Waits::Disk)));
    assert_eq!(fs.lookup(moody.bucket, name).unwrap().generation, before.generation, "it was begun");
    fs.setattr(ino, None, &cut, &root).unwrap();
}

#[test]
fn while_a_configuration_is_written_out_it_is_read_written_and_looked_at() {
    let disk = SimulatedDisk::new();
    let moody = MoodyFs::over(Arc::new(disk.clone()), false);
    let fs = &moody.fs;
    let ino = fs.lookup(moody.bucket, OsStr::new(".encryption.json")).unwrap().ino();
    let root = kmsfs_kms::Caller { uid: 0, gid: 0, ..ANN };
    let handle = fs.open(ino, true, true, &root).unwrap();
    let text = br#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"}}]}"#;
    fs.write(handle, 0, text, Writer::Privileged).unwrap();
    let (reached, has_reached) = channel();
    let (go_on, may_go_on) = channel::<()>();
    disk.during_sync(move |_| {
        let _ = reached.send(());
        let _ = may_go_on.recv();
    });
    held(
        &has_reached,
        go_on,
        || fs.flush(handle).unwrap(),
        || {
            assert_eq!(fs.getattr(ino).unwrap().size, text.len() as u64);
            let mut bytes = vec![0; 100];
            let read = fs.read(handle, 0, &mut bytes).unwrap();
            assert_eq!(bytes[..read], text[..]);
            fs.write(handle, text.len() as u64, b"\n\n", Writer::Privileged).unwrap();
            assert_eq!(fs.getattr(ino).unwrap().size, text.len() as u64 + 2);
        },
    );
    disk.unwatch();
    fs.flush(handle).unwrap();
    fs.release(handle);
    assert_eq!(fs.getattr(ino).unwrap().size, text.len() as u64 + 2, "what was written meanwhile counts too");
}

/// What somebody does with an inode, what that is called, and what is read by whoever opens it meanwhile.
type Case<'a> = (&'a str, Act<'a>, Result<&'a [u8], i32>);
type Act<'a> = &'a (dyn Fn(&MoodyFs, Ino) + Sync);

/// While somebody waits for the key of an object that is not in memory, others may do anything with its inode.
#[test]
fn while_an_object_is_opened_it_is_looked_at_renamed_and_removed() {
    let acts: [Case<'_>; 3] = [
        ("stat", &|moody, ino| assert_eq!(moody.fs.getattr(ino).unwrap().size, 7), Ok(b"content")),
        (
            "rename",
            &|moody, _| {
                let (fs, name) = (&moody.fs, OsStr::new);
                fs.rename(moody.bucket, name("object"), moody.bucket, name("moved"), Rename::NoReplace, &ANN).unwrap();
            },
            Ok(b"content"),
        ),
        ("unlink", &|moody, _| moody.fs.unlink(moody.bucket, OsStr::new("object")).unwrap(), Err(libc::ESTALE)),
    ];
    for (what, act, expected) in &acts {
        let disk = SimulatedDisk::new();
        let before = MoodyFs::over(Arc::new(disk.clone()), false);
        before.make("object", b"content");
        before.fs.store().close().unwrap();
        let moody = before.again(Arc::new(disk.crash_point().kill()));
        let ino = moody.fs.lookup(moody.bucket, OsStr::new("object")).unwrap().ino();
        let found = Mutex::new(None);
        let open = || {
            let opened = moody.fs.open(ino, false, false, &ANN);
            let opened = opened.map_err(|refusal| kmsfs_fuse::errno(&refusal));
            *found.lock() = Some(opened.and_then(|handle| moody.read(handle)));
        };
        beside(&moody.kms, open, || {
            act(&moody, ino);
            moody.fs.store().checkpoint().unwrap();
        });
        assert_eq!(found.lock().take(), Some(expected.map(<[u8]>::to_vec)), "{what}");
        moody.fs.store().close().unwrap();
    }
}

/// The bucket's is read again by whoever wants it: to whom the directory belongs decides what holds.
fn forget_configuration(moody: &MoodyFs) {
    let same = Changes { uid: Some(ANN.uid), ..Changes::default() };
    moody.fs.setattr(moody.bucket, None, &same, &ANN).unwrap();
}
