//! Objects and names that have gone, until a checkpoint frees what they leave.

use crate::Dir;
use kmsfs_format::ObjectId;
use kmsfs_format::sidecar::Place;
use kmsfs_locks::{Mutex, ranks};
use std::sync::Arc;

/// Directories held open for the dead.
const DIRS: usize = 64;

/// A name that went, and with the last one of an object that nobody has open, its record: its units are freed once all
/// the object's names are durably gone, those too that went while others were left.
#[derive(Clone)]
pub(crate) struct Dead {
    /// `None` if the object lived on, or the record is not its own.
    pub record: Option<(ObjectId, Place)>,
    /// Where the name was; `None` once there are too many to hold, so everything has to be synced.
    pub dir: Option<Arc<Dir>>,
}

/// The dead, in the order in which they died.
#[derive(Default)]
pub(crate) struct DeadList(Mutex<ranks::Dead, Vec<Dead>>);

impl DeadList {
    /// Adds a name that was in that directory, or an object's record, or both.
    pub(super) fn add(&self, record: Option<(ObjectId, Place)>, dir: Option<&Arc<Dir>>) {
        let mut dead = self.0.lock();
        let known = dir.is_some_and(|dir| {
            dead.iter().rev().take(DIRS).any(|dead| dead.dir.as_ref().is_some_and(|other| other.ino() == dir.ino()))
        });
        let dirs = dead.iter().rev().take(DIRS).filter(|dead| dead.dir.is_some()).count();
        let dir = dir.filter(|_| known || dirs < DIRS).cloned();
        dead.push(Dead { record, dir });
    }

    /// Adds a place that a living object's record has moved away from: it is freed like the dead's.
    pub(crate) fn abandon(&self, id: ObjectId, place: Place) {
        self.0.lock().push(Dead { record: Some((id, place)), dir: None });
    }

    pub(crate) fn all(&self) -> Vec<Dead> {
        self.0.lock().clone()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// The first so many have been dealt with.
    pub(super) fn remove(&self, count: usize) {
        self.0.lock().drain(..count);
    }
}
