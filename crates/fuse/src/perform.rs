//! Does one operation over `fs`.

use super::answer::{Answer, Cache, Listed, Opened, Room};
use super::codec::{AT_ONCE, FOR_EVER, after_dots, dots};
use super::errno::errno;
use super::nodes::nobody;
use super::op::{Op, Request, WrittenBy};
use super::statistics::Statistics;
use super::status::status;
use super::transport::Carrier;
use kmsfs_fs::{Creation, DirEntry, Entry, Fs, Ino, Refusal, Result, Writer};
use std::ffi::OsStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What operations are done over, on any thread.
pub(crate) struct Mount {
    pub fs: Arc<Fs>,
    pub statistics: Arc<Statistics>,
    /// Whether users other than who mounted see it.
    pub several_users: bool,
    /// What carries the requests, once that is known.
    pub carrier: OnceLock<Carrier>,
}

impl Mount {
    /// Does it, and waits for whatever it needs; `room` is where a read or a listing goes.
    pub(crate) fn perform(&self, request: &Request<'_>, room: &mut dyn Room) -> Result<Answer> {
        let Request { ino, ref caller, ref op } = *request;
        let creation = |mode, umask| Creation { mode, umask, caller: *caller };
        let fs = &*self.fs;
        match op {
            Op::Lookup { name } => match fs.lookup(ino, name) {
                Err(refusal) if errno(&refusal) == libc::ENOENT => Ok(Answer::NoName),
                found => found.map(Answer::Entry),
            },
            Op::Find => self.find(ino),
            Op::FindAbove => self.find(fs.above(ino)?),
            Op::Forget { lookups } => {
                fs.forget(ino, *lookups);
                Ok(Answer::Done)
            }
            Op::GetAttr { handle } => {
                handle.map_or(Ok(()), |handle| fs.check_handle(handle))?;
                Ok(Answer::Attr(fs.getattr(ino)?, self.attr_ttl(ino)))
            }
            Op::SetAttr { handle, changes } => {
                let attr = fs.setattr(ino, *handle, changes, caller)?;
                Ok(Answer::Attr(attr, self.attr_ttl(ino)))
            }
            Op::ReadLink => Ok(Answer::Bytes(fs.readlink(ino)?)),
            Op::MkNod { name, mode, umask, rdev } => {
                let kind = mode & libc::S_IFMT;
                fs.mknod(ino, name, kind, u64::from(*rdev), &creation(*mode, *umask)).map(Answer::Entry)
            }
            Op::MkDir { name, mode, umask } => fs.mkdir(ino, name, &creation(*mode, *umask)).map(Answer::Entry),
            Op::Unlink { name } => done(fs.unlink(ino, name)),
            Op::RmDir { name } => done(fs.rmdir(ino, name)),
            Op::Symlink { name, target } => fs.symlink(ino, name, target, &creation(0o777, 0)).map(Answer::Entry),
            Op::Rename { name, to_parent, to_name, how } => {
                done(fs.rename(ino, name, *to_parent, to_name, *how, caller))
            }
            Op::Link { target, name } => fs.link(*target, ino, name, caller).map(Answer::Entry),
            Op::Open { truncate, write } => {
                let handle = fs.open(ino, *truncate, *write, caller)?;
                Ok(Answer::Opened(Opened { handle, cache: self.cache(ino) }))
            }
            Op::Create { name, mode, umask } => {
                let (entry, handle) = fs.create(ino, name, &creation(*mode, *umask))?;
                Ok(Answer::Created(entry, Opened { handle, cache: self.cache(entry.ino()) }))
            }
            Op::Read { handle, offset, size, is_access } => {
                let filled = room.fill(*size as usize, &mut |bytes| {
                    let read = fs.read(*handle, *offset, bytes)?;
                    if *is_access {
                        fs.accessed(*handle)?;
                    }
                    Ok(read)
                });
                Ok(Answer::Filled(filled?))
            }
            Op::Write { handle, offset, data, from } => {
                match from {
                    WrittenBy::Cache => fs.write_back(*handle, *offset, data),
                    WrittenBy::Ordinary => fs.write(*handle, *offset, data, Writer::Ordinary(*caller)),
                    WrittenBy::Privileged => fs.write(*handle, *offset, data, Writer::Privileged),
                }?;
                Ok(Answer::Written(data.len() as u64))
            }
            Op::Flush { handle } => done(fs.flush(*handle)),
            Op::Release { handle } => {
                fs.release(*handle);
                Ok(Answer::Done)
            }
            Op::Fsync { handle } => done(fs.fsync(*handle)),
            Op::FsyncDir => done(fs.fsync_dir(ino)),
            Op::ReadDir { cursor } => self.list(ino, *cursor, false, room),
            Op::ReadDirPlus { cursor } => self.list(ino, *cursor, true, room),
            Op::StatFs => fs.statfs().map(Answer::Space),
            Op::SetXattr { name, value, flags } => done(fs.set_xattr(ino, name, value, *flags, caller)),
            Op::GetXattr { name, size } => value(*size, fs.get_xattr(ino, name, caller)?),
            Op::ListXattr { size } => value(*size, shown_names(&fs.list_xattr(ino)?, caller.uid)),
            Op::RemoveXattr { name } => done(fs.remove_xattr(ino, name, caller)),
            Op::Status { size } => value(*size, status(self, caller.uid)?),
            Op::Fallocate { handle, range, mode } => done(fs.fallocate(*handle, *range, *mode, caller)),
            Op::LSeek { handle, offset, to } => fs.seek(*handle, *offset, *to).map(Answer::Offset),
            Op::CopyFileRange { from, to, len } => {
                fs.copy(from.handle, from.offset, to.handle, to.offset, *len, caller).map(Answer::Written)
            }
        }
    }

