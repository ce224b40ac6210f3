//! Buckets and keys as directories and files, walked from a descriptor of the mount's root. No symlink is followed, no
//! other mount is entered, and no path leads upwards.

use crate::directories::{self, Origin};
use crate::locks::{Lock, Locks, Mutual};
use crate::names::Cache;
use crate::{refusals, withdrawn};
use kmsfs_s3::{Code, Error, ObjectKey, Timestamp};
use kmsfs_sse::BucketName;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags, mkdirat, openat2, statx};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Times that a directory is made again which others remove at the same time.
const TRIES: usize = 64;
/// No object has this key.
const NO_KEY: &str = "";
const HERE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// The root of a mount.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
    locks: Arc<Locks>,
    pub(crate) names: Arc<Cache>,
}

/// A bucket that is there. Its descriptor is for walking alone.
#[derive(Debug)]
pub(crate) struct Bucket {
    dir: OwnedFd,
    name: BucketName,
    locks: Arc<Locks>,
    names: Arc<Cache>,
}

/// The directory of a key, open for reading, and the key's own name in it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) dir: OwnedFd,
    pub(crate) name: String,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    /// A symlink or a special file: no object.
    Other,
}

/// What statx(2) says of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) ino: u64,
    pub(crate) size: u64,
    /// Nanoseconds since 1970, as below.
    pub(crate) mtime: i128,
    pub(crate) ctime: i128,
}

impl Status {
    /// Whether it belongs to the user as whom this process uses files.
    pub(crate) fn is_own(&self) -> bool {
        self.uid == kmsfs_sys::file_user()
    }

    pub(crate) fn modified(&self) -> Timestamp {
        Timestamp::from_unix(self.mtime.div_euclid(1_000_000_000) as i64)
    }
}

impl Tree {
    pub(crate) fn open(mountpoint: &Path, locks: Locks) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(mountpoint, flags, Mode::empty())?;
        Ok(Self { root, locks: Arc::new(locks), names: Arc::default() })
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// For reading and syncing it.
    pub(crate) fn open_root(&self) -> Result<OwnedFd, Error> {
        open_dir(self.root())
    }

    /// Of a bucket's name, against others who make or delete one.
    ///
    /// # Errors
    /// `SlowDown`: it was not to be had. The request was withdrawn.
    pub(crate) fn lock_bucket(&self, name: &str) -> Result<Lock, Error> {
        let lock = self.locks.lock(name, NO_KEY, Mutual::Exclusive)?;
        withdrawn::check().map(|()| lock)
    }

    /// The same, if it is to be had at once.
    pub(crate) fn try_lock_bucket(&self, name: &str) -> Result<Option<Lock>, Error> {
        self.locks.try_lock(name, NO_KEY, Mutual::Exclusive)
    }

    /// # Errors
    /// `NoSuchBucket`, or that the user may not reach it.
    pub(crate) fn bucket(&self, name: &BucketName) -> Result<Bucket, Error> {
        let found = open_beneath(&self.root, Path::new(name.as_str()), OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        match found {
            Ok(dir) => {
                let (locks, names) = (Arc::clone(&self.locks), Arc::clone(&self.names));
                Ok(Bucket { dir, name: name.clone(), locks, names })
            }
            Err(error) if is_absent(&error) => Err(no_such_bucket(name)),
            Err(error) => Err(refusals::of_call(&error)),
        }
    }
}

impl Bucket {
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Of its directories, as lists have read them.
    pub(crate) fn names(&self) -> &Cache {
        &self.names
    }

    /// Something in this directory has got another name, or none: no list goes on from what was there before.
    pub(crate) fn has_changed(&self, dir: impl AsFd) {
        // Its number is known, and the mount is not asked.
        let how = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        if let Ok(found) = statx(dir.as_fd(), "", how, StatxFlags::INO) {
            self.names.forget(found.stx_ino);
        }
    }

    /// For reading and syncing it.
    pub(crate) fn open(&self) -> Result<OwnedFd, Error> {
        open_dir(self.dir())
    }

    /// Of one key, to change what has it. An operation holds one at a time.
    ///
    /// # Errors
    /// `SlowDown`: it was not to be had. The request was withdrawn.
    pub(crate) fn lock(&self, key: &str, how: Mutual) -> Result<Lock, Error> {
        let lock = self.locks.lock(self.name.as_str(), key, how)?;
        withdrawn::check().map(|()| lock)
    }

