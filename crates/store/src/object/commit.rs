//! Commit and fsync: the rules of docs/ARCHITECTURE.md, by their numbers there (W1, C1 to C5, F1 to F5).

use super::{Dropped, Object, State};
use crate::backend::File;
use crate::checkpoint::Permit;
use crate::mistakes::{Mistake, Seeded};
use crate::{Error, Result};
use kmsfs_format::header::{ENTRIES_AT, Header, SEAL, Seal};
use kmsfs_format::layout::{BLOCK, ChunkIndex, PlainLen, TableId};
use kmsfs_format::log_record::{Body, Record};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Dropping this many chunks at once is worth a sync: rewriting them would fill the log.
const MANY: u64 = 64;

impl Object {
    /// What close(2) does: seals the present state, syncs nothing.
    pub fn commit(&self) -> Result<()> {
        if !self.state.read().dirty {
            return Ok(());
        }
        self.store.writable()?;
        self.store.with_permit(|permit| self.commit_with(permit, false))
    }

    pub(crate) fn commit_with(&self, permit: &Permit<'_>, with_sidecar: bool) -> Result<()> {
        self.commit_state(&mut self.state.write(), permit, with_sidecar)
    }

    pub(super) fn commit_state(&self, state: &mut State, permit: &Permit<'_>, with_sidecar: bool) -> Result<()> {
        let with_sidecar = with_sidecar || state.record_unwritten;
        if state.dirty || with_sidecar {
            self.append_overtaken(state, permit)?;
        }
        let first =
            !state.committed || self.store.seeded.is(Mistake::SecondDirectCommit) && state.durable_sequence == 0;
        let mut log = Vec::new();
        if state.dirty || first {
            let home = state.home()?.clone();
            let (entries, top) = state.tables.rehash(&|offset, block| home.read_block(offset, block))?;
            let (sequence, md5) = (state.seal.sequence + 1, state.md5());
            let seal = Seal { sequence, length: state.length, entries, top, md5, ..state.seal };
            let keys = state.keys.clone();
            let key = keys.newest()?;
            let half = Header::write(state.id, state.suite, &seal, state.place, |sealed| key.mac_seal(sealed));
            if first {
                self.commit_home(state, &half)?;
            } else {
                Self::reserve(state)?;
                log.push((SEAL.start as u64, half[SEAL].to_vec()));
                for change in state.tables.changes(ENTRIES_AT as u64) {
                    if state.makes_straight_home(change.offset) {
                        state.homes.write_uncovered();
                        state.home()?.file.write_at(&change.bytes, change.offset)?;
                    } else {
                        log.push((change.offset, change.bytes));
                    }
                }
            }
            if !first || with_sidecar {
                self.append(state, permit, &log, with_sidecar, seal.length.cipher(state.geometry()).0)?;
            }
            state.settle(seal, first);
            state.bound_memory();
        } else if with_sidecar {
            self.append(state, permit, &log, true, state.seal.length.cipher(state.geometry()).0)?;
        }
        state.record_unwritten = false;
        if let Some(mtime) = state.mtime {
            state.home()?.file.set_times(None, Some(mtime))?;
            state.mtime = None;
        }
        Ok(())
    }

    /// C1: header block, tables, length and sidecar straight home.
    fn commit_home(&self, state: &mut State, half: &[u8; ENTRIES_AT]) -> Result<()> {
        let file = state.home()?.file.clone();
        state.homes.write_uncovered();
        self.store.segments.write(state.place.segment, state.place.offset(), &state.record)?;
        for change in state.tables.changes(ENTRIES_AT as u64) {
            if change.offset >= BLOCK {
                file.write_at(&change.bytes, change.offset)?;
            }
        }
        let mut block = [0; BLOCK as usize];
        block[..ENTRIES_AT].copy_from_slice(half);
        block[ENTRIES_AT..].copy_from_slice(state.tables.header_entries());
        file.write_at(&block, 0)?;
        let len = state.length.cipher(state.geometry()).0;
        if state.trim || file.metadata()?.len != len {
            file.set_len(len)?;
            state.trim = false;
        }
        Ok(())
    }

