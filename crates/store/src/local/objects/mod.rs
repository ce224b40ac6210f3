//! The objects in memory: which there are, who is open, and who is dead.

pub(crate) mod memory;
pub(crate) mod reencryption;

use crate::backend::{Access, File, Metadata, NewNode};
use crate::interleaving::found;
use crate::local::names::unsynced::Names;
use crate::local::objects::memory::Closed;
use crate::local::recovery::birth;
use crate::mistakes::Mistake;
use crate::object::NewObject;
use crate::object::{Home, Kept, Unverified, read_header};
use crate::{Attr, Dir, Error, Held, Object, Result, Store, Target, Wrapping};
use kmsfs_crypto::DataKey;
use kmsfs_format::ObjectId;
use kmsfs_format::log_record::{Body, Record};
use kmsfs_format::sidecar::Place;
use kmsfs_kms::Caller;
use kmsfs_sse::{Encryption, WrappedDataKey};
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Closed objects with nothing but a record in the log, to one that keeps a descriptor: they cost memory only.
const RECORDS: usize = 16;
/// Directories held open for the dead.
const DIRS: usize = 64;

/// A name that went, and with the last one of an object that nobody has open, its record: its units are freed once all
/// the object's names are durably gone, those too that went while others were left.
#[derive(Clone)]
pub struct Dead {
    /// `None` if the object lived on, or the record is not its own.
    pub record: Option<(ObjectId, Place)>,
    /// Where the name was; `None` once there are too many to hold, so everything has to be synced.
    pub dir: Option<Arc<Dir>>,
}

#[derive(Default)]
pub struct Objects {
    by_ino: Mutex<HashMap<u64, Arc<Object>>>,
    by_id: Mutex<HashMap<ObjectId, u64>>,
    /// Whose verified state is kept.
    closed: Closed<()>,
    /// Their descriptors, for whoever opens one of them again.
    spare: Closed<Home>,
    dead: Mutex<Vec<Dead>>,
    /// Objects that nobody has open, of which the log holds something.
    pinned: Mutex<Pinned>,
    /// One at a time for each inode number that is being read in.
    loading: Loading,
    pub(crate) names: Names,
}

#[derive(Default)]
struct Pinned {
    /// Those that keep a descriptor, so that they can be written home.
    open: HashSet<u64>,
    /// Those of which the log holds the sidecar's record and nothing else.
    records: HashSet<u64>,
}

/// Inode numbers that somebody holds.
#[derive(Default)]
struct Loading {
    held: Mutex<HashSet<u64>>,
    freed: Condvar,
}

/// An inode number held by this thread; see `Store::settling`.
pub struct Settling<'a> {
    loading: &'a Loading,
    ino: u64,
}

impl Store {
    /// Makes an object and opens it. `key` is its S3 key (path below the bucket). On an error nothing is left behind.
    pub fn create(
        self: &Arc<Self>,
        dir: &Arc<Dir>,
        name: &OsStr,
        node: &NewNode,
        want: &Encryption,
        key: &str,
        caller: &Caller,
    ) -> Result<(Arc<Object>, Attr)> {
        self.writable()?;
        let bucket = dir.in_bucket()?.name.clone();
        let (data_key, wrapped) = self.keys.new_data_key(want, &bucket, key, caller)?;
        let making = self.births.making();
        let made = self.changing(|| self.with_descriptor(|| dir.backing.create_file(name, node)))?;
        let ino = made.ino();
        let made = self.for_program(dir, name, Access::ReadWrite, made).and_then(|file| {
            let new = NewObject { bucket: &bucket, path: dir.path_of(name), data_key, wrapped };
            let object = Arc::new(Object::new(self, file.clone(), new)?);
            // A new file has none.
            *object.has_no_capability.lock() = true;
            let born = self.born(file.as_ref(), object.id());
            let attr = object.attr()?;
            Ok((object, file, attr, born))
        });
        let (object, file, attr, born) = made.inspect_err(|_| {
            // Another that somebody has put there meanwhile is left alone.
            if dir.backing.stat(name).is_ok_and(|found| found.ino == ino) {
                let _ = dir.backing.unlink(name);
            }
        })?;
        drop(making);
        {
            // Whoever unlinks the inode's former life must be done with it.
            let _settling = self.settling(attr.ino);
            self.objects.insert(&object);
            self.name_changed(attr.ino, attr.mode, dir);
        }
        self.born_by_now(&object, file.as_ref(), born);
        Ok((object, attr))
    }

