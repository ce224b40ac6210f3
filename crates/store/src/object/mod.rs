//! One object: its content, tables, seal and keys, from when it is opened until nothing in the log is its any more.

mod commit;
mod content;
mod cramped;
mod durability;
mod holes;
mod lifetime;
mod lock;
mod opening;
mod reencrypt;
mod relocate;
mod rewrite;
mod shown;
mod space;
mod write;

use super::backend::{self, File};
use super::memory::Share;
use super::mistakes::Seeded;
use super::{Attr, Result, SetAttr, Store};
pub(super) use commit::Noted;
use content::md5;
use content::ranges::Ranges;
pub(super) use content::tables::Tables;
use durability::homes::Homes;
pub use holes::SeekTo;
use kmsfs_crypto::{ChunkCipher, ObjectKeys, Suite};
use kmsfs_format::ObjectId;
use kmsfs_format::header::Seal;
use kmsfs_format::layout::{Geometry, PlainLen};
use kmsfs_format::sidecar::{Place, Sidecar};
use kmsfs_sse::Algorithm;
pub use lifetime::held::Held;
pub(super) use lifetime::home::Home;
pub(super) use opening::load::NewObject;
pub(super) use opening::salvage::{Remains, Salvaged};
pub(super) use opening::unverified::{Unverified, read_header};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
pub use write::ENCRYPTIONS;

/// Bytes that an object takes in memory, beside its tables: its keys, its sidecar and their records.
const KEPT: usize = 4096;

/// An object that is open, or has something in the redo log.
pub struct Object {
    store: Arc<Store>,
    ino: u64,
    /// Handles that are open; the object is dead when there is none and no name.
    pub(super) handles: AtomicUsize,
    /// Those who use its descriptor without a handle: it is not given up meanwhile.
    users: AtomicUsize,
    pub(super) state: RwLock<State>,
    /// Ciphertext that was read along with the header, for the first READ.
    ahead: Mutex<Vec<u8>>,
    asked: shown::Asked,
    /// What is known of a file capability: `false` that there may be one. Nobody asks for this object's state meanwhile.
    pub(super) has_no_capability: Mutex<bool>,
}

// Each is a fact of its own.
#[allow(clippy::struct_excessive_bools)]
pub(super) struct State {
    /// `None` while the object is closed, nobody uses it, and there is nothing to be done in its file.
    home: Option<Home>,
    pub(super) id: ObjectId,
    suite: Suite,
    keys: Arc<Keys>,
    pub(super) sidecar: Sidecar,
    pub(super) place: Place,
    /// The sidecar's record, as it is on disk or will be.
    record: Vec<u8>,
    /// The inode that the record names: another one if this file is a copy, or its store was restored.
    record_ino: u64,
    /// A change of the record failed halfway: the next commit brings it along.
    record_unwritten: bool,
    /// Present plaintext length.
    length: PlainLen,
    tables: Tables,
    memory: Share,
    seeded: Seeded,
    /// Something to commit.
    dirty: bool,
    seal: Seal,
    running_md5: Option<md5::RunningMd5>,
    /// `seal` has been committed: false until the first commit of a new object.
    committed: bool,
    /// Lowest number of chunks that the object had since the latest commit.
    cut: u64,
    /// The file's space has to follow a cut, even where its length does already: some may be reserved beyond the end.
    trim: bool,
    /// Chunks that became holes while the object file, or the log, had content of theirs: their space waits for a checkpoint.
    vacated: Ranges,
    /// Everything in the object file changed its place: until a checkpoint has brought it home, no chunk is quiet.
    relocated: bool,
    /// Chunks that commits stopped referring to, and those commits' sequences, until they are known durable.
    dropped: Vec<Dropped>,
    /// Sequence of the newest commit that is known durable.
    durable_sequence: u64,
    sidecar_durable: bool,
    homes: Homes,
    pub(super) logged: Logged,
    /// A modification time that the inode does not have yet, or that a write home would undo.
    mtime: Option<i64>,
    /// When content or length changed last, which the inode may not show yet.
    changed_at: i64,
    /// Path below `buckets/`, as a hint for recovery.
    pub(super) path: Vec<u8>,
    /// No name is left.
    pub(super) unlinked: bool,
    /// No handle either: it is among the dead.
    pub(super) buried: bool,
}

struct Dropped {
    chunks: std::ops::Range<u64>,
    sequence: u64,
}

/// What the redo log holds of an object.
#[derive(Default)]
pub(super) struct Logged {
    /// The object appended in this epoch, so the log knows its path.
    hinted: bool,
    /// Newest position of each chunk's ciphertext, and its length.
    chunks: HashMap<u64, (u64, usize)>,
    /// Chunks whose newest record in the log is not what they are: a change failed after it had been appended.
    overtaken: BTreeSet<u64>,
    /// Header block, pages and nodes: offset in the object file, position, length; in order.
    ranges: Vec<(u64, u64, usize)>,
    sidecar: bool,
}

impl Logged {
    pub(super) fn is_empty(&self) -> bool {
        !self.is_of_home() && !self.sidecar
    }

    /// Something belongs into the object file.
    fn is_of_home(&self) -> bool {
        !(self.chunks.is_empty() && self.ranges.is_empty())
    }
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

/// The data keys by the first key epoch that each serves, and the ciphers of the epochs that were met.
struct Keys {
    keys: Vec<(u16, Arc<ObjectKeys>)>,
    ciphers: RwLock<HashMap<u16, Arc<ChunkCipher>>>,
}

/// What HeadObject says about an object's encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEncryption {
    pub algorithm: Algorithm,
    /// Full ARN; `None` for AES256.
    pub key_arn: Option<String>,
    pub bucket_key: bool,
}

