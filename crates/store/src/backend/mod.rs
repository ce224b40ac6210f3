//! The store's view of the file system below it: a real directory, or what tests put in its place.
//!
//! Names are single path components; `.`, `..` and names with a slash or NUL in them are refused with `EINVAL`, so that
//! no name leads out of its directory. No call follows a symlink. A name that leads to another file system is refused
//! with `EXDEV` where it is opened or looked at. Errors carry the errno (`raw_os_error` is `Some`).

mod probe;
mod real;

pub use probe::{Need, Unfit, probe};
pub use real::RealBackend;

use crate::{Ino, Time};
use rustix::io::Errno;
use std::any::Any;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// A backing directory's root and what concerns its whole file system.
pub trait Backend: Send + Sync {
    /// The directory itself.
    fn root(&self) -> io::Result<Arc<dyn Dir>>;
    /// Makes everything durable that has been done so far, names included (syncfs).
    fn sync_all(&self) -> io::Result<()>;
    /// Puts back modes that a killed process had changed for a moment, to reach what they deny to their own owner. Not
    /// while another process is at work here.
    fn put_modes_back(&self) -> io::Result<()> {
        Ok(())
    }
    /// What statvfs(3) tells of the file system.
    fn space(&self) -> io::Result<Space>;
    /// The clock that the file system stamps changes with.
    fn now(&self) -> Time;
    /// Whether other machines may have it mounted.
    fn is_shared(&self) -> bool {
        false
    }
}

