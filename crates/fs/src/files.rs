//! Open files: content, locks on it being the kernel's matter.

use super::changing::{Change, Writer};
use super::handles::{Handle, Opener, Standing};
use super::{Creation, Entry, Fs, HandleId, Ino, Refusal, Result, TRIES};
use kmsfs_kms::{Caller, Operation, Waits, waits};
use kmsfs_sse::{Encryption, Request};
use kmsfs_store::{self as store, Dir, Object, SeekTo};
use rustix::io::Errno;
use std::cell::Cell;
use std::ffi::OsStr;
use std::sync::Arc;

/// Bytes of a file.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// Where it begins.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// Bytes of a file that one looks through, or changes the allocation of, while others wait.
pub const LONG: u64 = 64 << 20;

/// What is copied at once inside the daemon.
const COPY: usize = 1 << 20;

impl Fs {
    /// Makes and opens an object. Answers its handle too.
    pub fn create(&self, parent: Ino, name: &OsStr, creation: &Creation) -> Result<(Entry, HandleId)> {
        Self::check_name(name)?;
        let dir = self.below_root(parent)?;
        let judgement = self.judgement();
        let _making = Self::is_configuration(name).then(|| self.configurations.making(dir.ino()));
        let (object, entry) = self.make_object(&dir, name, creation)?;
        let opener = Opener { caller: creation.caller, operation: Operation::GenerateDataKey, write: true };
        let mut handle = Handle::new(object, opener);
        if Self::is_configuration(name) {
            handle.draft = Some(self.new_draft(&handle.object)?);
        }
        Ok((entry, self.admit(handle, judgement)))
    }

    pub(super) fn make_object(
        &self,
        dir: &Arc<Dir>,
        name: &OsStr,
        creation: &Creation,
    ) -> Result<(Arc<Object>, Entry)> {
        // Where all files are the mounting user's, the file does not say who has made it.
        if Self::is_configuration(name) && !self.options.keep_owners {
            self.check_putter(dir, rustix::process::geteuid().as_raw(), Some(&creation.caller))?;
        }
        let want = self.encryption_of_new(dir, name)?;
        let key = dir.key_of(name);
        let made = self.store.create(dir, name, &self.node(dir, creation)?, &want, &key, &creation.caller);
        let (object, attr) = made?;
        self.configuration_changed(dir, name);
        Ok((object, self.entry(dir, name, attr)))
    }

    /// `truncate` is O_TRUNC, `write` whether the handle is for writing too. ESTALE if no name is the inode's any more:
    /// whoever resolved one has to do so again.
    pub fn open(&self, ino: Ino, truncate: bool, write: bool, caller: &Caller) -> Result<HandleId> {
        if let Some((parent, name)) = self.inodes.name_that(ino, Self::is_configuration) {
            return self.open_configuration(ino, (&self.dir(parent)?, &name), truncate, write, caller);
        }
        if truncate {
            self.may_append()?;
        }
        let judgement = self.judgement();
        let operation = Cell::new(Operation::Decrypt);
        let by_name = |dir: &Arc<Dir>, name: &OsStr| {
            let known = if truncate { self.given_up.take(ino, caller) } else { None };
            let opened = known.map_or_else(|| self.store.open_object(dir, name, caller), Err);
            let is_given_up = match &opened {
                Err(store::Error::Corrupt(_)) => truncate || self.store.was_never_committed(dir, name),
                // A key that refuses says nothing about what is there.
                Err(store::Error::Sse(_)) => truncate,
                _ => false,
            };
            match opened {
                Err(why) if is_given_up => {
                    operation.set(Operation::GenerateDataKey);
                    let (want, key) = (self.encryption_for(dir, name, None)?, dir.key_of(name));
                    if !truncate {
                        return Ok(self.store.open_truncated(dir, name, &want, &key, caller)?);
                    }
                    let opened = self.store.open_given_up(dir, name, &want, &key, caller, &why);
                    if matches!(opened, Err(store::Error::WouldWait(_))) {
                        self.given_up.keep(ino, caller, why);
                    }
                    Ok(opened?)
                }
                // The kernel looks the name up again, and finds none.
                Err(store::Error::Corrupt(_)) if self.store.remove_unborn(dir, name)? => Err(Refusal::Stale),
                opened => Ok(opened?),
            }
        };
        // What is given up need not be readable, which only its name's way knows.
        let given_up = if truncate { self.object_by_name(ino, by_name)? } else { None };
        let object = given_up.map_or_else(|| self.object_of(ino, caller, by_name), Ok)?;
        // O_TRUNC changes the file, whatever the handle is for.
        let opener = Opener { caller: *caller, operation: operation.get(), write: write || truncate };
        self.opened(object, truncate, opener, judgement)
    }

