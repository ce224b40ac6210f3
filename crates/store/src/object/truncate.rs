//! Giving an object another length.

use super::content::source::unchanged;
use super::write::Blocked;
use super::{Object, State};
use crate::Result;
use kmsfs_format::layout::{CHUNK, ChunkIndex, PlainLen};

impl Object {
    /// As ftruncate(2).
    pub fn truncate(&self, len: u64) -> Result<()> {
        self.change(|state, permit| {
            self.store.check_length(len, state.geometry())?;
            let (old, new) = (state.content.length(), PlainLen(len));
            // Also where the length stays: POSIX counts that as a modification.
            state.shown.set_mtime(Some(self.store.backend.now()));
            if new <= old {
                state.durability.set_trim(true);
            }
            if new >= old {
                return self.edit(state, permit, new, &(0..0), &unchanged);
            }
            // The chunk that is cut in two is encrypted again, as what remains of it.
            let last = ChunkIndex::at(len);
            let partial = if len.is_multiple_of(CHUNK) { 0..0 } else { last.0..last.0 + 1 };
            state.bring(partial.clone())?;
            let rewrite = !partial.is_empty() && state.content.tables.is_present(last);
            if rewrite && permit.is_none() && !state.is_quiet(last) {
                return Err(Blocked::Log);
            }
            // All that can fail comes before the length changes.
            state.prepare_cut(new)?;
            if rewrite {
                self.encrypt(state, permit, new, &partial, &unchanged, &mut PlainLen(0))?;
            }
            state.cut(new)?;
            state.changed(self.store.backend.now());
            Ok(())
        })
    }
}

impl State {
    /// Cuts the content; `prepare_cut` was called. The space of what is gone waits for a checkpoint.
    fn cut(&mut self, new: PlainLen) -> Result<()> {
        let gone = self.content.cut(self.lifetime.home()?, new)?;
        self.content.vacated.add(gone);
        self.durability.cut_to(new.chunks());
        Ok(())
    }
}
