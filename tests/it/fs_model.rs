//! The `fs` layer under random operations, against a small file system in memory.
//!
//! The reference knows paths, hard links and bytes; the layer is asked by inode, as the kernel asks it. A remount in between
//! forgets every inode. What went wrong once stays as a named case at the end.

use super::store::{CALLER, keys};
use kmsfs::fs::{Changes, Creation, Fs, FsOptions, Range};
use kmsfs::sse::KeyService;
use kmsfs::store::backend::simulated::SimulatedDisk;
use kmsfs::store::backend::{Backend, RealBackend, Rename, XattrFlags};
use kmsfs::store::{Parameters, Store, StoreOptions};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::sync::Arc;

const CREATION: Creation = Creation { mode: 0o644, umask: 0o022, caller: CALLER };
const DIR: Creation = Creation { mode: 0o755, umask: 0o022, caller: CALLER };
/// Directories that are always there, by number; names are made in them.
const DIRS: [&str; 3] = ["one", "one/in", "two"];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Debug, Clone)]
enum Op {
    Create(Place),
    Write(Place, u32, u32),
    Truncate(Place, u32),
    Punch(Place, u32, u32),
    Read(Place),
    Unlink(Place),
    Rename(Place, Place, u8),
    Link(Place, Place),
    Symlink(Place, u16),
    Xattr(Place, u8),
    Mode(Place, u16),
    Mtime(Place, u32),
    Fsync(Place),
    /// Opens, unlinks, writes and reads through the handle, closes.
    Orphan(Place, u32),
    Checkpoint,
    Remount,
}

/// A directory and a name, by number.
type Place = (usize, usize);

#[derive(Debug, Clone, PartialEq)]
enum Node {
    File { id: usize },
    Link(Vec<u8>),
}

#[derive(Debug, Clone, Default, PartialEq)]
struct File {
    content: Vec<u8>,
    mode: u32,
    mtime: Option<i64>,
    note: Option<u8>,
}

struct World {
    backend: Arc<dyn Backend>,
    keys: Arc<KeyService>,
    fs: Arc<Fs>,
    dirs: Vec<u64>,
    names: BTreeMap<Place, Node>,
    files: Vec<File>,
}

impl World {
    fn new(backend: Arc<dyn Backend>) -> Self {
        let parameters =
            Parameters { store_id: [1; 16], account_id: "000000000000".into(), region: "us-east-1".into() };
        kmsfs::store::create(backend.as_ref(), &parameters).unwrap();
        let keys = keys();
        let fs = mount(&backend, &keys);
        let bucket = fs.mkdir(fs.root(), OsStr::new("bucket"), &DIR).unwrap().attr.ino;
        let one = fs.mkdir(bucket, OsStr::new("one"), &DIR).unwrap().attr.ino;
        fs.mkdir(one, OsStr::new("in"), &DIR).unwrap();
        fs.mkdir(bucket, OsStr::new("two"), &DIR).unwrap();
        let mut world = Self { backend, keys, fs, dirs: Vec::new(), names: BTreeMap::new(), files: Vec::new() };
        world.find_dirs();
        world
    }

    fn find_dirs(&mut self) {
        let fs = &self.fs;
        let bucket = fs.lookup(fs.root(), OsStr::new("bucket")).unwrap().attr.ino;
        self.dirs = DIRS
            .iter()
            .map(|path| path.split('/').fold(bucket, |dir, name| fs.lookup(dir, OsStr::new(name)).unwrap().attr.ino))
            .collect();
    }

    fn at(&self, place: Place) -> (u64, &'static OsStr) {
        (self.dirs[place.0], OsStr::new(NAMES[place.1]))
    }

    fn ino(&self, place: Place) -> Result<u64, i32> {
        let (dir, name) = self.at(place);
        self.fs.lookup(dir, name).map(|entry| entry.attr.ino).map_err(|error| error.errno())
    }

    fn file(&mut self, place: Place) -> Option<&mut File> {
        match self.names.get(&place)? {
            Node::File { id } => Some(&mut self.files[*id]),
            Node::Link(_) => None,
        }
    }

