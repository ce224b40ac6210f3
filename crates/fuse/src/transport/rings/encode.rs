//! Answers in the kernel's own form (linux/fuse.h), put where the kernel takes them from.

use crate::answer::{Answer, Cache, Listed, Opened};
use crate::codec::{AT_ONCE, FOR_EVER};
use crate::nodes::Numbers;
use kmsfs_fs::{Entry, NAME_MAX, Time};
use kmsfs_store::Attr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

const FOPEN_DIRECT_IO: u32 = 1 << 0;
const FOPEN_KEEP_CACHE: u32 = 1 << 1;
/// `st_blksize`.
const BLOCK: u32 = 4096;
/// Bytes of `struct fuse_dirent` without the name, and of `struct fuse_entry_out`, which is before it in a
/// `struct fuse_direntplus`.
const DIRENT: usize = 24;
const ENTRY: usize = 128;

/// Where an answer is put, piece by piece. What does not fit is noticed at the end.
struct Put<'a> {
    room: &'a mut [u8],
    at: usize,
}

impl Put<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        if let Some(place) = self.room.get_mut(self.at..self.at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self.at += bytes.len();
        self
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.bytes(&number.to_ne_bytes())
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_ne_bytes())
    }

    /// So many times a 32-bit number that means nothing.
    fn nothing(&mut self, count: usize) -> &mut Self {
        (0..count).fold(self, |put, _| put.u32(0))
    }

    /// `struct fuse_attr`.
    fn attributes(&mut self, attr: &Attr, numbers: Numbers) -> &mut Self {
        let times = [attr.atime, attr.mtime, attr.ctime];
        self.u64(numbers.node(attr.ino).0).u64(attr.size).u64(attr.blocks);
        for Time(time) in times {
            self.u64(time.div_euclid(1_000_000_000).cast_unsigned());
        }
        for Time(time) in times {
            self.u32(time.rem_euclid(1_000_000_000) as u32);
        }
        self.u32(attr.mode).u32(attr.nlink).u32(attr.uid).u32(attr.gid).u32(attr.rdev as u32).u32(BLOCK).u32(0)
    }

    /// `struct fuse_entry_out` without the attributes.
    fn entry(&mut self, node: u64, generation: u64, name: Duration, attributes: Duration) -> &mut Self {
        self.u64(node).u64(generation).u64(name.as_secs()).u64(attributes.as_secs());
        self.u32(name.subsec_nanos()).u32(attributes.subsec_nanos())
    }

    /// `struct fuse_open_out`.
    fn opened(&mut self, opened: Opened) -> &mut Self {
        let flags = match opened.cache {
            Cache::Keep => FOPEN_KEEP_CACHE,
            Cache::Bypass => FOPEN_DIRECT_IO,
        };
        self.u64(opened.handle.0).u32(flags).u32(0)
    }

    /// `struct fuse_entry_out` of a name of which the kernel keeps the attributes and not more than that.
    fn whole_entry(&mut self, entry: &Entry, name: Duration, numbers: Numbers) -> &mut Self {
        let node = numbers.node(entry.attr.ino).0;
        self.entry(node, entry.generation, name, attr_ttl(entry)).attributes(&entry.attr, numbers)
    }
}

/// How long the kernel may keep an entry's attributes.
fn attr_ttl(entry: &Entry) -> Duration {
    if entry.volatile { AT_ONCE } else { FOR_EVER }
}

