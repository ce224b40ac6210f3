//! Cached descriptors of closed objects, for whoever opens one of them again.

use crate::Ino;
use crate::local::objects::memory::Closed;
use crate::object::Home;

pub(super) struct Descriptors {
    of_closed: Closed<Home>,
    most: usize,
}

impl Descriptors {
    /// Keeps so many at most.
    pub(super) fn new(most: usize) -> Self {
        Self { of_closed: Closed::default(), most }
    }

    /// Keeps the descriptor of an object that was closed just now, and gives up the oldest if there are too many.
    pub(super) fn add(&self, ino: Ino, home: Home) {
        if self.of_closed.add(ino, home) > self.most {
            self.of_closed.pop();
        }
    }

    pub(super) fn take(&self, ino: Ino) -> Option<Home> {
        self.of_closed.remove(ino)
    }

    /// Gives up all, and returns whether there were any.
    pub(super) fn clear(&self) -> bool {
        self.of_closed.clear()
    }
}
