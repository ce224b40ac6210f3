//! Data keys of objects that nobody has open, and of objects whose keys have left memory.

use crate::object::Object;
use crate::{Error, Result, Store};
use kmsfs_kms::Caller;
use std::sync::Arc;

impl Store {
    /// Zeroizes the data keys of the closed objects that a KMS key protects: whoever opens one asks for them anyway.
    /// Returns whether no object keeps its keys for this thread not to wait.
    pub fn lock_closed(&self) -> bool {
        self.living().iter().filter(|object| !Self::lock_unless_open(object)).count() == 0
    }

    /// The same for one object, if it is in memory and closed.
    pub fn lock_if_closed(&self, ino: u64) {
        if let Some(object) = self.loaded(ino) {
            Self::lock_unless_open(&object);
        }
    }

    fn lock_unless_open(object: &Arc<Object>) -> bool {
        if object.kms_keys().is_empty() {
            return true;
        }
        match object.lock_unless_open() {
            Ok(()) => true,
            Err(Error::WouldWait(_)) => false,
            Err(error) => {
                ::log::error!("{}: its data key stays in memory: {error}", object.show());
                true
            }
        }
    }

    /// The object of that name if it is in memory, open or not: for tests of what is left there.
    #[cfg(feature = "testing")]
    pub fn known(&self, dir: &crate::Dir, name: &std::ffi::OsStr) -> Option<Arc<Object>> {
        self.loaded(dir.backing.stat(name).ok()?.ino)
    }

    /// Brings back the data keys of a locked object, on behalf of a caller.
    pub fn unlock(&self, object: &Object, caller: &Caller) -> Result<()> {
        object.authorize(caller)
    }
}
