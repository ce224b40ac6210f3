//! Attributes: mode, owner, length, times, and extended attributes.

use super::changing::without_set_id;
use super::virtual_attributes::Virtual;
use super::{Fs, HandleId, Ino, Refusal, Result, Time};
use kmsfs_kms::{Caller, Waits};
use kmsfs_store::backend::XattrFlags;
use kmsfs_store::{Attr, CAPABILITY, Object, SetAttr};
use std::ffi::OsStr;
use std::sync::Arc;

const ACL: &str = "system.posix_acl_access";

/// What setattr is asked to change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Permissions with set-id and sticky bits.
    pub mode: Option<u32>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// Bytes.
    pub size: Option<u64>,
    /// When it was read last.
    pub atime: Option<Time>,
    /// When its content was changed last.
    pub mtime: Option<Time>,
}

impl Fs {
    /// As chmod(2), chown(2), truncate(2) and utimensat(2) do it; `handle` where the kernel names one. Returns what the
    /// attributes are then.
    pub fn setattr(&self, ino: Ino, handle: Option<HandleId>, changes: &Changes, caller: &Caller) -> Result<Attr> {
        self.may_end_doubt(ino)?;
        if let Some(size) = changes.size {
            self.truncate(ino, handle, size, caller)?;
        }
        let set = SetAttr {
            mode: changes.mode,
            uid: changes.uid,
            gid: changes.gid,
            atime: changes.atime,
            mtime: changes.mtime,
        };
        let mut set = set;
        let nothing = *changes == Changes::default();
        if (nothing || set.uid.is_some() || set.gid.is_some()) && self.inodes.kind(ino) == Some(libc::S_IFREG) {
            let attr = self.getattr(ino)?;
            if nothing && caller.uid != 0 && caller.uid != attr.uid {
                // The kernel has somebody write, and leaves it to the write to take set-id bits away. Or chown(2) to
                // nobody else, by somebody whose file it is not.
                return Ok(attr);
            }
            // chown(2), to nobody else too, takes them away, and the change time moves.
            set.uid = set.uid.or(nothing.then_some(attr.uid));
            set.mode = set.mode.or(without_set_id(&attr, caller));
        }
        if set == SetAttr::default() {
            return self.getattr(ino);
        }
        if let Some(attr) = self.inodes.remembered(ino)
            && !self.handles.is_open(ino)
        {
            return Ok(self.change_remembered(attr, &set));
        }
        let attr = self.at(ino, |target| self.store.set_attr(target, &set))?;
        if set.uid.is_some() {
            // Whose it is decides whether a configuration holds.
            self.configurations.forget(ino);
            for (dir, _) in self.inodes.names(ino).iter().filter(|(_, name)| Self::is_configuration(name)) {
                self.configurations.forget(*dir);
            }
        }
        Ok(self.draft_attr(ino)?.unwrap_or_else(|| self.beyond_doubt_by_now(attr)))
    }

    /// Of an inode that has neither name nor handle any more: the kernel still flushes times to it.
    fn change_remembered(&self, attr: Attr, set: &SetAttr) -> Attr {
        let kept = |new: Option<u32>, old| new.unwrap_or(old);
        let attr = Attr {
            mode: set.mode.map_or(attr.mode, |mode| attr.mode & libc::S_IFMT | mode & 0o7777),
            uid: kept(set.uid, attr.uid),
            gid: kept(set.gid, attr.gid),
            atime: set.atime.unwrap_or(attr.atime),
            mtime: set.mtime.unwrap_or(attr.mtime),
            ..attr
        };
        self.inodes.remember(attr);
        attr
    }

    /// What a thread has to be free to wait for that begins to get this attribute.
    pub fn getting_waits(name: &OsStr) -> Waits {
        Virtual::parse(name).map_or(Waits::Nothing, Virtual::getting_waits)
    }

    /// The same for setting it.
    pub fn setting_waits(name: &OsStr) -> Waits {
        Virtual::parse(name).map_or(Waits::Nothing, Virtual::setting_waits)
    }

    /// An extended attribute: S3's headers and what the service itself shows, or one that somebody has set.
    pub fn get_xattr(&self, ino: Ino, name: &OsStr, caller: &Caller) -> Result<Vec<u8>> {
        if let Some(name) = Virtual::parse(name) {
            return self.get_virtual(ino, name, caller);
        }
        self.refuse_at_root(ino, name, Refusal::NoAttribute)?;
        self.at(ino, |target| self.store.get_xattr(target, name))
    }

    /// Sets an extended attribute; of S3's headers that asks for another encryption.
    pub fn set_xattr(&self, ino: Ino, name: &OsStr, value: &[u8], flags: XattrFlags, caller: &Caller) -> Result<()> {
        if let Some(name) = Virtual::parse(name) {
            return self.set_virtual(ino, name, value, caller);
        }
        self.refuse_at_root(ino, name, Refusal::FixedAttribute)?;
        if name == ACL {
            // What may have to be waited for to know them (afterwards) is waited for while nothing is done yet.
            self.getattr(ino)?;
        }
        self.at(ino, |target| self.store.set_xattr(target, name, value, flags))?;
        if name == ACL { self.drop_set_gid(ino, caller) } else { Ok(()) }
    }

    /// As chmod(2) does it, which an ACL is a kind of: the set-gid bit is not for whoever is not in the file's group.
    /// (The kernel tells that by a flag of setxattr that the FUSE library has not.)
    fn drop_set_gid(&self, ino: Ino, caller: &Caller) -> Result<()> {
        let attr = self.getattr(ino)?;
        if attr.mode & libc::S_ISGID == 0 || caller.uid == 0 || caller.is_in_group(attr.gid) {
            return Ok(());
        }
        let set = SetAttr { mode: Some(attr.mode & 0o7777 & !libc::S_ISGID), ..SetAttr::default() };
        self.at(ino, |target| self.store.set_attr(target, &set))?;
        Ok(())
    }

    /// Names, each ended by a NUL byte; virtual ones are not among them.
    pub fn list_xattr(&self, ino: Ino) -> Result<Vec<u8>> {
        self.at(ino, |target| self.store.list_xattr(target))
    }

    /// Removes an extended attribute, none of the service's own.
    pub fn remove_xattr(&self, ino: Ino, name: &OsStr, caller: &Caller) -> Result<()> {
        if name == CAPABILITY && caller.uid != 0 && !self.has_writers(ino) && self.getattr(ino)?.uid != caller.uid {
            // The kernel does so for chown(2) to nobody else, before it finds that it is not the caller's file; and for
            // truncate(2), which takes it away here.
            return Ok(());
        }
        if Virtual::parse(name).is_some() {
            return Err(Refusal::FixedAttribute);
        }
        self.refuse_at_root(ino, name, Refusal::FixedAttribute)?;
        self.at(ino, |target| self.store.remove_xattr(target, name))
    }

    /// The root lies in no bucket, so there is no key for a value of its own.
    fn refuse_at_root(&self, ino: Ino, name: &OsStr, refusal: Refusal) -> Result<()> {
        let user = name.as_encoded_bytes().starts_with(b"user.");
        if ino == self.root() && user { Err(refusal) } else { Ok(()) }
    }

    /// The object of an inode with a handle of its own, which wants a release.
    pub(super) fn open_for_attribute(&self, ino: Ino, caller: &Caller) -> Result<Arc<Object>> {
        if self.inodes.kind(ino) != Some(libc::S_IFREG) {
            return Err(Refusal::NoAttribute);
        }
        self.object_of(ino, caller, |dir, name| Ok(self.store.open_object(dir, name, caller)?))
    }
}
