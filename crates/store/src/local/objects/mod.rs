//! The objects in memory: which there are, who is open, and who is dead.

pub(crate) mod dead;
mod descriptors;
mod locking;
pub(crate) mod memory;
mod opening;
pub(crate) mod reencryption;
mod settling;

use crate::backend::{Access, File};
use crate::interleaving::found;
use crate::local::objects::dead::DeadList;
use crate::local::objects::descriptors::Descriptors;
use crate::local::objects::memory::{Budget, Closed};
use crate::mistakes::Mistake;
use crate::object::{Home, Kept, read_header};
use crate::{Dir, Error, Held, Ino, Object, Result, Store, StoreOptions, Volume};
use kmsfs_format::ObjectId;
use kmsfs_format::log_record::{Body, Record};
use kmsfs_format::sidecar::Place;
use kmsfs_locks::{Mutex, ranks};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

/// Closed objects with nothing but a record in the log, to one that keeps a descriptor: they cost memory only.
const RECORDS: usize = 16;

/// The objects in memory. Each field but the budget is a table with a lock of its own.
pub(crate) struct Objects {
    by_ino: Mutex<ranks::ObjectTable, HashMap<Ino, Arc<Object>>>,
    by_id: Mutex<ranks::ObjectIds, HashMap<ObjectId, Ino>>,
    /// Closed objects whose verified state is kept.
    closed: Closed<()>,
    descriptors: Descriptors,
    pub(crate) dead: DeadList,
    /// Objects that nobody has open, of which the log holds something.
    pinned: Mutex<ranks::Pinned, Pinned>,
    /// Most closed objects that keep a descriptor because the log holds something of them.
    max_pinned: usize,
    numbers: settling::Numbers,
    /// Inodes whose files have other space since a checkpoint, until somebody asks.
    resized: Mutex<ranks::Resized, HashSet<Ino>>,
    /// How much all objects together may keep.
    pub(crate) memory: Arc<Budget>,
}

#[derive(Default)]
struct Pinned {
    /// Those that keep a descriptor, so that they can be written home.
    open: HashSet<Ino>,
    /// Those of which the log holds the sidecar's record and nothing else.
    records: HashSet<Ino>,
}

impl Objects {
    pub(crate) fn new(options: &StoreOptions) -> Self {
        Self {
            by_ino: Mutex::default(),
            by_id: Mutex::default(),
            closed: Closed::default(),
            descriptors: Descriptors::new(options.spare_descriptors),
            dead: DeadList::default(),
            pinned: Mutex::default(),
            max_pinned: options.max_pinned,
            numbers: settling::Numbers::default(),
            resized: Mutex::default(),
            memory: Budget::new(options.cache),
        }
    }

    /// The object of an inode, if it is in memory.
    pub(crate) fn loaded(&self, ino: Ino) -> Option<Arc<Object>> {
        let object = self.by_ino.lock().get(&ino).cloned();
        found();
        object
    }

    /// The object of an inode, if it has a descriptor: because it is open, or there is something to be written home.
    pub(crate) fn attached(&self, ino: Ino) -> Option<Held> {
        let held = self.by_ino.lock().get(&ino).cloned()?.held();
        found();
        held
    }

    /// The number of objects in memory.
    pub(crate) fn count(&self) -> usize {
        self.by_ino.lock().len()
    }

    /// All objects in memory.
    pub(crate) fn living(&self) -> Vec<Arc<Object>> {
        let living = self.by_ino.lock().values().cloned().collect();
        found();
        living
    }

    /// One handle more on an object in memory. Under the table's lock, so that nobody forgets it in between.
    fn hold(&self, ino: Ino) -> Option<Arc<Object>> {
        let by_ino = self.by_ino.lock();
        let object = by_ino.get(&ino)?.clone();
        object.add_handle();
        drop(by_ino);
        found();
        Some(object)
    }

    fn insert(&self, object: &Arc<Object>) {
        let id = object.id();
        self.by_id.lock().insert(id, object.ino());
        self.by_ino.lock().insert(object.ino(), object.clone());
    }

    /// Whether the object in memory that has this id is of another inode than this one.
    fn has_copy(&self, id: ObjectId, ino: Ino) -> bool {
        self.by_id.lock().get(&id).is_some_and(|other| *other != ino)
    }

    /// Gives up what a closed object need not keep.
    pub(crate) fn let_go(&self, object: &Arc<Object>) {
        match object.detach() {
            Kept::InUse => {}
            Kept::Open => drop(self.pinned.lock().open.insert(object.ino())),
            Kept::Record => drop(self.pinned.lock().records.insert(object.ino())),
            Kept::Nothing(home) => {
                if let Some(home) = home {
                    self.keep_descriptor(object, home);
                }
                self.closed.add(object.ino(), ());
                self.shed();
            }
        }
    }

    /// Keeps the descriptor of a closed object, but not longer than the object.
    fn keep_descriptor(&self, object: &Arc<Object>, home: Home) {
        let ino = object.ino();
        self.descriptors.add(ino, home);
        if !self.loaded(ino).is_some_and(|loaded| Arc::ptr_eq(&loaded, object)) {
            self.descriptors.take(ino);
        }
    }

