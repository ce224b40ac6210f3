//! Reading an object's content, wherever it is: read ahead, at home, or in the log.

use super::content::chunks_of;
use super::{Object, State};
use crate::{Error, Result};
use kmsfs_crypto::wiped;
use kmsfs_format::layout::{CHUNK, ChunkIndex};
use kmsfs_locks::{RwLockReadGuard, RwLockWriteGuard, ranks};
use std::ops::Range;

impl Object {
    /// Bytes read; fewer than asked for only at the end.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        let state = self.state.read();
        let end = state.length().min(offset.saturating_add(bytes.len() as u64));
        if offset >= end {
            return Ok(0);
        }
        let bytes = &mut bytes[..(end - offset) as usize];
        let chunks = chunks_of(offset, end);
        let state = if state.content.has(chunks.clone()) {
            state
        } else {
            drop(state);
            self.bring(&chunks)?
        };
        // The length may have shrunk while the lock was free.
        let end = state.length().min(end);
        let count = end.saturating_sub(offset) as usize;
        self.read_chunks(&state, offset, &mut bytes[..count])?;
        Ok(count)
    }

    fn bring(&self, chunks: &Range<u64>) -> Result<RwLockReadGuard<'_, ranks::ObjectState, State>> {
        let mut state = self.state.write();
        state.bring(chunks.clone())?;
        state.content.bound_memory();
        state.bring(chunks.clone())?;
        Ok(RwLockWriteGuard::downgrade(state))
    }

    /// Bytes within the present length, whose pages have been brought.
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
            let have = state.content.length().bytes_in(chunk);
            let out = &mut bytes[(at - offset) as usize..];
            if in_chunk > 0 || out.len() < have {
                let mut whole = [0; CHUNK as usize];
                self.read_run(state, chunk, &mut whole[..have])?;
                let count = out.len().min(have - in_chunk);
                out[..count].copy_from_slice(&whole[in_chunk..in_chunk + count]);
                at += count as u64;
            } else {
                let count = state.whole_run(chunk, out.len());
                self.read_run(state, chunk, &mut out[..count])?;
                at += count as u64;
            }
        }
        Ok(())
    }

    /// Whole chunks that lie next to each other, all at home, or one chunk from wherever it is.
    pub(super) fn read_run(&self, state: &State, first: ChunkIndex, bytes: &mut [u8]) -> Result<()> {
        if !state.content.tables.is_present(first) {
            bytes.fill(0);
            return Ok(());
        }
        if self.read_ciphertext(state, first, bytes)? < bytes.len() {
            return Err(Error::corrupt(state.lifetime.show(), format_args!("chunk {} is cut off", first.0)));
        }
        for (n, chunk) in bytes.chunks_mut(CHUNK as usize).enumerate() {
            let index = ChunkIndex(first.0 + n as u64);
            let Some(entry) = state.content.tables.entry(index)? else {
                let what = format_args!("chunk {} has no tag entry", index.0);
                return Err(Error::corrupt(state.lifetime.show(), what));
            };
            state.keyed.cipher(entry.epoch)?.open(index.0, &entry.tag, chunk).map_err(|_| {
                let what = format_args!("chunk {} is not what was written there", index.0);
                Error::corrupt(state.lifetime.show(), what)
            })?;
        }
        Ok(())
    }

    /// Bytes read. The log's are newer than home's (W2), and than what was read along with the header.
    fn read_ciphertext(&self, state: &State, first: ChunkIndex, bytes: &mut [u8]) -> Result<usize> {
        if let Some((position, len)) = state.durability.logged.chunk(first.0) {
            let len = bytes.len().min(len);
            self.store.log.read(position, &mut bytes[..len])?;
            return Ok(len);
        }
        let (home, offset) = (state.lifetime.home()?, first.offset(state.geometry()));
        if self.ahead.read(offset, bytes) { Ok(bytes.len()) } else { home.read(offset, bytes) }
    }
}

impl State {
    /// Bytes, at most `limit`, of whole chunks from this one on that lie next to each other at home.
    fn whole_run(&self, first: ChunkIndex, limit: usize) -> usize {
        let length = self.content.length();
        let at_home = |chunk: ChunkIndex| {
            self.content.tables.is_present(chunk) && self.durability.logged.chunk(chunk.0).is_none()
        };
        let mut count = length.bytes_in(first);
        if !at_home(first) {
            return count;
        }
        for n in 1..first.run(self.geometry()) {
            let chunk = ChunkIndex(first.0 + n);
            let have = length.bytes_in(chunk);
            if have == 0 || count + have > limit || !at_home(chunk) {
                break;
            }
            count += have;
        }
        count
    }
}
