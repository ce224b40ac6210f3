//! The only owner of the backing directory: namespace, objects, sidecars, redo log.

pub mod backend;

use crate::kms::Caller;
use crate::sse::{Algorithm, Encryption, KeyService, RequestError};
use backend::{Backend, NewNode, Rename, Space, XattrFlags};
use std::ffi::OsStr;
use std::sync::Arc;

/// A directory of the mount, held open in the backing store (one descriptor). `Store::root` is the one of buckets.
pub struct Dir {/* private */}

impl Dir {
    pub fn ino(&self) -> u64 {
        todo!()
    }
    /// Name of the bucket that the directory is or lies in; `None` at the root.
    pub fn bucket(&self) -> Option<&str> {
        todo!()
    }
}

/// What stat(2) shows of a name or an object: the backing inode's, with plaintext lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    pub ino: u64,
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    /// Plaintext length; of a symlink, its target's.
    pub size: u64,
    pub blocks: u64,
    /// Nanoseconds since 1970, here and below.
    pub atime: i64,
    pub mtime: i64,
    pub ctime: i64,
}

/// What HeadObject says about an object's encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEncryption {
    pub algorithm: Algorithm,
    /// Full ARN; `None` for AES256.
    pub key_arn: Option<String>,
    pub bucket_key: bool,
}

/// Changes to an inode's attributes; `None` leaves one as it is. Times in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetAttr {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub atime: Option<i64>,
    pub mtime: Option<i64>,
}

/// Where an inode is reached for an operation on its attributes: the object where it is open (it may have no name any
/// more), else a name in a directory, or a directory itself.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    Object(&'a Arc<Object>),
    Name(&'a Dir, &'a OsStr),
    Dir(&'a Dir),
}

pub enum SeekTo {
    Data,
    Hole,
}

/// A store that is open; all clones of the `Arc` share it. Every method is safe to call from several threads.
pub struct Store {/* private */}

pub struct StoreOptions {
    pub read_only: bool,
}

impl Store {
    /// Recovers the redo log, then serves. `EBUSY`-like error naming the pid if another process has it open.
    pub fn open(
        _backend: Arc<dyn Backend>,
        _keys: Arc<KeyService>,
        _options: StoreOptions,
    ) -> Result<Arc<Self>, Error> {
        todo!()
    }
    /// Checkpoints and marks the store as cleanly closed. Objects that are still open are committed.
    pub fn close(&self) -> Result<(), Error> {
        todo!()
    }
    pub fn root(&self) -> &Arc<Dir> {
        todo!()
    }
    pub fn space(&self) -> Result<Space, Error> {
        todo!()
    }
    /// Commits everything, writes the log home, makes all of it durable.
    pub fn checkpoint(&self) -> Result<(), Error> {
        todo!()
    }
    /// Commits what was modified (the mount calls it every five seconds).
    pub fn commit_all(&self) {
        todo!()
    }

