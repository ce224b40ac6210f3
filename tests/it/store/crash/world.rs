//! A store, what its users were told, and every instant at which it might have crashed.

use super::told::{Content, Found, Known, Reading, SECTORS, Told, Value};
use crate::store::*;
use kmsfs::store::backend::simulated::CrashPoint;
use kmsfs::store::backend::{self, Rename};
use kmsfs::store::{Error, SeekTo, Target};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub const SECTOR: u64 = 2048;
const CHUNK: u64 = 4096;

/// Which chunks of a real object stand for the model's chunks 0 to 3.
pub type Chunks = [u64; 4];

/// In the header's entries, in the first table page (two), and in the second page, before which stands a node.
pub const SPREAD: Chunks = [0, 64, 65, 192];

/// The disk at some instant, and what had been told by then.
pub struct Point {
    pub disk: CrashPoint,
    pub told: Told,
}

pub struct World {
    pub disk: SimulatedDisk,
    pub store: Arc<Store>,
    chunks: Chunks,
    /// Numbers of writes and re-wraps, never twice in one story.
    numbers: Arc<AtomicU64>,
    told: Arc<Mutex<Told>>,
    points: Arc<Mutex<Vec<Point>>>,
    /// Open objects, by path; of an unlinked one by "~path".
    handles: Mutex<BTreeMap<String, Arc<Object>>>,
    /// What live reading found wrong.
    pub misread: Mutex<Vec<String>>,
}

/// Operations that run while a sync of another is under way.
type Workers = Arc<Mutex<Vec<JoinHandle<()>>>>;

impl World {
    /// On an empty disk with a bucket, durable or not.
    pub fn new(keys: &Arc<KeyService>, chunks: Chunks, durable_bucket: bool) -> Arc<Self> {
        let disk = empty_store();
        let store = open(&disk, keys);
        let ino = bucket(&store).ino();
        if durable_bucket {
            disk.sync_all().unwrap();
        }
        let world = Self::over(disk, store, chunks, Arc::new(AtomicU64::new(1)));
        world.told.lock().shows("", ino);
        if durable_bucket {
            let settled = world.told.lock().positions("");
            world.told.lock().settle_names(&settled);
        }
        world.watch();
        world
    }