    /// The object of an inode with one handle more: the one that is open already or at hand, or what `open` finds under
    /// one of the inode's names.
    pub(super) fn object_of(
        &self,
        ino: Ino,
        caller: &Caller,
        open: impl Fn(&Arc<Dir>, &OsStr) -> Result<Arc<Object>>,
    ) -> Result<Arc<Object>> {
        if let Some(object) = self.store.open_again(ino, caller)? {
            return Ok(object);
        }
        self.object_by_name(ino, open)?.ok_or(Refusal::Stale)
    }

    /// A name may become another inode's just before it is opened, and never answers for this one then.
    fn object_by_name(
        &self,
        ino: Ino,
        open: impl Fn(&Arc<Dir>, &OsStr) -> Result<Arc<Object>>,
    ) -> Result<Option<Arc<Object>>> {
        // A name that has just moved is found on another try.
        for _ in 0..TRIES {
            for (parent, name) in self.inodes.names(ino) {
                let Ok(dir) = self.dir(parent) else { continue };
                match open(&dir, &name) {
                    Ok(object) if object.ino() == ino => return Ok(Some(object)),
                    Ok(other) => self.store.release(&other),
                    Err(refusal) if refusal.is_not_found() => {}
                    Err(error) => return Err(error),
                }
            }
            if self.in_place(ino)?.is_none() {
                break;
            }
        }
        Ok(None)
    }

    fn opened(&self, object: Arc<Object>, truncate: bool, opener: Opener, judgement: u64) -> Result<HandleId> {
        let handle = Handle::new(object, opener);
        let keys = self.store.keys();
        if keys.may_ask().is_err() {
            // It may have come under another key since it was opened, which its opener has to be asked about.
            handle.object.kms_keys().iter().try_for_each(|(key_arn, _)| keys.may_ask_about(key_arn))?;
        }
        if truncate {
            self.change(&handle, Change::Truncate(0), Writer::Anybody(opener.caller))?;
        }
        Ok(self.admit(handle, judgement))
    }

    pub(super) fn handle(&self, id: HandleId) -> Result<Arc<Handle>> {
        self.handles.get(id).ok_or(Refusal::UnknownHandle)
    }

    /// Bytes read; fewer than asked for only at the end.
    pub fn read(&self, handle: HandleId, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        let handle = self.permitted(handle)?;
        if let Some(draft) = &handle.draft {
            return Ok(draft.read(offset, bytes));
        }
        let read = self.with_keys(&handle, Standing::Allowed, |object| object.read(offset, bytes))?;
        self.was_read(&handle);
        Ok(read)
    }

    /// The reader of a handle may be seen in the access time.
    pub fn accessed(&self, handle: HandleId) -> Result<()> {
        let handle = self.handle(handle)?;
        if handle.draft.is_none() && !self.options.noatime {
            handle.object.accessed();
        }
        Ok(())
    }

    /// Writes all of it.
    pub fn write(&self, handle: HandleId, offset: u64, data: &[u8], writer: Writer) -> Result<()> {
        let handle = self.permitted(handle)?;
        self.change(&handle, Change::Write { offset, data }, writer)
    }

    /// What close(2) asks for: the object is committed, and errors are reported.
    pub fn flush(&self, handle: HandleId) -> Result<()> {
        let handle = self.handle(handle)?;
        if let Some(draft) = &handle.draft {
            return self.write_out(&handle.object, draft, &handle.opener.caller);
        }
        // Who changed nothing has nothing to report: what others changed is theirs.
        if self.store.read_only() || !handle.opener.write {
            return Ok(());
        }
        Ok(handle.object.commit()?)
    }

    /// The last descriptor of the handle is closed.
    pub fn release(&self, handle: HandleId) {
        if let Some(handle) = self.handles.remove(handle) {
            if handle.draft.is_some() {
                self.drop_draft(&handle.object);
            }
            self.released(&handle);
            if !self.handles.is_open(handle.ino()) {
                self.forget_unwritten(handle.ino());
            }
        }
    }

    /// What was written through any handle of the object survives a loss of power.
    pub fn fsync(&self, handle: HandleId) -> Result<()> {
        let handle = self.handle(handle)?;
        if let Some(draft) = &handle.draft {
            self.write_out(&handle.object, draft, &handle.opener.caller)?;
        }
        if self.store.read_only() {
            return Ok(());
        }
        Ok(handle.object.fsync()?)
    }

    /// Another length, through a handle or by inode.
    pub fn truncate(&self, ino: Ino, handle: Option<HandleId>, len: u64, caller: &Caller) -> Result<()> {
        if let Some(handle) = handle.and_then(|id| self.handles.get(id)) {
            Self::check(&handle)?;
            return self.change(&handle, Change::Truncate(len), Writer::Anybody(*caller));
        }
        self.may_append()?;
        if self.inodes.name_that(ino, Self::is_configuration).is_some() {
            // It is validated and made the content, or given up, which the kernel is told.
            waits::may_wait(Waits::Disk)?;
        }
        let id = self.open(ino, false, true, caller)?;
        let done = self.truncate(ino, Some(id), len, caller).and_then(|()| self.flush(id));
        self.release(id);
        done
    }

