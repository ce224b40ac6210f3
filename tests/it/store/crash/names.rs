//! Operations on names, as `CrashedStore::step` names them.

use super::crashed::CrashedStore;
use super::told::{NOBODY, Told};
use crate::store::*;
use kmsfs_store::backend::Rename;
use kmsfs_store::{Error, Ino};

impl CrashedStore {
    pub fn unlink(&self, name: &str) -> Result<(), Error> {
        let Some((dir, last)) = self.place(name) else { return Ok(()) };
        if self.ino(name) == NOBODY || self.is_dir(name) {
            return Ok(());
        }
        if let Some(object) = self.handles.lock().remove(name) {
            self.store.release(&object);
        }
        self.told.lock().gone(name);
        self.store.unlink(&dir, last)?;
        Ok(())
    }

    pub fn unlink_open(&self, name: &str) -> Result<(), Error> {
        let held = format!("~{name}");
        if self.handles.lock().contains_key(&held) || self.find(name)?.is_none() {
            return Ok(());
        }
        let Some((dir, last)) = self.place(name) else { return Ok(()) };
        self.told.lock().gone(name);
        self.store.unlink(&dir, last)?;
        let object = self.handles.lock().remove(name).unwrap();
        self.handles.lock().insert(held, object);
        Ok(())
    }

    fn is_dir(&self, name: &str) -> bool {
        self.dir(name).is_some()
    }

    pub fn rename(&self, old: &str, new: &str) -> Result<(), Error> {
        let Some(object) = self.find(old)? else { return Ok(()) };
        let (Some((from, name)), Some((to, to_name))) = (self.place(old), self.place(new)) else { return Ok(()) };
        let replaced = self.ino(new);
        if replaced == object.ino() || self.is_dir(new) {
            return Ok(());
        }
        let state = {
            let told = &mut *self.told.lock();
            told.gone(new);
            told.shows(old, NOBODY);
            told.shows(new, object.ino());
            let known = told.objects.get_mut(&object.ino()).unwrap();
            known.rename(Some(old), Some(new));
            known.last()
        };
        self.store.rename(&from, name, &to, to_name, Rename::Replace)?;
        let handles = &mut *self.handles.lock();
        if let Some(gone) = handles.remove(new) {
            self.store.release(&gone);
        }
        let object = handles.remove(old).unwrap();
        if replaced != NOBODY {
            // Its content, not its name.
            self.with_known(&object, |known| known.ack(state));
        }
        handles.insert(new.to_string(), object);
        self.snapshot();
        Ok(())
    }

    pub fn exchange(&self, old: &str, new: &str) -> Result<(), Error> {
        let (Some(a), Some(b)) = (self.find(old)?, self.find(new)?) else { return Ok(()) };
        let (Some((from, name)), Some((to, to_name))) = (self.place(old), self.place(new)) else { return Ok(()) };
        if a.ino() == b.ino() {
            return Ok(());
        }
        let states = {
            let told = &mut *self.told.lock();
            // One system call: neither is ever without its name.
            for (ino, gone, name) in [(a.ino(), old, new), (b.ino(), new, old)] {
                told.objects.get_mut(&ino).unwrap().rename(Some(gone), Some(name));
                told.shows(name, ino);
            }
            [&a, &b].map(|object| told.objects[&object.ino()].last())
        };
        self.store.rename(&from, name, &to, to_name, Rename::Exchange)?;
        for (object, state) in [&a, &b].into_iter().zip(states) {
            self.with_known(object, |known| known.ack(state));
        }
        let handles = &mut *self.handles.lock();
        handles.insert(new.to_string(), a);
        handles.insert(old.to_string(), b);
        self.snapshot();
        Ok(())
    }

    pub fn link(&self, old: &str, new: &str) -> Result<(), Error> {
        let Some(object) = self.find(old)? else { return Ok(()) };
        let (Some((from, name)), Some((to, to_name))) = (self.place(old), self.place(new)) else { return Ok(()) };
        if self.ino(new) != NOBODY {
            return Ok(());
        }
        self.told.lock().named(new, object.ino());
        self.store.link(&from, name, &to, to_name)?;
        Ok(())
    }