    /// The same, if it is to be had at once.
    pub(crate) fn try_lock(&self, key: &str, how: Mutual) -> Result<Option<Lock>, Error> {
        self.locks.try_lock(self.name.as_str(), key, how)
    }

    /// To be held while something is made in it: it is not deleted meanwhile.
    ///
    /// # Errors
    /// `SlowDown`: it was not to be had. `ServiceUnavailable`: a deletion of the bucket that was cut off has left its
    /// default encryption away, which its owner or root puts back.
    pub(crate) fn keep(&self) -> Result<Lock, Error> {
        let lock = self.locks.lock(self.name.as_str(), NO_KEY, Mutual::Shared)?;
        match directories::origin(&proc_path(&self.dir)) {
            Ok(Some(Origin { away: Some(_), .. })) => Err(Error::new(Code::ServiceUnavailable).saying(
                "The deletion of this bucket was cut off. Its default encryption is not back yet. Please try again.",
            )),
            // Whoever may write in it and not read it is not told.
            _ => Ok(lock),
        }
    }

    /// What has the key's path, for looking at; `None` where nothing has.
    pub(crate) fn find(&self, key: &ObjectKey) -> Result<Option<OwnedFd>, Error> {
        absent(open_beneath(&self.dir, &path_of(key), OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()))
    }

    /// The directory that a key is in; `None` where there is none.
    pub(crate) fn place(&self, key: &ObjectKey) -> Result<Option<Place>, Error> {
        let found = self.open_parent(key);
        Ok(absent(found)?.map(|dir| Place { dir, name: name_of(key) }))
    }

    /// The same; directories that are missing on the way are made, and marked as made by S3. What is made is durable.
    ///
    /// # Errors
    /// An object is in the way, or the user may not make them.
    pub(crate) fn make_place(&self, key: &ObjectKey) -> Result<Place, Error> {
        for _ in 0..TRIES {
            match self.open_parent(key) {
                Ok(dir) => return Ok(Place { dir, name: name_of(key) }),
                Err(error) if is_gone(&error) => self.make_parents(key)?,
                Err(error) => return Err(in_the_way(key, &error)),
            }
        }
        Err(Error::new(Code::SlowDown))
    }

