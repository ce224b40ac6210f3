//! Reading and changing an object's content.

use super::content::source::{BUFFER, Covered, Source, unchanged};
use super::{Home, Keys, Object, State};
use crate::checkpoint::Permit;
use crate::mistakes::Mistake;
use crate::{Error, Result};
use kmsfs_crypto::{ChunkCipher, ChunkTag, wiped};
use kmsfs_format::entry::Entry;
use kmsfs_format::layout::{BLOCK, CHUNK, ChunkIndex, PlainLen};
use kmsfs_format::log_record::{Body, Record};
use parking_lot::{RwLockReadGuard, RwLockWriteGuard};
use std::ops::Range;
use std::sync::Arc;

/// Chunks that are encrypted and written at once.
const RUN: u64 = 256;

/// Encryptions under one key epoch: GCM's bound of 2^32 for random nonces, less what a crash may leave uncounted.
pub const ENCRYPTIONS: u64 = (1 << 32) - (1 << 24);

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
    /// Bytes read; fewer than asked for only at the end.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        let state = self.state.read();
        let end = state.length.0.min(offset.saturating_add(bytes.len() as u64));
        if offset >= end {
            return Ok(0);
        }
        let bytes = &mut bytes[..(end - offset) as usize];
        let chunks = chunks_of(offset, end);
        let state = if chunks.clone().all(|chunk| state.tables.has(ChunkIndex(chunk))) {
            state
        } else {
            drop(state);
            self.bring(&chunks)?
        };
        // The length may have shrunk while the lock was free.
        let end = state.length.0.min(end);
        let count = end.saturating_sub(offset) as usize;
        self.read_chunks(&state, offset, &mut bytes[..count])?;
        Ok(count)
    }

    fn bring(&self, chunks: &Range<u64>) -> Result<RwLockReadGuard<'_, State>> {
        let mut state = self.state.write();
        state.bring(chunks.clone())?;
        state.bound_memory();
        state.bring(chunks.clone())?;
        Ok(RwLockWriteGuard::downgrade(state))
    }

    pub(super) fn read_chunks(&self, state: &State, offset: u64, bytes: &mut [u8]) -> Result<()> {
        // Once for all of them.
        wiped(|| self.decrypt(state, offset, bytes))
    }

    fn decrypt(&self, state: &State, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let end = offset + bytes.len() as u64;
        let mut at = offset;
        while at < end {
            let chunk = ChunkIndex::at(at);
            let in_chunk = (at % CHUNK) as usize;
            let have = state.length.bytes_in(chunk);
            let out = &mut bytes[(at - offset) as usize..];
            if in_chunk > 0 || out.len() < have {
                let mut whole = [0; CHUNK as usize];
                self.read_run(state, chunk, &mut whole[..have])?;
                let count = out.len().min(have - in_chunk);
                out[..count].copy_from_slice(&whole[in_chunk..in_chunk + count]);
                at += count as u64;
            } else {
                let count = Self::whole_run(state, chunk, out.len());
                self.read_run(state, chunk, &mut out[..count])?;
                at += count as u64;
            }
        }
        Ok(())
    }

    /// Bytes, at most `limit`, of whole chunks from this one on that lie next to each other at home.
    fn whole_run(state: &State, first: ChunkIndex, limit: usize) -> usize {
        let at_home = |chunk: ChunkIndex| state.tables.is_present(chunk) && !state.logged.chunks.contains_key(&chunk.0);
        let mut count = state.length.bytes_in(first);
        if !at_home(first) {
            return count;
        }
        for n in 1..first.run(state.geometry()) {
            let chunk = ChunkIndex(first.0 + n);
            let have = state.length.bytes_in(chunk);
            if have == 0 || count + have > limit || !at_home(chunk) {
                break;
            }
            count += have;
        }
        count
    }

    /// Whole chunks that lie next to each other, all at home, or one chunk from wherever it is.
    fn read_run(&self, state: &State, first: ChunkIndex, bytes: &mut [u8]) -> Result<()> {
        if !state.tables.is_present(first) {
            bytes.fill(0);
            return Ok(());
        }
        let read = match state.logged.chunks.get(&first.0) {
            Some((position, len)) => {
                let len = bytes.len().min(*len);
                self.store.log.read(*position, &mut bytes[..len])?;
                len
            }
            None => self.read_home(state.home()?, first.offset(state.geometry()), bytes)?,
        };
        if read < bytes.len() {
            return Err(Error::corrupt(state.show(), format_args!("chunk {} is cut off", first.0)));
        }
        for (n, chunk) in bytes.chunks_mut(CHUNK as usize).enumerate() {
            let index = ChunkIndex(first.0 + n as u64);
            let entry = state.tables.entry(index)?;
            let Some(entry) = entry else {
                return Err(Error::corrupt(state.show(), format_args!("chunk {} has no tag entry", index.0)));
            };
            state.keys.cipher(entry.epoch)?.open(index.0, &entry.tag, chunk).map_err(|_| {
                Error::corrupt(state.show(), format_args!("chunk {} is not what was written there", index.0))
            })?;
        }
        Ok(())
    }

    /// From what was read along with the header, or from the file.
    fn read_home(&self, home: &Home, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        let ahead = self.ahead.lock();
        let start = (offset - BLOCK) as usize;
        if let Some(known) = ahead.get(start..start + bytes.len()) {
            bytes.copy_from_slice(known);
            return Ok(bytes.len());
        }
        drop(ahead);
        home.read(offset, bytes)
    }

    pub(super) fn write_at_once(&self, offset: u64, data: &[u8]) -> Result<()> {
        let end = offset.checked_add(data.len() as u64).ok_or(Error::Errno(libc::EFBIG))?;
        if data.is_empty() {
            return Ok(());
        }
        self.with_sealed(offset, data, |bytes| {
            self.change(|state, permit| {
                self.store.check_length(end, state.geometry())?;
                let longer = PlainLen(end.max(state.length.0));
                let md5 = state.running_md5.clone();
                self.edit(state, permit, longer, &chunks_of(offset, end), bytes)?;
                state.running_md5 = md5.and_then(|md5| md5.extended(offset, data));
                Ok(())
            })
        })
    }

    pub fn truncate(&self, len: u64) -> Result<()> {
        self.change(|state, permit| {
            self.store.check_length(len, state.geometry())?;
            let (old, new) = (state.length, PlainLen(len));
            // Also where the length stays: POSIX counts that as a modification.
            state.mtime = Some(self.store.now());
            state.trim |= new <= old;
            if new >= old {
                return self.edit(state, permit, new, &(0..0), &unchanged);
            }
            // The chunk that is cut in two is encrypted again, as what remains of it.
            let last = ChunkIndex::at(len);
            let partial = if len.is_multiple_of(CHUNK) { 0..0 } else { last.0..last.0 + 1 };
            state.bring(partial.clone())?;
            let rewrite = !partial.is_empty() && state.tables.is_present(last);
            if rewrite && permit.is_none() && !state.is_quiet(last) {
                return Err(Blocked::Log);
            }
            // All that can fail comes before the length changes.
            state.prepare_cut(new)?;
            if rewrite {
                self.encrypt(state, permit, new, &partial, &unchanged, &mut PlainLen(0))?;
            }
            state.resize(new)?;
            state.length = new;
            state.vacated.add(new.chunks()..old.chunks());
            state.cut = state.cut.min(new.chunks());
            state.changed(self.store.now());
            Ok(())
        })
    }

    /// Does a change: first without a permit to append, which is all that quiet chunks need, else with one.
    pub(super) fn change<T>(
        &self,
        change: impl Fn(&mut State, Option<&Permit<'_>>) -> std::result::Result<T, Blocked>,
    ) -> Result<T> {
        self.store.writable()?;
        self.asked.again();
        let mut state = self.state.write();
        // Even what needs none could not be committed.
        state.keys.are_there()?;
        match change(&mut state, None) {
            Ok(done) => return Ok(done),
            Err(Blocked::Failed(error)) => return Err(error),
            Err(Blocked::Log) => {}
        }
        let many = state.drops_many();
        drop(state);
        self.store.with_permit(|permit| {
            if many {
                // Large files that are written anew: the truncation is made durable, which makes the blocks quiet.
                self.sync_content(permit)?;
            }
            let mut state = self.state.write();
            state.keys.are_there()?;
            match change(&mut state, Some(permit)) {
                Ok(done) => Ok(done),
                Err(Blocked::Failed(error)) => Err(error),
                // Never with a permit.
                Err(Blocked::Log) => Err(Error::Errno(libc::EIO)),
            }
        })
    }

    /// Encrypts again the chunks of a range, and a partial last chunk that the new length reaches beyond (W4); `fill`
    /// writes plaintext into a chunk and answers what it covered. The object gets the new length, if it is greater.
    pub(super) fn edit(
        &self,
        state: &mut State,
        permit: Option<&Permit<'_>>,
        new: PlainLen,
        chunks: &Range<u64>,
        source: &dyn Source,
    ) -> std::result::Result<(), Blocked> {
        let old = state.length;
        let tail = ChunkIndex::at(old.0);
        let mut tail = if new > old && !old.0.is_multiple_of(CHUNK) { tail.0..tail.0 + 1 } else { 0..0 };
        if chunks.contains(&tail.start) {
            tail = 0..0;
        }
        state.bring(tail.clone())?;
        if !tail.is_empty() && !state.tables.is_present(ChunkIndex(tail.start))
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
            state.regret(new, old)?;
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
            state.regret(new, done)?;
        }
        state.length = done;
        state.changed(self.store.now());
        Ok(outcome?)
    }

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
        state.count_encryptions(run.end - run.start, self.store.encryptions)?;
        let cipher = state.keys.cipher(state.seal.epoch)?;
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
            let old = state.length.bytes_in(index);
            if (covered.start > 0 || covered.end < old) && old > 0 && state.tables.is_present(index) {
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
        self.ahead.lock().clear();
        if quiet {
            let offset = first.offset(state.geometry());
            state.homes.write(first.0, offset, bytes);
            state.home()?.file.write_at(bytes, offset)?;
        } else {
            let permit = permit.ok_or(Error::Errno(libc::EIO))?;
            self.log_chunks(state, permit, first, bytes)?;
        }
        let epoch = state.seal.epoch;
        for (index, tag) in run.clone().map(ChunkIndex).zip(tags) {
            state.tables.set(index, Some(&Entry { tag: *tag, epoch }));
        }
        state.vacated.remove(run);
        if !quiet || state.mtime.is_some() {
            state.mtime = Some(self.store.backend.now());
        }
        Ok(())
    }

    pub(super) fn log_chunks(
        &self,
        state: &mut State,
        _permit: &Permit<'_>,
        first: ChunkIndex,
        bytes: &[u8],
    ) -> Result<()> {
        let hint = state.hint();
        let offset = first.offset(state.geometry());
        let record = Record { object_id: state.id, hint: &hint, body: Body::Object { offset, bytes } };
        let position = self.store.log.append_content(&[record])?[0];
        state.logged.hinted = true;
        for (n, chunk) in bytes.chunks(CHUNK as usize).enumerate() {
            state.logged.chunks.insert(first.0 + n as u64, (position + n as u64 * CHUNK, chunk.len()));
            state.logged.overtaken.remove(&(first.0 + n as u64));
        }
        Ok(())
    }
}

