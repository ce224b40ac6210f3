//! One object, from when it is opened until nothing in the log is its any more.
//!
//! What there is to know of an object has five parts, each with fields of its own: its present content, what of it is
//! committed and durable, its keys, its names and descriptor, and its times. `Object` has them under one lock, and its
//! methods are what takes several of them: a file for each thing that is done with an object.

mod authorize;
mod checkpoint;
mod commit;
mod content;
mod durability;
mod holes;
mod keyed;
mod lifetime;
mod opening;
mod read;
mod reencrypt;
mod relocate;
mod rewrite;
mod shown;
mod space;
mod sync;
mod truncate;
mod write;

use super::backend::{self, File};
use super::{Attr, Result, SetAttr, Store};
use crate::{Ino, Time, Volume, VolumeObjects};
pub(super) use checkpoint::Noted;
use content::{Ahead, Content, named};
use durability::Durability;
pub use holes::SeekTo;
pub(super) use keyed::ENCRYPTIONS;
pub(super) use keyed::Keyed;
use kmsfs_crypto::ObjectKeys;
use kmsfs_format::ObjectId;
use kmsfs_format::header::Seal;
use kmsfs_format::layout::{ChunkIndex, Geometry, PlainLen};
use kmsfs_locks::{Mutex, RwLock, ranks};
use kmsfs_sse::Algorithm;
pub use lifetime::Held;
pub(super) use lifetime::Home;
use lifetime::{Lifetime, Users};
pub(super) use opening::{NewObject, Remains, Salvaged, Unverified, read_header};
use shown::{Asked, Shown};
use std::ops::Range;
use std::sync::Arc;

/// An object that is open, or has something in the redo log.
pub struct Object {
    store: Arc<Store>,
    ino: Ino,
    users: Users,
    state: RwLock<ranks::ObjectState, State>,
    ahead: Ahead,
    asked: Asked,
    /// What is known of a file capability: `false` that there may be one. Nobody asks for this object's state
    /// meanwhile.
    pub(super) has_no_capability: Mutex<ranks::Capability, bool>,
}

/// The five parts.
pub(super) struct State {
    content: Content,
    durability: Durability,
    pub(super) keyed: Keyed,
    lifetime: Lifetime,
    shown: Shown,
}

/// What a closed object cannot give up yet, and the descriptor that it gave up.
pub(super) enum Kept {
    /// It is not closed.
    InUse,
    /// Its descriptor: there is something to be written into its file, or to be punched out of it.
    Open,
    /// Its place in memory: the log has its sidecar's record.
    Record,
    Nothing(Option<Home>),
}

/// An object's ETag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// 32 hexadecimal digits, without quotes.
    pub hex: String,
    /// It is the MD5 of the content; any other is opaque.
    pub is_md5: bool,
}

/// What HeadObject says about an object's encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEncryption {
    /// What x-amz-server-side-encryption says.
    pub algorithm: Algorithm,
    /// Full ARN; `None` for AES256.
    pub key_arn: Option<String>,
    /// Whether the data key is under the bucket's key, and that under the KMS key.
    pub bucket_key: bool,
}

impl Object {
    /// Of an object that has just been opened or made, with one handle.
    fn with(store: &Store, ino: Ino, state: State, ahead: Vec<u8>) -> Self {
        Self {
            store: store.shared(),
            ino,
            users: Users::one_handle(),
            state: RwLock::new(state),
            ahead: Ahead::new(ahead),
            asked: Asked::default(),
            has_no_capability: Mutex::default(),
        }
    }

    /// The number of its inode.
    pub fn ino(&self) -> Ino {
        self.ino
    }

    pub(super) fn id(&self) -> ObjectId {
        self.state.read().keyed.id()
    }

    /// Of the newest data key.
    pub fn encryption(&self) -> ObjectEncryption {
        let state = self.state.read();
        let wrapped = &state.keyed.sidecar().newest().wrapped;
        ObjectEncryption {
            algorithm: wrapped.algorithm,
            key_arn: (wrapped.algorithm != Algorithm::Aes256).then(|| wrapped.key_arn.clone()),
            bucket_key: wrapped.under_bucket_key.is_some(),
        }
    }

