//! What an object's content is at present: its length, the tables that describe its chunks, and the holes whose space
//! is not given back yet.

mod ahead;
mod md5;
mod ranges;
pub(in crate::object) mod source;
mod tables;

pub(in crate::object) use ahead::Ahead;
pub(in crate::object) use ranges::Ranges;
pub(crate) use tables::Block;
pub(in crate::object) use tables::Tables;

use self::md5::RunningMd5;
use crate::local::objects::memory::{Budget, Share};
use crate::object::lifetime::Home;
use crate::{Error, Result};
use kmsfs_format::entry::Entry;
use kmsfs_format::layout::{CHUNK, ChunkIndex, EntrySlot, Geometry, PlainLen};
use std::ops::Range;
use std::sync::Arc;

/// Bytes that an object takes in memory, beside its tables: its keys, its sidecar and their records.
const KEPT: usize = 4096;

/// The present state.
pub(in crate::object) struct Content {
    /// Plaintext length.
    length: PlainLen,
    pub(in crate::object) tables: Tables,
    /// How much memory it takes.
    memory: Share,
    /// Chunks that became holes while the object file, or the log, had content of theirs: their space waits for a
    /// checkpoint.
    pub(in crate::object) vacated: Ranges,
    /// What the seal says of the content's MD5, or will say.
    md5: Option<[u8; 16]>,
    running_md5: Option<RunningMd5>,
}

/// A present state that may have to be restored.
pub(in crate::object) struct Saved {
    length: PlainLen,
    tables: Tables,
    md5: Option<[u8; 16]>,
}

/// Chunks that have some of these bytes.
pub(in crate::object) fn chunks_of(offset: u64, end: u64) -> Range<u64> {
    offset / CHUNK..end.div_ceil(CHUNK)
}

impl Content {
    /// What these tables describe.
    pub(in crate::object) fn new(
        length: PlainLen,
        tables: Tables,
        md5: Option<[u8; 16]>,
        budget: &Arc<Budget>,
    ) -> Self {
        Self { length, tables, memory: Share::of(budget), vacated: Ranges::default(), md5, running_md5: None }
    }

    pub(in crate::object) fn length(&self) -> PlainLen {
        self.length
    }

    /// The tables have been resized.
    pub(in crate::object) fn set_length(&mut self, length: PlainLen) {
        self.length = length;
    }

    pub(in crate::object) fn geometry(&self) -> Geometry {
        self.tables.geometry()
    }

    /// Whether the pages of these chunks have been brought.
    pub(in crate::object) fn has(&self, mut chunks: Range<u64>) -> bool {
        chunks.all(|chunk| self.tables.has(ChunkIndex(chunk)))
    }

    /// Brings the pages of a range of chunks.
    pub(in crate::object) fn bring(&mut self, home: &Home, chunks: Range<u64>) -> Result<()> {
        let mut chunk = chunks.start;
        while chunk < chunks.end {
            self.tables.bring(ChunkIndex(chunk), &|offset, block| home.read_block(offset, block))?;
            chunk += ChunkIndex(chunk).run(self.geometry());
        }
        Ok(())
    }

    /// Makes the tables follow a new length, which the content does not have yet.
    pub(in crate::object) fn resize(&mut self, home: &Home, new: PlainLen) -> Result<()> {
        self.tables.resize(self.length, new, &|offset, block| home.read_block(offset, block))
    }

    /// Takes back a growth of the tables, when the content did not follow.
    pub(in crate::object) fn regret(&mut self, home: &Home, grown: PlainLen, to: PlainLen) -> Result<()> {
        self.tables.resize(grown, to, &|offset, block| home.read_block(offset, block))
    }

    /// Brings what a cut to that length changes; the cut itself cannot fail then.
    pub(in crate::object) fn prepare_cut(&mut self, home: &Home, new: PlainLen) -> Result<()> {
        self.tables.prepare_cut(new, &|offset, block| home.read_block(offset, block))
    }

    /// The content is cut to that length; `prepare_cut` was called. Returns the chunks that are gone.
    pub(in crate::object) fn cut(&mut self, home: &Home, new: PlainLen) -> Result<Range<u64>> {
        let old = self.length;
        self.resize(home, new)?;
        self.length = new;
        Ok(new.chunks()..old.chunks())
    }

    /// Starts anew with the chunks and tables of another geometry, all of them holes.
    pub(in crate::object) fn relocate(&mut self, geometry: Geometry) {
        self.tables = self.tables.emptied(geometry);
        self.length = PlainLen(0);
    }

    /// Chunks that lie next to each other are of this ciphertext now.
    pub(in crate::object) fn set_run(&mut self, run: &Range<u64>, entries: impl Iterator<Item = Entry>) {
        for (index, entry) in run.clone().map(ChunkIndex).zip(entries) {
            self.tables.set(index, Some(&entry));
        }
        self.vacated.remove(run);
    }

