//! Requests of the kernel as values: what one asks for, about which inode, and on whose behalf.

use super::statistics::Call;
use kmsfs_fs::{Changes, Fs, HandleId, Ino, LONG, Range};
use kmsfs_kms::{Caller, Waits};
use kmsfs_store::SeekTo;
use kmsfs_store::backend::{Rename, XattrFlags};
use std::borrow::Cow;
use std::ffi::OsStr;

/// One request. All inode numbers are the backing ones.
#[derive(Debug, Clone)]
pub(crate) struct Request<'a> {
    /// The inode that it is about; of an operation on a name, the directory that has or will have the name.
    pub ino: Ino,
    pub caller: Caller,
    pub op: Op<'a>,
}

/// What is asked for. What is long is borrowed from the transport's buffer until another thread is to do it.
#[derive(Debug, Clone)]
pub enum Op<'a> {
    Lookup {
        name: Cow<'a, OsStr>,
    },
    /// LOOKUP of ".": the inode itself, by its number alone.
    Find,
    /// LOOKUP of "..": the directory above, by the number of the one below.
    FindAbove,
    /// No answer is sent.
    Forget {
        lookups: u64,
    },
    GetAttr {
        /// Set where the kernel asks on behalf of a read or write; fstat(2) comes without.
        handle: Option<HandleId>,
    },
    SetAttr {
        handle: Option<HandleId>,
        changes: Changes,
    },
    ReadLink,
    MkNod {
        name: Cow<'a, OsStr>,
        mode: u32,
        umask: u32,
        rdev: u32,
    },
    MkDir {
        name: Cow<'a, OsStr>,
        mode: u32,
        umask: u32,
    },
    Unlink {
        name: Cow<'a, OsStr>,
    },
    RmDir {
        name: Cow<'a, OsStr>,
    },
    Symlink {
        name: Cow<'a, OsStr>,
        target: Cow<'a, [u8]>,
    },
    Rename {
        name: Cow<'a, OsStr>,
        to_parent: Ino,
        to_name: Cow<'a, OsStr>,
        how: Rename,
    },
    Link {
        /// The inode that gets another name.
        target: Ino,
        name: Cow<'a, OsStr>,
    },
    Open {
        truncate: bool,
        write: bool,
    },
    Create {
        name: Cow<'a, OsStr>,
        mode: u32,
        umask: u32,
    },
    Read {
        handle: HandleId,
        offset: u64,
        /// Bytes.
        size: u32,
        /// Whether the access time shows it: the handle was opened without `O_NOATIME`.
        is_access: bool,
    },
    Write {
        handle: HandleId,
        offset: u64,
        data: Cow<'a, [u8]>,
        from: WrittenBy,
    },
    /// close(2) of one of the descriptors of an open file.
    Flush {
        handle: HandleId,
    },
    /// The last of them; the kernel waits for no answer.
    Release {
        handle: HandleId,
    },
    Fsync {
        handle: HandleId,
    },
    FsyncDir,
    ReadDir {
        cursor: u64,
    },
    ReadDirPlus {
        cursor: u64,
    },
    StatFs,
    SetXattr {
        name: Cow<'a, OsStr>,
        value: Cow<'a, [u8]>,
        flags: XattrFlags,
    },
    GetXattr {
        name: Cow<'a, OsStr>,
        /// Bytes that the caller has room for; 0 asks for the size.
        size: u32,
    },
    ListXattr {
        size: u32,
    },
    RemoveXattr {
        name: Cow<'a, OsStr>,
    },
    /// The attribute by which `kmsfs status` asks.
    Status {
        size: u32,
    },
    Fallocate {
        handle: HandleId,
        range: Range,
        /// As fallocate(2) has it.
        mode: i32,
    },
    LSeek {
        handle: HandleId,
        offset: u64,
        to: SeekTo,
    },
    CopyFileRange {
        from: Place,
        to: Place,
        len: u64,
    },
}

/// Bytes at `offset` of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub handle: HandleId,
    pub offset: u64,
}

/// Where data of a write comes from, as far as the kernel says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrittenBy {
    /// The kernel's cache: programs wrote it before, or store it through a mapping.
    Cache,
    /// A program without `CAP_FSETID`.
    Ordinary,
    /// A program with it.
    Privileged,
}

