//! Keys taken away and given back while files are open.
//!
//! One thread looks whether keys or policies changed and says at once which handles are refused (`watch_keys`). Another
//! one then has the kernel write back and drop what it holds of their objects, and zeroizes data keys (`drain_revoked`):
//! that takes as long as the writing does. Neither serves requests, which the kernel sends meanwhile.

use super::error::errno;
use super::handles::{Handle, Standing};
use super::{Fs, Result};
use crate::kms::{Caller, Operation};
use crate::store::{self, Object};
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What the kernel keeps of files. Called without locks, and never by a thread that serves requests: `drop_pages` waits
/// for the kernel's own requests to be answered.
pub trait KernelCache: Send + Sync {
    /// The next use of the inode asks for its attributes.
    fn forget_attributes(&self, ino: u64);
    /// Writes back what is dirty and drops all pages; mappings fault at their next use.
    fn drop_pages(&self, ino: u64);
}

/// Permission may also end by itself, by a policy's date or a material's expiry: everything is judged again so often.
const ANYWAY: Duration = Duration::from_secs(10);

/// Objects synced one by one; beyond that a checkpoint does it for all.
const FEW: usize = 16;

#[derive(Default)]
pub struct Revocations {
    kernel: RwLock<Option<Box<dyn KernelCache>>>,
    /// The KMS's version that all handles were judged by last.
    judged: AtomicU64,
    at: Mutex<Option<Instant>>,
    /// Inodes with a handle that is refused, and whether there are any.
    inodes: RwLock<HashSet<u64>>,
    any: AtomicBool,
    queue: Mutex<Queue>,
    queued: Condvar,
}

#[derive(Default)]
struct Queue {
    inodes: BTreeSet<u64>,
    closed: bool,
}

/// Answers of the KMS, each asked for once in a judgement.
#[derive(Default)]
struct Verdicts(HashMap<(String, Operation, Caller), bool>);

impl Verdicts {
    fn of(&mut self, store: &store::Store, handle: &Handle) -> bool {
        let (operation, caller) = (handle.opener.operation, handle.opener.caller);
        handle.object.key_arns().into_iter().all(|key_arn| {
            let ask = |key_arn: &str| store.keys().permits(key_arn, operation, &caller);
            let asked = (key_arn, operation, caller);
            if let Some(known) = self.0.get(&asked) {
                return *known;
            }
            let answer = ask(&asked.0);
            self.0.insert(asked, answer);
            answer
        })
    }
}

impl Fs {
    /// What the kernel caches is dropped through this from now on.
    pub fn on_revocation(&self, kernel: Box<dyn KernelCache>) {
        *self.revocations.kernel.write() = Some(kernel);
    }

    /// Looks whether keys or who may use them have changed, and if so says which open handles are refused from now on and
    /// which are good again. To be called several times a second.
    pub fn watch_keys(&self) {
        let version = self.store.keys().version();
        let mut at = self.revocations.at.lock();
        let changed = version != self.judged();
        if !changed && at.is_some_and(|at| at.elapsed() < ANYWAY) {
            return;
        }
        *at = Some(Instant::now());
        // Before judging: a handle that comes meanwhile sees it, and is judged by whoever opens it.
        self.revocations.judged.store(version, Ordering::SeqCst);
        if changed {
            self.store.keys().drop_refused();
            self.store.lock_closed();
        }
        self.judge_all();
    }

    fn judge_all(&self) {
        let mut verdicts = Verdicts::default();
        let (mut refused, mut allowed) = (BTreeSet::new(), BTreeSet::new());
        let mut count = 0;
        for handle in self.handles.all() {
            let ino = handle.object.ino();
            if verdicts.of(&self.store, &handle) {
                if !handle.is_allowed() {
                    handle.allow();
                    allowed.insert(ino);
                }
            } else if handle.turn(Standing::Allowed, Standing::Draining) {
                refused.insert(ino);
                count += 1;
            }
        }
        for ino in allowed {
            self.revocation_changed(ino);
        }
        if !refused.is_empty() {
            log::info!("keys were taken away: {count} open handles of {} objects are refused", refused.len());
            self.refuse(&refused);
        }
    }

    /// Handles of these inodes were refused: new uses fail at once, the rest is for `drain_revoked`.
    fn refuse(&self, inodes: &BTreeSet<u64>) {
        for &ino in inodes {
            self.revocation_changed(ino);
        }
        if let Some(kernel) = self.revocations.kernel.read().as_ref() {
            for &ino in inodes {
                // A write(2) into the kernel's cache asks for attributes then, which is where it is refused.
                kernel.forget_attributes(ino);
            }
        }
        self.revocations.queue.lock().inodes.extend(inodes);
        self.revocations.queued.notify_all();
    }

    /// Does what is queued; answers whether there was anything.
    pub fn drain_revoked(&self) -> bool {
        let inodes = std::mem::take(&mut self.revocations.queue.lock().inodes);
        for &ino in &inodes {
            self.drop_pages(ino);
        }
        let written: Vec<_> = inodes.iter().filter_map(|ino| self.written(*ino)).collect();
        self.make_durable(&written);
        for &ino in &inodes {
            for handle in self.handles.of(ino) {
                handle.turn(Standing::Draining, Standing::Refused);
            }
            // What came between the two: nothing that a refused handle may do, but pages that others read for it.
            self.drop_pages(ino);
            self.lock_unused(ino);
        }
        !inodes.is_empty()
    }

