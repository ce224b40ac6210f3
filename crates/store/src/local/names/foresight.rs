//! Read-ahead for recursive removal. Unlinking what is not in memory reads the header of each file, to free its
//! sidecar: one wait for the disk after the other, unless it has read the next ones meanwhile. Those are the first that
//! are left in the directory.

use crate::backend::File;
use crate::local::objects::identity;
use crate::{Dir, Ino};
use kmsfs_format::ObjectId;
use kmsfs_format::layout::BLOCK;
use kmsfs_format::sidecar::Place;
use kmsfs_locks::{Mutex, ranks};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// A read that takes so long has waited for a disk.
const WAITED: Duration = Duration::from_micros(50);
/// Files to read ahead, at most.
const MOST: usize = 128;

/// What was read ahead, and how much to read ahead the next time.
#[derive(Default)]
pub(crate) struct Foresight(Mutex<ranks::Foresight, Ahead>);

impl Foresight {
    /// As `identity`, of a file in that directory that is about to be unlinked.
    pub(crate) fn identity_of_leaving(&self, dir: &Dir, file: &dyn File) -> Option<(ObjectId, Place)> {
        let began = Instant::now();
        let found = identity(file);
        let count = self.0.lock().after(file.ino(), began.elapsed() >= WAITED);
        if count > 0 {
            // One more: the file itself is still there.
            let expected = dir.backing.read_ahead(BLOCK, count + 1);
            self.0.lock().expected = expected.into_iter().filter(|ino| *ino != file.ino()).collect();
        }
        found
    }
}

/// Twice as much is read ahead the next time when most of it was of use, else a quarter.
#[derive(Default)]
struct Ahead {
    expected: HashSet<Ino>,
    count: usize,
}

impl Ahead {
    /// An inode's header was read. Returns how many files to read ahead now.
    fn after(&mut self, ino: Ino, waited: bool) -> usize {
        self.expected.remove(&ino);
        if !waited {
            return 0;
        }
        let useful = self.expected.len() <= self.count / 2;
        self.count = if useful { self.count * 2 } else { self.count / 4 }.clamp(1, MOST);
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Removes inodes in that order, each read waiting for the disk unless it was read ahead. Returns how many waited
    /// and how many were read ahead, for files that the directory lists by number.
    fn remove(order: &[Ino]) -> (usize, usize) {
        let mut foresight = Ahead::default();
        let mut left: std::collections::BTreeSet<Ino> = order.iter().copied().collect();
        let (mut waits, mut ahead, mut cached) = (0, 0, HashSet::new());
        for ino in order {
            let waited = !cached.contains(ino);
            waits += usize::from(waited);
            let count = foresight.after(*ino, waited);
            left.remove(ino);
            if count > 0 {
                foresight.expected = left.iter().take(count).copied().collect();
                ahead += foresight.expected.difference(&cached).count();
                cached.extend(&foresight.expected);
            }
        }
        (waits, ahead)
    }

    #[test]
    fn who_removes_in_order_waits_for_few_of_many() {
        let order: Vec<Ino> = (0..5000).map(Ino).collect();
        let (waits, ahead) = remove(&order);
        assert!(waits < 60, "{waits}");
        assert!(ahead <= 5000);
    }

    #[test]
    fn who_removes_here_and_there_has_little_read_in_vain() {
        let order: Vec<Ino> = (0..5000).map(|n| Ino((n * 1999 + 2500) % 5003)).collect();
        let (waits, ahead) = remove(&order);
        assert!(waits > 4000 && ahead < 1000, "{waits} waits, {ahead} read ahead");
    }
}
