//! Other content in one go: all of it or nothing.

use super::content::source::Bytes;
use super::content::{self, chunks_of};
use super::durability;
use super::keyed::Keyed;
use super::write::Blocked;
use super::{Object, State};
use crate::local::gate::Permit;
use crate::{Error, Result};
use kmsfs_crypto::DataKey;
use kmsfs_format::layout::PlainLen;
use kmsfs_format::sidecar::Place;
use kmsfs_sse::WrappedDataKey;

impl Object {
    /// Other content, in one commit; with a new data key where one is given. For content that fits in memory. On an
    /// error the object is what it was.
    pub fn rewrite(&self, data: &[u8], key: Option<(DataKey, WrappedDataKey)>) -> Result<()> {
        self.store.admission.writable()?;
        let permit = self.store.checkpoints.permit()?;
        let mut state = self.state.write();
        if state.length() > 0 {
            // What is not committed may lie where the new content would be written straight home.
            self.commit_state(&mut state, &permit, false)?;
        }
        self.rewrite_state(&mut state, &permit, data, key)
    }

    /// The same content under a new data key, in one commit: read and written under one lock, so that no change comes
    /// in between and is lost. For content that fits in memory.
    pub(crate) fn rekey_content(&self, key: (DataKey, WrappedDataKey)) -> Result<()> {
        self.store.admission.writable()?;
        let permit = self.store.checkpoints.permit()?;
        let mut state = self.state.write();
        if state.length() > 0 {
            self.commit_state(&mut state, &permit, false)?;
        }
        let end = state.length();
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
            self.store.objects.dead.abandon(state.keyed.id(), place);
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
            Some(key) if key.0.suite() != state.keyed.suite() => return self.relocate(state, permit, data, key),
            key => key,
        };
        state.prepare_cut(PlainLen(0))?;
        state.content.cut(state.lifetime.home()?, PlainLen(0))?;
        state.durability.cut_to(0);
        state.changed(self.store.backend.now());
        let rekeyed = key.is_some();
        let mut moved = None;
        if let Some(key) = key {
            moved = state.change_keys(|keyed| keyed.rekey(&self.store, self.ino, key))?;
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
}

/// An object as it was committed before a change that may fail halfway.
pub(super) struct Before {
    content: content::Saved,
    durability: durability::Saved,
    keyed: Keyed,
}

impl Before {
    pub(super) fn of(state: &State) -> Self {
        Self { content: state.content.save(), durability: state.durability.save(), keyed: state.keyed.clone() }
    }

    /// Unless it was committed: then what failed came after that.
    pub(super) fn restore(self, state: &mut State) {
        if state.durability.is_at(&self.durability) {
            state.content.restore(self.content);
            state.durability.restore(self.durability);
            state.keyed = self.keyed;
        }
    }
}