    /// Opens, does something through the handle, closes as close(2) does.
    fn with_handle<T>(&self, place: Place, act: impl FnOnce(u64) -> T) -> Option<T> {
        let ino = self.ino(place).ok()?;
        let handle = self.fs.open(ino, false, true, &CALLER).unwrap();
        let done = act(handle);
        self.fs.flush(handle).unwrap();
        self.fs.release(handle);
        Some(done)
    }

    fn run(&mut self, op: &Op, n: usize) {
        match op.clone() {
            Op::Create(place) => {
                let (dir, name) = self.at(place);
                match self.fs.create(dir, name, &CREATION) {
                    Ok((_, handle)) => {
                        assert!(!self.names.contains_key(&place));
                        self.fs.release(handle);
                        self.names.insert(place, Node::File { id: self.files.len() });
                        self.files.push(File { mode: 0o644, ..File::default() });
                    }
                    Err(error) => {
                        assert_eq!(error.errno(), libc::EEXIST);
                        assert!(self.names.contains_key(&place));
                    }
                }
            }
            Op::Write(place, at, len) => {
                let data = super::store::pattern(n as u64, len as usize);
                if let Some(file) = self.file(place) {
                    let (at, end) = (at as usize, (at + len) as usize);
                    file.content.resize(file.content.len().max(end), 0);
                    file.content[at..end].copy_from_slice(&data);
                    file.mtime = None;
                    self.with_handle(place, |handle| self.fs.write(handle, at as u64, &data, false).unwrap()).unwrap();
                }
            }
            Op::Truncate(place, len) => {
                if let Some(file) = self.file(place) {
                    file.content.resize(len as usize, 0);
                    file.mtime = None;
                    let ino = self.ino(place).unwrap();
                    let changes = Changes { size: Some(u64::from(len)), ..Changes::default() };
                    assert_eq!(self.fs.setattr(ino, None, &changes, &CALLER).unwrap().size, u64::from(len));
                }
            }
            Op::Punch(place, at, len) => {
                if let Some(file) = self.file(place) {
                    let size = file.content.len();
                    let range = size.min(at as usize)..size.min((at + len) as usize);
                    file.content[range].fill(0);
                    file.mtime = None;
                    let range = Range { offset: u64::from(at), len: u64::from(len) };
                    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                    self.with_handle(place, |handle| self.fs.fallocate(handle, range, mode).unwrap()).unwrap();
                }
            }
            Op::Read(place) => self.check(place),
            Op::Unlink(place) => {
                let (dir, name) = self.at(place);
                match self.fs.unlink(dir, name) {
                    Ok(()) => assert!(self.names.remove(&place).is_some()),
                    Err(error) => {
                        assert_eq!(error.errno(), libc::ENOENT);
                        assert!(!self.names.contains_key(&place));
                    }
                }
            }
            Op::Rename(from, to, how) => self.rename(from, to, how),
            Op::Link(from, to) => {
                let Ok(ino) = self.ino(from) else { return };
                let (dir, name) = self.at(to);
                match self.fs.link(ino, dir, name, &CALLER) {
                    Ok(entry) => {
                        assert_eq!(entry.attr.ino, ino);
                        let node = self.names[&from].clone();
                        assert!(self.names.insert(to, node).is_none());
                    }
                    Err(error) => assert_eq!((error.errno(), self.names.contains_key(&to)), (libc::EEXIST, true)),
                }
            }
            Op::Symlink(place, len) => {
                let (dir, name) = self.at(place);
                let target = vec![b'x'; usize::from(len).clamp(1, 4095)];
                match self.fs.symlink(dir, name, &target, &CREATION) {
                    Ok(entry) => {
                        assert_eq!(entry.attr.size, target.len() as u64);
                        assert!(self.names.insert(place, Node::Link(target)).is_none());
                    }
                    Err(error) => assert_eq!((error.errno(), self.names.contains_key(&place)), (libc::EEXIST, true)),
                }
            }
            Op::Xattr(place, value) => {
                if let Some(file) = self.file(place) {
                    file.note = Some(value);
                    let ino = self.ino(place).unwrap();
                    self.fs.set_xattr(ino, OsStr::new("user.note"), &[value], XattrFlags::Any, &CALLER).unwrap();
                }
            }
            Op::Mode(place, mode) => {
                let mode = u32::from(mode) & 0o777;
                if let Some(file) = self.file(place) {
                    file.mode = mode;
                    let ino = self.ino(place).unwrap();
                    let changes = Changes { mode: Some(mode), ..Changes::default() };
                    self.fs.setattr(ino, None, &changes, &CALLER).unwrap();
                }
            }
            Op::Mtime(place, seconds) => {
                let mtime = i64::from(seconds) * 1_000_000_000 + 7;
                if let Some(file) = self.file(place) {
                    file.mtime = Some(mtime);
                    let ino = self.ino(place).unwrap();
                    let changes = Changes { mtime: Some(mtime), ..Changes::default() };
                    self.fs.setattr(ino, None, &changes, &CALLER).unwrap();
                }
            }
            Op::Fsync(place) => {
                if self.file(place).is_some() {
                    self.with_handle(place, |handle| self.fs.fsync(handle).unwrap()).unwrap();
                }
            }
            Op::Orphan(place, len) => {
                if self.file(place).is_none() {
                    return;
                }
                let ino = self.ino(place).unwrap();
                let handle = self.fs.open(ino, false, true, &CALLER).unwrap();
                let (dir, name) = self.at(place);
                self.fs.unlink(dir, name).unwrap();
                self.names.remove(&place);
                if !self.names.values().any(|node| matches!(node, Node::File { id } if self.lives(*id, ino))) {
                    let data = super::store::pattern(n as u64, len as usize + 1);
                    self.fs.write(handle, 0, &data, false).unwrap();
                    self.fs.fsync(handle).unwrap();
                    let mut bytes = vec![0; data.len()];
                    assert_eq!(self.fs.read(handle, 0, &mut bytes).unwrap(), data.len());
                    assert!(bytes == data);
                    assert_eq!(self.fs.getattr(ino).unwrap().nlink, 0);
                }
                self.fs.flush(handle).unwrap();
                self.fs.release(handle);
            }
            Op::Checkpoint => self.fs.store().checkpoint().unwrap(),
            Op::Remount => {
                self.fs.store().close().unwrap();
                self.fs = mount(&self.backend, &self.keys);
                self.find_dirs();
            }
        }
    }

