//! A KMS that does not answer for a while: whoever asked it waits, and nobody else does. What the answer is worth by
//! the time it comes is another matter, and looked at too.

use crate::revocation::judged::{ANN, BOB, MoodyFs};
use crate::store::aws_kms;
use kmsfs_store::StoreOptions;
use kmsfs_store::backend::Rename;
use kmsfs_testing::disk::SimulatedDisk;
use kmsfs_testing::kms::Moody;
use parking_lot::Mutex;
use std::ffi::OsStr;
use std::sync::Arc;
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

/// What somebody does with an inode.
type Act<'a> = &'a (dyn Fn(&MoodyFs, u64) + Sync);

/// While somebody waits for the key of an object that is not in memory, others may do anything with its inode.
#[test]
fn while_an_object_is_opened_it_is_opened_rewrapped_renamed_and_removed_by_others() {
    let another = aws_kms("another");
    let acts: [(&str, Act<'_>, Result<&[u8], i32>); 5] = [
        ("stat", &|moody, ino| assert_eq!(moody.fs.getattr(ino).unwrap().size, 7), Ok(b"content")),
        ("open", &|moody, ino| moody.fs.release(moody.open(ino, &BOB)), Ok(b"content")),
        (
            "rename",
            &|moody, _| {
                let (fs, name) = (&moody.fs, OsStr::new);
                fs.rename(moody.bucket, name("object"), moody.bucket, name("moved"), Rename::NoReplace, &ANN).unwrap();
            },
            Ok(b"content"),
        ),
        ("unlink", &|moody, _| moody.fs.unlink(moody.bucket, OsStr::new("object")).unwrap(), Err(libc::ESTALE)),
        (
            "rewrap",
            &|moody, _| {
                let store = moody.fs.store();
                let dir = store.open_dir(store.root(), OsStr::new("bucket")).unwrap();
                let object = store.open_object(&dir, OsStr::new("object"), &BOB).unwrap();
                object.write(0, b"CONTENT").unwrap();
                store.rewrap(&object, &another, "object", &BOB).unwrap();
                store.release(&object);
            },
            Ok(b"CONTENT"),
        ),
    ];
    for forgets in [false, true] {
        for (what, act, expected) in &acts {
            let disk = SimulatedDisk::new();
            let before = MoodyFs::over(Arc::new(disk.clone()), false);
            before.make("object", b"content");
            before.fs.store().close().unwrap();
            // Without room for any, what nobody uses leaves memory again.
            let cache = if forgets { 0 } else { 1 << 20 };
            let options = StoreOptions { cache, ..StoreOptions::default() };
            let moody = before.again(Arc::new(disk.crash_point().kill()), options);
            let ino = moody.fs.lookup(moody.bucket, OsStr::new("object")).unwrap().attr.ino;
            let found = Mutex::new(None);
            let open = || {
                let opened = moody.fs.open(ino, false, false, &ANN);
                let opened = opened.map_err(|refusal| kmsfs_fuse::errno(&refusal));
                *found.lock() = Some(opened.and_then(|handle| moody.read(handle)));
            };
            beside(&moody.kms, open, || {
                act(&moody, ino);
                moody.fs.store().checkpoint().unwrap();
                assert_eq!(moody.fs.store().cached() == 0, forgets || ["stat", "rename", "unlink"].contains(what));
            });
            assert_eq!(found.lock().take(), Some(expected.map(<[u8]>::to_vec)), "{what}, forgets: {forgets}");
            moody.fs.store().close().unwrap();
        }
    }
}
