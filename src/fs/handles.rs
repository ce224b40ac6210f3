//! Open files.

use super::configurations::Draft;
use crate::kms::{Caller, Operation};
use crate::store::Object;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// The handles of the inodes that are open: each inode's object, and its handles.
type Objects = HashMap<u64, (Arc<Object>, Vec<Arc<Handle>>)>;

#[derive(Default)]
pub struct Handles {
    next: AtomicU64,
    open: RwLock<HashMap<u64, Arc<Handle>>>,
    objects: Mutex<Objects>,
}

pub struct Handle {
    pub object: Arc<Object>,
    /// A configuration that is being written.
    pub draft: Option<Arc<Mutex<Draft>>>,
    pub opener: Opener,
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
    pub fn new(object: Arc<Object>, draft: Option<Arc<Mutex<Draft>>>, opener: Opener) -> Self {
        Self { object, draft, opener, standing: AtomicU8::new(Standing::Allowed as u8) }
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

impl Handles {
    pub fn insert(&self, handle: Handle) -> (u64, Arc<Handle>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let handle = Arc::new(handle);
        let object = handle.object.clone();
        self.objects.lock().entry(object.ino()).or_insert_with(|| (object, Vec::new())).1.push(handle.clone());
        self.open.write().insert(id, handle.clone());
        (id, handle)
    }

    /// Handles, and inodes that they are of.
    pub fn count(&self) -> (usize, usize) {
        (self.open.read().len(), self.objects.lock().len())
    }

    pub fn has_writers(&self, ino: u64) -> bool {
        self.objects.lock().get(&ino).is_some_and(|(_, handles)| handles.iter().any(|handle| handle.opener.write))
    }

    pub fn get(&self, id: u64) -> Option<Arc<Handle>> {
        self.open.read().get(&id).cloned()
    }

    pub fn remove(&self, id: u64) -> Option<Arc<Handle>> {
        let handle = self.open.write().remove(&id)?;
        let ino = handle.object.ino();
        let mut objects = self.objects.lock();
        if let Some((_, handles)) = objects.get_mut(&ino) {
            if let Some(at) = handles.iter().rposition(|other| Arc::ptr_eq(other, &handle)) {
                handles.swap_remove(at);
            }
            if handles.is_empty() {
                objects.remove(&ino);
            }
        }
        Some(handle)
    }

    /// The object of an inode that is open.
    pub fn object(&self, ino: u64) -> Option<Arc<Object>> {
        self.objects.lock().get(&ino).map(|(object, _)| object.clone())
    }

    /// All the handles of an inode.
    pub fn of(&self, ino: u64) -> Vec<Arc<Handle>> {
        self.objects.lock().get(&ino).map_or_else(Vec::new, |(_, handles)| handles.clone())
    }

    pub fn all(&self) -> Vec<Arc<Handle>> {
        self.open.read().values().cloned().collect()
    }
}
