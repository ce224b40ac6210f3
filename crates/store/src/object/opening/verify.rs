//! An object that a crash may have caught before it was ever durable: read through once, and cut back to what is there.
//!
//! Its seal says what was committed; the seal, its tables and each chunk are authentic or are not there (R2). What is
//! shown is the longest beginning of it without anything missing: a length that it had while it was written.

use crate::Volume;
use crate::local::recovery::birth;
use crate::mistakes::Mistake;
use crate::object::{Object, State};
use crate::{Error, Result};
use kmsfs_format::layout::{CHUNK, ChunkIndex, PlainLen};

/// Chunks that are read at once.
const RUN: u64 = 64;

impl Object {
    /// R2, before anybody has the object: cut back in memory to what is there. Returns whether something was missing.
    pub(crate) fn cut_back(&self) -> Result<bool> {
        let mut state = self.state.write();
        let missing = self.missing(&mut state)?.filter(|_| !self.store.seeded.is(Mistake::UnsyncedNotCut));
        let Some(there) = missing else {
            let file = state.lifetime.file()?;
            let len = state.content.length().cipher(state.geometry()).0;
            // Nothing but a hole may be missing at its end.
            let short = !self.store.read_only() && file.metadata()?.len < len;
            if short {
                file.set_len(len)?;
            }
            return Ok(short);
        };
        let (before, after) = (state.length(), there * CHUNK);
        ::log::info!("{}: of {before} bytes, never synced, the crash left {after}", state.lifetime.show());
        if self.store.read_only() {
            return state.cut_in_memory(after).map(|()| true);
        }
        drop(state);
        self.truncate(after)?;
        Ok(true)
    }

    /// R3: what was cut is made durable. From then on nothing excuses what is missing.
    pub(crate) fn settle(&self, cut: bool) -> Result<()> {
        if self.store.read_only() {
            return Ok(());
        }
        if cut && self.store.seeded.is(Mistake::CutNotSynced) {
            self.commit()?;
        } else if cut {
            self.store.checkpoints.with_permit(|permit| self.sync_content(permit))?;
        }
        let file = self.backing_file()?;
        Ok(birth::settle(file.as_ref())?)
    }

    /// Where something of what was sealed is missing, how many chunks are there from the first one on, without the hole
    /// that they may end in.
    fn missing(&self, state: &mut State) -> Result<Option<u64>> {
        let end = state.content.length().chunks();
        let (mut chunk, mut there) = (0, 0);
        loop {
            match state.skip_holes(chunk..end) {
                Ok(first) => chunk = first,
                Err(Error::Corrupt(_)) => return Ok(Some(there)),
                Err(error) => return Err(error),
            }
            if chunk == end {
                return Ok(None);
            }
            let next = end.min(chunk + ChunkIndex(chunk).run(state.geometry()).min(RUN));
            match self.is_there(state, chunk, next) {
                Ok(()) => there = state.content.last_present(chunk..next).map_or(there, |last| last + 1),
                Err(Error::Corrupt(_)) => {
                    for one in chunk..next {
                        match self.is_there(state, one, one + 1) {
                            Ok(()) => there = state.content.last_present(one..one + 1).map_or(there, |last| last + 1),
                            Err(Error::Corrupt(_)) => return Ok(Some(there)),
                            Err(error) => return Err(error),
                        }
                    }
                }
                Err(error) => return Err(error),
            }
            chunk = next;
            state.content.bound_memory();
        }
    }

    fn is_there(&self, state: &mut State, first: u64, end: u64) -> Result<()> {
        state.bring(first..end)?;
        let end = state.length().min(end * CHUNK);
        let mut bytes = vec![0; (end - first * CHUNK) as usize];
        self.read_chunks(state, first * CHUNK, &mut bytes)
    }
}

impl State {
    /// For a store that is only read: the object has this length for as long as it is in memory.
    fn cut_in_memory(&mut self, length: u64) -> Result<()> {
        self.prepare_cut(PlainLen(length))?;
        self.content.cut(self.lifetime.home()?, PlainLen(length)).map(|_| ())
    }
}
