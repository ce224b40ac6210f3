//! Keys taken away and given back while files are open.
//!
//! Who looks whether keys or policies changed (`watch_keys`) says at once which handles are refused. Another thread
//! then has the kernel write back and drop what it holds of their objects, and zeroizes data keys
//! (`drain_revoked`): that takes as long as the writing does. Neither serves requests, which the kernel sends
//! meanwhile.

use super::changing::{Change, Writer};
use super::closed::Closed;
use super::evaluation::{Evaluation, Reach};
use super::handles::{Handle, Standing};
use super::watching::Watch;
use super::{Fs, HandleId, Ino, Refusal, Result, TRIES};
use kmsfs_kms::Caller;
use kmsfs_locks::{Condvar, Mutex, RwLock, ranks};
use kmsfs_store::{self as store, Object};
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A page that is just being read stays when pages are dropped, and a write(2) that was under way may still come into
/// the cache: for so long pages are dropped again and again, and what they hold is taken.
const AGAIN: Duration = Duration::from_millis(500);
/// How often, with so much time in between for each inode.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_EACH: Duration = Duration::from_micros(50);

/// The same while handles are refused.
const LATER: Duration = Duration::from_millis(100);
const LATER_EACH: Duration = Duration::from_millis(1);

/// Closed files whose pages are dropped before it is looked whether there is something more urgent.
const CLOSED_AT_ONCE: usize = 1000;

/// Objects synced one by one; beyond that a checkpoint does it for all.
const FEW: usize = 16;

#[derive(Default)]
pub(crate) struct Revocations {
    /// The KMS's version that all handles were evaluated by last.
    pub(crate) judged: AtomicU64,
    /// How often an object may have come under other keys.
    rekeyed: AtomicU64,
    /// How many evaluations have begun.
    evaluations: AtomicU64,
    /// Of keys whose KMS is at hand, and of those whose KMS is elsewhere.
    pub(crate) at_hand: Watch,
    pub(crate) elsewhere: Watch,
    /// Closed objects are to give their keys up.
    pub(crate) is_locking: AtomicBool,
    /// Inodes with a handle that is refused, and whether there are any.
    inodes: RwLock<ranks::RevokedInodes, HashSet<Ino>>,
    any: AtomicBool,
    pub(crate) closed: Closed,
    queue: Mutex<ranks::RevocationQueue, Queue>,
    queued: Condvar,
}

#[derive(Default)]
struct Queue {
    inodes: BTreeSet<Ino>,
    /// Inodes whose pages are dropped again, and until when.
    again: HashMap<Ino, Instant>,
    /// Inodes that nobody has open, whose pages are of no use to anybody and can wait.
    closed_inodes: Vec<Ino>,
    closed: bool,
}

impl Revocations {
    /// Nothing more is drained, nor asked for.
    pub(crate) fn has_ended(&self) -> bool {
        self.queue.lock().closed
    }
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.inodes.is_empty() && self.again.is_empty() && self.closed_inodes.is_empty()
    }
}

impl Fs {
    /// One that begins now. What the KMS allows and refuses from here on it either says to this one, or its version
    /// tells the watcher, and there is a later one.
    pub(crate) fn evaluation(&self, reach: Reach) -> Evaluation {
        let number = self.revocations.evaluations.fetch_add(1, Ordering::SeqCst) + 1;
        Evaluation::new(number, reach)
    }

    /// An old answer of the KMS is never acted on after a newer one: each handle knows which evaluation decided it.
    pub(crate) fn reevaluate(&self, handles: &[Arc<Handle>], evaluation: &Evaluation) {
        for handle in handles {
            let ino = handle.ino();
            match evaluation.of(self.store.keys(), handle) {
                Some(true) if handle.allow(evaluation.number) => self.revocation_changed(ino),
                Some(false) if self.begin_refusing(handle, evaluation) => evaluation.has_refused(ino),
                _ => {}
            }
        }
        if evaluation.has_unasked() {
            self.revocations.elsewhere.is_due_now();
        }
    }

    /// Refuses a handle, as an evaluation found it: new uses fail at once, the rest is for `drain_revoked`. Returns
    /// whether the handle was allowed until now.
    ///
    /// Its inode is queued before that, so that what was queued for it before does not end with what has only just
    /// begun, and once more afterwards, in case it was taken meanwhile.
    fn begin_refusing(&self, handle: &Handle, evaluation: &Evaluation) -> bool {
        let ino = handle.ino();
        let queue = || {
            self.revocations.queue.lock().inodes.insert(ino);
        };
        if !handle.begin_refusing(evaluation.number, queue) {
            return false;
        }
        if !self.is_revoked(ino) {
            self.revocation_changed(ino);
            // A write(2) into the kernel's cache asks for attributes then, which is where it is refused.
            self.forget_attributes(ino);
        }
        self.drain_soon(ino);
        true
    }

