//! Telling programs that what they write does not reach the disk. With the writeback cache write(2) succeeds before
//! there is space for it; the kernel reports a failed write-back to fsync(2) and close(2) only, and takes more
//! meanwhile.
//!
//! Before it takes a write(2) into its cache the kernel asks for the inode's mode, if it has been told that it has that
//! no more, and passes on the error that it is answered. A read(2) does not ask then: it would have to be told that the
//! time is over for which it may keep attributes.

use super::{Fs, Ino, Refusal, Result, Stale};
use kmsfs_kms::{Code, Kind};
use kmsfs_locks::{Mutex, ranks};
use kmsfs_sse::RequestError;
use kmsfs_store as store;
use rustix::io::Errno;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Where nothing shows whether a write would succeed again, one is let through to see that often.
const RETRY: Duration = Duration::from_secs(1);

/// Inodes of which a write-back has failed, and nothing has changed since.
#[derive(Default)]
pub(crate) struct Unwritten {
    any: AtomicBool,
    inodes: Mutex<ranks::Unwritten, HashMap<Ino, Failure>>,
}

struct Failure {
    cause: Arc<Refusal>,
    since: Instant,
    /// Least free blocks below that were seen since.
    free: u64,
}

impl Unwritten {
    fn has(&self, ino: Ino) -> bool {
        self.any.load(Ordering::SeqCst) && self.inodes.lock().contains_key(&ino)
    }

    fn remove(&self, ino: Ino) {
        let mut inodes = self.inodes.lock();
        inodes.remove(&ino);
        self.any.store(!inodes.is_empty(), Ordering::SeqCst);
    }
}

impl Fs {
    /// A write-back has failed: from here on write(2) does so for the same reason.
    pub(super) fn was_not_written(&self, ino: Ino, cause: &Refusal) {
        if !concerns_others(cause) {
            return;
        }
        let failure = Failure { cause: Arc::new(cause.clone()), since: Instant::now(), free: self.free_blocks() };
        let before = self.unwritten.inodes.lock().insert(ino, failure);
        self.unwritten.any.store(true, Ordering::SeqCst);
        if before.is_none() {
            log::warn!("inode {ino}: what programs wrote cannot be written back: {cause}; they are told from here on");
        }
        self.forget_attributes(ino);
    }

    /// The kernel asks on behalf of a write(2).
    pub(super) fn check_written(&self, ino: Ino) -> Result<()> {
        if !self.unwritten.has(ino) {
            return Ok(());
        }
        let free = self.free_blocks();
        let mut inodes = self.unwritten.inodes.lock();
        let Some(failure) = inodes.get_mut(&ino) else { return Ok(()) };
        let again =
            if failure.cause.is_of_store(Errno::NOSPC) { free > failure.free } else { failure.since.elapsed() > RETRY };
        if !again {
            failure.free = failure.free.min(free);
            return Err(Refusal::Unwritten(failure.cause.clone()));
        }
        drop(inodes);
        self.unwritten.remove(ino);
        Ok(())
    }

    /// The kernel is about to be told attributes, and has to ask for them all the same before the next write(2): what
    /// it is answered after it was told that counts for nothing.
    pub(super) fn has_to_ask_again(&self, ino: Ino) {
        if self.unwritten.has(ino) {
            self.forget_attributes(ino);
            // Answers to changes of attributes count all the same.
            self.tell(Stale::Attributes(ino));
        }
    }

    /// Once more for all of them, in case one of these answers came after.
    pub(super) fn have_to_ask_again(&self) {
        let inodes: Vec<Ino> = self.unwritten.inodes.lock().keys().copied().collect();
        for ino in inodes {
            self.tell(Stale::Attributes(ino));
        }
    }

    /// Nobody has the inode open any more.
    pub(super) fn forget_unwritten(&self, ino: Ino) {
        if self.unwritten.has(ino) {
            self.unwritten.remove(ino);
        }
    }

    fn free_blocks(&self) -> u64 {
        self.store.space().map_or(0, |space| space.blocks_free)
    }
}

/// Whether other writes will fail for the same reason: the disk is full or broken, or the file as long as it can be.
fn concerns_others(cause: &Refusal) -> bool {
    match cause {
        Refusal::Store(store::Error::Errno(errno)) => {
            let lasting = [Errno::NOSPC, Errno::DQUOT, Errno::IO, Errno::FBIG];
            lasting.iter().any(|lasting| lasting.raw_os_error() == *errno)
        }
        Refusal::Store(error) => {
            use store::Error::{Corrupt, InUse, Owned, RolledBack, Unusable};
            matches!(error, Corrupt(_) | InUse(_) | Owned { .. } | Unusable(_) | RolledBack(_))
        }
        Refusal::Request(RequestError::Kms(error)) => {
            error.kind() != Kind::Refusal && error.code != Code::LimitExceeded
        }
        Refusal::TooLong => true,
        _ => false,
    }
}