    /// Whether some name of that file is that inode.
    fn lives(&self, id: usize, ino: u64) -> bool {
        let names = self.names.iter().filter(|(_, node)| **node == Node::File { id });
        names.into_iter().any(|(place, _)| self.ino(*place) == Ok(ino))
    }

    fn rename(&mut self, from: Place, to: Place, how: u8) {
        let how = [Rename::Replace, Rename::NoReplace, Rename::Exchange][usize::from(how % 3)];
        let ((dir, name), (to_dir, to_name)) = (self.at(from), self.at(to));
        let outcome = self.fs.rename(dir, name, to_dir, to_name, how, &CALLER).map_err(|error| error.errno());
        let (source, target) = (self.names.get(&from).cloned(), self.names.get(&to).cloned());
        let same = source.is_some() && source == target && matches!(source, Some(Node::File { .. }));
        let expected = match (&source, &target, how) {
            (None, _, _) | (_, None, Rename::Exchange) => Err(libc::ENOENT),
            (Some(_), Some(_), Rename::NoReplace) => Err(libc::EEXIST),
            _ => Ok(()),
        };
        assert_eq!(outcome, expected, "{from:?} {to:?} {how:?}");
        // Two names of one inode stay as they are.
        if outcome.is_err() || from == to || same {
            return;
        }
        self.names.insert(to, source.unwrap());
        match target.filter(|_| how == Rename::Exchange) {
            Some(target) => drop(self.names.insert(from, target)),
            None => drop(self.names.remove(&from)),
        }
    }

