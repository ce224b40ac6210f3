//! `.encryption.json`: which configuration is in force in a directory, and how one comes into force.
//!
//! A configuration is an object under the service's own key. Whoever writes one writes into a draft in memory; the
//! draft becomes the content only after it was validated as a whole, at flush or fsync.

use super::changing::{Change, Writer};
use super::handles::{Handle, Opener};
use super::{Fs, HandleId, Ino, Refusal, Result, Stale};
use kmsfs_kms::{Caller, EncryptionContext, Operation, Waits, waits};
use kmsfs_locks::{Mutex, ranks};
use kmsfs_sse::{Algorithm, Configuration, Encryption, RequestError};
use kmsfs_store::backend::Rename;
use kmsfs_store::configured::digest;
use kmsfs_store::{Attr, Dir, Object, Target};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::Arc;

pub(super) use kmsfs_sse::CONFIGURATION_FILE as NAME;

/// The daemon itself: what it reads and writes of its own accord is asked of the service's own key.
pub(super) const SERVICE: Caller = Caller { uid: 0, gid: 0, pid: 0 };

#[derive(Default)]
pub(crate) struct Configurations {
    known: Mutex<ranks::Configurations, Known>,
    /// By the inode of the configuration being written, with the number of handles that write it.
    drafts: Mutex<ranks::Drafts, HashMap<Ino, SharedDraft>>,
}

#[derive(Default)]
struct Known {
    /// By directory; `None` where there is none.
    of: HashMap<Ino, Option<Arc<Configuration>>>,
    /// By directory: why the text that was last written there was refused, where no valid one is there.
    refused: HashMap<Ino, RequestError>,
    /// By directory: how many files of that name are being made, and have no draft yet.
    making: HashMap<Ino, usize>,
    /// Counts those that were forgotten, here or not.
    forgotten: u64,
}

/// A file is being made that will be a configuration, until this is dropped: it has a draft by then.
pub(crate) struct Making<'a> {
    configurations: &'a Configurations,
    dir: Ino,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let mut known = self.configurations.known.lock();
        if let Some(count) = known.making.get_mut(&self.dir) {
            *count -= 1;
            if *count == 0 {
                known.making.remove(&self.dir);
            }
        }
    }
}

type SharedDraft = (Arc<Draft>, usize);

/// A directory and a name in it.
pub(super) type Place<'a> = (&'a Arc<Dir>, &'a OsStr);

impl Configurations {
    pub(crate) fn forget(&self, dir: Ino) {
        let mut known = self.known.lock();
        known.of.remove(&dir);
        known.refused.remove(&dir);
        known.forgotten += 1;
    }

    /// No valid configuration is there, and the last text was refused for that reason.
    fn refuse(&self, dir: Ino, cause: RequestError) {
        self.forget(dir);
        self.known.lock().refused.insert(dir, cause);
    }

    /// Why the empty configuration of a directory does not hold.
    fn why_refused(&self, dir: Ino) -> RequestError {
        let known = self.known.lock().refused.get(&dir).cloned();
        known.unwrap_or_else(|| RequestError::malformed("the encryption configuration is empty"))
    }

    /// Somebody makes a file in that directory that will be a configuration.
    pub(crate) fn making(&self, dir: Ino) -> Making<'_> {
        *self.known.lock().making.entry(dir).or_default() += 1;
        Making { configurations: self, dir }
    }

    /// Whether somebody has that directory's configuration open to write it, and nothing that was written was refused;
    /// or is about to.
    fn is_being_written(&self, dir: Ino, ino: Ino) -> bool {
        if self.known.lock().making.contains_key(&dir) {
            return true;
        }
        let draft = self.drafts.lock().get(&ino).map(|(draft, _)| draft.clone());
        draft.is_some_and(|draft| !draft.text.lock().refused)
    }

    /// A directory's, or what [`Configurations::keep`] is to be told.
    fn find(&self, dir: Ino) -> std::result::Result<Option<Arc<Configuration>>, u64> {
        let known = self.known.lock();
        known.of.get(&dir).cloned().ok_or(known.forgotten)
    }

    /// Whether any was put or taken away since `find` said that.
    fn have_changed(&self, forgotten: u64) -> bool {
        self.known.lock().forgotten != forgotten
    }

    /// Keeps what was read, unless it may have been another one's turn since `find`.
    fn keep(&self, dir: Ino, configuration: Option<Arc<Configuration>>, forgotten: u64) {
        let mut known = self.known.lock();
        if known.forgotten == forgotten {
            known.of.insert(dir, configuration);
        }
    }
}

