//! Answers as values, and where a transport puts them.

use kmsfs_fs::{Entry, HandleId, Ino, Result};
use kmsfs_store::Attr;
use kmsfs_store::backend::Space;
use std::ffi::OsStr;
use std::time::Duration;

/// What `fs` says to a request that it does not refuse. All inode numbers are the backing ones.
#[derive(Debug)]
pub enum Answer {
    Done,
    /// A name that was looked up or made.
    Entry(Entry),
    /// There is no such name, and the kernel may remember that.
    NoName,
    /// Attributes, and how long the kernel may keep them.
    Attr(Attr, Duration),
    Opened(Opened),
    Created(Entry, Opened),
    /// So many bytes were put into the reply's room.
    Filled(usize),
    /// So many bytes were written or copied.
    Written(u64),
    Bytes(Vec<u8>),
    /// Bytes that there would be.
    Size(u32),
    Space(Space),
    /// Where in a file.
    Offset(u64),
    /// All that fitted was listed into the reply.
    Listed,
}

/// An open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    pub handle: HandleId,
    pub cache: Cache,
}

/// What becomes of an open file's pages in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// They stay from one open to the next.
    Keep,
    /// There are none: every read and write comes here.
    Bypass,
}

/// A name in a directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed<'a> {
    pub name: &'a OsStr,
    pub ino: Ino,
    /// `S_IFMT` part of the mode; 0 if the backing file system does not tell.
    pub kind: u32,
    /// Where reading goes on after it.
    pub cursor: u64,
    /// What looking it up found: only where that was asked for, not of "." and "..", and not of what cannot be looked
    /// up.
    pub entry: Option<Entry>,
}

/// Where a reply has room for what is too long to be made first and copied then.
pub(crate) trait Room {
    /// Has `len` bytes of room filled from their beginning; `fill` returns how many it filled. Only a read needs it.
    fn fill(&mut self, len: usize, fill: &mut dyn FnMut(&mut [u8]) -> Result<usize>) -> Result<usize>;

    /// Adds a name to a listing. False if it does not fit: it and those after it are asked for again. Only listings
    /// need it.
    fn list(&mut self, name: &Listed<'_>) -> bool;
}

/// Where the answer to one request goes. It may be sent from any thread, by whichever filled its room.
pub(crate) trait Reply: Room + Send + 'static {
    /// Whether it may wait for a KMS; otherwise it is refused with this errno. It may be asked again and again.
    fn may_wait_for_kms(&mut self) -> std::result::Result<(), i32> {
        Ok(())
    }

    /// Sends the answer or an errno.
    fn send(self, answer: std::result::Result<Answer, i32>);
}
