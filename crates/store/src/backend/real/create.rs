//! Making things: mode, umask and owner as the caller of the mount would have got them.

use super::super::NewNode;
use super::{component, file::FILE, magic_link};
use kmsfs_sys::unshare_umask;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::fs::{chmod, chownat, fstat, mkdirat, mknodat, openat, statat, symlinkat, unlinkat};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Gid, Uid, getegid, geteuid, umask};
use std::cell::Cell;
use std::ffi::OsStr;
use std::io;

const SET_ID: u32 = 0o6000;

pub(super) fn file(directory: &OwnedFd, name: &OsStr, node: &NewNode) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOATIME | FILE;
    let name = component(name)?;
    let fd = with_umask(node.umask, || retry_on_intr(|| openat(directory, name, flags, permissions(node))))?;
    finish(directory, name, node, AtFlags::empty())?;
    Ok(fd)
}

pub(super) fn directory(directory: &OwnedFd, name: &OsStr, node: &NewNode) -> io::Result<()> {
    let name = component(name)?;
    with_umask(node.umask, || mkdirat(directory, name, permissions(node)))?;
    finish(directory, name, node, AtFlags::REMOVEDIR)
}

pub(super) fn special(directory: &OwnedFd, name: &OsStr, kind: u32, rdev: u64, node: &NewNode) -> io::Result<()> {
    let name = component(name)?;
    let kind = FileType::from_raw_mode(kind);
    with_umask(node.umask, || mknodat(directory, name, kind, permissions(node), rdev))?;
    finish(directory, name, node, AtFlags::empty())
}

pub(super) fn symlink(directory: &OwnedFd, name: &OsStr, target: &[u8], node: &NewNode) -> io::Result<()> {
    let name = component(name)?;
    symlinkat(target, directory, name)?;
    finish(directory, name, &NewNode { mode: 0, ..*node }, AtFlags::empty())
}

/// Changes the mode of a name without following it, which no single call does on every kernel and file system.
pub(super) fn chmod_no_follow(directory: &OwnedFd, name: &OsStr, mode: Mode) -> io::Result<()> {
    let place = openat(directory, component(name)?, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&place)?.st_mode) == FileType::Symlink {
        return Err(Errno::OPNOTSUPP.into());
    }
    Ok(chmod(magic_link(&place), mode)?)
}

fn permissions(node: &NewNode) -> Mode {
    Mode::from_raw_mode(node.mode & 0o7777)
}

/// The kernel applies a umask only where the parent has no default ACL, so it must be the one to apply it; and a
/// process has one for all its threads, unless a thread asks for its own.
fn with_umask<T>(mask: u32, make: impl FnOnce() -> rustix::io::Result<T>) -> io::Result<T> {
    thread_local!(static OWN: Cell<bool> = const { Cell::new(false) });
    if !OWN.get() {
        unshare_umask()?;
        OWN.set(true);
    }
    let before = umask(Mode::from_raw_mode(mask & 0o777));
    let made = make();
    umask(before);
    Ok(made?)
}

/// Owner and set-id bits of what was just made; takes it away again if they cannot be had.
fn finish(directory: &OwnedFd, name: &OsStr, node: &NewNode, removal: AtFlags) -> io::Result<()> {
    let done = set_owner(directory, name, node).and_then(|()| set_ids(directory, name, node));
    if done.is_err() {
        // The error is what the caller needs to know; if the removal fails too there is nothing better to say.
        let _ = unlinkat(directory, name, removal);
    }
    done
}

fn set_owner(directory: &OwnedFd, name: &OsStr, node: &NewNode) -> io::Result<()> {
    let Some((uid, gid)) = node.owner else { return Ok(()) };
    if (uid, gid) == (geteuid().as_raw(), getegid().as_raw()) {
        return Ok(());
    }
    // In a set-gid directory the group is the directory's, and the kernel has set it already.
    let inherited = fstat(directory)?.st_mode & Mode::SGID.as_raw_mode() != 0;
    let gid = (!inherited).then(|| Gid::from_raw(gid));
    Ok(chownat(directory, name, Some(Uid::from_raw(uid)), gid, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// mkdir ignores set-id bits and chown clears them; what umask and ACL made of the other bits stays.
fn set_ids(directory: &OwnedFd, name: &OsStr, node: &NewNode) -> io::Result<()> {
    if node.mode & SET_ID == 0 {
        return Ok(());
    }
    let Stat { st_mode, .. } = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let wanted = st_mode | node.mode & SET_ID;
    if wanted == st_mode { Ok(()) } else { chmod_no_follow(directory, name, Mode::from_raw_mode(wanted)) }
}
