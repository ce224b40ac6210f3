//! A store, what its users were told, and every instant at which it might have crashed.

use super::looking::look;
use super::told::{Known, SECTORS, Told};
use crate::store::*;
use kmsfs_store::backend;
use kmsfs_store::{Error, Ino};
use kmsfs_testing::disk::CrashPoint;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub const SECTOR: u64 = 2048;
pub const CHUNK: u64 = 4096;

/// Which chunks of a real object stand for the model's chunks 0 to 3.
pub type Chunks = [u64; 4];

/// In the header's entries, in the first table page (two), and in the second page, before which stands a node.
pub const SPREAD: Chunks = [0, 64, 65, 192];

/// The same, of an object with two layers.
pub const DUAL_SPREAD: Chunks = [0, 32, 33, 96];

/// The disk at some instant, and what had been told by then.
pub struct Point {
    pub disk: CrashPoint,
    pub told: Told,
}

pub struct CrashedStore {
    pub disk: SimulatedDisk,
    pub store: Arc<Store>,
    witness: Arc<Memory>,
    /// Of new objects.
    pub encryption: Encryption,
    pub chunks: Chunks,
    /// Numbers of writes and re-wraps, never twice in one story.
    numbers: Arc<AtomicU64>,
    pub told: Arc<Mutex<Told>>,
    pub points: Arc<Mutex<Vec<Point>>>,
    /// Open objects, by path; of an unlinked one by "~path".
    pub handles: Mutex<BTreeMap<String, Arc<Object>>>,
    /// A checkpoint that succeeds has made durable all that is open: not so if something cannot be committed.
    pub checkpoints_promise: bool,
    /// What live reading found wrong.
    pub misread: Mutex<Vec<String>>,
}

/// Operations that run while a sync of another is under way.
type Workers = Arc<Mutex<Vec<JoinHandle<()>>>>;

impl CrashedStore {
    /// On an empty disk with a bucket, durable or not.
    pub fn new(keys: &Arc<KeyService>, chunks: Chunks, durable_bucket: bool) -> Arc<Self> {
        Self::with(keys, aes256(), chunks, durable_bucket)
    }

    pub fn with(keys: &Arc<KeyService>, encryption: Encryption, chunks: Chunks, durable_bucket: bool) -> Arc<Self> {
        let disk = empty_store(keys);
        let witness = Arc::<Memory>::default();
        let store = open_with(&disk, keys, watched(&witness));
        let ino = bucket(&store).ino();
        if durable_bucket {
            disk.sync_all().unwrap();
        }
        let crashed = Self::over(disk, store, witness, encryption, chunks, Arc::new(AtomicU64::new(1)));
        crashed.told.lock().shows("", ino);
        if durable_bucket {
            let settled = crashed.told.lock().positions("");
            crashed.told.lock().settle_names(&settled);
        }
        crashed.watch();
        crashed
    }

    /// Goes on from what a crash left: all that is found counts as durable.
    pub fn second_life(&self, keys: &Arc<KeyService>, disk: SimulatedDisk) -> Arc<Self> {
        // A crash later, what was seen then is behind what this disk has, or as far.
        let witness = Arc::<Memory>::default();
        let store = open_with(&disk, keys, watched(&witness));
        let crashed = Self::over(disk, store, witness, self.encryption.clone(), self.chunks, self.numbers.clone());
        let found = look(&crashed.disk, &crashed.store, self.chunks);
        {
            let told = &mut *crashed.told.lock();
            for (name, ino) in &found.names {
                told.shows(name, *ino);
                let position = told.positions(name);
                told.settle_names(&position);
                match (found.objects.get(ino), found.links.get(ino)) {
                    // The unreadable: nothing is expected of them.
                    (Some(Ok(reading)), _) if reading.sectors.iter().all(Option::is_some) => {
                        let content = crashed.content(name, reading);
                        let names = told.objects.entry(*ino).or_insert_with(|| Known::found(content, name));
                        names.names[0].insert(name.clone());
                    }
                    (_, Some(Ok(target))) => {
                        told.links.insert(*ino, target.clone());
                    }
                    _ => {}
                }
            }
        }
        crashed.watch();
        crashed
    }