impl Request<'_> {
    /// What a thread has to be free to wait for that begins this. With `Nothing` an event loop begins it, and ends it
    /// unless it turns out on the way that it has to wait: then another thread does it from the beginning.
    pub(crate) fn waits(&self, fs: &Fs) -> Waits {
        match &self.op {
            // Each is a sync, or goes through much.
            Op::Fsync { .. } | Op::FsyncDir | Op::CopyFileRange { .. } | Op::Find | Op::FindAbove => Waits::Disk,
            Op::Fallocate { range, .. } if range.len > LONG => Waits::Disk,
            Op::LSeek { handle, offset, to } if fs.seek_takes_long(*handle, *offset, *to) => Waits::Disk,
            // Each commits what it has made, when it cannot be begun anew any more.
            Op::MkNod { mode, .. } if matches!(mode & libc::S_IFMT, 0 | libc::S_IFREG) => Waits::Disk,
            Op::Create { name, .. } if Fs::is_configuration(name) => Waits::Disk,
            // What becomes a configuration, or ceases to be one, gets another key.
            Op::Link { name, .. } if Fs::is_configuration(name) => Waits::Disk,
            Op::Rename { name, to_name, .. } if Fs::is_configuration(name) || Fs::is_configuration(to_name) => {
                Waits::Disk
            }
            Op::SetXattr { name, .. } => Fs::setting_waits(name),
            Op::GetXattr { name, .. } => Fs::getting_waits(name),
            // They may ask the KMS for data keys, or for permission to use one.
            Op::Open { .. }
            | Op::Create { .. }
            | Op::Read { .. }
            // They may append to the redo log too, and so have to wait for a checkpoint.
            | Op::MkNod { .. }
            | Op::SetAttr { .. }
            | Op::Link { .. }
            | Op::Rename { .. }
            | Op::Unlink { .. }
            | Op::RmDir { .. }
            | Op::Write { .. }
            | Op::Flush { .. }
            | Op::Fallocate { .. }
            // They may have to read through what a crash left.
            | Op::Lookup { .. }
            | Op::GetAttr { .. }
            | Op::ReadDirPlus { .. }
            // They never wait.
            | Op::RemoveXattr { .. }
            | Op::ListXattr { .. }
            | Op::Forget { .. }
            | Op::ReadLink
            | Op::MkDir { .. }
            | Op::Symlink { .. }
            | Op::Release { .. }
            | Op::ReadDir { .. }
            | Op::StatFs
            | Op::Status { .. }
            | Op::LSeek { .. } => Waits::Nothing,
        }
    }

    /// Whether the kernel has to write first what it holds of the inode: that counts as data, and it does not write it
    /// before it asks.
    pub(crate) fn is_after_write_back(&self, fs: &Fs) -> bool {
        matches!(self.op, Op::LSeek { .. }) && fs.has_writers(self.ino)
    }

    /// The same, with copies of what it borrowed.
    pub(crate) fn into_owned(self) -> Request<'static> {
        Request { ino: self.ino, caller: self.caller, op: self.op.into_owned() }
    }
}

