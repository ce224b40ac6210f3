//! Using an object's descriptor without having it open.

use crate::object::Object;
use std::ops::Deref;
use std::sync::Arc;

/// An object that has its descriptor, and keeps it for as long as this lives: whoever finds an object by its inode, and
/// not by a handle of its own, uses it through one of these, since the last handle may be released at any time.
pub struct Held(Arc<Object>);

impl Object {
    /// `None` if it has no descriptor. Decided under the object's lock, under which the descriptor is given up too.
    pub(crate) fn held(self: Arc<Self>) -> Option<Held> {
        let state = self.state.read();
        if !state.lifetime.has_home() {
            return None;
        }
        self.users.add_hold();
        drop(state);
        Some(Held(self))
    }
}

impl Deref for Held {
    type Target = Arc<Object>;

    fn deref(&self) -> &Arc<Object> {
        &self.0
    }
}

impl Drop for Held {
    /// The last user, with a handle or without, has the descriptor given up.
    fn drop(&mut self) {
        self.0.users.remove_hold();
        if !self.0.users.are_there() {
            self.0.store.objects.let_go(&self.0);
        }
    }
}