    /// Drains until `stop_draining`.
    pub fn drain_forever(&self) {
        loop {
            let mut queue = self.revocations.queue.lock();
            while queue.inodes.is_empty() {
                if queue.closed {
                    return;
                }
                self.revocations.queued.wait(&mut queue);
            }
            drop(queue);
            self.drain_revoked();
        }
    }

    pub fn stop_draining(&self) {
        let mut queue = self.revocations.queue.lock();
        queue.closed = true;
        queue.inodes.clear();
        self.revocations.queued.notify_all();
    }

    fn drop_pages(&self, ino: u64) {
        if let Some(kernel) = self.revocations.kernel.read().as_ref() {
            kernel.drop_pages(ino);
        }
    }

    /// The object, if programs could write through one of the refused handles.
    fn written(&self, ino: u64) -> Option<Arc<Object>> {
        let handles = self.handles.of(ino);
        handles.iter().find(|handle| handle.opener.write && !handle.is_allowed()).map(|handle| handle.object.clone())
    }

    fn make_durable(&self, objects: &[Arc<Object>]) {
        if self.store.read_only() {
            return;
        }
        let done = if objects.len() > FEW {
            self.store.checkpoint()
        } else {
            objects.iter().try_for_each(|object| object.fsync())
        };
        if let Err(error) = done {
            log::error!("what was written before a key was taken away is committed, but may not be durable: {error}");
        }
    }

    /// Zeroizes an object's data keys if no handle is left that may use them.
    fn lock_unused(&self, ino: u64) {
        let handles = self.handles.of(ino);
        let Some(first) = handles.first() else { return };
        if handles.iter().any(|handle| handle.standing() != Standing::Refused) {
            return;
        }
        if let Err(error) = first.object.lock() {
            log::error!(
                "a data key that was taken away stays in memory, since its object cannot be committed: {error}"
            );
        }
    }

    // ---- handles

    pub(super) fn judged(&self) -> u64 {
        self.revocations.judged.load(Ordering::SeqCst)
    }

    /// A handle comes into use whose opener was allowed when everything had been judged by that version.
    pub(super) fn admit(&self, handle: Handle, judged: u64) -> u64 {
        let (id, handle) = self.handles.insert(handle);
        if self.judged() != judged
            && !Verdicts::default().of(&self.store, &handle)
            && handle.turn(Standing::Allowed, Standing::Draining)
        {
            self.refuse(&BTreeSet::from([handle.object.ino()]));
        }
        id
    }

    pub(super) fn released(&self, handle: &Handle) {
        let ino = handle.object.ino();
        if self.is_revoked(ino) {
            self.revocation_changed(ino);
        }
        if handle.is_allowed() && self.is_revoked(ino) {
            // Its opener may have been the last one who was allowed.
            self.revocations.queue.lock().inodes.insert(ino);
            self.revocations.queued.notify_all();
        }
    }

    /// The handle, if its opener may still use the object's key. (That a read or write answers EACCES is not in POSIX's
    /// list, but it is what network file systems answer, and what the next open will.)
    pub(super) fn permitted(&self, id: u64) -> Result<Arc<Handle>> {
        let handle = self.handle(id)?;
        Self::check(&handle)?;
        Ok(handle)
    }

    pub(super) fn check(handle: &Handle) -> Result<()> {
        if handle.is_allowed() { Ok(()) } else { errno(libc::EACCES) }
    }

    /// The kernel asks for attributes on behalf of a read or write through that handle.
    pub fn check_handle(&self, id: u64) -> Result<()> {
        self.permitted(id).map(drop)
    }

    /// What the kernel writes back was accepted from some program before, which need not be the one whose handle it names.
    /// It is taken while any handle could have written it.
    pub fn write_back(&self, id: u64, offset: u64, data: &[u8], drop_set_id: bool) -> Result<()> {
        let handle = self.handle(id)?;
        if handle.standing() != Standing::Refused {
            return self.write_through(&handle, offset, data, drop_set_id);
        }
        let handles = self.handles.of(handle.object.ino());
        let other = handles.iter().find(|other| other.opener.write && other.standing() != Standing::Refused);
        other.map_or_else(|| errno(libc::EACCES), |other| self.write_through(other, offset, data, drop_set_id))
    }

    /// Uses an object through a handle that is allowed; data keys that were given up are asked for again.
    pub(super) fn with_keys<T>(&self, handle: &Handle, mut act: impl FnMut(&Object) -> store::Result<T>) -> Result<T> {
        match act(&handle.object) {
            Err(store::Error::Locked) => {
                self.store.unlock(&handle.object, &handle.opener.caller)?;
                Ok(act(&handle.object)?)
            }
            done => Ok(done?),
        }
    }

    // ---- inodes

    /// Whether a handle of the inode is refused.
    pub fn is_revoked(&self, ino: u64) -> bool {
        self.revocations.any.load(Ordering::SeqCst) && self.revocations.inodes.read().contains(&ino)
    }

    fn revocation_changed(&self, ino: u64) {
        let mut inodes = self.revocations.inodes.write();
        if self.handles.of(ino).iter().all(|handle| handle.is_allowed()) {
            inodes.remove(&ino);
        } else {
            inodes.insert(ino);
        }
        self.revocations.any.store(!inodes.is_empty(), Ordering::SeqCst);
    }
}
