//! The objects in memory: which there are, who is open, and who is dead.

mod locking;
pub(crate) mod memory;
mod opening;
pub(crate) mod reencryption;
mod settling;

use crate::backend::{Access, File};
use crate::interleaving::found;
use crate::local::objects::memory::Closed;
use crate::mistakes::Mistake;
use crate::object::{Home, Kept, read_header};
use crate::{Dir, Error, Held, Object, Result, Store};
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
/// Directories held open for the dead.
const DIRS: usize = 64;

/// A name that went, and with the last one of an object that nobody has open, its record: its units are freed once all
/// the object's names are durably gone, those too that went while others were left.
#[derive(Clone)]
pub(crate) struct Dead {
    /// `None` if the object lived on, or the record is not its own.
    pub record: Option<(ObjectId, Place)>,
    /// Where the name was; `None` once there are too many to hold, so everything has to be synced.
    pub dir: Option<Arc<Dir>>,
}

#[derive(Default)]
pub(crate) struct Objects {
    by_ino: Mutex<ranks::ObjectTable, HashMap<u64, Arc<Object>>>,
    by_id: Mutex<ranks::ObjectIds, HashMap<ObjectId, u64>>,
    /// Whose verified state is kept.
    closed: Closed<()>,
    /// Their descriptors, for whoever opens one of them again.
    spare: Closed<Home>,
    dead: Mutex<ranks::Dead, Vec<Dead>>,
    /// Objects that nobody has open, of which the log holds something.
    pinned: Mutex<ranks::Pinned, Pinned>,
    numbers: settling::Numbers,
}

#[derive(Default)]
struct Pinned {
    /// Those that keep a descriptor, so that they can be written home.
    open: HashSet<u64>,
    /// Those of which the log holds the sidecar's record and nothing else.
    records: HashSet<u64>,
}

impl Store {
    /// Gives up what one opening took. Of the last one the descriptor may be kept, for whoever opens the object again.
    pub fn release(&self, object: &Arc<Object>) {
        if !object.remove_handle() {
            return;
        }
        if object.is_unlinked() {
            self.bury(object, None);
            return;
        }
        self.let_go(object);
    }

    /// Gives up what a closed object need not keep.
    pub(crate) fn let_go(&self, object: &Arc<Object>) {
        match object.detach() {
            Kept::InUse => {}
            Kept::Open => drop(self.objects.pinned.lock().open.insert(object.ino())),
            Kept::Record => drop(self.objects.pinned.lock().records.insert(object.ino())),
            Kept::Nothing(home) => {
                if let Some(home) = home {
                    self.spare(object, home);
                }
                self.objects.closed.add(object.ino(), ());
                self.shed();
            }
        }
    }

    /// Keeps the descriptor of a closed object, but not longer than the object.
    fn spare(&self, object: &Arc<Object>, home: Home) {
        let ino = object.ino();
        if self.objects.spare.add(ino, home) > self.spare_descriptors {
            self.objects.spare.pop();
        }
        if !self.loaded(ino).is_some_and(|loaded| Arc::ptr_eq(&loaded, object)) {
            self.objects.spare.remove(ino);
        }
    }