    /// The first of these chunks that a table with some entry describes, or their end. What it passes over are holes.
    pub(in crate::object) fn skip_holes(&mut self, home: &Home, chunks: Range<u64>) -> Result<u64> {
        let geometry = self.geometry();
        let Some(last) = chunks.end.checked_sub(1).filter(|last| *last >= chunks.start) else { return Ok(chunks.end) };
        let (EntrySlot::Page(first, _), EntrySlot::Page(last, _)) =
            (ChunkIndex(chunks.start).slot(geometry), ChunkIndex(last).slot(geometry))
        else {
            // The header is there in any case.
            return Ok(chunks.start);
        };
        let next = self.tables.next_page(first.0..last.0 + 1, &|offset, block| home.read_block(offset, block))?;
        Ok(next.map_or(chunks.end, |page| page.first_chunk(geometry).0.max(chunks.start)))
    }

    /// The last of these chunks that is no hole.
    pub(in crate::object) fn last_present(&self, mut chunks: Range<u64>) -> Option<u64> {
        chunks.rfind(|chunk| self.tables.is_present(ChunkIndex(*chunk)))
    }

    /// Makes holes of whole chunks that one table describes, and whose page has been brought.
    pub(in crate::object) fn clear(&mut self, chunks: Range<u64>) {
        match ChunkIndex(chunks.start).slot(self.geometry()) {
            EntrySlot::Page(page, 0) if chunks.end - chunks.start == self.geometry().page_chunks() => {
                self.tables.clear_page(page);
            }
            _ => chunks.map(ChunkIndex).for_each(|index| {
                if self.tables.is_present(index) {
                    self.tables.set(index, None);
                }
            }),
        }
    }

    /// Lets go of half of the tables that can be read again, where all objects together keep too much.
    pub(in crate::object) fn bound_memory(&mut self) {
        if self.memory.set(KEPT + self.tables.bytes()) {
            self.tables.evict_half();
            self.memory.set(KEPT + self.tables.bytes());
        }
    }

    /// Content or length has changed, so that no MD5 is known of it any more.
    pub(in crate::object) fn changed(&mut self) {
        self.md5 = None;
        self.running_md5 = None;
    }

    /// The MD5 of what was written so far, for a change that goes on with it.
    pub(in crate::object) fn running_md5(&self) -> Option<RunningMd5> {
        self.running_md5.clone()
    }

    /// Goes on with an MD5: data was written at that offset.
    pub(in crate::object) fn extend_md5(&mut self, running: Option<RunningMd5>, offset: u64, data: &[u8]) {
        self.running_md5 = running.and_then(|md5| md5.extended(offset, data));
    }

    /// From now on what is written to this empty object is hashed. Returns whether it is empty.
    pub(in crate::object) fn begin_md5(&mut self) -> bool {
        let is_empty = self.length.0 == 0;
        if is_empty {
            self.running_md5 = Some(RunningMd5::default());
        }
        is_empty
    }

    /// What comes next is not hashed.
    pub(in crate::object) fn end_md5(&mut self) {
        self.running_md5 = None;
    }

    /// The content's MD5 is no ETag any more.
    pub(in crate::object) fn forget_md5(&mut self) {
        self.md5 = None;
    }

    /// What is known to be the content's MD5 by the latest commit and since.
    pub(in crate::object) fn md5(&self) -> Option<[u8; 16]> {
        self.md5
    }

    /// For the next commit: the MD5 of the content if it was hashed as it was written, and is an ETag.
    pub(in crate::object) fn md5_to_seal(&self, is_etag: bool) -> Option<[u8; 16]> {
        let running = self.running_md5.as_ref().filter(|running| is_etag && running.len() == self.length.0);
        running.map_or(self.md5, |running| Some(running.finished()))
    }

    /// The present state is committed, with this MD5; `logged` if the log holds what changed.
    pub(in crate::object) fn settle(&mut self, md5: Option<[u8; 16]>, logged: bool) {
        self.md5 = md5;
        self.tables.settle(logged);
    }

    pub(in crate::object) fn save(&self) -> Saved {
        Saved { length: self.length, tables: self.tables.clone(), md5: self.md5 }
    }

    pub(in crate::object) fn restore(&mut self, saved: Saved) {
        (self.length, self.tables, self.md5) = (saved.length, saved.tables, saved.md5);
    }
}

/// The finding of a damaged table, as one of this object.
pub(in crate::object) fn named<T>(found: Result<T>, show: impl FnOnce() -> String) -> Result<T> {
    found.map_err(|error| match error {
        Error::Corrupt(_) => error.of(&show()),
        error => error,
    })
}