    fn open_parent(&self, key: &ObjectKey) -> io::Result<OwnedFd> {
        open_beneath(&self.dir, &parent_of(key), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// One missing directory after the other; somebody may remove one meanwhile, which the caller sees.
    fn make_parents(&self, key: &ObjectKey) -> Result<(), Error> {
        let names: Vec<&str> = key.segments().collect();
        let mut dir = self.open()?;
        for name in &names[..names.len() - 1] {
            let made = match mkdirat(&dir, *name, Mode::from_raw_mode(0o777)) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(Errno::NOENT | Errno::STALE) => return Ok(()),
                Err(errno) => return Err(refusals::of_errno(errno)),
            };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let next = match open_beneath(&dir, Path::new(name), flags, Mode::empty()) {
                Ok(next) => next,
                Err(error) if is_gone(&error) => return Ok(()),
                Err(error) => return Err(in_the_way(key, &error)),
            };
            if made {
                self.has_changed(&dir);
                match mark_as_made(&next).and_then(|()| Ok(rustix::fs::fsync(&dir)?)) {
                    Ok(()) => {}
                    Err(error) if is_gone(&error) => return Ok(()),
                    Err(error) => return Err(refusals::of_call(&error)),
                }
            }
            dir = next;
        }
        Ok(())
    }

    /// Removes the directories on the way to a key that S3 made and that are empty now, the nearest first. What cannot
    /// be removed stays, and everything above it.
    pub(crate) fn tidy(&self, key: &ObjectKey) {
        let names: Vec<&str> = key.segments().collect();
        for depth in (1..names.len()).rev() {
            let (above, name) = (names[..depth - 1].join("/"), names[depth - 1]);
            let above = if above.is_empty() { "." } else { &above };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let Ok(above) = open_beneath(&self.dir, Path::new(above), flags, Mode::empty()) else { return };
            let path = proc_path(&above).join(name);
            // Against a marker that is put in just this moment; of a request that was withdrawn too.
            let marker = format!("{}/", names[..depth].join("/"));
            let Ok(_lock) = self.locks.lock(self.name.as_str(), &marker, Mutual::Exclusive) else { return };
            if !directories::origin(&path).is_ok_and(|origin| origin.is_some_and(|origin| origin.marker.is_none())) {
                return;
            }
            if rustix::fs::unlinkat(&above, name, AtFlags::REMOVEDIR).is_err() {
                return;
            }
            self.has_changed(&above);
            // It was empty, so that nothing is lost where this fails.
            let _ = rustix::fs::fsync(&above);
        }
    }
}

/// What was opened need not be what was made a moment ago: whoever owns the directory above may have put another one of
/// the name there. One of somebody else's, and one that S3 knows already, stay as they are.
fn mark_as_made(dir: &OwnedFd) -> io::Result<()> {
    let path = proc_path(dir);
    if status(dir)?.is_own() && directories::origin(&path)?.is_none() {
        directories::mark(&path, &Origin::implicit())?;
    }
    Ok(())
}

fn open_dir(dir: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    open_beneath(dir, Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
        .map_err(|error| refusals::of_call(&error))
}

/// By one openat2(2).
///
/// # Errors
/// What that returns; ELOOP for a symlink on the way, EXDEV where the path leads to another file system.
pub(crate) fn open_beneath(at: impl AsFd, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    loop {
        match openat2(at.as_fd(), path, flags | OFlags::CLOEXEC, mode, HERE) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            done => return Ok(done?),
        }
    }
}

/// The names in a directory, in no order.
pub(crate) fn names_in(dir: &OwnedFd) -> Result<Vec<OsString>, Error> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir).map_err(refusals::of_errno)? {
        let name = OsStr::from_bytes(entry.map_err(refusals::of_errno)?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// An open inode by a path that any call takes, those for extended attributes among them.
pub(crate) fn proc_path(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

pub(crate) fn status(fd: impl AsFd) -> io::Result<Status> {
    status_at(fd, OsStr::new(""))
}

/// Of a name in a directory, or of the descriptor itself where the name is empty.
pub(crate) fn status_at(dir: impl AsFd, name: &OsStr) -> io::Result<Status> {
    let how = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let found = statx(dir.as_fd(), name, how, StatxFlags::BASIC_STATS)?;
    let nanoseconds =
        |time: rustix::fs::StatxTimestamp| i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    let mode = u32::from(found.stx_mode);
    let kind = match mode & libc::S_IFMT {
        libc::S_IFREG => Kind::File,
        libc::S_IFDIR => Kind::Directory,
        _ => Kind::Other,
    };
    let (mtime, ctime) = (nanoseconds(found.stx_mtime), nanoseconds(found.stx_ctime));
    let (uid, ino, size) = (found.stx_uid, found.stx_ino, found.stx_size);
    Ok(Status { kind, mode: mode & 0o7777, uid, ino, size, mtime, ctime })
}

pub(crate) fn no_such_bucket(name: &BucketName) -> Error {
    Error::new(Code::NoSuchBucket).with("BucketName", name.as_str())
}

/// A key cannot be there since another object has a part of its path for its own.
pub(crate) fn in_the_way(key: &ObjectKey, error: &io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOTDIR | libc::ELOOP | libc::EXDEV) => {
            conflict(key, "a part of its path is an object, and a file cannot be a directory too")
        }
        _ => refusals::of_call(error),
    }
}

/// The key would be an object and a prefix of others at once, for which S3 has no code.
pub(crate) fn conflict(key: &ObjectKey, why: &str) -> Error {
    Error::new(Code::InvalidRequest).saying(format!("The key cannot be a path here: {why}.")).with("Key", key.as_str())
}

/// It was there, or a directory on the way to it was, and is there no more.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE))
}

/// Nothing is there: neither the name nor, where a file is on the way, a directory that could have it.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    is_gone(error) || matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP | libc::EXDEV))
}

fn absent<T>(found: io::Result<T>) -> Result<Option<T>, Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(refusals::of_call(&error)),
    }
}

fn path_of(key: &ObjectKey) -> PathBuf {
    Path::new(OsStr::from_bytes(key.as_str().as_bytes())).to_owned()
}

fn parent_of(key: &ObjectKey) -> PathBuf {
    let path = key.as_str().strip_suffix('/').unwrap_or(key.as_str());
    path.rsplit_once('/').map_or(PathBuf::from("."), |(parent, _)| PathBuf::from(parent))
}

fn name_of(key: &ObjectKey) -> String {
    key.segments().next_back().unwrap_or_default().to_owned()
}
