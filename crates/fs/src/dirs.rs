//! Directories held open, the least recently used given up; others are found again by walking names from one that is.

use super::inodes::{Inodes, Name};
use super::numbers::Ino;
use super::refusal::Refusal;
use kmsfs_locks::{Mutex, ranks};
use kmsfs_store::{Dir, Target, Volume};
use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::Arc;

pub(crate) struct Dirs {
    most: usize,
    open: Mutex<ranks::Dirs, Open>,
}

#[derive(Default)]
struct Open {
    by_ino: HashMap<Ino, (Arc<Dir>, u64)>,
    clock: u64,
}

/// Why there is no directory.
pub(crate) enum Blocked {
    Refused(Refusal),
    /// The bucket of this name has to be opened first, by whoever holds no lock.
    Bucket(OsString),
}

impl<R: Into<Refusal>> From<R> for Blocked {
    fn from(refusal: R) -> Self {
        Self::Refused(refusal.into())
    }
}

impl Dirs {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, open: Mutex::default() }
    }

    /// Asks no KMS. A bucket that is not held open has to be opened before, as `bucket`, which takes the service's key.
    pub(crate) fn get(
        &self,
        store: &dyn Volume,
        inodes: &Inodes,
        ino: Ino,
        bucket: Option<&Arc<Dir>>,
    ) -> std::result::Result<Arc<Dir>, Blocked> {
        if ino == store.root().ino() {
            return Ok(store.root().clone());
        }
        let mut below: Vec<Name> = Vec::new();
        let mut at = ino;
        let mut dir = loop {
            if let Some(dir) = self.held(store, at) {
                break dir;
            }
            let Some((parent, name)) = inodes.name(at) else {
                return Err(Refusal::NotFound.into());
            };
            below.push((at, name));
            at = parent;
        };
        while let Some((ino, name)) = below.pop() {
            let next = if dir.bucket().is_some() {
                store.open_dir(&dir, &name)?
            } else {
                let Some(bucket) = bucket else { return Err(Blocked::Bucket(name)) };
                // It may have been removed since it was opened. (A bucket cannot be renamed.)
                if store.stat(Target::Name(&dir, &name))?.ino != bucket.ino() {
                    return Err(Refusal::Stale.into());
                }
                bucket.clone()
            };
            if next.ino() != ino {
                return Err(Refusal::Stale.into());
            }
            self.hold(&next);
            dir = next;
        }
        Ok(dir)
    }

    fn held(&self, store: &dyn Volume, ino: Ino) -> Option<Arc<Dir>> {
        if ino == store.root().ino() {
            return Some(store.root().clone());
        }
        let mut open = self.open.lock();
        open.clock += 1;
        let clock = open.clock;
        let (dir, used) = open.by_ino.get_mut(&ino)?;
        *used = clock;
        Some(dir.clone())
    }

    fn hold(&self, dir: &Arc<Dir>) {
        let mut open = self.open.lock();
        if dir.has_reserved_descriptor() {
            open.by_ino.clear();
            return;
        }
        open.clock += 1;
        let clock = open.clock;
        open.by_ino.insert(dir.ino(), (dir.clone(), clock));
        if open.by_ino.len() > self.most {
            // A quarter at once, so that finding the oldest is rare.
            let mut ages: Vec<_> = open.by_ino.values().map(|(_, used)| *used).collect();
            ages.sort_unstable();
            let limit = ages[ages.len() / 4];
            open.by_ino.retain(|_, (_, used)| *used > limit);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.open.lock().by_ino.len()
    }

    pub(crate) fn drop_one(&self, ino: Ino) {
        self.open.lock().by_ino.remove(&ino);
    }

    /// After a directory was renamed: those below it know a path that is no longer theirs.
    pub(crate) fn drop_all(&self) {
        self.open.lock().by_ino.clear();
    }
}