    /// Goes on from what a crash left: all that is found counts as durable.
    pub fn second_life(&self, keys: &Arc<KeyService>, disk: SimulatedDisk) -> Arc<Self> {
        let store = open(&disk, keys);
        let world = Self::over(disk, store, self.chunks, self.numbers.clone());
        let found = look(&world.disk, &world.store, self.chunks);
        {
            let told = &mut *world.told.lock();
            for (name, ino) in &found.names {
                told.shows(name, *ino);
                let position = told.positions(name);
                told.settle_names(&position);
                match (found.objects.get(ino), found.links.get(ino)) {
                    // The unreadable: nothing is expected of them.
                    (Some(Ok(reading)), _) if reading.sectors.iter().all(Option::is_some) => {
                        let content = world.content(name, reading);
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
        world.watch();
        world
    }

    fn over(disk: SimulatedDisk, store: Arc<Store>, chunks: Chunks, numbers: Arc<AtomicU64>) -> Arc<Self> {
        let (told, points) = (Arc::default(), Arc::default());
        let (handles, misread) = (Mutex::default(), Mutex::default());
        Arc::new(Self { disk, store, chunks, numbers, told, points, handles, misread })
    }

    fn watch(&self) {
        let (told, points) = (self.told.clone(), self.points.clone());
        self.disk.watch(move |disk| points.lock().push(Point { disk: disk.clone(), told: told.lock().clone() }));
    }

    /// Something was acknowledged.
    fn snapshot(&self) {
        let disk = self.disk.crash_point();
        self.points.lock().push(Point { disk, told: self.told.lock().clone() });
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
        let mut groups = split(inner, '/').into_iter().map(String::from).collect::<Vec<_>>().into_iter();
        let workers = Workers::default();
        let (world, started) = (self.clone(), workers.clone());
        self.disk.during_sync(move |_| {
            let Some(group) = groups.next() else { return };
            let world = world.clone();
            let worker = thread::spawn(move || split(&group, ';').into_iter().for_each(|op| world.step(op.trim())));
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
        let words: Vec<&str> = op.split_whitespace().collect();
        let number = |n: usize| words[n].parse::<usize>().unwrap();
        match words[..] {
            ["create", name] => self.create(name),
            ["write", name, _, _] => self.write(name, number(2), number(3)),
            ["truncate", name, _] => self.truncate(name, number(2)),
            ["punch", name, _] => self.punch(name, number(2)),
            ["rewrap", name] => self.rewrap(name),
            ["close", name] => self.close(name),
            ["fsync", name] => self.fsync(name),
            ["unlink", name] => self.unlink(name),
            ["unlink_open", name] => self.unlink_open(name),
            ["release", name] => drop(self.handles.lock().remove(name).map(|object| self.store.release(&object))),
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
    fn ino(&self, name: &str) -> u64 {
        self.told.lock().ino(name)
    }

    fn next(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::SeqCst)
    }

    // ---- places

    fn dir(&self, path: &str) -> Option<Arc<Dir>> {
        let mut dir = self.store.open_dir(self.store.root(), OsStr::new(BUCKET)).ok()?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            dir = self.store.open_dir(&dir, OsStr::new(name)).ok()?;
        }
        Some(dir)
    }

    /// The directory of a path, and the name in it.
    fn place<'a>(&self, path: &'a str) -> Option<(Arc<Dir>, &'a OsStr)> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        Some((self.dir(above)?, OsStr::new(name)))
    }

    /// An object of which something is expected, open.
    fn find(&self, name: &str) -> Option<Arc<Object>> {
        if let Some(object) = self.handles.lock().get(name) {
            return Some(object.clone());
        }
        let ino = self.ino(name);
        if name.starts_with('~') || !self.told.lock().objects.contains_key(&ino) {
            return None;
        }
        let (dir, last) = self.place(name)?;
        let object = match self.store.open_object(&dir, last, &CALLER) {
            Ok(object) => object,
            Err(error) => {
                self.misread.lock().push(format!("{name} cannot be opened: {error}"));
                return None;
            }
        };
        self.handles.lock().insert(name.to_string(), object.clone());
        Some(object)
    }

    fn with_known<T>(&self, object: &Object, change: impl FnOnce(&mut Known) -> T) -> T {
        change(self.told.lock().objects.get_mut(&object.ino()).unwrap())
    }

    // ---- content

    fn create(&self, name: &str) {
        let Some((dir, last)) = self.place(name) else { return };
        if self.ino(name) != 0 {
            return;
        }
        self.told.lock().making = Some(name.to_string());
        let object = self.store.create(&dir, last, &NODE, &aes256(), name, &CALLER).unwrap().0;
        {
            let told = &mut *self.told.lock();
            told.making = None;
            told.objects.insert(object.ino(), Known::new(name));
            told.shows(name, object.ino());
        }
        self.handles.lock().insert(name.to_string(), object);
    }

    fn write(&self, name: &str, at: usize, count: usize) {
        let Some(object) = self.find(name) else { return };
        let value = self.next();
        // A chunk a system call: they are not neighbours in the real object.
        let mut from = at;
        while from < at + count {
            let to = (at + count).min((from / SECTORS + 1) * SECTORS);
            self.with_known(&object, |known| known.push(known.now().write(from, &vec![value; to - from])));
            let bytes = value.to_le_bytes().repeat((to - from) * SECTOR as usize / 8);
            object.write(offset(self.chunks, from), &bytes).unwrap();
            from = to;
        }
    }

    fn truncate(&self, name: &str, length: usize) {
        let Some(object) = self.find(name) else { return };
        self.with_known(&object, |known| known.push(known.now().truncate(length)));
        object.truncate(plain_len(self.chunks, length)).unwrap();
    }

    fn punch(&self, name: &str, chunk: usize) {
        let Some(object) = self.find(name) else { return };
        self.with_known(&object, |known| known.push(known.now().punch(chunk)));
        object.punch(self.chunks[chunk] * CHUNK, CHUNK).unwrap();
    }

    fn rewrap(&self, name: &str) {
        let Some(object) = self.find(name) else { return };
        let wrap = self.next();
        let state = self.with_known(&object, |known| {
            known.push(Content { wrap, ..known.now().clone() });
            known.last()
        });
        // Some are too long for the units that the record has.
        let key_id = format!("{wrap}-{}", "x".repeat((wrap % 3) as usize * 350));
        self.store.rewrap(&object, &aws_kms(&key_id), name, &CALLER).unwrap();
        self.with_known(&object, |known| known.commit(state));
        self.snapshot();
    }

    fn close(&self, name: &str) {
        let Some(object) = self.find(name) else { return };
        let state = self.with_known(&object, |known| known.last());
        object.commit().unwrap();
        self.with_known(&object, |known| known.commit(state));
        self.snapshot();
        if !name.starts_with('~') {
            self.handles.lock().remove(name);
            self.store.release(&object);
        }
    }

    fn fsync(&self, name: &str) {
        let Some(object) = self.find(name) else { return };
        let (state, names) = self.with_known(&object, |known| (known.last(), known.names.len() - 1));
        let positions = if name.starts_with('~') { Vec::new() } else { self.told.lock().positions(name) };
        object.fsync().unwrap();
        self.with_known(&object, |known| {
            known.ack(state);
            if !positions.is_empty() {
                known.named_since = known.named_since.max(names);
            }
        });
        self.told.lock().settle_names(&positions);
        self.snapshot();
    }

    /// O_TRUNC: what cannot be read gets a new id.
    fn overwrite(&self, name: &str) {
        let (Some((dir, last)), ino) = (self.place(name), self.ino(name)) else { return };
        let regular =
            self.store.stat(Target::Name(&dir, last)).is_ok_and(|attr| attr.mode & libc::S_IFMT == libc::S_IFREG);
        if ino == 0 || !regular {
            return;
        }
        {
            let told = &mut *self.told.lock();
            let known = told.objects.entry(ino).or_insert_with(|| Known::new(name));
            known.push(known.now().truncate(0));
        }
        let object = self.store.open_truncated(&dir, last, &aes256(), name, &CALLER).unwrap();
        if let Some(before) = self.handles.lock().insert(name.to_string(), object) {
            self.store.release(&before);
        }
    }

    // ---- names

    fn unlink(&self, name: &str) {
        let Some((dir, last)) = self.place(name) else { return };
        if self.ino(name) == 0 || self.is_dir(name) {
            return;
        }
        if let Some(object) = self.handles.lock().remove(name) {
            self.store.release(&object);
        }
        self.told.lock().gone(name);
        self.store.unlink(&dir, last).unwrap();
    }

    fn unlink_open(&self, name: &str) {
        let held = format!("~{name}");
        if self.handles.lock().contains_key(&held) || self.find(name).is_none() {
            return;
        }
        let Some((dir, last)) = self.place(name) else { return };
        self.told.lock().gone(name);
        self.store.unlink(&dir, last).unwrap();
        let object = self.handles.lock().remove(name).unwrap();
        self.handles.lock().insert(held, object);
    }

    fn is_dir(&self, name: &str) -> bool {
        self.dir(name).is_some()
    }

    fn rename(&self, old: &str, new: &str) {
        let Some(object) = self.find(old) else { return };
        let (Some((from, name)), Some((to, to_name))) = (self.place(old), self.place(new)) else { return };
        let replaced = self.ino(new);
        if replaced == object.ino() || self.is_dir(new) {
            return;
        }
        let state = {
            let told = &mut *self.told.lock();
            told.gone(new);
            told.shows(old, 0);
            told.shows(new, object.ino());
            let known = told.objects.get_mut(&object.ino()).unwrap();
            known.rename(Some(old), Some(new));
            known.last()
        };
        self.store.rename(&from, name, &to, to_name, Rename::Replace).unwrap();
        let handles = &mut *self.handles.lock();
        if let Some(gone) = handles.remove(new) {
            self.store.release(&gone);
        }
        let object = handles.remove(old).unwrap();
        if replaced != 0 {
            // Its content, not its name.
            self.with_known(&object, |known| known.ack(state));
        }
        handles.insert(new.to_string(), object);
        self.snapshot();
    }

    fn exchange(&self, old: &str, new: &str) {
        let (Some(a), Some(b)) = (self.find(old), self.find(new)) else { return };
        let (Some((from, name)), Some((to, to_name))) = (self.place(old), self.place(new)) else { return };
        if a.ino() == b.ino() {
            return;
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
        self.store.rename(&from, name, &to, to_name, Rename::Exchange).unwrap();
        for (object, state) in [&a, &b].into_iter().zip(states) {
            self.with_known(object, |known| known.ack(state));
        }
        let handles = &mut *self.handles.lock();
        handles.insert(new.to_string(), a);
        handles.insert(old.to_string(), b);
        self.snapshot();
    }

    fn link(&self, old: &str, new: &str) {
        let Some(object) = self.find(old) else { return };
        let (Some((from, name)), Some((to, to_name))) = (self.place(old), self.place(new)) else { return };
        if self.ino(new) != 0 {
            return;
        }
        self.told.lock().named(new, object.ino());
        self.store.link(&from, name, &to, to_name).unwrap();
    }

    fn symlink(&self, name: &str) {
        let Some((dir, last)) = self.place(name) else { return };
        if self.ino(name) != 0 {
            return;
        }
        let number = self.next();
        // Every other one is too long for a backing symlink.
        let target = format!("{number}{}", "/target".repeat(if number % 2 == 0 { 1 } else { 500 })).into_bytes();
        self.told.lock().making = Some(name.to_string());
        let ino = self.store.make_symlink(&dir, last, &target, &NODE).unwrap().ino;
        let told = &mut *self.told.lock();
        told.making = None;
        told.shows(name, ino);
        told.links.insert(ino, target);
    }

    fn mkdir(&self, name: &str) {
        let Some((dir, last)) = self.place(name) else { return };
        if self.ino(name) != 0 {
            return;
        }
        self.told.lock().making = Some(name.to_string());
        let ino = self.store.make_dir(&dir, last, &NewNode { mode: 0o755, ..NODE }).unwrap().ino;
        let told = &mut *self.told.lock();
        told.making = None;
        told.shows(name, ino);
    }

    /// A directory gets another name, which must be free, and everything in it another path.
    fn move_dir(&self, old: &str, new: &str) {
        let (Some((from, name)), Some((to, to_name))) = (self.place(old), self.place(new)) else { return };
        if !self.is_dir(old) || self.ino(new) != 0 {
            return;
        }
        {
            let told = &mut *self.told.lock();
            let inside: Vec<String> = told
                .names
                .keys()
                .filter(|path| *path == old || path.starts_with(&format!("{old}/")))
                .cloned()
                .collect();
            for path in inside {
                let (ino, moved) = (told.ino(&path), format!("{new}{}", &path[old.len()..]));
                told.shows(&path, 0);
                told.shows(&moved, ino);
                if let Some(known) = told.objects.get_mut(&ino) {
                    known.rename(Some(&path), Some(&moved));
                }
                let mut handles = self.handles.lock();
                if let Some(object) = handles.remove(&path) {
                    handles.insert(moved, object);
                }
            }
        }
        self.store.rename(&from, name, &to, to_name, Rename::Replace).unwrap();
    }

    /// What is new in the directory: names, headers and sidecars.
    fn fsync_dir(&self, path: &str) {
        let Some(dir) = self.dir(path) else { return };
        let below = |name: &str| name.rsplit_once('/').map_or("", |(above, _)| above) == path && !name.is_empty();
        let (positions, states) = {
            let told = self.told.lock();
            let mut positions = told.positions(path);
            positions.extend(told.names.iter().filter(|(n, _)| below(n)).map(|(n, s)| (n.clone(), s.was.len() - 1)));
            let names = told.names.keys().filter(|name| below(name));
            let states: Vec<_> = names.filter_map(|name| self.durable_by_dir(&told, name)).collect();
            (positions, states)
        };
        self.store.fsync_dir(&dir).unwrap();
        let told = &mut *self.told.lock();
        told.settle_names(&positions);
        for (ino, state, names) in states {
            let known = told.objects.get_mut(&ino).unwrap();
            known.ack(state);
            known.named_since = known.named_since.max(names);
        }
        let disk = self.disk.crash_point();
        self.points.lock().push(Point { disk, told: told.clone() });
    }

    /// Of an object that was never synced: the state that a sync of its directory covers.
    fn durable_by_dir(&self, told: &Told, name: &str) -> Option<(u64, usize, usize)> {
        let ino = told.ino(name);
        let known = told.objects.get(&ino).filter(|known| known.acked.is_none())?;
        let state = if self.handles.lock().contains_key(name) { Some(known.last()) } else { known.committed };
        Some((ino, state?, known.names.len() - 1))
    }

    // ---- the store

    fn checkpoint(&self) {
        let open: Vec<u64> = self.handles.lock().values().map(|object| object.ino()).collect();
        let durable: Vec<(u64, usize)> = {
            let told = self.told.lock();
            // A closed object whose one commit went straight home is not looked at again: nobody was promised anything.
            let covered = told.objects.iter().filter_map(|(ino, known)| match open.contains(ino) {
                true => Some((*ino, known.last())),
                false if known.acked.is_some() || known.commits > 1 => Some((*ino, known.committed?)),
                false => None,
            });
            covered.collect()
        };
        self.store.checkpoint().unwrap();
        for (ino, state) in durable {
            self.told.lock().objects.get_mut(&ino).unwrap().ack(state);
        }
        self.snapshot();
    }

    /// What the mount does every five seconds.
    fn tick(&self) {
        let open = self.handles.lock().clone();
        let states: Vec<_> = open.values().map(|object| self.with_known(object, |known| known.last())).collect();
        self.store.commit_all();
        for (object, state) in open.values().zip(states) {
            self.with_known(object, |known| known.commit(state));
        }
        self.snapshot();
    }

    // ---- reading

    /// A live store reads what was written.
    fn read_live(&self, after: &str) {
        for (name, object) in self.handles.lock().iter() {
            let expected = self.with_known(object, |known| known.now().clone());
            match read(object, self.chunks) {
                Ok(reading) if expected.shows(&reading) && reading.sectors.iter().all(Option::is_some) => {}
                other => self.misread.lock().push(format!("{name} after {after}: {other:?} and not {expected:?}")),
            }
        }
    }

    fn content(&self, name: &str, reading: &Reading) -> Content {
        let (dir, last) = self.place(name).unwrap();
        let object = self.store.open_object(&dir, last, &CALLER).unwrap();
        let chunks = 0..reading.sectors.len().div_ceil(SECTORS);
        let is_data = |chunk: &usize| {
            let at = self.chunks[*chunk] * CHUNK;
            object.seek(at, SeekTo::Data) == Ok(at)
        };
        let content = Content {
            wrap: reading.wrap,
            sectors: reading.sectors.iter().map(|value| value.unwrap_or(0)).collect(),
            present: chunks.filter(is_data).collect(),
        };
        self.store.release(&object);
        content
    }
}

impl Told {
    fn gone(&mut self, name: &str) {
        let ino = self.ino(name);
        if ino == 0 {
            return;
        }
        self.shows(name, 0);
        if let Some(known) = self.objects.get_mut(&ino) {
            known.rename(Some(name), None);
        }
    }

    fn named(&mut self, name: &str, ino: u64) {
        self.shows(name, ino);
        if let Some(known) = self.objects.get_mut(&ino) {
            known.rename(None, Some(name));
        }
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
fn empty_store() -> SimulatedDisk {
    let (disk, _) = new_disk();
    let log = disk.root().unwrap().open_dir(OsStr::new("log")).unwrap();
    let redo = log.open_file(OsStr::new("redo"), backend::Access::ReadWrite).unwrap();
    redo.set_len(64 << 10).unwrap();
    disk.sync_all().unwrap();
    disk
}

fn offset(chunks: Chunks, sector: usize) -> u64 {
    chunks[sector / SECTORS] * CHUNK + (sector % SECTORS) as u64 * SECTOR
}

fn plain_len(chunks: Chunks, sectors: usize) -> u64 {
    sectors.checked_sub(1).map_or(0, |last| offset(chunks, last) + SECTOR)
}

/// What an object reads as; an error is one that no crash excuses.
pub fn read(object: &Object, chunks: Chunks) -> Result<Reading, String> {
    let size = object.attr().map_err(|error| error.to_string())?.size;
    let length = (0..=chunks.len() * SECTORS).find(|sectors| plain_len(chunks, *sectors) == size);
    let length = length.ok_or_else(|| format!("an impossible length, {size}"))?;
    let encryption = object.encryption();
    let wrap = encryption.key_arn.as_deref().and_then(|arn| arn.rsplit_once('/')?.1.split('-').next()?.parse().ok());
    let mut sectors = Vec::new();
    for sector in 0..length {
        sectors.push(read_value(object, offset(chunks, sector))?);
    }
    check_holes(object, chunks, size)?;
    Ok(Reading { wrap: wrap.unwrap_or(0), sectors })
}

fn read_value(object: &Object, offset: u64) -> Result<Option<Value>, String> {
    let mut bytes = [0xff; SECTOR as usize];
    match object.read(offset, &mut bytes) {
        Ok(count) if count == bytes.len() => {
            let (first, _) = bytes.as_chunks::<8>().0.split_first().map(|(first, rest)| (*first, rest)).unwrap();
            if bytes.as_chunks::<8>().0.iter().any(|part| *part != first) {
                return Err(format!("bytes of more than one write at {offset}"));
            }
            Ok(Some(u64::from_le_bytes(first)))
        }
        Ok(count) => Err(format!("{count} bytes read at {offset}")),
        Err(Error::Corrupt(_)) => Ok(None),
        Err(error) => Err(format!("reading at {offset}: {error}")),
    }
}

/// Nobody writes between the chunks that stand for the model's.
fn check_holes(object: &Object, chunks: Chunks, size: u64) -> Result<(), String> {
    let between = chunks.windows(2).filter(|pair| pair[0] + 1 < pair[1]).flat_map(|pair| [pair[0] + 1, pair[1] - 1]);
    for at in between.map(|chunk| chunk * CHUNK).filter(|at| at + CHUNK <= size) {
        let mut bytes = [1; 600];
        match object.read(at, &mut bytes) {
            Ok(600) if bytes.iter().all(|byte| *byte == 0) => {}
            Err(Error::Corrupt(_)) => {}
            other => return Err(format!("the hole at {at} reads {other:?} {:?}", &bytes[..8])),
        }
    }
    Ok(())
}

/// Reads everything in the bucket.
pub fn look(disk: &SimulatedDisk, store: &Arc<Store>, chunks: Chunks) -> Found {
    let mut found = Found::default();
    let buckets = disk.root().unwrap().open_dir(OsStr::new("buckets")).unwrap();
    let Ok(backing) = buckets.open_dir(OsStr::new(BUCKET)) else { return found };
    found.names.insert(String::new(), backing.metadata().unwrap().ino);
    match store.open_dir(store.root(), OsStr::new(BUCKET)) {
        Ok(dir) => look_into(store, &dir, backing.as_ref(), "", chunks, &mut found),
        Err(error) => found.wrong.push(format!("the bucket cannot be opened: {error}")),
    }
    found
}

fn look_into(
    store: &Arc<Store>,
    dir: &Arc<Dir>,
    backing: &dyn backend::Dir,
    above: &str,
    chunks: Chunks,
    found: &mut Found,
) {
    let mut entries = Vec::new();
    let mut note = |entry: backend::Entry<'_>| {
        entries.push((entry.name.to_owned(), entry.ino, entry.kind));
        true
    };
    backing.read(0, &mut note).unwrap();
    for (name, ino, kind) in entries {
        let path = format!("{above}{}", name.to_str().unwrap());
        found.names.insert(path.clone(), ino);
        match kind {
            libc::S_IFDIR => {
                let (below, backing) = (store.open_dir(dir, &name), backing.open_dir(&name).unwrap());
                let below = below.unwrap_or_else(|error| panic!("{path}: {error}"));
                look_into(store, &below, backing.as_ref(), &format!("{path}/"), chunks, found);
            }
            libc::S_IFLNK => {
                found.links.insert(ino, store.read_link(dir, &name).map_err(|error| error.to_string()));
            }
            _ => look_at(store, dir, &name, ino, chunks, found),
        }
    }
}

fn look_at(store: &Arc<Store>, dir: &Arc<Dir>, name: &OsStr, ino: u64, chunks: Chunks, found: &mut Found) {
    let before = store.stat(Target::Name(dir, name)).map(|attr| attr.size);
    let object = match store.open_object(dir, name, &CALLER) {
        Ok(object) => object,
        Err(Error::Corrupt(why)) => {
            found.objects.insert(ino, Err(why));
            return;
        }
        Err(error) => return found.wrong.push(format!("{name:?} cannot be opened: {error}")),
    };
    match read(&object, chunks) {
        Ok(reading) => drop(found.objects.insert(ino, Ok(reading))),
        Err(wrong) => found.wrong.push(format!("{name:?}: {wrong}")),
    }
    let size = object.attr().unwrap().size;
    if before != Ok(size) {
        found.wrong.push(format!("{name:?}: stat said {before:?} before it was opened, {size} then"));
    }
    store.release(&object);
}