/// Puts an answer into its room, unless it is there; `None` if it does not fit, which no answer to a request does.
pub(super) fn answer(answer: &Answer, listed: usize, numbers: Numbers, room: &mut [u8]) -> Option<usize> {
    let most = room.len();
    let mut put = Put { room, at: 0 };
    match answer {
        Answer::Done => {}
        Answer::Listed => put.at = listed,
        Answer::Filled(len) => put.at = *len,
        Answer::Entry(entry) => {
            put.whole_entry(entry, FOR_EVER, numbers);
        }
        Answer::NoName => {
            put.entry(0, 0, FOR_EVER, FOR_EVER).nothing(22);
        }
        Answer::Attr(attr, ttl) => {
            put.u64(ttl.as_secs()).u32(ttl.subsec_nanos()).u32(0).attributes(attr, numbers);
        }
        Answer::Opened(opened) => {
            put.opened(*opened);
        }
        Answer::Created(entry, opened) => {
            put.whole_entry(entry, attr_ttl(entry), numbers).opened(*opened);
        }
        Answer::Written(bytes) => {
            put.u32(*bytes as u32).u32(0);
        }
        Answer::Bytes(bytes) => {
            put.bytes(bytes);
        }
        Answer::Size(size) => {
            put.u32(*size).u32(0);
        }
        Answer::Offset(offset) => {
            put.u64(*offset);
        }
        Answer::Space(space) => {
            put.u64(space.blocks).u64(space.blocks_free).u64(space.blocks_available);
            put.u64(space.files).u64(space.files_free);
            put.u32(space.block_size as u32).u32(NAME_MAX as u32).u32(space.block_size as u32).nothing(7);
        }
    }
    (put.at <= most).then_some(put.at)
}

/// Adds a name to what was `listed` so far; how much it is then, or `None` if it does not fit. `plus`: with what
/// looking it up found.
pub(super) fn name(name: &Listed<'_>, plus: bool, numbers: Numbers, room: &mut [u8], listed: usize) -> Option<usize> {
    let bytes = name.name.as_bytes();
    let head = if plus { ENTRY } else { 0 };
    let len = (head + DIRENT + bytes.len()).next_multiple_of(8);
    let room = room.get_mut(listed..listed + len)?;
    let mut put = Put { room, at: 0 };
    let node = numbers.node(name.ino).0;
    let kind = name.kind & libc::S_IFMT;
    if plus {
        match &name.entry {
            Some(entry) => {
                put.whole_entry(entry, attr_ttl(entry), numbers);
            }
            // The kernel takes only number, kind and name.
            None => {
                put.entry(node, 0, AT_ONCE, AT_ONCE).u64(node).nothing(13).u32(kind_or_file(kind)).nothing(6);
            }
        }
    }
    put.u64(node).u64(name.cursor).u32(bytes.len() as u32).u32(kind_or_file(kind) >> 12).bytes(bytes);
    let end = put.at;
    room[end..].fill(0);
    Some(listed + len)
}