    /// What stat(2) shows; `EBADF` without a descriptor.
    pub fn attr(&self) -> Result<Attr> {
        let state = self.state.read();
        let mut attr = Attr::of(&state.lifetime.file()?.metadata()?);
        state.correct(&mut attr);
        Ok(attr)
    }

    /// What of an inode's attributes the object knows better.
    pub(super) fn correct(&self, attr: &mut Attr) {
        self.state.read().correct(attr);
    }

    pub(super) fn set_attr(&self, changes: &SetAttr) -> Result<Attr> {
        self.asked.again();
        let mut state = self.state.write();
        let file = state.lifetime.file()?.clone();
        if changes.uid.is_some() || changes.gid.is_some() {
            file.set_owner(changes.uid, changes.gid)?;
        }
        if let Some(mode) = changes.mode {
            file.set_mode(mode & 0o7777)?;
        }
        if changes.atime.is_some() || changes.mtime.is_some() {
            file.set_times(changes.atime, changes.mtime)?;
        }
        if changes.mtime.is_some() {
            // A commit may write home later, which must not show.
            state.shown.set_mtime(changes.mtime);
        }
        let mut attr = Attr::of(&file.metadata()?);
        state.correct(&mut attr);
        Ok(attr)
    }

    /// Where its attributes are, if it has a descriptor.
    pub(super) fn file(&self) -> Option<Arc<dyn File>> {
        self.state.read().lifetime.file().ok().cloned()
    }

    /// Of the committed state, without quotes; commits first. An MD5 only where the content was hashed as it was
    /// written, and is still the same.
    pub fn etag(&self) -> Result<String> {
        Ok(self.tag()?.hex)
    }

    /// As [`Object::etag`], with what it is.
    pub fn tag(&self) -> Result<Tag> {
        if self.state.read().durability.is_dirty() && !self.store.read_only() {
            self.commit()?;
        }
        let state = self.state.read();
        let seal = state.durability.seal();
        let opaque = || kmsfs_crypto::opaque_tag(&state.keyed.id().0, [&seal.entries, &seal.top], seal.length.0);
        let md5 = state.content.md5();
        Ok(Tag { hex: hex::encode(md5.unwrap_or_else(opaque)), is_md5: md5.is_some() })
    }

    /// From now on what is written to this empty object is hashed. The first change that is no appending ends that, and
    /// so does the last close.
    pub fn begin_md5(&self) {
        let mut state = self.state.write();
        if state.content.begin_md5() {
            state.durability.changed();
        }
    }

    /// The object has a descriptor again, or has one still.
    pub(super) fn attach(&self, home: impl FnOnce() -> Home) {
        self.state.write().lifetime.attach(home);
    }

    /// Gives up descriptor and ahead-read bytes if nothing needs them. Returns what is kept all the same.
    pub(super) fn detach(&self) -> Kept {
        let mut state = self.state.write();
        if self.users.are_there() {
            return Kept::InUse;
        }
        let State { content, durability, lifetime, .. } = &mut *state;
        // What a checkpoint will punch out of the file needs it too.
        if durability.is_dirty()
            || !durability.is_committed()
            || durability.logged.is_of_home()
            || !content.vacated.is_empty()
        {
            return Kept::Open;
        }
        content.end_md5();
        if durability.homes.are_loose() {
            self.store.births.add_loose();
        }
        let home = lifetime.detach();
        content.bound_memory();
        self.ahead.free();
        if durability.logged.is_empty() { Kept::Nothing(home) } else { Kept::Record }
    }

    /// Ends what opening it began.
    pub fn release(self: &Arc<Self>) {
        self.store.release(self);
    }

    pub(super) fn add_handle(&self) {
        self.users.add_handle();
    }

    /// Returns whether it was the last one.
    pub(super) fn remove_handle(&self) -> bool {
        self.users.remove_handle()
    }

    pub(super) fn has_handles(&self) -> bool {
        self.users.have_handles()
    }

    /// It has lost its last name.
    pub(super) fn unlink(&self) {
        self.state.write().lifetime.unlink();
    }

    pub(super) fn is_unlinked(&self) -> bool {
        self.state.read().lifetime.is_unlinked()
    }

