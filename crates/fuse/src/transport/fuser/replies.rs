//! Answers put into fuser's replies.

use super::values::{attributes, kind, nothing};
use crate::answer::{Answer, Cache, Listed, Opened, Reply, Room};
use crate::codec::{AT_ONCE, FOR_EVER};
use crate::nodes::Numbers;
use fuser::{
    Errno, FileHandle, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
};
use kmsfs_fs::{Entry, NAME_MAX, Result};
use std::cell::RefCell;
use std::time::Duration;

/// A reply of fuser's, and by which numbers the kernel knows inodes.
pub(super) struct To<R> {
    pub reply: R,
    pub numbers: Numbers,
}

/// The reply to a request that has none.
pub(super) struct Nobody;

thread_local! {
    /// What a read of this thread fills, and sends next.
    static READ: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How long the kernel may keep an entry's attributes.
fn attr_ttl(entry: &Entry) -> Duration {
    if entry.volatile { AT_ONCE } else { FOR_EVER }
}

fn fopen_flags(opened: Opened) -> FopenFlags {
    match opened.cache {
        Cache::Keep => FopenFlags::FOPEN_KEEP_CACHE,
        Cache::Bypass => FopenFlags::FOPEN_DIRECT_IO,
    }
}

/// `Carry::refuse` of a reply of fuser's: each has an `error` of its own, and no trait has it.
macro_rules! by_its_error {
    () => {
        fn refuse(self, errno: Errno) {
            self.error(errno);
        }
    };
}

/// A kind of reply: what of answers it can carry.
pub(super) trait Carry: Sized + Send + 'static {
    /// Sends an answer.
    fn carry(self, answer: Answer, numbers: Numbers);

    /// Sends an errno.
    fn refuse(self, errno: Errno);

    /// As [`Room::fill`].
    fn fill(&mut self, _len: usize, _fill: &mut dyn FnMut(&mut [u8]) -> Result<usize>) -> Result<usize> {
        Err(kmsfs_store::Error::Errno(libc::EIO).into())
    }

    /// As [`Room::list`].
    fn list(&mut self, _name: &Listed<'_>, _numbers: Numbers) -> bool {
        false
    }

    /// An answer of another kind than the request's, which no request has.
    fn cannot_carry(self, answer: &Answer) {
        log::error!("a bug in kmsfs, answered with EIO: {answer:?} does not fit the request");
        self.refuse(Errno::EIO);
    }
}

impl<R: Carry> Room for To<R> {
    fn fill(&mut self, len: usize, fill: &mut dyn FnMut(&mut [u8]) -> Result<usize>) -> Result<usize> {
        self.reply.fill(len, fill)
    }

    fn list(&mut self, name: &Listed<'_>) -> bool {
        self.reply.list(name, self.numbers)
    }
}

impl<R: Carry> Reply for To<R> {
    fn send(self, answer: std::result::Result<Answer, i32>) {
        match answer {
            Ok(answer) => self.reply.carry(answer, self.numbers),
            Err(errno) => self.reply.refuse(Errno::from_i32(errno)),
        }
    }
}

impl Carry for Nobody {
    fn carry(self, _answer: Answer, _numbers: Numbers) {}

    fn refuse(self, _errno: Errno) {}
}

impl Carry for ReplyEmpty {
    fn carry(self, answer: Answer, _numbers: Numbers) {
        match answer {
            Answer::Done => self.ok(),
            other => self.cannot_carry(&other),
        }
    }

    by_its_error!();
}

impl Carry for ReplyEntry {
    fn carry(self, answer: Answer, numbers: Numbers) {
        match answer {
            Answer::Entry(entry) => {
                let attr = attributes(&entry.attr, numbers);
                self.entry_with_ttls(&attr_ttl(&entry), &FOR_EVER, &attr, Generation(entry.generation));
            }
            Answer::NoName => self.entry(&FOR_EVER, &nothing(), Generation(0)),
            other => self.cannot_carry(&other),
        }
    }

    by_its_error!();
}

impl Carry for ReplyAttr {
    fn carry(self, answer: Answer, numbers: Numbers) {
        match answer {
            Answer::Attr(attr, ttl) => self.attr(&ttl, &attributes(&attr, numbers)),
            other => self.cannot_carry(&other),
        }
    }