    /// Does what is queued, to its end. Returns whether there was anything.
    pub fn drain_revoked(&self) -> bool {
        let inodes = self.begin_draining();
        self.end_draining(&inodes);
        !inodes.is_empty()
    }

    /// Drains until `stop_draining`.
    pub fn drain_forever(&self) {
        loop {
            let mut queue = self.revocations.queue.lock();
            while queue.is_empty() && !queue.closed {
                let Some(pause) = self.pause_of_revoked() else {
                    self.revocations.queued.wait(&mut queue);
                    continue;
                };
                if self.revocations.queued.wait_for(&mut queue, pause) {
                    drop(queue);
                    self.drop_revoked();
                    queue = self.revocations.queue.lock();
                }
            }
            if queue.closed {
                return;
            }
            let pause = PAUSE.max(PAUSE_EACH * u32::try_from(queue.again.len()).unwrap_or(u32::MAX));
            if queue.inodes.is_empty() && queue.closed_inodes.is_empty() {
                let _ = self.revocations.queued.wait_for(&mut queue, pause);
            }
            drop(queue);
            let begun = self.begin_draining();
            let until = Instant::now() + AGAIN;
            self.revocations.queue.lock().again.extend(begun.iter().map(|ino| (*ino, until)));
            self.drop_again();
            self.drop_closed();
        }
    }

    /// Has the kernel write back and drop what it holds, and makes that durable.
    fn begin_draining(&self) -> BTreeSet<Ino> {
        let inodes = std::mem::take(&mut self.revocations.queue.lock().inodes);
        for &ino in &inodes {
            if let Some((observer, path)) = self.observer().zip(self.path(ino)) {
                observer.ask_attributes(&path);
            }
            self.drop_pages(ino);
        }
        self.make_durable(&inodes);
        inodes
    }

    /// Nothing more is taken, and the keys go.
    fn end_draining(&self, inodes: &BTreeSet<Ino>) {
        self.make_durable(inodes);
        for &ino in inodes {
            if self.refuse_write_back(ino) {
                // What came meanwhile through a mapping is no longer taken.
                self.drop_pages(ino);
            }
            self.lock_unused(ino);
        }
    }

    /// Returns whether any handle had been draining. Not if the inode is queued again.
    fn refuse_write_back(&self, ino: Ino) -> bool {
        // Let go after the lock: whoever is the last to do that closes the object.
        let handles;
        let queue = self.revocations.queue.lock();
        if queue.inodes.contains(&ino) {
            return false;
        }
        handles = self.handles.of(ino);
        handles.iter().filter(|handle| handle.end_draining()).count() > 0
    }

    fn drop_again(&self) {
        let again = self.revocations.queue.lock().again.clone();
        for &ino in again.keys() {
            if self.is_revoked(ino) {
                self.drop_pages(ino);
            }
        }
        let now = Instant::now();
        let over: BTreeSet<Ino> = again.iter().filter(|(_, until)| now >= **until).map(|(ino, _)| *ino).collect();
        self.end_draining(&over);
        // Unless it was queued again meanwhile.
        self.revocations.queue.lock().again.retain(|_, until| now < *until);
    }

    /// How long to wait until the pages of refused handles are dropped once more, if there are any such handles: a
    /// program that reads one page without a pause may have had it in use each time.
    fn pause_of_revoked(&self) -> Option<Duration> {
        let count = self.revocations.inodes.read().len();
        (count > 0).then(|| LATER.max(LATER_EACH * u32::try_from(count).unwrap_or(u32::MAX)))
    }

    fn drop_revoked(&self) {
        let inodes: Vec<Ino> = self.revocations.inodes.read().iter().copied().collect();
        for ino in inodes {
            self.drop_pages(ino);
        }
    }

    /// Some of what nobody has open any more.
    pub fn drop_closed(&self) {
        let mut queue = self.revocations.queue.lock();
        let rest = queue.closed_inodes.len().saturating_sub(CLOSED_AT_ONCE);
        let inodes = queue.closed_inodes.split_off(rest);
        drop(queue);
        for ino in inodes {
            self.drop_pages(ino);
        }
    }

