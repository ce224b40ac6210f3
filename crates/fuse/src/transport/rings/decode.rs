//! Requests in the kernel's own form (linux/fuse.h, protocol 7.40 and newer) as operations, where they lie.

use crate::codec::{self, MAX_COPY};
use crate::nodes::{Node, Numbers};
use crate::op::{Op, Place};
use kmsfs_fs::{Changes, HandleId, Range, Time};
use kmsfs_kms::Caller;
use kmsfs_sys::fuse_ring::{IN_HEADER, OPERATION_HEADER};
use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// `enum fuse_opcode`, as far as it comes here. What is forgotten or interrupted comes over /dev/fuse.
pub(super) mod opcode {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const SETATTR: u32 = 4;
    pub(crate) const READLINK: u32 = 5;
    pub(crate) const SYMLINK: u32 = 6;
    pub(crate) const MKNOD: u32 = 8;
    pub(crate) const MKDIR: u32 = 9;
    pub(crate) const UNLINK: u32 = 10;
    pub(crate) const RMDIR: u32 = 11;
    pub(crate) const RENAME: u32 = 12;
    pub(crate) const LINK: u32 = 13;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const FSYNC: u32 = 20;
    pub(crate) const SETXATTR: u32 = 21;
    pub(crate) const GETXATTR: u32 = 22;
    pub(crate) const LISTXATTR: u32 = 23;
    pub(crate) const REMOVEXATTR: u32 = 24;
    pub(crate) const FLUSH: u32 = 25;
    pub(crate) const READDIR: u32 = 28;
    pub(crate) const FSYNCDIR: u32 = 30;
    pub(crate) const CREATE: u32 = 35;
    pub(crate) const FALLOCATE: u32 = 43;
    pub(crate) const READDIRPLUS: u32 = 44;
    pub(crate) const RENAME2: u32 = 45;
    pub(crate) const LSEEK: u32 = 46;
    pub(crate) const COPY_FILE_RANGE: u32 = 47;
}

/// `FUSE_GETATTR_FH`.
const GETATTR_HANDLE: u32 = 1 << 0;
/// `FATTR_*`: what of a SETATTR counts.
const MODE: u32 = 1 << 0;
const UID: u32 = 1 << 1;
const GID: u32 = 1 << 2;
const SIZE: u32 = 1 << 3;
const ATIME: u32 = 1 << 4;
const MTIME: u32 = 1 << 5;
const HANDLE: u32 = 1 << 6;
const ATIME_NOW: u32 = 1 << 7;
const MTIME_NOW: u32 = 1 << 8;

/// `struct fuse_in_header`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub opcode: u32,
    pub node: Node,
    pub caller: Caller,
}

impl Header {
    pub(super) fn of(bytes: &[u8; IN_HEADER]) -> Self {
        let caller = Caller { uid: u32_at(bytes, 24), gid: u32_at(bytes, 28), pid: u32_at(bytes, 32) };
        Self { opcode: u32_at(bytes, 4), node: Node(u64_at(bytes, 16)), caller }
    }

    /// Whether the kernel makes such requests on nobody's behalf, whoever may use the mount.
    pub(super) fn is_of_nobody(&self) -> bool {
        use opcode::{FSYNC, FSYNCDIR, READ, READDIR, READDIRPLUS, RELEASE, WRITE};
        matches!(self.opcode, READ | READDIR | READDIRPLUS | WRITE | FSYNC | FSYNCDIR | RELEASE)
    }
}

/// What fills its answer's room, and brings nothing else.
#[derive(Debug)]
pub(super) struct Filling {
    pub op: Op<'static>,
    /// Bytes that the answer may have.
    pub size: usize,
}

pub(super) fn filling(header: &Header, own: &[u8; OPERATION_HEADER]) -> Option<Filling> {
    let (offset, size) = (u64_at(own, 8), u32_at(own, 16));
    let op = match header.opcode {
        opcode::READ => {
            let is_access = i32_at(own, 32) & libc::O_NOATIME == 0;
            Op::Read { handle: handle_at(own, 0), offset, size, is_access }
        }
        opcode::READDIR => Op::ReadDir { cursor: offset },
        opcode::READDIRPLUS => Op::ReadDirPlus { cursor: offset },
        _ => return None,
    };
    Some(Filling { op, size: size as usize })
}