pub(super) fn chunks_of(offset: u64, end: u64) -> Range<u64> {
    offset / CHUNK..end.div_ceil(CHUNK)
}

impl State {
    /// Brings the pages of a range of chunks.
    pub(super) fn bring(&mut self, chunks: Range<u64>) -> Result<()> {
        let home = self.home()?.clone();
        let mut chunk = chunks.start;
        while chunk < chunks.end {
            let show = || self.path.clone();
            self.tables.bring(ChunkIndex(chunk), &|offset, block| home.read_block(offset, block)).map_err(|error| {
                match error {
                    Error::Corrupt(finding) => Error::corrupt(String::from_utf8_lossy(&show()), finding),
                    error => error,
                }
            })?;
            chunk += ChunkIndex(chunk).run(self.geometry());
        }
        Ok(())
    }

    pub(super) fn resize(&mut self, new: PlainLen) -> Result<()> {
        let home = self.home()?.clone();
        let old = self.length;
        self.tables.resize(old, new, &|offset, block| home.read_block(offset, block))
    }

    /// Takes back a growth of the tables, when the content did not follow.
    fn regret(&mut self, grown: PlainLen, to: PlainLen) -> Result<()> {
        let home = self.home()?.clone();
        self.tables.resize(grown, to, &|offset, block| home.read_block(offset, block))
    }

