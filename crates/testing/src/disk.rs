//! A disk in memory that can lose power, fill up and fail: for crash and fault tests, here and in `tests/`.
//!
//! What programs see behaves as Linux does for a privileged process. What survives is modelled more harshly than any
//! real file system is, so that nothing is relied on which no sync has promised:
//!
//! - After a kill ([`CrashPoint::kill`]) everything is there that a call has done: the page cache survives.
//! - After a power cut ([`CrashPoint::power_cuts`]) each sector of 512 bytes and each length that was not synced holds
//!   what it held at the last sync, or any value written since, independently of all others. Bytes past the length are
//!   gone. Each call that changed names has happened or not, a rename whole; one is lost with an earlier one that it
//!   needs (of the same name, or without which a name would vanish that nobody removed).
//! - A sync makes durable what was done before it began: of a file, its content; of a directory, its names, which says
//!   nothing about the directory's own name, nor about the content of the files in it.
//! - Mode, owner, times, extended attributes and symlink targets are durable at once, with their inode. Space reserved
//!   past the length is not kept.
//!
//! ```
//! use kmsfs_store::backend::{Backend, NewNode};
//! use kmsfs_testing::disk::SimulatedDisk;
//! let disk = SimulatedDisk::new();
//! let root = disk.root()?;
//! let node = NewNode { mode: 0o644, umask: 0, owner: None };
//! root.create_file("a".as_ref(), &node)?.write_at(b"text", 0)?;
//! root.sync()?;
//! let cuts = disk.crash_point().power_cuts(100, 1);
//! assert!(cuts.is_complete());
//! let lengths = cuts.map(|disk| disk.root()?.stat("a".as_ref()).map(|found| found.len));
//! assert_eq!(lengths.collect::<Result<Vec<_>, _>>()?, [0, 0, 4, 4]); // with zeros and with the text
//! # Ok::<(), std::io::Error>(())
//! ```

mod attributes;
mod content;
mod directory;
mod faults;
mod file;
mod image;
mod inode;
mod moves;
mod power;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;

pub use content::SECTOR;
pub use faults::{Call, Calls, FaultPlan};
pub use power::PowerCuts;

use directory::SimulatedDir;
use faults::{Fault, Faults, errno};
use image::{Image, ROOT};
use kmsfs_store::Time;
use kmsfs_store::backend::{Backend, Dir, Space};
use parking_lot::Mutex;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a disk without a set capacity reports, and the most that can be reserved at a time: 1 GiB.
const NOMINAL_SECTORS: u64 = 1 << 21;

/// A disk; clones are the same one.
#[derive(Clone)]
pub struct SimulatedDisk {
    shared: Arc<Shared>,
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedDisk {
    /// An empty root directory, durable.
    pub fn new() -> Self {
        Self::from_image(Image::new(), None)
    }

    fn from_image(image: Image, capacity: Option<u64>) -> Self {
        let (faults, open, locks) = (Faults::default(), BTreeMap::new(), BTreeMap::new());
        let state = State { image, faults, open, locks, locks_exclude: true, last_handle: 0, capacity };
        let (state, watcher, before_sync) = (Mutex::new(state), Mutex::new(None), Mutex::new(None));
        Self { shared: Arc::new(Shared { state, watcher, before_sync, few_descriptors: AtomicBool::new(false) }) }
    }

    /// The disk as it is now.
    pub fn crash_point(&self) -> CrashPoint {
        self.shared.state.lock().crash_point()
    }

    /// Calls back with the disk as it is now, and as it stays until the callback returns, which must not use this disk.
    pub fn at_crash_point(&self, callback: impl FnOnce(CrashPoint)) {
        let state = self.shared.state.lock();
        callback(state.crash_point());
    }

    /// Calls back after each call that changed something, with the disk as it was then; in order, and before the call
    /// returns. The callback must not use this disk.
    pub fn watch(&self, callback: impl FnMut(&CrashPoint) + Send + 'static) {
        *self.shared.watcher.lock() = Some(Box::new(callback));
    }

    /// Calls back while a sync is under way, after it has fixed what it covers: whatever the callback does with this
    /// disk is not covered. Syncs that the callback makes call nothing back.
    pub fn during_sync(&self, callback: impl FnMut(Call) + Send + 'static) {
        *self.shared.before_sync.lock() = Some(Box::new(callback));
    }

    /// Calls neither of them back any more.
    pub fn unwatch(&self) {
        *self.shared.watcher.lock() = None;
        *self.shared.before_sync.lock() = None;
    }

    /// Adds a plan; where two would strike at the same call, the earlier one decides.
    pub fn fail(&self, plan: FaultPlan) {
        self.shared.state.lock().faults.plans.push(plan);
    }

    /// Forgets all plans.
    pub fn heal(&self) {
        self.shared.state.lock().faults.plans.clear();
    }

    /// Bytes for the content of files; a write that needs more writes what fits and returns `ENOSPC`. `None`, as at
    /// first: no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.state.lock().capacity = bytes.map(|bytes| bytes / SECTOR as u64);
    }