    /// Does what takes a descriptor. If there is none left, it is done once more after those of closed objects were
    /// given up.
    pub(crate) fn with_descriptor<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match open() {
            Err(error) if is_out_of_descriptors(&error) && self.descriptors.clear() => open(),
            done => done,
        }
    }

    /// Forgets closed objects while all together keep too much.
    pub(crate) fn shed(&self) {
        while self.memory.is_exceeded()
            && let Some((oldest, ())) = self.closed.pop()
        {
            self.forget_closed(oldest);
        }
    }

    /// A closed object that the log holds nothing of is read in again by whoever opens it.
    pub(crate) fn forget_closed(&self, ino: Ino) {
        let mut by_ino = self.by_ino.lock();
        if let Some(object) = by_ino.get(&ino)
            && !object.has_handles()
            && object.is_at_rest()
        {
            let id = object.id();
            by_ino.remove(&ino);
            drop(by_ino);
            self.descriptors.take(ino);
            self.by_id.lock().remove(&id);
        }
    }

    /// Forgets all objects, since the store is closed.
    pub(crate) fn forget_all(&self) {
        self.by_ino.lock().clear();
        self.descriptors.clear();
    }

    /// Takes an object out of the table and counts it among the dead, unless somebody has it open or it is dead
    /// already. `dir` is where its last name was, if that has just gone. Returns its id
    /// if it did.
    fn bury(&self, object: &Arc<Object>, dir: Option<&Arc<Dir>>) -> Option<ObjectId> {
        if !object.is_dead_now() {
            return None;
        }
        self.by_ino.lock().remove(&object.ino());
        self.closed.remove(object.ino());
        self.descriptors.take(object.ino());
        let (id, record) = object.with_state(|state| (state.keyed.id(), state.keyed.own_record(object.ino())));
        self.by_id.lock().remove(&id);
        self.dead.add(record.map(|place| (id, place)), dir);
        Some(id)
    }

    /// Whether so many closed objects wait for a checkpoint that one is due.
    pub(crate) fn has_many_pinned(&self) -> bool {
        let pinned = self.pinned.lock();
        let most = if self.memory.is_exceeded() { self.max_pinned } else { self.max_pinned * RECORDS };
        pinned.open.len() > self.max_pinned || pinned.records.len() > most
    }

    /// Whether closed objects keep a descriptor until a checkpoint.
    fn has_pinned_descriptors(&self) -> bool {
        !self.pinned.lock().open.is_empty()
    }

    /// A checkpoint has dealt with the first so many of the dead, and the log holds nothing of closed objects.
    pub(crate) fn checkpointed(&self, dead: usize) {
        self.dead.remove(dead);
        *self.pinned.lock() = Pinned::default();
    }

    /// An inode's file has other space than before.
    pub(crate) fn add_resized(&self, ino: Ino) {
        self.resized.lock().insert(ino);
    }

    /// The inodes that were added since this was called last.
    pub(crate) fn take_resized(&self) -> HashSet<Ino> {
        std::mem::take(&mut self.resized.lock())
    }
}

impl Store {
    /// A file that stays open for as long as a program likes: `ENFILE` rather than one of the descriptors that are kept
    /// back. Those of closed objects are given up first, of those too that wait for a checkpoint.
    fn for_program(&self, dir: &Dir, name: &OsStr, access: Access, mut file: Arc<dyn File>) -> Result<Arc<dyn File>> {
        let cached = || self.objects.descriptors.clear();
        let waits = || !self.read_only() && self.objects.has_pinned_descriptors();
        let waiting = || Ok(waits() && freed_by(self.checkpoint())? && cached());
        for make_room in [&(|| Ok(cached())) as &dyn Fn() -> Result<bool>, &waiting] {
            if file.has_reserved_descriptor() && make_room()? {
                let ino = file.ino();
                drop(file);
                file = dir.backing.open_file(name, access)?;
                if file.ino() != ino {
                    return Err(Error::Errno(libc::ESTALE));
                }
            }
        }
        if file.has_reserved_descriptor() { Err(Error::Errno(libc::ENFILE)) } else { Ok(file) }
    }

    /// A new object under a name that the caller has made: it can be used from now on.
    pub(crate) fn adopt_new(&self, object: &Arc<Object>, dir: &Arc<Dir>) {
        // Whoever unlinks the inode's former life must be done with it.
        let _settling = self.objects.settling(object.ino());
        self.objects.insert(object);
        self.names.add(object.ino(), libc::S_IFREG, dir);
    }

    /// A name of this inode has gone. The object is dead if it was the last one and nobody has it open. The caller has
    /// held `settling` since before it removed the name.
    pub(crate) fn unlinked(&self, ino: Ino, last: bool, dir: &Arc<Dir>, on_disk: Option<(ObjectId, Place)>) {
        if last {
            self.names.forget(ino);
        }
        match self.objects.loaded(ino) {
            Some(object) if last => {
                object.unlink();
                self.bury(&object, Some(dir));
            }
            Some(_) => self.objects.dead.add(None, Some(dir)),
            None if !last || on_disk.is_some() => self.objects.dead.add(on_disk.filter(|_| last), Some(dir)),
            None => {}
        }
    }

    fn bury(&self, object: &Arc<Object>, dir: Option<&Arc<Dir>>) {
        if let Some(id) = self.objects.bury(object, dir)
            && self.seeded.is(Mistake::DeadMarkTrusted)
        {
            let _ = self.log.append(&[Record { object_id: id, hint: &[], body: Body::Dead }]);
        }
    }

    /// The object of that name if it is in memory, open or not: for tests of what is left there.
    #[cfg(feature = "testing")]
    pub fn known(&self, dir: &Dir, name: &OsStr) -> Option<Arc<Object>> {
        self.objects.loaded(dir.backing.stat(name).ok()?.ino)
    }
}

/// Whether a checkpoint freed what it could, unless it takes a thread that may wait for it.
fn freed_by(checkpoint: Result<()>) -> Result<bool> {
    match checkpoint {
        Err(wait @ Error::WouldWait(_)) => Err(wait),
        done => Ok(done.is_ok()),
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Who an object file on disk says it is, for one that is not in memory. Damage is nobody.
pub(crate) fn identity(file: &dyn File) -> Option<(ObjectId, Place)> {
    let header = read_header(file).ok()?;
    Some((header.object_id, header.sidecar))
}