    fn find(&self, ino: Ino) -> Result<Answer> {
        let mut found = self.fs.find(&[ino]);
        found.pop().unwrap_or(Err(Refusal::NotFound)).map(Answer::Entry)
    }

    /// What is in a directory from a cursor on, as much as there is room for; `plus` has each name looked up too.
    fn list(&self, ino: Ino, cursor: u64, plus: bool, room: &mut dyn Room) -> Result<Answer> {
        let fs = &*self.fs;
        let dots = dots(cursor);
        for &(name, after) in dots {
            let ino = if name == "." { ino } else { fs.parent(ino) };
            let dot = Listed { name: OsStr::new(name), ino, kind: libc::S_IFDIR, cursor: after, entry: None };
            if !room.list(&dot) {
                return Ok(Answer::Listed);
            }
        }
        let cursor = after_dots(cursor);
        if plus {
            let done = fs.read_dir_plus(ino, cursor, &mut |item, entry| {
                // A name that is there and cannot be looked up is listed all the same, and whoever asks for it is told
                // why.
                let ino = entry.map_or_else(nobody, |entry: Entry| entry.ino());
                room.list(&Listed { ino, entry, ..listed(&item) })
            });
            match done {
                // What is in the room already stays there, and the kernel asks for the rest.
                Err(Refusal::WouldWait(_)) if !dots.is_empty() => {}
                done => done?,
            }
        } else {
            fs.read_dir(ino, cursor, &mut |item| room.list(&listed(&item)))?;
        }
        Ok(Answer::Listed)
    }

    /// How long the kernel may keep the attributes.
    fn attr_ttl(&self, ino: Ino) -> Duration {
        if self.fs.is_revoked(ino) { AT_ONCE } else { FOR_EVER }
    }

    /// Pages are kept across opens; but a configuration's content changes by the daemon's doing, and one user's is none
    /// of another's.
    fn cache(&self, ino: Ino) -> Cache {
        let is_direct = self.fs.is_volatile(ino) || (self.several_users && self.fs.is_personal(ino));
        if is_direct { Cache::Bypass } else { Cache::Keep }
    }
}

fn listed<'a>(item: &DirEntry<'a>) -> Listed<'a> {
    Listed { name: item.name, ino: item.ino, kind: item.kind, cursor: item.cursor, entry: None }
}

fn done(done: Result<()>) -> Result<Answer> {
    done.map(|()| Answer::Done)
}

/// An extended attribute's value for a caller that has room for `size` bytes.
fn value(size: u32, value: Vec<u8>) -> Result<Answer> {
    match value.len() {
        len if size == 0 => Ok(Answer::Size(len as u32)),
        len if len > size as usize => Err(Refusal::NoRoom),
        _ => Ok(Answer::Bytes(value)),
    }
}

/// As any file system does it: who may not read these does not see them. Each name ends with a NUL byte.
fn shown_names(all: &[u8], uid: u32) -> Vec<u8> {
    let is_shown = |name: &&[u8]| uid == 0 || !name.starts_with(b"trusted.");
    all.split_inclusive(|byte| *byte == 0).filter(is_shown).flatten().copied().collect()
}
