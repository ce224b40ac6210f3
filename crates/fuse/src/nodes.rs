//! Nodes: what the kernel calls inodes.

pub(crate) mod by_number;

use kmsfs_fs::{Fs, Ino};
use std::sync::atomic::{AtomicU64, Ordering};

/// The number by which the kernel knows an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node(pub u64);

/// The number that FUSE has for the root.
const ROOT: u64 = 1;

impl Node {
    pub(crate) fn is_root(self) -> bool {
        self.0 == ROOT
    }
}

/// Inode numbers as the kernel sees them: the backing ones, with the root's exchanged for FUSE's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    root: Ino,
}

impl Numbers {
    pub(crate) fn of(fs: &Fs) -> Self {
        Self { root: fs.root() }
    }

    #[cfg(test)]
    pub(crate) fn with_root(root: Ino) -> Self {
        Self { root }
    }

    /// The kernel's number of a backing inode.
    pub(crate) fn node(self, ino: Ino) -> Node {
        Node(self.exchanged(ino.0))
    }

    /// The backing number of one of the kernel's.
    pub(crate) fn ino(self, node: Node) -> Ino {
        Ino(self.exchanged(node.0))
    }

    fn exchanged(self, number: u64) -> u64 {
        match number {
            number if number == self.root.0 => ROOT,
            ROOT => self.root.0,
            number => number,
        }
    }
}

/// A number that is no inode's, another one each time: the kernel makes an inode of whatever is listed, and a name
/// without a number would not be listed.
pub(crate) fn nobody() -> Ino {
    static NEXT: AtomicU64 = AtomicU64::new(u64::MAX);
    Ino(NEXT.fetch_sub(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_one_and_a_backing_one_is_not() {
        let numbers = Numbers { root: Ino(77) };
        assert_eq!(numbers.node(Ino(77)), Node(1));
        assert_eq!(numbers.node(Ino(1)), Node(77));
        assert_eq!(numbers.ino(Node(1)), Ino(77));
        assert_eq!(numbers.ino(Node(5)), Ino(5));
    }
}
