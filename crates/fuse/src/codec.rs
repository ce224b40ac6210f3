//! What of requests and answers is FUSE's, whatever carries them: flags as numbers, cursors, names with a meaning.

use super::op::{Op, WrittenBy};
use super::status::STATUS;
use kmsfs_fs::HandleId;
use kmsfs_store::SeekTo;
use kmsfs_store::backend::{Rename, XattrFlags};
use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// Largest request that the kernel sends here, in bytes.
pub(crate) const MAX_REQUEST: u32 = 1 << 20;

/// The longest copy at a time: the answer has 32 bits, and the caller comes again for the rest.
pub(crate) const MAX_COPY: u64 = 1 << 30;

/// The store belongs to one process, so what the kernel knows stays right until the kernel itself changes it.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(1 << 30);
pub(crate) const AT_ONCE: Duration = Duration::ZERO;

/// Bits of WRITE's `write_flags`, from linux/fuse.h.
const WRITE_CACHE: u32 = 1 << 0;
const WRITE_KILL_SUIDGID: u32 = 1 << 2;

/// Programs' own dots the kernel follows by itself: these are of file handles, and ask by number.
pub(crate) fn lookup(name: &OsStr) -> Op<'_> {
    match name.as_bytes() {
        b"." => Op::Find,
        b".." => Op::FindAbove,
        _ => Op::Lookup { name: Cow::Borrowed(name) },
    }
}

/// An extended attribute of the root or of another inode.
pub(crate) fn get_xattr(is_root: bool, name: &OsStr, size: u32) -> Op<'_> {
    if is_root && name == STATUS { Op::Status { size } } else { Op::GetXattr { name: Cow::Borrowed(name), size } }
}

/// `flags` of open(2).
pub(crate) fn open(flags: i32) -> Op<'static> {
    Op::Open { truncate: flags & libc::O_TRUNC != 0, write: flags & libc::O_ACCMODE != libc::O_RDONLY }
}

/// `flags` of renameat2(2); the errno if no such renaming is known.
pub(crate) fn rename(flags: u32) -> Result<Rename, i32> {
    match flags {
        0 => Ok(Rename::Replace),
        libc::RENAME_NOREPLACE => Ok(Rename::NoReplace),
        libc::RENAME_EXCHANGE => Ok(Rename::Exchange),
        libc::RENAME_WHITEOUT => Ok(Rename::Whiteout),
        _ => Err(libc::EINVAL),
    }
}

/// `offset` and `whence` of lseek(2), of which the kernel does all but the search for data and holes.
pub(crate) fn lseek(handle: HandleId, offset: i64, whence: i32) -> Result<Op<'static>, i32> {
    let to = match whence {
        libc::SEEK_DATA => SeekTo::Data,
        libc::SEEK_HOLE => SeekTo::Hole,
        _ => return Err(libc::EINVAL),
    };
    let offset = u64::try_from(offset).map_err(|_| libc::ENXIO)?;
    Ok(Op::LSeek { handle, offset, to })
}

/// `flags` of setxattr(2).
pub(crate) fn xattr_flags(flags: i32) -> XattrFlags {
    match flags {
        libc::XATTR_CREATE => XattrFlags::Create,
        libc::XATTR_REPLACE => XattrFlags::Replace,
        _ => XattrFlags::Any,
    }
}

/// `write_flags` of a WRITE.
pub(crate) fn written_by(flags: u32) -> WrittenBy {
    match flags {
        flags if flags & WRITE_CACHE != 0 => WrittenBy::Cache,
        flags if flags & WRITE_KILL_SUIDGID != 0 => WrittenBy::Ordinary,
        _ => WrittenBy::Privileged,
    }
}

/// Directory cursors of "." and "..", which the store does not list: ones that no backing file system gives.
const AFTER_DOT: u64 = i64::MAX as u64 - 15;
const AFTER_DOT_DOT: u64 = AFTER_DOT + 1;

/// Which of "." and ".." a listing from this cursor on begins with: the name, and the cursor after it.
pub(crate) fn dots(cursor: u64) -> &'static [(&'static str, u64)] {
    const DOTS: [(&str, u64); 2] = [(".", AFTER_DOT), ("..", AFTER_DOT_DOT)];
    match cursor {
        0 => &DOTS,
        AFTER_DOT => &DOTS[1..],
        _ => &[],
    }
}

/// Where the store goes on with a listing from this cursor on.
pub(crate) fn after_dots(cursor: u64) -> u64 {
    if cursor == AFTER_DOT || cursor == AFTER_DOT_DOT { 0 } else { cursor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_that_is_cut_anywhere_goes_on_with_what_is_missing() {
        let names = |cursor| dots(cursor).iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert_eq!((names(0), after_dots(0)), (vec![".", ".."], 0));
        assert_eq!((names(AFTER_DOT), after_dots(AFTER_DOT)), (vec![".."], 0));
        assert_eq!((names(AFTER_DOT_DOT), after_dots(AFTER_DOT_DOT)), (vec![], 0));
        assert_eq!((names(7), after_dots(7)), (vec![], 7));
    }

    #[test]
    fn what_no_operation_is_asked_by_is_refused() {
        assert_eq!(rename(libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE), Err(libc::EINVAL));
        assert_eq!(lseek(HandleId(1), 0, libc::SEEK_SET).unwrap_err(), libc::EINVAL);
        assert_eq!(lseek(HandleId(1), -1, libc::SEEK_DATA).unwrap_err(), libc::ENXIO);
    }

    #[test]
    fn what_comes_from_the_cache_is_nobodys_write() {
        assert_eq!(written_by(WRITE_CACHE | WRITE_KILL_SUIDGID), WrittenBy::Cache);
        assert_eq!(written_by(WRITE_KILL_SUIDGID), WrittenBy::Ordinary);
        assert_eq!(written_by(0), WrittenBy::Privileged);
    }
}
