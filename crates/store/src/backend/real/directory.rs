//! Open directories.

use super::super::{Access, Dir, Entry, File, Metadata, NewNode, Rename, XattrFlags};
use super::create::{self, chmod_no_follow};
use super::file::RealFile;
use super::modes::{self, MODES, is_denied, open_place, with_permission};
use super::xattr::Carrier;
use super::{
    DIRECTORY, Ground, component, has_reserved_descriptor, magic_link, metadata, reopen_for_reading, timestamps,
};
use crate::{Ino, Time};
use kmsfs_sys::file_handle;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, RawDir, RenameFlags, SeekFrom};
use rustix::fs::{chmod, chownat, fstat, fsync, linkat, openat, readlinkat, renameat, renameat_with, seek, statat};
use rustix::fs::{unlinkat, utimensat};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Gid, Uid};
use std::any::Any;
use std::ffi::{CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// Bytes of entries asked for at a time: as many names as an answer with their attributes has room for. What is left
/// over is read again for the next one.
const READ_BUFFER: usize = 8 * 1024;

const SEARCH: Mode = Mode::XUSR;
const LIST: Mode = Mode::RUSR.union(Mode::XUSR);
const CHANGE: Mode = Mode::WUSR.union(Mode::XUSR);

#[derive(Debug)]
pub(super) struct RealDir {
    fd: OwnedFd,
    ground: Arc<Ground>,
}

impl RealDir {
    pub(super) fn new(fd: OwnedFd, ground: Arc<Ground>) -> Self {
        Self { fd, ground }
    }

    /// Does also what the directory's mode denies to its owner: recovery and fsck look into every directory, whatever
    /// mode its user gave it, and of whoever comes through a mount the kernel has judged the mode before.
    pub(super) fn reach<T>(&self, wanted: Mode, act: impl Fn(&OwnedFd) -> io::Result<T>) -> io::Result<T> {
        modes::reach(&self.ground, &self.fd, wanted, || act(&self.fd))
    }

    /// Does what the mode of a file or directory below may deny, as `reach` does for the directory itself.
    fn reach_name<T>(&self, name: Option<&OsStr>, wanted: Mode, act: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let (denied, name) = match (act(), name) {
            (Err(error), Some(name)) if is_denied(&error) => (error, component(name)?),
            (done, _) => return done,
        };
        let place = self.reach(SEARCH, |dir| open_place(dir, name))?;
        match FileType::from_raw_mode(fstat(&place)?.st_mode) {
            FileType::RegularFile | FileType::Directory => with_permission(&self.ground, &place, wanted, act),
            _ => Err(denied),
        }
    }

    /// The same directory, for another holder.
    pub(super) fn again(&self) -> io::Result<Self> {
        Ok(Self::new(self.fd.try_clone()?, Arc::clone(&self.ground)))
    }

    pub(super) fn below(&self, name: &OsStr) -> io::Result<Self> {
        let name = component(name)?;
        let fd = self.reach(SEARCH, |dir| Ok(openat(dir, name, DIRECTORY, Mode::empty())?))?;
        self.ground.check(&fstat(&fd)?)?;
        Ok(Self::new(fd, Arc::clone(&self.ground)))
    }
}

/// A directory of another kind of backend is on another file system.
fn same_backend(dir: &dyn Dir) -> io::Result<&RealDir> {
    dir.as_any().downcast_ref().ok_or(Errno::XDEV.into())
}

impl Dir for RealDir {
    fn has_reserved_descriptor(&self) -> bool {
        has_reserved_descriptor(&self.fd)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn metadata(&self) -> io::Result<Metadata> {
        Ok(metadata(&fstat(&self.fd)?))
    }

    fn stat(&self, name: &OsStr) -> io::Result<Metadata> {
        let name = component(name)?;
        let stat = self.reach(SEARCH, |dir| Ok(statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?))?;
        self.ground.check(&stat)?;
        Ok(metadata(&stat))
    }

    /// The CRC-32 of the file system's own handle, which differs for any two generations of 32 bits.
    fn generation(&self, name: &OsStr) -> Option<u32> {
        let name = CString::new(component(name).ok()?.as_bytes()).ok()?;
        let (kind, handle) = self.reach(SEARCH, |dir| file_handle(dir.as_fd(), &name)).ok()?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&kind.to_le_bytes());
        crc.update(&handle);
        Some(crc.finalize())
    }

    fn open_dir(&self, name: &OsStr) -> io::Result<Arc<dyn Dir>> {
        Ok(Arc::new(self.below(name)?))
    }

    fn open_file(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(self.reach(SEARCH, |dir| RealFile::open(dir, name, access, &self.ground))?))
    }

    fn read_past_caches(&self, name: &OsStr, most: usize) -> io::Result<Vec<u8>> {
        let file = self.reach(SEARCH, |dir| RealFile::open(dir, name, Access::Read, &self.ground))?;
        // Opening has asked whoever has the file whether it changed, where the file system does that; what is kept in
        // memory nevertheless is given up.
        file.forget_pages()?;
        let mut bytes = vec![0; most];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    fn create_file(&self, name: &OsStr, node: &NewNode) -> io::Result<Arc<dyn File>> {
        let file = self.reach(CHANGE, |dir| create::file(dir, name, node))?;
        Ok(Arc::new(RealFile::new(file, &self.ground)?))
    }

    fn make_dir(&self, name: &OsStr, node: &NewNode) -> io::Result<()> {
        self.reach(CHANGE, |dir| create::directory(dir, name, node))
    }

    fn make_node(&self, name: &OsStr, kind: u32, rdev: u64, node: &NewNode) -> io::Result<()> {
        self.reach(CHANGE, |dir| create::special(dir, name, kind, rdev, node))
    }

    fn make_symlink(&self, name: &OsStr, target: &[u8], node: &NewNode) -> io::Result<()> {
        self.reach(CHANGE, |dir| create::symlink(dir, name, target, node))
    }

    fn read_link(&self, name: &OsStr) -> io::Result<Vec<u8>> {
        let name = component(name)?;
        Ok(self.reach(SEARCH, |dir| Ok(readlinkat(dir, name, Vec::new())?))?.into_bytes())
    }

    fn unlink(&self, name: &OsStr) -> io::Result<()> {
        let name = component(name)?;
        self.reach(CHANGE, |dir| Ok(unlinkat(dir, name, AtFlags::empty())?))
    }

    fn remove_dir(&self, name: &OsStr) -> io::Result<()> {
        let name = component(name)?;
        self.reach(CHANGE, |dir| Ok(unlinkat(dir, name, AtFlags::REMOVEDIR)?))
    }

    fn rename(&self, name: &OsStr, to: &dyn Dir, to_name: &OsStr, how: Rename) -> io::Result<()> {
        let (target, name, to_name) = (same_backend(to)?, component(name)?, component(to_name)?);
        let rename = |from: &OwnedFd, to: &OwnedFd| {
            Ok(match how {
                Rename::Replace => renameat(from, name, to, to_name),
                Rename::NoReplace => renameat_with(from, name, to, to_name, RenameFlags::NOREPLACE),
                Rename::Exchange => renameat_with(from, name, to, to_name, RenameFlags::EXCHANGE),
                Rename::Whiteout => renameat_with(from, name, to, to_name, RenameFlags::WHITEOUT),
            }?)
        };
        self.reach(CHANGE, |from| target.reach(CHANGE, |to| rename(from, to)))
    }

    fn link(&self, name: &OsStr, to: &dyn Dir, to_name: &OsStr) -> io::Result<()> {
        let (target, name, to_name) = (same_backend(to)?, component(name)?, component(to_name)?);
        self.reach(SEARCH, |from| target.reach(CHANGE, |to| Ok(linkat(from, name, to, to_name, AtFlags::empty())?)))
    }

    fn read(&self, cursor: u64, visit: &mut dyn FnMut(Entry<'_>) -> bool) -> io::Result<()> {
        let fd = self.reach(LIST, |dir| reopen_for_reading(dir))?;
        if cursor != 0 {
            seek(&fd, SeekFrom::Start(cursor))?;
        }
        let mut buf = vec![MaybeUninit::uninit(); READ_BUFFER];
        let mut entries = RawDir::new(&fd, &mut buf);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => 0,
                known => known.as_raw_mode(),
            };
            let (name, ino, cursor) = (OsStr::from_bytes(name), Ino(entry.ino()), entry.next_entry_cookie());
            if !visit(Entry { name, ino, kind, cursor }) {
                break;
            }
        }
        Ok(())
    }

    fn read_ahead(&self, len: u64, most: usize) -> Vec<Ino> {
        let mut names = Vec::new();
        let listed = self.read(0, &mut |entry| {
            if entry.kind == libc::S_IFREG {
                names.push((entry.name.to_owned(), entry.ino));
            }
            names.len() < most
        });
        if listed.is_err() {
            return Vec::new();
        }
        names.retain(|(name, _)| RealFile::advise(&self.fd, name, len).is_ok());
        names.into_iter().map(|(_, ino)| ino).collect()
    }

    fn sync(&self) -> io::Result<()> {
        let fd = self.reach(LIST, |dir| reopen_for_reading(dir))?;
        Ok(retry_on_intr(|| fsync(&fd))?)
    }

    fn set_mode(&self, name: Option<&OsStr>, mode: u32) -> io::Result<()> {
        let _alone = MODES.lock();
        let mode = Mode::from_raw_mode(mode);
        match name {
            Some(name) => chmod_no_follow(&self.fd, name, mode),
            None => Ok(chmod(magic_link(&self.fd), mode)?),
        }
    }

    fn set_owner(&self, name: Option<&OsStr>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        Ok(match name {
            Some(name) => chownat(&self.fd, component(name)?, uid, gid, AtFlags::SYMLINK_NOFOLLOW),
            None => chownat(&self.fd, "", uid, gid, AtFlags::EMPTY_PATH),
        }?)
    }

    fn set_times(&self, name: Option<&OsStr>, atime: Option<Time>, mtime: Option<Time>) -> io::Result<()> {
        let times = timestamps(atime, mtime);
        Ok(match name {
            Some(name) => utimensat(&self.fd, component(name)?, &times, AtFlags::SYMLINK_NOFOLLOW),
            None => utimensat(CWD, magic_link(&self.fd), &times, AtFlags::empty()),
        }?)
    }

    fn get_xattr(&self, name: Option<&OsStr>, attribute: &OsStr) -> io::Result<Vec<u8>> {
        self.reach_name(name, Mode::RUSR, || self.reach(LIST, |dir| Carrier::at(dir, name)?.get(attribute)))
    }

    fn set_xattr(&self, name: Option<&OsStr>, attribute: &OsStr, value: &[u8], flags: XattrFlags) -> io::Result<()> {
        let set = || self.reach(CHANGE, |dir| Carrier::at(dir, name)?.set(attribute, value, flags));
        self.reach_name(name, Mode::WUSR, set)
    }

    fn list_xattr(&self, name: Option<&OsStr>) -> io::Result<Vec<u8>> {
        self.reach(SEARCH, |dir| Carrier::at(dir, name)?.list())
    }

    fn remove_xattr(&self, name: Option<&OsStr>, attribute: &OsStr) -> io::Result<()> {
        let remove = || self.reach(CHANGE, |dir| Carrier::at(dir, name)?.remove(attribute));
        self.reach_name(name, Mode::WUSR, remove)
    }
}
