//! Extended attributes. The kernel has no calls relative to a directory, so names go through /proc/self/fd.

use super::super::XattrFlags;
use super::{component, magic_link};
use rustix::fd::OwnedFd;
use rustix::fs::{XattrFlags as Flags, fgetxattr, flistxattr, fremovexattr, fsetxattr};
use rustix::fs::{getxattr, lgetxattr, listxattr, llistxattr, lremovexattr, lsetxattr, removexattr, setxattr};
use rustix::io::{Errno, Result};
use std::ffi::{OsStr, OsString};
use std::io;

/// XATTR_SIZE_MAX and XATTR_LIST_MAX of the kernel.
const LARGEST: usize = 65536;
/// Most values and lists fit here, so that one call reads them.
const USUAL: usize = 512;

/// What carries the attributes.
pub(super) enum Carrier<'a> {
    File(&'a OwnedFd),
    /// A directory's magic link, which the kernel follows to it.
    Directory(OsString),
    /// A name below one, which it does not.
    Name(OsString),
}

impl Carrier<'_> {
    /// `name` in `directory`, or the directory itself.
    pub(super) fn at(directory: &OwnedFd, name: Option<&OsStr>) -> io::Result<Self> {
        let mut path = OsString::from(magic_link(directory));
        let Some(name) = name else { return Ok(Self::Directory(path)) };
        path.push("/");
        path.push(component(name)?);
        Ok(Self::Name(path))
    }

    pub(super) fn get(&self, attribute: &OsStr) -> io::Result<Vec<u8>> {
        read(|buf| match self {
            Self::File(fd) => fgetxattr(fd, attribute, buf),
            Self::Directory(path) => getxattr(path, attribute, buf),
            Self::Name(path) => lgetxattr(path, attribute, buf),
        })
    }

    pub(super) fn list(&self) -> io::Result<Vec<u8>> {
        read(|buf| match self {
            Self::File(fd) => flistxattr(fd, buf),
            Self::Directory(path) => listxattr(path, buf),
            Self::Name(path) => llistxattr(path, buf),
        })
    }

    pub(super) fn set(&self, attribute: &OsStr, value: &[u8], flags: XattrFlags) -> io::Result<()> {
        let flags = match flags {
            XattrFlags::Any => Flags::empty(),
            XattrFlags::Create => Flags::CREATE,
            XattrFlags::Replace => Flags::REPLACE,
        };
        Ok(match self {
            Self::File(fd) => fsetxattr(fd, attribute, value, flags),
            Self::Directory(path) => setxattr(path, attribute, value, flags),
            Self::Name(path) => lsetxattr(path, attribute, value, flags),
        }?)
    }

    pub(super) fn remove(&self, attribute: &OsStr) -> io::Result<()> {
        Ok(match self {
            Self::File(fd) => fremovexattr(fd, attribute),
            Self::Directory(path) => removexattr(path, attribute),
            Self::Name(path) => lremovexattr(path, attribute),
        }?)
    }
}

fn read(mut call: impl FnMut(&mut [u8]) -> Result<usize>) -> io::Result<Vec<u8>> {
    let mut buf = vec![0; USUAL];
    let found = match call(&mut buf) {
        Err(Errno::RANGE) => {
            buf.resize(LARGEST, 0);
            call(&mut buf)?
        }
        other => other?,
    };
    buf.truncate(found);
    Ok(buf)
}