    /// fallocate(2), `mode` as there.
    pub fn fallocate(&self, handle: HandleId, range: Range, mode: i32, caller: &Caller) -> Result<()> {
        const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
        const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE;
        const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
        let handle = self.permitted(handle)?;
        let writer = Writer::Anybody(*caller);
        let Range { offset, len } = range;
        if handle.draft.is_some() {
            return Err(Refusal::ConfigurationSpace);
        }
        let size = handle.object.attr()?.size;
        let end = offset.checked_add(len).ok_or(Refusal::TooLong)?;
        let known = KEEP | PUNCH | ZERO;
        if mode & !known != 0 || mode & PUNCH != 0 && mode & (KEEP | ZERO) != KEEP {
            return Err(Refusal::Unsupported);
        }
        if mode & (PUNCH | ZERO) != 0 {
            self.change(&handle, Change::Punch(range), writer)?;
        }
        if mode & PUNCH == 0 {
            match self.change(&handle, Change::Allocate(range), writer) {
                // Where the backing file system cannot reserve, writing will tell.
                Err(refusal) if refusal.is_of_store(Errno::OPNOTSUPP) => {}
                done => done?,
            }
            if mode & KEEP == 0 && end > size {
                self.change(&handle, Change::Truncate(end), writer)?;
            }
        }
        Ok(())
    }

    /// Whether somebody has the inode open for writing, so that the kernel may have content that was not written yet.
    pub fn has_writers(&self, ino: Ino) -> bool {
        self.handles.has_writers(ino)
    }

    /// Whether `seek` may have to pass over so much data that others should not wait for it. Holes it passes over at
    /// once.
    pub fn seek_takes_long(&self, handle: HandleId, offset: u64, to: SeekTo) -> bool {
        let size = || self.handle(handle).and_then(|handle| Ok(handle.object.attr()?.size));
        to == SeekTo::Hole && size().is_ok_and(|size| size.saturating_sub(offset) > LONG)
    }

    /// Where the next data is, or the next hole, from an offset on.
    pub fn seek(&self, handle: HandleId, offset: u64, to: SeekTo) -> Result<u64> {
        let handle = self.permitted(handle)?;
        Ok(handle.object.seek(offset, to)?)
    }

    /// Copies inside the daemon; holes stay holes. Answers how many bytes, fewer after an error in the middle.
    pub fn copy(
        &self,
        from: HandleId,
        offset: u64,
        to: HandleId,
        to_offset: u64,
        len: u64,
        caller: &Caller,
    ) -> Result<u64> {
        let (source, target) = (self.permitted(from)?, self.permitted(to)?);
        if source.draft.is_some() || target.draft.is_some() {
            return Err(Refusal::ConfigurationCopy);
        }
        let size = source.object.attr()?.size;
        let len = len.min(size.saturating_sub(offset));
        let mut buffer = vec![0; COPY.min(len as usize)];
        let mut done = 0;
        let mut writer = Writer::Anybody(*caller);
        while done < len {
            let to = (&*target, to_offset + done, writer);
            let step = self.copy_some(&source, offset + done, to, len - done, &mut buffer);
            // What had to go went with the first step.
            writer = Writer::WriteBack;
            match step {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// A hole, or as much data as the buffer holds.
    fn copy_some(
        &self,
        source: &Handle,
        offset: u64,
        (target, to_offset, writer): (&Handle, u64, Writer),
        left: u64,
        buffer: &mut [u8],
    ) -> Result<u64> {
        let data = match source.object.seek(offset, SeekTo::Data) {
            Ok(data) => data,
            Err(error) if error.is_errno(Errno::NXIO) => offset + left,
            Err(error) => return Err(error.into()),
        };
        let hole = (data - offset).min(left);
        if hole > 0 {
            let (size, end) = (target.object.attr()?.size, to_offset + hole);
            if end > size {
                self.change(target, Change::Truncate(end), writer)?;
            }
            if to_offset < size {
                self.change(target, Change::Punch(Range { offset: to_offset, len: hole }), writer)?;
            }
            return Ok(hole);
        }
        let count = (buffer.len() as u64).min(left) as usize;
        let read = self.with_keys(source, Standing::Allowed, |object| object.read(offset, &mut buffer[..count]))?;
        self.change(target, Change::Write { offset: to_offset, data: &buffer[..read] }, writer)?;
        Ok(read as u64)
    }

    pub(super) fn encryption_for(&self, dir: &Arc<Dir>, name: &OsStr, request: Option<&Request>) -> Result<Encryption> {
        if Self::is_configuration(name) {
            return Ok(super::configurations::service_encryption());
        }
        let configuration = self.configuration_in_force(dir)?;
        Ok(kmsfs_sse::resolve(request, configuration.as_ref().map(|found| &found.encryption))?)
    }
}
