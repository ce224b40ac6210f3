//! Other content under another number of layers: every chunk and table of the object gets another place.
//!
//! What is committed is in the way, so all of it goes through the log: one write, with the mark, so that either
//! everything has moved or nothing. Until a checkpoint has brought it home, later changes go through the log too
//! (`Durability::relocated`): replaying the log in order would overwrite what was written straight home.

use super::{Object, State};
use crate::Result;
use crate::local::gate::Permit;
use kmsfs_crypto::{DataKey, wiped};
use kmsfs_format::entry::Entry;
use kmsfs_format::header::{ENTRIES_AT, SUITE_AND_SEAL};
use kmsfs_format::layout::{CHUNK, ChunkIndex, Geometry, PlainLen};
use kmsfs_format::log_record::{Body, Record};
use kmsfs_format::sidecar::Place;
use kmsfs_sse::WrappedDataKey;

/// Ciphertext of chunks that lie next to each other at home, from that chunk on.
type Run = (ChunkIndex, Vec<u8>);

impl Object {
    /// On an error the caller puts the state back; the log has nothing of it.
    pub(super) fn relocate(
        &self,
        state: &mut State,
        permit: &Permit<'_>,
        data: &[u8],
        key: (DataKey, WrappedDataKey),
    ) -> Result<Option<Place>> {
        let suite = key.0.suite();
        self.store.allow(suite)?;
        state.content.relocate(Geometry::of(suite));
        state.durability.cut_to(0);
        let moved = state.change_keys(|keyed| keyed.rekey(&self.store, self.ino, key))?;
        state.changed(self.store.backend.now());
        let runs = self.encrypt_anew(state, data)?;
        self.ahead.clear();
        if state.durability.is_committed() {
            self.commit_moved(state, permit, &runs)?;
        } else {
            // Nothing refers to anything in the file yet.
            state.durability.homes.write_uncovered();
            for (first, bytes) in &runs {
                state.lifetime.file()?.write_at(bytes, first.offset(state.geometry()))?;
            }
            self.commit_state(state, permit, false)?;
        }
        Ok(moved)
    }

    /// The content's chunks, with their entries in the tables. Those of zeros are holes, so that a sparse file stays
    /// one.
    fn encrypt_anew(&self, state: &mut State, data: &[u8]) -> Result<Vec<Run>> {
        let length = PlainLen(data.len() as u64);
        self.store.check_length(length.0, state.geometry())?;
        state.resize(length)?;
        state.bring(0..length.chunks())?;
        state.content.set_length(length);
        state.keyed.count_encryptions(length.chunks(), self.store.encryptions)?;
        let epoch = state.keyed.epoch();
        let cipher = state.keyed.present_cipher()?;
        let geometry = state.geometry();
        let tables = &mut state.content.tables;
        wiped(|| {
            let sealing = cipher.sealing();
            let mut runs: Vec<Run> = Vec::new();
            for (index, chunk) in (0..).map(ChunkIndex).zip(data.chunks(CHUNK as usize)) {
                if chunk.iter().all(|byte| *byte == 0) {
                    continue;
                }
                let mut bytes = chunk.to_vec();
                let tag = sealing.seal(index.0, &mut bytes);
                tables.set(index, Some(&Entry { tag, epoch }));
                match runs.last_mut() {
                    Some((first, run)) if follows(*first, run, index, geometry) => run.extend_from_slice(&bytes),
                    _ => runs.push((index, bytes)),
                }
            }
            Ok(runs)
        })
    }

    /// As C2 and C3, with the chunks and the cipher suite among the ranges.
    fn commit_moved(&self, state: &mut State, _permit: &Permit<'_>, runs: &[Run]) -> Result<()> {
        let geometry = state.geometry();
        let file = state.lifetime.file()?.clone();
        let seal = state.next_seal()?;
        let half = state.keyed.seal(&seal)?;
        let length = seal.length.cipher(geometry).0;
        match file.allocate(0, length) {
            // Where it cannot be had, the checkpoint has to try.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            done => done?,
        }
        let mut ranges = vec![(SUITE_AND_SEAL.start as u64, half[SUITE_AND_SEAL].to_vec())];
        ranges.extend(
            state.content.tables.changes(ENTRIES_AT as u64).into_iter().map(|change| (change.offset, change.bytes)),
        );
        let positions = self.append_moved(state, runs, &ranges, length)?;

        let (of_runs, of_ranges) = positions.split_at(runs.len());
        let logged = &mut state.durability.logged;
        logged.relocate();
        for ((first, bytes), position) in runs.iter().zip(of_runs) {
            logged.add_chunks(first.0, bytes, *position);
        }
        logged
            .add_commit(ranges.iter().zip(of_ranges).map(|((offset, bytes), at)| (*offset, (*at, bytes.len()))), true);
        state.durability.relocated();
        state.durability.record_written();
        state.settle(seal, false);
        file.set_times(None, Some(self.store.backend.now()))?;
        state.shown.set_mtime(None);
        Ok(())
    }

    /// Returns the positions of runs and ranges.
    fn append_moved(
        &self,
        state: &mut State,
        runs: &[Run],
        ranges: &[(u64, Vec<u8>)],
        length: u64,
    ) -> Result<Vec<u64>> {
        let geometry = state.geometry();
        let object = |offset, bytes| Body::Object { offset, bytes };
        let place = state.keyed.place();
        let mark = state.durability.homes.prepare(|_| false);
        let bodies = runs
            .iter()
            .map(|(first, bytes)| object(first.offset(geometry), &bytes[..]))
            .chain(ranges.iter().map(|(offset, bytes)| object(*offset, &bytes[..])))
            .chain([
                Body::Segment { segment: place.segment, offset: place.offset(), bytes: state.keyed.record() },
                Body::Mark(mark.mark(length)),
            ]);
        let (object_id, mut hint) = (state.keyed.id(), state.hint());
        let records: Vec<_> = bodies.map(|body| Record { object_id, hint: std::mem::take(&mut hint), body }).collect();
        let positions = self.store.log.append_content(&records)?;
        state.durability.homes.told(&mark);
        Ok(positions)
    }
}

/// Whether the chunk lies right behind the run at home.
fn follows(first: ChunkIndex, run: &[u8], chunk: ChunkIndex, geometry: Geometry) -> bool {
    let next = first.0 + run.len() as u64 / CHUNK;
    chunk.0 == next && next < first.0 + first.run(geometry)
}
