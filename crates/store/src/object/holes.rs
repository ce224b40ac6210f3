//! Holes in an object's content: finding them, and making them. The cost follows what is there: a hole is one look at
//! the tree however large it is, and what takes long is done in steps between which others get at the object.

use super::content::source::Covered;
use super::{Object, State};
use crate::{Error, Result};
use kmsfs_format::layout::{CHUNK, ChunkIndex};
use std::ops::Range;

/// Table pages that one step looks at or empties.
const STEP: usize = 256;

/// What lseek(2) looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeekTo {
    /// `SEEK_DATA`.
    Data,
    /// `SEEK_HOLE`.
    Hole,
}

/// How far looking for data or a hole has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seek {
    Found(u64),
    /// Not before this offset.
    GoOn(u64),
}

impl Object {
    /// `ENXIO` past the end, as lseek(2).
    pub fn seek(&self, offset: u64, to: SeekTo) -> Result<u64> {
        let mut from = offset;
        loop {
            match self.seek_some(from, to)? {
                Seek::Found(found) => return Ok(found),
                Seek::GoOn(next) => from = next,
            }
        }
    }

    /// A step of it.
    fn seek_some(&self, offset: u64, to: SeekTo) -> Result<Seek> {
        let mut state = self.state.write();
        if offset >= state.length() {
            return Err(Error::Errno(libc::ENXIO));
        }
        let found = state.seek(offset, to);
        state.content.bound_memory();
        found
    }

    /// Zeros in `offset..offset + len`, within the present length; whole chunks become holes. After an error, or beside
    /// others' changes, some of them may be and some not.
    pub fn punch(&self, offset: u64, len: u64) -> Result<()> {
        let end = offset.checked_add(len).ok_or(Error::Errno(libc::EFBIG))?;
        let mut from = 0;
        while let Some(next) = self.punch_some(offset, end, from)? {
            // The tables that were emptied need not be in memory any more.
            self.commit()?;
            from = next;
        }
        Ok(())
    }

    /// A step of it, of whole chunks from that one on. Returns where to go on.
    fn punch_some(&self, offset: u64, end: u64, from: u64) -> Result<Option<u64>> {
        self.change(|state, permit| {
            self.store.check_length(end, state.geometry())?;
            let end = end.min(state.length());
            if offset >= end {
                return Ok(None);
            }
            let whole = offset.div_ceil(CHUNK)..if end == state.length() { end.div_ceil(CHUNK) } else { end / CHUNK };
            for edge in [offset / CHUNK, (end - 1) / CHUNK] {
                if whole.contains(&edge) || from > 0 {
                    continue;
                }
                state.bring(edge..edge + 1)?;
                if state.content.tables.is_present(ChunkIndex(edge)) {
                    let length = state.content.length();
                    self.edit(state, permit, length, &(edge..edge + 1), &|chunk: ChunkIndex, bytes: &mut [u8]| {
                        let begin = chunk.0 * CHUNK;
                        let from = (offset.max(begin) - begin) as usize;
                        let to = (end.min(begin + bytes.len() as u64) - begin) as usize;
                        bytes[from..to].fill(0);
                        Covered(from..to)
                    })?;
                }
            }
            let chunks = whole.start.max(from)..whole.end;
            let done = state.clear(chunks.clone())?;
            state.changed(self.store.backend.now());
            state.shown.set_mtime(Some(self.store.backend.now()));
            self.give_back(state, &(chunks.start..done).into());
            state.content.bound_memory();
            Ok((done < chunks.end).then_some(done))
        })
    }
}

impl State {
    fn seek(&mut self, offset: u64, to: SeekTo) -> Result<Seek> {
        let (end, is_data) = (self.content.length().chunks(), to == SeekTo::Data);
        let mut chunk = offset / CHUNK;
        for _ in 0..STEP {
            let described = self.skip_holes(chunk..end)?;
            if described > chunk && !is_data {
                return Ok(Seek::Found(offset.max(chunk * CHUNK)));
            }
            let next = end.min(described + ChunkIndex(described).run(self.geometry()));
            self.bring(described..next)?;
            if let Some(found) = (described..next).find(|n| self.content.tables.is_present(ChunkIndex(*n)) == is_data) {
                return Ok(Seek::Found(offset.max(found * CHUNK)));
            }
            chunk = next;
            if chunk == end {
                return if is_data { Err(Error::Errno(libc::ENXIO)) } else { Ok(Seek::Found(self.length())) };
            }
        }
        Ok(Seek::GoOn(chunk * CHUNK))
    }

    /// Makes holes of whole chunks. Returns where it stopped, after a step.
    fn clear(&mut self, chunks: Range<u64>) -> Result<u64> {
        let geometry = self.geometry();
        let mut chunk = chunks.start;
        for _ in 0..STEP {
            chunk = self.skip_holes(chunk..chunks.end)?;
            if chunk == chunks.end {
                break;
            }
            let next = chunks.end.min(chunk + ChunkIndex(chunk).run(geometry));
            self.bring(chunk..next)?;
            self.content.clear(chunk..next);
            chunk = next;
        }
        Ok(chunk)
    }
}