/// A configuration on its way, of all who write it.
pub(crate) struct Draft {
    /// Held by whoever makes the text the content, which takes as long as the disk does: texts are made the content one
    /// after the other.
    writing_out: Mutex<ranks::WritingOut, ()>,
    text: Mutex<ranks::Draft, Text>,
}

struct Text {
    content: Vec<u8>,
    /// Written to since it was last validated. The empty file that a redirection makes first is not validated.
    written: bool,
    truncated: bool,
    /// A text was refused, and what the file holds instead is empty.
    refused: bool,
    /// Counts changes.
    version: u64,
}

/// A configuration as it is in its directory.
#[derive(PartialEq, Eq)]
struct There {
    content: Vec<u8>,
    owner: u32,
    ino: Ino,
}

/// A configuration with where it comes from.
pub(crate) struct InForce {
    pub encryption: Encryption,
    pub configuration: Arc<Configuration>,
    /// Path of the file, relative to the mount.
    pub source: String,
}

/// What configurations are encrypted with, whatever they say: AES256.
pub(crate) fn service_encryption() -> Encryption {
    Encryption { algorithm: Algorithm::Aes256, key_id: None, bucket_key: false, context: EncryptionContext::new() }
}

impl Draft {
    fn new(content: Vec<u8>) -> Self {
        Self { writing_out: Mutex::default(), text: Mutex::new(Text::new(content, 0)) }
    }

    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8]) -> usize {
        let content = &self.text.lock().content;
        let from = (offset as usize).min(content.len());
        let count = bytes.len().min(content.len() - from);
        bytes[..count].copy_from_slice(&content[from..from + count]);
        count
    }

    pub(crate) fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.text.lock().write(offset, data)
    }

    pub(crate) fn truncate(&self, len: u64) -> Result<()> {
        self.text.lock().truncate(len)
    }

    /// In bytes; `None` if it says nothing that its file does not.
    fn length(&self) -> Option<u64> {
        let text = self.text.lock();
        (text.written || text.truncated).then_some(text.content.len() as u64)
    }

    /// Whether there is a text that is to become the content, or is just becoming it.
    fn has_unwritten(&self) -> bool {
        self.text.lock().is_unwritten()
    }

    /// The text that is to become the content, if there is one, and its version.
    fn unwritten(&self) -> Option<(Vec<u8>, u64)> {
        let text = self.text.lock();
        text.is_unwritten().then(|| (text.content.clone(), text.version))
    }

    /// That version has become the content. What was written since is still to.
    fn was_written_out(&self, version: u64) {
        let mut text = self.text.lock();
        text.refused = false;
        if text.version == version {
            (text.written, text.truncated) = (false, false);
        }
    }

    /// That version was refused, and the content is what it was. What was written since is refused in its turn.
    fn give_up(&self, version: u64, content: Vec<u8>) {
        let mut text = self.text.lock();
        let refused = content.is_empty();
        if text.version == version {
            *text = Text::new(content, version + 1);
        }
        text.refused = refused;
    }
}

impl Text {
    fn new(content: Vec<u8>, version: u64) -> Self {
        Self { content, written: false, truncated: false, refused: false, version }
    }

    fn is_unwritten(&self) -> bool {
        self.written && !self.content.is_empty()
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        let end = offset.saturating_add(data.len() as u64);
        // One byte too many is kept, so that validation can say what is wrong.
        if end > Configuration::MAX_LEN as u64 + 1 && offset > Configuration::MAX_LEN as u64 {
            return Err(Refusal::TooLong);
        }
        let end = (end as usize).min(Configuration::MAX_LEN + 1);
        let offset = offset as usize;
        self.content.resize(self.content.len().max(end), 0);
        self.content[offset..end].copy_from_slice(&data[..end - offset]);
        self.written = true;
        self.version += 1;
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> Result<()> {
        if len > Configuration::MAX_LEN as u64 {
            return Err(Refusal::TooLong);
        }
        self.content.resize(len as usize, 0);
        self.truncated = true;
        self.written |= len > 0;
        self.version += 1;
        Ok(())
    }
}

impl Fs {
    /// Whether a file of that name says how new objects of its directory are encrypted.
    pub fn is_configuration(name: &OsStr) -> bool {
        name == NAME
    }

    /// Whether what the kernel keeps of an inode's content can go wrong: of configurations, and of objects that some
    /// may read no longer.
    pub fn is_volatile(&self, ino: Ino) -> bool {
        self.is_revoked(ino) || self.inodes.names(ino).iter().any(|(_, name)| Self::is_configuration(name))
    }

