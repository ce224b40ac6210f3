//! Locks on keys, for all workers of a mount: between looking at an object and replacing it nobody else may.

use crate::refusals;
use crate::tree::proc_path;
use kmsfs_s3::{Code, Error};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{pread, pwrite};
use sha2::{Digest as _, Sha256};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// A lock is held for a few system calls. Who waits longer is told to come again.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many bytes the file has: the secret that says which byte is whose lock.
const SECRET: usize = 16;

/// A file in memory whose bytes are the locks. Only processes that it was passed to can lock anything, so no other
/// program can hold an upload up. What is in it is a secret of theirs, so that nobody finds two keys with one lock.
#[derive(Debug)]
pub struct Locks(OwnedFd);

/// Held until it is dropped, or its process ends.
#[derive(Debug)]
#[must_use]
pub(crate) struct Lock {
    _file: OwnedFd,
}

/// Where a lock is: a byte, and one before it whose holder is the next to have the lock. Whoever wants the lock for
/// itself keeps the turn while it waits for those that share it, so that no others come in between for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    turn: u64,
    lock: u64,
}

/// What a lock lets others do meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutual {
    /// Nothing: of an operation that looks first and acts then.
    Exclusive,
    /// To have it shared too: of operations that are in no other's way but an exclusive one's.
    Shared,
}