    /// Does what takes a descriptor; once more without the spare ones, if there is none left.
    pub(crate) fn with_descriptor<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match open() {
            Err(error) if is_out_of_descriptors(&error) && self.objects.spare.clear() => open(),
            done => done,
        }
    }

    /// A file that stays open for as long as a program likes: `ENFILE` rather than one of the descriptors that are kept
    /// back. Those of closed objects are given up first, of those too that wait for a checkpoint.
    fn for_program(&self, dir: &Dir, name: &OsStr, access: Access, mut file: Arc<dyn File>) -> Result<Arc<dyn File>> {
        let spare = || self.objects.spare.clear();
        let waits = || !self.read_only() && !self.objects.pinned.lock().open.is_empty();
        let waiting = || Ok(waits() && freed_by(self.checkpoint())? && spare());
        for make_room in [&(|| Ok(spare())) as &dyn Fn() -> Result<bool>, &waiting] {
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

    /// Forgets closed objects while all together keep too much.
    pub(crate) fn shed(&self) {
        while self.memory.is_exceeded()
            && let Some((oldest, ())) = self.objects.closed.pop()
        {
            self.objects.forget_closed(oldest);
        }
    }

    /// A place that a living object's record has moved away from: freed like the dead's.
    pub(crate) fn abandon(&self, id: ObjectId, place: Place) {
        self.objects.dead.lock().push(Dead { record: Some((id, place)), dir: None });
    }

    /// A new object under a name that the caller has made: it can be used from now on.
    pub(crate) fn adopt_new(&self, object: &Arc<Object>, dir: &Arc<Dir>) {
        let _settling = self.settling(object.ino());
        self.objects.insert(object);
        self.names.add(object.ino(), libc::S_IFREG, dir);
    }

    /// A closed object that the log holds nothing of is read in again by whoever opens it.
    pub(crate) fn forget_closed(&self, ino: u64) {
        self.objects.forget_closed(ino);
    }

    // ---- the table

    pub(crate) fn loaded(&self, ino: u64) -> Option<Arc<Object>> {
        let object = self.objects.by_ino.lock().get(&ino).cloned();
        found();
        object
    }

    /// The object of an inode, if it has a descriptor: because it is open, or there is something to be written home.
    pub fn attached(&self, ino: u64) -> Option<Held> {
        let held = self.objects.by_ino.lock().get(&ino).cloned()?.held();
        found();
        held
    }

    /// Objects in memory.
    pub fn cached(&self) -> usize {
        self.objects.by_ino.lock().len()
    }

    pub(crate) fn living(&self) -> Vec<Arc<Object>> {
        let living = self.objects.by_ino.lock().values().cloned().collect();
        found();
        living
    }

    pub(crate) fn has_many_pinned(&self) -> bool {
        let pinned = self.objects.pinned.lock();
        let most = if self.memory.is_exceeded() { self.max_pinned } else { self.max_pinned * RECORDS };
        pinned.open.len() > self.max_pinned || pinned.records.len() > most
    }

    /// A name of this inode has gone. The object is dead if it was the last one and nobody has it open. The caller has
    /// held `settling` since before it removed the name.
    pub(crate) fn unlinked(&self, ino: u64, last: bool, dir: &Arc<Dir>, on_disk: Option<(ObjectId, Place)>) {
        if last {
            self.names.forget(ino);
        }
        match self.loaded(ino) {
            Some(object) if last => {
                object.unlink();
                self.bury(&object, Some(dir));
            }
            Some(_) => self.add_dead(None, Some(dir)),
            None if !last || on_disk.is_some() => self.add_dead(on_disk.filter(|_| last), Some(dir)),
            None => {}
        }
    }

    /// Unless somebody has it open.
    fn bury(&self, object: &Arc<Object>, dir: Option<&Arc<Dir>>) {
        if !object.is_dead_now() {
            return;
        }
        self.objects.by_ino.lock().remove(&object.ino());
        self.objects.closed.remove(object.ino());
        self.objects.spare.remove(object.ino());
        let (id, record) = object.with_state(|state| (state.keyed.id(), state.keyed.own_record(object.ino())));
        self.objects.by_id.lock().remove(&id);
        self.add_dead(record.map(|place| (id, place)), dir);
        if self.seeded.is(Mistake::DeadMarkTrusted) {
            let _ = self.log.append(&[Record { object_id: id, hint: &[], body: Body::Dead }]);
        }
    }

    fn add_dead(&self, record: Option<(ObjectId, Place)>, dir: Option<&Arc<Dir>>) {
        let mut dead = self.objects.dead.lock();
        let known = dir.is_some_and(|dir| {
            dead.iter().rev().take(DIRS).any(|dead| dead.dir.as_ref().is_some_and(|other| other.ino() == dir.ino()))
        });
        let dirs = dead.iter().rev().take(DIRS).filter(|dead| dead.dir.is_some()).count();
        let dir = dir.filter(|_| known || dirs < DIRS).cloned();
        dead.push(Dead { record, dir });
    }

    pub(crate) fn dead(&self) -> Vec<Dead> {
        self.objects.dead.lock().clone()
    }

    /// The first so many of the dead have been dealt with.
    pub(crate) fn buried(&self, count: usize) {
        self.objects.dead.lock().drain(..count);
        *self.objects.pinned.lock() = Pinned::default();
    }

    pub(crate) fn has_dead(&self) -> bool {
        !self.objects.dead.lock().is_empty()
    }

    pub(crate) fn forget_all(&self) {
        self.objects.by_ino.lock().clear();
        self.objects.spare.clear();
    }
}

impl Objects {
    /// One handle more on an object in memory. Under the table's lock, so that nobody forgets it in between.
    fn hold(&self, ino: u64) -> Option<Arc<Object>> {
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

    fn forget_closed(&self, ino: u64) {
        let mut by_ino = self.by_ino.lock();
        if let Some(object) = by_ino.get(&ino)
            && !object.has_handles()
            && object.is_at_rest()
        {
            let id = object.id();
            by_ino.remove(&ino);
            drop(by_ino);
            self.spare.remove(ino);
            self.by_id.lock().remove(&id);
        }
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
