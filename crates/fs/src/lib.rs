//! What POSIX means over a store: inodes, handles, names, attributes, S3's rules for names and encryption. It has no
//! types of FUSE: whatever serves programs calls [`Fs`], and may be told what is out of date ([`Observer`]).
//!
//! - Inodes are known by number ([`Ino`]) from their look-up until they are forgotten, open files by [`HandleId`].
//! - What an operation refuses is a [`Refusal`]; which errno that is says who serves programs.
//! - What a thread must not wait for (the KMS, a checkpoint) is refused before anything has been done, and another
//!   thread can do the operation from its beginning: [`kmsfs_kms::waits`], [`exec::Executor`].
//! - Whether a handle's opener may still use the object's key is evaluated again and again ([`Fs::watch_keys`]), and
//!   what is refused leaves the caches and the memory ([`Fs::drain_forever`]).
//! - [`bulk`] changes the encryption of many objects.
//!
//! ```
//! use kmsfs_fs::{Creation, Fs, FsOptions, Refusal, Writer};
//! use kmsfs_kms::Caller;
//! use kmsfs_sse::KeyService;
//! use kmsfs_store::{Parameters, Store, StoreOptions};
//! use kmsfs_testing::{disk::SimulatedDisk, kms::OneKey};
//! use std::sync::Arc;
//!
//! let (disk, key) = (SimulatedDisk::new(), Arc::new(OneKey::new()));
//! let parameters = Parameters { store_id: [1; 16], account_id: "000000000000".into(), region: "us-east-1".into() };
//! kmsfs_store::create(&disk, &parameters, &*key)?;
//! let keys = Arc::new(KeyService::new(key.clone(), key));
//! let store = Store::open(Arc::new(disk), keys, StoreOptions::default())?;
//! let options = FsOptions { read_only: false, keep_owners: true, noatime: false, open_dirs: 16, most_inodes: None };
//! let fs = Fs::new(store, options);
//!
//! let creation = Creation { mode: 0o755, umask: 0o022, caller: Caller { uid: 1000, gid: 1000, pid: 1 } };
//! let bucket = fs.mkdir(fs.root(), "bucket".as_ref(), &creation)?;
//! let (object, handle) = fs.create(bucket.ino(), "bond".as_ref(), &creation)?;
//! fs.write(handle, 0, b"my name is Bond", Writer::Privileged)?;
//! fs.flush(handle)?;
//! fs.release(handle);
//! assert_eq!(fs.getattr(object.ino())?.size, 15);
//! // Buckets alone are made at the root, and their names are S3's.
//! let refused = fs.mkdir(fs.root(), "Bucket".as_ref(), &creation);
//! assert!(matches!(refused, Err(Refusal::BucketName { .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod attributes;
pub mod bulk;
mod changing;
mod closed;
mod configurations;
mod configured;
mod dirs;
mod evaluation;
pub mod exec;
mod files;
mod given_up;
mod handles;
mod heads;
mod inodes;
mod names;
mod numbers;
mod observer;
mod puts;
mod refusal;
mod revocation;
mod searches;
mod unwritten;
mod virtual_attributes;
mod watching;

pub use attributes::Changes;
pub use changing::Writer;
pub use files::{LONG, Range};
pub use names::{DirEntry, Entry};
pub use numbers::{HandleId, Ino, Time};
pub use observer::{Observer, Stale};
pub use puts::PREFIX as PUT_PREFIX;
pub use refusal::{NotJson, Refusal, Result};

use configurations::Configurations;
use dirs::{Blocked, Dirs};
use handles::Handles;
use heads::Outcomes;
use inodes::Inodes;
use kmsfs_kms::{Caller, Waits, waits};
use kmsfs_locks::{RwLock, ranks};
use kmsfs_store::backend::NewNode;
use kmsfs_store::interleaving::just_before_use;
use kmsfs_store::{Attr, Dir, Target, Volume};
use revocation::Revocations;
use searches::{Held, Searches};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, OnceLock};
use unwritten::Unwritten;

/// Longest name, as on ext4.
pub const NAME_MAX: usize = 255;

/// Times that an inode is looked for which moves each time just before it is used.
const TRIES: usize = 64;

/// Inodes that the kernel is asked to forget at a time.
const FORGET: usize = 16 << 10;

/// The file system of one mount. Its operations take inodes by number, and may be called from any thread.
pub struct Fs {
    store: Arc<dyn Volume>,
    options: FsOptions,
    inodes: Inodes,
    dirs: Dirs,
    handles: Handles,
    configurations: Configurations,
    revocations: Revocations,
    unwritten: Unwritten,
    searches: Searches,
    outcomes: Outcomes,
    given_up: given_up::GivenUp,
    /// Why requests for an encryption were refused, by inode.
    refused: Outcomes,
    /// Renames of directories take it alone, walks share it.
    tree: RwLock<ranks::Tree, ()>,
    observer: OnceLock<Box<dyn Observer>>,
}