/// An open directory; holding it costs one descriptor.
pub trait Dir: Send + Sync {
    /// Itself, for a backend that is given another of its own directories.
    fn as_any(&self) -> &dyn Any;
    /// As for files: too few are left for it to be kept longer than necessary.
    fn has_reserved_descriptor(&self) -> bool {
        false
    }
    /// Of the directory itself.
    fn metadata(&self) -> io::Result<Metadata>;
    /// fstatat(2) of a name, without following a symlink: `ENOENT` if there is none, `EXDEV` on another file system.
    fn stat(&self, name: &OsStr) -> io::Result<Metadata>;
    /// What tells the inode of a name from all others that have had or will have its number, for as long as the file
    /// system is there; `None` where that does not say.
    fn generation(&self, _name: &OsStr) -> Option<u32> {
        None
    }
    /// Opens a directory below: `ENOTDIR` for anything else, `EXDEV` on another file system.
    fn open_dir(&self, name: &OsStr) -> io::Result<Arc<dyn Dir>>;
    /// A regular file only: `EINVAL` for anything else. Succeeds for its owner whatever the mode is.
    fn open_file(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn File>>;
    /// Fails with `EEXIST` if the name is there; opened for reading and writing whatever the mode is.
    fn create_file(&self, name: &OsStr, node: &NewNode) -> io::Result<Arc<dyn File>>;
    /// mkdir(2): `EEXIST` if the name is there.
    fn make_dir(&self, name: &OsStr, node: &NewNode) -> io::Result<()>;
    /// FIFO, socket or device: `kind` is the `S_IFMT` part.
    fn make_node(&self, name: &OsStr, kind: u32, rdev: u64, node: &NewNode) -> io::Result<()>;
    /// symlink(2): `EEXIST` if the name is there.
    fn make_symlink(&self, name: &OsStr, target: &[u8], node: &NewNode) -> io::Result<()>;
    /// readlink(2): `EINVAL` for what is no symlink.
    fn read_link(&self, name: &OsStr) -> io::Result<Vec<u8>>;
    /// unlink(2) of what is no directory.
    fn unlink(&self, name: &OsStr) -> io::Result<()>;
    /// rmdir(2): `ENOTEMPTY` if anything is in it.
    fn remove_dir(&self, name: &OsStr) -> io::Result<()>;
    /// `to` is a directory of the same backend.
    fn rename(&self, name: &OsStr, to: &dyn Dir, to_name: &OsStr, how: Rename) -> io::Result<()>;
    /// link(2): `EEXIST` if the new name is there. `to` is a directory of the same backend.
    fn link(&self, name: &OsStr, to: &dyn Dir, to_name: &OsStr) -> io::Result<()>;
    /// Entries after `cursor` (0 at first), without `.` and `..`, until `visit` answers false. Cursors stay valid while
    /// the directory changes.
    fn read(&self, cursor: u64, visit: &mut dyn FnMut(Entry<'_>) -> bool) -> io::Result<()>;
    /// Has the first `len` bytes of regular files read in the background, of those that the directory lists first, at
    /// most so many: somebody is about to read them. Answers their inodes; what cannot be done is not.
    fn read_ahead(&self, _len: u64, _most: usize) -> Vec<Ino> {
        Vec::new()
    }
    /// The first `most` bytes of a file as they are on the disk, past what this machine keeps of it.
    fn read_past_caches(&self, name: &OsStr, most: usize) -> io::Result<Vec<u8>> {
        let file = self.open_file(name, Access::Read)?;
        let mut bytes = vec![0; most];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    }
    /// Makes the names durable.
    fn sync(&self) -> io::Result<()>;
    /// `name` is `None` for the directory itself, here and below.
    fn set_mode(&self, name: Option<&OsStr>, mode: u32) -> io::Result<()>;
    /// chown(2), without following a symlink; `None` leaves user or group as it is.
    fn set_owner(&self, name: Option<&OsStr>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()>;
    /// Nanoseconds since 1970; `None` leaves a time as it is.
    fn set_times(&self, name: Option<&OsStr>, atime: Option<Time>, mtime: Option<Time>) -> io::Result<()>;
    /// The value of an attribute, by its full name: `ENODATA` if there is none.
    fn get_xattr(&self, name: Option<&OsStr>, attribute: &OsStr) -> io::Result<Vec<u8>>;
    /// Sets an attribute, by its full name.
    fn set_xattr(&self, name: Option<&OsStr>, attribute: &OsStr, value: &[u8], flags: XattrFlags) -> io::Result<()>;
    /// Names, each ended by a NUL byte, as listxattr(2) gives them.
    fn list_xattr(&self, name: Option<&OsStr>) -> io::Result<Vec<u8>>;
    /// Removes an attribute: `ENODATA` if there is none.
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
    fn ino(&self) -> Ino;
    /// fstat(2).
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
    /// ftruncate(2); what is added is a hole.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves space without changing the length (FALLOC_FL_KEEP_SIZE); `EOPNOTSUPP` where it cannot be done.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Frees the space of whole blocks (FALLOC_FL_PUNCH_HOLE); they read as zeros.
    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;
    /// fsync(2).
    fn sync(&self) -> io::Result<()>;
    /// fdatasync(2).
    fn sync_data(&self) -> io::Result<()>;
    /// fchmod(2).
    fn set_mode(&self, mode: u32) -> io::Result<()>;
    /// fchown(2); `None` leaves user or group as it is.
    fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> io::Result<()>;
    /// futimens(2), in nanoseconds since 1970; `None` leaves a time as it is.
    fn set_times(&self, atime: Option<Time>, mtime: Option<Time>) -> io::Result<()>;
    /// The value of an attribute, by its full name: `ENODATA` if there is none.
    fn get_xattr(&self, attribute: &OsStr) -> io::Result<Vec<u8>>;
    /// Sets an attribute, by its full name.
    fn set_xattr(&self, attribute: &OsStr, value: &[u8], flags: XattrFlags) -> io::Result<()>;
    /// Names, each ended by a NUL byte, as flistxattr(2) gives them.
    fn list_xattr(&self) -> io::Result<Vec<u8>>;
    /// Removes an attribute: `ENODATA` if there is none.
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

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading alone.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// What stat(2) tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// Inode number.
    pub ino: Ino,
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
    /// Number of names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Of a device, its number.
    pub rdev: u64,
    /// Length in bytes.
    pub len: u64,
    /// In units of 512 bytes.
    pub blocks: u64,
    /// Nanoseconds since 1970, here and below.
    pub atime: Time,
    /// When the content was changed last.
    pub mtime: Time,
    /// When anything was changed last.
    pub ctime: Time,
}

/// Mode, umask and owner of something to be made. A default ACL of the directory overrides the umask, and its set-gid
/// bit the group, as on any file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewNode {
    /// Permissions with set-id and sticky bits, without the type.
    pub mode: u32,
    /// Permissions that are taken away where no default ACL says otherwise.
    pub umask: u32,
    /// `None`: whoever runs this process.
    pub owner: Option<(u32, u32)>,
}

/// What becomes of the two names of a rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rename {
    /// The new name is replaced if it is there.
    Replace,
    /// `EEXIST` if the new name is there.
    NoReplace,
    /// Both names are there, and are exchanged.
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

/// Whether an attribute that is set may, or has to, be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrFlags {
    /// It may be there or not.
    Any,
    /// `EEXIST` if it is there.
    Create,
    /// `ENODATA` if it is not there.
    Replace,
}

/// An entry of a directory.
pub struct Entry<'a> {
    /// One component of a path.
    pub name: &'a OsStr,
    /// Inode number.
    pub ino: Ino,
    /// `DT_*` of getdents(2) shifted to `S_IFMT`'s place; 0 if the file system does not tell.
    pub kind: u32,
    /// Where reading goes on after this entry.
    pub cursor: u64,
}

/// What statvfs(3) tells, in units of `block_size` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes of a block.
    pub block_size: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Blocks that are free.
    pub blocks_free: u64,
    /// Blocks that are free for users without privileges.
    pub blocks_available: u64,
    /// Inodes in all.
    pub files: u64,
    /// Inodes that are free.
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
