//! A write's path through an object, from the request to the object file or the log.
//!
//! `write` encrypts a large request before the object is locked, `change` decides whether a permit to append is needed,
//! `edit` what has to be encrypted, and `put_run` where the ciphertext goes (W1, W2). Lengths and tables change in
//! memory alone (W4), until a commit (`commit.rs`).

use super::content::chunks_of;
use super::content::source::{BUFFER, Covered, Source, unchanged, with_sealed};
use super::{Object, State};
use crate::local::gate::Permit;
use crate::mistakes::Mistake;
use crate::{Error, Result};
use kmsfs_crypto::{ChunkCipher, ChunkTag, wiped};
use kmsfs_format::entry::Entry;
use kmsfs_format::layout::{CHUNK, ChunkIndex, PlainLen};
use kmsfs_format::log_record::{Body, Record};
use std::ops::Range;

/// Bytes that go through the smallest log together with what commits them.
const PIECE: usize = 64 * CHUNK as usize;

/// Chunks that are encrypted and written at once.
const RUN: u64 = 256;

/// Why a change was not begun.
pub(super) enum Blocked {
    /// It has to go through the log, so a permit to append is needed first.
    Log,
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Blocked {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Object {
    /// As pwrite(2), whole or with an error. Where the disk is so full that the log cannot grow, what is there can
    /// still be overwritten: in pieces that the log has room for, with a checkpoint wherever it is full.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let written = self.write_at_once(offset, data);
        match written {
            Ok(()) | Err(Error::WouldWait(_)) => return written,
            Err(_) if data.len() <= PIECE || !self.store.log.is_cramped() => return written,
            Err(_) => {}
        }
        // Up to the end of a piece, so that no chunk is written twice.
        let first = (PIECE - (offset % PIECE as u64) as usize).min(data.len());
        let (mut at, mut rest) = (offset, data);
        let mut len = first;
        while !rest.is_empty() {
            self.write_at_once(at, &rest[..len])?;
            (at, rest) = (at + len as u64, &rest[len..]);
            len = PIECE.min(rest.len());
        }
        Ok(())
    }

    /// In one change: whole, or as far as it came before an error.
    fn write_at_once(&self, offset: u64, data: &[u8]) -> Result<()> {
        let end = offset.checked_add(data.len() as u64).ok_or(Error::Errno(libc::EFBIG))?;
        if data.is_empty() {
            return Ok(());
        }
        let cipher = || self.state.read().keyed.present_cipher().ok();
        with_sealed(offset, data, cipher, |bytes| {
            self.change(|state, permit| {
                self.store.check_length(end, state.geometry())?;
                let longer = PlainLen(end.max(state.length()));
                let md5 = state.content.running_md5();
                self.edit(state, permit, longer, &chunks_of(offset, end), bytes)?;
                state.content.extend_md5(md5, offset, data);
                Ok(())
            })
        })
    }

    /// Does a change: first without a permit to append, which is all that quiet chunks need, else with one.
    pub(super) fn change<T>(
        &self,
        change: impl Fn(&mut State, Option<&Permit<'_>>) -> std::result::Result<T, Blocked>,
    ) -> Result<T> {
        self.store.admission.writable()?;
        self.asked.again();
        let mut state = self.state.write();
        // Even what needs none could not be committed.
        state.keyed.are_there()?;
        match change(&mut state, None) {
            Ok(done) => return Ok(done),
            Err(Blocked::Failed(error)) => return Err(error),
            Err(Blocked::Log) => {}
        }
        let many = state.durability.drops_many();
        drop(state);
        self.store.checkpoints.with_permit(|permit| {
            if many {
                // Large files that are written anew: the truncation is made durable, which makes the blocks quiet.
                self.sync_content(permit)?;
            }
            let mut state = self.state.write();
            state.keyed.are_there()?;
            match change(&mut state, Some(permit)) {
                Ok(done) => Ok(done),
                Err(Blocked::Failed(error)) => Err(error),
                // Never with a permit.
                Err(Blocked::Log) => Err(Error::Errno(libc::EIO)),
            }
        })
    }

    /// Encrypts again the chunks of a range, and a partial last chunk that the new length reaches beyond (W4); `fill`
    /// writes plaintext into a chunk and returns what it covered. The object gets the new length, if it is greater.
    pub(super) fn edit(
        &self,
        state: &mut State,
        permit: Option<&Permit<'_>>,
        new: PlainLen,
        chunks: &Range<u64>,
        source: &dyn Source,
    ) -> std::result::Result<(), Blocked> {
        let old = state.content.length();
        let tail = ChunkIndex::at(old.0);
        let mut tail = if new > old && !old.0.is_multiple_of(CHUNK) { tail.0..tail.0 + 1 } else { 0..0 };
        if chunks.contains(&tail.start) {
            tail = 0..0;
        }
        state.bring(tail.clone())?;
        if !tail.is_empty() && !state.content.tables.is_present(ChunkIndex(tail.start))
            || self.store.seeded.is(Mistake::PartialChunkKept)
        {
            tail = 0..0;
        }
        state.resize(new)?;
        let mut all = tail.clone().chain(chunks.clone());
        let ready = match state.bring(chunks.clone()) {
            Err(error) => Err(Blocked::Failed(error)),
            Ok(()) if permit.is_none() && all.any(|chunk| !state.is_quiet(ChunkIndex(chunk))) => Err(Blocked::Log),
            Ok(()) => Ok(()),
        };
        if let Err(blocked) = ready {
            state.content.regret(state.lifetime.home()?, new, old)?;
            return Err(blocked);
        }
        let mut done = old;
        let mut outcome = self.encrypt(state, permit, new, &tail, &unchanged, &mut done);
        if outcome.is_ok() {
            outcome = self.encrypt(state, permit, new, chunks, source, &mut done);
        }
        if outcome.is_ok() {
            done = new;
        }
        if done < new {
            // What was written before the error stays, as after a short write(2).
            state.content.regret(state.lifetime.home()?, new, done)?;
        }
        state.content.set_length(done);
        state.changed(self.store.backend.now());
        Ok(outcome?)
    }

    /// Encrypts chunks, in runs that go to the same place; `done` follows as far as the content has come, for a short
    /// write.
    pub(super) fn encrypt(
        &self,
        state: &mut State,
        permit: Option<&Permit<'_>>,
        new: PlainLen,
        chunks: &Range<u64>,
        source: &dyn Source,
        done: &mut PlainLen,
    ) -> Result<()> {
        let mut first = chunks.start;
        while first < chunks.end {
            let quiet = state.is_quiet(ChunkIndex(first));
            let most = ChunkIndex(first).run(state.geometry()).min(RUN).min(chunks.end - first);
            let count = (1..most).find(|n| state.is_quiet(ChunkIndex(first + n)) != quiet).unwrap_or(most);
            let run = first..first + count;
            self.encrypt_run(state, permit, new, &run, quiet, source)?;
            first += count;
            *done = (*done).max(PlainLen(new.0.min(first * CHUNK)));
        }
        Ok(())
    }

    /// Chunks that lie next to each other and go to the same place.
    fn encrypt_run(
        &self,
        state: &mut State,
        permit: Option<&Permit<'_>>,
        new: PlainLen,
        run: &Range<u64>,
        quiet: bool,
        source: &dyn Source,
    ) -> Result<()> {
        state.keyed.count_encryptions(run.end - run.start, self.store.encryptions)?;
        let cipher = state.keyed.present_cipher()?;
        if let Some((bytes, tags)) = source.sealed(run, &cipher) {
            return self.put_run(state, permit, run, quiet, bytes, tags);
        }
        BUFFER.with_borrow_mut(|buffer| {
            let tags = wiped(|| self.seal_run(state, &cipher, new, run, source, buffer))?;
            self.put_run(state, permit, run, quiet, buffer, &tags)
        })
    }

    /// Their ciphertext, with what of the old content the source leaves.
    fn seal_run(
        &self,
        state: &State,
        cipher: &ChunkCipher,
        new: PlainLen,
        run: &Range<u64>,
        source: &dyn Source,
        buffer: &mut Vec<u8>,
    ) -> Result<Vec<ChunkTag>> {
        let sealing = cipher.sealing();
        let mut tags = Vec::with_capacity((run.end - run.start) as usize);
        buffer.clear();
        for index in run.clone().map(ChunkIndex) {
            let start = buffer.len();
            buffer.resize(start + new.bytes_in(index), 0);
            let chunk = &mut buffer[start..];
            let Covered(covered) = source.fill(index, chunk);
            let old = state.content.length().bytes_in(index);
            if (covered.start > 0 || covered.end < old) && old > 0 && state.content.tables.is_present(index) {
                let mut before = [0; CHUNK as usize];
                self.read_run(state, index, &mut before[..old])?;
                let kept = old.min(chunk.len());
                let head = covered.start.min(kept);
                chunk[..head].copy_from_slice(&before[..head]);
                if covered.end < kept {
                    chunk[covered.end..kept].copy_from_slice(&before[covered.end..kept]);
                }
            }
            tags.push(sealing.seal(index.0, chunk));
        }
        Ok(tags)
    }

    /// Writes ciphertext straight home where it is quiet, else to the log (W2), and its tags into the tables.
    fn put_run(
        &self,
        state: &mut State,
        permit: Option<&Permit<'_>>,
        run: &Range<u64>,
        quiet: bool,
        bytes: &[u8],
        tags: &[ChunkTag],
    ) -> Result<()> {
        let first = ChunkIndex(run.start);
        // Through the log it goes home later; what was read ahead is wrong then too.
        self.ahead.clear();
        if quiet {
            let offset = first.offset(state.geometry());
            state.durability.homes.write(first.0, offset, bytes);
            state.lifetime.file()?.write_at(bytes, offset)?;
        } else {
            let permit = permit.ok_or(Error::Errno(libc::EIO))?;
            self.log_chunks(state, permit, first, bytes)?;
        }
        let epoch = state.keyed.epoch();
        state.content.set_run(run, tags.iter().map(|tag| Entry { tag: *tag, epoch }));
        if !quiet || state.shown.mtime().is_some() {
            state.shown.set_mtime(Some(self.store.backend.now()));
        }
        Ok(())
    }

    /// Appends the ciphertext of chunks that lie next to each other.
    pub(super) fn log_chunks(
        &self,
        state: &mut State,
        _permit: &Permit<'_>,
        first: ChunkIndex,
        bytes: &[u8],
    ) -> Result<()> {
        let offset = first.offset(state.geometry());
        let body = Body::Object { offset, bytes };
        let record = Record { object_id: state.keyed.id(), hint: state.hint(), body };
        let position = self.store.log.append_content(&[record])?[0];
        state.durability.logged.add_chunks(first.0, bytes, position);
        Ok(())
    }
}
