//! A KMS that is away, or does not answer at all: whoever needs it now is told so in time, and what is open goes on.

use crate::harness::{Served, errno as errno_of, wait_until};
use crate::revocation::judged::{ANN, BOB, MoodyFs, creation};
use kmsfs_fs::Refusal;
use kmsfs_kms::{Code, EncryptionContext, Error, Kms, Principal, Timely};
use kmsfs_testing::disk::SimulatedDisk;
use kmsfs_testing::kms::{Action, Moody};
use parking_lot::RwLock;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

/// Long enough for a KMS that answers, on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(3);
const OPENERS: usize = 12;

/// Runs `act` while no call of the KMS returns.
fn while_it_hangs<T>(kms: &Moody, act: impl FnOnce() -> T) -> T {
    let until = Arc::new(RwLock::new(()));
    let held = until.write();
    let waits = Arc::clone(&until);
    kms.answer(move |_| {
        drop(waits.read());
        Ok(())
    });
    let done = act();
    drop(held);
    done
}

fn errno<T>(done: Result<T, Refusal>) -> Result<T, i32> {
    done.map_err(|refusal| kmsfs_fuse::errno(&refusal))
}

#[test]
fn opens_and_creates_fail_in_time_where_the_kms_hangs() {
    for bucket_key in [false, true] {
        let disk = SimulatedDisk::new();
        let before = MoodyFs::in_time(&disk, bucket_key, LIMIT);
        let content = before.make("object", b"content");
        before.fs.store().close().unwrap();
        let moody = before.again(Arc::new(disk.crash_point().kill()));
        let fs = &moody.fs;
        let ino = fs.lookup(moody.bucket, OsStr::new("object")).unwrap().ino();
        let open = moody.open(moody.make("open", b"is open"), &BOB);
        fs.getattr(content).unwrap();
        let begin = Barrier::new(OPENERS + 1);
        let asked = while_it_hangs(&moody.kms, || {
            thread::scope(|scope| {
                let opens = (0..OPENERS).map(|_| {
                    scope.spawn(|| {
                        begin.wait();
                        errno(fs.open(ino, false, false, &ANN))
                    })
                });
                let opens: Vec<_> = opens.collect();
                let create = scope.spawn(|| {
                    begin.wait();
                    errno(fs.create(moody.bucket, OsStr::new("new"), &creation(0o644, &BOB)).map(|_| ()))
                });
                for open in opens {
                    assert_eq!(open.join().unwrap(), Err(libc::EIO), "bucket key: {bucket_key}");
                }
                assert_eq!(create.join().unwrap(), Err(libc::EIO), "bucket key: {bucket_key}");
            });
            assert_eq!(moody.read(open), Ok(b"is open".to_vec()));
            moody.kms.calls()
        });
        assert!(asked <= OPENERS as u64 / 2, "those who waited for another's answer asked in turn: {asked}");
        assert!(errno(fs.lookup(moody.bucket, OsStr::new("new"))).is_err(), "nothing is left of it");
        let again = moody.open(ino, &ANN);
        assert_eq!(moody.read(again), Ok(b"content".to_vec()), "it is asked again");
    }
}

/// The KMS is asked once by a request that it does not answer: by the time it could be asked again, it is too late.
#[test]
fn a_request_waits_once_however_often_it_asks() {
    let disk = SimulatedDisk::new();
    let before = MoodyFs::in_time(&disk, false, Duration::from_secs(1));
    before.make("object", b"content");
    // Nothing is in memory.
    before.fs.store().close().unwrap();
    let moody = before.again(Arc::new(disk.crash_point().kill()));
    let served = Served::new(&moody.fs, 1, false);
    let asked = || {
        let asked = moody.kms.take_calls();
        asked.iter().filter(|call| matches!(call.action, Action::Decrypt | Action::GenerateDataKey)).count()
    };
    let cut = || OpenOptions::new().write(true).truncate(true).open(served.at("bucket/object")).map(drop);
    let cut = || (errno_of(cut()), asked());
    assert_eq!(while_it_hangs(&moody.kms, cut), (Errno::IO, 1));
    assert_eq!(fs::read(served.at("bucket/object")).unwrap(), b"content");
}

