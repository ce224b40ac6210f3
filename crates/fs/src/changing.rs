//! The one door to a file's content: whatever changes it comes through here, and takes set-id bits and file
//! capabilities away first, as ext4 does. So no content is ever under rights that were given to other content.

use super::handles::{Handle, Standing};
use super::{Fs, Range, Refusal, Result};
use kmsfs_kms::Caller;
use kmsfs_store::{Attr, Object, SetAttr, Target};
use std::sync::Arc;

/// A change of content.
#[derive(Clone, Copy)]
pub(super) enum Change<'a> {
    Write {
        offset: u64,
        data: &'a [u8],
    },
    Truncate(u64),
    Punch(Range),
    /// Space, without another length.
    Allocate(Range),
}

/// Who changes content: that decides what becomes of the file's set-id bits.
#[derive(Debug, Clone, Copy)]
pub enum Writer {
    /// The kernel says that this one has not `CAP_FSETID`.
    Ordinary(Caller),
    /// The kernel says that this one has.
    Privileged,
    /// The kernel does not say.
    Anybody(Caller),
    /// The kernel itself, with what programs wrote into its cache: it asked for what had to go when they did. A store
    /// through a mapping takes nothing away, as on ext4.
    WriteBack,
}

impl Fs {
    /// Changes content through a handle that is allowed.
    pub(super) fn change(&self, handle: &Handle, change: Change<'_>, writer: Writer) -> Result<()> {
        if handle.draft.is_some() && matches!(change, Change::Punch(_) | Change::Allocate(_)) {
            return Err(Refusal::ConfigurationSpace);
        }
        self.drop_privileges(&handle.object, writer)?;
        if let Some(draft) = &handle.draft {
            return match change {
                Change::Write { offset, data } => draft.write(offset, data),
                Change::Truncate(len) => draft.truncate(len),
                Change::Punch(_) | Change::Allocate(_) => Err(Refusal::ConfigurationSpace),
            };
        }
        // What the kernel writes back was accepted before, and is taken until draining ends.
        let worst = if matches!(writer, Writer::WriteBack) { Standing::Draining } else { Standing::Allowed };
        self.with_keys(handle, worst, |object| match change {
            Change::Write { offset, data } => object.write(offset, data),
            Change::Truncate(len) => object.truncate(len),
            Change::Punch(Range { offset, len }) => object.punch(offset, len),
            Change::Allocate(Range { offset, len }) => object.allocate(offset, len),
        })
    }

    /// A file's content is about to change: what rights it gives to whoever runs it goes. (notify_change and
    /// setattr_should_drop_suidgid of the kernel; with `FUSE_HANDLE_KILLPRIV_V2` it leaves that to the file system.)
    fn drop_privileges(&self, object: &Arc<Object>, writer: Writer) -> Result<()> {
        if matches!(writer, Writer::WriteBack) {
            return Ok(());
        }
        self.store.drop_capability(object)?;
        let (Writer::Ordinary(caller) | Writer::Anybody(caller)) = writer else { return Ok(()) };
        let attr = object.attr()?;
        let dropped = match writer {
            Writer::Ordinary(_) => left_by(&attr, &caller),
            _ => without_set_id(&attr, &caller),
        };
        if let Some(mode) = dropped {
            let changes = SetAttr { mode: Some(mode), ..SetAttr::default() };
            self.store.set_attr(Target::Object(object), &changes)?;
            // The kernel executes by the mode that it knows, and these requests do not tell it another.
            self.forget_attributes(object.ino());
        }
        Ok(())
    }
}

/// The permissions that a file is left with once this caller has changed its content or owner, if they are others.
pub(super) fn without_set_id(attr: &Attr, caller: &Caller) -> Option<u32> {
    left_by(attr, caller).filter(|_| !caller.keeps_set_id())
}

/// The same, of a caller without privileges.
fn left_by(attr: &Attr, caller: &Caller) -> Option<u32> {
    let mut mode = attr.mode & !libc::S_ISUID;
    // Set-gid without group execution once meant mandatory locking; members of the group may keep that.
    if mode & libc::S_ISGID != 0 && (mode & libc::S_IXGRP != 0 || !caller.is_in_group(attr.gid)) {
        mode &= !libc::S_ISGID;
    }
    (mode != attr.mode).then_some(mode & 0o7777)
}