    fn over(
        disk: SimulatedDisk,
        store: Arc<Store>,
        witness: Arc<Memory>,
        encryption: Encryption,
        chunks: Chunks,
        numbers: Arc<AtomicU64>,
    ) -> Arc<Self> {
        let (told, points) = (Arc::default(), Arc::default());
        let (handles, misread) = (Mutex::default(), Mutex::default());
        let checkpoints_promise = true;
        Arc::new(Self {
            disk,
            store,
            witness,
            encryption,
            chunks,
            numbers,
            told,
            points,
            handles,
            checkpoints_promise,
            misread,
        })
    }

    fn watch(&self) {
        let (told, points, witness) = (self.told.clone(), self.points.clone(), self.witness.clone());
        self.disk.watch(move |disk| {
            let told = Told { record: witness.record(), ..told.lock().clone() };
            points.lock().push(Point { disk: disk.clone(), told });
        });
    }

    /// Something was acknowledged.
    pub fn snapshot(&self) {
        self.disk.at_crash_point(|disk| {
            let told = Told { record: self.witness.record(), ..self.told.lock().clone() };
            self.points.lock().push(Point { disk, told });
        });
    }

    /// A workload: operations separated by `;`. `op { a; b / c }` runs `a; b` during the first sync of `op` and `c`
    /// during the second.
    pub fn run(self: &Arc<Self>, workload: &str) -> Vec<Point> {
        for op in split(workload, ';') {
            match op.split_once('{') {
                None => self.step(op.trim()),
                Some((outer, inner)) => self.interleave(outer.trim(), inner.trim().trim_end_matches('}')),
            }
            self.read_live(op);
        }
        self.snapshot();
        self.disk.unwatch();
        self.handles.lock().clear();
        // What a mount does last, off the record; it breaks the circle of references too.
        if let Err(error) = self.store.close() {
            self.misread.lock().push(format!("close: {error}"));
        }
        std::mem::take(&mut *self.points.lock())
    }

    fn interleave(self: &Arc<Self>, outer: &str, inner: &str) {
        // Slashes in paths have no spaces around them; nothing may happen during a sync.
        let mut groups = inner.split("/ ").map(String::from).collect::<Vec<_>>().into_iter();
        let workers = Workers::default();
        let (crashed, started) = (self.clone(), workers.clone());
        self.disk.during_sync(move |_| {
            let Some(group) = groups.next() else { return };
            let crashed = crashed.clone();
            let worker = thread::spawn(move || {
                for op in split(&group, ';') {
                    crashed.step(op.trim());
                }
            });
            // It may have to wait for the operation that is under way; either order must be right.
            let patience = Instant::now() + Duration::from_millis(30);
            while !worker.is_finished() && Instant::now() < patience {
                thread::sleep(Duration::from_millis(1));
            }
            started.lock().push(worker);
        });
        self.step(outer);
        loop {
            let Some(worker) = workers.lock().pop() else { break };
            worker.join().unwrap();
        }
        self.disk.during_sync(|_| {});
    }

    fn step(&self, op: &str) {
        if let Err(error) = self.try_step(op) {
            self.misread.lock().push(format!("{op}: {error}"));
        }
    }

