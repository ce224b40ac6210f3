//! A new data key for an object with content: a new key epoch with a blob of its own in the sidecar, then chunk by
//! chunk through the log, then the old blobs go.
//!
//! Each step is a whole commit under the object's lock and a permit of its own, so that a checkpoint, readers and
//! writers come in between. Wherever it stops, every chunk names the epoch it is under and the sidecar has that epoch's
//! key.

use super::content::source::unchanged;
use super::rewrite::Before;
use super::{Object, State};
use crate::local::gate::Permit;
use crate::{Error, Result};
use kmsfs_crypto::DataKey;
use kmsfs_format::layout::{ChunkIndex, PlainLen};
use kmsfs_sse::{Algorithm, WrappedDataKey};
use std::ops::Range;

/// Chunks that one step looks at, at most, whole pages of holes aside.
const LOOKED_AT: u64 = 1 << 14;

impl Object {
    /// Whether chunks may be under an older data key than the newest.
    pub fn has_old_keys(&self) -> bool {
        self.state.read().keyed.sidecar().keys.len() > 1
    }

    /// Everything that is written from here on is under this data key; what is there is not touched.
    pub(crate) fn begin_epoch(&self, key: (DataKey, WrappedDataKey)) -> Result<()> {
        self.store.admission.writable()?;
        let permit = self.store.checkpoints.permit()?;
        let mut state = self.state.write();
        state.keyed.are_there()?;
        self.commit_state(&mut state, &permit, false)?;
        if key.0.suite() != state.keyed.suite() {
            // Its chunks would have other places.
            return Err(Error::Errno(libc::EOPNOTSUPP));
        }
        let before = Before::of(&state);
        let keeps_md5 = key.1.algorithm == Algorithm::Aes256;
        let moved = state.change_keys(|keyed| keyed.add_epoch(&self.store, self.ino, key)).and_then(|moved| {
            if !keeps_md5 {
                state.content.forget_md5();
            }
            self.commit_state(&mut state, &permit, true)?;
            Ok(moved)
        });
        self.settle_place(&mut state, moved, before)
    }

    /// Encrypts again at most so many of the chunks that are under older keys, from that chunk on. Returns where to go
    /// on; `None` once all are under the newest key, whose blob is the only one in the sidecar then.
    pub fn reencrypt_some(&self, from: u64, most: u64) -> Result<Option<u64>> {
        self.store.admission.writable()?;
        let permit = self.store.checkpoints.permit()?;
        let mut state = self.state.write();
        state.keyed.are_there()?;
        if state.keyed.sidecar().keys.len() == 1 {
            return Ok(None);
        }
        let mtime = state.shown.mtime();
        let done = self.reencrypt_from(&mut state, &permit, from, most);
        // It is the same content.
        state.shown.set_mtime(mtime);
        let next = done?;
        state.content.bound_memory();
        if next < state.content.length().chunks() {
            if state.durability.is_dirty() {
                self.commit_state(&mut state, &permit, false)?;
            }
            return Ok(Some(next));
        }
        // Writers use the newest key, so nothing old has come where this has been.
        self.commit_state(&mut state, &permit, false)?;
        let before = Before::of(&state);
        let moved = state.change_keys(|keyed| keyed.drop_old_keys(&self.store, self.ino)).and_then(|moved| {
            self.commit_state(&mut state, &permit, true)?;
            Ok(moved)
        });
        self.settle_place(&mut state, moved, before)?;
        Ok(None)
    }

    fn settle_place(
        &self,
        state: &mut State,
        moved: Result<Option<kmsfs_format::sidecar::Place>>,
        before: Before,
    ) -> Result<()> {
        match moved {
            Ok(Some(place)) => {
                self.store.objects.dead.abandon(state.keyed.id(), place);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => {
                before.restore(state);
                Err(error)
            }
        }
    }

    /// Returns the first chunk that was not looked at.
    fn reencrypt_from(&self, state: &mut State, permit: &Permit<'_>, from: u64, most: u64) -> Result<u64> {
        let end = state.content.length().chunks();
        let (mut budget, mut to_look_at) = (most, LOOKED_AT);
        let mut chunk = from;
        while chunk < end && budget > 0 && to_look_at > 0 {
            chunk = state.skip_holes(chunk..end)?;
            let run = state.old_run(chunk, end.min(chunk + budget))?;
            to_look_at = to_look_at.saturating_sub((run.end - run.start).max(1));
            if run.is_empty() {
                chunk = end.min(chunk + 1);
                continue;
            }
            let length = state.content.length();
            state.durability.changed();
            self.encrypt(state, Some(permit), length, &run, &unchanged, &mut PlainLen(0))?;
            budget -= run.end - run.start;
            chunk = run.end;
        }
        Ok(chunk)
    }
}

impl State {
    /// Chunks from this one on that are under an older data key than the newest, as far as they lie next to each other.
    fn old_run(&mut self, first: u64, end: u64) -> Result<Range<u64>> {
        let newest = self.keyed.newest_epoch()?;
        let mut last = first;
        while last < end {
            self.bring(last..last + 1)?;
            match self.content.tables.entry(ChunkIndex(last))? {
                Some(entry) if entry.epoch < newest => last += 1,
                _ => break,
            }
        }
        Ok(first..last)
    }
}
