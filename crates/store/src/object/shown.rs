//! What stat(2) shows of an object: its times, and when its access time moves.

use super::Object;
use crate::Attr;
use crate::Volume;
use kmsfs_format::layout::PlainLen;
use std::sync::atomic::{AtomicI64, Ordering};

/// relatime looks again after a day.
const DAY: i64 = 24 * 60 * 60 * 1_000_000_000;

/// Times, in nanoseconds since the epoch, that the backing inode does not have yet.
#[derive(Default)]
pub(super) struct Shown {
    /// A modification time that the inode does not have yet, or that a write home would undo.
    mtime: Option<i64>,
    /// When content or length changed last, which the inode may not show yet.
    changed_at: i64,
}

impl Shown {
    /// Replaces what the object knows better than its inode.
    pub(super) fn correct(&self, attr: &mut Attr, length: PlainLen) {
        attr.size = length.0;
        if let Some(mtime) = self.mtime {
            attr.mtime = mtime;
        }
        attr.ctime = attr.ctime.max(self.changed_at);
    }

    /// Content or length has changed.
    pub(super) fn changed(&mut self, now: i64) {
        self.changed_at = now;
    }

    /// The modification time that the inode has to get.
    pub(super) fn mtime(&self) -> Option<i64> {
        self.mtime
    }

    /// The inode has to get this modification time; with `None` it has the right one.
    pub(super) fn set_mtime(&mut self, mtime: Option<i64>) {
        self.mtime = mtime;
    }
}

/// When the rule for access times was evaluated last: until something changes or a day is over, the result would be the
/// same. 0: never.
#[derive(Default)]
pub(super) struct Asked(AtomicI64);

impl Asked {
    /// Something happened after which the next access counts: a change, another open.
    pub(super) fn again(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether the rule has to be evaluated for an access now.
    fn is_due(&self, now: i64) -> bool {
        let asked = self.0.load(Ordering::Relaxed);
        // A clock that was set back makes it due too.
        asked == 0 || now.abs_diff(asked) >= DAY.unsigned_abs()
    }
}

impl Object {
    /// A program has read content. The access time follows as the backing mount's rule says, and by nothing that kmsfs
    /// does itself.
    pub fn accessed(&self) {
        let now = self.store.backend.now();
        if !self.asked.is_due(now) || self.store.read_only() {
            return;
        }
        self.asked.0.store(now, Ordering::Relaxed);
        if let Some(Err(error)) = self.file().map(|file| file.accessed()) {
            log::debug!("{}: the access time stays: {error}", self.show());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_for_access_times_is_evaluated_once_a_day_and_after_changes() {
        let asked = Asked::default();
        assert!(asked.is_due(DAY));
        asked.0.store(DAY, Ordering::Relaxed);
        assert!(!asked.is_due(DAY + 1));
        assert!(!asked.is_due(2 * DAY - 1));
        assert!(asked.is_due(2 * DAY));
        assert!(asked.is_due(-1));
        asked.again();
        assert!(asked.is_due(DAY + 1));
    }
}