    pub(super) fn prepare_cut(&mut self, new: PlainLen) -> Result<()> {
        let home = self.home()?.clone();
        self.tables.prepare_cut(new, &|offset, block| home.read_block(offset, block))
    }

    pub(super) fn changed(&mut self, now: i64) {
        self.dirty = true;
        self.changed_at = now;
        self.seal.md5 = None;
        self.running_md5 = None;
    }

    /// Raises the key epoch where GCM's bound would be passed.
    pub(super) fn count_encryptions(&mut self, count: u64, limit: u64) -> Result<()> {
        if self.seal.encryptions + count > limit {
            self.seal.epoch = self.seal.epoch.checked_add(1).ok_or(Error::Errno(libc::EFBIG))?;
            self.seal.encryptions = 0;
        }
        self.seal.encryptions += count;
        Ok(())
    }
}

impl Keys {
    /// Without any, the object is locked.
    pub(super) fn new(keys: Vec<(u16, kmsfs_crypto::ObjectKeys)>) -> Self {
        let keys = keys.into_iter().map(|(first, key)| (first, Arc::new(key))).collect();
        Self { keys, ciphers: parking_lot::RwLock::default() }
    }

    /// These, and a newer one.
    pub(super) fn and(&self, first_epoch: u16, key: kmsfs_crypto::ObjectKeys) -> Self {
        let mut keys = self.keys.clone();
        keys.push((first_epoch, Arc::new(key)));
        Self { keys, ciphers: parking_lot::RwLock::default() }
    }

