//! Modes, owners, times and extended attributes, by the kernel's rules for a privileged process.

use super::faults::errno;
use super::image::Image;
use super::inode::{DIRECTORY, REGULAR, SYMLINK};
use kmsfs_store::Time;
use kmsfs_store::backend::XattrFlags;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

/// Limits of the kernel (xattr(7)).
const LONGEST_NAME: usize = 255;
const LARGEST_VALUE: usize = 65536;

#[derive(Default)]
pub(super) struct Changes {
    pub(super) mode: Option<u32>,
    pub(super) owner: Option<(Option<u32>, Option<u32>)>,
    pub(super) times: Option<(Option<Time>, Option<Time>)>,
}

impl Changes {
    /// Times that both stay: utimensat(2) does not even look the file up then.
    pub(super) fn is_nothing(&self) -> bool {
        self.times == Some((None, None))
    }
}

pub(super) fn set(image: &mut Image, ino: u64, changes: &Changes) -> io::Result<()> {
    if changes.mode.is_some() && image.inode(ino).kind() == SYMLINK {
        return errno(Errno::OPNOTSUPP);
    }
    if changes.is_nothing() {
        return Ok(());
    }
    let time = image.tick();
    let inode = image.inode_mut(ino);
    inode.ctime = time;
    if let Some(mode) = changes.mode {
        inode.mode = inode.kind() | mode & 0o7777;
    }
    if let Some((uid, gid)) = changes.owner {
        (inode.uid, inode.gid) = (uid.unwrap_or(inode.uid), gid.unwrap_or(inode.gid));
        if inode.kind() != DIRECTORY {
            inode.mode &= !set_ids_lost(inode.mode);
        }
    }
    if let Some((atime, mtime)) = changes.times {
        (inode.atime, inode.mtime) = (atime.unwrap_or(inode.atime), mtime.unwrap_or(inode.mtime));
    }
    Ok(())
}

/// chown(2): without execution by the group, the set-gid bit means mandatory locking and stays.
fn set_ids_lost(mode: u32) -> u32 {
    if mode & libc::S_IXGRP != 0 { libc::S_ISUID | libc::S_ISGID } else { libc::S_ISUID }
}

pub(super) fn get_xattr(image: &Image, ino: u64, attribute: &OsStr) -> io::Result<Vec<u8>> {
    check_name(image, ino, attribute, Errno::NODATA)?;
    image.inode(ino).xattrs.get(attribute).cloned().ok_or(Errno::NODATA.into())
}

pub(super) fn set_xattr(
    image: &mut Image,
    ino: u64,
    attribute: &OsStr,
    value: &[u8],
    flags: XattrFlags,
) -> io::Result<()> {
    if value.len() > LARGEST_VALUE {
        return errno(Errno::TOOBIG);
    }
    check_name(image, ino, attribute, Errno::PERM)?;
    match (flags, image.inode(ino).xattrs.contains_key(attribute)) {
        (XattrFlags::Create, true) => return errno(Errno::EXIST),
        (XattrFlags::Replace, false) => return errno(Errno::NODATA),
        _ => {}
    }
    let time = image.tick();
    let inode = image.inode_mut(ino);
    inode.ctime = time;
    inode.xattrs.insert(attribute.to_owned(), value.to_vec());
    Ok(())
}

pub(super) fn list_xattr(image: &Image, ino: u64) -> Vec<u8> {
    image.inode(ino).xattrs.keys().flat_map(|name| [name.as_bytes(), b"\0"].concat()).collect()
}

pub(super) fn remove_xattr(image: &mut Image, ino: u64, attribute: &OsStr) -> io::Result<()> {
    check_name(image, ino, attribute, Errno::PERM)?;
    if !image.inode(ino).xattrs.contains_key(attribute) {
        return errno(Errno::NODATA);
    }
    let time = image.tick();
    let inode = image.inode_mut(ino);
    inode.ctime = time;
    inode.xattrs.remove(attribute);
    Ok(())
}

/// xattr(7): user attributes belong to regular files and directories only. There are no ACLs here.
fn check_name(image: &Image, ino: u64, attribute: &OsStr, misplaced: Errno) -> io::Result<()> {
    let name = attribute.as_bytes();
    if name.is_empty() || name.len() > LONGEST_NAME {
        return errno(Errno::RANGE);
    }
    let Some(prefix) = [&b"user."[..], b"trusted.", b"security."].into_iter().find(|p| name.starts_with(p)) else {
        return errno(Errno::OPNOTSUPP);
    };
    match image.inode(ino).kind() {
        kind if prefix == b"user." && kind != DIRECTORY && kind != REGULAR => errno(misplaced),
        _ if name.len() == prefix.len() => errno(Errno::INVAL),
        _ => Ok(()),
    }
}