    /// Space at home for tables that are new there: a checkpoint must not find the disk full.
    fn reserve(state: &State) -> Result<()> {
        let file = &state.home()?.file;
        for table in state.tables.fresh() {
            let offset = table.offset(state.geometry());
            match file.allocate(offset, BLOCK) {
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Self::write_again(file, offset)?,
                done => done?,
            }
        }
        Ok(())
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

    /// C2, C3: changed ranges, the sidecar's record where it is asked for, and the mark that commits them.
    fn append(
        &self,
        state: &mut State,
        _permit: &Permit<'_>,
        ranges: &[(u64, Vec<u8>)],
        with_sidecar: bool,
        length: u64,
    ) -> Result<()> {
        let object_id = state.id;
        let hint = state.hint();
        let State { homes, tables, .. } = &mut *state;
        let mark = homes.prepare(|chunk| tables.is_present(ChunkIndex(chunk)));
        let mut bodies: Vec<_> = ranges.iter().map(|(offset, bytes)| Body::Object { offset: *offset, bytes }).collect();
        if with_sidecar {
            let place = state.place;
            bodies.push(Body::Segment { segment: place.segment, offset: place.offset(), bytes: &state.record });
        }
        bodies.push(Body::Mark(mark.mark(length)));
        let mut hint = &hint[..];
        let records: Vec<_> =
            bodies.into_iter().map(|body| Record { object_id, hint: std::mem::take(&mut hint), body }).collect();
        let positions = self.store.log.append(&records)?;
        state.homes.told(&mark);
        state.logged.hinted = true;
        state.logged.sidecar |= with_sidecar;
        for ((offset, bytes), position) in ranges.iter().zip(positions) {
            state.logged.ranges.push((*offset, position, bytes.len()));
        }
        Ok(())
    }

    /// What was acknowledged survives anything but the loss of the disk.
    pub fn fsync(&self) -> Result<()> {
        self.store.writable()?;
        self.store.with_permit(|permit| self.sync_content(permit))?;
        if self.store.seeded.is(Mistake::NameNotSynced) { Ok(()) } else { self.store.sync_names_of(self.ino) }
    }

    /// F1 to F3: content, but not the name.
    pub(crate) fn sync_content(&self, permit: &Permit<'_>) -> Result<()> {
        {
            let mut state = self.state.write();
            if !state.committed {
                self.commit_state(&mut state, permit, false)?;
            }
            state.homes.cover();
        }
        self.sync_home()?;
        let sequence = {
            let mut state = self.state.write();
            let with_sidecar = !state.sidecar_durable && !self.store.seeded.is(Mistake::SidecarNotLogged);
            self.commit_state(&mut state, permit, with_sidecar)?;
            state.seal.sequence
        };
        if !self.store.seeded.is(Mistake::WrittenAfterSync) {
            // What others wrote straight home meanwhile is part of the commit.
            self.sync_home()?;
        }
        {
            let mut state = self.state.write();
            if state.homes.are_untold() && !self.store.seeded.is(Mistake::SyncedNotTold) {
                let length = state.seal.length.cipher(state.geometry()).0;
                self.append_told(&mut state, permit, length)?;
            }
        }
        self.store.log.sync()?;
        self.state.write().known_durable(sequence);
        Ok(())
    }

    /// F2: makes durable what went straight home.
    pub(crate) fn sync_home(&self) -> Result<()> {
        let (file, writes) = {
            let state = self.state.read();
            if state.homes.are_synced() || self.store.seeded.is(Mistake::ObjectNotSynced) {
                return Ok(());
            }
            (state.home()?.file.clone(), state.homes.writes())
        };
        if self.store.seeded.is(Mistake::CleanBeforeSynced) {
            self.state.write().homes.synced(writes);
        }
        file.sync()?;
        self.state.write().homes.synced(writes);
        Ok(())
    }

    /// So that recovery never has to look at more than so much of an object: what was written straight home meanwhile is synced,
    /// by whoever commits everything from time to time.
    pub(crate) fn bound_unsynced(&self) {
        const CHUNKS: usize = 1 << 14;
        if self.state.read().homes.unsynced() > CHUNKS
            && let Err(error) = self.sync_home()
        {
            ::log::warn!("{}: cannot be synced: {error}", self.show());
        }
    }

    /// C7: a mark that commits nothing, and says what is synced.
    fn append_told(&self, state: &mut State, permit: &Permit<'_>, length: u64) -> Result<()> {
        if state.dirty {
            // A mark commits what the log has of the object, so it is a whole commit (C3).
            return self.commit_state(state, permit, false);
        }
        self.append(state, permit, &[], false, length)
    }

    /// Replaces the wrapped data key: a commit with the new sidecar record (C3). It touches no object file unless the
    /// object was never committed.
    pub(crate) fn replace_sidecar(
        &self,
        change: impl FnOnce(&mut State) -> Result<()>,
        permit: &Permit<'_>,
    ) -> Result<()> {
        let mut state = self.state.write();
        change(&mut state)?;
        if self.store.seeded.is(Mistake::RewrapInPlace) && state.committed {
            return self.store.segments.write(state.place.segment, state.place.offset(), &state.record);
        }
        if self.store.seeded.is(Mistake::RewrapMarksAlone) && state.committed {
            let length = state.seal.length.cipher(state.geometry()).0;
            return self.append(&mut state, permit, &[], true, length);
        }
        self.commit_state(&mut state, permit, true).inspect_err(|_| {
            // The header may name another place already: whatever is committed next brings the record along.
            state.record_unwritten = true;
            state.dirty = true;
        })
    }

    pub(crate) fn is_logged(&self) -> bool {
        !self.state.read().logged.is_empty()
    }

    pub(crate) fn is_unlinked(&self) -> bool {
        self.state.read().unlinked
    }

    pub(crate) fn has_handles(&self) -> bool {
        self.handles.load(Ordering::SeqCst) > 0
    }
}

impl State {
    /// W1: the latest committed state does not refer to the chunk, every commit that dropped it is known durable, and
    /// the log holds no record of it, nor of what was in its place. The chunk's page has been brought.
    pub(super) fn is_quiet(&self, chunk: ChunkIndex) -> bool {
        let referred = self.committed
            && chunk.0 < self.seal.length.chunks()
            && (chunk.0 >= self.cut || self.tables.committed_refers(chunk));
        let dropping = self.dropped.iter().any(|dropped| dropped.chunks.contains(&chunk.0))
            && !self.seeded.is(Mistake::QuietBeforeDurable);
        let logged = (self.logged.chunks.contains_key(&chunk.0) || self.logged.overtaken.contains(&chunk.0))
            && !self.seeded.is(Mistake::LiveRecordIgnored);
        !(self.relocated || referred || dropping || logged) || self.seeded.is(Mistake::OverwriteInPlace)
    }

