//! What the redo log holds of an object.

use kmsfs_format::layout::{BLOCK, CHUNK};
use std::collections::{BTreeSet, HashMap};

/// Where a record's bytes are in the log, and how many.
pub(in crate::object) type At = (u64, usize);

/// Records by the chunk, or by the offset in the object file.
pub(in crate::object) type Records = Vec<(u64, At)>;

/// Records since the last checkpoint.
#[derive(Default)]
pub(in crate::object) struct Logged {
    /// The object appended in this epoch, so the log knows its path.
    hinted: bool,
    /// Newest position of each chunk's ciphertext, and its length.
    chunks: HashMap<u64, At>,
    /// Chunks whose newest record in the log is not what they are: a change failed after it had been appended.
    overtaken: BTreeSet<u64>,
    /// Header block, pages and nodes, by their offsets in the object file; in order.
    ranges: Records,
    sidecar: bool,
}

impl Logged {
    pub(in crate::object) fn is_empty(&self) -> bool {
        !self.is_of_home() && !self.sidecar
    }

    /// Something belongs into the object file.
    pub(in crate::object) fn is_of_home(&self) -> bool {
        !(self.chunks.is_empty() && self.ranges.is_empty())
    }

    pub(in crate::object) fn is_hinted(&self) -> bool {
        self.hinted
    }

    pub(in crate::object) fn has_sidecar(&self) -> bool {
        self.sidecar
    }

    /// The newest ciphertext of a chunk.
    pub(in crate::object) fn chunk(&self, chunk: u64) -> Option<At> {
        self.chunks.get(&chunk).copied()
    }

    /// Whether there is a record of the chunk, be it of what it is or not.
    pub(in crate::object) fn mentions(&self, chunk: u64) -> bool {
        self.chunks.contains_key(&chunk) || self.overtaken.contains(&chunk)
    }

    /// All chunks with a record, some of them twice.
    pub(in crate::object) fn mentioned(&self) -> impl Iterator<Item = u64> {
        self.chunks.keys().chain(&self.overtaken).copied()
    }

    pub(in crate::object) fn overtaken(&self) -> Vec<u64> {
        self.overtaken.iter().copied().collect()
    }

    /// What has to go home: chunks in the order of their numbers, then ranges in the order in which they were appended.
    pub(in crate::object) fn of_home(&self) -> (Records, Records) {
        let mut chunks: Vec<_> = self.chunks.iter().map(|(chunk, at)| (*chunk, *at)).collect();
        chunks.sort_unstable_by_key(|(chunk, _)| *chunk);
        (chunks, self.ranges.clone())
    }

    /// The ciphertext of chunks from that one on has been appended, at that position.
    pub(in crate::object) fn add_chunks(&mut self, first: u64, bytes: &[u8], position: u64) {
        self.hinted = true;
        for (n, chunk) in (0..).zip(bytes.chunks(CHUNK as usize)) {
            self.chunks.insert(first + n, (position + n * CHUNK, chunk.len()));
            self.overtaken.remove(&(first + n));
        }
    }

    /// A commit has been appended: changed ranges, and the sidecar's record where it came along.
    pub(in crate::object) fn add_commit(&mut self, ranges: impl Iterator<Item = (u64, At)>, sidecar: bool) {
        self.hinted = true;
        self.sidecar |= sidecar;
        self.ranges.extend(ranges);
    }

    /// Every chunk and table has another place now, which `add_chunks` and `add_commit` tell: what the log has of the
    /// former places need not go home any more. Of the header block it must, where it is not changed again.
    pub(in crate::object) fn relocate(&mut self) {
        let ranges = self.ranges.iter().filter(|(offset, _)| *offset < BLOCK).copied().collect();
        *self = Self { ranges, ..Self::default() };
    }

    /// The chunks are as they were before a change that failed: what it appended overtook them.
    pub(in crate::object) fn take_back(&mut self, before: HashMap<u64, At>) {
        let anew = self.chunks.iter().filter(|(chunk, at)| before.get(chunk) != Some(at));
        self.overtaken.extend(anew.map(|(chunk, _)| *chunk));
        self.chunks = before;
    }

    pub(in crate::object) fn chunks(&self) -> &HashMap<u64, At> {
        &self.chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_change_appended_is_overtaken_until_it_is_appended_again() {
        let mut logged = Logged::default();
        logged.add_chunks(0, &[0; 2 * CHUNK as usize], 100);
        let before = logged.chunks().clone();
        logged.add_chunks(1, &[0; 10], 9000);
        logged.add_chunks(7, &[0; 10], 9100);
        logged.take_back(before);
        assert_eq!(logged.chunk(1), Some((100 + CHUNK, CHUNK as usize)));
        assert_eq!(logged.chunk(7), None);
        assert!(logged.mentions(7));
        assert_eq!(logged.overtaken(), [1, 7]);
        logged.add_chunks(1, &[0; 10], 9200);
        assert_eq!(logged.overtaken(), [7]);
    }

    #[test]
    fn after_a_relocation_nothing_but_the_header_block_goes_to_its_former_place() {
        let mut logged = Logged::default();
        logged.add_chunks(3, &[0; 10], 100);
        logged.add_commit([(64, (200, 32)), (BLOCK, (300, 32))].into_iter(), true);
        logged.relocate();
        assert_eq!(logged.of_home(), (vec![], vec![(64, (200, 32))]));
        assert!(!logged.has_sidecar() && !logged.mentions(3));
    }
}
