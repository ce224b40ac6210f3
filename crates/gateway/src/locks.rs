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

/// What a lock lets others do meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutual {
    /// Nothing: of an operation that looks first and acts then.
    Exclusive,
    /// To have it shared too: of an operation that replaces an object whatever it is.
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
        let start = Instant::now();
        let mut pause = Duration::from_micros(50);
        loop {
            if let Some(lock) = self.try_lock(bucket, key, how)? {
                return Ok(lock);
            }
            if start.elapsed() > PATIENCE {
                return Err(Error::new(Code::SlowDown));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    /// The same, if it is to be had at once.
    pub(crate) fn try_lock(&self, bucket: &str, key: &str, how: Mutual) -> Result<Option<Lock>, Error> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(proc_path(&self.0), flags, Mode::empty()).map_err(refusals::of_errno)?;
        let place = place_of(&self.secret()?, bucket, key);
        let locked = kmsfs_sys::try_lock_byte(file.as_fd(), place, how == Mutual::Exclusive);
        Ok(locked.map_err(|error| refusals::of_call(&error))?.then_some(Lock { _file: file }))
    }

    fn secret(&self) -> Result<[u8; SECRET], Error> {
        let mut secret = [0; SECRET];
        match pread(&self.0, &mut secret, 0).map_err(refusals::of_errno)? {
            SECRET => Ok(secret),
            _ => Err(Error::new(Code::InternalError)),
        }
    }
}

/// One of the 2^63 bytes that a file can have; all processes find the same one.
fn place_of(secret: &[u8; SECRET], bucket: &str, key: &str) -> u64 {
    let hash = Sha256::new().chain_update(secret).chain_update(bucket).chain_update([0]).chain_update(key).finalize();
    hash.iter().take(8).fold(0, |place, byte| place << 8 | u64::from(*byte)) >> 1
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
        let place = place_of(&ours.secret().unwrap(), "bucket", "key");
        assert!(!kmsfs_sys::try_lock_byte(file.as_fd(), place, false).unwrap());
        drop(theirs.lock("bucket", "another", Mutual::Exclusive).unwrap());
        drop(held);
        let shared = [ours.lock("bucket", "key", Mutual::Shared), theirs.lock("bucket", "key", Mutual::Shared)];
        assert!(shared.iter().all(Result::is_ok));
        assert!(!kmsfs_sys::try_lock_byte(file.as_fd(), place, true).unwrap());
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
