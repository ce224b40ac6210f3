//! Between FUSE's types and the file system's.

use fuser::{FileAttr, FileType, Generation, INodeNo};
use kmsfs_fs::{Entry, Fs};
use kmsfs_store::Attr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The store belongs to one process, so what the kernel knows stays right until the kernel itself changes it.
pub const FOR_EVER: Duration = Duration::from_secs(1 << 30);
pub const AT_ONCE: Duration = Duration::ZERO;

/// The number that FUSE has for the root.
const ROOT: u64 = 1;

/// Inode numbers as the kernel sees them: the backing ones, with the root's exchanged for FUSE's.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
    root: u64,
}

impl Numbers {
    pub fn of(fs: &Fs) -> Self {
        Self { root: fs.root() }
    }

    pub fn shown(self, ino: u64) -> INodeNo {
        INodeNo(self.exchanged(ino))
    }

    pub fn backing(self, ino: INodeNo) -> u64 {
        self.exchanged(ino.0)
    }

    fn exchanged(self, ino: u64) -> u64 {
        match ino {
            ino if ino == self.root => ROOT,
            ROOT => self.root,
            ino => ino,
        }
    }

    pub fn attr(self, attr: &Attr) -> FileAttr {
        let time = |nanoseconds| time(nanoseconds);
        FileAttr {
            ino: self.shown(attr.ino),
            size: attr.size,
            blocks: attr.blocks,
            atime: time(attr.atime),
            mtime: time(attr.mtime),
            ctime: time(attr.ctime),
            crtime: UNIX_EPOCH,
            kind: kind(attr.mode),
            perm: (attr.mode & 0o7777) as u16,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            rdev: attr.rdev as u32,
            blksize: 4096,
            flags: 0,
        }
    }
}

/// Attributes of number 0, which tells the kernel that there is nothing.
pub fn nothing() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// What tells the inode from an earlier one of the same number.
pub fn generation(entry: &Entry) -> Generation {
    Generation(entry.generation)
}

/// Attributes of a name that is there and cannot be looked up: it is listed all the same, and whoever asks for it is told
/// why. Its number is nobody's, since the kernel makes an inode of it; a name without a number would not be listed.
pub fn unknown(mode: u32) -> FileAttr {
    static NEXT: AtomicU64 = AtomicU64::new(u64::MAX);
    FileAttr { ino: INodeNo(NEXT.fetch_sub(1, Ordering::Relaxed)), kind: kind(mode), ..nothing() }
}

/// How long the kernel may keep the attributes.
pub fn attr_ttl(entry: &Entry) -> Duration {
    if entry.volatile { AT_ONCE } else { FOR_EVER }
}

pub fn kind(mode: u32) -> FileType {
    match mode & libc::S_IFMT {
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFIFO => FileType::NamedPipe,
        libc::S_IFSOCK => FileType::Socket,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

fn time(nanoseconds: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanoseconds.unsigned_abs());
    if nanoseconds < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}

/// A time as fuser hands it over, which is wrong before 1970: the kernel's nanoseconds count upwards from its seconds, and
/// fuser counts them downwards.
pub fn requested(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(_) => nanoseconds(time),
        Err(before) => {
            let seconds = i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX);
            seconds.saturating_neg().saturating_mul(1_000_000_000) + i64::from(before.duration().subsec_nanos())
        }
    }
}

/// Nanoseconds since 1970, clamped to what 64 bits hold.
pub fn nanoseconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanoseconds| -nanoseconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_and_after_1970_go_there_and_back() {
        for at in [0, 1, -1, 1_700_000_000_123_456_789, -5_000_000_001] {
            assert_eq!(nanoseconds(time(at)), at);
        }
    }

    #[test]
    fn times_before_1970_are_what_the_kernel_meant() {
        // The kernel's -3600 s and 500 ms, as fuser makes a time of them.
        assert_eq!(requested(UNIX_EPOCH - Duration::new(3600, 500_000_000)), -3_599_500_000_000);
        assert_eq!(requested(UNIX_EPOCH - Duration::new(1, 0)), -1_000_000_000);
        assert_eq!(requested(UNIX_EPOCH + Duration::new(1, 5)), 1_000_000_005);
        assert!(requested(UNIX_EPOCH - Duration::new(1 << 40, 1)) < 0);
    }

    #[test]
    fn the_root_is_one_and_a_backing_one_is_not() {
        let numbers = Numbers { root: 77 };
        assert_eq!(numbers.shown(77), INodeNo(1));
        assert_eq!(numbers.shown(1), INodeNo(77));
        assert_eq!(numbers.backing(INodeNo(1)), 77);
        assert_eq!(numbers.backing(INodeNo(5)), 5);
    }
}
