//! The threads of one mount beside its event loops.

use kmsfs_fs::exec::Executor;
use kmsfs_kms::Waits;
use std::io;

/// Enough for as many programs to wait for one sync of the log together.
const MOST: usize = 16;

/// By what is waited for, so that nobody who waits for the one is kept by those who wait for the other.
pub(crate) struct Crew {
    /// For the disk, or for a checkpoint.
    workers: Executor,
    /// For the kernel to write what it has of a file, which may take one of the others.
    pub seekers: Executor,
    /// For a KMS that may take its time.
    askers: Executor,
}

impl Crew {
    pub(crate) fn new() -> Self {
        Self {
            workers: Executor::new("kmsfs-sync", MOST),
            seekers: Executor::new("kmsfs-seek", 1),
            askers: Executor::new("kmsfs-ask", MOST),
        }
    }

    /// Makes the first thread of each kind; of those that wait for the KMS only if it `may_wait`. Others are made on
    /// demand, and done without where they cannot be had.
    pub(crate) fn start(&self, may_wait: bool) -> io::Result<()> {
        self.workers.start()?;
        self.seekers.start()?;
        if may_wait { self.askers.start() } else { Ok(()) }
    }

    /// Those who wait for that. `may_wait`: as the KMS says of itself; one that does not is asked by whoever is there.
    pub(crate) fn waiting_for(&self, what: Waits, may_wait: bool) -> &Executor {
        if what == Waits::Kms && may_wait && self.askers.start().is_ok() { &self.askers } else { &self.workers }
    }
}