    pub fn symlink(&self, name: &str) -> Result<(), Error> {
        let Some((dir, last)) = self.place(name) else { return Ok(()) };
        if self.ino(name) != NOBODY {
            return Ok(());
        }
        let number = self.next();
        // Every other one is too long for a backing symlink.
        let target =
            format!("{number}{}", "/target".repeat(if number.is_multiple_of(2) { 1 } else { 500 })).into_bytes();
        self.told.lock().making = Some(name.to_string());
        let ino = self.store.make_symlink(&dir, last, &target, &NODE)?.ino;
        let told = &mut *self.told.lock();
        told.making = None;
        told.shows(name, ino);
        told.links.insert(ino, target);
        Ok(())
    }

    pub fn mkdir(&self, name: &str) -> Result<(), Error> {
        let Some((dir, last)) = self.place(name) else { return Ok(()) };
        if self.ino(name) != NOBODY {
            return Ok(());
        }
        self.told.lock().making = Some(name.to_string());
        let ino = self.store.make_dir(&dir, last, &NewNode { mode: 0o755, ..NODE })?.ino;
        let told = &mut *self.told.lock();
        told.making = None;
        told.shows(name, ino);
        Ok(())
    }

    /// A directory gets another name, which must be free, and everything in it another path.
    pub fn move_dir(&self, old: &str, new: &str) -> Result<(), Error> {
        let (Some((from, name)), Some((to, to_name))) = (self.place(old), self.place(new)) else { return Ok(()) };
        if !self.is_dir(old) || self.ino(new) != NOBODY {
            return Ok(());
        }
        let inside = self.told.lock().move_dir(old, new);
        self.store.rename(&from, name, &to, to_name, Rename::Replace)?;
        let handles = &mut *self.handles.lock();
        for (path, moved) in inside {
            if let Some(object) = handles.remove(&path) {
                handles.insert(moved, object);
            }
        }
        Ok(())
    }

    /// What is new in the directory: names, headers and sidecars.
    pub fn fsync_dir(&self, path: &str) -> Result<(), Error> {
        let Some(dir) = self.dir(path) else { return Ok(()) };
        let below = |name: &str| name.rsplit_once('/').map_or("", |(above, _)| above) == path && !name.is_empty();
        let (positions, states) = {
            let told = self.told.lock();
            let mut positions = told.positions(path);
            positions.extend(told.names.iter().filter(|(n, _)| below(n)).map(|(n, s)| (n.clone(), s.was.len() - 1)));
            let names = told.names.keys().filter(|name| below(name));
            let states: Vec<_> = names.filter_map(|name| self.durable_by_dir(&told, name)).collect();
            (positions, states)
        };
        self.store.fsync_dir(&dir)?;
        {
            let told = &mut *self.told.lock();
            told.settle_names(&positions);
            for (ino, state, names) in states {
                let known = told.objects.get_mut(&ino).unwrap();
                known.ack(state);
                known.named_since = known.named_since.max(names);
            }
        }
        self.snapshot();
        Ok(())
    }

    /// Of an object that was never synced: the state that a sync of its directory covers.
    fn durable_by_dir(&self, told: &Told, name: &str) -> Option<(Ino, usize, usize)> {
        let ino = told.ino(name);
        let known = told.objects.get(&ino).filter(|known| known.acked.is_none())?;
        let state = if self.handles.lock().contains_key(name) { Some(known.last()) } else { known.committed };
        Some((ino, state?, known.names.len() - 1))
    }
}

impl Told {
    fn gone(&mut self, name: &str) {
        let ino = self.ino(name);
        if ino == NOBODY {
            return;
        }
        self.shows(name, NOBODY);
        if let Some(known) = self.objects.get_mut(&ino) {
            known.rename(Some(name), None);
        }
    }

    fn named(&mut self, name: &str, ino: Ino) {
        self.shows(name, ino);
        if let Some(known) = self.objects.get_mut(&ino) {
            known.rename(None, Some(name));
        }
    }

    /// Everything in a directory gets another path. Answers both.
    fn move_dir(&mut self, old: &str, new: &str) -> Vec<(String, String)> {
        let below = format!("{old}/");
        let inside = self.names.keys().filter(|path| *path == old || path.starts_with(&below));
        let inside: Vec<_> = inside.map(|path| (path.clone(), format!("{new}{}", &path[old.len()..]))).collect();
        for (path, moved) in &inside {
            let ino = self.ino(path);
            self.shows(path, NOBODY);
            self.shows(moved, ino);
            if let Some(known) = self.objects.get_mut(&ino) {
                known.rename(Some(path), Some(moved));
            }
        }
        inside
    }
}