    /// Opens an object: asks for its data key every time, on behalf of the caller. Each success wants one `release`.
    pub fn open_object(self: &Arc<Self>, dir: &Dir, name: &OsStr, caller: &Caller) -> Result<Arc<Object>> {
        self.open_judged(dir, name, caller, |_| Ok(())).map(|(object, ())| object)
    }

    /// The same for an object that is judged first by how it is wrapped. No key is asked for before that.
    pub fn open_judged<T, E: From<Error>>(
        self: &Arc<Self>,
        dir: &Dir,
        name: &OsStr,
        caller: &Caller,
        judge: impl FnOnce(&Wrapping<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<(Arc<Object>, T), E> {
        let bucket = &dir.in_bucket()?.name;
        let access = if self.read_only() { Access::Read } else { Access::ReadWrite };
        let file = self.with_descriptor(|| dir.backing.open_file(name, access));
        let file = file.map_err(|error| Error::reaching(|| dir.show(name), error))?;
        let file = self.for_program(dir, name, access, file)?;
        let ino = file.ino();
        let _settling = self.settling(ino);
        let home = || Home { file: file.clone(), patch: self.patch_of(ino) };
        if let Some(object) = self.objects.hold(ino) {
            object.attach(home);
            let judged = object.with_state(|state| judge(&Wrapping::of(&state.sidecar)));
            let allowed = judged.and_then(|judged| {
                object.authorize(caller)?;
                Ok(judged)
            });
            return match allowed {
                Ok(judged) => Ok((object, judged)),
                Err(error) => {
                    self.release(&object);
                    Err(error)
                }
            };
        }
        let metadata = file.metadata().map_err(Error::from)?;
        if metadata.nlink == 0 {
            return Err(Error::Errno(libc::ENOENT).into());
        }
        let (object, judged, unsynced) = Unverified::read(self, home(), metadata, &|| dir.show(name), |found| {
            let judged = judge(&Wrapping::of(&found.sidecar))?;
            let unsynced = self.may_be_unsynced(file.as_ref(), Some(found.id()));
            let object = Object::load(self, found, bucket, dir.path_of(name), caller, unsynced)?;
            Ok::<_, E>((Arc::new(object), judged, unsynced))
        })?;
        let unsynced = unsynced || self.seeded.is(Mistake::SettledIsCut);
        let cut = unsynced && object.cut_back()?;
        let id = object.with_state(|state| state.id);
        if let Some(other) = self.objects.by_id.lock().get(&id)
            && *other != ino
        {
            let copy = "another open file carries the same object id: it is a copy";
            return Err(Error::corrupt(dir.show(name), copy).into());
        }
        self.objects.insert(&object);
        if unsynced && let Err(error) = object.settle(cut) {
            ::log::warn!("{}: what the crash left cannot be committed yet: {error}", object.show());
        }
        Ok((object, judged))
    }

    /// Whether a crash caught an object that does not open before it was ever durable (R2): it is empty, as after the same
    /// crash on any file system. Programs find the journals and temporary files that they left, and `open_truncated` makes it
    /// usable.
    pub fn was_never_committed(&self, dir: &Dir, name: &OsStr) -> bool {
        if !self.knows_a_crash() {
            return false;
        }
        let Ok(file) = dir.backing.open_file(name, Access::Read) else { return false };
        self.may_be_unsynced(file.as_ref(), None) || self.is_blank_of_version_1(file.as_ref())
    }

    /// Removes what a crash left of a creation before it could be noted (N4): a file of no bytes, without a birth. Nobody was
    /// answered that it is there, and nothing is in it; whoever else makes a file such a one could as well have removed it.
    /// Answers whether it was one.
    pub fn remove_unborn(&self, dir: &Dir, name: &OsStr) -> Result<bool> {
        if self.crashes.is_empty() || self.read_only() {
            return Ok(false);
        }
        let _none = self.births.none_is_made();
        let Ok(file) = dir.backing.open_file(name, Access::Read) else { return Ok(false) };
        let is_unborn = file.metadata()?.len == 0 && birth::named(file.as_ref()).is_none();
        if !is_unborn || self.loaded(file.ino()).is_some() {
            return Ok(false);
        }
        ::log::warn!("{}: a crash left nothing of it but its name, which is removed", dir.show(name));
        self.changing(|| dir.backing.unlink(name))?;
        Ok(true)
    }

    /// Without one no object is less than what is there says.
    fn knows_a_crash(&self) -> bool {
        !self.crashes.is_empty() || self.untidy.is_some()
    }

    /// Version 1 told it by a blank header and a time in the span of a crash. It is believed in a store of that version that is
    /// only read.
    fn is_blank_of_version_1(&self, file: &dyn File) -> bool {
        file.metadata().is_ok_and(|found| self.is_untidy(found.ctime)) && birth::is_blank(file)
    }

    /// What `stat` shows of an object that is not in memory and may be less than its file or seal says: it is opened, and
    /// settled that way, on the mount's own behalf. `None` where there is no doubt, or no key.
    pub(crate) fn size_after_crash(&self, dir: &Dir, name: &OsStr, metadata: &Metadata) -> Option<u64> {
        if !self.knows_a_crash() {
            return None;
        }
        let file = dir.backing.open_file(name, Access::Read).ok()?;
        if !self.may_be_unsynced(file.as_ref(), None) {
            return self.is_blank_of_version_1(file.as_ref()).then_some(0);
        }
        let store = self.me.upgrade()?;
        match store.open_object(dir, name, &itself()) {
            Ok(object) => {
                let size = object.with_state(crate::object::State::length);
                store.release(&object);
                (object.ino() == metadata.ino).then_some(size)
            }
            Err(Error::Corrupt(_)) => Some(0),
            Err(_) => None,
        }
    }

    /// Opens an object for O_TRUNC: as `open_object` and `truncate(0)`. One that cannot be read, because it is damaged or
    /// its key refuses, gets a new key as `want` says, and if it is damaged a new id too.
    pub fn open_truncated(
        self: &Arc<Self>,
        dir: &Arc<Dir>,
        name: &OsStr,
        want: &Encryption,
        key: &str,
        caller: &Caller,
    ) -> Result<Arc<Object>> {
        let why = match self.open_object(dir, name, caller) {
            Ok(object) => {
                // Nothing is where a crash left nothing: that needs no truncation.
                object.truncate(0).inspect_err(|_| self.release(&object))?;
                return Ok(object);
            }
            Err(why @ (Error::Corrupt(_) | Error::Sse(_))) => why,
            Err(error) => return Err(error),
        };
        let new_key = self.keys.new_data_key(want, &dir.in_bucket()?.name, key, caller)?;
        if self.read_only() {
            return self.open_nothing(dir, name, new_key);
        }
        ::log::info!("{} is written anew under a new key, since it cannot be read: {why}", dir.show(name));
        let file = dir.backing.open_file(name, Access::ReadWrite)?;
        let ino = file.ino();
        if let Some(object) = self.objects.hold(ino) {
            // In memory its content can be dropped without its old key.
            object.attach(|| Home { file: file.clone(), patch: None });
            object.rewrite(&[], Some(new_key)).inspect_err(|_| self.release(&object))?;
            return Ok(object);
        }
        self.replace(dir, name, file, new_key)
    }

    /// For a store that is only read: what a crash left of an object that was never committed. Nothing, for as long as it is open.
    fn open_nothing(
        self: &Arc<Self>,
        dir: &Arc<Dir>,
        name: &OsStr,
        (data_key, wrapped): (DataKey, WrappedDataKey),
    ) -> Result<Arc<Object>> {
        if !self.was_never_committed(dir, name) {
            return Err(Error::ReadOnly);
        }
        let file = dir.backing.open_file(name, Access::Read)?;
        let _settling = self.settling(file.ino());
        let new = NewObject { bucket: &dir.in_bucket()?.name, path: dir.path_of(name), data_key, wrapped };
        let object = Arc::new(Object::new(self, file, new)?);
        self.objects.insert(&object);
        Ok(object)
    }

    /// The same inode with a new object id: what cannot be read is given up.
    fn replace(
        self: &Arc<Self>,
        dir: &Arc<Dir>,
        name: &OsStr,
        file: Arc<dyn File>,
        (data_key, wrapped): (DataKey, WrappedDataKey),
    ) -> Result<Arc<Object>> {
        let bucket = &dir.in_bucket()?.name;
        let old = identity(file.as_ref());
        let unsynced = self.may_be_unsynced(file.as_ref(), None);
        let values = self.values_of(Target::Name(dir, name))?;
        file.set_len(0)?;
        if unsynced && !self.seeded.is(Mistake::RemainsNotCleared) {
            // Another crash must not bring back what was there before, under the new birth (R4).
            file.sync()?;
        }
        let ino = file.ino();
        let new = NewObject { bucket, path: dir.path_of(name), data_key, wrapped };
        let object = Arc::new(Object::new(self, file.clone(), new)?);
        let born = self.born(file.as_ref(), object.id());
        object.commit()?;
        self.take_values(Target::Object(&object), &values)?;
        self.adopt_new(&object, dir);
        self.born_by_now(&object, file.as_ref(), born);
        if let Some((id, place)) = old.filter(|(id, place)| self.is_sidecar_of(*id, *place, ino)) {
            self.abandon(id, place);
        }
        Ok(object)
    }

    /// Opens an object that is open already, or whose descriptor is at hand, after the same question to the KMS.
    pub fn open_again(&self, ino: u64, caller: &Caller) -> Result<Option<Arc<Object>>> {
        let Some(object) = self.objects.hold(ino) else { return Ok(None) };
        if object.file().is_none()
            && let Some(home) = self.objects.spare.remove(ino)
        {
            object.attach(|| home);
        }
        if object.file().is_none() || object.is_buried() {
            self.release(&object);
            return Ok(None);
        }
        object.authorize(caller).inspect_err(|_| self.release(&object))?;
        Ok(Some(object))
    }

    pub fn release(&self, object: &Arc<Object>) {
        if object.handles.fetch_sub(1, Ordering::SeqCst) > 1 {
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

    /// A file that stays open for as long as a program likes: `ENFILE` rather than one of the descriptors that are kept back.
    /// Those of closed objects are given up first, of those too that wait for a checkpoint.
    fn for_program(&self, dir: &Dir, name: &OsStr, access: Access, mut file: Arc<dyn File>) -> Result<Arc<dyn File>> {
        let spare = || self.objects.spare.clear();
        let waits = || !self.read_only() && !self.objects.pinned.lock().open.is_empty();
        let waiting = || waits() && self.checkpoint().is_ok() && spare();
        for make_room in [&spare as &dyn Fn() -> bool, &waiting] {
            if file.has_reserved_descriptor() && make_room() {
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
        self.name_changed(object.ino(), libc::S_IFREG, dir);
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

    /// Held while an inode number changes hands, and by nobody else for as long as the KMS may take to answer: from before its last name goes until the object behind it is known to
    /// be dead, and while a new one comes into memory. Backing file systems use a number again at once.
    pub(crate) fn settling(&self, ino: u64) -> Settling<'_> {
        self.objects.loading.hold(ino)
    }

    /// A name of this inode has gone. The object is dead if it was the last one and nobody has it open. The caller has
    /// held `settling` since before it removed the name.
    pub(crate) fn unlinked(&self, ino: u64, last: bool, dir: &Arc<Dir>, on_disk: Option<(ObjectId, Place)>) {
        if last {
            self.objects.names.forget(ino);
        }
        match self.loaded(ino) {
            Some(object) if last => {
                object.state.write().unlinked = true;
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
        let (id, record) = object.with_state(|state| (state.id, state.own_record(object.ino())));
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

impl Loading {
    fn hold(&self, ino: u64) -> Settling<'_> {
        let mut held = self.held.lock();
        while !held.insert(ino) {
            self.freed.wait(&mut held);
        }
        Settling { loading: self, ino }
    }
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        self.loading.held.lock().remove(&self.ino);
        self.loading.freed.notify_all();
    }
}

impl Objects {
    /// One handle more on an object in memory. Under the table's lock, so that nobody forgets it in between.
    fn hold(&self, ino: u64) -> Option<Arc<Object>> {
        let by_ino = self.by_ino.lock();
        let object = by_ino.get(&ino)?.clone();
        object.handles.fetch_add(1, Ordering::SeqCst);
        drop(by_ino);
        found();
        Some(object)
    }

    fn insert(&self, object: &Arc<Object>) {
        let id = object.with_state(|state| state.id);
        self.by_id.lock().insert(id, object.ino());
        self.by_ino.lock().insert(object.ino(), object.clone());
    }

    fn forget_closed(&self, ino: u64) {
        let mut by_ino = self.by_ino.lock();
        if let Some(object) = by_ino.get(&ino)
            && !object.has_handles()
            && object.is_at_rest()
        {
            let id = object.with_state(|state| state.id);
            by_ino.remove(&ino);
            drop(by_ino);
            self.spare.remove(ino);
            self.by_id.lock().remove(&id);
        }
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// What the mount asks the KMS for of its own accord.
fn itself() -> Caller {
    use rustix::process::{getegid, geteuid, getpid};
    Caller { uid: geteuid().as_raw(), gid: getegid().as_raw(), pid: getpid().as_raw_nonzero().get().cast_unsigned() }
}

/// Who an object file on disk says it is, for one that is not in memory. Damage is nobody.
pub fn identity(file: &dyn File) -> Option<(ObjectId, Place)> {
    let header = read_header(file).ok()?;
    Some((header.object_id, header.sidecar))
}