    /// The newest alone.
    pub(super) fn without_old(&self) -> Self {
        Self { keys: self.keys.last().cloned().into_iter().collect(), ciphers: parking_lot::RwLock::default() }
    }

    /// First epoch of the newest data key.
    pub(super) fn newest_epoch(&self) -> Result<u16> {
        Ok(self.keys.last().ok_or(Error::Locked)?.0)
    }

    pub(super) fn are_there(&self) -> Result<()> {
        if self.keys.is_empty() { Err(Error::Locked) } else { Ok(()) }
    }

    /// Of the data key that serves this epoch.
    pub(super) fn cipher(&self, epoch: u16) -> Result<Arc<ChunkCipher>> {
        if let Some(cipher) = self.ciphers.read().get(&epoch) {
            return Ok(cipher.clone());
        }
        self.are_there()?;
        let key = self.keys.iter().rev().find(|(first, _)| *first <= epoch);
        let (_, key) = key.ok_or_else(|| Error::Corrupt(format!("a chunk of key epoch {epoch}, which has no key")))?;
        let cipher = Arc::new(key.chunk_cipher(epoch));
        self.ciphers.write().insert(epoch, cipher.clone());
        Ok(cipher)
    }

    /// The newest data key's: it authenticates seal and sidecar.
    pub(super) fn newest(&self) -> Result<&Arc<kmsfs_crypto::ObjectKeys>> {
        Ok(&self.keys.last().ok_or(Error::Locked)?.1)
    }
}
