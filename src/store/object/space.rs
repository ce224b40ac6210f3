//! Backing space: reserving it, and giving back what holes and cuts leave unused.

use super::content::chunks_of;
use super::sealed::Covered;
use super::{Object, State};
use crate::format::layout::{CHUNK, ChunkIndex, EntrySlot, PlainLen};
use crate::store::{Error, Result};
use std::ops::Range;

/// Chunks that became holes while the object file, or the log, had content of theirs.
#[derive(Default)]
pub(super) struct Vacated(Vec<Range<u64>>);

impl Vacated {
    pub(super) fn add(&mut self, chunks: Range<u64>) {
        if chunks.is_empty() {
            return;
        }
        match self.0.last_mut() {
            Some(last) if (last.start..=last.end).contains(&chunks.start) => last.end = last.end.max(chunks.end),
            _ => self.0.push(chunks),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their space is wanted again.
    fn remove(&mut self, chunks: &Range<u64>) {
        if !self.0.iter().any(|range| range.start < chunks.end && chunks.start < range.end) {
            return;
        }
        for range in std::mem::take(&mut self.0) {
            self.add(range.start..range.end.min(chunks.start));
            self.add(range.start.max(chunks.end)..range.end);
        }
    }
}

impl Object {
    /// Zeros in `offset..offset + len`, within the present length; whole chunks become holes.
    pub fn punch(&self, offset: u64, len: u64) -> Result<()> {
        self.change(|state, permit| {
            let end = offset.checked_add(len).ok_or(Error::Errno(libc::EFBIG))?;
            self.store.check_length(end, state.geometry())?;
            let end = end.min(state.length.0);
            if offset >= end {
                return Ok(());
            }
            let whole = offset.div_ceil(CHUNK)..if end == state.length.0 { end.div_ceil(CHUNK) } else { end / CHUNK };
            for edge in [offset / CHUNK, (end - 1) / CHUNK] {
                if whole.contains(&edge) {
                    continue;
                }
                state.bring(edge..edge + 1)?;
                if state.tables.is_present(ChunkIndex(edge)) {
                    let length = state.length;
                    self.edit(state, permit, length, &(edge..edge + 1), &|chunk: ChunkIndex, bytes: &mut [u8]| {
                        let begin = chunk.0 * CHUNK;
                        let from = (offset.max(begin) - begin) as usize;
                        let to = (end.min(begin + bytes.len() as u64) - begin) as usize;
                        bytes[from..to].fill(0);
                        Covered(from..to)
                    })?;
                }
            }
            state.clear(whole.clone())?;
            state.changed(self.store.now());
            state.mtime = Some(self.store.now());
            self.give_back(state, Vacated(vec![whole]));
            Ok(())
        })
    }

    /// Reserves backing space for that plaintext range; changes no length.
    pub fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.store.writable()?;
        let mut state = self.state.write();
        let geometry = state.geometry();
        let end = offset.checked_add(len).ok_or(Error::Errno(libc::EFBIG))?;
        self.store.check_length(end, geometry)?;
        let from = ChunkIndex::at(offset).offset(geometry);
        let file = state.home()?.file.clone();
        let reserved = file.allocate(from, PlainLen(end).cipher(geometry).0.saturating_sub(from));
        if reserved.is_err() && state.logged.is_empty() {
            // What was reserved before it failed: none of it beyond the end is wanted, as long as the log wants none.
            file.set_len(file.metadata()?.len)?;
        }
        // A modification, which the file has seen; but not one that hides it.
        state.mtime = state.mtime.map(|_| self.store.now());
        state.trim = false;
        state.vacated.remove(&chunks_of(offset, end));
        Ok(reserved?)
    }

    /// Punches out of the object file what became holes and nothing needs any more (W1). The rest is vacated, and waits for
    /// a checkpoint.
    pub(super) fn give_back(&self, state: &mut State, holes: Vacated) {
        if holes.0.is_empty() {
            return;
        }
        match self.give_back_now(state, holes) {
            Err(error) if !error.is_errno(rustix::io::Errno::OPNOTSUPP) => {
                ::log::warn!("{}: the space of its holes is not given back: {error}", state.show());
            }
            _ => {}
        }
    }

    fn give_back_now(&self, state: &mut State, holes: Vacated) -> Result<()> {
        let (file, geometry, length) = (state.home()?.file.clone(), state.geometry(), state.length.chunks());
        let before = file.metadata()?;
        let (mut len, whole) = (before.len, state.length.cipher(geometry).0);
        let mut punched = false;
        for chunks in holes.0 {
            if state.dirty {
                // Beyond the end the file is cut with the next commit, unless the object has grown again by then.
                state.vacated.add(chunks.start.max(length)..chunks.end);
            }
            let end = chunks.end.min(length);
            let mut chunk = chunks.start;
            while chunk < end {
                let run = chunk..end.min(chunk + ChunkIndex(chunk).run(geometry));
                chunk = run.end;
                for hole in state.unneeded(run)?.0 {
                    let (from, count) = (ChunkIndex(hole.start).offset(geometry), (hole.end - hole.start) * CHUNK);
                    if whole.min(from + count) > len {
                        // What is reserved beyond the end of the file is not punched.
                        len = whole;
                        file.set_len(len)?;
                    }
                    file.punch(from, count)?;
                    punched = true;
                }
                state.bound_memory();
            }
        }
        if punched {
            file.set_times(None, Some(state.mtime.unwrap_or(before.mtime)))?;
            self.store.resized.lock().insert(self.ino);
        }
        Ok(())
    }
}

impl State {
    /// Makes holes of whole chunks.
    fn clear(&mut self, chunks: Range<u64>) -> Result<()> {
        let home = self.home()?.clone();
        let read = |offset, block: &mut _| home.read_block(offset, block);
        let page_chunks = self.geometry().page_chunks();
        let mut chunk = chunks.start;
        while chunk < chunks.end {
            let index = ChunkIndex(chunk);
            match index.slot(self.geometry()) {
                EntrySlot::Page(page, 0) if chunks.end - chunk >= page_chunks => {
                    if !self.tables.is_null_page(page, &read)? {
                        self.tables.clear_page(page, &read)?;
                    }
                    chunk += page_chunks;
                }
                _ => {
                    self.tables.bring(index, &read)?;
                    if self.tables.is_present(index) {
                        self.tables.set(index, None);
                    }
                    chunk += 1;
                }
            }
        }
        Ok(())
    }