/// How a mount behaves.
#[derive(Debug, Clone)]
pub struct FsOptions {
    /// Nothing is changed.
    pub read_only: bool,
    /// New files belong to whoever makes them; otherwise to whoever runs the mount.
    pub keep_owners: bool,
    /// Reading leaves access times alone.
    pub noatime: bool,
    /// Directories held open at most.
    pub open_dirs: usize,
    /// Known inodes beyond which the kernel is asked to forget some; by itself it forgets when it needs the memory.
    pub most_inodes: Option<usize>,
}

/// What a mount holds in memory, in numbers.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Open files.
    pub handles: usize,
    /// Inodes with a handle.
    pub objects: usize,
    /// Inodes that the kernel knows.
    pub inodes: usize,
    /// Directories that are held open.
    pub dirs: usize,
    /// Objects whose verified state is kept, open or not.
    pub cached: usize,
}

/// What a new name is made with.
#[derive(Debug, Clone, Copy)]
pub struct Creation {
    /// Permissions with set-id and sticky bits.
    pub mode: u32,
    /// The bits that the mode loses, unless the directory has a default ACL.
    pub umask: u32,
    /// Who makes it.
    pub caller: Caller,
}

/// Where an inode is reached.
enum Reached {
    Name(Arc<Dir>, OsString),
    Dir(Arc<Dir>),
}

impl Reached {
    fn target(&self) -> Target<'_> {
        match self {
            Self::Name(dir, name) => Target::Name(dir, name),
            Self::Dir(dir) => Target::Dir(dir),
        }
    }
}

impl Fs {
    /// A file system over a store that is open.
    pub fn new(store: Arc<dyn Volume>, options: FsOptions) -> Arc<Self> {
        Arc::new(Self {
            dirs: Dirs::new(options.open_dirs),
            store,
            options,
            inodes: Inodes::default(),
            handles: Handles::default(),
            configurations: Configurations::default(),
            revocations: Revocations::default(),
            unwritten: Unwritten::default(),
            searches: Searches::default(),
            outcomes: Outcomes::default(),
            given_up: given_up::GivenUp::default(),
            refused: Outcomes::default(),
            tree: RwLock::new(()),
            observer: OnceLock::new(),
        })
    }

    /// The store below.
    pub fn store(&self) -> &Arc<dyn Volume> {
        &self.store
    }

    /// As it was made with.
    pub fn options(&self) -> &FsOptions {
        &self.options
    }

    /// Inode number of the root directory, as attributes show it.
    pub fn root(&self) -> Ino {
        self.store.root().ino()
    }

    /// How much is in memory.
    pub fn usage(&self) -> Usage {
        let (handles, objects) = self.handles.count();
        Usage { handles, objects, inodes: self.inodes.count(), dirs: self.dirs.count(), cached: self.store.cached() }
    }

    /// Asks the kernel to forget inodes, where it knows more than the mount is to remember. To be called again and
    /// again: what it forgets it tells later.
    pub fn bound_inodes(&self) {
        let (Some(most), Some(observer)) = (self.options.most_inodes, self.observer()) else { return };
        for (parent, name) in self.inodes.beyond(most, FORGET, |ino| self.handles.is_open(ino)) {
            observer.is_stale(Stale::Name(parent, name));
        }
    }

    /// What a mount does every few seconds: commits what was modified, and has the kernel ask again how much space
    /// files have where a checkpoint changed that.
    pub fn commit_all(&self) {
        self.store.commit_all();
        self.show_resized();
        self.have_to_ask_again();
    }

    fn show_resized(&self) {
        for ino in self.store.take_resized() {
            self.tell(Stale::Attributes(ino));
        }
    }

    fn dir(&self, ino: Ino) -> Result<Arc<Dir>> {
        self.with_bucket(|bucket| self.dir_at_hand(ino, bucket))
    }

    /// The same for whoever holds a lock, and so does not open a bucket.
    fn dir_at_hand(&self, ino: Ino, bucket: Option<&Arc<Dir>>) -> std::result::Result<Arc<Dir>, Blocked> {
        let _tree = self.tree.read();
        self.dirs.get(self.store.as_ref(), &self.inodes, ino, bucket)
    }

    /// Does what takes a lock and goes to a directory under it. If the bucket is not open it is opened in between.
    fn with_bucket<T>(&self, mut act: impl FnMut(Option<&Arc<Dir>>) -> std::result::Result<T, Blocked>) -> Result<T> {
        let mut bucket = None;
        for _ in 0..TRIES {
            match act(bucket.as_ref()) {
                Ok(done) => return Ok(done),
                Err(Blocked::Refused(refusal)) => return Err(refusal),
                Err(Blocked::Bucket(name)) => bucket = Some(self.store.open_dir(self.store.root(), &name)?),
            }
        }
        Err(Refusal::Stale)
    }

