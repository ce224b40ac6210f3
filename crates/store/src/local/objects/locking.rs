//! Data keys of the objects in memory that nobody has open.

use super::Objects;
use crate::object::Object;
use crate::{Error, Ino};
use std::sync::Arc;

impl Objects {
    /// Zeroizes the data keys of the closed objects that a KMS key protects: whoever opens one asks for them anyway.
    /// Returns whether no object keeps its keys for this thread not to wait.
    pub(crate) fn lock_closed(&self) -> bool {
        self.living().iter().filter(|object| !Self::lock_unless_open(object)).count() == 0
    }

    /// The same for one object, if it is in memory and closed.
    pub(crate) fn lock_if_closed(&self, ino: Ino) {
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
}
