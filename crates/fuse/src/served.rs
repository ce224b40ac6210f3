//! Answers to the requests that may have to wait: an event loop gives them, or a worker.

use super::convert::{AT_ONCE, FOR_EVER, Numbers, attr_ttl, generation};
use super::statistics::{Call, Statistics};
use fuser::{Errno, ReplyAttr, ReplyEmpty, ReplyEntry, ReplyWrite, WriteFlags};
use kmsfs_fs::{Changes, Entry, Error, Fs, Range, Writer};
use kmsfs_kms::Caller;
use kmsfs_store::backend::Rename;
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

/// What answers a request, on any thread.
#[derive(Clone)]
pub struct Served {
    pub fs: Arc<Fs>,
    pub statistics: Arc<Statistics>,
    pub numbers: Numbers,
}

/// Bytes at `offset` of an open file.
#[derive(Clone, Copy)]
pub struct Place {
    pub handle: u64,
    pub offset: u64,
}

impl Served {
    pub fn attempt<T>(&self, call: Call, act: impl FnOnce() -> Result<T, Error>) -> Result<T, Errno> {
        self.statistics.attempt(call, act)
    }

    pub fn write(&self, to: Place, data: &[u8], flags: WriteFlags, caller: &Caller, reply: ReplyWrite) {
        let from_cache = flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let ordinary = flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let writer = if ordinary { Writer::Ordinary(*caller) } else { Writer::Privileged };
        let done = self.attempt(Call::Write, || {
            if from_cache {
                self.fs.write_back(to.handle, to.offset, data)
            } else {
                self.fs.write(to.handle, to.offset, data, writer)
            }
        });
        match done {
            Ok(()) => {
                self.statistics.written(data.len());
                reply.written(data.len() as u32);
            }
            Err(error) => reply.error(error),
        }
    }

    pub fn flush(&self, handle: u64, reply: ReplyEmpty) {
        reply_empty(reply, self.attempt(Call::Close, || self.fs.flush(handle)));
    }

    pub fn fsync(&self, handle: u64, reply: ReplyEmpty) {
        reply_empty(reply, self.attempt(Call::Fsync, || self.fs.fsync(handle)));
    }

    pub fn fsync_dir(&self, ino: u64, reply: ReplyEmpty) {
        reply_empty(reply, self.attempt(Call::FsyncDir, || self.fs.fsync_dir(ino)));
    }

    pub fn fallocate(&self, handle: u64, range: Range, mode: i32, caller: &Caller, reply: ReplyEmpty) {
        reply_empty(reply, self.attempt(Call::Fallocate, || self.fs.fallocate(handle, range, mode, caller)));
    }

    pub fn set_attr(&self, ino: u64, handle: Option<u64>, changes: &Changes, caller: &Caller, reply: ReplyAttr) {
        match self.attempt(Call::SetAttr, || self.fs.setattr(ino, handle, changes, caller)) {
            Ok(attr) => reply.attr(&self.ttl(ino), &self.numbers.attr(&attr)),
            Err(error) => reply.error(error),
        }
    }

    pub fn rename(
        &self,
        (parent, name): (u64, &OsStr),
        (to_parent, to_name): (u64, &OsStr),
        how: Rename,
        caller: &Caller,
        reply: ReplyEmpty,
    ) {
        let rename = || self.fs.rename(parent, name, to_parent, to_name, how, caller);
        reply_empty(reply, self.attempt(Call::Rename, rename));
    }

    pub fn copy(&self, from: Place, to: Place, len: u64, caller: &Caller, reply: ReplyWrite) {
        let copied = self
            .attempt(Call::CopyFileRange, || self.fs.copy(from.handle, from.offset, to.handle, to.offset, len, caller));
        match copied {
            Ok(copied) => {
                self.statistics.copied(copied);
                reply.written(copied as u32);
            }
            Err(error) => reply.error(error),
        }
    }

    pub fn reply_entry(&self, reply: ReplyEntry, entry: Result<Entry, Errno>) {
        match entry {
            Ok(entry) => {
                let attr = self.numbers.attr(&entry.attr);
                reply.entry_with_ttls(&attr_ttl(&entry), &FOR_EVER, &attr, generation(&entry));
            }
            Err(error) => reply.error(error),
        }
    }

    /// How long the kernel may keep the attributes.
    pub fn ttl(&self, ino: u64) -> Duration {
        if self.fs.is_revoked(ino) { AT_ONCE } else { FOR_EVER }
    }
}

pub fn reply_empty(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}