    /// Ends `drain_forever`, and gives up what is queued.
    pub fn stop_draining(&self) {
        let mut queue = self.revocations.queue.lock();
        queue.closed = true;
        queue.inodes.clear();
        queue.again.clear();
        queue.closed_inodes.clear();
        self.revocations.queued.notify_all();
    }

    /// Makes durable what programs could write until now through handles that are refused.
    fn make_durable(&self, inodes: &BTreeSet<Ino>) {
        let handles: Vec<_> = inodes.iter().filter_map(|ino| self.written(*ino)).collect();
        if self.store.read_only() || handles.is_empty() {
            return;
        }
        let done = if handles.len() > FEW {
            self.store.checkpoint()
        } else {
            handles.iter().try_for_each(|handle| handle.object.fsync())
        };
        if let Err(error) = done {
            log::error!("what was written before a key was taken away is committed, but may not be durable: {error}");
        }
    }

    fn written(&self, ino: Ino) -> Option<Arc<Handle>> {
        let mut handles = self.handles.of(ino).into_iter();
        let writer = handles.find(|handle| handle.opener.write && handle.standing() == Standing::Draining);
        writer.filter(|handle| handle.object.is_unsynced())
    }

    /// Zeroizes an object's data keys if no handle is left that may use them, be it that there is none at all.
    fn lock_unused(&self, ino: Ino) {
        let handles = self.handles.of(ino);
        let Some(first) = handles.first() else { return self.store.lock_if_closed(ino) };
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

    /// The KMS's version that all handles were evaluated by last.
    pub(super) fn judged(&self) -> u64 {
        self.revocations.judged.load(Ordering::SeqCst)
    }

    /// Grows whenever who may use an object may have changed since it was opened.
    pub(super) fn judgement(&self) -> u64 {
        self.judged() + self.revocations.rekeyed.load(Ordering::SeqCst)
    }

    /// A handle comes into use whose opener was allowed at that judgement.
    pub(super) fn admit(&self, mut handle: Handle, judgement: u64) -> HandleId {
        handle.personal = self.distinguishes_users(&handle.object);
        let (id, handle) = self.handles.insert(handle);
        if self.judgement() != judgement {
            let evaluation = self.evaluation(Reach::Everybody);
            if evaluation.of(self.store.keys(), &handle) == Some(false) {
                self.begin_refusing(&handle, &evaluation);
            } else if evaluation.has_unasked() {
                self.revocations.elsewhere.is_due_now();
            }
        }
        id
    }

    /// Whether two users may be answered differently about the object's keys, as of now.
    pub(super) fn distinguishes_users(&self, object: &Object) -> bool {
        object.kms_keys().iter().any(|(key_arn, context)| self.store.keys().distinguishes(key_arn, context))
    }

    /// Whether users who have the inode open may be answered differently about its key: then reads and writes come
    /// here, and no page of them stays in the kernel, where splice(2) asks nobody. As it was when the first of them
    /// opened it, since the kernel keeps either all or nothing of a file coherent.
    pub fn is_personal(&self, ino: Ino) -> bool {
        self.handles.is_personal(ino)
    }

    pub(super) fn released(&self, handle: &Handle) {
        let ino = handle.ino();
        let keys = handle.object.kms_keys();
        if !keys.is_empty() {
            self.inodes.was_read_under(ino, self.revocations.closed.number(keys, &handle.opener.caller));
        }
        if self.is_revoked(ino) {
            self.revocation_changed(ino);
        }
        if handle.is_allowed() && self.is_revoked(ino) {
            // Its opener may have been the last one who was allowed.
            self.drain_soon(ino);
        }
    }

    /// The handle, if its opener may still use the object's key. (That a read or write answers EACCES is not in POSIX's
    /// list, but it is what network file systems answer, and what the next open will.)
    pub(super) fn permitted(&self, id: HandleId) -> Result<Arc<Handle>> {
        let handle = self.handle(id)?;
        Self::check(&handle)?;
        Ok(handle)
    }

    pub(super) fn check(handle: &Handle) -> Result<()> {
        if handle.is_allowed() { Ok(()) } else { Err(Refusal::Revoked) }
    }

    /// The kernel asks for attributes on behalf of a read or write through that handle.
    pub fn check_handle(&self, id: HandleId) -> Result<()> {
        let handle = self.permitted(id)?;
        if handle.opener.write { self.check_written(handle.ino()) } else { Ok(()) }
    }

    /// What the kernel writes back was accepted from some program before, which need not be the one whose handle it
    /// names. It is taken while any handle could have written it.
    pub fn write_back(&self, id: HandleId, offset: u64, data: &[u8]) -> Result<()> {
        let handle = self.handle(id)?;
        let write = |handle: &Handle| self.change(handle, Change::Write { offset, data }, Writer::WriteBack);
        let written = if handle.standing() == Standing::Refused {
            let handles = self.handles.of(handle.ino());
            let other = handles.iter().find(|other| other.opener.write && other.standing() != Standing::Refused);
            other.map_or_else(|| Err(Refusal::Revoked), |other| write(other))
        } else {
            write(&handle)
        };
        written.inspect_err(|error| self.was_not_written(handle.ino(), error))
    }

    /// Uses an object through a handle that is allowed; data keys that were given up are asked for again. If the KMS
    /// takes its time for that, and the handle is refused meanwhile, they go again. `worst` is the standing that
    /// the use still needs afterwards.
    pub(super) fn with_keys<T>(
        &self,
        handle: &Handle,
        worst: Standing,
        mut act: impl FnMut(&Object) -> store::Result<T>,
    ) -> Result<T> {
        match act(&handle.object) {
            Err(store::Error::Locked) => {
                self.store.unlock(&handle.object, &handle.opener.caller)?;
                if handle.standing() != Standing::Allowed {
                    self.drain_soon(handle.ino());
                }
                if handle.standing() > worst {
                    return Err(Refusal::Revoked);
                }
                Ok(act(&handle.object)?)
            }
            done => Ok(done?),
        }
    }

    /// Uses an object that was opened without a handle. It gives its keys up whenever all handles are refused, which
    /// says nothing of who uses it here: they are asked for again on behalf of that caller, as often as they may have
    /// gone in between.
    pub(super) fn unlocking<T>(
        &self,
        object: &Arc<Object>,
        caller: &Caller,
        mut act: impl FnMut(&Arc<Object>) -> Result<T>,
    ) -> Result<T> {
        for _ in 1..TRIES {
            match act(object) {
                Err(Refusal::Store(store::Error::Locked)) => self.store.unlock(object, caller)?,
                done => return done,
            }
        }
        act(object)
    }

    /// A read went well. What others read lies in the kernel's cache, where a refused handle would find it.
    pub(super) fn was_read(&self, handle: &Handle) {
        let ino = handle.ino();
        if self.is_revoked(ino) {
            let mut queue = self.revocations.queue.lock();
            if let Entry::Vacant(new) = queue.again.entry(ino) {
                new.insert(Instant::now() + AGAIN);
                self.revocations.queued.notify_all();
            }
        }
    }

    /// Somebody used the object without a handle: its keys may have come back for that, or be others now. `judged`
    /// is from before that: if keys have changed since, the watcher has passed over the object while it was used.
    pub(super) fn was_used(&self, ino: Ino, judged: u64) {
        let changed = self.judged() != judged;
        self.revocations.rekeyed.fetch_add(1, Ordering::SeqCst);
        let handles = self.handles.of(ino);
        if !handles.is_empty() {
            let evaluation = self.evaluation(Reach::Everybody);
            self.reevaluate(&handles, &evaluation);
            evaluation.log();
        }
        if changed || self.is_revoked(ino) {
            self.drain_soon(ino);
        }
    }

    pub(crate) fn drop_closed_soon(&self, inodes: Vec<Ino>) {
        self.revocations.queue.lock().closed_inodes.extend(inodes);
        self.revocations.queued.notify_all();
    }

    fn drain_soon(&self, ino: Ino) {
        self.revocations.queue.lock().inodes.insert(ino);
        self.revocations.queued.notify_all();
    }

    // ---- inodes

    /// Whether a handle of the inode is refused.
    pub fn is_revoked(&self, ino: Ino) -> bool {
        self.revocations.any.load(Ordering::SeqCst) && self.revocations.inodes.read().contains(&ino)
    }

    /// A path of the inode, relative to the mount; `None` for one that has no name any more.
    pub fn path(&self, ino: Ino) -> Option<PathBuf> {
        let mut names = Vec::new();
        let mut at = ino;
        while at != self.root() {
            let (parent, name) = self.inodes.name(at)?;
            names.push(name);
            at = parent;
        }
        Some(names.into_iter().rev().collect())
    }

    fn revocation_changed(&self, ino: Ino) {
        let handles;
        let mut inodes = self.revocations.inodes.write();
        handles = self.handles.of(ino);
        if handles.iter().all(|handle| handle.is_allowed()) {
            inodes.remove(&ino);
        } else {
            inodes.insert(ino);
        }
        self.revocations.any.store(!inodes.is_empty(), Ordering::SeqCst);
    }
}
