//! Nodes: what the kernel calls inodes.

pub mod by_number;

use kmsfs_fs::Fs;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number that FUSE has for the root.
const ROOT: u64 = 1;

/// Inode numbers as the kernel sees them: the backing ones, with the root's exchanged for FUSE's.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
    root: u64,
}

impl Numbers {
    pub fn of(fs: &Fs) -> Self {
        Self { root: fs.root() }
    }

    /// The kernel's number of a backing inode.
    pub fn node(self, ino: u64) -> u64 {
        self.exchanged(ino)
    }

    /// The backing number of one of the kernel's.
    pub fn ino(self, node: u64) -> u64 {
        self.exchanged(node)
    }

    fn exchanged(self, number: u64) -> u64 {
        match number {
            number if number == self.root => ROOT,
            ROOT => self.root,
            number => number,
        }
    }
}

/// A number that is no inode's, another one each time: the kernel makes an inode of whatever is listed, and a name
/// without a number would not be listed.
pub fn nobody() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(u64::MAX);
    NEXT.fetch_sub(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_one_and_a_backing_one_is_not() {
        let numbers = Numbers { root: 77 };
        assert_eq!(numbers.node(77), 1);
        assert_eq!(numbers.node(1), 77);
        assert_eq!(numbers.ino(1), 77);
        assert_eq!(numbers.ino(5), 5);
    }
}
