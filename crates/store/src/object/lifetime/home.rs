//! An object file as it is read: home, with what a read-only recovery would have written there laid over it.

use crate::Result;
use crate::backend::{File, Metadata};
use crate::local::recovery::Patch;
use crate::object::content::Block;
use std::sync::Arc;

#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) file: Arc<dyn File>,
    pub(crate) patch: Option<Arc<Patch>>,
}

impl Home {
    /// Bytes read; fewer than asked for only at the end.
    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        let read = self.file.read_at(bytes, offset)?;
        match &self.patch {
            None => Ok(read),
            Some(patch) => Ok(patch.lay_over(offset, bytes, read)),
        }
    }

    /// A block; what is past the end reads as zeros, and fails its check.
    pub(crate) fn read_block(&self, offset: u64, block: &mut Block) -> Result<()> {
        let read = self.read(offset, &mut block[..])?;
        block[read..].fill(0);
        Ok(())
    }

    /// Bytes, of the file with these attributes.
    pub(crate) fn length_of(&self, metadata: &Metadata) -> u64 {
        self.patch.as_ref().map_or(metadata.len, |patch| patch.len(metadata.len))
    }
}