    by_its_error!();
}

impl Carry for ReplyOpen {
    fn carry(self, answer: Answer, _numbers: Numbers) {
        match answer {
            Answer::Opened(opened) => self.opened(FileHandle(opened.handle.0), fopen_flags(opened)),
            other => self.cannot_carry(&other),
        }
    }

    by_its_error!();
}

impl Carry for ReplyCreate {
    fn carry(self, answer: Answer, numbers: Numbers) {
        match answer {
            Answer::Created(entry, opened) => {
                let (attr, generation) = (attributes(&entry.attr, numbers), Generation(entry.generation));
                self.created(&attr_ttl(&entry), &attr, generation, FileHandle(opened.handle.0), fopen_flags(opened));
            }
            other => self.cannot_carry(&other),
        }
    }

    by_its_error!();
}

impl Carry for ReplyData {
    fn carry(self, answer: Answer, _numbers: Numbers) {
        match answer {
            Answer::Filled(len) => READ.with_borrow(|bytes| self.data(&bytes[..len])),
            Answer::Bytes(bytes) => self.data(&bytes),
            other => self.cannot_carry(&other),
        }
    }

    by_its_error!();

    fn fill(&mut self, len: usize, fill: &mut dyn FnMut(&mut [u8]) -> Result<usize>) -> Result<usize> {
        READ.with_borrow_mut(|bytes| {
            if bytes.len() < len {
                bytes.resize(len, 0);
            }
            fill(&mut bytes[..len])
        })
    }
}

impl Carry for ReplyWrite {
    fn carry(self, answer: Answer, _numbers: Numbers) {
        match answer {
            Answer::Written(bytes) => self.written(bytes as u32),
            other => self.cannot_carry(&other),
        }
    }

    by_its_error!();
}

impl Carry for ReplyXattr {
    fn carry(self, answer: Answer, _numbers: Numbers) {
        match answer {
            Answer::Bytes(value) => self.data(&value),
            Answer::Size(size) => self.size(size),
            other => self.cannot_carry(&other),
        }
    }

    by_its_error!();
}

impl Carry for ReplyLseek {
    fn carry(self, answer: Answer, _numbers: Numbers) {
        match answer {
            Answer::Offset(offset) => self.offset(offset.cast_signed()),
            other => self.cannot_carry(&other),
        }
    }

    by_its_error!();
}

impl Carry for ReplyStatfs {
    fn carry(self, answer: Answer, _numbers: Numbers) {
        let Answer::Space(space) = answer else { return self.cannot_carry(&answer) };
        self.statfs(
            space.blocks,
            space.blocks_free,
            space.blocks_available,
            space.files,
            space.files_free,
            space.block_size as u32,
            NAME_MAX as u32,
            space.block_size as u32,
        );
    }

    by_its_error!();
}

impl Carry for ReplyDirectory {
    fn carry(self, answer: Answer, _numbers: Numbers) {
        match answer {
            Answer::Listed => self.ok(),
            other => self.cannot_carry(&other),
        }
    }

    by_its_error!();

    fn list(&mut self, name: &Listed<'_>, numbers: Numbers) -> bool {
        !self.add(INodeNo(numbers.node(name.ino).0), name.cursor, kind(name.kind), name.name)
    }
}

impl Carry for ReplyDirectoryPlus {
    fn carry(self, answer: Answer, _numbers: Numbers) {
        match answer {
            Answer::Listed => self.ok(),
            other => self.cannot_carry(&other),
        }
    }

    by_its_error!();

    fn list(&mut self, name: &Listed<'_>, numbers: Numbers) -> bool {
        let ino = INodeNo(numbers.node(name.ino).0);
        let (attr, ttl, generation) = match &name.entry {
            Some(entry) => (attributes(&entry.attr, numbers), attr_ttl(entry), entry.generation),
            // Of "." and ".." the kernel takes only number and name.
            None => (fuser::FileAttr { ino, kind: kind(name.kind), ..nothing() }, AT_ONCE, 0),
        };
        !self.add(ino, name.cursor, name.name, &ttl, &attr, Generation(generation))
    }
}
