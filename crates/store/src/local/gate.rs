//! The gate between appends to the redo log and checkpoints. Rule K1.

use crate::mistakes::{Mistake, Seeded};
use kmsfs_locks::{RwLock, RwLockReadGuard, RwLockWriteGuard, ranks};

/// Appends share it, and a checkpoint has it alone. It is taken before any object's lock.
pub(crate) struct Gate {
    lock: RwLock<ranks::Gate, ()>,
    seeded: Seeded,
}

/// Leave to append to the log: no checkpoint begins while it is held.
pub(crate) struct Permit<'a>(#[allow(dead_code)] Passage<'a>);

enum Passage<'a> {
    #[allow(dead_code)]
    Shared(RwLockReadGuard<'a, ranks::Gate, ()>),
    #[allow(dead_code)]
    Alone(RwLockWriteGuard<'a, ranks::Gate, ()>),
}

impl Gate {
    pub(crate) fn new(seeded: Seeded) -> Self {
        Self { lock: RwLock::new(()), seeded }
    }

    /// Beside others that append; waits for a checkpoint to end.
    pub(crate) fn share(&self) -> Permit<'_> {
        Permit(Passage::Shared(self.lock.read()))
    }

    /// The same without waiting: `None` while there is a checkpoint.
    pub(crate) fn try_share(&self) -> Option<Permit<'_>> {
        Some(Permit(Passage::Shared(self.lock.try_read()?)))
    }

    /// For a checkpoint, once all who append are done.
    pub(crate) fn take_alone(&self) -> Permit<'_> {
        if self.seeded.is(Mistake::AppendDuringCheckpoint) {
            return self.share();
        }
        Permit(Passage::Alone(self.lock.write()))
    }

    /// Whether there is a checkpoint, or one waits for those who append.
    pub(crate) fn is_taken_alone(&self) -> bool {
        self.lock.is_locked_exclusive()
    }
}
