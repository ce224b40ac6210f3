//! Commit: the present state becomes the committed one (C1 to C4, C6).

use super::{Object, State};
use crate::Result;
use crate::backend::File;
use crate::local::gate::Permit;
use crate::mistakes::Mistake;
use crate::object::keyed::Keyed;
use kmsfs_format::header::{ENTRIES_AT, SEAL, Seal};
use kmsfs_format::layout::{BLOCK, ChunkIndex, TableId};
use kmsfs_format::log_record::{Body, Record};
use std::sync::Arc;

impl Object {
    /// What close(2) does: seals the present state, syncs nothing.
    pub fn commit(&self) -> Result<()> {
        if !self.state.read().durability.is_dirty() {
            return Ok(());
        }
        self.store.admission.writable()?;
        self.store.checkpoints.with_permit(|permit| self.commit_with(permit, false))
    }

    pub(crate) fn commit_with(&self, permit: &Permit<'_>, with_sidecar: bool) -> Result<()> {
        self.commit_state(&mut self.state.write(), permit, with_sidecar)
    }

    /// Replaces what the sidecar says: a commit with its new record (C3). It touches no object file unless the object
    /// was never committed.
    pub(crate) fn replace_sidecar(
        &self,
        change: impl FnOnce(&mut Keyed) -> Result<()>,
        permit: &Permit<'_>,
    ) -> Result<()> {
        let mut state = self.state.write();
        state.change_keys(change)?;
        if self.store.seeded.is(Mistake::RewrapInPlace) && state.durability.is_committed() {
            let place = state.keyed.place();
            return self.store.segments.write(place.segment, place.offset(), state.keyed.record());
        }
        if self.store.seeded.is(Mistake::RewrapMarksAlone) && state.durability.is_committed() {
            return self.append(&mut state, permit, &[], true, None);
        }
        self.commit_state(&mut state, permit, true).inspect_err(|_| state.durability.leave_record())
    }

    /// Does nothing where there is nothing to commit, and the sidecar's record is not asked for.
    pub(super) fn commit_state(&self, state: &mut State, permit: &Permit<'_>, with_sidecar: bool) -> Result<()> {
        let with_sidecar = with_sidecar || state.durability.is_record_unwritten();
        if state.durability.is_dirty() || with_sidecar {
            self.append_overtaken(state, permit)?;
        }
        let first = state.durability.commits_home();
        if state.durability.is_dirty() || first {
            let seal = state.next_seal()?;
            let half = state.keyed.seal(&seal)?;
            let mut log = Vec::new();
            if first {
                self.commit_home(state, &half)?;
            } else {
                state.reserve()?;
                log.push((SEAL.start as u64, half[SEAL].to_vec()));
                for change in state.content.tables.changes(ENTRIES_AT as u64) {
                    if self.makes_straight_home(state, change.offset) {
                        state.durability.homes.write_uncovered();
                        state.lifetime.file()?.write_at(&change.bytes, change.offset)?;
                    } else {
                        log.push((change.offset, change.bytes));
                    }
                }
            }
            if !first || with_sidecar {
                self.append(state, permit, &log, with_sidecar, Some(&seal))?;
            }
            state.settle(seal, first);
        } else if with_sidecar {
            self.append(state, permit, &[], true, None)?;
        }
        state.durability.record_written();
        if let Some(mtime) = state.shown.mtime() {
            state.lifetime.file()?.set_times(None, Some(mtime))?;
            state.shown.set_mtime(None);
        }
        Ok(())
    }

    /// C1: header block, tables, length and sidecar straight home.
    fn commit_home(&self, state: &mut State, half: &[u8; ENTRIES_AT]) -> Result<()> {
        let file = state.lifetime.file()?.clone();
        state.durability.homes.write_uncovered();
        let place = state.keyed.place();
        self.store.segments.write(place.segment, place.offset(), state.keyed.record())?;
        for change in state.content.tables.changes(ENTRIES_AT as u64) {
            if change.offset >= BLOCK {
                file.write_at(&change.bytes, change.offset)?;
            }
        }
        let mut block = [0; BLOCK as usize];
        block[..ENTRIES_AT].copy_from_slice(half);
        block[ENTRIES_AT..].copy_from_slice(state.content.tables.header_entries());
        file.write_at(&block, 0)?;
        let len = state.content.length().cipher(state.geometry()).0;
        if state.durability.must_trim() || file.metadata()?.len != len {
            file.set_len(len)?;
            state.durability.set_trim(false);
        }
        Ok(())
    }

