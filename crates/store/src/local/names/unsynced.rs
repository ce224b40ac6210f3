//! Names that may not be durable: which directories an fsync has to sync, and when it is simpler to sync everything.

use crate::backend::Backend;
use crate::mistakes::{Mistake, Seeded};
use crate::{Dir, Ino, Result};
use kmsfs_locks::{Mutex, ranks};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Directories held open for such names.
const DIRS: usize = 64;
/// Names that are not durable, at most; then a checkpoint syncs everything.
const UNSYNCED: usize = 1 << 15;

/// Names that a crash may lose: by inode, the directory and the number of the change.
pub(crate) struct Names {
    backend: Arc<dyn Backend>,
    seeded: Seeded,
    /// Of names and of directories themselves, anywhere.
    changes: AtomicU64,
    unsynced: Mutex<ranks::UnsyncedNames, Unsynced>,
    last: Mutex<ranks::LastSynced, Option<Synced>>,
}

/// The directory that was synced last, or everything, and how many changes there were before.
struct Synced {
    dir: Option<Ino>,
    before: u64,
}

#[derive(Default)]
struct Unsynced {
    /// By the inode named.
    names: HashMap<Ino, Vec<Name>>,
    /// Those directories that are held open, at most `DIRS`: for the others everything has to be synced.
    dirs: HashMap<Ino, Arc<Dir>>,
    /// Directories among those named that were there before under another name: what lies below them has another path.
    moved: HashSet<Ino>,
}

struct Name {
    /// Number of the change.
    change: u64,
    /// The directory's inode.
    dir: Ino,
    /// There is more to the inode than a name: a file, or a symlink, whose target may be in a sidecar record.
    content: bool,
}

impl Names {
    pub(crate) fn new(backend: &Arc<dyn Backend>, seeded: Seeded) -> Self {
        Self {
            backend: backend.clone(),
            seeded,
            changes: AtomicU64::default(),
            unsynced: Mutex::default(),
            last: Mutex::default(),
        }
    }

    /// How many changes there have been, of names and of directories themselves, anywhere.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// An inode (`mode` is its type, at least) has a new name in that directory, which a crash may lose.
    pub(crate) fn add(&self, ino: Ino, mode: u32, dir: &Arc<Dir>) {
        let change = self.changes.fetch_add(1, Ordering::SeqCst) + 1;
        let mut unsynced = self.unsynced.lock();
        if unsynced.dirs.len() < DIRS {
            unsynced.dirs.entry(dir.ino()).or_insert_with(|| dir.clone());
        }
        let content = matches!(mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFLNK);
        unsynced.names.entry(ino).or_default().push(Name { change, dir: dir.ino(), content });
    }

    /// Changes a directory's names or attributes. It is counted when it is done, or has failed halfway, and before
    /// anybody is told, so that a sync that may have come too early does not count (F5).
    pub(crate) fn changing<T, E>(&self, act: impl FnOnce() -> std::result::Result<T, E>) -> std::result::Result<T, E> {
        let done = act();
        if !self.seeded.is(Mistake::RemovalUnseen) {
            self.changes.fetch_add(1, Ordering::SeqCst);
        }
        done
    }

    /// fsync(2) of a directory, unless nothing anywhere has changed since it was the last to be synced: programs sync a
    /// file and then its directory, which the sync of the file has done.
    pub(crate) fn sync_dir(&self, dir: &Dir) -> Result<()> {
        let before = self.changes();
        let last = &self.last;
        if last.lock().as_ref().is_some_and(|last| last.covers(dir.ino(), before)) {
            return Ok(());
        }
        dir.backing.sync()?;
        *last.lock() = Some(Synced { dir: Some(dir.ino()), before });
        Ok(())
    }

    /// sync(2), after which all names are durable.
    pub(crate) fn sync_everything(&self) -> Result<()> {
        let before = self.changes();
        self.backend.sync_all()?;
        self.all_synced(before);
        *self.last.lock() = Some(Synced { dir: None, before });
        Ok(())
    }

    /// A directory was renamed: every path below it has changed.
    pub(crate) fn dir_moved(&self, ino: Ino) {
        self.unsynced.lock().moved.insert(ino);
    }

    /// F4: makes durable the names of an inode, and of the directories above that are new themselves. Who lies below a
    /// renamed directory is not known, so these are made durable too.
    pub(crate) fn sync_of(&self, ino: Ino) -> Result<()> {
        let mut pending = vec![ino];
        pending.extend(&self.unsynced.lock().moved);
        let mut done = HashSet::new();
        while let Some(ino) = pending.pop() {
            if !done.insert(ino) {
                continue;
            }
            let before = self.changes();
            let Some(dirs) = self.unsynced.lock().dirs_of(ino) else {
                return self.sync_everything();
            };
            for dir in &dirs {
                self.sync_dir(dir)?;
                pending.push(dir.ino());
            }
            self.unsynced.lock().settle_one(ino, before);
        }
        Ok(())
    }

    /// Everything up to that change is durable.
    pub(crate) fn all_synced(&self, before: u64) {
        self.unsynced.lock().settle(before);
    }

    /// Whether there are more than it is worth keeping count of.
    pub(crate) fn are_many(&self) -> bool {
        self.unsynced.lock().names.len() > UNSYNCED
    }

    /// Inodes with a name in that directory that may not be durable, and content.
    pub(crate) fn unsynced_in(&self, dir: Ino) -> Vec<Ino> {
        let unsynced = self.unsynced.lock();
        let here = unsynced.names.iter().filter(|(_, names)| names.iter().any(|name| name.dir == dir && name.content));
        here.map(|(ino, _)| *ino).collect()
    }

    /// The inode's last name has gone.
    pub(crate) fn forget(&self, ino: Ino) {
        let mut unsynced = self.unsynced.lock();
        unsynced.names.remove(&ino);
        unsynced.moved.remove(&ino);
    }
}

impl Synced {
    fn covers(&self, dir: Ino, changes: u64) -> bool {
        self.before == changes && self.dir.is_none_or(|synced| synced == dir)
    }
}

impl Unsynced {
    /// Directories to sync for an inode's names; `None` if one of them is not at hand.
    fn dirs_of(&self, ino: Ino) -> Option<Vec<Arc<Dir>>> {
        let Some(names) = self.names.get(&ino) else { return Some(Vec::new()) };
        names.iter().map(|name| self.dirs.get(&name.dir).cloned()).collect()
    }

    fn settle_one(&mut self, ino: Ino, before: u64) {
        if let Some(names) = self.names.get_mut(&ino) {
            names.retain(|name| name.change > before);
            if names.is_empty() {
                self.names.remove(&ino);
                self.moved.remove(&ino);
            }
        }
    }

    fn settle(&mut self, before: u64) {
        self.names.retain(|_, names| {
            names.retain(|name| name.change > before);
            !names.is_empty()
        });
        self.moved.retain(|ino| self.names.contains_key(ino));
        if self.names.is_empty() {
            self.dirs.clear();
        }
    }
}