    /// Of chunks that lie next to each other, the holes that can be punched; those that something still refers to are
    /// vacated as before.
    fn unneeded(&mut self, run: Range<u64>) -> Result<Vacated> {
        let mut holes = Vacated::default();
        let null = match ChunkIndex(run.start).slot(self.geometry()) {
            EntrySlot::Header(_) => false,
            EntrySlot::Page(page, _) => self.is_null_page(page)?,
        };
        if !null {
            self.bring(run.clone())?;
        } else if self.was_empty(&run) {
            holes.add(run);
            return Ok(holes);
        }
        for chunk in run {
            if self.tables.is_present(ChunkIndex(chunk)) {
                continue;
            }
            let unneeded = self.is_quiet(ChunkIndex(chunk));
            let of = if unneeded { &mut holes } else { &mut self.vacated };
            of.add(chunk..chunk + 1);
        }
        Ok(holes)
    }

    /// Whether chunks of an empty page are quiet all together, as in most of a large hole.
    fn was_empty(&self, run: &Range<u64>) -> bool {
        let unchanged = !self.committed || run.end <= self.cut || run.start >= self.seal.length.chunks();
        let dropped = self.relocated || !self.dropped.is_empty() || !self.logged.is_empty();
        unchanged && !dropped && !self.tables.has(ChunkIndex(run.start))
    }
}