    /// A directory, symlink or special file of that name would be a configuration that nobody can read.
    pub(super) fn refuse_as_configuration(dir: &Dir, name: &OsStr) -> Result<()> {
        if Self::is_configuration(name) && dir.bucket().is_some() {
            return Err(Refusal::ConfigurationKind { path: dir.show(name) });
        }
        Ok(())
    }

    /// The nearest configuration, from the directory up to its bucket.
    pub(super) fn configuration_in_force(&self, dir: &Arc<Dir>) -> Result<Option<InForce>> {
        let mut dir = dir.clone();
        while let Some(bucket) = dir.bucket() {
            if let Some(configuration) = self.configuration_of(&dir)? {
                let source = format!("{bucket}/{}", dir.key_of(OsStr::new(NAME)));
                return Ok(Some(InForce { encryption: configuration.encryption(), configuration, source }));
            }
            dir = self.dir(self.parent(dir.ino()))?;
        }
        Ok(None)
    }

    fn configuration_of(&self, dir: &Arc<Dir>) -> Result<Option<Arc<Configuration>>> {
        let forgotten = match self.configurations.find(dir.ino()) {
            Ok(known) => return Ok(known),
            Err(forgotten) => forgotten,
        };
        let unreadable = |cause: Refusal| Refusal::UnreadableConfiguration {
            path: dir.show(OsStr::new(NAME)),
            cause: Box::new(cause),
        };
        let mut before = None;
        let there = loop {
            let there = match self.content_there(dir) {
                // A crash caught it before it said anything, or somebody put it there in the store: it is nobody's
                // word.
                Err(Refusal::Store(why @ kmsfs_store::Error::Corrupt(_))) if self.has_no_configuration(dir) => {
                    let path = dir.show(OsStr::new(NAME));
                    log::warn!("{path}: {why}; no configuration was put there, and this is none");
                    return Ok(None);
                }
                // It may be readable, once descriptors are free again, or by a thread that may wait.
                Err(wait @ Refusal::WouldWait(_)) => return Err(wait),
                Err(refusal) if refusal.is_of_store(Errno::NFILE) => return Err(refusal),
                there => there.map_err(unreadable)?,
            };
            match self.check_configured(dir, there.as_ref().map(|there| there.content.as_slice())) {
                Ok(()) => break there,
                // It may have become another one since it was read.
                Err(_) if before.as_ref() != Some(&there) => before = Some(there),
                Err(error) => return Err(unreadable(error.into())),
            }
        };
        let configuration = match there {
            None => None,
            Some(there) if there.content.is_empty() => {
                return match self.empty_configuration(dir, &there) {
                    // It may have been written since it was read.
                    Err(_) if self.configurations.have_changed(forgotten) => self.configuration_of(dir),
                    said => said.map(|()| None),
                };
            }
            Some(there) => {
                self.check_putter(dir, there.owner, None).map_err(|_| unreadable(Refusal::ConfigurationOwner))?;
                Some(Arc::new(Configuration::parse(&there.content).map_err(|error| unreadable(error.into()))?))
            }
        };
        self.configurations.keep(dir.ino(), configuration.clone(), forgotten);
        Ok(configuration)
    }

    /// Somebody wanted a configuration where there was none, and there still is no valid one: bash's echo and Python's
    /// write do not look at what close(2) says, so that this is where it is noticed. Not while it is being written, as
    /// it is from when a redirection has made the file; and a file of somebody who may put none means nothing.
    fn empty_configuration(&self, dir: &Arc<Dir>, there: &There) -> Result<()> {
        if self.configurations.is_being_written(dir.ino(), there.ino)
            || self.check_putter(dir, there.owner, None).is_err()
        {
            return Ok(());
        }
        let cause = self.configurations.why_refused(dir.ino());
        Err(Refusal::InvalidConfiguration { path: dir.show(OsStr::new(NAME)), cause })
    }

    /// What is in a directory under the name of a configuration, if anything is.
    fn content_there(&self, dir: &Arc<Dir>) -> Result<Option<There>> {
        let object = match self.store.open_object(dir, OsStr::new(NAME), &SERVICE) {
            Err(error) if error.is_errno(Errno::NOENT) => return Ok(None),
            opened => opened?,
        };
        let there = Self::content_of(&object)
            .and_then(|content| Ok(There { content, owner: object.attr()?.uid, ino: object.ino() }));
        self.store.release(&object);
        there.map(Some)
    }