impl Object {
    pub fn ino(&self) -> u64 {
        self.ino
    }

    pub(super) fn id(&self) -> ObjectId {
        self.state.read().id
    }

    pub fn encryption(&self) -> ObjectEncryption {
        let state = self.state.read();
        let wrapped = &state.sidecar.newest().wrapped;
        ObjectEncryption {
            algorithm: wrapped.algorithm,
            key_arn: (wrapped.algorithm != Algorithm::Aes256).then(|| wrapped.key_arn.clone()),
            bucket_key: wrapped.under_bucket_key.is_some(),
        }
    }

    pub fn attr(&self) -> Result<Attr> {
        let state = self.state.read();
        let mut attr = Attr::of(&state.home()?.file.metadata()?);
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
        let file = state.home()?.file.clone();
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
            state.mtime = changes.mtime;
        }
        let mut attr = Attr::of(&file.metadata()?);
        state.correct(&mut attr);
        Ok(attr)
    }

    /// Where its attributes are, if it has a descriptor.
    pub(super) fn file(&self) -> Option<Arc<dyn File>> {
        self.state.read().home.as_ref().map(|home| home.file.clone())
    }

    /// Of the committed state, without quotes; commits first. An MD5 only where the content was hashed as it was written,
    /// and is still the same.
    pub fn etag(&self) -> Result<String> {
        if self.state.read().dirty && !self.store.read_only() {
            self.commit()?;
        }
        let state = self.state.read();
        let bytes: [u8; 16] = match state.seal.md5 {
            Some(md5) => md5,
            None => kmsfs_crypto::opaque_tag(&state.id.0, [&state.seal.entries, &state.seal.top], state.seal.length.0),
        };
        Ok(hex::encode(bytes))
    }

    /// The object has a descriptor again, or has one still.
    pub(super) fn attach(&self, home: impl FnOnce() -> Home) {
        let mut state = self.state.write();
        if state.home.is_none() {
            state.home = Some(home());
        }
    }

    /// Gives up descriptor and ahead-read bytes if nothing needs them. Answers what is kept all the same.
    pub(super) fn detach(&self) -> Kept {
        let mut state = self.state.write();
        if self.is_in_use() {
            return Kept::InUse;
        }
        // What a checkpoint will punch out of the file needs it too.
        if state.dirty || !state.committed || state.logged.is_of_home() || !state.vacated.is_empty() {
            return Kept::Open;
        }
        state.running_md5 = None;
        if state.homes.are_loose() {
            self.store.births.add_loose();
        }
        let home = state.home.take();
        state.bound_memory();
        *self.ahead.lock() = Vec::new();
        if state.logged.is_empty() { Kept::Nothing(home) } else { Kept::Record }
    }

    /// Ends what opening it began.
    pub fn release(self: &Arc<Self>) {
        self.store.release(self);
    }

    /// It is among the dead from now on. Answers false if it is already, or somebody has it open.
    pub(super) fn is_dead_now(&self) -> bool {
        let mut state = self.state.write();
        let dies = !state.buried && self.handles.load(Ordering::SeqCst) == 0;
        state.buried |= dies;
        dies
    }

    pub(super) fn is_buried(&self) -> bool {
        self.state.read().buried
    }

    /// Closed, with nothing in the log: all there is of it is on disk.
    pub(super) fn is_at_rest(&self) -> bool {
        let state = self.state.read();
        state.home.is_none() && state.logged.is_empty()
    }

    pub(super) fn with_state<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read())
    }

    pub(super) fn backing_file(&self) -> Result<Arc<dyn File>> {
        Ok(self.state.read().home()?.file.clone())
    }

    pub(super) fn newest_key(&self) -> Result<Arc<ObjectKeys>> {
        self.state.read().keys.newest().cloned()
    }

    pub(super) fn bucket_name(&self) -> String {
        self.state.read().sidecar.bucket.clone()
    }

    pub(super) fn rename_to(&self, path: Vec<u8>) {
        self.state.write().path = path;
    }

    pub(super) fn show(&self) -> String {
        String::from_utf8_lossy(&self.state.read().path).into_owned()
    }
}

impl State {
    fn home(&self) -> Result<&Home> {
        // An object without a descriptor has neither a handle nor anybody who holds it.
        self.home.as_ref().ok_or(super::Error::Errno(libc::EBADF))
    }

    pub(super) fn geometry(&self) -> Geometry {
        Geometry::of(self.suite)
    }

    pub(super) fn length(&self) -> u64 {
        self.length.0
    }

    fn correct(&self, attr: &mut Attr) {
        attr.size = self.length.0;
        if let Some(mtime) = self.mtime {
            attr.mtime = mtime;
        }
        attr.ctime = attr.ctime.max(self.changed_at);
    }

    /// Lets go of half of the tables that can be read again, where all objects together keep too much.
    fn bound_memory(&mut self) {
        if self.memory.set(KEPT + self.tables.bytes()) {
            self.tables.evict_half();
            self.memory.set(KEPT + self.tables.bytes());
        }
    }

    fn show(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

impl Attr {
    pub(super) fn of(metadata: &backend::Metadata) -> Self {
        let backend::Metadata { ino, mode, nlink, uid, gid, rdev, len, blocks, atime, mtime, ctime } = *metadata;
        Self { ino, mode, nlink, uid, gid, rdev, size: len, blocks, atime, mtime, ctime }
    }
}