    /// C2, C3, C6: changed ranges, the sidecar's record where it is asked for, and the mark that commits them. Without
    /// a seal the mark is of the latest commit's length.
    pub(super) fn append(
        &self,
        state: &mut State,
        _permit: &Permit<'_>,
        ranges: &[(u64, Vec<u8>)],
        with_sidecar: bool,
        seal: Option<&Seal>,
    ) -> Result<()> {
        let length = seal.unwrap_or(state.durability.seal()).length.cipher(state.geometry()).0;
        let State { content, durability, .. } = &mut *state;
        let mark = durability.homes.prepare(|chunk| content.tables.is_present(ChunkIndex(chunk)));
        let mut bodies: Vec<_> = ranges.iter().map(|(offset, bytes)| Body::Object { offset: *offset, bytes }).collect();
        if with_sidecar {
            let place = state.keyed.place();
            bodies.push(Body::Segment { segment: place.segment, offset: place.offset(), bytes: state.keyed.record() });
        }
        bodies.push(Body::Mark(mark.mark(length)));
        let mut hint = state.hint();
        let object_id = state.keyed.id();
        let records: Vec<_> =
            bodies.into_iter().map(|body| Record { object_id, hint: std::mem::take(&mut hint), body }).collect();
        let positions = self.store.log.append(&records)?;
        state.durability.homes.told(&mark);
        let ranges = ranges.iter().zip(positions).map(|((offset, bytes), at)| (*offset, (at, bytes.len())));
        state.durability.logged.add_commit(ranges, with_sidecar);
        Ok(())
    }

    /// A mark commits every record before it, those too that were appended in vain: the chunks that they overtook are
    /// appended again as they are.
    fn append_overtaken(&self, state: &mut State, permit: &Permit<'_>) -> Result<()> {
        for chunk in state.durability.logged.overtaken() {
            state.bring(chunk..chunk + 1)?;
            let index = ChunkIndex(chunk);
            if !state.content.tables.is_present(index) {
                // Whatever comes there goes through the log.
                continue;
            }
            let mut bytes = vec![0; state.content.length().bytes_in(index)];
            match state.durability.logged.chunk(chunk) {
                Some((position, _)) => self.store.log.read(position, &mut bytes)?,
                None => drop(state.lifetime.home()?.read(index.offset(state.geometry()), &mut bytes)?),
            }
            self.log_chunks(state, permit, index, &bytes)?;
        }
        Ok(())
    }

    /// Whether a table's first content does not go through the log, which is a mistake.
    fn makes_straight_home(&self, state: &State, offset: u64) -> bool {
        let seeded = self.store.seeded;
        let mistaken = |table: &TableId| {
            seeded.is(if table.level == 0 { Mistake::PageStraightHome } else { Mistake::NodeStraightHome })
        };
        (seeded.is(Mistake::PageStraightHome) || seeded.is(Mistake::NodeStraightHome))
            && state.content.tables.fresh().filter(mistaken).any(|table| table.offset(state.geometry()) == offset)
    }
}

impl State {
    /// Of the present state; hashes what changed of the tables.
    pub(super) fn next_seal(&mut self) -> Result<Seal> {
        let home = self.lifetime.home()?;
        let (entries, top) = self.content.tables.rehash(&|offset, block| home.read_block(offset, block))?;
        Ok(Seal {
            sequence: self.durability.seal().sequence + 1,
            length: self.content.length(),
            entries,
            top,
            epoch: self.keyed.epoch(),
            encryptions: self.keyed.encryptions(),
            md5: self.content.md5_to_seal(self.keyed.is_aes256()),
        })
    }

    /// Space at home for tables that are new there: a checkpoint must not find the disk full.
    fn reserve(&self) -> Result<()> {
        let file = self.lifetime.file()?;
        for table in self.content.tables.fresh() {
            let offset = table.offset(self.geometry());
            match file.allocate(offset, BLOCK) {
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => write_again(file, offset)?,
                done => done?,
            }
        }
        Ok(())
    }
}

/// Gives a block space where the file system reserves none (ext3): what is there is written, zeros where nothing is. A
/// committed state may still refer to it, so it must not change; nor must the file's length.
fn write_again(file: &Arc<dyn File>, offset: u64) -> Result<()> {
    let mut block = [0; BLOCK as usize];
    if file.read_at(&mut block, offset)? == block.len() {
        file.write_at(&block, offset)?;
    }
    Ok(())
}
