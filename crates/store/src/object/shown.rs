//! The access time: moved by what programs read, as the backing mount's rule says, and by nothing that kmsfs does itself.

use super::Object;
use std::sync::atomic::{AtomicI64, Ordering};

/// relatime looks again after a day.
const DAY: i64 = 24 * 60 * 60 * 1_000_000_000;

/// When the rule was last asked: until something changes or a day is over, asking again would change nothing. 0: never.
#[derive(Default)]
pub(super) struct Asked(AtomicI64);

impl Asked {
    /// Something happened after which the next access counts: a change, another open.
    pub(super) fn again(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Object {
    /// A program has read content.
    pub fn accessed(&self) {
        let now = self.store.now();
        let asked = self.asked.0.load(Ordering::Relaxed);
        // A clock that was set back asks again too.
        let is_recent = asked != 0 && now.abs_diff(asked) < DAY.unsigned_abs();
        if is_recent || self.store.read_only() {
            return;
        }
        self.asked.0.store(now, Ordering::Relaxed);
        if let Some(Err(error)) = self.file().map(|file| file.accessed()) {
            log::debug!("{}: the access time stays: {error}", self.show());
        }
    }
}