impl Op<'_> {
    /// The name that it is about, in the directory that the request names.
    pub(crate) fn name(&self) -> Option<&OsStr> {
        match self {
            Self::Lookup { name }
            | Self::MkNod { name, .. }
            | Self::MkDir { name, .. }
            | Self::Unlink { name }
            | Self::RmDir { name }
            | Self::Symlink { name, .. }
            | Self::Rename { name, .. }
            | Self::Link { name, .. }
            | Self::Create { name, .. } => Some(name),
            _ => None,
        }
    }

    fn into_owned(self) -> Op<'static> {
        let name = |name: Cow<'_, OsStr>| Cow::Owned(name.into_owned());
        let bytes = |bytes: Cow<'_, [u8]>| Cow::Owned(bytes.into_owned());
        match self {
            Self::Lookup { name: of } => Op::Lookup { name: name(of) },
            Self::Find => Op::Find,
            Self::FindAbove => Op::FindAbove,
            Self::Forget { lookups } => Op::Forget { lookups },
            Self::GetAttr { handle } => Op::GetAttr { handle },
            Self::SetAttr { handle, changes } => Op::SetAttr { handle, changes },
            Self::ReadLink => Op::ReadLink,
            Self::MkNod { name: of, mode, umask, rdev } => Op::MkNod { name: name(of), mode, umask, rdev },
            Self::MkDir { name: of, mode, umask } => Op::MkDir { name: name(of), mode, umask },
            Self::Unlink { name: of } => Op::Unlink { name: name(of) },
            Self::RmDir { name: of } => Op::RmDir { name: name(of) },
            Self::Symlink { name: of, target } => Op::Symlink { name: name(of), target: bytes(target) },
            Self::Rename { name: of, to_parent, to_name, how } => {
                Op::Rename { name: name(of), to_parent, to_name: name(to_name), how }
            }
            Self::Link { target, name: of } => Op::Link { target, name: name(of) },
            Self::Open { truncate, write } => Op::Open { truncate, write },
            Self::Create { name: of, mode, umask } => Op::Create { name: name(of), mode, umask },
            Self::Read { handle, offset, size, is_access } => Op::Read { handle, offset, size, is_access },
            Self::Write { handle, offset, data, from } => Op::Write { handle, offset, data: bytes(data), from },
            Self::Flush { handle } => Op::Flush { handle },
            Self::Release { handle } => Op::Release { handle },
            Self::Fsync { handle } => Op::Fsync { handle },
            Self::FsyncDir => Op::FsyncDir,
            Self::ReadDir { cursor } => Op::ReadDir { cursor },
            Self::ReadDirPlus { cursor } => Op::ReadDirPlus { cursor },
            Self::StatFs => Op::StatFs,
            Self::SetXattr { name: of, value, flags } => Op::SetXattr { name: name(of), value: bytes(value), flags },
            Self::GetXattr { name: of, size } => Op::GetXattr { name: name(of), size },
            Self::ListXattr { size } => Op::ListXattr { size },
            Self::RemoveXattr { name: of } => Op::RemoveXattr { name: name(of) },
            Self::Status { size } => Op::Status { size },
            Self::Fallocate { handle, range, mode } => Op::Fallocate { handle, range, mode },
            Self::LSeek { handle, offset, to } => Op::LSeek { handle, offset, to },
            Self::CopyFileRange { from, to, len } => Op::CopyFileRange { from, to, len },
        }
    }

    /// What it is counted as; `None` for what no program asks for.
    pub fn call(&self) -> Option<Call> {
        Some(match self {
            Self::Forget { .. } | Self::Status { .. } => return None,
            Self::Lookup { .. } | Self::Find | Self::FindAbove => Call::Lookup,
            Self::GetAttr { .. } => Call::GetAttr,
            Self::SetAttr { .. } => Call::SetAttr,
            Self::ReadLink => Call::ReadLink,
            Self::MkNod { .. } => Call::MkNod,
            Self::MkDir { .. } => Call::MkDir,
            Self::Unlink { .. } => Call::Unlink,
            Self::RmDir { .. } => Call::RmDir,
            Self::Symlink { .. } => Call::Symlink,
            Self::Rename { .. } => Call::Rename,
            Self::Link { .. } => Call::Link,
            Self::Open { .. } => Call::Open,
            Self::Create { .. } => Call::Create,
            Self::Read { .. } => Call::Read,
            Self::Write { .. } => Call::Write,
            Self::Flush { .. } => Call::Close,
            Self::Release { .. } => Call::Release,
            Self::Fsync { .. } => Call::Fsync,
            Self::FsyncDir => Call::FsyncDir,
            Self::ReadDir { .. } => Call::ReadDir,
            Self::ReadDirPlus { .. } => Call::ReadDirPlus,
            Self::StatFs => Call::StatFs,
            Self::SetXattr { .. } => Call::SetXattr,
            Self::GetXattr { .. } => Call::GetXattr,
            Self::ListXattr { .. } => Call::ListXattr,
            Self::RemoveXattr { .. } => Call::RemoveXattr,
            Self::Fallocate { .. } => Call::Fallocate,
            Self::LSeek { .. } => Call::LSeek,
            Self::CopyFileRange { .. } => Call::CopyFileRange,
        })
    }
}
