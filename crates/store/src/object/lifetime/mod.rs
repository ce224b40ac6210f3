//! For how long an object and its descriptor stay: its names, who uses it, and whether it is dead.

mod held;
mod home;

pub use held::Held;
pub(crate) use home::Home;

use crate::backend::File;
use crate::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An object's name and descriptor, under the object's lock.
pub(in crate::object) struct Lifetime {
    /// `None` while the object is closed, nobody uses it, and there is nothing to be done in its file.
    home: Option<Home>,
    /// Path below `buckets/`, as a hint for recovery.
    path: Vec<u8>,
    /// No name is left.
    unlinked: bool,
    /// No handle either: it is among the dead.
    buried: bool,
}

impl Lifetime {
    pub(in crate::object) fn new(home: Home, path: Vec<u8>) -> Self {
        Self { home: Some(home), path, unlinked: false, buried: false }
    }

    /// `EBADF` without a descriptor: such an object has neither a handle nor anybody who holds it.
    pub(in crate::object) fn home(&self) -> Result<&Home> {
        self.home.as_ref().ok_or(Error::Errno(libc::EBADF))
    }

    /// The object file; `EBADF` as `home`.
    pub(in crate::object) fn file(&self) -> Result<&Arc<dyn File>> {
        Ok(&self.home()?.file)
    }

    pub(in crate::object) fn has_home(&self) -> bool {
        self.home.is_some()
    }

    /// Gives it a descriptor, unless it has one.
    pub(in crate::object) fn attach(&mut self, home: impl FnOnce() -> Home) {
        self.home.get_or_insert_with(home);
    }

    /// Gives up the descriptor.
    pub(in crate::object) fn detach(&mut self) -> Option<Home> {
        self.home.take()
    }

    pub(in crate::object) fn path(&self) -> &[u8] {
        &self.path
    }

    pub(in crate::object) fn rename_to(&mut self, path: Vec<u8>) {
        self.path = path;
    }

    /// The path, for messages.
    pub(in crate::object) fn show(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }

    /// It has lost its last name.
    pub(in crate::object) fn unlink(&mut self) {
        self.unlinked = true;
    }

    pub(in crate::object) fn is_unlinked(&self) -> bool {
        self.unlinked
    }

    /// Counts it among the dead. Returns false if it was already.
    pub(in crate::object) fn bury(&mut self) -> bool {
        !std::mem::replace(&mut self.buried, true)
    }

    pub(in crate::object) fn is_buried(&self) -> bool {
        self.buried
    }
}

/// Who uses an object. Counted without the object's lock; a descriptor is given up, and an object buried, only under
/// the lock and after a look at these.
pub(in crate::object) struct Users {
    /// Handles that are open; the object is dead when there is none and no name.
    handles: AtomicUsize,
    /// Users of the descriptor without a handle: it is not given up meanwhile.
    holds: AtomicUsize,
}

impl Users {
    /// Of an object that has just been opened.
    pub(in crate::object) fn one_handle() -> Self {
        Self { handles: AtomicUsize::new(1), holds: AtomicUsize::new(0) }
    }

    pub(in crate::object) fn add_handle(&self) {
        self.handles.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns whether it was the last one.
    pub(in crate::object) fn remove_handle(&self) -> bool {
        self.handles.fetch_sub(1, Ordering::SeqCst) <= 1
    }

    pub(in crate::object) fn have_handles(&self) -> bool {
        self.handles.load(Ordering::SeqCst) > 0
    }

    /// Whether anybody needs the descriptor.
    pub(in crate::object) fn are_there(&self) -> bool {
        self.have_handles() || self.holds.load(Ordering::SeqCst) > 0
    }

    fn add_hold(&self) {
        self.holds.fetch_add(1, Ordering::SeqCst);
    }

    fn remove_hold(&self) {
        self.holds.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_handles_and_holds() {
        let users = Users::one_handle();
        users.add_handle();
        assert!(!users.remove_handle());
        users.add_hold();
        assert!(users.remove_handle());
        assert!(!users.have_handles() && users.are_there());
        users.remove_hold();
        assert!(!users.are_there());
    }
}
