//! Open files, and how they are opened.

use super::super::{Access, File, Metadata, XattrFlags};
use super::modes::{self, MODES, open_place, with_permission};
use super::xattr::Carrier;
use super::{Ground, component, has_reserved_descriptor, magic_link, metadata, timestamps};
use crate::{Ino, Time};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Advice, CWD, FallocateFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::fs::{SeekFrom, fcntl_getfl, fcntl_setfl, seek};
use rustix::fs::{fadvise, fallocate, fchmod, fchown, fdatasync, flock, fstat, fsync, ftruncate, futimens, openat};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};
use rustix::process::{Gid, Uid, geteuid};
use std::ffi::OsStr;
use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;

/// `O_NONBLOCK`: opening must not wait for the other end of a FIFO that somebody put there.
pub(super) const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// A regular file; closing the descriptor drops its lock.
#[derive(Debug)]
pub(super) struct RealFile {
    fd: OwnedFd,
    ground: Arc<Ground>,
    ino: Ino,
}

impl RealFile {
    /// `EINVAL` if it is not a regular file, `EXDEV` if it is on another file system.
    pub(super) fn new(fd: OwnedFd, ground: &Arc<Ground>) -> io::Result<Self> {
        let stat = fstat(&fd)?;
        ground.check(&stat)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL.into());
        }
        Ok(Self { fd, ground: Arc::clone(ground), ino: Ino(stat.st_ino) })
    }

    pub(super) fn open(directory: &OwnedFd, name: &OsStr, access: Access, ground: &Arc<Ground>) -> io::Result<Self> {
        let name = component(name)?;
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::ReadWrite => OFlags::RDWR,
        };
        let fd = match open_without_atime(directory, name, flags | FILE) {
            // A symlink, a directory, a socket or a device without a driver: not a regular file.
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::NODEV) => return Err(Errno::INVAL.into()),
            Err(Errno::ACCESS) => open_against_mode(ground, directory, name, flags)?,
            opened => opened?,
        };
        Self::new(fd, ground)
    }

    /// An attribute, also where the mode denies it, which the kernel asks about at each call.
    fn reach<T>(&self, wanted: Mode, act: impl Fn(Carrier<'_>) -> io::Result<T>) -> io::Result<T> {
        modes::reach(&self.ground, &self.fd, wanted, || act(Carrier::File(&self.fd)))
    }

    /// Has the kernel drop what it keeps of the content and has not to write.
    pub(super) fn forget_pages(&self) -> io::Result<()> {
        Ok(fadvise(&self.fd, 0, None, Advice::DontNeed)?)
    }

    /// That somebody is about to read the first `len` bytes.
    pub(super) fn advise(directory: &OwnedFd, name: &OsStr, len: u64) -> io::Result<()> {
        let fd = open_without_atime(directory, name, OFlags::RDONLY | FILE)?;
        Ok(fadvise(&fd, 0, NonZeroU64::new(len), Advice::WillNeed)?)
    }
}

/// `O_NOATIME` is for the file's owner and the privileged only.
fn open_without_atime(directory: impl AsFd, path: &OsStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let directory = directory.as_fd();
    match retry_on_intr(|| openat(directory, path, flags | OFlags::NOATIME, Mode::empty())) {
        Err(Errno::PERM) => retry_on_intr(|| openat(directory, path, flags, Mode::empty())),
        opened => opened,
    }
}

/// Opens a file of ours whose mode denies it to us.
fn open_against_mode(ground: &Ground, directory: &OwnedFd, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    let place = open_place(directory, name)?;
    if FileType::from_raw_mode(fstat(&place)?.st_mode) != FileType::RegularFile {
        return Err(Errno::ACCESS.into());
    }
    let path = magic_link(&place);
    let flags = flags | FILE.difference(OFlags::NOFOLLOW);
    with_permission(ground, &place, Mode::RUSR | Mode::WUSR, || Ok(open_without_atime(CWD, path.as_ref(), flags)?))
}

/// The kernel takes set-id bits away when somebody without `CAP_FSETID` changes content; here it is the daemon that
/// does, at times of its own, and what users see has to stay.
fn keeping_mode<T>(fd: &OwnedFd, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    const SET_ID: u32 = 0o6000;
    if geteuid().is_root() || fstat(fd)?.st_mode & SET_ID == 0 {
        return change();
    }
    let _alone = MODES.lock();
    let before = fstat(fd)?.st_mode;
    let changed = change();
    if fstat(fd)?.st_mode != before {
        fchmod(fd, Mode::from_raw_mode(before))?;
    }
    changed
}