    fn check(&self, place: Place) {
        let ino = self.ino(place);
        let Some(node) = self.names.get(&place) else {
            assert_eq!(ino, Err(libc::ENOENT), "{place:?}");
            return;
        };
        let ino = ino.unwrap();
        let attr = self.fs.getattr(ino).unwrap();
        let id = match node {
            Node::Link(target) => {
                assert!(self.fs.readlink(ino).unwrap() == *target);
                return;
            }
            Node::File { id } => *id,
        };
        let file = &self.files[id];
        assert_eq!(attr.size, file.content.len() as u64, "{place:?}");
        assert_eq!(attr.mode & 0o7777, file.mode);
        let links = self.names.values().filter(|other| **other == Node::File { id }).count();
        assert_eq!(attr.nlink as usize, links, "{place:?}");
        if let Some(mtime) = file.mtime {
            assert_eq!(attr.mtime, mtime);
        }
        let note = self.fs.get_xattr(ino, OsStr::new("user.note"), &CALLER).map_err(|error| error.errno());
        assert_eq!(note, file.note.map(|value| vec![value]).ok_or(libc::ENODATA));
        let handle = self.fs.open(ino, false, false, &CALLER).unwrap();
        let mut bytes = vec![0; file.content.len() + 5];
        let read = self.fs.read(handle, 0, &mut bytes).unwrap();
        self.fs.release(handle);
        assert!(bytes[..read] == file.content[..], "{place:?} differs");
    }

    fn check_all(&self) {
        for dir in 0..DIRS.len() {
            let mut listed = Vec::new();
            self.fs
                .read_dir(self.dirs[dir], 0, &mut |entry| {
                    listed.push(entry.name.to_str().unwrap().to_string());
                    true
                })
                .unwrap();
            listed.retain(|name| name != "in");
            listed.sort();
            let here = self.names.keys().filter(|place| place.0 == dir).map(|place| NAMES[place.1].to_string());
            assert_eq!(listed, here.collect::<Vec<_>>());
            for name in 0..NAMES.len() {
                self.check((dir, name));
            }
        }
    }
}

fn mount(backend: &Arc<dyn Backend>, keys: &Arc<KeyService>) -> Arc<Fs> {
    let store = Store::open(backend.clone(), keys.clone(), StoreOptions::default()).unwrap();
    Fs::new(store, FsOptions { read_only: false, keep_owners: false, open_dirs: 2 })
}

fn run(backend: Arc<dyn Backend>, ops: &[Op]) {
    let mut world = World::new(backend);
    for (n, op) in ops.iter().enumerate() {
        world.run(op, n);
    }
    world.check_all();
    world.run(&Op::Remount, 0);
    world.check_all();
    world.fs.store().close().unwrap();
}

fn op() -> impl Strategy<Value = Op> {
    let place = || (0..DIRS.len(), 0..NAMES.len());
    let at = || prop_oneof![0..9000u32, 0..700_000u32];
    let len = || prop_oneof![1..100u32, 1..20_000u32, 1..300_000u32];
    prop_oneof![
        6 => place().prop_map(Op::Create),
        6 => (place(), at(), len()).prop_map(|(place, at, len)| Op::Write(place, at, len)),
        2 => (place(), at()).prop_map(|(place, len)| Op::Truncate(place, len)),
        1 => (place(), at(), len()).prop_map(|(place, at, len)| Op::Punch(place, at, len)),
        3 => place().prop_map(Op::Read),
        2 => place().prop_map(Op::Unlink),
        5 => (place(), place(), any::<u8>()).prop_map(|(from, to, how)| Op::Rename(from, to, how)),
        3 => (place(), place()).prop_map(|(from, to)| Op::Link(from, to)),
        1 => (place(), 0..5000u16).prop_map(|(place, len)| Op::Symlink(place, len)),
        1 => (place(), any::<u8>()).prop_map(|(place, value)| Op::Xattr(place, value)),
        1 => (place(), any::<u16>()).prop_map(|(place, mode)| Op::Mode(place, mode)),
        2 => (place(), any::<u32>()).prop_map(|(place, seconds)| Op::Mtime(place, seconds)),
        2 => place().prop_map(Op::Fsync),
        1 => (place(), len()).prop_map(|(place, len)| Op::Orphan(place, len)),
        1 => Just(Op::Checkpoint),
        1 => Just(Op::Remount),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn random_operations_do_on_a_simulated_disk_what_they_do_in_memory(ops in prop::collection::vec(op(), 1..80)) {
        run(Arc::new(SimulatedDisk::new()), &ops);
    }

    #[test]
    fn random_operations_do_on_a_real_directory_what_they_do_in_memory(ops in prop::collection::vec(op(), 1..80)) {
        let dir = tempfile::tempdir().unwrap();
        run(RealBackend::open(dir.path()).unwrap(), &ops);
    }
}
