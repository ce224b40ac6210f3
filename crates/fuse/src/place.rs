//! One mount, told from everything else that is, was or will be mounted at the same place.

use super::mount::TYPE;
use super::mountinfo::{Mount, mounted_at};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, UnmountFlags, fsconfig_create, fsmount, fsopen, unmount,
};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Read-ahead of the mount: the kernel offers 128 KiB whatever INIT asks for, and a request can be 1 MiB.
const READ_AHEAD_KIB: u32 = 1024;
/// Where the file system of the kernel's connections is usually mounted.
pub(super) const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// Where something is mounted, and that it is ours: somebody else may mount there once it is gone.
#[derive(Clone)]
pub struct Place {
    /// The directory that it is mounted on.
    pub mountpoint: PathBuf,
    id: u64,
    /// Another one, which is never used again, where the kernel has it (Linux 6.8).
    unique: Option<u64>,
    /// Major and minor number of the mounted file system.
    device: (u32, u32),
}

impl Place {
    /// What is mounted right there, on top. `ENODEV` if that is no kmsfs.
    pub fn at(mountpoint: &Path) -> io::Result<Self> {
        match mounted_at(mountpoint)? {
            Some(Mount { id, device, kind, .. }) if kind == TYPE => {
                Ok(Self { mountpoint: mountpoint.to_owned(), id, unique: unique_id(mountpoint), device })
            }
            _ => Err(io::Error::from_raw_os_error(libc::ENODEV)),
        }
    }

    fn is_mounted(&self) -> bool {
        let is_it = |mount: Mount| (mount.id, mount.device) == (self.id, self.device);
        mounted_at(&self.mountpoint).is_ok_and(|mount| mount.is_some_and(is_it))
            && unique_id(&self.mountpoint) == self.unique
    }

    /// Whether a file or directory lies in it.
    pub fn holds(&self, file: impl AsFd) -> io::Result<bool> {
        let how = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        Ok(statx(file, "", how, StatxFlags::MNT_ID)?.stx_mnt_id == self.id)
    }

    /// Unmounts, lazily if it is busy or so told. Does nothing if it is not mounted any more.
    pub fn unmount(&self, lazily: bool) -> io::Result<()> {
        if lazily || (self.is_mounted() && unmount(&self.mountpoint, UnmountFlags::NOFOLLOW).is_err()) {
            return self.unmount_lazily();
        }
        Ok(())
    }

    /// Unmounts if nobody uses the mount, `EBUSY` otherwise.
    pub fn unmount_unless_busy(&self) -> io::Result<()> {
        if !self.is_mounted() {
            return Ok(());
        }
        match unmount(&self.mountpoint, UnmountFlags::NOFOLLOW) {
            // Not root: fusermount3 asks the same of the kernel.
            Err(rustix::io::Errno::PERM) => fusermount(&["-u", "-q"], &self.mountpoint),
            done => Ok(done?),
        }
    }

    fn unmount_lazily(&self) -> io::Result<()> {
        if !self.is_mounted() || unmount(&self.mountpoint, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {
            return Ok(());
        }
        fusermount(&["-uz"], &self.mountpoint)
    }

    /// Ends the kernel's connection to whoever serves it: all who wait in the mount get an error. It stays mounted.
    /// Does nothing if it is not mounted any more.
    ///
    /// # Errors
    /// The caller may not do it, or does not see the kernel's connections.
    pub fn abort(&self) -> io::Result<()> {
        if !self.is_mounted() {
            return Ok(());
        }
        match self.open_abort().and_then(|mut abort| abort.write_all(b"1")) {
            // It has gone meanwhile.
            Err(_) if !self.is_mounted() => Ok(()),
            ended => ended,
        }
    }

    /// The file by which the connection is ended. Where the file system of connections is not mounted, a mount of it
    /// that nobody else sees.
    pub(super) fn open_abort(&self) -> io::Result<File> {
        // The kernel names it by the whole number of the device, of which there is only the minor part.
        let name = format!("{}/abort", self.device.1);
        if let Ok(found) = fs::OpenOptions::new().write(true).open(Path::new(CONNECTIONS).join(&name)) {
            return Ok(found);
        }
        let context = fsopen("fusectl", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(context.as_fd())?;
        let connections = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        Ok(openat(connections, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?.into())
    }

    /// Where it is permitted; otherwise the mount is slower and nothing else.
    pub(super) fn raise_read_ahead(&self) {
        let (major, minor) = self.device;
        let _ = fs::write(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"), READ_AHEAD_KIB.to_string());
    }
}

/// Asked of the kernel alone, whoever serves it.
fn unique_id(mountpoint: &Path) -> Option<u64> {
    const STATX_MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
    let how = AtFlags::STATX_DONT_SYNC | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let found = statx(CWD, mountpoint, how, STATX_MNT_ID_UNIQUE).ok()?;
    (found.stx_mask & STATX_MNT_ID_UNIQUE.bits() != 0).then_some(found.stx_mnt_id)
}

fn fusermount(words: &[&str], mountpoint: &Path) -> io::Result<()> {
    let done = Command::new("fusermount3").args(words).arg("--").arg(mountpoint).stdin(Stdio::null()).status()?;
    if done.success() { Ok(()) } else { Err(io::Error::other(format!("fusermount3 {} failed", words.join(" ")))) }
}
