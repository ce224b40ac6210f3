//! Attributes and times in fuser's types.

use crate::nodes::Numbers;
use fuser::{FileAttr, FileType, INodeNo};
use kmsfs_fs::Time;
use kmsfs_store::Attr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) fn attributes(attr: &Attr, numbers: Numbers) -> FileAttr {
    FileAttr {
        ino: INodeNo(numbers.node(attr.ino).0),
        size: attr.size,
        blocks: attr.blocks,
        atime: time(attr.atime),
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
        kind: kind(attr.mode),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev as u32,
        ..nothing()
    }
}

/// Attributes of number 0, which tells the kernel that there is nothing.
pub(super) fn nothing() -> FileAttr {
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

/// `mode`: its `S_IFMT` part counts.
pub(super) fn kind(mode: u32) -> FileType {
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

fn time(Time(nanoseconds): Time) -> SystemTime {
    let distance = Duration::from_nanos(nanoseconds.unsigned_abs());
    if nanoseconds < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}

/// A time as fuser hands it over. Before 1970 it is wrong: the kernel's nanoseconds count
/// upwards from its seconds, and fuser counts them downwards.
pub(super) fn requested(time: SystemTime) -> Time {
    Time(match time.duration_since(UNIX_EPOCH) {
        Ok(_) => nanoseconds(time),
        Err(before) => {
            let seconds = i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX);
            seconds.saturating_neg().saturating_mul(1_000_000_000) + i64::from(before.duration().subsec_nanos())
        }
    })
}

/// Nanoseconds since 1970, clamped to what 64 bits hold.
fn nanoseconds(time: SystemTime) -> i64 {
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
            assert_eq!(nanoseconds(time(Time(at))), at);
        }
    }

    #[test]
    fn times_before_1970_are_what_the_kernel_meant() {
        // The kernel's -3600 s and 500 ms, as fuser makes a time of them.
        assert_eq!(requested(UNIX_EPOCH - Duration::new(3600, 500_000_000)), Time(-3_599_500_000_000));
        assert_eq!(requested(UNIX_EPOCH - Duration::new(1, 0)), Time(-1_000_000_000));
        assert_eq!(requested(UNIX_EPOCH + Duration::new(1, 5)), Time(1_000_000_005));
        assert!(requested(UNIX_EPOCH - Duration::new(1 << 40, 1)) < Time(0));
    }
}