    /// At most one byte more than a configuration may have.
    pub(super) fn content_of(object: &Object) -> Result<Vec<u8>> {
        let mut content = vec![0; Configuration::MAX_LEN + 1];
        let read = object.read(0, &mut content)?;
        content.truncate(read);
        Ok(content)
    }

    pub(super) fn configuration_changed(&self, dir: &Dir, name: &OsStr) {
        if Self::is_configuration(name) {
            self.configurations.forget(dir.ino());
        }
    }

    pub(super) fn open_configuration(
        &self,
        ino: Ino,
        (dir, name): Place,
        truncate: bool,
        write: bool,
        caller: &Caller,
    ) -> Result<HandleId> {
        let object = match self.store.open_object(dir, name, caller) {
            // One that cannot be read can be replaced by writing a whole new one.
            Err(error) if truncate && matches!(error, kmsfs_store::Error::Corrupt(_)) => {
                let key = dir.key_of(name);
                let object = self.store.open_truncated(dir, name, &service_encryption(), &key, caller)?;
                self.configuration_changed(dir, name);
                object
            }
            opened => opened?,
        };
        // AES256, which no KMS key stands behind: there is nothing to take away.
        let opener = Opener { caller: *caller, operation: Operation::Decrypt, write };
        let mut handle = Handle::new(object, opener);
        if handle.ino() != ino {
            return Err(Refusal::Stale);
        }
        if write || truncate {
            handle.draft = Some(self.draft(&handle.object)?);
        }
        if truncate {
            let done = self.change(&handle, Change::Truncate(0), Writer::Anybody(*caller));
            done.inspect_err(|_| self.drop_draft(&handle.object))?;
        }
        Ok(self.handles.insert(handle).0)
    }

    pub(super) fn new_draft(&self, object: &Arc<Object>) -> Result<Arc<Draft>> {
        object.commit()?;
        self.draft(object)
    }

    /// The draft of that inode, shared by all who write it.
    fn draft(&self, object: &Arc<Object>) -> Result<Arc<Draft>> {
        let content = Self::content_of(object)?;
        let mut drafts = self.configurations.drafts.lock();
        let (draft, handles) = drafts.entry(object.ino()).or_insert_with(|| (Arc::new(Draft::new(content)), 0));
        *handles += 1;
        Ok(draft.clone())
    }

    pub(super) fn drop_draft(&self, object: &Arc<Object>) {
        let ino = object.ino();
        let mut drafts = self.configurations.drafts.lock();
        if let Some((draft, handles)) = drafts.get_mut(&ino) {
            *handles -= 1;
            if *handles == 0 {
                let abandoned = draft.text.lock().truncated;
                drafts.remove(&ino);
                drop(drafts);
                if abandoned {
                    self.show_anew(ino);
                }
            }
        }
    }

    /// The length that a configuration has for whoever writes it.
    pub(super) fn draft_attr(&self, ino: Ino) -> Result<Option<Attr>> {
        let Some(draft) = self.configurations.drafts.lock().get(&ino).map(|(draft, _)| draft.clone()) else {
            return Ok(None);
        };
        let Some(handle) = self.handles.of(ino).pop() else { return Ok(None) };
        // Before the file's: that of a draft which becomes the content meanwhile is the file's by then.
        let length = draft.length();
        let attr = handle.object.attr()?;
        Ok(Some(Attr { size: length.unwrap_or(attr.size), ..attr }))
    }

    /// Validates a draft and makes it the content, or gives it up: then the configuration before stays, file included.
    pub(super) fn write_out(&self, object: &Arc<Object>, draft: &Draft, caller: &Caller) -> Result<()> {
        if !draft.has_unwritten() {
            return Ok(());
        }
        // Another one may be making its text the content, and this one syncs.
        waits::may_wait(Waits::Disk)?;
        let _alone = draft.writing_out.lock();
        let Some((content, version)) = draft.unwritten() else { return Ok(()) };
        let names = self.inodes.names(object.ino()).into_iter().filter(|(_, name)| Self::is_configuration(name));
        let dirs: Vec<_> = names.filter_map(|(dir, _)| self.dir(dir).ok()).collect();
        let owner = object.attr()?.uid;
        let putter = dirs.iter().try_for_each(|dir| self.check_putter(dir, owner, Some(caller)));
        let malformed = Configuration::parse(&content).err();
        if putter.is_err() || malformed.is_some() {
            let before = Self::content_of(object)?;
            let holds = !before.is_empty();
            draft.give_up(version, before);
            self.show_anew(object.ino());
            putter?;
            let path = dirs.first().map(|dir| dir.show(OsStr::new(NAME))).unwrap_or_default();
            return malformed.map_or(Ok(()), |cause| {
                if !holds {
                    self.note_refused(object, &dirs, &cause);
                }
                Err(Refusal::Configuration { path, cause, holds })
            });
        }
        let after: Vec<_> = dirs.iter().map(|dir| (dir.clone(), Some(digest(&content)))).collect();
        self.configuring(&after, || Ok(object.rewrite(&content, None)?), || Ok(object.fsync()?))?;
        draft.was_written_out(version);
        for dir in dirs {
            self.configurations.forget(dir.ino());
        }
        Ok(())
    }

