//! fsync: what was committed becomes durable (F1 to F3, F5, C7).

use super::{Object, State};
use crate::Result;
use crate::local::gate::Permit;
use crate::mistakes::Mistake;

impl Object {
    /// What was acknowledged survives anything but the loss of the disk.
    pub fn fsync(&self) -> Result<()> {
        self.store.admission.writable()?;
        self.store.checkpoints.with_permit(|permit| self.sync_content(permit))?;
        if self.store.seeded.is(Mistake::NameNotSynced) { Ok(()) } else { self.store.names.sync_of(self.ino) }
    }

    /// F1 to F3: content, but not the name.
    pub(crate) fn sync_content(&self, permit: &Permit<'_>) -> Result<()> {
        {
            let mut state = self.state.write();
            if !state.durability.is_committed() {
                self.commit_state(&mut state, permit, false)?;
            }
            state.durability.homes.cover();
        }
        self.sync_home()?;
        let sequence = {
            let mut state = self.state.write();
            let with_sidecar =
                !state.durability.is_sidecar_durable() && !self.store.seeded.is(Mistake::SidecarNotLogged);
            self.commit_state(&mut state, permit, with_sidecar)?;
            state.durability.seal().sequence
        };
        if !self.store.seeded.is(Mistake::WrittenAfterSync) {
            // What others wrote straight home meanwhile is part of the commit.
            self.sync_home()?;
        }
        {
            let mut state = self.state.write();
            if state.durability.homes.are_untold() && !self.store.seeded.is(Mistake::SyncedNotTold) {
                self.append_told(&mut state, permit)?;
            }
        }
        self.store.log.sync()?;
        self.state.write().durability.known_durable(sequence);
        Ok(())
    }

    /// F2: makes durable what went straight home.
    pub(crate) fn sync_home(&self) -> Result<()> {
        let (file, writes) = {
            let state = self.state.read();
            if state.durability.homes.are_synced() || self.store.seeded.is(Mistake::ObjectNotSynced) {
                return Ok(());
            }
            (state.lifetime.file()?.clone(), state.durability.homes.writes())
        };
        if self.store.seeded.is(Mistake::CleanBeforeSynced) {
            self.state.write().durability.homes.synced(writes);
        }
        file.sync()?;
        self.state.write().durability.homes.synced(writes);
        Ok(())
    }

    /// So that recovery never has to look at more than so much of an object: what was written straight home meanwhile
    /// is synced, by whoever commits everything from time to time.
    pub(crate) fn bound_unsynced(&self) {
        const CHUNKS: usize = 1 << 14;
        if self.state.read().durability.homes.unsynced() > CHUNKS
            && let Err(error) = self.sync_home()
        {
            ::log::warn!("{}: cannot be synced: {error}", self.show());
        }
    }

    /// C7: a mark that commits nothing, and says what is synced.
    fn append_told(&self, state: &mut State, permit: &Permit<'_>) -> Result<()> {
        if state.durability.is_dirty() {
            // A mark commits what the log has of the object, so it is a whole commit (C3).
            return self.commit_state(state, permit, false);
        }
        self.append(state, permit, &[], false, None)
    }

    /// Whether something of its content may not be durable.
    pub fn is_unsynced(&self) -> bool {
        !self.state.read().durability.is_synced()
    }
}
