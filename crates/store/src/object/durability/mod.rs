//! What of an object is committed and what is known durable: the rules W1, C5 and W6 of docs/ARCHITECTURE.md.

mod homes;
mod logged;

pub(in crate::object) use homes::Homes;
pub(in crate::object) use logged::{At, Logged};

use super::content::{Ranges, Tables};
use crate::mistakes::{Mistake, Seeded};
use kmsfs_format::header::Seal;
use kmsfs_format::layout::{ChunkIndex, PlainLen};
use std::collections::HashMap;
use std::ops::Range;

/// Dropping this many chunks at once is worth a sync: rewriting them would fill the log.
const MANY: u64 = 64;

/// The committed state, and how far it and the object file are durable.
// Each is a fact of its own.
#[allow(clippy::struct_excessive_bools)]
pub(in crate::object) struct Durability {
    seeded: Seeded,
    /// Something to commit.
    dirty: bool,
    /// Of the latest commit, if there was one.
    seal: Seal,
    /// False until the first commit of a new object.
    committed: bool,
    /// Lowest number of chunks that the object had since the latest commit.
    cut: u64,
    /// The file's space has to follow a cut, even where its length does already: some may be reserved beyond the end.
    trim: bool,
    /// Everything in the object file changed its place: until a checkpoint has brought it home, no chunk is quiet.
    relocated: bool,
    /// Chunks that commits stopped referring to, and those commits' sequences, until they are known durable.
    dropped: Vec<Dropped>,
    /// Sequence of the newest commit that is known durable.
    durable_sequence: u64,
    sidecar_durable: bool,
    /// A change of the sidecar's record failed halfway: the next commit brings it along.
    record_unwritten: bool,
    /// What went straight home.
    pub(in crate::object) homes: Homes,
    /// What went to the log.
    pub(in crate::object) logged: Logged,
}

struct Dropped {
    chunks: Range<u64>,
    sequence: u64,
}

/// A committed state that may have to be restored.
pub(in crate::object) struct Saved {
    dirty: bool,
    seal: Seal,
    cut: u64,
    chunks: HashMap<u64, At>,
}

impl Durability {
    /// Of an object that was never committed.
    pub(in crate::object) fn new(seeded: Seeded) -> Self {
        let seal = Seal {
            sequence: 0,
            length: PlainLen(0),
            entries: [0; 32],
            top: [0; 32],
            epoch: 0,
            encryptions: 0,
            md5: None,
        };
        Self { dirty: true, committed: false, homes: Homes::default(), ..Self::found(seal, seeded) }
    }

    /// Of an object whose file has this seal. Whether it was synced is not known.
    pub(in crate::object) fn found(seal: Seal, seeded: Seeded) -> Self {
        Self {
            seeded,
            dirty: false,
            seal,
            committed: true,
            cut: seal.length.chunks(),
            trim: false,
            relocated: false,
            dropped: Vec::new(),
            durable_sequence: 0,
            sidecar_durable: false,
            record_unwritten: false,
            homes: Homes::of_found(),
            logged: Logged::default(),
        }
    }

    pub(in crate::object) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// There is something to commit.
    pub(in crate::object) fn changed(&mut self) {
        self.dirty = true;
    }

    pub(in crate::object) fn is_committed(&self) -> bool {
        self.committed
    }

    /// Of the latest commit.
    pub(in crate::object) fn seal(&self) -> &Seal {
        &self.seal
    }

    /// Whether the next commit goes straight home (C1).
    pub(in crate::object) fn commits_home(&self) -> bool {
        !self.committed || self.seeded.is(Mistake::SecondDirectCommit) && self.durable_sequence == 0
    }

    /// There is nothing to commit, and the newest commit and all that went straight home are known durable.
    pub(in crate::object) fn is_synced(&self) -> bool {
        !self.dirty && self.durable_sequence >= self.seal.sequence && self.homes.are_synced()
    }

    pub(in crate::object) fn is_sidecar_durable(&self) -> bool {
        self.sidecar_durable
    }

    pub(in crate::object) fn is_record_unwritten(&self) -> bool {
        self.record_unwritten
    }

    /// The sidecar's record could not be committed. The header may name another place already: whatever is committed
    /// next brings the record along.
    pub(in crate::object) fn leave_record(&mut self) {
        self.record_unwritten = true;
        self.dirty = true;
    }

    /// The sidecar's record is as the latest commit has it.
    pub(in crate::object) fn record_written(&mut self) {
        self.record_unwritten = false;
    }

    /// The object has had no more than so many chunks.
    pub(in crate::object) fn cut_to(&mut self, chunks: u64) {
        self.cut = self.cut.min(chunks);
    }

    pub(in crate::object) fn must_trim(&self) -> bool {
        self.trim
    }

