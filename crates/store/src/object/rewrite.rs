//! Other content in one go: all of it or nothing.

use super::content::source::Bytes;
use super::write::{Blocked, chunks_of};
use super::{Keys, Object, State, Tables};
use crate::checkpoint::Permit;
use crate::{Error, Result};
use kmsfs_crypto::{DataKey, Suite};
use kmsfs_format::header::Seal;
use kmsfs_format::layout::{ChunkIndex, PlainLen};
use kmsfs_format::sidecar::{Place, Sidecar};
use kmsfs_sse::WrappedDataKey;
use std::collections::HashMap;
use std::sync::Arc;

impl Object {
    /// Other content, in one commit; with a new data key where one is given. For content that fits in memory. On an
    /// error the object is what it was.
    pub fn rewrite(&self, data: &[u8], key: Option<(DataKey, WrappedDataKey)>) -> Result<()> {
        self.store.writable()?;
        let permit = self.store.permit()?;
        let mut state = self.state.write();
        if state.length.0 > 0 {
            // What is not committed may lie where the new content would be written straight home.
            self.commit_state(&mut state, &permit, false)?;
        }
        self.rewrite_state(&mut state, &permit, data, key)
    }

    /// The same content under a new data key, in one commit: read and written under one lock, so that no change comes in
    /// between and is lost. For content that fits in memory.
    pub(crate) fn rekey_content(&self, key: (DataKey, WrappedDataKey)) -> Result<()> {
        self.store.writable()?;
        let permit = self.store.permit()?;
        let mut state = self.state.write();
        if state.length.0 > 0 {
            self.commit_state(&mut state, &permit, false)?;
        }
        let end = state.length.0;
        state.bring(chunks_of(0, end))?;
        let mut content = vec![0; end as usize];
        self.read_chunks(&state, 0, &mut content)?;
        self.rewrite_state(&mut state, &permit, &content, Some(key))
    }

    fn rewrite_state(
        &self,
        state: &mut State,
        permit: &Permit<'_>,
        data: &[u8],
        key: Option<(DataKey, WrappedDataKey)>,
    ) -> Result<()> {
        let before = Before::of(state);
        let moved = self.replace(state, permit, data, key).inspect_err(|_| before.restore(state))?;
        if let Some(place) = moved {
            self.store.abandon(state.id, place);
        }
        Ok(())
    }

    fn replace(
        &self,
        state: &mut State,
        permit: &Permit<'_>,
        data: &[u8],
        key: Option<(DataKey, WrappedDataKey)>,
    ) -> Result<Option<Place>> {
        let key = match key {
            Some(key) if key.0.suite() != state.suite => return self.relocate(state, permit, data, key),
            key => key,
        };
        state.prepare_cut(PlainLen(0))?;
        state.resize(PlainLen(0))?;
        state.length = PlainLen(0);
        state.cut = 0;
        state.changed(self.store.now());
        let rekeyed = key.is_some();
        let mut moved = None;
        if let Some((data_key, wrapped)) = key {
            moved = state.rekey(&self.store, self.ino, data_key, wrapped)?;
        }
        let end = data.len() as u64;
        self.edit(state, Some(permit), PlainLen(end), &chunks_of(0, end), &Bytes::new(0, data)).map_err(|blocked| {
            match blocked {
                Blocked::Failed(error) => error,
                Blocked::Log => Error::Errno(libc::EIO),
            }
        })?;
        self.commit_state(state, permit, rekeyed)?;
        Ok(moved)
    }

    /// A mark commits every record before it, those too that were appended in vain: the chunks that they overtook are
    /// appended again as they are.
    pub(super) fn append_overtaken(&self, state: &mut State, permit: &Permit<'_>) -> Result<()> {
        for chunk in state.logged.overtaken.clone() {
            state.bring(chunk..chunk + 1)?;
            let index = ChunkIndex(chunk);
            if !state.tables.is_present(index) {
                // Whatever comes there goes through the log.
                continue;
            }
            let mut bytes = vec![0; state.length.bytes_in(index)];
            match state.logged.chunks.get(&chunk) {
                Some((position, _)) => self.store.log.read(*position, &mut bytes)?,
                None => drop(state.home()?.read(index.offset(state.geometry()), &mut bytes)?),
            }
            self.log_chunks(state, permit, index, &bytes)?;
        }
        Ok(())
    }
}

/// An object as it was committed before a change that may fail halfway.
pub(super) struct Before {
    length: PlainLen,
    suite: Suite,
    tables: Tables,
    keys: Arc<Keys>,
    sidecar: Sidecar,
    record: Vec<u8>,
    place: Place,
    dirty: bool,
    seal: Seal,
    cut: u64,
    chunks: HashMap<u64, (u64, usize)>,
}

impl Before {
    pub(super) fn of(state: &State) -> Self {
        Self {
            length: state.length,
            suite: state.suite,
            tables: state.tables.clone(),
            keys: state.keys.clone(),
            sidecar: state.sidecar.clone(),
            record: state.record.clone(),
            place: state.place,
            dirty: state.dirty,
            seal: state.seal,
            cut: state.cut,
            chunks: state.logged.chunks.clone(),
        }
    }

    pub(super) fn restore(self, state: &mut State) {
        if state.seal.sequence != self.seal.sequence {
            // It was committed; what failed came after that.
            return;
        }
        let anew = state.logged.chunks.iter().filter(|(chunk, at)| self.chunks.get(chunk) != Some(at));
        state.logged.overtaken.extend(anew.map(|(chunk, _)| *chunk));
        state.logged.chunks = self.chunks;
        state.length = self.length;
        state.suite = self.suite;
        state.tables = self.tables;
        state.keys = self.keys;
        state.sidecar = self.sidecar;
        state.record = self.record;
        state.place = self.place;
        state.dirty = self.dirty;
        state.seal = self.seal;
        state.cut = self.cut;
    }
}