#[test]
fn an_outage_while_handles_are_evaluated_revokes_nobody_and_a_refusal_does() {
    let moody = MoodyFs::in_time(&SimulatedDisk::new(), false, LIMIT);
    let ino = moody.make("object", b"content");
    let handle = moody.open(ino, &ANN);
    let evaluated = || {
        moody.kms.change();
        moody.notice();
        (moody.read(handle), moody.fs.is_revoked(ino))
    };
    let goes_on = (Ok(b"content".to_vec()), false);
    for code in [Code::KeyUnavailable, Code::DependencyTimeout, Code::KmsInternal, Code::LimitExceeded] {
        moody.kms.fail(Some(Error::new(code, "")));
        assert_eq!(evaluated(), goes_on, "{code:?}");
        assert!(errno(moody.fs.open(ino, false, false, &BOB)).is_err(), "{code:?}");
    }
    moody.kms.fail(None);
    assert_eq!(while_it_hangs(&moody.kms, evaluated), goes_on);
    for code in [Code::AccessDenied, Code::Disabled, Code::KmsInvalidState, Code::NotFound] {
        moody.kms.fail(Some(Error::new(code, "")));
        let (read, is_revoked) = evaluated();
        assert!(read.is_err() && is_revoked, "{code:?}");
        moody.kms.fail(None);
        assert_eq!(evaluated(), goes_on, "{code:?}");
    }
}

/// What a call of a KMS that is given up after `limit` comes to.
fn encrypt(kms: &Timely<Moody>) -> Result<(), Code> {
    let (caller, context) = (Principal::from(ANN), EncryptionContext::new());
    let made = kms.encrypt("k", &kmsfs_crypto::SecretKey::random(), &context, &caller);
    made.map(|_| ()).map_err(|error| error.code)
}

#[test]
fn calls_that_no_thread_is_free_for_are_given_up_and_never_made() {
    let moody = Moody::new();
    let kms = Timely::new(moody.clone(), Duration::from_millis(100), 1);
    let calls = while_it_hangs(&moody, || {
        assert_eq!(encrypt(&kms), Err(Code::DependencyTimeout));
        assert!(wait_until(|| moody.calls() == 1), "the thread begins with it");
        thread::scope(|scope| {
            let calls: Vec<_> = (0..3).map(|_| scope.spawn(|| encrypt(&kms))).collect();
            assert!(calls.into_iter().all(|call| call.join().unwrap() == Err(Code::DependencyTimeout)));
        });
        moody.calls()
    });
    assert_eq!(calls, 1);
    moody.answer(|_| Ok(()));
    assert!(wait_until(|| encrypt(&kms) == Ok(())), "the thread is free again");
}

#[test]
fn a_call_ends_by_the_earlier_of_two_deadlines_and_is_told_of_it() {
    let moody = Moody::new();
    let kms = Timely::new(moody.clone(), LIMIT, 2);
    let (told, is_told) = channel();
    moody.answer(move |_| {
        let deadline = kmsfs_kms::deadline::current().expect("a call has one");
        told.send(deadline.left()).unwrap();
        Ok(())
    });
    assert_eq!(encrypt(&kms), Ok(()));
    assert!(is_told.recv().unwrap() <= LIMIT);
    let second = Duration::from_secs(1);
    let _running = kmsfs_kms::deadline::Deadline::after(second).begin();
    let _ = encrypt(&kms);
    assert!(is_told.recv().unwrap() <= second, "it is the operation's, which is earlier");
}

#[test]
fn a_call_that_panics_is_an_outage_at_once() {
    let moody = Moody::new();
    let kms = Timely::new(moody.clone(), Duration::from_secs(600), 1);
    moody.answer(|_| panic!("as a bug would"));
    assert_eq!(encrypt(&kms), Err(Code::KmsInternal));
    moody.answer(|_| Ok(()));
    assert_eq!(encrypt(&kms), Ok(()));
}