impl Locks {
    /// A new set, with no lock held.
    ///
    /// # Errors
    /// memfd_create(2) failed.
    pub fn new() -> io::Result<Self> {
        let file = memfd_create("kmsfs-locks", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        if pwrite(&file, &kmsfs_crypto::random::bytes::<SECRET>(), 0)? != SECRET {
            return Err(io::ErrorKind::WriteZero.into());
        }
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
        Ok(Self(file))
    }

    /// The same set in another process, which was passed the descriptor.
    pub fn of(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// To be passed to another process.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Of one key in one bucket. Others may have the same lock by chance, and then wait without need; an operation
    /// that holds one already too, so that none waits for ever.
    ///
    /// # Errors
    /// `SlowDown`: it was not to be had.
    pub(crate) fn lock(&self, bucket: &str, key: &str, how: Mutual) -> Result<Lock, Error> {
        let until = Instant::now() + PATIENCE;
        let (file, place) = self.open(bucket, key)?;
        wait_for(&file, place.turn, Mutual::Exclusive, until)?;
        wait_for(&file, place.lock, how, until)?;
        unlock(&file, place.turn)?;
        Ok(Lock { _file: file })
    }

    /// The same, if it is to be had at once.
    pub(crate) fn try_lock(&self, bucket: &str, key: &str, how: Mutual) -> Result<Option<Lock>, Error> {
        let (file, place) = self.open(bucket, key)?;
        if !try_byte(&file, place.turn, Mutual::Exclusive)? || !try_byte(&file, place.lock, how)? {
            return Ok(None);
        }
        unlock(&file, place.turn)?;
        Ok(Some(Lock { _file: file }))
    }

    /// Locks belong to what was opened.
    fn open(&self, bucket: &str, key: &str) -> Result<(OwnedFd, Place), Error> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(proc_path(&self.0), flags, Mode::empty()).map_err(refusals::of_errno)?;
        Ok((file, place_of(&self.secret()?, bucket, key)))
    }

    fn secret(&self) -> Result<[u8; SECRET], Error> {
        let mut secret = [0; SECRET];
        match pread(&self.0, &mut secret, 0).map_err(refusals::of_errno)? {
            SECRET => Ok(secret),
            _ => Err(Error::new(Code::InternalError)),
        }
    }
}

fn wait_for(file: &OwnedFd, byte: u64, how: Mutual, until: Instant) -> Result<(), Error> {
    let mut pause = Duration::from_micros(50);
    while !try_byte(file, byte, how)? {
        if Instant::now() > until {
            return Err(Error::new(Code::SlowDown));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    Ok(())
}

fn try_byte(file: &OwnedFd, byte: u64, how: Mutual) -> Result<bool, Error> {
    let locked = kmsfs_sys::try_lock_byte(file.as_fd(), byte, how == Mutual::Exclusive);
    locked.map_err(|error| refusals::of_call(&error))
}

fn unlock(file: &OwnedFd, byte: u64) -> Result<(), Error> {
    kmsfs_sys::unlock_byte(file.as_fd(), byte).map_err(|error| refusals::of_call(&error))
}

/// Two of the 2^63 bytes that a file can have; all processes find the same ones.
fn place_of(secret: &[u8; SECRET], bucket: &str, key: &str) -> Place {
    let hash = Sha256::new().chain_update(secret).chain_update(bucket).chain_update([0]).chain_update(key).finalize();
    let lock = hash.iter().take(8).fold(0, |place, byte| place << 8 | u64::from(*byte)) >> 1 | 1;
    Place { turn: lock - 1, lock }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_the_same_wherever_its_descriptor_was_passed() {
        let ours = Locks::new().unwrap();
        let theirs = Locks::of(ours.descriptor().try_clone_to_owned().unwrap());
        let held = ours.lock("bucket", "key", Mutual::Exclusive).unwrap();
        let file = rustix::fs::open(proc_path(theirs.descriptor()), OFlags::RDWR, Mode::empty()).unwrap();
        let place = place_of(&ours.secret().unwrap(), "bucket", "key").lock;
        assert!(!kmsfs_sys::try_lock_byte(file.as_fd(), place, false).unwrap());
        drop(theirs.lock("bucket", "another", Mutual::Exclusive).unwrap());
        drop(held);
        let shared = [ours.lock("bucket", "key", Mutual::Shared), theirs.lock("bucket", "key", Mutual::Shared)];
        assert!(shared.iter().all(Result::is_ok));
        assert!(!kmsfs_sys::try_lock_byte(file.as_fd(), place, true).unwrap());
    }

    /// Who shares a lock, one after the other without end, is not in the way of who wants it alone.
    #[test]
    fn who_wants_a_lock_alone_comes_before_those_who_share_it_and_come_later() {
        let locks = Locks::new().unwrap();
        let first = locks.lock("bucket", "key", Mutual::Shared).unwrap();
        drop(locks.lock("bucket", "key", Mutual::Shared).unwrap());
        std::thread::scope(|scope| {
            let alone = scope.spawn(|| locks.lock("bucket", "key", Mutual::Exclusive).unwrap());
            let until = Instant::now() + PATIENCE;
            while locks.try_lock("bucket", "key", Mutual::Shared).unwrap().is_some() {
                assert!(Instant::now() < until, "those who come later are let in");
                std::thread::yield_now();
            }
            drop(locks.lock("bucket", "another", Mutual::Shared).unwrap());
            drop(first);
            let alone = alone.join().unwrap();
            assert!(locks.try_lock("bucket", "key", Mutual::Shared).unwrap().is_none());
            drop(alone);
        });
        drop(locks.lock("bucket", "key", Mutual::Exclusive).unwrap());
    }

    #[test]
    fn a_key_is_no_part_of_its_buckets_name() {
        let secret = [7; SECRET];
        assert_ne!(place_of(&secret, "ab", "c"), place_of(&secret, "a", "bc"));
    }

    #[test]
    fn which_keys_share_a_lock_is_a_secret_that_nobody_changes() {
        let (one, other) = (Locks::new().unwrap(), Locks::new().unwrap());
        let places = [&one, &other].map(|locks| place_of(&locks.secret().unwrap(), "bucket", "key"));
        assert_ne!(places[0], places[1]);
        assert_eq!(pwrite(&one.0, &[0; SECRET], 0).unwrap_err(), rustix::io::Errno::PERM);
        assert_eq!(rustix::fs::ftruncate(&one.0, 0).unwrap_err(), rustix::io::Errno::PERM);
    }
}
