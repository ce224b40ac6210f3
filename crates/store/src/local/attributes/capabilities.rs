//! File capabilities. Any write into an object file takes the kernel's own attribute away, also one of the daemon's
//! long after whoever set it, and nothing authenticates it. So it is kept as a sealed attribute under another name, and
//! goes when a user changes the content and not before.
//!
//! One that an older version left under its own name is shown until it is taken away.

use crate::backend::XattrFlags;
use crate::local::attributes::values::{Values, is_directory_id};
use crate::local::attributes::{Carrier, XATTR_MAX, names_in};
use crate::{Attr, Error, Result, Target};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// The attribute by which Linux knows a file capability.
pub const CAPABILITY: &str = "security.capability";
/// What it is kept under, which no attribute of a user's can be.
pub(crate) const KEPT_AS: &str = "user.kmsfs.capability";

pub(crate) fn is_capability(attribute: &OsStr) -> bool {
    attribute == CAPABILITY
}

/// Not for users to see or to set.
pub(crate) fn is_reserved(attribute: &OsStr) -> bool {
    attribute == KEPT_AS || is_directory_id(attribute) || crate::local::recovery::birth::is_reserved(attribute)
}

/// The name that users see of what is stored under this one.
pub(crate) fn shown_as(stored: &OsStr) -> &OsStr {
    if stored == KEPT_AS { OsStr::new(CAPABILITY) } else { stored }
}

/// Names as users see them; each is ended by a NUL byte.
pub(crate) fn shown(names: &[u8]) -> Vec<u8> {
    let mut all: Vec<&OsStr> = names_in(names).map(shown_as).filter(|name| !is_reserved(name)).collect();
    // One that an older version left, beside its successor.
    let mut seen = false;
    all.retain(|name| !is_capability(name) || !std::mem::replace(&mut seen, true));
    all.into_iter().flat_map(|name| [name.as_bytes(), &[0]].concat()).collect()
}

impl Values {
    /// The capability as it is shown; ENODATA if there is none.
    pub(crate) fn get_capability(&self, at: Target<'_>) -> Result<Vec<u8>> {
        if let Target::Object(object) = at
            && *object.has_no_capability.lock()
        {
            return Err(Error::Errno(libc::ENODATA));
        }
        match self.get(at, OsStr::new(KEPT_AS)) {
            Err(error) if error.is_errno(Errno::NODATA) => Carrier::of(at)?.get(OsStr::new(CAPABILITY)),
            got => got,
        }
    }

    /// Sets the capability of an inode that has these attributes.
    pub(crate) fn set_capability(&self, at: Target<'_>, attr: &Attr, value: &[u8], flags: XattrFlags) -> Result<()> {
        if attr.mode & libc::S_IFMT != libc::S_IFREG {
            // Nothing is ever written into anything else.
            return Carrier::of(at)?.set(OsStr::new(CAPABILITY), value, flags);
        }
        if value.len() > XATTR_MAX {
            return Err(Error::Errno(libc::E2BIG));
        }
        let (sealed, carrier) = self.seal(at, OsStr::new(CAPABILITY), value)?;
        let object = self.objects.loaded(attr.ino);
        // Held until it is there: nobody finds out meanwhile that there is none.
        let mut none = object.as_ref().map(|object| object.has_no_capability.lock());
        carrier.set(OsStr::new(KEPT_AS), &sealed, flags)?;
        if let Some(none) = &mut none {
            **none = false;
        }
        match Carrier::of(at)?.remove(OsStr::new(CAPABILITY)) {
            Err(error) if !error.is_errno(Errno::NODATA) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Removes both forms. ENODATA if there is neither.
pub(crate) fn remove_capability(at: Target<'_>) -> Result<()> {
    let remove = |name| match Carrier::of(at)?.remove(OsStr::new(name)) {
        // Nothing but regular files and directories can have the one.
        Err(error) if error.is_errno(Errno::NODATA) || error.is_errno(Errno::PERM) && name == KEPT_AS => Ok(false),
        done => done.map(|()| true),
    };
    if remove(KEPT_AS)? | remove(CAPABILITY)? { Ok(()) } else { Err(Error::Errno(libc::ENODATA)) }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn a_capability_is_listed_once_under_its_own_name() {
        let kept = b"user.a\0user.kmsfs.capability\0";
        assert_eq!(shown(kept), b"user.a\0security.capability\0");
        assert_eq!(shown(b"security.capability\0user.kmsfs.capability\0"), b"security.capability\0");
        assert_eq!(shown(b"user.a\0user.kmsfs.directory\0"), b"user.a\0");
        assert_eq!(shown(b""), b"");
    }
}