impl File for RealFile {
    fn has_reserved_descriptor(&self) -> bool {
        has_reserved_descriptor(&self.fd)
    }

    fn ino(&self) -> Ino {
        self.ino
    }

    fn metadata(&self) -> io::Result<Metadata> {
        Ok(metadata(&fstat(&self.fd)?))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match retry_on_intr(|| pread(&self.fd, &mut buf[done..], offset + done as u64))? {
                0 => break,
                read => done += read,
            }
        }
        Ok(done)
    }

    /// The file's position is used for nothing else.
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        match seek(&self.fd, SeekFrom::Data(offset)) {
            Ok(data) => Ok(Some(data)),
            Err(Errno::NXIO) => Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok((offset < self.metadata()?.len).then_some(offset)),
            Err(error) => Err(error.into()),
        }
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        keeping_mode(&self.fd, || {
            let mut done = 0;
            while done < data.len() {
                match retry_on_intr(|| pwrite(&self.fd, &data[done..], offset + done as u64))? {
                    0 => return Err(Errno::IO.into()),
                    written => done += written,
                }
            }
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        keeping_mode(&self.fd, || Ok(retry_on_intr(|| ftruncate(&self.fd, len))?))
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let keep = FallocateFlags::KEEP_SIZE;
        keeping_mode(&self.fd, || Ok(retry_on_intr(|| fallocate(&self.fd, keep, offset, len))?))
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        keeping_mode(&self.fd, || Ok(retry_on_intr(|| fallocate(&self.fd, flags, offset, len))?))
    }

    fn sync(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| fsync(&self.fd))?)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| fdatasync(&self.fd))?)
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        let _alone = MODES.lock();
        Ok(fchmod(&self.fd, Mode::from_raw_mode(mode))?)
    }

    fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        Ok(fchown(&self.fd, uid.map(Uid::from_raw), gid.map(Gid::from_raw))?)
    }

    fn set_times(&self, atime: Option<Time>, mtime: Option<Time>) -> io::Result<()> {
        Ok(futimens(&self.fd, &timestamps(atime, mtime))?)
    }

    fn get_xattr(&self, attribute: &OsStr) -> io::Result<Vec<u8>> {
        self.reach(Mode::RUSR, |file| file.get(attribute))
    }

    fn set_xattr(&self, attribute: &OsStr, value: &[u8], flags: XattrFlags) -> io::Result<()> {
        self.reach(Mode::WUSR, |file| file.set(attribute, value, flags))
    }

    fn list_xattr(&self) -> io::Result<Vec<u8>> {
        Carrier::File(&self.fd).list()
    }

    fn remove_xattr(&self, attribute: &OsStr) -> io::Result<()> {
        self.reach(Mode::WUSR, |file| file.remove(attribute))
    }

    /// One byte is read without `O_NOATIME`, and the kernel does as its mount says.
    fn accessed(&self) -> io::Result<()> {
        let flags = fcntl_getfl(&self.fd)?;
        if !flags.contains(OFlags::NOATIME) {
            return Ok(());
        }
        fcntl_setfl(&self.fd, flags.difference(OFlags::NOATIME))?;
        let read = pread(&self.fd, &mut [0; 1], 0);
        fcntl_setfl(&self.fd, flags)?;
        read?;
        Ok(())
    }

    /// The file's position, which no reading or writing uses, can be set to what a file's length can be: found by
    /// halving.
    fn max_len(&self) -> u64 {
        let can_be = |len: u64| seek(&self.fd, SeekFrom::Start(len)).is_ok();
        let (mut least, mut most) = (0, i64::MAX as u64);
        if can_be(most) {
            return most;
        }
        while most - least > 1 {
            let middle = least + (most - least) / 2;
            if can_be(middle) {
                least = middle;
            } else {
                most = middle;
            }
        }
        least
    }

    fn try_lock(&self, exclusive: bool) -> io::Result<()> {
        let how =
            if exclusive { FlockOperation::NonBlockingLockExclusive } else { FlockOperation::NonBlockingLockShared };
        Ok(flock(&self.fd, how)?)
    }
}
