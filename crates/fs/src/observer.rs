//! Who keeps what the file system says, and has to be told when it is no longer right: the kernel.

use super::{Fs, Ino};
use std::ffi::OsString;
use std::path::Path;

/// What somebody who caches knows, and what is no longer right.
#[derive(Debug)]
pub enum Stale {
    /// A directory's inode and a name in it.
    Name(Ino, OsString),
    /// Attributes of an inode.
    Attributes(Ino),
}

/// What the kernel keeps of a mount. It is told from any thread, and without locks.
pub trait Observer: Send + Sync {
    /// Something is no longer right. It is told in a while, from a thread of its own: this must not wait for a request
    /// to be served.
    fn is_stale(&self, what: Stale);
    /// The next use of the inode that needs attributes asks for them. At once, also while a request for the inode is
    /// served.
    fn forget_attributes(&self, ino: Ino);
    /// Has the attributes asked for now. The path is relative to the mount. Not from a thread that serves requests:
    /// this waits for the kernel's own requests to be answered, and so does the next.
    fn ask_attributes(&self, path: &Path);
    /// Writes back what is dirty and drops all pages, but for those that some program is just reading; mappings fault
    /// at their next use.
    fn drop_pages(&self, ino: Ino);
}

impl Fs {
    /// Tells this one from now on.
    ///
    /// # Panics
    ///
    /// If there is one already: a mount has one kernel.
    pub fn observe(&self, observer: Box<dyn Observer>) {
        assert!(self.observer.set(observer).is_ok(), "a mount is observed once");
    }

    /// The observer, once there is one.
    pub(super) fn observer(&self) -> Option<&dyn Observer> {
        self.observer.get().map(|observer| &**observer)
    }

    pub(super) fn tell(&self, stale: Stale) {
        if let Some(observer) = self.observer() {
            observer.is_stale(stale);
        }
    }

    /// Attributes changed by a request whose answer does not tell the kernel.
    pub(super) fn forget_attributes(&self, ino: Ino) {
        if let Some(observer) = self.observer() {
            observer.forget_attributes(ino);
        }
    }

    pub(super) fn drop_pages(&self, ino: Ino) {
        if let Some(observer) = self.observer() {
            observer.drop_pages(ino);
        }
    }
}
