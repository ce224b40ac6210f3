//! Writing on a disk that is so full that the redo log cannot grow. What is there can still be overwritten: in pieces
//! that the log has room for, with a checkpoint wherever it is full.

use super::Object;
use crate::Result;
use kmsfs_format::layout::CHUNK;

/// So much goes through the smallest log together with what commits it.
const PIECE: usize = 64 * CHUNK as usize;

impl Object {
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let written = self.write_at_once(offset, data);
        if written.is_ok() || data.len() <= PIECE || !self.store.log.is_cramped() {
            return written;
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
}