    pub(in crate::object) fn set_trim(&mut self, trim: bool) {
        self.trim = trim;
    }

    pub(in crate::object) fn relocated(&mut self) {
        self.relocated = true;
    }

    /// W1: the latest committed state does not refer to the chunk, every commit that dropped it is known durable, and
    /// the log holds no record of it, nor of what was in its place. The chunk's page has been brought.
    pub(in crate::object) fn is_quiet(&self, chunk: ChunkIndex, tables: &Tables) -> bool {
        let referred = self.committed
            && chunk.0 < self.seal.length.chunks()
            && (chunk.0 >= self.cut || tables.committed_refers(chunk));
        let dropping = self.dropped.iter().any(|dropped| dropped.chunks.contains(&chunk.0))
            && !self.seeded.is(Mistake::QuietBeforeDurable);
        let logged = self.logged.mentions(chunk.0) && !self.seeded.is(Mistake::LiveRecordIgnored);
        !(self.relocated || referred || dropping || logged) || self.seeded.is(Mistake::OverwriteInPlace)
    }

    /// W6: chunks of which something but the present content may be needed, or whose table may. There may be more of
    /// them than `is_quiet` knows, never fewer; of those that the header describes it alone knows.
    pub(in crate::object) fn needed(&self, tables: &Tables) -> Ranges {
        let geometry = tables.geometry();
        let mut needed = Ranges::default();
        if self.seeded.is(Mistake::GivenBackEarly) {
            return needed;
        }
        if self.relocated {
            needed.add(0..u64::MAX);
        }
        if self.committed {
            needed.add(self.cut..self.seal.length.chunks());
        }
        self.dropped.iter().for_each(|dropped| needed.add(dropped.chunks.clone()));
        self.logged.mentioned().for_each(|chunk| needed.add(chunk..chunk + 1));
        tables.needed_pages().for_each(|page| {
            let first = page.first_chunk(geometry).0;
            needed.add(first..first + geometry.page_chunks());
        });
        needed
    }

    /// Whether so many chunks wait to become quiet that a sync is worth it.
    pub(in crate::object) fn drops_many(&self) -> bool {
        let cut = if self.committed { self.seal.length.chunks().saturating_sub(self.cut) } else { 0 };
        cut >= MANY || self.dropped.iter().any(|dropped| dropped.chunks.end - dropped.chunks.start >= MANY)
    }

    /// The present state has become the committed one; `dropped` are chunks that its tables dropped.
    pub(in crate::object) fn settle(&mut self, seal: Seal, first: bool, mut dropped: Vec<Range<u64>>) {
        if !first {
            let old = self.seal.length.chunks();
            if self.cut < old {
                dropped.push(self.cut..old);
            }
            let sequence = seal.sequence;
            if self.seeded.is(Mistake::TwoStatesEnough) && sequence > self.durable_sequence + 1 {
                dropped.clear();
            }
            self.dropped.extend(dropped.into_iter().map(|chunks| Dropped { chunks, sequence }));
            self.bound_dropped();
        }
        self.seal = seal;
        self.cut = seal.length.chunks();
        self.committed = true;
        self.dirty = false;
    }

    /// Many small ranges become one that covers them: that chunks count as dropped which were not costs log space only.
    fn bound_dropped(&mut self) {
        const RANGES: usize = 64;
        if self.dropped.len() > RANGES {
            let start = self.dropped.iter().map(|dropped| dropped.chunks.start).min().unwrap_or(0);
            let end = self.dropped.iter().map(|dropped| dropped.chunks.end).max().unwrap_or(0);
            let sequence = self.seal.sequence + 1;
            self.dropped = vec![Dropped { chunks: start..end, sequence }];
        }
    }

    /// C5.
    pub(in crate::object) fn known_durable(&mut self, sequence: u64) {
        self.durable_sequence = self.durable_sequence.max(sequence);
        let durable = self.durable_sequence;
        self.dropped.retain(|dropped| dropped.sequence > durable);
        self.sidecar_durable = true;
    }

    /// A checkpoint has ended (K6): the log holds nothing of the object any more.
    pub(in crate::object) fn checkpointed(&mut self) {
        self.logged = Logged::default();
        self.relocated = false;
    }

    pub(in crate::object) fn save(&self) -> Saved {
        Saved { dirty: self.dirty, seal: self.seal, cut: self.cut, chunks: self.logged.chunks().clone() }
    }

    /// Whether that state is still the committed one.
    pub(in crate::object) fn is_at(&self, saved: &Saved) -> bool {
        self.seal.sequence == saved.seal.sequence
    }

    pub(in crate::object) fn restore(&mut self, saved: Saved) {
        self.logged.take_back(saved.chunks);
        (self.dirty, self.seal, self.cut) = (saved.dirty, saved.seal, saved.cut);
    }
}