    /// It is among the dead from now on. Returns false if it is already, or somebody has it open.
    pub(super) fn is_dead_now(&self) -> bool {
        let mut state = self.state.write();
        !self.users.have_handles() && state.lifetime.bury()
    }

    pub(super) fn is_buried(&self) -> bool {
        self.state.read().lifetime.is_buried()
    }

    pub(super) fn is_logged(&self) -> bool {
        !self.state.read().durability.logged.is_empty()
    }

    /// Closed, with nothing in the log: all there is of it is on disk.
    pub(super) fn is_at_rest(&self) -> bool {
        let state = self.state.read();
        !state.lifetime.has_home() && state.durability.logged.is_empty()
    }

    pub(super) fn with_state<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read())
    }

    pub(super) fn backing_file(&self) -> Result<Arc<dyn File>> {
        Ok(self.state.read().lifetime.file()?.clone())
    }

    pub(super) fn newest_key(&self) -> Result<Arc<ObjectKeys>> {
        self.state.read().keyed.newest().cloned()
    }

    pub(super) fn bucket_name(&self) -> String {
        self.state.read().keyed.sidecar().bucket.clone()
    }

    pub(super) fn rename_to(&self, path: Vec<u8>) {
        self.state.write().lifetime.rename_to(path);
    }

    pub(super) fn show(&self) -> String {
        self.state.read().lifetime.show()
    }
}

impl State {
    fn geometry(&self) -> Geometry {
        self.content.geometry()
    }

    pub(super) fn length(&self) -> u64 {
        self.content.length().0
    }

    fn correct(&self, attr: &mut Attr) {
        self.shown.correct(attr, self.content.length());
    }

    /// Brings the pages of a range of chunks.
    fn bring(&mut self, chunks: Range<u64>) -> Result<()> {
        named(self.content.bring(self.lifetime.home()?, chunks), || self.lifetime.show())
    }

    /// Makes the tables follow a new length, which the content does not have yet.
    fn resize(&mut self, new: PlainLen) -> Result<()> {
        self.content.resize(self.lifetime.home()?, new)
    }

    /// Brings what a cut to that length changes; the cut itself cannot fail then.
    fn prepare_cut(&mut self, new: PlainLen) -> Result<()> {
        self.content.prepare_cut(self.lifetime.home()?, new)
    }

    /// As `Content::skip_holes`.
    fn skip_holes(&mut self, chunks: Range<u64>) -> Result<u64> {
        named(self.content.skip_holes(self.lifetime.home()?, chunks), || self.lifetime.show())
    }

    /// W1. The chunk's page has been brought.
    fn is_quiet(&self, chunk: ChunkIndex) -> bool {
        self.durability.is_quiet(chunk, &self.content.tables)
    }

    /// Content or length has changed.
    fn changed(&mut self, now: Time) {
        self.durability.changed();
        self.shown.changed(now);
        self.content.changed();
    }

    /// A change of the keys and of the sidecar's record. A record that has moved is the header's matter too, and so is
    /// another key epoch.
    fn change_keys<T>(&mut self, change: impl FnOnce(&mut Keyed) -> Result<T>) -> Result<T> {
        let before = (self.keyed.place(), self.keyed.epoch());
        let done = change(&mut self.keyed)?;
        if (self.keyed.place(), self.keyed.epoch()) != before {
            self.durability.changed();
        }
        Ok(done)
    }

    /// The present state has become the committed one.
    fn settle(&mut self, seal: Seal, first: bool) {
        let dropped = if first { Vec::new() } else { self.content.tables.dropped() };
        self.durability.settle(seal, first, dropped);
        self.content.settle(seal.md5, !first);
        self.content.bound_memory();
    }

    /// The object's path, with its first record in an epoch.
    fn hint(&self) -> &[u8] {
        use kmsfs_format::log_record::MAX_HINT;
        let path = self.lifetime.path();
        if self.durability.logged.is_hinted() || path.len() > MAX_HINT { &[] } else { path }
    }
}

impl Attr {
    pub(super) fn of(metadata: &backend::Metadata) -> Self {
        let backend::Metadata { ino, mode, nlink, uid, gid, rdev, len, blocks, atime, mtime, ctime } = *metadata;
        Self { ino, mode, nlink, uid, gid, rdev, size: len, blocks, atime, mtime, ctime }
    }
}
