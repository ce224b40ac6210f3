//! Open files.

use super::configurations::Draft;
use crate::store::Object;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Default)]
pub struct Handles {
    next: AtomicU64,
    open: RwLock<HashMap<u64, Arc<Handle>>>,
    /// Objects by inode, and how many handles each has.
    objects: Mutex<HashMap<u64, (Arc<Object>, usize)>>,
}

pub struct Handle {
    pub object: Arc<Object>,
    /// A configuration that is being written.
    pub draft: Option<Arc<Mutex<Draft>>>,
}

impl Handles {
    pub fn insert(&self, handle: Handle) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let object = handle.object.clone();
        self.objects.lock().entry(object.ino()).or_insert_with(|| (object, 0)).1 += 1;
        self.open.write().insert(id, Arc::new(handle));
        id
    }

    pub fn get(&self, id: u64) -> Option<Arc<Handle>> {
        self.open.read().get(&id).cloned()
    }

    pub fn remove(&self, id: u64) -> Option<Arc<Handle>> {
        let handle = self.open.write().remove(&id)?;
        let ino = handle.object.ino();
        let mut objects = self.objects.lock();
        if let Some((_, count)) = objects.get_mut(&ino) {
            *count -= 1;
            if *count == 0 {
                objects.remove(&ino);
            }
        }
        Some(handle)
    }

    /// The object of an inode that is open.
    pub fn object(&self, ino: u64) -> Option<Arc<Object>> {
        self.objects.lock().get(&ino).map(|(object, _)| object.clone())
    }
}
