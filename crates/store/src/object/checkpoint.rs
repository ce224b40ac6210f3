//! A checkpoint's steps for one object: what it notes at the start, and what the log holds going home (K1, K3, K6, K7).

use super::{Object, State};
use crate::Result;
use crate::backend::File;
use crate::local::gate::Permit;
use crate::mistakes::{Mistake, Seeded};
use kmsfs_format::layout::{ChunkIndex, PlainLen};
use std::sync::Arc;

/// What a checkpoint noted of an object at its start (K1).
pub(crate) struct Noted {
    sequence: u64,
    home_writes: u64,
    pub(crate) has_log: bool,
    /// Something went straight home that no sync covers.
    unsynced: bool,
    /// `None` if it was closed: what went home before that stays unsynced, and does not become known durable.
    file: Option<Arc<dyn File>>,
}

impl Noted {
    /// Whether the object may have waited for the checkpoint to be let go.
    pub(crate) fn kept(&self) -> bool {
        self.has_log || self.file.is_some()
    }

    /// Before anything of it is written home: a commit that is not all there could not be taken back any more (K7).
    pub(crate) fn file_to_sync_first(&self, seeded: Seeded) -> Option<&Arc<dyn File>> {
        self.file.as_ref().filter(|_| self.has_log && self.unsynced && !seeded.is(Mistake::HomesOverUnsynced))
    }

    /// After it was written home (K4).
    pub(crate) fn file_to_sync(&self) -> Option<&Arc<dyn File>> {
        self.file.as_ref().filter(|_| self.has_log || self.unsynced)
    }
}

impl Object {
    /// K1: everything is committed; from here on nothing is appended until the checkpoint's end.
    pub(crate) fn note(&self, permit: &Permit<'_>) -> Result<Noted> {
        let mut state = self.state.write();
        if state.durability.is_dirty() {
            self.commit_state(&mut state, permit, false)?;
        }
        let State { durability, lifetime, .. } = &mut *state;
        durability.homes.cover();
        Ok(Noted {
            sequence: durability.seal().sequence,
            home_writes: durability.homes.writes(),
            has_log: !durability.logged.is_empty(),
            unsynced: !durability.homes.are_synced(),
            file: lifetime.file().ok().cloned(),
        })
    }

    /// K3: what the log holds of the object goes home, in order, without a change to its modification time.
    pub(crate) fn write_home(&self) -> Result<()> {
        let (file, geometry, (chunks, ranges), sidecar) = {
            let state = self.state.read();
            let logged = &state.durability.logged;
            let sidecar = logged.has_sidecar().then(|| (state.keyed.place(), state.keyed.record().to_vec()));
            (state.lifetime.file().cloned(), state.geometry(), logged.of_home(), sidecar)
        };
        if let Some((place, record)) = sidecar {
            self.store.segments.write(place.segment, place.offset(), &record)?;
        }
        if chunks.is_empty() && ranges.is_empty() {
            return Ok(());
        }
        // Only an object of which the log holds nothing but the record gives up its descriptor.
        let file = file?;
        let before = file.metadata()?;
        let mut buffer = Vec::new();
        for (chunk, (position, len)) in chunks {
            buffer.resize(len, 0);
            self.store.log.read(position, &mut buffer)?;
            let offset = ChunkIndex(chunk).offset(geometry);
            self.store.reserve.with_room(|| file.write_at(&buffer, offset))?;
        }
        for (offset, (position, len)) in ranges {
            buffer.resize(len, 0);
            self.store.log.read(position, &mut buffer)?;
            self.store.reserve.with_room(|| file.write_at(&buffer, offset))?;
        }
        let mut state = self.state.write();
        // The greater of the committed and the present length, else direct writes are cut off.
        let present = if self.store.seeded.is(Mistake::HomeCutsCurrent) { PlainLen(0) } else { state.content.length() };
        let len = state.durability.seal().length.max(present).cipher(geometry).0;
        if state.durability.must_trim() || file.metadata()?.len != len {
            file.set_len(len)?;
            state.durability.set_trim(false);
        }
        file.set_times(None, Some(state.shown.mtime().unwrap_or(before.mtime)))?;
        if file.metadata()?.blocks != before.blocks {
            self.store.objects.add_resized(self.ino);
        }
        Ok(())
    }

    /// After K6: the log holds nothing of the object any more, and what was noted is known durable.
    pub(crate) fn checkpointed(&self, noted: &Noted) {
        let mut state = self.state.write();
        state.content.tables.written_home();
        let durability = &mut state.durability;
        durability.checkpointed();
        if noted.file.is_some() || !noted.unsynced {
            durability.known_durable(noted.sequence);
            durability.homes.synced(noted.home_writes);
        }
        durability.homes.checkpointed();
    }
}
