//! What went straight home and may not be durable: rules W5, C6 and C7.

use kmsfs_format::layout::CHUNK;
use kmsfs_format::log_record::{HomeWrite, Mark};
use std::collections::BTreeMap;

/// Writes straight home, counted. Of those to objects that were durable once, what was written is known too, so that a
/// mark can say what its commit rests on.
#[derive(Default)]
pub(in crate::object) struct Homes {
    writes: u64,
    /// How many of them a completed sync covers.
    synced: u64,
    /// How many there may have been before the object came into memory.
    found: u64,
    /// The newest one whose bytes are not known.
    uncovered: u64,
    /// Chunks are told from now on: the object was durable once, or may have been.
    covers: bool,
    /// By chunk, those that no sync covers.
    unsynced: BTreeMap<u64, HomeWrite>,
    told: Told,
}

/// What the marks of this epoch say.
#[derive(Clone, Copy, Default)]
struct Told {
    /// The newest write that one lists.
    listed: u64,
    /// The newest write that one calls synced.
    synced: u64,
    /// One says that the object is settled.
    settled: bool,
}

/// A mark that is about to be appended.
pub(in crate::object) struct Prepared {
    homes: Vec<u8>,
    told: Told,
    settled: bool,
}

impl Prepared {
    pub(in crate::object) fn mark(&self, length: u64) -> Mark<'_> {
        Mark { length, synced: self.told.synced, settled: self.settled, before: 0, homes: &self.homes }
    }
}

impl Homes {
    /// Of an object that was there: an earlier life of it in memory may have written what is not synced.
    pub(in crate::object) fn of_found() -> Self {
        Self { writes: 1, found: 1, uncovered: 1, covers: true, ..Self::default() }
    }

    pub(in crate::object) fn writes(&self) -> u64 {
        self.writes
    }

    pub(in crate::object) fn are_synced(&self) -> bool {
        self.synced >= self.writes
    }

    /// Something was written since the object came into memory, and no sync covers it.
    pub(in crate::object) fn are_loose(&self) -> bool {
        !self.are_synced() && self.writes > self.found
    }

    /// How many chunks are told and not synced.
    pub(in crate::object) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// Something is about to be written straight home that no list tells.
    pub(in crate::object) fn write_uncovered(&mut self) {
        self.writes += 1;
        self.uncovered = self.writes;
    }

    /// Chunks that lie next to each other are about to be written straight home.
    pub(in crate::object) fn write(&mut self, first: u64, offset: u64, bytes: &[u8]) {
        if !self.covers {
            return self.write_uncovered();
        }
        self.writes += 1;
        for (n, chunk) in (0..).zip(bytes.chunks(CHUNK as usize)) {
            let (number, offset, crc) = (self.writes, offset + n * CHUNK, crc32fast::hash(chunk));
            self.unsynced.insert(first + n, HomeWrite { number, offset, len: chunk.len() as u32, crc });
        }
    }

    /// A sync that began after so many writes has ended (F5).
    pub(in crate::object) fn synced(&mut self, writes: u64) {
        self.synced = self.synced.max(writes);
        let synced = self.synced;
        self.unsynced.retain(|_, write| write.number > synced);
    }

    /// A sync is about to make what there is durable: what is written from now on is to be told from it.
    pub(in crate::object) fn cover(&mut self) {
        self.covers = true;
    }

    /// A checkpoint has made the log empty: marks begin anew.
    pub(in crate::object) fn checkpointed(&mut self) {
        // What is durable is settled with the epoch.
        self.told = Told { settled: self.uncovered <= self.synced, ..Told::default() };
    }

    /// C6: for a commit that refers to these chunks, what neither a sync covers nor an earlier mark lists.
    pub(in crate::object) fn prepare(&mut self, refers: impl Fn(u64) -> bool) -> Prepared {
        self.unsynced.retain(|chunk, _| refers(*chunk));
        let (mut homes, mut told) = (Vec::new(), self.told);
        for write in self.unsynced.values().filter(|write| write.number > self.told.listed) {
            write.write(&mut homes);
            told.listed = told.listed.max(write.number);
        }
        let settled = self.uncovered <= self.synced;
        told.synced = self.synced;
        told.settled |= settled;
        Prepared { homes, told, settled }
    }

    /// It has been appended.
    pub(in crate::object) fn told(&mut self, prepared: &Prepared) {
        self.told = prepared.told;
    }

    /// C7: the log does not say yet that what its marks list is synced, or that the object is settled.
    pub(in crate::object) fn are_untold(&self) -> bool {
        self.told.synced < self.told.listed.min(self.synced) || !self.told.settled && self.uncovered <= self.synced
    }
}