    /// Excludes nobody by locks from now on, as a file system that does not know those of other machines.
    pub fn grant_all_locks(&self) {
        self.shared.state.lock().locks_exclude = false;
    }

    /// Whether every descriptor is one of the last that the process may have.
    pub fn set_few_descriptors(&self, few: bool) {
        self.shared.few_descriptors.store(few, Ordering::SeqCst);
    }

    /// How often each call was made.
    pub fn calls(&self) -> Calls {
        self.shared.state.lock().faults.counted.clone()
    }

    /// Lets time pass, in nanoseconds.
    pub fn advance(&self, nanoseconds: u32) {
        self.shared.state.lock().image.time.0 += i64::from(nanoseconds);
    }

    /// Sets the clock, forward or back.
    pub fn set_clock(&self, nanoseconds: i64) {
        self.shared.state.lock().image.time = Time(nanoseconds);
    }
}

impl Backend for SimulatedDisk {
    fn root(&self) -> io::Result<Arc<dyn Dir>> {
        let open = |state: &mut State| Ok(Arc::new(SimulatedDir::new(&self.shared, state, ROOT)) as Arc<dyn Dir>);
        self.shared.look_mut(Call::OpenDir, open)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.shared.sync(Call::SyncAll, Synced::All)
    }

    fn space(&self) -> io::Result<Space> {
        self.shared.look(Call::Space, |state| {
            let blocks = state.capacity.unwrap_or(NOMINAL_SECTORS);
            let free = state.free_sectors().unwrap_or_else(|| blocks.saturating_sub(state.used_sectors()));
            let files = 1 << 20;
            Ok(Space {
                block_size: SECTOR as u64,
                blocks,
                blocks_free: free,
                blocks_available: free,
                files,
                files_free: files.saturating_sub(state.image.inodes.len() as u64),
            })
        })
    }

    fn now(&self) -> Time {
        self.shared.state.lock().image.time
    }
}

/// A disk at some moment; cheap to keep and to clone.
#[derive(Clone)]
pub struct CrashPoint {
    image: Image,
    capacity: Option<u64>,
}

impl CrashPoint {
    /// The disk after every process was killed: open files and locks are gone, and nothing more is durable than was.
    pub fn kill(&self) -> SimulatedDisk {
        let mut image = self.image.clone();
        image.free(|_| false);
        SimulatedDisk::from_image(image, self.capacity)
    }

    /// The disks that a power cut may leave: all of them if they are at most `limit`, else that many (two at least),
    /// spread: all kept, nothing kept, one file or cell alone or lost, then chance, which `seed` decides.
    pub fn power_cuts(&self, limit: usize, seed: u64) -> PowerCuts {
        PowerCuts::new(self.image.clone(), self.capacity, limit, seed)
    }
}

type Watcher = Box<dyn FnMut(&CrashPoint) + Send>;
type SyncWatcher = Box<dyn FnMut(Call) + Send>;

struct Shared {
    state: Mutex<State>,
    /// Locked after the state.
    watcher: Mutex<Option<Watcher>>,
    before_sync: Mutex<Option<SyncWatcher>>,
    few_descriptors: AtomicBool,
}

/// What a sync makes durable.
#[derive(Clone, Copy)]
enum Synced {
    File(u64),
    Directory(u64),
    All,
}