    // ---- names
    pub fn stat(&self, _at: Target<'_>) -> Result<Attr, Error> {
        todo!()
    }
    pub fn open_dir(&self, _parent: &Dir, _name: &OsStr) -> Result<Arc<Dir>, Error> {
        todo!()
    }
    /// As `backend::Dir::read`; entries that are the store's own are left out. `kind` is the `S_IFMT` part.
    pub fn read_dir(
        &self,
        _dir: &Dir,
        _cursor: u64,
        _visit: &mut dyn FnMut(backend::Entry<'_>) -> bool,
    ) -> Result<(), Error> {
        todo!()
    }
    /// At the root: makes a bucket with its record. (Whether the name is a bucket name is checked by the caller.)
    pub fn make_dir(&self, _dir: &Dir, _name: &OsStr, _node: &NewNode) -> Result<Attr, Error> {
        todo!()
    }
    pub fn remove_dir(&self, _dir: &Dir, _name: &OsStr) -> Result<(), Error> {
        todo!()
    }
    pub fn make_node(&self, _dir: &Dir, _name: &OsStr, _kind: u32, _rdev: u64, _node: &NewNode) -> Result<Attr, Error> {
        todo!()
    }
    pub fn make_symlink(&self, _dir: &Dir, _name: &OsStr, _target: &[u8], _node: &NewNode) -> Result<Attr, Error> {
        todo!()
    }
    pub fn read_link(&self, _dir: &Dir, _name: &OsStr) -> Result<Vec<u8>, Error> {
        todo!()
    }
    pub fn unlink(&self, _dir: &Dir, _name: &OsStr) -> Result<(), Error> {
        todo!()
    }
    /// Within one bucket (the caller has checked). Renaming over an object makes the source durable first.
    pub fn rename(&self, _from: &Dir, _name: &OsStr, _to: &Dir, _to_name: &OsStr, _how: Rename) -> Result<(), Error> {
        todo!()
    }
    pub fn link(&self, _from: &Dir, _name: &OsStr, _to: &Dir, _to_name: &OsStr) -> Result<Attr, Error> {
        todo!()
    }
    pub fn fsync_dir(&self, _dir: &Dir) -> Result<(), Error> {
        todo!()
    }

    // ---- attributes
    pub fn set_attr(&self, _at: Target<'_>, _changes: &SetAttr) -> Result<Attr, Error> {
        todo!()
    }
    /// `user.*` values are stored encrypted, others as they are. Names are the full ones (`user.mime_type`).
    pub fn get_xattr(&self, _at: Target<'_>, _name: &OsStr) -> Result<Vec<u8>, Error> {
        todo!()
    }
    pub fn set_xattr(&self, _at: Target<'_>, _name: &OsStr, _value: &[u8], _flags: XattrFlags) -> Result<(), Error> {
        todo!()
    }
    /// Names, each ended by a NUL byte.
    pub fn list_xattr(&self, _at: Target<'_>) -> Result<Vec<u8>, Error> {
        todo!()
    }
    pub fn remove_xattr(&self, _at: Target<'_>, _name: &OsStr) -> Result<(), Error> {
        todo!()
    }

    // ---- objects
    /// Makes an object and opens it. `key` is its S3 key (path below the bucket). On an error nothing is left behind.
    pub fn create(
        &self,
        _dir: &Dir,
        _name: &OsStr,
        _node: &NewNode,
        _want: &Encryption,
        _key: &str,
        _caller: &Caller,
    ) -> Result<(Arc<Object>, Attr), Error> {
        todo!()
    }
    /// Opens an object: asks for its data key every time, on behalf of the caller. Each success wants one `release`.
    pub fn open_object(&self, _dir: &Dir, _name: &OsStr, _caller: &Caller) -> Result<Arc<Object>, Error> {
        todo!()
    }
    /// Opens an object for O_TRUNC: as `open_object` and `truncate(0)`; one that cannot be read gets a new id and key
    /// as `want` says, and is empty then.
    pub fn open_truncated(
        &self,
        _dir: &Dir,
        _name: &OsStr,
        _want: &Encryption,
        _key: &str,
        _caller: &Caller,
    ) -> Result<Arc<Object>, Error> {
        todo!()
    }
    /// One handle more on an object that is open already (after the same question to the KMS).
    pub fn reopen(&self, _object: &Arc<Object>, _caller: &Caller) -> Result<(), Error> {
        todo!()
    }
    pub fn release(&self, _object: &Arc<Object>) {
        todo!()
    }
    /// Wraps the data key under another KMS key; content, ETag and mtime stay. Commits. An object without content may
    /// change to any algorithm, one with content from AES256 or aws:kms to aws:kms only (`Error::NeedsReencryption`).
    pub fn rewrap(&self, _object: &Arc<Object>, _want: &Encryption, _key: &str, _caller: &Caller) -> Result<(), Error> {
        todo!()
    }
}

/// An object that is open, or has something in the redo log.
pub struct Object {/* private */}

impl Object {
    pub fn ino(&self) -> u64 {
        todo!()
    }
    pub fn attr(&self) -> Result<Attr, Error> {
        todo!()
    }
    /// Bytes read; fewer than asked for only at the end.
    pub fn read(&self, _offset: u64, _buf: &mut [u8]) -> Result<usize, Error> {
        todo!()
    }
    pub fn write(&self, _offset: u64, _data: &[u8]) -> Result<(), Error> {
        todo!()
    }
    pub fn truncate(&self, _len: u64) -> Result<(), Error> {
        todo!()
    }
    /// Zeros in `offset..offset + len`, within the present length; whole chunks become holes.
    pub fn punch(&self, _offset: u64, _len: u64) -> Result<(), Error> {
        todo!()
    }
    /// Reserves backing space for that plaintext range; changes no length.
    pub fn allocate(&self, _offset: u64, _len: u64) -> Result<(), Error> {
        todo!()
    }
    /// `ENXIO` past the end, as lseek(2).
    pub fn seek(&self, _offset: u64, _to: SeekTo) -> Result<u64, Error> {
        todo!()
    }
    /// What close(2) does: seals the present state, syncs nothing.
    pub fn commit(&self) -> Result<(), Error> {
        todo!()
    }
    pub fn fsync(&self) -> Result<(), Error> {
        todo!()
    }
    pub fn encryption(&self) -> ObjectEncryption {
        todo!()
    }
    /// Of the committed state, without quotes; commits first. An MD5 only where `set_content_md5` gave one and the
    /// content is still the same.
    pub fn etag(&self) -> Result<String, Error> {
        todo!()
    }
    pub fn set_content_md5(&self, _md5: [u8; 16]) -> Result<(), Error> {
        todo!()
    }
}

#[derive(Debug)]
pub enum Error {
    /// The backing file system's errno, or the store's own where POSIX names one (ENOENT, EEXIST, ENXIO, ...).
    Errno(i32),
    /// EIO: something is not what was sealed. The text names the path or object, the place and the finding.
    Corrupt(String),
    /// The KMS or the request was refused.
    Sse(RequestError),
    /// The change needs a new data key for an object that has content.
    NeedsReencryption,
    /// The store cannot be opened: what and why, for standard error.
    Unusable(String),
    /// EROFS: the store was mounted read-only, or became so.
    ReadOnly,
}
