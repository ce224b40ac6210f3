//! Locks on keys, for all workers of a mount: between looking at an object and replacing it nobody else may.

use crate::refusals;
use crate::tree::proc_path;
use kmsfs_s3::{Code, Error};
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// A lock is held for a few system calls. Who waits longer is told to come again.
const PATIENCE: Duration = Duration::from_secs(20);

/// A file in memory whose bytes are the locks. Only processes that it was passed to can lock anything, so no other
/// program can hold an upload up.
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
        Ok(Self(memfd_create("kmsfs-locks", MemfdFlags::CLOEXEC)?))
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
        let locked = kmsfs_sys::try_lock_byte(file.as_fd(), place_of(bucket, key), how == Mutual::Exclusive);
        Ok(locked.map_err(|error| refusals::of_call(&error))?.then_some(Lock { _file: file }))
    }
}

/// FNV-1a, which all processes have alike.
fn place_of(bucket: &str, key: &str) -> u32 {
    let bytes = bucket.bytes().chain([0]).chain(key.bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    (hash >> 32) as u32 ^ hash as u32
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
        let place = place_of("bucket", "key");
        assert!(!kmsfs_sys::try_lock_byte(file.as_fd(), place, false).unwrap());
        drop(theirs.lock("bucket", "another", Mutual::Exclusive).unwrap());
        drop(held);
        let shared = [ours.lock("bucket", "key", Mutual::Shared), theirs.lock("bucket", "key", Mutual::Shared)];
        assert!(shared.iter().all(Result::is_ok));
        assert!(!kmsfs_sys::try_lock_byte(file.as_fd(), place, true).unwrap());
    }

    #[test]
    fn a_key_is_no_part_of_its_buckets_name() {
        assert_ne!(place_of("ab", "c"), place_of("a", "bc"));
    }
}
