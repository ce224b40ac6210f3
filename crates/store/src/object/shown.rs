//! What stat(2) shows of an object: its times, and when its access time moves.

use super::Object;
use crate::{Attr, Time, Volume};
use kmsfs_format::layout::PlainLen;
use std::sync::atomic::{AtomicI64, Ordering};

/// relatime looks again after a day.
const DAY: i64 = 24 * 60 * 60 * 1_000_000_000;

/// Times that the backing inode does not have yet.
#[derive(Default)]
pub(super) struct Shown {
    /// A modification time that the inode does not have yet, or that a write home would undo.
    mtime: Option<Time>,
    /// When content or length changed last, which the inode may not show yet.
    changed_at: Option<Time>,
}

impl Shown {
    /// Replaces what the object knows better than its inode.
    pub(super) fn correct(&self, attr: &mut Attr, length: PlainLen) {
        attr.size = length.0;
        if let Some(mtime) = self.mtime {
            attr.mtime = mtime;
        }
        if let Some(changed_at) = self.changed_at {
            attr.ctime = attr.ctime.max(changed_at);
        }
    }

    /// Content or length has changed.
    pub(super) fn changed(&mut self, now: Time) {
        self.changed_at = Some(now);
    }

    /// The modification time that the inode has to get.
    pub(super) fn mtime(&self) -> Option<Time> {
        self.mtime
    }

    /// The inode has to get this modification time; with `None` it has the right one.
    pub(super) fn set_mtime(&mut self, mtime: Option<Time>) {
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
    fn is_due(&self, now: Time) -> bool {
        let asked = self.0.load(Ordering::Relaxed);
        // A clock that was set back makes it due too.
        asked == 0 || now.0.abs_diff(asked) >= DAY.unsigned_abs()
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
        self.asked.0.store(now.0, Ordering::Relaxed);
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
        assert!(asked.is_due(Time(DAY)));
        asked.0.store(DAY, Ordering::Relaxed);
        assert!(!asked.is_due(Time(DAY + 1)));
        assert!(!asked.is_due(Time(2 * DAY - 1)));
        assert!(asked.is_due(Time(2 * DAY)));
        assert!(asked.is_due(Time(-1)));
        asked.again();
        assert!(asked.is_due(Time(DAY + 1)));
    }
}
