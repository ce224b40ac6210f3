//! Open files.

use super::configurations::Draft;
use super::{HandleId, Ino};
use kmsfs_kms::{Caller, Operation};
use kmsfs_locks::{Mutex, RwLock, ranks};
use kmsfs_store::Object;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Default)]
pub(crate) struct Handles {
    next: AtomicU64,
    open: RwLock<ranks::Handles, HashMap<HandleId, Arc<Handle>>>,
    /// By inode; none is empty.
    by_ino: Mutex<ranks::HandlesOfInode, HashMap<Ino, Vec<Arc<Handle>>>>,
}

/// The object stays open until nobody uses the handle any more, which may be after its release.
pub(crate) struct Handle {
    pub object: Arc<Object>,
    /// A configuration that is being written.
    pub draft: Option<Arc<Draft>>,
    pub opener: Opener,
    /// What is read through it is nothing for the kernel to keep for others; the same for all handles of an inode.
    pub personal: bool,
    standing: Decided,
}

/// For whom a handle was opened, and what the KMS was asked for then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opener {
    pub caller: Caller,
    pub operation: Operation,
    /// The handle is for writing (too).
    pub write: bool,
}

/// What a handle is good for, as its opener's permission to use the key goes; the best one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u64)]
pub(crate) enum Standing {
    Allowed,
    /// Refused, but the kernel may still write back what was written before.
    Draining,
    Refused,
}

impl Handle {
    /// Of an object that was opened for it.
    pub(crate) fn new(object: Arc<Object>, opener: Opener) -> Self {
        Self { object, draft: None, opener, personal: false, standing: Decided::default() }
    }

    /// Of its object.
    pub(crate) fn ino(&self) -> Ino {
        self.object.ino()
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing.standing()
    }

    pub(crate) fn is_allowed(&self) -> bool {
        self.standing() == Standing::Allowed
    }

    /// The KMS allows it, as the evaluation of that number found. Returns whether it did not before.
    pub(crate) fn allow(&self, evaluation: u64) -> bool {
        self.standing.decide(evaluation, |_| Standing::Allowed).is_some_and(|before| before != Standing::Allowed)
    }

    /// The KMS refuses it, as the evaluation of that number found. Returns whether it was allowed until now; `before`
    /// is called first if it seems to be.
    pub(crate) fn begin_refusing(&self, evaluation: u64, mut before: impl FnMut()) -> bool {
        let draining = |now| match now {
            Standing::Allowed => {
                before();
                Standing::Draining
            }
            refused => refused,
        };
        self.standing.decide(evaluation, draining) == Some(Standing::Allowed)
    }

    /// Nothing more is written back. Returns whether it was until now.
    pub(crate) fn end_draining(&self) -> bool {
        self.standing.end_draining()
    }
}

/// A standing, and the number of the evaluation that decided it: evaluations go on side by side, and the KMS's answer
/// to one that began earlier does not count any more once that to a later one is there.
#[derive(Default)]
struct Decided(AtomicU64);

impl Decided {
    /// Bits for the standing, the lowest ones.
    const BITS: u32 = 2;

    fn standing(&self) -> Standing {
        Self::parts(self.0.load(Ordering::SeqCst)).1
    }

    /// Returns what it was before, unless a later evaluation has decided. `next` is called again if somebody else was
    /// faster.
    fn decide(&self, evaluation: u64, mut next: impl FnMut(Standing) -> Standing) -> Option<Standing> {
        let decided = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
            let (by, standing) = Self::parts(now);
            (by <= evaluation).then(|| evaluation << Self::BITS | next(standing) as u64)
        });
        decided.ok().map(|before| Self::parts(before).1)
    }

    fn end_draining(&self) -> bool {
        let ended = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
            let (by, standing) = Self::parts(now);
            (standing == Standing::Draining).then_some(by << Self::BITS | Standing::Refused as u64)
        });
        ended.is_ok()
    }

    fn parts(bits: u64) -> (u64, Standing) {
        let standing = match bits & ((1 << Self::BITS) - 1) {
            0 => Standing::Allowed,
            1 => Standing::Draining,
            _ => Standing::Refused,
        };
        (bits >> Self::BITS, standing)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.object.release();
    }
}

impl Handles {
    pub(crate) fn insert(&self, mut handle: Handle) -> (HandleId, Arc<Handle>) {
        let id = HandleId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        let mut by_ino = self.by_ino.lock();
        let handles = by_ino.entry(handle.ino()).or_default();
        handle.personal = handles.first().map_or(handle.personal, |first| first.personal);
        let handle = Arc::new(handle);
        handles.push(handle.clone());
        drop(by_ino);
        self.open.write().insert(id, handle.clone());
        (id, handle)
    }

    /// Handles, and inodes that they are of.
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.open.read().len(), self.by_ino.lock().len())
    }

    pub(crate) fn has_writers(&self, ino: Ino) -> bool {
        self.by_ino.lock().get(&ino).is_some_and(|handles| handles.iter().any(|handle| handle.opener.write))
    }

    pub(crate) fn get(&self, id: HandleId) -> Option<Arc<Handle>> {
        self.open.read().get(&id).cloned()
    }

    pub(crate) fn remove(&self, id: HandleId) -> Option<Arc<Handle>> {
        let handle = self.open.write().remove(&id)?;
        let ino = handle.ino();
        let mut by_ino = self.by_ino.lock();
        if let Some(handles) = by_ino.get_mut(&ino) {
            if let Some(at) = handles.iter().rposition(|other| Arc::ptr_eq(other, &handle)) {
                handles.swap_remove(at);
            }
            if handles.is_empty() {
                by_ino.remove(&ino);
            }
        }
        Some(handle)
    }

    pub(crate) fn is_personal(&self, ino: Ino) -> bool {
        self.by_ino.lock().get(&ino).is_some_and(|handles| handles.iter().any(|handle| handle.personal))
    }

    pub(crate) fn is_open(&self, ino: Ino) -> bool {
        self.by_ino.lock().contains_key(&ino)
    }

    /// All the handles of an inode.
    pub(crate) fn of(&self, ino: Ino) -> Vec<Arc<Handle>> {
        self.by_ino.lock().get(&ino).cloned().unwrap_or_default()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Handle>> {
        self.open.read().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_evaluation_found_does_not_count_after_a_later_one() {
        let decided = Decided::default();
        let refuse = |evaluation| decided.decide(evaluation, |_| Standing::Draining);
        let allow = |evaluation| decided.decide(evaluation, |_| Standing::Allowed);
        assert_eq!((allow(2), refuse(1), decided.standing()), (Some(Standing::Allowed), None, Standing::Allowed));
        assert_eq!((refuse(3), allow(2), decided.standing()), (Some(Standing::Allowed), None, Standing::Draining));
        assert!(decided.end_draining() && !decided.end_draining());
        assert_eq!((allow(2), decided.standing()), (None, Standing::Refused), "who ends it decides nothing");
        assert_eq!((allow(4), decided.standing()), (Some(Standing::Refused), Standing::Allowed));
        assert!(!decided.end_draining());
    }
}