    /// One operation; one on what is not there does nothing.
    pub fn try_step(&self, op: &str) -> Result<(), Error> {
        let words: Vec<&str> = op.split_whitespace().collect();
        let number = |n: usize| words[n].parse::<usize>().unwrap();
        match words[..] {
            ["create", name] => self.create(name),
            ["write", name, _, _] => self.write(name, number(2), number(3)),
            ["truncate", name, _] => self.truncate(name, number(2)),
            ["punch", name, _] => self.punch(name, number(2)),
            ["clear", name, _, _] => self.clear(name, number(2), number(3)),
            ["rewrap", name] => self.rewrap(name),
            ["rekey", name] => self.rekey(name),
            ["relayer", name] => self.relayer(name),
            ["reencrypt", name] => self.reencrypt(name),
            ["close", name] => self.close(name),
            ["fsync", name] => self.fsync(name),
            ["unlink", name] => self.unlink(name),
            ["unlink_open", name] => self.unlink_open(name),
            ["release", name] => {
                if let Some(object) = self.handles.lock().remove(name) {
                    self.store.release(&object);
                }
                Ok(())
            }
            ["rename", old, new] => self.rename(old, new),
            ["exchange", old, new] => self.exchange(old, new),
            ["overwrite", name] => self.overwrite(name),
            ["link", old, new] => self.link(old, new),
            ["symlink", name] => self.symlink(name),
            ["mkdir", name] => self.mkdir(name),
            ["move", old, new] => self.move_dir(old, new),
            ["fsyncdir"] => self.fsync_dir(""),
            ["fsyncdir", name] => self.fsync_dir(name),
            ["checkpoint"] => self.checkpoint(),
            ["tick"] => self.tick(),
            _ => panic!("no such operation: {op:?}"),
        }
    }

    /// What the name refers to, 0 for nothing.
    pub fn ino(&self, name: &str) -> Ino {
        self.told.lock().ino(name)
    }

    pub fn next(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::SeqCst)
    }

    // ---- places

    pub fn dir(&self, path: &str) -> Option<Arc<Dir>> {
        let mut dir = self.store.open_dir(self.store.root(), OsStr::new(BUCKET)).ok()?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            dir = self.store.open_dir(&dir, OsStr::new(name)).ok()?;
        }
        Some(dir)
    }

    /// The directory of a path, and the name in it.
    pub fn place<'a>(&self, path: &'a str) -> Option<(Arc<Dir>, &'a OsStr)> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        Some((self.dir(above)?, OsStr::new(name)))
    }

    /// An object of which something is expected, open.
    pub fn find(&self, name: &str) -> Result<Option<Arc<Object>>, Error> {
        if let Some(object) = self.handles.lock().get(name) {
            return Ok(Some(object.clone()));
        }
        let ino = self.ino(name);
        if name.starts_with('~') || !self.told.lock().objects.contains_key(&ino) {
            return Ok(None);
        }
        let Some((dir, last)) = self.place(name) else { return Ok(None) };
        let object = self.store.open_object(&dir, last, &CALLER)?;
        self.handles.lock().insert(name.to_string(), object.clone());
        Ok(Some(object))
    }

    pub fn with_known<T>(&self, object: &Object, change: impl FnOnce(&mut Known) -> T) -> T {
        change(self.told.lock().objects.get_mut(&object.ino()).unwrap())
    }
}

/// Splits outside braces.
fn split(text: &str, by: char) -> Vec<&str> {
    let mut depth = 0;
    let outside = |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == by && depth == 0
    };
    text.split(outside).filter(|part| !part.trim().is_empty()).collect()
}

/// A store whose log is short, since recovery reads all of it and these tests recover some ten thousand times.
fn empty_store(keys: &KeyService) -> SimulatedDisk {
    let disk = disk_for(keys);
    let log = disk.root().unwrap().open_dir(OsStr::new("log")).unwrap();
    let redo = log.open_file(OsStr::new("redo"), backend::Access::ReadWrite).unwrap();
    redo.set_len(64 << 10).unwrap();
    disk.sync_all().unwrap();
    disk
}

pub fn offset(chunks: Chunks, sector: usize) -> u64 {
    chunks[sector / SECTORS] * CHUNK + (sector % SECTORS) as u64 * SECTOR
}

pub fn plain_len(chunks: Chunks, sectors: usize) -> u64 {
    sectors.checked_sub(1).map_or(0, |last| offset(chunks, last) + SECTOR)
}
