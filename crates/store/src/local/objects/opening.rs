//! Opening objects: making them, asking for their keys, and what a crash left of them.

use crate::backend::{Access, File, NewNode};
use crate::local::objects::identity;
use crate::local::recovery::birth;
use crate::mistakes::Mistake;
use crate::object::{Home, NewObject, Unverified};
use crate::{Attr, Dir, Error, Held, Ino, Object, Result, Store, Target, Volume, VolumeObjects, Wrapping};
use kmsfs_crypto::DataKey;
use kmsfs_kms::{Caller, Waits, waits};
use kmsfs_sse::{Encryption, WrappedDataKey};
use std::ffi::OsStr;
use std::sync::Arc;

/// Why `Store::open_if` has not opened an object.
enum NotOpened {
    Unwanted,
    Failed(Error),
}

impl From<Error> for NotOpened {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl VolumeObjects for Store {
    fn create(
        &self,
        dir: &Arc<Dir>,
        name: &OsStr,
        node: &NewNode,
        want: &Encryption,
        key: &str,
        caller: &Caller,
    ) -> Result<(Arc<Object>, Attr)> {
        self.admission.writable()?;
        let bucket = dir.in_bucket()?.name.clone();
        let (data_key, wrapped) = self.keys.new_data_key(want, &bucket, key, caller)?;
        let making = self.births.making();
        // The KMS may have taken its time, and a file that is made now would have a birth that no checkpoint notes.
        self.admission.not_closing()?;
        let made = self.names.changing(|| self.objects.with_descriptor(|| dir.backing.create_file(name, node)))?;
        let ino = made.ino();
        let made = self.for_program(dir, name, Access::ReadWrite, made).and_then(|file| {
            let new = NewObject { bucket: &bucket, path: dir.path_of(name), data_key, wrapped };
            let object = Arc::new(Object::new(self, file.clone(), new)?);
            // A new file has none.
            *object.has_no_capability.lock() = true;
            let born = self.births.note(file.as_ref(), object.id());
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
        self.adopt_new(&object, dir);
        self.born_by_now(&object, file.as_ref(), born);
        Ok((object, attr))
    }

    fn open_object(&self, dir: &Dir, name: &OsStr, caller: &Caller) -> Result<Arc<Object>> {
        self.open_judged(dir, name, caller, |_| Ok(())).map(|(object, ())| object)
    }

    fn open_if(
        &self,
        dir: &Dir,
        name: &OsStr,
        caller: &Caller,
        wanted: &mut dyn FnMut(&Wrapping<'_>) -> bool,
    ) -> Result<Option<Arc<Object>>> {
        let judge = |now: &Wrapping<'_>| if wanted(now) { Ok(()) } else { Err(NotOpened::Unwanted) };
        match self.open_judged(dir, name, caller, judge) {
            Ok((object, ())) => Ok(Some(object)),
            Err(NotOpened::Unwanted) => Ok(None),
            Err(NotOpened::Failed(error)) => Err(error),
        }
    }

    fn open_again(&self, ino: Ino, caller: &Caller) -> Result<Option<Arc<Object>>> {
        let Some(object) = self.objects.hold(ino) else { return Ok(None) };
        if object.file().is_none()
            && let Some(home) = self.objects.descriptors.take(ino)
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

    fn open_truncated(
        &self,
        dir: &Arc<Dir>,
        name: &OsStr,
        want: &Encryption,
        key: &str,
        caller: &Caller,
    ) -> Result<Arc<Object>> {
        match self.open_object(dir, name, caller) {
            Ok(object) => {
                // Nothing is where a crash left nothing: that needs no truncation.
                object.truncate(0).inspect_err(|_| self.release(&object))?;
                Ok(object)
            }
            Err(why @ (Error::Corrupt(_) | Error::Sse(_))) => self.open_given_up(dir, name, want, key, caller, &why),
            Err(error) => Err(error),
        }
    }

    fn open_given_up(
        &self,
        dir: &Arc<Dir>,
        name: &OsStr,
        want: &Encryption,
        key: &str,
        caller: &Caller,
        why: &Error,
    ) -> Result<Arc<Object>> {
        // What follows cannot be done again: the second time the file would have an id and a birth of the first.
        waits::may_wait(Waits::Disk)?;
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

    fn release(&self, object: &Arc<Object>) {
        if !object.remove_handle() {
            return;
        }
        if object.is_unlinked() {
            self.bury(object, None);
            return;
        }
        self.objects.let_go(object);
    }

    fn attached(&self, ino: Ino) -> Option<Held> {
        self.objects.attached(ino)
    }

    /// Whether a crash caught an object that does not open before it was ever durable (R2): it is empty, as after the
    /// same crash on any file system. Programs find the journals and temporary files that they left, and
    /// `open_truncated` makes it usable.
    fn was_never_committed(&self, dir: &Dir, name: &OsStr) -> bool {
        if !self.aftermath.knows_a_crash() {
            return false;
        }
        let Ok(file) = dir.backing.open_file(name, Access::Read) else { return false };
        self.aftermath.may_be_unsynced(file.as_ref(), None) || self.aftermath.is_blank_of_version_1(file.as_ref())
    }

    /// Removes what a crash left of a creation before it could be noted (N4): a file of no bytes, without a birth.
    /// Nobody was answered that it is there, and nothing is in it; whoever else makes a file such a one could as well
    /// have removed it. Answers whether it was one.
    fn remove_unborn(&self, dir: &Dir, name: &OsStr) -> Result<bool> {
        if !self.aftermath.has_crashed_epochs() || self.read_only() {
            return Ok(false);
        }
        let _none = self.births.none_is_made();
        let Ok(file) = dir.backing.open_file(name, Access::Read) else { return Ok(false) };
        let is_unborn = file.metadata()?.len == 0 && birth::named(file.as_ref()).is_none();
        if !is_unborn || self.objects.loaded(file.ino()).is_some() {
            return Ok(false);
        }
        ::log::warn!("{}: a crash left nothing of it but its name, which is removed", dir.show(name));
        self.names.changing(|| dir.backing.unlink(name))?;
        Ok(true)
    }
}

impl Store {
    /// The same for an object that is judged first by how it is wrapped.
    fn open_judged<T, E: From<Error>>(
        &self,
        dir: &Dir,
        name: &OsStr,
        caller: &Caller,
        mut judge: impl FnMut(&Wrapping<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<(Arc<Object>, T), E> {
        let bucket = &dir.in_bucket()?.name;
        let access = if self.read_only() { Access::Read } else { Access::ReadWrite };
        let file = self.objects.with_descriptor(|| dir.backing.open_file(name, access));
        let file = file.map_err(|error| Error::reaching(|| dir.show(name), error))?;
        let file = self.for_program(dir, name, access, file)?;
        let ino = file.ino();
        let home = || Home { file: file.clone(), patch: self.aftermath.patch_of(ino) };
        // Others who open it ask the KMS first, and that is time that this one waits for it as well.
        let _running = self.keys.begin();
        let opening = self.objects.opening(ino)?;
        let (object, judged, unsynced) = loop {
            if let Some(object) = self.objects.hold(ino) {
                object.attach(home);
                drop(opening);
                let judged = object.with_state(|state| judge(&Wrapping::of(state.keyed.sidecar())));
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
            let loaded = Unverified::read(self, home(), metadata, &|| dir.show(name), |found| {
                let judged = judge(&Wrapping::of(&found.sidecar))?;
                let unsynced = self.aftermath.may_be_unsynced(file.as_ref(), Some(found.id()));
                if unsynced {
                    // It is read through, and what was cut is committed.
                    opening.waits_for(Waits::Disk)?;
                }
                let path = dir.path_of(name);
                let (keys, alone) = opening.ask(|| found.unwrap_keys(self, bucket, &path, caller));
                let keys = keys?;
                if !alone {
                    return Ok(None);
                }
                let object = Object::load(self, found, keys, path, unsynced)?;
                Ok::<_, E>(Some((Arc::new(object), judged, unsynced)))
            })?;
            if let Some(loaded) = loaded {
                break loaded;
            }
        };
        let unsynced = unsynced || self.seeded.is(Mistake::SettledIsCut);
        let cut = unsynced && object.cut_back()?;
        let id = object.id();
        if self.objects.has_copy(id, ino) {
            let copy = "another open file carries the same object id: it is a copy";
            return Err(Error::corrupt(dir.show(name), copy).into());
        }
        self.objects.insert(&object);
        if unsynced && let Err(error) = object.settle(cut) {
            ::log::warn!("{}: what the crash left cannot be committed yet: {error}", object.show());
        }
        Ok((object, judged))
    }

    /// What `stat` shows of an object whose length is in doubt: it is opened, and settled that way, on the mount's own
    /// behalf. `None` where its file leaves no doubt, or there is no key.
    pub(crate) fn size_after_crash(&self, dir: &Dir, name: &OsStr, ino: Ino) -> Result<Option<u64>> {
        let Ok(file) = dir.backing.open_file(name, Access::Read) else { return Ok(None) };
        if !self.aftermath.may_be_unsynced(file.as_ref(), None) {
            return Ok(self.aftermath.is_blank_of_version_1(file.as_ref()).then_some(0));
        }
        Ok(match self.open_object(dir, name, &Caller::itself()) {
            Err(wait @ Error::WouldWait(_)) => return Err(wait),
            Ok(object) => {
                let size = object.with_state(crate::object::State::length);
                self.release(&object);
                (object.ino() == ino).then_some(size)
            }
            Err(Error::Corrupt(_)) => Some(0),
            Err(_) => None,
        })
    }

    /// For a store that is only read: what a crash left of an object that was never committed. Nothing, for as long as
    /// it is open.
    fn open_nothing(
        &self,
        dir: &Arc<Dir>,
        name: &OsStr,
        (data_key, wrapped): (DataKey, WrappedDataKey),
    ) -> Result<Arc<Object>> {
        if !self.was_never_committed(dir, name) {
            return Err(Error::ReadOnly);
        }
        let file = dir.backing.open_file(name, Access::Read)?;
        let _settling = self.objects.settling(file.ino());
        let new = NewObject { bucket: &dir.in_bucket()?.name, path: dir.path_of(name), data_key, wrapped };
        let object = Arc::new(Object::new(self, file, new)?);
        self.objects.insert(&object);
        Ok(object)
    }

    /// The same inode with a new object id: what cannot be read is given up.
    fn replace(
        &self,
        dir: &Arc<Dir>,
        name: &OsStr,
        file: Arc<dyn File>,
        (data_key, wrapped): (DataKey, WrappedDataKey),
    ) -> Result<Arc<Object>> {
        self.admission.not_closing()?;
        let bucket = &dir.in_bucket()?.name;
        let old = identity(file.as_ref());
        let unsynced = self.aftermath.may_be_unsynced(file.as_ref(), None);
        let values = self.values.all_of(Target::Name(dir, name))?;
        file.set_len(0)?;
        if unsynced && !self.seeded.is(Mistake::RemainsNotCleared) {
            // Another crash must not bring back what was there before, under the new birth (R4).
            file.sync()?;
        }
        let ino = file.ino();
        let new = NewObject { bucket, path: dir.path_of(name), data_key, wrapped };
        let object = Arc::new(Object::new(self, file.clone(), new)?);
        let born = self.births.note(file.as_ref(), object.id());
        object.commit()?;
        self.values.take(Target::Object(&object), &values)?;
        self.adopt_new(&object, dir);
        self.born_by_now(&object, file.as_ref(), born);
        if let Some((id, place)) = old.filter(|(id, place)| self.is_sidecar_of(*id, *place, ino)) {
            self.objects.dead.abandon(id, place);
        }
        Ok(object)
    }

    /// The object is among those in memory now. If a checkpoint has begun since it was born, its birth is noted again;
    /// where that cannot be, it is made durable at once, so that it needs no excuse.
    fn born_by_now(&self, object: &Object, file: &dyn File, born: Option<u64>) {
        if let Err(error) = self.births.note_again(file, object.id(), born) {
            // It is made: there is no way back to a thread that may wait.
            let synced =
                waits::whatever_it_takes(|| self.checkpoints.with_permit(|permit| object.sync_content(permit)));
            let show = object.show();
            ::log::info!("{show}: its birth cannot be noted ({error}), so it is synced at once");
            if let Err(error) = synced {
                ::log::warn!("{show}: nor can it be synced ({error}): a crash before its first sync would damage it");
            }
        }
    }
}
