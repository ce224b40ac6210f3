//! What an inode is on the simulated disk: what programs see of it, and what of that a power cut leaves.

use super::content::{Content, SECTOR, Sector};
use kmsfs_store::backend::Metadata;
use kmsfs_store::{Ino, Time};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

pub(super) const DIRECTORY: u32 = libc::S_IFDIR;
pub(super) const REGULAR: u32 = libc::S_IFREG;
pub(super) const SYMLINK: u32 = libc::S_IFLNK;

/// Attributes are durable at once; content and names are not.
#[derive(Clone)]
pub(super) struct Inode {
    /// Type and permissions.
    pub(super) mode: u32,
    /// Of the present names.
    pub(super) nlink: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) rdev: u64,
    pub(super) atime: Time,
    pub(super) mtime: Time,
    pub(super) ctime: Time,
    pub(super) xattrs: BTreeMap<OsString, Vec<u8>>,
    pub(super) body: Body,
}

#[derive(Clone)]
pub(super) enum Body {
    File(FileBody),
    Directory(DirectoryBody),
    Symlink(Vec<u8>),
    Special,
}

#[derive(Clone, Default)]
pub(super) struct FileBody {
    /// What reads see: the page cache.
    pub(super) current: Content,
    /// As of the last sync.
    pub(super) durable: Content,
    /// What was written since, in order.
    pub(super) pending: Vec<Arc<Write>>,
    /// Reads see what no sync will make durable any more.
    lost: bool,
}

/// One system call on a file's content: any of its cells may survive a power cut without the others.
pub(super) struct Write {
    pub(super) when: u64,
    pub(super) sectors: Vec<(u64, Sector)>,
    pub(super) len: Option<u64>,
}

#[derive(Clone, Default)]
pub(super) struct DirectoryBody {
    /// Itself at the root.
    pub(super) parent: u64,
    pub(super) entries: BTreeMap<OsString, Slot>,
    /// Names by their cursor, in the order of reading.
    pub(super) order: BTreeMap<u64, OsString>,
    pub(super) last_cursor: u64,
    /// Entries as of the last sync; what changed since stands in the image's moves.
    pub(super) durable: BTreeMap<OsString, u64>,
}

#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) ino: u64,
    pub(super) cursor: u64,
}

impl Inode {
    pub(super) fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind() == DIRECTORY
    }

    pub(super) fn metadata(&self, ino: u64) -> Metadata {
        let (len, blocks) = match &self.body {
            Body::File(file) => (file.current.len, file.current.allocated()),
            Body::Directory(_) => (4096, 8),
            Body::Symlink(target) => (target.len() as u64, 0),
            Body::Special => (0, 0),
        };
        let Self { mode, nlink, uid, gid, rdev, atime, mtime, ctime, .. } = *self;
        Metadata { ino: Ino(ino), mode, nlink, uid, gid, rdev, len, blocks, atime, mtime, ctime }
    }
}

impl FileBody {
    pub(super) fn write(&mut self, write: Write) {
        apply(&mut self.current, &write);
        self.pending.push(Arc::new(write));
    }

    /// Makes durable what was written up to `when`.
    pub(super) fn sync(&mut self, when: u64) {
        let done = self.pending.partition_point(|write| write.when <= when);
        for write in self.pending.drain(..done) {
            apply(&mut self.durable, &write);
        }
    }

    /// Forgets to make durable what was written up to `when`, but for lengths, which the journal keeps.
    pub(super) fn lose(&mut self, when: u64) {
        for write in self.pending.iter_mut().filter(|write| write.when <= when) {
            *write = Arc::new(Write { when: write.when, sectors: Vec::new(), len: write.len });
            self.lost = true;
        }
    }

    /// Whether a power cut could show anything but what reads see now.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty() && !self.lost
    }

    /// After a power cut.
    pub(super) fn settled(content: Content) -> Self {
        Self { current: content.clone(), durable: content, pending: Vec::new(), lost: false }
    }

    /// Reserves space for holes, which changes no byte: durable at once, as attributes are.
    pub(super) fn reserve(&mut self, holes: &[u64]) {
        let zeros: Sector = Some(Arc::new([0; SECTOR]));
        for at in holes {
            self.current.put(*at, zeros.clone());
            if self.durable.sector(*at).is_none() {
                self.durable.put(*at, zeros.clone());
            }
        }
    }
}

fn apply(content: &mut Content, write: &Write) {
    for (at, sector) in &write.sectors {
        content.put(*at, sector.clone());
    }
    content.len = write.len.unwrap_or(content.len);
}

impl DirectoryBody {
    pub(super) fn put(&mut self, name: OsString, ino: u64) {
        if let Some(slot) = self.entries.get_mut(&name) {
            slot.ino = ino;
            return;
        }
        self.last_cursor += 1;
        self.order.insert(self.last_cursor, name.clone());
        self.entries.insert(name, Slot { ino, cursor: self.last_cursor });
    }

    pub(super) fn take(&mut self, name: &OsStr) {
        if let Some(slot) = self.entries.remove(name) {
            self.order.remove(&slot.cursor);
        }
    }
}
