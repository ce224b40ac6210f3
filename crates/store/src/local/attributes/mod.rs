//! Attributes of inodes: mode, owner, times, and extended attributes, whose `user.*` values are encrypted.

pub(crate) mod capabilities;
pub(crate) mod values;

use crate::backend::{File, XattrFlags};
use crate::local::attributes::capabilities::{
    CAPABILITY, KEPT_AS, is_capability, is_reserved, remove_capability, shown,
};
use crate::{Attr, Dir, Error, Object, Result, Store, Time, VolumeAttributes, VolumeNames};
use kmsfs_crypto::MetadataCipher;
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// Changes to an inode's attributes; `None` leaves one as it is. Times in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Permissions with set-id and sticky bits; the type is passed over.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// When it was read last.
    pub atime: Option<Time>,
    /// When the content was changed last.
    pub mtime: Option<Time>,
}

/// Where an inode is reached for an operation on its attributes: the object where it is open (it may have no name any
/// more), else a name in a directory, or a directory itself.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    /// An object that is open, or that has a descriptor.
    Object(&'a Arc<Object>),
    /// A name in a directory, which stays that inode's meanwhile.
    Name(&'a Arc<Dir>, &'a OsStr),
    /// A directory that is open.
    Dir(&'a Arc<Dir>),
}

impl VolumeAttributes for Store {
    fn set_attr(&self, at: Target<'_>, changes: &SetAttr) -> Result<Attr> {
        self.admission.writable()?;
        let (dir, name) = match at {
            Target::Object(object) => return object.set_attr(changes),
            Target::Name(dir, name) => (dir, Some(name)),
            Target::Dir(dir) => (dir, None),
        };
        let SetAttr { mode, uid, gid, atime, mtime } = *changes;
        self.names.changing(|| {
            if uid.is_some() || gid.is_some() {
                dir.backing.set_owner(name, uid, gid)?;
            }
            if let Some(mode) = mode {
                dir.backing.set_mode(name, mode & 0o7777)?;
            }
            if atime.is_some() || mtime.is_some() {
                dir.backing.set_times(name, atime, mtime)?;
            }
            Ok::<_, Error>(())
        })?;
        let attr = self.stat_at_hand(at)?;
        // Of an object that has something to write home, which must not undo it.
        self.objects.attached(attr.ino).map_or(Ok(attr), |object| object.set_attr(changes))
    }

    fn get_xattr(&self, at: Target<'_>, attribute: &OsStr) -> Result<Vec<u8>> {
        if is_reserved(attribute) {
            return Err(Error::Errno(libc::ENODATA));
        }
        if is_capability(attribute) {
            return self.values.get_capability(at);
        }
        if is_user(attribute) { self.values.get(at, attribute) } else { Carrier::of(at)?.get(attribute) }
    }

    fn set_xattr(&self, at: Target<'_>, attribute: &OsStr, value: &[u8], flags: XattrFlags) -> Result<()> {
        self.admission.writable()?;
        if is_reserved(attribute) {
            return Err(Error::Errno(libc::EPERM));
        }
        if is_capability(attribute) {
            return self.names.changing(|| self.values.set_capability(at, &self.stat_at_hand(at)?, value, flags));
        }
        if !is_user(attribute) {
            return self.names.changing(|| Carrier::of(at)?.set(attribute, value, flags));
        }
        if value.len() + MetadataCipher::OVERHEAD > XATTR_MAX {
            // Longer than the attribute that was asked for: where it is too long for Linux, that says E2BIG.
            return Err(Error::Errno(if value.len() > XATTR_MAX { libc::E2BIG } else { libc::ENOSPC }));
        }
        self.names.changing(|| {
            let (sealed, carrier) = self.values.seal(at, attribute, value)?;
            carrier.set(attribute, &sealed, flags)
        })
    }

    fn list_xattr(&self, at: Target<'_>) -> Result<Vec<u8>> {
        Ok(shown(&Carrier::of(at)?.list()?))
    }

    fn remove_xattr(&self, at: Target<'_>, attribute: &OsStr) -> Result<()> {
        self.admission.writable()?;
        if is_reserved(attribute) {
            return Err(Error::Errno(libc::ENODATA));
        }
        if is_capability(attribute) {
            return self.names.changing(|| remove_capability(at));
        }
        self.names.changing(|| Carrier::of(at)?.remove(attribute))
    }

    fn drop_capability(&self, object: &Arc<Object>) -> Result<()> {
        let mut none = object.has_no_capability.lock();
        if *none {
            return Ok(());
        }
        self.admission.writable()?;
        let at = Target::Object(object);
        let is_there = |name| match Carrier::of(at)?.get(OsStr::new(name)) {
            Err(error) if error.is_errno(Errno::NODATA) => Ok(false),
            done => done.map(|_| true),
        };
        if is_there(KEPT_AS)? || is_there(CAPABILITY)? {
            self.names.changing(|| remove_capability(at))?;
        }
        *none = true;
        Ok(())
    }
}

/// What carries an inode's attributes below.
pub(crate) enum Carrier<'a> {
    File(Arc<dyn File>),
    Entry(&'a Arc<Dir>, Option<&'a OsStr>),
}

impl<'a> Carrier<'a> {
    pub(crate) fn of(at: Target<'a>) -> Result<Self> {
        Ok(match at {
            Target::Object(object) => Self::File(object.backing_file()?),
            Target::Name(dir, name) => Self::Entry(dir, Some(name)),
            Target::Dir(dir) => Self::Entry(dir, None),
        })
    }

    pub(crate) fn get(&self, attribute: &OsStr) -> Result<Vec<u8>> {
        Ok(match self {
            Self::File(file) => file.get_xattr(attribute)?,
            Self::Entry(dir, name) => dir.backing.get_xattr(*name, attribute)?,
        })
    }

    pub(crate) fn set(&self, attribute: &OsStr, value: &[u8], flags: XattrFlags) -> Result<()> {
        match self {
            Self::File(file) => file.set_xattr(attribute, value, flags)?,
            Self::Entry(dir, name) => dir.backing.set_xattr(*name, attribute, value, flags)?,
        }
        Ok(())
    }

    /// As they are stored.
    pub(crate) fn names(&self) -> Result<Vec<OsString>> {
        Ok(names_in(&self.list()?).map(OsStr::to_os_string).collect())
    }

    fn list(&self) -> Result<Vec<u8>> {
        Ok(match self {
            Self::File(file) => file.list_xattr()?,
            Self::Entry(dir, name) => dir.backing.list_xattr(*name)?,
        })
    }

    pub(crate) fn remove(&self, attribute: &OsStr) -> Result<()> {
        match self {
            Self::File(file) => file.remove_xattr(attribute)?,
            Self::Entry(dir, name) => dir.backing.remove_xattr(*name, attribute)?,
        }
        Ok(())
    }
}

/// The names in a list in which each is ended by a NUL byte.
pub(crate) fn names_in(list: &[u8]) -> impl Iterator<Item = &OsStr> {
    list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(OsStr::from_bytes)
}

/// Linux's bound on a value.
pub(crate) const XATTR_MAX: usize = 64 << 10;

pub(crate) fn is_user(attribute: &OsStr) -> bool {
    attribute.as_bytes().starts_with(b"user.")
}