    /// Nothing valid is in these directories, where somebody wants a configuration: nobody is to create anything there
    /// as though there were none, also after the file was taken away in the store.
    fn note_refused(&self, object: &Object, dirs: &[Arc<Dir>], cause: &RequestError) {
        let after: Vec<_> = dirs.iter().map(|dir| (dir.clone(), Some(digest(b"")))).collect();
        let settle = || {
            object.fsync()?;
            self.settle_configurations(&dirs.iter().collect::<Vec<_>>())
        };
        if let Err(error) = self.configuring(&after, || Ok(()), settle) {
            log::warn!("an empty configuration that is taken away in the store would not be noticed: {error}");
        }
        for dir in dirs {
            self.configurations.refuse(dir.ino(), cause.clone());
        }
    }

    /// The kernel trusts its own idea of a file's length while it caches writes: it is made to look again.
    fn show_anew(&self, ino: Ino) {
        self.inodes.renew(ino);
        for (parent, name) in self.inodes.names(ino) {
            self.tell(Stale::Name(parent, name));
        }
    }

    /// Before a rename: a file that becomes a configuration is validated and gets the service's key, one that ceases to
    /// be one gets what its directory says.
    pub(super) fn adopt_configuration(&self, from: Place, to: Place, how: Rename, caller: &Caller) -> Result<()> {
        match (Self::is_configuration(from.1), Self::is_configuration(to.1)) {
            (false, true) => {
                self.become_configuration(from, to, caller)?;
                if how == Rename::Exchange { self.become_ordinary(to, from, caller) } else { Ok(()) }
            }
            (true, false) => {
                if how == Rename::Exchange {
                    self.become_configuration(to, from, caller)?;
                }
                self.become_ordinary(from, to, caller)
            }
            (true, true) => {
                self.check_putter(to.0, self.store.stat(Target::Name(from.0, from.1))?.uid, Some(caller))?;
                if how == Rename::Exchange {
                    self.check_putter(from.0, self.store.stat(Target::Name(to.0, to.1))?.uid, Some(caller))?;
                }
                Ok(())
            }
            (false, false) => Ok(()),
        }
    }

    pub(super) fn become_configuration(&self, from: Place, to: Place, caller: &Caller) -> Result<()> {
        if !self.is_regular(from)? {
            return Self::refuse_as_configuration(to.0, to.1);
        }
        self.with_opened(from, caller, |object| {
            self.check_putter(to.0, object.attr()?.uid, Some(caller))?;
            if let Err(cause) = Configuration::parse(&Self::content_of(object)?) {
                return Err(Refusal::Configuration { path: to.0.show(to.1), cause, holds: true });
            }
            if object.encryption().algorithm != Algorithm::Aes256 {
                self.store.rewrap(object, &service_encryption(), &to.0.key_of(to.1), caller)?;
            }
            Ok(())
        })
    }

    fn become_ordinary(&self, from: Place, to: Place, caller: &Caller) -> Result<()> {
        if !self.is_regular(from)? {
            return Ok(());
        }
        let want = self.encryption_for(to.0, to.1, None)?;
        self.with_opened(from, caller, |object| Ok(self.store.rewrap(object, &want, &to.0.key_of(to.1), caller)?))
    }

    fn is_regular(&self, (dir, name): Place) -> Result<bool> {
        Ok(self.store.stat(Target::Name(dir, name))?.mode & libc::S_IFMT == libc::S_IFREG)
    }

    fn with_opened(
        &self,
        (dir, name): Place,
        caller: &Caller,
        with: impl FnOnce(&Arc<Object>) -> Result<()>,
    ) -> Result<()> {
        let object = self.store.open_object(dir, name, caller)?;
        let done = with(&object);
        self.store.release(&object);
        done
    }
}
