//! The file system without FUSE, the reference beside it, and what a kernel would know of them.

use super::model::{Answer, BUCKETS, CONFIGURATION, CONFIGURATIONS, Encryption, Id, Kind, Model, Place, ROOT};
use super::{Op, Path, Request};
use crate::harness::wait_until;
use crate::store::keys;
use kmsfs_fs::{Changes, Creation, Entry, Fs, FsOptions, HandleId, Ino, Range, Refusal, Time, Writer};
use kmsfs_kms::Caller;
use kmsfs_sse::KeyService;
use kmsfs_store::backend::{Backend, XattrFlags};
use kmsfs_store::{self as store, Attr, Parameters, SeekTo, Store, StoreOptions};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fmt::Debug;
use std::sync::Arc;

const ROOT_CALLER: Caller = Caller { uid: 0, gid: 0, pid: 1 };
pub const USER: Caller = Caller { uid: 1000, gid: 1000, pid: 1 };
/// Handles open at a time.
const HANDLES: usize = 6;
const HEADERS: [&str; 3] = [
    "user.x-amz-server-side-encryption",
    "user.x-amz-server-side-encryption-aws-kms-key-id",
    "user.x-amz-server-side-encryption-bucket-key-enabled",
];

pub struct ModelAndFs {
    backend: Arc<dyn Backend>,
    keys: Arc<KeyService>,
    fs: Arc<Fs>,
    pub model: Model,
    kernel: Kernel,
    handles: Vec<(HandleId, Id)>,
    /// Change times seen so far: they never go back.
    changed: RefCell<HashMap<Id, Time>>,
}

/// What a kernel remembers: which node each number is, in which generation, and how often it was told so.
#[derive(Default)]
struct Kernel {
    inodes: HashMap<Ino, Inode>,
    numbers: HashMap<Id, Ino>,
}

struct Inode {
    id: Id,
    /// Not known once a configuration was refused: the file system may have raised it to be asked anew.
    generation: Option<u64>,
    lookups: u64,
}

