//! The store's view of the file system below it: a real directory, or what tests put in its place.
//!
//! Names are single path components; `.`, `..` and names with a slash or NUL in them are refused with `EINVAL`, so that
//! no name leads out of its directory. No call follows a symlink. A name that leads to another file system is refused
//! with `EXDEV` where it is opened or looked at. Errors carry the errno (`raw_os_error` is `Some`).

mod probe;
mod real;

pub use probe::{Need, Unfit, probe};
pub use real::RealBackend;

use rustix::io::Errno;
use std::any::Any;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// A backing directory's root and what concerns its whole file system.
pub trait Backend: Send + Sync {
    fn root(&self) -> io::Result<Arc<dyn Dir>>;
    /// Makes everything durable that has been done so far, names included (syncfs).
    fn sync_all(&self) -> io::Result<()>;
    /// Puts back modes that a killed process had changed for a moment, to reach what they deny to their own owner. Not
    /// while another process is at work here.
    fn put_modes_back(&self) -> io::Result<()> {
        Ok(())
    }
    fn space(&self) -> io::Result<Space>;
    /// The clock that the file system stamps changes with, nanoseconds since 1970.
    fn now(&self) -> i64;
}

/// An open directory; holding it costs one descriptor.
pub trait Dir: Send + Sync {
    fn as_any(&self) -> &dyn Any;
    /// As for files: too few are left for it to be kept longer than necessary.
    fn has_reserved_descriptor(&self) -> bool {
        false
    }
    /// Of the directory itself.
    fn metadata(&self) -> io::Result<Metadata>;
    fn stat(&self, name: &OsStr) -> io::Result<Metadata>;
    /// What tells the inode of a name from all others that have had or will have its number, for as long as the file
    /// system is there; `None` where that does not say.
    fn generation(&self, _name: &OsStr) -> Option<u32> {
        None
    }
    fn open_dir(&self, name: &OsStr) -> io::Result<Arc<dyn Dir>>;
    /// A regular file only: `EINVAL` for anything else. Succeeds for its owner whatever the mode is.
    fn open_file(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn File>>;
    /// Fails with `EEXIST` if the name is there; opened for reading and writing whatever the mode is.
    fn create_file(&self, name: &OsStr, node: &NewNode) -> io::Result<Arc<dyn File>>;
    fn make_dir(&self, name: &OsStr, node: &NewNode) -> io::Result<()>;
    /// FIFO, socket or device: `kind` is the `S_IFMT` part.
    fn make_node(&self, name: &OsStr, kind: u32, rdev: u64, node: &NewNode) -> io::Result<()>;
    fn make_symlink(&self, name: &OsStr, target: &[u8], node: &NewNode) -> io::Result<()>;
    fn read_link(&self, name: &OsStr) -> io::Result<Vec<u8>>;
    fn unlink(&self, name: &OsStr) -> io::Result<()>;
    fn remove_dir(&self, name: &OsStr) -> io::Result<()>;
    /// `to` is a directory of the same backend.
    fn rename(&self, name: &OsStr, to: &dyn Dir, to_name: &OsStr, how: Rename) -> io::Result<()>;
    fn link(&self, name: &OsStr, to: &dyn Dir, to_name: &OsStr) -> io::Result<()>;
    /// Entries after `cursor` (0 at first), without `.` and `..`, until `visit` answers false. Cursors stay valid while
    /// the directory changes.
    fn read(&self, cursor: u64, visit: &mut dyn FnMut(Entry<'_>) -> bool) -> io::Result<()>;
    /// Has the first `len` bytes of regular files read in the background, of those that the directory lists first, at
    /// most so many: somebody is about to read them. Answers their inodes; what cannot be done is not.
    fn read_ahead(&self, _len: u64, _most: usize) -> Vec<u64> {
        Vec::new()
    }
    /// Makes the names durable.
    fn sync(&self) -> io::Result<()>;
    /// `name` is `None` for the directory itself, here and below.
    fn set_mode(&self, name: Option<&OsStr>, mode: u32) -> io::Result<()>;
    fn set_owner(&self, name: Option<&OsStr>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()>;
    /// Nanoseconds since 1970; `None` leaves a time as it is.
    fn set_times(&self, name: Option<&OsStr>, atime: Option<i64>, mtime: Option<i64>) -> io::Result<()>;
    fn get_xattr(&self, name: Option<&OsStr>, attribute: &OsStr) -> io::Result<Vec<u8>>;
    fn set_xattr(&self, name: Option<&OsStr>, attribute: &OsStr, value: &[u8], flags: XattrFlags) -> io::Result<()>;
    /// Names, each ended by a NUL byte, as listxattr(2) gives them.
    fn list_xattr(&self, name: Option<&OsStr>) -> io::Result<Vec<u8>>;
    fn remove_xattr(&self, name: Option<&OsStr>, attribute: &OsStr) -> io::Result<()>;
}

/// An open regular file.
pub trait File: Send + Sync {
    /// Whether its descriptor is one of the last that this process may have. They are for what has to go on whatever
    /// programs have open: commits, checkpoints, directories.
    fn has_reserved_descriptor(&self) -> bool {
        false
    }
    /// Inode number, known since it was opened.
    fn ino(&self) -> u64;
    fn metadata(&self) -> io::Result<Metadata>;
    /// Bytes read, fewer than asked for only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// The first byte from `offset` on that is in no hole; `None` if nothing but a hole follows. Where the file system
    /// does not know its holes it has none.
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        Ok((offset < self.metadata()?.len).then_some(offset))
    }
    /// All of it or an error.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves space without changing the length (FALLOC_FL_KEEP_SIZE); `EOPNOTSUPP` where it cannot be done.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Frees the space of whole blocks (FALLOC_FL_PUNCH_HOLE); they read as zeros.
    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;
    /// fsync(2).
    fn sync(&self) -> io::Result<()>;
    /// fdatasync(2).
    fn sync_data(&self) -> io::Result<()>;
    fn set_mode(&self, mode: u32) -> io::Result<()>;
    fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> io::Result<()>;
    fn set_times(&self, atime: Option<i64>, mtime: Option<i64>) -> io::Result<()>;
    fn get_xattr(&self, attribute: &OsStr) -> io::Result<Vec<u8>>;
    fn set_xattr(&self, attribute: &OsStr, value: &[u8], flags: XattrFlags) -> io::Result<()>;
    fn list_xattr(&self) -> io::Result<Vec<u8>>;
    fn remove_xattr(&self, attribute: &OsStr) -> io::Result<()>;
    /// The content was read on behalf of somebody: moves the access time if the mount's rule (relatime, usually) says
    /// so, and no other time. All other reading leaves it alone.
    fn accessed(&self) -> io::Result<()>;
    /// Length in bytes that no file of this file system can pass.
    fn max_len(&self) -> u64;
    /// Takes an advisory lock without waiting (flock LOCK_NB); it is held until the file is dropped.
    /// `EWOULDBLOCK` if somebody else holds it.
    fn try_lock(&self, exclusive: bool) -> io::Result<()>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    ReadWrite,
}

/// What stat(2) tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    pub ino: u64,
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub len: u64,
    /// In units of 512 bytes.
    pub blocks: u64,
    /// Nanoseconds since 1970, here and below.
    pub atime: i64,
    pub mtime: i64,
    pub ctime: i64,
}

/// Mode, umask and owner of something to be made. A default ACL of the directory overrides the umask, and its set-gid
/// bit the group, as on any file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewNode {
    /// Permissions with set-id and sticky bits, without the type.
    pub mode: u32,
    pub umask: u32,
    /// `None`: whoever runs this process.
    pub owner: Option<(u32, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rename {
    Replace,
    NoReplace,
    Exchange,
    /// Replaces, and leaves a whiteout at the old name: the character device 0:0 without a mode, which is of the user
    /// of this process. That is how overlayfs says that a name below is gone.
    Whiteout,
}

impl Rename {
    /// Whether what has the new name loses it.
    pub fn replaces(self) -> bool {
        matches!(self, Self::Replace | Self::Whiteout)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrFlags {
    Any,
    Create,
    Replace,
}

pub struct Entry<'a> {
    pub name: &'a OsStr,
    pub ino: u64,
    /// `DT_*` of getdents(2) shifted to `S_IFMT`'s place; 0 if the file system does not tell.
    pub kind: u32,
    /// Where reading goes on after this entry.
    pub cursor: u64,
}

/// What statvfs(3) tells, in units of `block_size` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub block_size: u64,
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
}

/// A name that stays inside its directory, whatever a damaged or forged log has made of it.
pub fn component(name: &OsStr) -> io::Result<&OsStr> {
    match name.as_bytes() {
        b"" => Err(Errno::NOENT.into()),
        b"." | b".." => Err(Errno::INVAL.into()),
        bytes if bytes.iter().any(|byte| matches!(byte, b'/' | 0)) => Err(Errno::INVAL.into()),
        _ => Ok(name),
    }
}
