//! Using an object's descriptor without having it open.

use crate::object::Object;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// An object that has its descriptor, and keeps it for as long as this lives: whoever finds an object by its inode, and not by
/// a handle of its own, uses it through one of these, since the last handle may go at any time.
pub struct Held(Arc<Object>);

impl Object {
    /// Nothing if it has no descriptor. Asked under the object's lock, under which the descriptor is given up too.
    pub(crate) fn held(self: Arc<Self>) -> Option<Held> {
        let state = self.state.read();
        state.home.as_ref()?;
        self.users.fetch_add(1, Ordering::SeqCst);
        drop(state);
        Some(Held(self))
    }

    pub(in crate::object) fn is_in_use(&self) -> bool {
        self.has_handles() || self.users.load(Ordering::SeqCst) > 0
    }
}

impl Deref for Held {
    type Target = Arc<Object>;

    fn deref(&self) -> &Arc<Object> {
        &self.0
    }
}

impl Drop for Held {
    /// Whoever is the last to use it, be it by a handle, lets it go.
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::SeqCst);
        if !self.0.is_in_use() {
            self.0.store.let_go(&self.0);
        }
    }
}