    /// Whether a table's first content does not go through the log, which is a mistake.
    fn makes_straight_home(&self, offset: u64) -> bool {
        let mistaken = |table: &TableId| {
            self.seeded.is(if table.level == 0 { Mistake::PageStraightHome } else { Mistake::NodeStraightHome })
        };
        (self.seeded.is(Mistake::PageStraightHome) || self.seeded.is(Mistake::NodeStraightHome))
            && self.tables.fresh().filter(mistaken).any(|table| table.offset(self.geometry()) == offset)
    }

    pub(super) fn drops_many(&self) -> bool {
        let cut = if self.committed { self.seal.length.chunks().saturating_sub(self.cut) } else { 0 };
        cut >= MANY || self.dropped.iter().any(|dropped| dropped.chunks.end - dropped.chunks.start >= MANY)
    }

    /// The present state has become the committed one.
    pub(super) fn settle(&mut self, seal: Seal, first: bool) {
        if !first {
            let old = self.seal.length.chunks();
            let mut dropped = self.tables.dropped();
            if self.cut < old {
                dropped.push(self.cut..old);
            }
            let sequence = seal.sequence;
            if self.seeded.is(Mistake::TwoStatesEnough) && sequence > self.durable_sequence + 1 {
                dropped.clear();
            }
            self.dropped.extend(dropped.into_iter().map(|chunks| Dropped { chunks, sequence }));
            self.bound_dropped();
        }
        self.tables.settle(!first);
        self.seal = seal;
        self.cut = seal.length.chunks();
        self.committed = true;
        self.dirty = false;
    }

    /// Many small ranges become one that covers them: that chunks count as dropped which were not costs log space only.
    fn bound_dropped(&mut self) {
        const RANGES: usize = 64;
        if self.dropped.len() > RANGES {
            let start = self.dropped.iter().map(|dropped| dropped.chunks.start).min().unwrap_or(0);
            let end = self.dropped.iter().map(|dropped| dropped.chunks.end).max().unwrap_or(0);
            let sequence = self.seal.sequence + 1;
            self.dropped = vec![Dropped { chunks: start..end, sequence }];
        }
    }

