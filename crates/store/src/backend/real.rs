//! A real directory, reached through descriptors only: names are looked up one component at a time and never followed.
//!
//! It is one file system: an inode number means something on the device of the root only, so what lies on another one
//! (a mount point, a btrfs subvolume) is refused with `EXDEV`.

mod create;
mod directory;
mod file;
mod modes;
mod xattr;

#[cfg(test)]
mod tests;

use super::{Backend, Dir, Metadata, Space, component};
use crate::{Ino, Time};
use directory::RealDir;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, fstat, fstatfs, fstatvfs, openat, syncfs};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

const NANOSECONDS: i64 = 1_000_000_000;

/// How directories are held: a place to look names up in, which needs no permission to read it.
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory of the host and everything below it.
#[derive(Debug)]
pub struct RealBackend {
    ground: Arc<Ground>,
}

/// What everything below a root has in common.
#[derive(Debug)]
struct Ground {
    root: OwnedFd,
    /// `st_dev` of the file system that it is on.
    device: u64,
}

impl Ground {
    /// `EXDEV` for what lies on another file system.
    fn check(&self, stat: &Stat) -> io::Result<()> {
        if stat.st_dev == self.device { Ok(()) } else { Err(Errno::XDEV.into()) }
    }
}

impl RealBackend {
    /// `path` itself may be a symlink, as whoever names it has chosen it; no name below is followed.
    pub fn open(path: &Path) -> io::Result<Arc<Self>> {
        let root = openat(CWD, path, DIRECTORY.difference(OFlags::NOFOLLOW), Mode::empty())?;
        Self::at(root)
    }

    /// A directory that is open already, with `O_PATH` at least.
    pub fn at(root: OwnedFd) -> io::Result<Arc<Self>> {
        let device = fstat(&root)?.st_dev;
        Ok(Arc::new(Self { ground: Arc::new(Ground { root, device }) }))
    }

    fn directory(&self) -> io::Result<RealDir> {
        let fd = openat(&self.ground.root, ".", DIRECTORY, Mode::empty())?;
        Ok(RealDir::new(fd, Arc::clone(&self.ground)))
    }
}

impl Backend for RealBackend {
    fn root(&self) -> io::Result<Arc<dyn Dir>> {
        Ok(Arc::new(self.directory()?))
    }

    fn put_modes_back(&self) -> io::Result<()> {
        modes::put_back(&self.directory()?)
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(syncfs(reopen_for_reading(&self.ground.root)?)?)
    }

    fn space(&self) -> io::Result<Space> {
        let found = fstatvfs(&self.ground.root)?;
        Ok(Space {
            block_size: found.f_frsize,
            blocks: found.f_blocks,
            blocks_free: found.f_bfree,
            blocks_available: found.f_bavail,
            files: found.f_files,
            files_free: found.f_ffree,
        })
    }

    fn now(&self) -> Time {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        nanoseconds(now.tv_sec, now.tv_nsec)
    }

    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)] // Of another type with musl; 32 bits are in use.
    fn is_shared(&self) -> bool {
        fstatfs(&self.ground.root).map_or(true, |found| !LOCAL.contains(&(found.f_type as u64 & 0xffff_ffff)))
    }
}

/// File systems that one kernel has for itself: ext2 to ext4, xfs, btrfs, f2fs, bcachefs, ZFS, NILFS, JFS, ReiserFS,
/// tmpfs, ramfs, overlayfs, squashfs, EROFS, ISO 9660, FAT (statfs(2), `linux/magic.h`). Whatever else there is may be
/// shared.
const LOCAL: [u64; 16] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0xf2f5_2010,
    0xca45_1a4e,
    0x2fc1_2fc1,
    0x3434,
    0x3153_464a,
    0x5265_4973,
    0x0102_1994,
    0x8584_58f6,
    0x794c_7630,
    0x7371_7368,
    0xe0f5_e1e2,
    0x9660,
    0x4d44,
];

/// Descriptors that programs' open files do not take, or a quarter of all where that is less.
const RESERVED_DESCRIPTORS: u64 = 256;

/// The kernel gives out the lowest number that is free: who gets a high one is told how many are in use.
fn has_reserved_descriptor(fd: impl AsFd) -> bool {
    static FROM: OnceLock<u64> = OnceLock::new();
    let from = *FROM.get_or_init(|| {
        let all = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        all - RESERVED_DESCRIPTORS.min(all / 4)
    });
    u64::try_from(fd.as_fd().as_raw_fd()).is_ok_and(|number| number >= from)
}

/// The directory again, for the calls that refuse an `O_PATH` descriptor.
fn reopen_for_reading(directory: impl AsFd) -> io::Result<OwnedFd> {
    Ok(openat(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The path by which the kernel reaches what a descriptor refers to, also an `O_PATH` one.
fn magic_link(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> Time {
    Time(seconds.saturating_mul(NANOSECONDS).saturating_add(nanoseconds))
}

#[allow(clippy::cast_sign_loss, clippy::cast_possible_wrap)] // the kernel's values fit: sizes are never negative
fn metadata(stat: &Stat) -> Metadata {
    Metadata {
        ino: Ino(stat.st_ino),
        mode: stat.st_mode,
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: stat.st_rdev,
        len: stat.st_size as u64,
        blocks: stat.st_blocks as u64,
        atime: nanoseconds(stat.st_atime, stat.st_atime_nsec as i64),
        mtime: nanoseconds(stat.st_mtime, stat.st_mtime_nsec as i64),
        ctime: nanoseconds(stat.st_ctime, stat.st_ctime_nsec as i64),
    }
}

fn timestamps(atime: Option<Time>, mtime: Option<Time>) -> Timestamps {
    let timespec = |time: Option<Time>| match time {
        Some(time) => Timespec { tv_sec: time.0.div_euclid(NANOSECONDS), tv_nsec: time.0.rem_euclid(NANOSECONDS) },
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    };
    Timestamps { last_access: timespec(atime), last_modification: timespec(mtime) }
}