struct State {
    image: Image,
    faults: Faults,
    /// How often each inode is open.
    open: BTreeMap<u64, u32>,
    /// Handles that have an inode locked, all of them shared or one exclusively.
    locks: BTreeMap<u64, BTreeMap<u64, bool>>,
    /// Locks are for more than to be asked for.
    locks_exclude: bool,
    last_handle: u64,
    /// In sectors.
    capacity: Option<u64>,
}

impl Shared {
    fn look<T>(&self, call: Call, look: impl FnOnce(&State) -> io::Result<T>) -> io::Result<T> {
        self.look_mut(call, |state| look(state))
    }

    /// A call that changes nothing that a crash could leave.
    fn look_mut<T>(&self, call: Call, look: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let state = &mut *self.state.lock();
        state.faults.count(call)?;
        look(state)
    }

    fn change<T>(&self, call: Call, change: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.change_despite(call, |state, fault| match fault {
            Some(fault) => Err(fault.into()),
            None => change(state),
        })
    }

    /// For a call that may change something although it fails.
    fn change_despite<T>(
        &self,
        call: Call,
        change: impl FnOnce(&mut State, Option<Fault>) -> io::Result<T>,
    ) -> io::Result<T> {
        let state = &mut *self.state.lock();
        let fault = state.faults.count(call).err();
        let before = state.image.when;
        let done = change(state, fault);
        if state.image.when != before {
            self.notify(state);
        }
        done
    }

    /// Makes durable what was done up to now, and not what is done while the sync runs.
    fn sync(&self, call: Call, what: Synced) -> io::Result<()> {
        let when = self.change_despite(call, |state, fault| {
            let when = state.image.when;
            let Some(fault) = fault else { return Ok(when) };
            if let (true, Synced::File(ino)) = (fault.loses, what) {
                state.image.file_mut(ino).lose(when);
                state.image.tick();
            }
            Err(fault.into())
        })?;
        if let Some(Some(callback)) = self.before_sync.try_lock().as_deref_mut() {
            callback(call);
        }
        let state = &mut *self.state.lock();
        match what {
            Synced::File(ino) => state.image.file_mut(ino).sync(when),
            Synced::Directory(ino) => state.image.sync_directory(ino, when),
            Synced::All => state.image.sync_all(when),
        }
        state.free();
        self.notify(state);
        Ok(())
    }

    fn notify(&self, state: &State) {
        if let Some(watcher) = self.watcher.lock().as_mut() {
            watcher(&state.crash_point());
        }
    }
}

impl State {
    fn crash_point(&self) -> CrashPoint {
        CrashPoint { image: self.image.clone(), capacity: self.capacity }
    }

    /// Counts an open inode; returns the handle's number.
    fn opened(&mut self, ino: u64) -> u64 {
        *self.open.entry(ino).or_default() += 1;
        self.last_handle += 1;
        self.last_handle
    }

    fn closed(&mut self, ino: u64, handle: u64) {
        if let Some(locks) = self.locks.get_mut(&ino) {
            locks.remove(&handle);
        }
        match self.open.get_mut(&ino) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.open.remove(&ino)),
        }
    }

    fn free(&mut self) {
        self.image.free(|ino| self.open.contains_key(&ino));
    }

    fn used_sectors(&self) -> u64 {
        self.image.used(|ino| self.open.contains_key(&ino))
    }

    /// `None` where there is no bound.
    fn free_sectors(&self) -> Option<u64> {
        self.capacity.map(|capacity| capacity.saturating_sub(self.used_sectors()))
    }

    /// flock(2): changing the kind of a lock gives up the one held first.
    fn lock(&mut self, ino: u64, handle: u64, exclusive: bool) -> io::Result<()> {
        let locks = self.locks.entry(ino).or_default();
        if locks.get(&handle) == Some(&exclusive) {
            return Ok(());
        }
        locks.remove(&handle);
        if self.locks_exclude && locks.values().any(|held| *held || exclusive) {
            return errno(Errno::WOULDBLOCK);
        }
        locks.insert(handle, exclusive);
        Ok(())
    }
}
