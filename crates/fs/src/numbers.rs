//! Numbers that are easily taken for each other, each as a type of its own.

pub use kmsfs_store::{Ino, Time};

/// The number of an open file, by which requests name it. It is not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandleId(pub u64);