/// What brings `payload`, or nothing. The errno, if it is nothing that is answered here, or not well-formed.
pub(super) fn operation<'a>(
    header: &Header,
    own: &[u8; OPERATION_HEADER],
    payload: &'a [u8],
    numbers: Numbers,
    now: impl Fn() -> Time,
) -> Result<Op<'a>, i32> {
    let handle = handle_at(own, 0);
    Ok(match header.opcode {
        opcode::LOOKUP => codec::lookup(name(payload)?),
        opcode::GETATTR => Op::GetAttr { handle: (u32_at(own, 0) & GETATTR_HANDLE != 0).then(|| handle_at(own, 8)) },
        opcode::SETATTR => {
            let which = u32_at(own, 0);
            Op::SetAttr { handle: (which & HANDLE != 0).then(|| handle_at(own, 8)), changes: changes(which, own, now) }
        }
        opcode::READLINK => Op::ReadLink,
        opcode::SYMLINK => {
            let [name, target] = names(payload)?;
            Op::Symlink { name: name.into(), target: Cow::Borrowed(target.as_bytes()) }
        }
        opcode::MKNOD => {
            let (mode, rdev, umask) = (u32_at(own, 0), u32_at(own, 4), u32_at(own, 8));
            Op::MkNod { name: name(payload)?.into(), mode, umask, rdev }
        }
        opcode::MKDIR => Op::MkDir { name: name(payload)?.into(), mode: u32_at(own, 0), umask: u32_at(own, 4) },
        opcode::UNLINK => Op::Unlink { name: name(payload)?.into() },
        opcode::RMDIR => Op::RmDir { name: name(payload)?.into() },
        opcode::RENAME | opcode::RENAME2 => {
            let flags = if header.opcode == opcode::RENAME2 { u32_at(own, 8) } else { 0 };
            let [name, to_name] = names(payload)?;
            let to_parent = numbers.ino(Node(u64_at(own, 0)));
            Op::Rename { name: name.into(), to_parent, to_name: to_name.into(), how: codec::rename(flags)? }
        }
        opcode::LINK => Op::Link { target: numbers.ino(Node(u64_at(own, 0))), name: name(payload)?.into() },
        opcode::OPEN => codec::open(i32_at(own, 0)),
        opcode::CREATE => Op::Create { name: name(payload)?.into(), mode: u32_at(own, 4), umask: u32_at(own, 8) },
        opcode::WRITE => {
            let data = payload.get(..u32_at(own, 16) as usize).ok_or(libc::EIO)?;
            let from = codec::written_by(u32_at(own, 20));
            Op::Write { handle, offset: u64_at(own, 8), data: Cow::Borrowed(data), from }
        }
        opcode::STATFS => Op::StatFs,
        opcode::RELEASE => Op::Release { handle },
        opcode::FLUSH => Op::Flush { handle },
        opcode::FSYNC => Op::Fsync { handle },
        opcode::FSYNCDIR => Op::FsyncDir,
        opcode::SETXATTR => {
            let (name, rest) = split(payload)?;
            let value = rest.get(..u32_at(own, 0) as usize).ok_or(libc::EIO)?;
            Op::SetXattr { name: name.into(), value: Cow::Borrowed(value), flags: codec::xattr_flags(i32_at(own, 4)) }
        }
        opcode::GETXATTR => codec::get_xattr(header.node.is_root(), name(payload)?, u32_at(own, 0)),
        opcode::LISTXATTR => Op::ListXattr { size: u32_at(own, 0) },
        opcode::REMOVEXATTR => Op::RemoveXattr { name: name(payload)?.into() },
        opcode::FALLOCATE => {
            let range = Range { offset: u64_at(own, 8), len: u64_at(own, 16) };
            Op::Fallocate { handle, range, mode: i32_at(own, 24) }
        }
        opcode::LSEEK => codec::lseek(handle, u64_at(own, 8).cast_signed(), i32_at(own, 16))?,
        opcode::COPY_FILE_RANGE => {
            let from = Place { handle, offset: u64_at(own, 8) };
            let to = Place { handle: handle_at(own, 24), offset: u64_at(own, 32) };
            Op::CopyFileRange { from, to, len: u64_at(own, 40).min(MAX_COPY) }
        }
        // The kernel does without, and does not ask again.
        _ => return Err(libc::ENOSYS),
    })
}

fn changes(which: u32, own: &[u8; OPERATION_HEADER], now: impl Fn() -> Time) -> Changes {
    let number = |bit, at| (which & bit != 0).then(|| u32_at(own, at));
    // Nanoseconds count upwards from the seconds, before 1970 too.
    let time = |bit, is_now: u32, seconds, nanoseconds| {
        let given = || {
            let seconds = u64_at(own, seconds).cast_signed().saturating_mul(1_000_000_000);
            Time(seconds.saturating_add(u32_at(own, nanoseconds).into()))
        };
        (which & bit != 0).then(|| if which & is_now != 0 { now() } else { given() })
    };
    Changes {
        mode: number(MODE, 68),
        uid: number(UID, 76),
        gid: number(GID, 80),
        size: (which & SIZE != 0).then(|| u64_at(own, 16)),
        atime: time(ATIME, ATIME_NOW, 32, 56),
        mtime: time(MTIME, MTIME_NOW, 40, 60),
    }
}