    /// C5.
    pub(super) fn known_durable(&mut self, sequence: u64) {
        self.durable_sequence = self.durable_sequence.max(sequence);
        let durable = self.durable_sequence;
        self.dropped.retain(|dropped| dropped.sequence > durable);
        self.sidecar_durable = true;
    }

    /// The object's path, with its first record in an epoch.
    pub(super) fn hint(&self) -> Vec<u8> {
        use kmsfs_format::log_record::MAX_HINT;
        if self.logged.hinted || self.path.len() > MAX_HINT { Vec::new() } else { self.path.clone() }
    }
}

/// What a checkpoint noted of an object at its start (K1).
pub struct Noted {
    sequence: u64,
    home_writes: u64,
    pub has_log: bool,
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

    pub(crate) fn file_to_sync(&self) -> Option<&Arc<dyn File>> {
        self.file.as_ref().filter(|_| self.has_log || self.unsynced)
    }
}

impl Object {
    /// K1: everything is committed; from here on nothing is appended until the checkpoint's end.
    pub(crate) fn note(&self, permit: &Permit<'_>) -> Result<Noted> {
        let mut state = self.state.write();
        if state.dirty {
            self.commit_state(&mut state, permit, false)?;
        }
        state.homes.cover();
        Ok(Noted {
            sequence: state.seal.sequence,
            home_writes: state.homes.writes(),
            has_log: !state.logged.is_empty(),
            unsynced: !state.homes.are_synced(),
            file: state.home.as_ref().map(|home| home.file.clone()),
        })
    }

    /// K3: what the log holds of the object goes home, in order, without a change to its modification time.
    pub(crate) fn write_home(&self) -> Result<()> {
        let (home, geometry, chunks, ranges, sidecar) = {
            let state = self.state.read();
            let mut chunks: Vec<_> = state.logged.chunks.iter().map(|(chunk, at)| (*chunk, *at)).collect();
            chunks.sort_unstable_by_key(|(chunk, _)| *chunk);
            let sidecar = state.logged.sidecar.then(|| (state.place, state.record.clone()));
            (state.home.clone(), state.geometry(), chunks, state.logged.ranges.clone(), sidecar)
        };
        if let Some((place, record)) = sidecar {
            self.store.segments.write(place.segment, place.offset(), &record)?;
        }
        if chunks.is_empty() && ranges.is_empty() {
            return Ok(());
        }
        // Only an object of which the log holds nothing but the record gives up its descriptor.
        let home = home.ok_or(Error::Errno(libc::EBADF))?;
        let before = home.file.metadata()?;
        let mut buffer = Vec::new();
        for (chunk, (position, len)) in chunks {
            buffer.resize(len, 0);
            self.store.log.read(position, &mut buffer)?;
            let offset = ChunkIndex(chunk).offset(geometry);
            self.store.reserve.with_room(|| home.file.write_at(&buffer, offset))?;
        }
        for (offset, position, len) in ranges {
            buffer.resize(len, 0);
            self.store.log.read(position, &mut buffer)?;
            self.store.reserve.with_room(|| home.file.write_at(&buffer, offset))?;
        }
        let mut state = self.state.write();
        // The greater of the committed and the present length, else direct writes are cut off.
        let present = if self.store.seeded.is(Mistake::HomeCutsCurrent) { PlainLen(0) } else { state.length };
        let len = state.seal.length.max(present).cipher(geometry).0;
        if state.trim || home.file.metadata()?.len != len {
            home.file.set_len(len)?;
            state.trim = false;
        }
        home.file.set_times(None, Some(state.mtime.unwrap_or(before.mtime)))?;
        if home.file.metadata()?.blocks != before.blocks {
            self.store.resized.lock().insert(self.ino);
        }
        Ok(())
    }

    /// After K6: the log holds nothing of the object any more, and what was noted is known durable.
    pub(crate) fn checkpointed(&self, noted: &Noted) {
        let mut state = self.state.write();
        state.logged = super::Logged::default();
        state.relocated = false;
        state.tables.written_home();
        if noted.file.is_some() || !noted.unsynced {
            state.known_durable(noted.sequence);
            state.homes.synced(noted.home_writes);
        }
        state.homes.checkpointed();
    }
}
