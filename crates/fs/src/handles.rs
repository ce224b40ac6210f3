//! Open files.

use super::configurations::Draft;
use kmsfs_kms::{Caller, Operation};
use kmsfs_store::Object;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

#[derive(Default)]
pub struct Handles {
    next: AtomicU64,
    open: RwLock<HashMap<u64, Arc<Handle>>>,
    /// By inode; none is empty.
    by_ino: Mutex<HashMap<u64, Vec<Arc<Handle>>>>,
}

/// The object stays open until nobody uses the handle any more, which may be after its release.
pub struct Handle {
    pub object: Arc<Object>,
    /// A configuration that is being written.
    pub draft: Option<Arc<Draft>>,
    pub opener: Opener,
    /// What is read through it is nothing for the kernel to keep for others; the same for all handles of an inode.
    pub personal: bool,
    standing: AtomicU8,
}

/// For whom a handle was opened, and what the KMS was asked for then.
#[derive(Debug, Clone, Copy)]
pub struct Opener {
    pub caller: Caller,
    pub operation: Operation,
    /// The handle is for writing (too).
    pub write: bool,
}

/// What a handle is good for, as its opener's permission to use the key goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Standing {
    Allowed,
    /// Refused, but the kernel may still write back what was written before.
    Draining,
    Refused,
}

impl Handle {
    /// Of an object that was opened for it.
    pub fn new(object: Arc<Object>, opener: Opener) -> Self {
        let standing = AtomicU8::new(Standing::Allowed as u8);
        Self { object, draft: None, opener, personal: false, standing }
    }

    pub fn standing(&self) -> Standing {
        match self.standing.load(Ordering::SeqCst) {
            0 => Standing::Allowed,
            1 => Standing::Draining,
            _ => Standing::Refused,
        }
    }

    pub fn is_allowed(&self) -> bool {
        self.standing() == Standing::Allowed
    }

    /// Answers whether the handle had the one standing, and so has the other now.
    pub fn turn(&self, from: Standing, to: Standing) -> bool {
        let turned = self.standing.compare_exchange(from as u8, to as u8, Ordering::SeqCst, Ordering::SeqCst);
        turned.is_ok()
    }

    pub fn allow(&self) {
        self.standing.store(Standing::Allowed as u8, Ordering::SeqCst);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.object.release();
    }
}

impl Handles {
    pub fn insert(&self, mut handle: Handle) -> (u64, Arc<Handle>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let mut by_ino = self.by_ino.lock();
        let handles = by_ino.entry(handle.object.ino()).or_default();
        handle.personal = handles.first().map_or(handle.personal, |first| first.personal);
        let handle = Arc::new(handle);
        handles.push(handle.clone());
        drop(by_ino);
        self.open.write().insert(id, handle.clone());
        (id, handle)
    }

    /// Handles, and inodes that they are of.
    pub fn count(&self) -> (usize, usize) {
        (self.open.read().len(), self.by_ino.lock().len())
    }

    pub fn has_writers(&self, ino: u64) -> bool {
        self.by_ino.lock().get(&ino).is_some_and(|handles| handles.iter().any(|handle| handle.opener.write))
    }

    pub fn get(&self, id: u64) -> Option<Arc<Handle>> {
        self.open.read().get(&id).cloned()
    }

    pub fn remove(&self, id: u64) -> Option<Arc<Handle>> {
        let handle = self.open.write().remove(&id)?;
        let ino = handle.object.ino();
        let mut by_ino = self.by_ino.lock();
        if let Some(handles) = by_ino.get_mut(&ino) {
            if let Some(at) = handles.iter().rposition(|other| Arc::ptr_eq(other, &handle)) {
                handles.swap_remove(at);
            }
            if handles.is_empty() {
                by_ino.remove(&ino);
            }
        }
        Some(handle)
    }

    pub fn is_personal(&self, ino: u64) -> bool {
        self.by_ino.lock().get(&ino).is_some_and(|handles| handles.iter().any(|handle| handle.personal))
    }

    pub fn is_open(&self, ino: u64) -> bool {
        self.by_ino.lock().contains_key(&ino)
    }

    /// All the handles of an inode.
    pub fn of(&self, ino: u64) -> Vec<Arc<Handle>> {
        self.by_ino.lock().get(&ino).cloned().unwrap_or_default()
    }

    pub fn all(&self) -> Vec<Arc<Handle>> {
        self.open.read().values().cloned().collect()
    }
}
