//! Space that is kept back, and given up when the disk is full, so that what makes room has the room to begin: a file
//! system that never writes in place (btrfs) needs some even to overwrite, and a quota counts as a full disk does.

use crate::backend::{Access, Backend};
use crate::local::sealed::parameters::PRIVATE_FILE;
use kmsfs_locks::{Mutex, ranks};
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

/// Beside store.json. It means nothing, and may be removed while the store is not mounted.
const FILE: &str = "reserve";
/// It is made when so many times its size is free, and not to fill a disk up.
const ROOM: u64 = 16;
const PIECE: usize = 64 << 10;

pub(crate) struct Reserve {
    backend: Arc<dyn Backend>,
    /// Bytes; 0 for none.
    size: u64,
    /// Whether it is there.
    kept: Mutex<ranks::Reserve, bool>,
}

impl Reserve {
    /// Under the store's lock, of a store that is opened for writing.
    pub(crate) fn of(backend: &Arc<dyn Backend>, size: u64) -> io::Result<Self> {
        let kept = size > 0 && backend.root()?.open_file(OsStr::new(FILE), Access::Read).is_ok();
        Ok(Self { backend: backend.clone(), size, kept: Mutex::new(kept) })
    }

    /// Keeps the space back, unless it is already, or the disk is nearly full. Not being able to is no error.
    pub(crate) fn keep(&self) {
        let mut kept = self.kept.lock();
        if *kept || self.size == 0 {
            return;
        }
        let available = self.backend.space().map_or(0, |space| space.blocks_available.saturating_mul(space.block_size));
        if available / ROOM < self.size {
            return;
        }
        match self.make() {
            Ok(()) => *kept = true,
            Err(why) => {
                ::log::debug!("no space is kept back: {why}");
                let _ = self.remove();
            }
        }
    }

    /// Bytes that no compression makes fewer.
    fn make(&self) -> io::Result<()> {
        let file = self.backend.root()?.create_file(OsStr::new(FILE), &PRIVATE_FILE)?;
        let mut at = 0;
        while at < self.size {
            let mut piece = vec![0; PIECE.min((self.size - at) as usize)];
            fill(at, &mut piece);
            file.write_at(&piece, at)?;
            at += piece.len() as u64;
        }
        file.sync()
    }

    fn remove(&self) -> io::Result<()> {
        self.backend.root()?.unlink(OsStr::new(FILE))
    }

    /// Does something that needs room on the disk to make more of it. If there is none, once more, after the reserve
    /// was given up and everything is synced, which frees what was overwritten before.
    pub(crate) fn with_room<T>(&self, act: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let first = act();
        if !is_full(&first) {
            return first;
        }
        let given_up = std::mem::take(&mut *self.kept.lock()) && self.remove().is_ok();
        if given_up {
            ::log::warn!("the disk is full: the space that was kept back for that is given up");
        }
        self.backend.sync_all()?;
        act()
    }
}

fn is_full<T>(done: &io::Result<T>) -> bool {
    matches!(done, Err(error) if [libc::ENOSPC, libc::EDQUOT].map(Some).contains(&error.raw_os_error()))
}

/// A fixed sequence that looks random (xorshift): it has to take space, and to keep nothing secret.
fn fill(seed: u64, piece: &mut [u8]) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for word in piece.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
    }
}
