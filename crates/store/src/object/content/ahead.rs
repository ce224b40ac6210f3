//! Ciphertext that was read along with the header, for the first READ.

use kmsfs_format::layout::BLOCK;
use kmsfs_locks::{Mutex, ranks};

/// Of the object file, from the end of the header block on. Right until something is written there, or to the log.
pub(in crate::object) struct Ahead(Mutex<ranks::Ahead, Vec<u8>>);

impl Ahead {
    pub(in crate::object) fn new(bytes: Vec<u8>) -> Self {
        Self(Mutex::new(bytes))
    }

    /// Fills `bytes`, which are at that offset of the object file. Returns false if it does not have them all.
    pub(in crate::object) fn read(&self, offset: u64, bytes: &mut [u8]) -> bool {
        let ahead = self.0.lock();
        let start = (offset - BLOCK) as usize;
        let known = ahead.get(start..start + bytes.len());
        if let Some(known) = known {
            bytes.copy_from_slice(known);
        }
        known.is_some()
    }

    /// It is wrong now.
    pub(in crate::object) fn clear(&self) {
        self.0.lock().clear();
    }

    /// Gives up its memory too.
    pub(in crate::object) fn free(&self) {
        *self.0.lock() = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_ahead_is_had_whole_or_not_at_all() {
        let ahead = Ahead::new(vec![1, 2, 3]);
        let mut bytes = [0; 2];
        assert!(ahead.read(BLOCK + 1, &mut bytes));
        assert_eq!(bytes, [2, 3]);
        assert!(!ahead.read(BLOCK + 2, &mut bytes));
        ahead.clear();
        assert!(!ahead.read(BLOCK, &mut bytes));
        assert_eq!(bytes, [2, 3]);
    }
}