    /// What a new name in that directory gets, whichever way it is made. A program that runs as the directory's group
    /// is not for others than the group's members to make, as the kernel has it too (`mode_strip_sgid`).
    fn node(&self, dir: &Arc<Dir>, creation: &Creation) -> Result<NewNode> {
        const RUNS_AS_GROUP: u32 = libc::S_ISGID | libc::S_IXGRP;
        let Creation { mut mode, umask, caller } = *creation;
        if mode & RUNS_AS_GROUP == RUNS_AS_GROUP && !caller.keeps_set_id() {
            let above = self.store.stat(Target::Dir(dir))?;
            if above.mode & libc::S_ISGID != 0 && !caller.is_in_group(above.gid) {
                mode &= !libc::S_ISGID;
            }
        }
        let owner = self.options.keep_owners.then_some((caller.uid, caller.gid));
        Ok(NewNode { mode: mode & 0o7777, umask, owner })
    }

    /// Does something with an inode where it is: its object that has a descriptor, its directory, or a name that stays
    /// its meanwhile.
    fn at<T>(&self, ino: Ino, act: impl Fn(Target<'_>) -> kmsfs_store::Result<T>) -> Result<T> {
        if let Some(object) = self.store.attached(ino) {
            return Ok(act(Target::Object(&object))?);
        }
        let (_held, reached) = self.hold(ino)?;
        just_before_use();
        Ok(act(reached.target())?)
    }

    /// Where an inode is that nobody has open, which stays so until what comes with it is dropped.
    fn hold(&self, ino: Ino) -> Result<(Held<'_>, Reached)> {
        self.with_bucket(|bucket| {
            let held = self.searches.hold(ino, ino);
            Ok((held, self.reach_at_hand(ino, bucket)?))
        })
    }

    /// Where an inode is at this moment.
    fn reach(&self, ino: Ino) -> Result<Reached> {
        self.with_bucket(|bucket| self.reach_at_hand(ino, bucket))
    }

    fn reach_at_hand(&self, ino: Ino, bucket: Option<&Arc<Dir>>) -> std::result::Result<Reached, Blocked> {
        if ino == self.root() || self.inodes.kind(ino) == Some(libc::S_IFDIR) {
            return Ok(Reached::Dir(self.dir_at_hand(ino, bucket)?));
        }
        for (parent, name) in self.inodes.names(ino) {
            match self.dir_at_hand(parent, bucket) {
                Ok(dir) => return Ok(Reached::Name(dir, name)),
                Err(Blocked::Refused(_)) => {}
                Err(blocked) => return Err(blocked),
            }
        }
        Err(Refusal::Stale.into())
    }

    /// Attributes of an inode, also of one without a name that is still open; of a configuration that is being written,
    /// with the length that it has for whoever writes it.
    pub fn getattr(&self, ino: Ino) -> Result<Attr> {
        if let Some(attr) = self.draft_attr(ino)? {
            return Ok(attr);
        }
        self.has_to_ask_again(ino);
        match self.at(ino, |target| self.store.stat_at_hand(target)) {
            Ok(attr) if attr.ino == ino => self.beyond_doubt(attr),
            Err(wait @ Refusal::WouldWait(_)) => Err(wait),
            // It has no name any more, or another one since a moment ago.
            _ => match self.inodes.remembered(ino) {
                Some(attr) => Ok(attr),
                None => self.in_place(ino)?.ok_or(Refusal::Stale),
            },
        }
    }

    /// Attributes that were found under a lock. If a crash left the length in doubt, the KMS is asked now, without one.
    fn beyond_doubt(&self, attr: Attr) -> Result<Attr> {
        if !self.store.is_in_doubt(&attr) {
            return Ok(attr);
        }
        for (parent, name) in self.inodes.names(attr.ino) {
            let found = self.dir(parent).and_then(|dir| Ok(self.store.stat(Target::Name(&dir, &name))?));
            match found {
                Ok(found) if found.ino == attr.ino => return Ok(found),
                Err(wait @ Refusal::WouldWait(_)) => return Err(wait),
                _ => {}
            }
        }
        Ok(attr)
    }

    /// For a request that shows an inode's attributes once it has changed something: what a length in doubt takes is
    /// waited for by a thread that may, which has to be found out before anything is done.
    fn may_end_doubt(&self, ino: Ino) -> Result<()> {
        if self.inodes.kind(ino) == Some(libc::S_IFREG) && self.store.may_be_in_doubt(ino) {
            self.store.keys().may_ask()?;
            waits::may_wait(Waits::Disk)?;
        }
        Ok(())
    }

    /// For a request that asks the KMS for an object's key, and then changes the object: what has to wait for a
    /// checkpoint is not begun, since it would be begun again, and the KMS asked and its answer recorded once more.
    fn may_append(&self) -> Result<()> {
        if self.store.appends_wait() { Ok(waits::may_wait(Waits::Disk)?) } else { Ok(()) }
    }

    /// Attributes beyond doubt, once something was done that cannot be done again: whatever it takes. `may_end_doubt`
    /// was called before.
    fn beyond_doubt_by_now(&self, attr: Attr) -> Attr {
        waits::whatever_it_takes(|| self.beyond_doubt(attr)).unwrap_or(attr)
    }

    /// The name is one that can be: not too long, no NUL or slash (which the kernel never sends).
    fn check_name(name: &OsStr) -> Result<()> {
        if name.as_bytes().len() > NAME_MAX { Err(Refusal::NameTooLong) } else { Ok(()) }
    }
}