/// A name that ends with a NUL byte, and what comes after it.
fn split(payload: &[u8]) -> Result<(&OsStr, &[u8]), i32> {
    let end = payload.iter().position(|byte| *byte == 0).ok_or(libc::EIO)?;
    Ok((OsStr::from_bytes(&payload[..end]), &payload[end + 1..]))
}

fn name(payload: &[u8]) -> Result<&OsStr, i32> {
    split(payload).map(|(name, _)| name)
}

fn names(payload: &[u8]) -> Result<[&OsStr; 2], i32> {
    let (first, rest) = split(payload)?;
    Ok([first, name(rest)?])
}

fn handle_at(bytes: &[u8], at: usize) -> HandleId {
    HandleId(u64_at(bytes, at))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    u32_at(bytes, at).cast_signed()
}

/// Of a header, which is longer.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::WrittenBy;
    use kmsfs_fs::Ino;
    use kmsfs_store::SeekTo;
    use kmsfs_store::backend::Rename;

    /// An operation's header of numbers of 32 bits.
    fn own(numbers: &[u32]) -> [u8; OPERATION_HEADER] {
        let mut own = [0xee; OPERATION_HEADER];
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        own[..bytes.len()].copy_from_slice(&bytes);
        own
    }

    fn header(opcode: u32, node: u64) -> Header {
        Header { opcode, node: Node(node), caller: Caller { uid: 1, gid: 2, pid: 3 } }
    }

    fn decoded<'a>(opcode: u32, numbers: &[u32], payload: &'a [u8]) -> Result<Op<'a>, i32> {
        operation(&header(opcode, 5), &own(numbers), payload, Numbers::with_root(Ino(77)), || Time(-1))
    }

    #[test]
    fn a_header_says_who_asks_for_what() {
        let mut bytes = [0; IN_HEADER];
        for (at, number) in [(0, 40_u32), (4, 15), (16, 9), (24, 1000), (28, 100), (32, 4321)] {
            bytes[at..at + 4].copy_from_slice(&number.to_ne_bytes());
        }
        let header = Header::of(&bytes);
        assert_eq!((header.opcode, header.node), (opcode::READ, Node(9)));
        assert_eq!((header.caller.uid, header.caller.gid, header.caller.pid), (1000, 100, 4321));
        assert!(header.is_of_nobody());
        assert!(!Header { opcode: opcode::OPEN, ..header }.is_of_nobody());
    }

    #[test]
    fn names_and_bytes_are_taken_from_where_they_lie() {
        let payload = b"from\0to\0";
        let Op::Rename { name, to_parent, to_name, how } = decoded(opcode::RENAME2, &[1, 0, 1, 0], payload).unwrap()
        else {
            panic!()
        };
        assert!(matches!((&name, &to_name), (Cow::Borrowed(_), Cow::Borrowed(_))));
        assert_eq!((&*name, to_parent, &*to_name), (OsStr::new("from"), Ino(77), OsStr::new("to")));
        assert_eq!(how, Rename::NoReplace);
        let payload = [7; 100];
        let op = decoded(opcode::WRITE, &[3, 0, 4096, 0, 99, 1, 0, 0, 0, 0], &payload).unwrap();
        let Op::Write { handle, offset, data, from } = op else { panic!() };
        assert_eq!((handle, offset, data.len(), from), (HandleId(3), 4096, 99, WrittenBy::Cache));
        assert_eq!(data.as_ptr(), payload.as_ptr(), "it was copied");
        let Op::SetXattr { name, value, .. } = decoded(opcode::SETXATTR, &[3, 0], b"user.a\0abcd").unwrap() else {
            panic!()
        };
        assert_eq!((&*name, &*value), (OsStr::new("user.a"), &b"abc"[..]));
    }

    #[test]
    fn times_are_what_the_kernel_means_before_1970_too() {
        // -3600 s and 500 ms; mtime now.
        let seconds = (-3600_i64).cast_unsigned();
        let (low, high) = (seconds as u32, (seconds >> 32) as u32);
        let mut numbers = [0; 22];
        numbers[0] = ATIME | MTIME | MTIME_NOW | SIZE | UID | MODE;
        (numbers[4], numbers[8], numbers[9], numbers[14]) = (1234, low, high, 500_000_000);
        (numbers[17], numbers[19]) = (0o100_640, 1000);
        let Op::SetAttr { handle, changes } = decoded(opcode::SETATTR, &numbers, b"").unwrap() else { panic!() };
        assert_eq!(handle, None);
        assert_eq!((changes.atime, changes.mtime), (Some(Time(-3_599_500_000_000)), Some(Time(-1))));
        assert_eq!((changes.size, changes.uid, changes.gid), (Some(1234), Some(1000), None));
        assert_eq!(changes.mode, Some(0o100_640));
    }

    #[test]
    fn numbers_of_each_operation_are_where_linux_has_them() {
        assert!(matches!(decoded(opcode::GETATTR, &[0, 0, 9, 0], b""), Ok(Op::GetAttr { handle: None })));
        assert!(matches!(decoded(opcode::GETATTR, &[1, 0, 9, 0], b""), Ok(Op::GetAttr { handle: Some(HandleId(9)) })));
        let op = decoded(opcode::MKNOD, &[0o10_600, 7, 0o22, 0], b"n\0").unwrap();
        assert!(matches!(op, Op::MkNod { mode: 0o10_600, umask: 0o22, rdev: 7, .. }), "{op:?}");
        let op = decoded(opcode::CREATE, &[0, 0o644, 0o27, 0], b"n\0").unwrap();
        assert!(matches!(op, Op::Create { mode: 0o644, umask: 0o27, .. }), "{op:?}");
        let op = decoded(opcode::OPEN, &[(libc::O_RDWR | libc::O_TRUNC).cast_unsigned(), 0], b"").unwrap();
        assert!(matches!(op, Op::Open { truncate: true, write: true }));
        let op = decoded(opcode::FALLOCATE, &[2, 0, 4096, 0, 8192, 0, 3, 0], b"").unwrap();
        let Op::Fallocate { handle: HandleId(2), range, mode: 3 } = op else { panic!("{op:?}") };
        assert_eq!((range.offset, range.len), (4096, 8192));
        let op = decoded(opcode::LSEEK, &[2, 0, 5, 0, libc::SEEK_HOLE.cast_unsigned(), 0], b"").unwrap();
        assert!(matches!(op, Op::LSeek { handle: HandleId(2), offset: 5, to: SeekTo::Hole }));
        let numbers = [1, 0, 10, 0, 6, 0, 2, 0, 20, 0, 0, 0x8000_0000, 0, 0];
        let op = decoded(opcode::COPY_FILE_RANGE, &numbers, b"").unwrap();
        let Op::CopyFileRange { from, to, len: MAX_COPY } = op else { panic!("{op:?}") };
        assert_eq!((from.handle, from.offset, to.handle, to.offset), (HandleId(1), 10, HandleId(2), 20));
        let op = decoded(opcode::LINK, &[77, 0], b"n\0").unwrap();
        assert!(matches!(op, Op::Link { target: Ino(1), .. }));
        let read = filling(&header(opcode::READ, 5), &own(&[4, 0, 8192, 0, 512, 0, 0, 0, 0, 0])).unwrap();
        let Op::Read { handle: HandleId(4), offset: 8192, size: 512, is_access: true } = read.op else { panic!() };
        let flags = libc::O_NOATIME.cast_unsigned();
        let read = filling(&header(opcode::READ, 5), &own(&[4, 0, 8192, 0, 512, 0, 0, 0, flags, 0])).unwrap();
        assert!(matches!(read.op, Op::Read { is_access: false, .. }) && read.size == 512);
    }

    #[test]
    fn what_is_cut_or_unknown_is_refused() {
        for (opcode, payload) in
            [(opcode::LOOKUP, &b"no end"[..]), (opcode::RENAME, b"one\0two"), (opcode::WRITE, b"short")]
        {
            assert_eq!(decoded(opcode, &[0, 0, 0, 0, 6], payload).unwrap_err(), libc::EIO);
        }
        assert_eq!(decoded(opcode::SETXATTR, &[9, 0], b"user.a\0abc").unwrap_err(), libc::EIO);
        assert_eq!(decoded(9999, &[], b"").unwrap_err(), libc::ENOSYS);
        assert_eq!(decoded(opcode::RENAME2, &[1, 0, 3, 0], b"a\0b\0").unwrap_err(), libc::EINVAL);
    }

    #[test]
    fn the_status_is_the_roots_attribute_alone() {
        let payload = [crate::STATUS.as_bytes(), b"\0"].concat();
        let of = |node| {
            operation(&header(opcode::GETXATTR, node), &own(&[100, 0]), &payload, Numbers::with_root(Ino(77)), || {
                Time(0)
            })
            .unwrap()
            .call()
        };
        assert_eq!((of(1), of(77)), (None, Some(crate::statistics::Call::GetXattr)));
    }
}
