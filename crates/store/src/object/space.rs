//! Backing space: reserving it, and giving back what holes and cuts leave unused.

use super::content::{Ranges, chunks_of};
use super::{Object, State};
use crate::backend::File;
use crate::{Error, Result};
use kmsfs_format::layout::{BLOCK, CHUNK, ChunkIndex, EntrySlot, PlainLen};
use std::ops::Range;
use std::sync::Arc;

/// Tables that one step looks at, and holes that it punches.
const STEP: usize = 256;

impl Object {
    /// Reserves backing space for that plaintext range; changes no length.
    pub fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.store.admission.writable()?;
        let mut state = self.state.write();
        let geometry = state.geometry();
        let end = offset.checked_add(len).ok_or(Error::Errno(libc::EFBIG))?;
        self.store.check_length(end, geometry)?;
        let from = ChunkIndex::at(offset).offset(geometry);
        let file = state.lifetime.file()?.clone();
        let reserved = file.allocate(from, PlainLen(end).cipher(geometry).0.saturating_sub(from));
        if reserved.is_err() && state.durability.logged.is_empty() {
            // What was reserved before it failed: none of it beyond the end is wanted, as long as the log wants none.
            file.set_len(file.metadata()?.len)?;
        }
        // A modification, which the file has seen; but not one that hides it.
        let mtime = state.shown.mtime().map(|_| self.store.backend.now());
        state.shown.set_mtime(mtime);
        state.durability.set_trim(false);
        state.content.vacated.remove(&chunks_of(offset, end));
        Ok(reserved?)
    }

    /// What a checkpoint has made quiet of the holes that wait for it. Between its steps others get at the object.
    pub(crate) fn give_back_vacated(&self) {
        let mut from = 0;
        loop {
            let mut state = self.state.write();
            let holes = state.content.vacated.split_off(from);
            if holes.is_empty() {
                return;
            }
            match self.give_back(&mut state, &holes) {
                Some(next) => from = next,
                None => return,
            }
            state.content.bound_memory();
        }
    }

    pub(crate) fn has_vacated(&self) -> bool {
        !self.state.read().content.vacated.is_empty()
    }

    /// Punches out of the object file what became holes and nothing needs any more (W6). The rest is vacated, and waits
    /// for a checkpoint. Returns from which chunk on it was not looked at, if that would have taken long: it is vacated
    /// too.
    pub(super) fn give_back(&self, state: &mut State, holes: &Ranges) -> Option<u64> {
        if holes.is_empty() {
            return None;
        }
        match self.give_back_some(state, holes) {
            Ok(rest) => rest,
            Err(error) => {
                if !error.is_errno(rustix::io::Errno::OPNOTSUPP) {
                    ::log::warn!("{}: the space of its holes is not given back: {error}", state.lifetime.show());
                }
                None
            }
        }
    }

    fn give_back_some(&self, state: &mut State, holes: &Ranges) -> Result<Option<u64>> {
        let (file, length) = (state.lifetime.file()?.clone(), state.content.length().chunks());
        let before = file.metadata()?;
        let (mut unneeded, mut looked_at, mut rest) = (Vec::new(), 0, None);
        let needed = state.durability.needed(&state.content.tables);
        for chunks in holes.iter() {
            if state.durability.is_dirty() {
                // Beyond the end the file is cut with the next commit, unless the object has grown again by then.
                state.content.vacated.add(chunks.start.max(length)..chunks.end);
            }
            let end = chunks.end.min(length);
            let mut chunk = chunks.start;
            while chunk < end {
                if looked_at + unneeded.len() >= STEP {
                    rest = rest.or(Some(chunk));
                    state.content.vacated.add(chunk..end);
                    break;
                }
                looked_at += 1;
                let next = state.skip_holes(chunk..end)?;
                needed.within(chunk..next).for_each(|kept| state.content.vacated.add(kept));
                needed.missing(chunk..next).into_iter().for_each(|hole| unneeded.extend(state.blocks_of(&hole)));
                chunk = end.min(next + ChunkIndex(next).run(state.geometry()));
                unneeded.extend(state.unneeded(next..chunk)?);
            }
        }
        let punched = Self::punch_out(state, &file, before.len, &unneeded)?;
        if punched {
            file.set_times(None, Some(state.shown.mtime().unwrap_or(before.mtime)))?;
            self.store.objects.add_resized(self.ino);
        }
        Ok(rest)
    }

    /// Byte ranges of the object file, which has this length.
    fn punch_out(state: &State, file: &Arc<dyn File>, len: u64, ranges: &[Range<u64>]) -> Result<bool> {
        let whole = state.content.length().cipher(state.geometry()).0;
        if ranges.iter().any(|range| whole.min(range.end) > len) {
            // What is reserved beyond the end of the file is not punched.
            file.set_len(whole)?;
        }
        ranges.iter().try_for_each(|range| file.punch(range.start, range.end - range.start))?;
        Ok(!ranges.is_empty())
    }
}

impl State {
    /// Where a hole is in the object file that nothing needs any more, with the tables in it that describe nothing
    /// else. As long as a table describes something outside of it, it stays; so does one whose bytes the log would
    /// bring back.
    fn blocks_of(&self, hole: &Range<u64>) -> Vec<Range<u64>> {
        let geometry = self.geometry();
        let page_of = |chunk: u64| match ChunkIndex(chunk).slot(geometry) {
            EntrySlot::Page(page, _) => Some(page.table()),
            EntrySlot::Header(_) => None,
        };
        let start = match ChunkIndex(hole.start).slot(geometry) {
            EntrySlot::Page(page, 0) => page.table().offset(geometry),
            _ => ChunkIndex(hole.start).offset(geometry),
        };
        let end = ChunkIndex(hole.end - 1).offset(geometry) + CHUNK;
        let mut blocks = Ranges::from(start..end);
        let outside = [hole.start.checked_sub(1), Some(hole.end)].into_iter().flatten().filter_map(page_of);
        let pages = self.content.length().pages(geometry);
        let tables = outside.flat_map(|page| std::iter::once(page).chain(page.ancestors(pages)));
        for table in tables.chain(self.content.tables.nodes_in_log()) {
            let at = table.offset(geometry);
            blocks.remove(&(at..at + BLOCK));
        }
        blocks.iter().collect()
    }

    /// The same for chunks that lie next to each other and of which some may be there.
    fn unneeded(&mut self, run: Range<u64>) -> Result<Vec<Range<u64>>> {
        self.bring(run.clone())?;
        let mut holes = Ranges::default();
        for chunk in run.filter(|chunk| !self.content.tables.is_present(ChunkIndex(*chunk))) {
            let unneeded = self.is_quiet(ChunkIndex(chunk));
            let of = if unneeded { &mut holes } else { &mut self.content.vacated };
            of.add(chunk..chunk + 1);
        }
        let offset = |chunk: u64| ChunkIndex(chunk).offset(self.geometry());
        Ok(holes.iter().map(|hole| offset(hole.start)..offset(hole.end - 1) + CHUNK).collect())
    }
}