impl ModelAndFs {
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        let keys = keys();
        let parameters =
            Parameters { store_id: [1; 16], account_id: "000000000000".into(), region: "us-east-1".into() };
        kmsfs_store::create(&*backend, &parameters, keys.service()).unwrap();
        let fs = Self::open(&backend, &keys);
        let both = Self {
            backend,
            keys,
            fs,
            model: Model::new(),
            kernel: Kernel::default(),
            handles: Vec::new(),
            changed: RefCell::default(),
        };
        for bucket in BUCKETS {
            both.fs.mkdir(both.fs.root(), OsStr::new(bucket), &creation(0o755)).unwrap();
        }
        both
    }

    /// With so few directories held open that most are walked to.
    fn open(backend: &Arc<dyn Backend>, keys: &Arc<KeyService>) -> Arc<Fs> {
        let options = StoreOptions {
            log_bound: 1 << 20,
            max_pinned: 4,
            spare_descriptors: 3,
            cache: 1 << 16,
            ..StoreOptions::default()
        };
        // A process that another test is just starting has our lock until it is the program it becomes.
        let mut opened = Store::open(backend.clone(), keys.clone(), options.clone());
        wait_until(|| {
            if matches!(opened, Err(store::Error::InUse(_))) {
                opened = Store::open(backend.clone(), keys.clone(), options.clone());
            }
            !matches!(opened, Err(store::Error::InUse(_)))
        });
        let store = opened.unwrap();
        Fs::new(
            store,
            FsOptions { read_only: false, keep_owners: true, noatime: false, open_dirs: 2, most_inodes: None },
        )
    }

    pub fn run(&mut self, ops: &[Op]) {
        for op in ops {
            self.step(op);
        }
        self.check();
        self.reopen();
        self.check();
    }

    pub fn step(&mut self, op: &Op) {
        match op {
            Op::Create(path, mode) => self.create(path, *mode),
            Op::Mknod(path, mode) => {
                self.make(path, *mode, |fs, dir, name, how| fs.mknod(dir, name, libc::S_IFREG, 0, how), None);
            }
            Op::Mkdir(path, mode) => {
                let kind = Kind::Dir(BTreeMap::new());
                self.make(path, *mode, Fs::mkdir, Some(kind));
            }
            Op::Special(path, kind, device, mode) => {
                let make = |fs: &Fs, dir, name: &OsStr, how: &Creation| fs.mknod(dir, name, *kind, *device, how);
                self.make(path, *mode, make, Some(Kind::Special(*kind, *device)));
            }
            Op::Symlink(path, len) => {
                let target = vec![b't'; *len];
                let kind = Kind::Symlink(target.clone());
                self.make(path, 0o777, |fs, dir, name, how| fs.symlink(dir, name, &target, how), Some(kind));
            }
            Op::Open(path, truncate) => self.open_file(path, *truncate),
            Op::Release(n) => self.release(*n),
            Op::Flush(n) => self.with_handle(*n, |fs, handle, _| fs.flush(handle).unwrap()),
            Op::Fsync(n) => self.with_handle(*n, |fs, handle, _| fs.fsync(handle).unwrap()),
            Op::Write(n, offset, len, unprivileged) => self.write(*n, *offset, *len, *unprivileged),
            Op::Truncate(n, len, unprivileged) => self.truncate(*n, *len, *unprivileged),
            Op::TruncateName(path, len, unprivileged) => self.truncate_name(path, *len, *unprivileged),
            Op::Fallocate(n, offset, len, mode) => self.fallocate(*n, *offset, *len, *mode),
            Op::Copy(from, offset, to, to_offset, len) => self.copy((*from, *offset), (*to, *to_offset), *len),
            Op::Rename(from, to, how) => self.rename(from, to, *how),
            Op::Link(from, to) => self.link(from, to),
            Op::Unlink(path) => self.at(path, |both, ino, place| {
                let expected = both.model.unlink(place);
                let _ = same(expected, both.fs.unlink(ino, OsStr::new(place.1)));
            }),
            Op::Rmdir(path) => self.at(path, |both, ino, place| {
                let expected = both.model.remove_dir(place);
                let _ = same(expected, both.fs.rmdir(ino, OsStr::new(place.1)));
            }),
            Op::SetMode(path, mode) => self.set_mode(path, *mode),
            Op::SetOwner(path, uid, gid) => self.set_owner(path, (*uid, *gid)),
            Op::SetTimes(path, atime, mtime) => self.set_times(path, *atime, *mtime),
            Op::SetNothing(path) => self.set_nothing(path),
            Op::SetXattr(path, name, len, flags) => self.set_xattr(path, name, *len, *flags),
            Op::RemoveXattr(path, name) => self.remove_xattr(path, name),
            Op::Configure(path, which) => self.configure(path, *which),
            Op::Request(path, request) => self.request(path, request),
            Op::FsyncDir(path) => {
                if let Some((ino, id)) = self.find(path)
                    && self.model.node(id).is_dir()
                {
                    self.fs.fsync_dir(ino).unwrap();
                }
            }
            Op::CommitAll => self.fs.store().commit_all(),
            Op::Forget => self.forget(),
            Op::Check => self.check(),
            Op::Reopen => self.reopen(),
        }
    }

    // ---- walking as a kernel does

    /// Looks up a name in both and compares.
    fn look_up(&mut self, ino: Ino, place: Place) -> Answer<(Ino, Id)> {
        let expected = self.model.find(place);
        let got = self.fs.lookup(ino, OsStr::new(place.1));
        let (id, entry) = same(expected, got)?;
        self.told(id, &entry);
        Ok((entry.ino(), id))
    }

    /// The kernel is told of a node, and that it is what the reference has there.
    fn told(&mut self, id: Id, entry: &Entry) {
        let Entry { attr, generation, .. } = *entry;
        self.check_attr(id, &attr);
        if let Some(known) = self.kernel.numbers.insert(id, entry.ino()) {
            assert_eq!(known, entry.ino(), "an inode's number changed");
        }
        let generation = Some(generation);
        let inode = self.kernel.inodes.entry(entry.ino()).or_insert(Inode { id, generation, lookups: 0 });
        inode.lookups += 1;
        if inode.id != id {
            assert_ne!(inode.generation, generation, "a number was used again in the same generation");
        } else if inode.generation.is_some() {
            assert_eq!(inode.generation, generation, "the generation of a living inode changed");
        }
        (inode.id, inode.generation) = (id, generation);
    }

    /// The directory that a path lies in, or nothing where the way there ends, in both alike.
    fn parent(&mut self, path: &Path) -> Option<(Ino, Id)> {
        let mut at = (self.fs.root(), ROOT);
        for name in path.parent() {
            at = self.look_up(at.0, (at.1, name)).ok()?;
        }
        Some(at)
    }

    fn find(&mut self, path: &Path) -> Option<(Ino, Id)> {
        let (ino, dir) = self.parent(path)?;
        self.look_up(ino, (dir, path.name())).ok()
    }

    fn at(&mut self, path: &Path, act: impl FnOnce(&mut Self, Ino, Place)) {
        if let Some((ino, dir)) = self.parent(path) {
            act(self, ino, (dir, path.name()));
        }
    }

    // ---- names

    fn create(&mut self, path: &Path, mode: u32) {
        self.at(path, |both, ino, place| {
            let expected = both.model.create(place, mode);
            let got = both.fs.create(ino, OsStr::new(place.1), &creation(mode));
            if let Ok((id, (entry, handle))) = same(expected, got) {
                both.told(id, &entry);
                both.keep(handle, id);
            }
        });
    }

    fn make(
        &mut self,
        path: &Path,
        mode: u32,
        make: impl FnOnce(&Fs, Ino, &OsStr, &Creation) -> kmsfs_fs::Result<Entry>,
        kind: Option<Kind>,
    ) {
        self.at(path, |both, ino, place| {
            let expected = match kind {
                Some(kind) => both.model.make(place, kind, mode),
                None => both.model.create(place, mode),
            };
            if let Ok((id, entry)) = same(expected, make(&both.fs, ino, OsStr::new(place.1), &creation(mode))) {
                both.told(id, &entry);
            }
        });
    }

    fn rename(&mut self, from: &Path, to: &Path, how: kmsfs_store::backend::Rename) {
        let (Some((ino, dir)), Some((to_ino, to_dir))) = (self.parent(from), self.parent(to)) else { return };
        let (from, to) = ((dir, from.name()), (to_dir, to.name()));
        let moving = [self.model.find(from), self.model.find(to)];
        // What is written to a configuration through a handle from before is judged by nobody.
        let concerns = [from.1, to.1].contains(&CONFIGURATION);
        if concerns && moving.iter().flatten().any(|id| self.is_open(*id)) {
            return;
        }
        let expected = self.model.rename(from, to, how);
        let got = self.fs.rename(ino, OsStr::new(from.1), to_ino, OsStr::new(to.1), how, &ROOT_CALLER);
        let done = same(expected, got).is_ok();
        for id in moving.into_iter().flatten().filter(|_| done && concerns) {
            self.model.nodes[id].mtime = None;
        }
    }

    fn link(&mut self, from: &Path, to: &Path) {
        let (Some((ino, id)), Some((dir, to_dir))) = (self.find(from), self.parent(to)) else { return };
        if self.model.node(id).is_dir() || to.name() == CONFIGURATION && self.is_open(id) {
            return;
        }
        let expected = self.model.link(id, (to_dir, to.name()));
        let got = self.fs.link(ino, dir, OsStr::new(to.name()), &ROOT_CALLER);
        if let Ok(((), entry)) = same(expected, got) {
            if to.name() == CONFIGURATION {
                self.model.nodes[id].mtime = None;
            }
            self.told(id, &entry);
        }
    }

    // ---- handles

    fn is_open(&self, id: Id) -> bool {
        self.handles.iter().any(|(_, open)| *open == id)
    }

    fn keep(&mut self, handle: HandleId, id: Id) {
        if self.handles.len() < HANDLES && !self.model.is_configuration(id) {
            self.handles.push((handle, id));
        } else {
            self.fs.flush(handle).unwrap();
            self.fs.release(handle);
        }
    }

    fn open_file(&mut self, path: &Path, truncate: bool) {
        let Some((ino, id)) = self.find(path) else { return };
        if !self.model.node(id).is_file() || self.model.is_configuration(id) {
            return;
        }
        let handle = self.fs.open(ino, truncate, true, &ROOT_CALLER).unwrap();
        if truncate {
            self.model.change(id, false, Vec::clear);
        }
        self.keep(handle, id);
    }

    fn with_handle(&mut self, n: usize, act: impl FnOnce(&Fs, HandleId, &mut Model)) {
        if let Some((handle, _)) = self.pick(n) {
            act(&self.fs, handle, &mut self.model);
        }
    }

    fn pick(&self, n: usize) -> Option<(HandleId, Id)> {
        let count = self.handles.len();
        (count > 0).then(|| self.handles[n % count])
    }

    fn release(&mut self, n: usize) {
        if let Some((handle, _)) = self.pick(n) {
            self.check_handle(handle);
            self.fs.flush(handle).unwrap();
            self.fs.release(handle);
            self.handles.retain(|(other, _)| *other != handle);
        }
    }

    fn write(&mut self, n: usize, offset: usize, len: usize, unprivileged: bool) {
        let Some((handle, id)) = self.pick(n) else { return };
        let data = pattern(offset + id, len);
        let writer = if unprivileged { Writer::Ordinary(USER) } else { Writer::Privileged };
        self.fs.write(handle, offset as u64, &data, writer).unwrap();
        self.model.change(id, unprivileged, |content| put(content, offset, &data));
    }

    fn truncate(&mut self, n: usize, len: usize, unprivileged: bool) {
        let Some((handle, id)) = self.pick(n) else { return };
        let changes = Changes { size: Some(len as u64), ..Changes::default() };
        let caller = if unprivileged { USER } else { ROOT_CALLER };
        self.model.change(id, unprivileged, |content| content.resize(len, 0));
        let attr = self.fs.setattr(self.kernel.numbers[&id], Some(handle), &changes, &caller).unwrap();
        self.check_attr(id, &attr);
    }

    fn truncate_name(&mut self, path: &Path, len: usize, unprivileged: bool) {
        let Some((ino, id)) = self.find(path) else { return };
        if !self.model.node(id).is_file() || self.model.is_configuration(id) {
            return;
        }
        let changes = Changes { size: Some(len as u64), ..Changes::default() };
        let caller = if unprivileged { USER } else { ROOT_CALLER };
        self.model.change(id, unprivileged, |content| content.resize(len, 0));
        let attr = self.fs.setattr(ino, None, &changes, &caller).unwrap();
        self.check_attr(id, &attr);
    }

    fn fallocate(&mut self, n: usize, offset: usize, len: usize, mode: i32) {
        let Some((handle, id)) = self.pick(n) else { return };
        self.fs.fallocate(handle, Range { offset: offset as u64, len: len as u64 }, mode, &USER).unwrap();
        self.model.change(id, true, |content| {
            if mode & (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) != 0 {
                let end = content.len().min(offset + len);
                content[offset.min(end)..end].fill(0);
            }
            if mode & libc::FALLOC_FL_KEEP_SIZE == 0 {
                content.resize(content.len().max(offset + len), 0);
            }
        });
    }

    fn copy(&mut self, (from, offset): (usize, usize), (to, to_offset): (usize, usize), len: usize) {
        let (Some((source, from)), Some((target, to))) = (self.pick(from), self.pick(to)) else { return };
        // The kernel refuses ranges of one file that overlap.
        if from == to && offset.abs_diff(to_offset) < len {
            return;
        }
        let bytes = self.model.content(from);
        let end = bytes.len().min(offset + len);
        let bytes = bytes[offset.min(end)..end].to_vec();
        let copied = self.fs.copy(source, offset as u64, target, to_offset as u64, len as u64, &USER).unwrap();
        assert_eq!(copied, bytes.len() as u64);
        if copied > 0 {
            self.model.change(to, true, |content| put(content, to_offset, &bytes));
        }
    }

    // ---- attributes

    fn set_mode(&mut self, path: &Path, mode: u32) {
        let Some((ino, id)) = self.find(path) else { return };
        if matches!(self.model.node(id).kind, Kind::Symlink(_)) {
            return;
        }
        self.model.set_mode(id, mode);
        let attr = self.fs.setattr(ino, None, &Changes { mode: Some(mode), ..Changes::default() }, &ROOT_CALLER);
        self.check_attr(id, &attr.unwrap());
    }

    fn set_owner(&mut self, path: &Path, owner: (u32, u32)) {
        let Some((ino, id)) = self.find(path) else { return };
        // One that does not hold any more refuses what is made below it: looked at in `configured`.
        let holds =
            |both: &Self, dir| both.model.find((dir, CONFIGURATION)).is_ok_and(|id| both.model.node(id).owner.0 != 0);
        if owner.0 != 0 && self.model.is_configuration(id) || self.model.node(id).is_dir() && holds(self, id) {
            return;
        }
        self.model.set_owner(id, owner);
        let changes = Changes { uid: Some(owner.0), gid: Some(owner.1), ..Changes::default() };
        let attr = self.fs.setattr(ino, None, &changes, &ROOT_CALLER).unwrap();
        self.check_attr(id, &attr);
    }

    fn set_times(&mut self, path: &Path, atime: Option<i64>, mtime: Option<i64>) {
        let Some((ino, id)) = self.find(path) else { return };
        if self.model.node(id).is_dir() || (atime, mtime) == (None, None) {
            return;
        }
        let node = &mut self.model.nodes[id];
        node.mtime = mtime.or(node.mtime);
        if node.is_file() {
            node.atime = atime.or(node.atime);
        }
        let changes = Changes { atime: atime.map(Time), mtime: mtime.map(Time), ..Changes::default() };
        let attr = self.fs.setattr(ino, None, &changes, &ROOT_CALLER).unwrap();
        self.check_attr(id, &attr);
    }

    fn set_nothing(&mut self, path: &Path) {
        let Some((ino, id)) = self.find(path) else { return };
        if self.model.node(id).is_file() {
            let owner = self.model.node(id).owner;
            self.model.set_owner(id, owner);
        }
        let attr = self.fs.setattr(ino, None, &Changes::default(), &ROOT_CALLER).unwrap();
        self.check_attr(id, &attr);
    }

    fn set_xattr(&mut self, path: &Path, name: &str, len: usize, flags: XattrFlags) {
        let Some((ino, id)) = self.find(path) else { return };
        let value = pattern(id, len);
        let expected = self.model.set_xattr(id, name, &value, flags);
        let _ = same(expected, self.fs.set_xattr(ino, OsStr::new(name), &value, flags, &ROOT_CALLER));
    }

    fn remove_xattr(&mut self, path: &Path, name: &str) {
        let Some((ino, id)) = self.find(path) else { return };
        let expected = self.model.remove_xattr(id, name);
        let _ = same(expected, self.fs.remove_xattr(ino, OsStr::new(name), &ROOT_CALLER));
    }

    // ---- encryption

    /// Writes a directory's configuration as a shell's redirection does.
    fn configure(&mut self, path: &Path, which: usize) {
        let Some((ino, dir)) = self.find(path) else { return };
        if !self.model.node(dir).is_dir() {
            return;
        }
        let (text, said) = CONFIGURATIONS[which % CONFIGURATIONS.len()];
        let name = OsStr::new(CONFIGURATION);
        let (id, handle) = match self.look_up(ino, (dir, CONFIGURATION)) {
            Ok((_, id)) if self.is_open(id) => return,
            Ok((ino, id)) => (id, self.fs.open(ino, true, true, &ROOT_CALLER).unwrap()),
            Err(_) => {
                let id = self.model.create((dir, CONFIGURATION), 0o644).unwrap();
                let (entry, handle) = self.fs.create(ino, name, &creation(0o644)).unwrap();
                self.told(id, &entry);
                (id, handle)
            }
        };
        self.model.nodes[id].mtime = None;
        if !text.is_empty() {
            self.fs.write(handle, 0, text.as_bytes(), Writer::Privileged).unwrap();
        }
        let expected = match said {
            _ if text.is_empty() => Ok(()),
            None => Err(libc::EINVAL),
            Some(_) if !self.model.may_put(id, dir) => Err(libc::EPERM),
            Some(_) => Ok(()),
        };
        if same(expected, self.fs.flush(handle)).is_ok() && !text.is_empty() {
            self.model.change(id, false, |content| *content = text.into());
        } else if let Some(inode) = self.kernel.inodes.get_mut(&self.kernel.numbers[&id]) {
            inode.generation = None;
        }
        self.fs.release(handle);
    }

    fn request(&mut self, path: &Path, request: &Request) {
        let Some((ino, id)) = self.find(path) else { return };
        if !self.model.node(id).is_file() || self.model.is_configuration(id) {
            return;
        }
        let now = self.model.encryption(id);
        let new = match *request {
            Request::Aes256 => Ok(Encryption::AES256),
            Request::AwsKms => Ok(Encryption { key: Some("alias/aws/s3"), bucket_key: false }),
            Request::Key(_) | Request::BucketKey(true) if now.key.is_none() => Err(libc::EINVAL),
            Request::Key(key) => Ok(Encryption { key: Some(key), ..now }),
            Request::BucketKey(bucket_key) if now.key.is_some() => Ok(Encryption { bucket_key, ..now }),
            Request::BucketKey(_) => Ok(now),
        };
        let (header, value) = match request {
            Request::Aes256 => (HEADERS[0], "AES256"),
            Request::AwsKms => (HEADERS[0], "aws:kms"),
            Request::Key(key) => (HEADERS[1], *key),
            Request::BucketKey(bucket_key) => (HEADERS[2], if *bucket_key { "true" } else { "false" }),
        };
        let got = self.fs.set_xattr(ino, OsStr::new(header), value.as_bytes(), XattrFlags::Any, &ROOT_CALLER);
        if let Ok((new, ())) = same(new, got) {
            self.model.encrypt(id, new);
        }
    }

    // ---- forgetting

    /// The kernel drops what no open file needs.
    fn forget(&mut self) {
        let mut needed = HashSet::new();
        for (_, id) in &self.handles {
            let mut pending: Vec<Id> = self.model.names_of(*id).into_iter().map(|(dir, _)| dir).collect();
            needed.insert(*id);
            while let Some(dir) = pending.pop() {
                if needed.insert(dir) {
                    pending.push(self.model.node(dir).parent);
                }
            }
        }
        let fs = &self.fs;
        self.kernel.inodes.retain(|ino, inode| {
            let keep = needed.contains(&inode.id);
            if !keep {
                fs.forget(*ino, inode.lookups);
            }
            keep
        });
    }

    /// Another mount.
    fn reopen(&mut self) {
        while !self.handles.is_empty() {
            self.release(0);
        }
        self.fs.store().close().unwrap();
        self.fs = Self::open(&self.backend, &self.keys);
        self.kernel = Kernel::default();
    }

    // ---- comparing

    fn check_attr(&self, id: Id, attr: &Attr) {
        let node = self.model.node(id);
        let kind = match &node.kind {
            Kind::Dir(_) => libc::S_IFDIR,
            Kind::File { .. } => libc::S_IFREG,
            Kind::Symlink(_) => libc::S_IFLNK,
            Kind::Special(kind, _) => *kind,
        };
        assert_eq!(attr.mode, kind | node.mode, "mode");
        assert_eq!((attr.uid, attr.gid), node.owner, "owner");
        if !node.is_dir() {
            assert_eq!(attr.nlink as usize, self.model.names_of(id).len(), "links");
        }
        match &node.kind {
            Kind::File { content, .. } => assert_eq!(attr.size, content.len() as u64, "size"),
            Kind::Symlink(target) => assert_eq!(attr.size, target.len() as u64, "length of a symlink"),
            Kind::Special(_, device) => assert_eq!(attr.rdev, *device, "device"),
            Kind::Dir(_) => {}
        }
        if let Some(mtime) = node.mtime {
            assert_eq!(attr.mtime, Time(mtime), "mtime");
        }
        if let Some(atime) = node.atime {
            assert_eq!(attr.atime, Time(atime), "atime");
        }
        let before = self.changed.borrow_mut().insert(id, attr.ctime).unwrap_or(Time(i64::MIN));
        assert!(attr.ctime >= before, "the change time went back from {before:?} to {:?}", attr.ctime);
    }

    fn check_handle(&self, handle: HandleId) {
        let (_, id) = *self.handles.iter().find(|(other, _)| *other == handle).unwrap();
        self.check_content(handle, id);
        let ino = self.kernel.numbers[&id];
        self.check_attr(id, &self.fs.getattr(ino).unwrap());
    }

    fn check_content(&self, handle: HandleId, id: Id) {
        let expected = self.model.content(id);
        let mut bytes = vec![0xaa; expected.len() + 100];
        let read = self.fs.read(handle, 0, &mut bytes).unwrap();
        assert_eq!(read, expected.len(), "length read");
        bytes.truncate(read);
        if let Some(at) = bytes.iter().zip(expected).position(|(byte, expected)| byte != expected) {
            panic!("byte {at} of {} is {}, not {}", expected.len(), bytes[at], expected[at]);
        }
        if self.model.is_configuration(id) {
            return;
        }
        let mut at = 0;
        while at < expected.len() {
            let hole = self.fs.seek(handle, at as u64, SeekTo::Hole).unwrap() as usize;
            let data = self.fs.seek(handle, hole as u64, SeekTo::Data).map_or(expected.len(), |data| data as usize);
            assert!(data > at, "no progress from {at}");
            assert!(expected[hole..data].iter().all(|byte| *byte == 0), "data in the hole {hole}..{data}");
            at = data;
        }
    }

    pub fn check(&mut self) {
        for (handle, _) in &self.handles {
            self.check_handle(*handle);
        }
        self.check_dir(self.fs.root(), ROOT);
    }

    fn check_dir(&mut self, ino: Ino, dir: Id) {
        let mut expected = self.model.names(dir).unwrap().clone();
        let mut cursor = 0;
        loop {
            let mut entries = Vec::new();
            let visited = self.fs.clone().read_dir_plus(ino, cursor, &mut |item, entry| {
                // The third is one more than fits.
                if entries.len() == 2 {
                    return false;
                }
                entries.push((item.name.to_str().unwrap().to_owned(), item.cursor, entry.unwrap()));
                true
            });
            visited.unwrap();
            let Some((_, last, _)) = entries.last() else { break };
            cursor = *last;
            for (name, _, entry) in entries {
                let id = expected.remove(&name).unwrap_or_else(|| panic!("{name} is listed but not there, or twice"));
                self.told(id, &entry);
                self.check_node(entry.ino(), id);
            }
        }
        assert!(expected.is_empty(), "not listed: {expected:?}");
        self.check_xattrs(ino, dir);
    }

    fn check_node(&mut self, ino: Ino, id: Id) {
        self.check_attr(id, &self.fs.getattr(ino).unwrap());
        match self.model.node(id).kind.clone() {
            Kind::Dir(_) => return self.check_dir(ino, id),
            Kind::File { encryption, .. } => {
                let handle = self.fs.open(ino, false, false, &ROOT_CALLER).unwrap();
                self.check_content(handle, id);
                self.check_encryption(ino, encryption);
                self.fs.flush(handle).unwrap();
                self.fs.release(handle);
            }
            Kind::Symlink(target) => assert_eq!(self.fs.readlink(ino).unwrap(), target),
            Kind::Special(..) => {}
        }
        self.check_xattrs(ino, id);
    }

    fn check_encryption(&self, ino: Ino, expected: Encryption) {
        let read = |header| match self.fs.get_xattr(ino, OsStr::new(header), &ROOT_CALLER) {
            Ok(value) => Some(String::from_utf8(value).unwrap()),
            Err(error) => {
                assert!(matches!(error, Refusal::NoAttribute), "{error:?}");
                None
            }
        };
        let algorithm = if expected.key.is_some() { "aws:kms" } else { "AES256" };
        assert_eq!(read(HEADERS[0]).as_deref(), Some(algorithm));
        let arn = expected.key.map(|key| format!("arn:aws:kms:us-east-1:000000000000:key/{key}"));
        assert_eq!(read(HEADERS[1]), arn);
        assert_eq!(read(HEADERS[2]).is_some_and(|enabled| enabled == "true"), expected.bucket_key);
    }

    fn check_xattrs(&self, ino: Ino, id: Id) {
        let node = self.model.node(id);
        let listed = self.fs.list_xattr(ino).unwrap();
        let mut names: Vec<&str> =
            listed.split(|byte| *byte == 0).map(|name| std::str::from_utf8(name).unwrap()).collect();
        names.retain(|name| name.starts_with("user."));
        names.sort_unstable();
        assert_eq!(names, node.xattrs.keys().collect::<Vec<_>>(), "attributes");
        for (name, value) in &node.xattrs {
            assert!(self.fs.get_xattr(ino, OsStr::new(name), &ROOT_CALLER).unwrap() == *value, "{name}");
        }
    }
}

fn creation(mode: u32) -> Creation {
    Creation { mode, umask: 0, caller: ROOT_CALLER }
}

/// Bytes that tell where they are and which write they came from; none is 0.
fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|n| ((seed * 31 + n * 7 + n / 251) % 255) as u8 + 1).collect()
}

fn put(content: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    content.resize(content.len().max(offset + data.len()), 0);
    content[offset..offset + data.len()].copy_from_slice(data);
}

/// Both went well, or both were refused with the same errno.
fn same<A: Debug, B: Debug>(expected: Answer<A>, got: kmsfs_fs::Result<B>) -> Answer<(A, B)> {
    match (expected, got) {
        (Ok(expected), Ok(got)) => Ok((expected, got)),
        (Err(expected), Err(got)) => {
            assert_eq!(kmsfs_fuse::errno(&got), expected, "errno ({got})");
            Err(expected)
        }
        (expected, got) => panic!("expected {expected:?}, got {got:?}"),
    }
}