/// What the file system below does not tell is a file, until it is looked at.
fn kind_or_file(kind: u32) -> u32 {
    if kind == 0 { libc::S_IFREG } else { kind }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmsfs_fs::{HandleId, Ino};
    use kmsfs_store::backend::Space;
    use std::ffi::OsStr;

    fn attr() -> Attr {
        Attr {
            ino: Ino(0x11),
            size: 0x22,
            blocks: 0x33,
            atime: Time(-1),
            mtime: Time(2_000_000_003),
            ctime: Time(4),
            mode: 0o100_644,
            nlink: 5,
            uid: 6,
            gid: 7,
            rdev: 8,
        }
    }

    fn entry(volatile: bool) -> Entry {
        Entry { attr: attr(), generation: 0xaa, volatile }
    }

    fn put(of: &Answer) -> Vec<u8> {
        let mut room = [0xee; 200];
        let len = answer(of, 0, Numbers::with_root(Ino(77)), &mut room).unwrap();
        assert!(room[len..].iter().all(|byte| *byte == 0xee), "beyond what it says");
        room[..len].to_vec()
    }

    fn u32s(bytes: &[u8]) -> Vec<u32> {
        bytes.as_chunks().0.iter().map(|number| u32::from_ne_bytes(*number)).collect()
    }

    /// Twice the half of a 64-bit number.
    fn attr_numbers() -> Vec<u32> {
        let times = [u32::MAX, u32::MAX, 2, 0, 0, 0, 999_999_999, 3, 4];
        [&[0x11, 0, 0x22, 0, 0x33, 0], &times[..], &[0o100_644, 5, 6, 7, 8, 4096, 0]].concat()
    }

    #[test]
    fn entries_and_attributes_are_as_linux_has_them() {
        let ever = FOR_EVER.as_secs() as u32;
        let head = [0x11, 0, 0xaa, 0, ever, 0, ever, 0, 0, 0];
        assert_eq!(u32s(&put(&Answer::Entry(entry(false)))), [&head[..], &attr_numbers()].concat());
        let volatile = [0x11, 0, 0xaa, 0, ever, 0, 0, 0, 0, 0];
        assert_eq!(u32s(&put(&Answer::Entry(entry(true)))), [&volatile[..], &attr_numbers()].concat());
        assert_eq!(
            u32s(&put(&Answer::Attr(attr(), Duration::new(9, 8)))),
            [&[9, 0, 8, 0], &attr_numbers()[..]].concat()
        );
        let opened = Opened { handle: HandleId(3), cache: Cache::Bypass };
        let created = [&[0x11, 0, 0xaa, 0, 0, 0, 0, 0, 0, 0], &attr_numbers()[..], &[3, 0, 1, 0]].concat();
        assert_eq!(u32s(&put(&Answer::Created(entry(true), opened))), created);
        let none = put(&Answer::NoName);
        assert_eq!((none.len(), u32s(&none)[..6].to_vec()), (ENTRY, vec![0, 0, 0, 0, ever, 0]));
    }

    #[test]
    fn short_answers_are_as_linux_has_them() {
        assert_eq!(put(&Answer::Done), b"");
        assert_eq!(u32s(&put(&Answer::Opened(Opened { handle: HandleId(3), cache: Cache::Keep }))), [3, 0, 2, 0]);
        assert_eq!(u32s(&put(&Answer::Written(4096))), [4096, 0]);
        assert_eq!(u32s(&put(&Answer::Size(17))), [17, 0]);
        assert_eq!(u32s(&put(&Answer::Offset(1 << 32))), [0, 1]);
        assert_eq!(put(&Answer::Bytes(b"value".to_vec())), b"value");
        let space = Space { blocks: 1, blocks_free: 2, blocks_available: 3, files: 4, files_free: 5, block_size: 512 };
        let numbers = [&[1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 512, NAME_MAX as u32, 512], &[0; 7][..]].concat();
        assert_eq!(u32s(&put(&Answer::Space(space))), numbers);
    }

    #[test]
    fn what_does_not_fit_is_not_sent() {
        let numbers = Numbers::with_root(Ino(77));
        assert_eq!(answer(&Answer::Bytes(vec![0; 9]), 0, numbers, &mut [0; 8]), None);
        assert_eq!(answer(&Answer::Entry(entry(false)), 0, numbers, &mut [0; 8]), None);
    }

    #[test]
    fn names_are_listed_until_one_does_not_fit() {
        let numbers = Numbers::with_root(Ino(77));
        let mut listing = [0xee; 72];
        let of = |text| Listed { name: OsStr::new(text), ino: Ino(77), kind: libc::S_IFDIR, cursor: 9, entry: None };
        let first = name(&of("."), false, numbers, &mut listing, 0).unwrap();
        assert_eq!((first, u32s(&listing[..24])), (32, vec![1, 0, 9, 0, 1, 4]));
        assert_eq!(listing[24..32], *b".\0\0\0\0\0\0\0");
        assert_eq!(name(&of("12345678"), false, numbers, &mut listing, first), Some(64));
        assert_eq!(name(&of(""), false, numbers, &mut listing, 64), None);
        let mut listing = [0xee; 160];
        let with = Listed { kind: 0, entry: Some(entry(false)), ..of("a") };
        assert_eq!(name(&with, true, numbers, &mut listing, 0), Some(160));
        assert_eq!(u32s(&listing[40..ENTRY]), attr_numbers());
        assert_eq!(u32s(&listing[ENTRY..152]), [1, 0, 9, 0, 1, 8]);
        let without = of("..");
        assert_eq!(name(&without, true, numbers, &mut listing, 0), Some(160));
        assert_eq!(u32s(&listing[..8]), [1, 0]);
        assert_eq!(u32s(&listing[40..48]), [1, 0]);
        assert_eq!(u32s(&listing[100..104]), [libc::S_IFDIR], "the mode");
    }
}
