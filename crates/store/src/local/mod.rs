//! A store in a directory of a file system: `Store` and the parts that it is made of.
//!
//! `log` and `checkpoint` keep what was acknowledged, `recovery` brings it home after a crash, `segments` hold the
//! records of sidecars; `sealed` is what says which store this is and that nobody put it back; `names`, `attributes`
//! and `objects` are what users see.

pub(crate) mod admission;
pub(crate) mod attributes;
pub(crate) mod checkpoint;
pub(crate) mod gate;
pub(crate) mod inventory;
pub mod lease;
pub(crate) mod log;
pub(crate) mod names;
pub(crate) mod objects;
pub(crate) mod recovery;
pub(crate) mod reserve;
pub(crate) mod sealed;
pub(crate) mod segments;
mod volume;

use crate::backend::{self, Access, Backend, File};
use crate::local::admission::Admission;
use crate::local::attributes::values::{self, Values};
use crate::local::checkpoint::Checkpoints;
use crate::local::gate::Gate;
use crate::local::lease::{Lease, LeaseOptions, Opening, Tending, Vacant};
use crate::local::log::{Log, LogSeal};
use crate::local::names::dir::Buckets;
use crate::local::names::foresight::Foresight;
use crate::local::names::unsynced::Names;
use crate::local::objects::Objects;
use crate::local::recovery::Replayed;
use crate::local::recovery::aftermath::Aftermath;
use crate::local::recovery::birth;
use crate::local::recovery::birth::Births;
use crate::local::reserve::Reserve;
use crate::local::sealed::configured::Configured;
use crate::local::sealed::openings::{Openings, Position};
use crate::local::sealed::parameters::{BUCKETS, LOCK, LOG, META, SIDECARS, read_json};
use crate::local::sealed::seal::StoreSeal;
use crate::local::sealed::seen::Seen;
use crate::local::sealed::{parameters, seen};
use crate::local::segments::Segments;
use crate::mistakes::{Mistake, Seeded};
use crate::{Dir, Error, Ino, Result, Time, object};
use kmsfs_crypto::Suite;
use kmsfs_format::layout::{Geometry, MAX_PLAIN, PlainLen};
use kmsfs_locks::{Mutex, ranks};
use kmsfs_sse::KeyService;
use kmsfs_witness::Watch;
use std::ffi::OsStr;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// A store that is open; all clones of the `Arc` share it. Every method is safe to call from several threads.
pub struct Store {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) keys: Arc<KeyService>,
    pub(crate) root: Arc<Dir>,
    buckets: Arc<Buckets>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) log: Arc<Log>,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) reserve: Arc<Reserve>,
    pub(crate) objects: Arc<Objects>,
    pub(crate) names: Arc<Names>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) births: Arc<Births>,
    pub(crate) aftermath: Arc<Aftermath>,
    pub(crate) values: Values,
    /// For the objects that are opened, which keep the store.
    me: Weak<Self>,
    /// What is wrong with the redo log.
    damage: Option<String>,
    /// What follows the store outside it.
    seen: Option<Seen>,
    rolled_back: Option<String>,
    foresight: Foresight,
    pub(crate) seeded: Seeded,
    pub(crate) encryptions: u64,
    pub(crate) rewritten: u64,
    /// The backing file system's longest file.
    longest_file: u64,
    /// Objects with two layers of encryption may be there.
    features: parameters::Features,
    seal: Arc<StoreSeal>,
    configured: Configured,
    lease: Arc<Lease>,
    /// Renews the lease.
    tending: Mutex<ranks::Tending, Option<Tending>>,
    /// Held while the store is open.
    lock: Mutex<ranks::StoreLock, Option<Arc<dyn File>>>,
}

/// How a store is opened; the default opens it for writing as a mount does.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Nothing is changed in the directory: what is in the log is laid over what is there.
    pub read_only: bool,
    /// Go on with what a damaged log holds up to the damage: for a repair.
    pub cut_damaged_log: bool,
    /// Bytes that the redo log may hold before a checkpoint; requests under way may go beyond it.
    pub log_bound: u64,
    /// Closed objects that keep a descriptor, at most, because the log holds something of them.
    pub max_pinned: usize,
    /// Other closed objects whose descriptor is kept in case they are opened again, at most.
    pub spare_descriptors: usize,
    /// Bytes of what is verified and kept, of all objects together; open ones may go beyond it.
    pub cache: usize,
    /// Chunk encryptions under one key epoch.
    pub encryptions: u64,
    /// Bytes of disk that are kept back for a time when it is full; 0 for none.
    pub reserve: u64,
    /// Content of at most so many bytes gets a new data key in one commit; more than that chunk by chunk.
    pub rewritten: u64,
    /// For how long it is taken, and from whom.
    pub lease: LeaseOptions,
    /// Who keeps what was last seen of the store.
    pub watch: Watch,
    /// The one rule that the store breaks.
    #[cfg(feature = "testing")]
    pub mistake: Option<Mistake>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            cut_damaged_log: false,
            log_bound: log::DEFAULT_BOUND,
            max_pinned: 256,
            spare_descriptors: 256,
            cache: 64 << 20,
            encryptions: object::ENCRYPTIONS,
            reserve: 0,
            rewritten: 16 << 20,
            lease: LeaseOptions::default(),
            watch: Watch::default(),
            #[cfg(feature = "testing")]
            mistake: None,
        }
    }
}

/// What stat(2) shows of a name or an object: the backing inode's, with plaintext lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// Inode number, of the backing file system.
    pub ino: Ino,
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
    /// Number of names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Of a device, its number.
    pub rdev: u64,
    /// Plaintext length; of a symlink, its target's.
    pub size: u64,
    /// In units of 512 bytes, of the backing file.
    pub blocks: u64,
    /// Nanoseconds since 1970, here and below.
    pub atime: Time,
    /// When the content was changed last.
    pub mtime: Time,
    /// When anything was changed last.
    pub ctime: Time,
}

impl Store {
    /// Recovers the redo log, then serves.
    pub fn open(backend: Arc<dyn Backend>, keys: Arc<KeyService>, options: StoreOptions) -> Result<Arc<Self>> {
        let access = if options.read_only { Access::Read } else { Access::ReadWrite };
        let seeded = Seeded::of(&options);
        let root = backend.root()?;
        let lock = take_lock(root.as_ref(), access, &options);
        // Once, under the lock. What is wrong with a directory that is no store is said before its lock is missed.
        let json = read_json(backend.as_ref())?;
        json.store_id()?;
        let lock = lock?;
        let vacant = Vacant::wait_for(&root, backend.is_shared(), &options.lease)?;
        let reserve = Reserve::of(&backend, if options.read_only { 0 } else { options.reserve })?;
        let mut compared = seen::compare(backend.as_ref(), &json, keys.service(), &options.watch)?;
        let rolled_back = compared.finding.take();
        let reserve = Arc::new(reserve);
        let lease = vacant.take(access, &reserve)?;
        let opening = Opening::new(&lease);
        let tending = lease.tend(&reserve)?;
        let backend = lease::fenced(backend, &lease);
        let root = backend.root()?;
        if access == Access::ReadWrite {
            backend.put_modes_back()?;
            // In place, so that a full disk can be mounted.
            reserve.with_room(|| lock.write_at(&parameters::owner(std::process::id()), 0))?;
        }
        let features = parameters::Features::of(&json);
        let seal = StoreSeal::open(backend.as_ref(), json, keys.service(), access)?;
        let open = |name: &str| {
            root.open_dir(OsStr::new(name)).map_err(|error| match Error::reaching_part(name, error) {
                error @ Error::Errno(_) => {
                    Error::Unusable(format!("{name} cannot be opened ({error}): the store is damaged"))
                }
                error => error,
            })
        };
        let of_log = LogSeal::new(seal.key());
        let found = log::find(open(LOG)?.as_ref(), access, of_log, seal.takes_unsealed(), seeded)?;
        let outcome = recovery::recover(backend.as_ref(), &reserve, &found, access, options.cut_damaged_log)?;
        if let Some(damage) = &outcome.corrupt {
            ::log::error!("{damage}: the store is read-only; restore it from a backup");
        }
        let read_only = options.read_only || outcome.corrupt.is_some();
        let access = if read_only { Access::Read } else { access };
        let seen = compared.follow(seal.key());
        let log::Found { file, seal: of_log, header: before, .. } = found;
        let mut header = outcome.header;
        let log = match seal.key() {
            Some(key) if !read_only => {
                header = birth::of_version_1(backend.as_ref(), key, &header)?;
                // Listed before the log names it.
                let openings = Openings::read(backend.as_ref(), key, &before);
                header.opening = openings.begin(backend.as_ref(), key, &reserve, &before, seeded);
                if let (true, Some(seen)) = (seeded.is(Mistake::ToldTooEarly), &seen) {
                    seen.tell(Position::of(&header));
                }
                Log::start(file, of_log, &header, options.log_bound, &reserve, seeded)?
            }
            _ => {
                // A crash may have left it in the page cache alone.
                if let Some(seen) = &seen
                    && file.sync_data().is_ok()
                {
                    seen.tell(Position::of(&before));
                }
                Log::unused(file, of_log, &header)
            }
        };
        let births = Births::new(seal.key(), &log, seeded);
        let Replayed { settled, objects, segments } = outcome.replayed;
        let aftermath = Aftermath::of(settled, objects, &header, seal.key(), seeded);
        let segments = Segments::open(open(SIDECARS)?, access, segments, seeded)?;
        let root = Dir::new(open(BUCKETS)?, None, Vec::new())?;
        let buckets = Arc::new(Buckets::new(open(META)?, &keys));
        let configured = Configured::read(&backend, &seal);
        let (admission, seal) = (Arc::new(Admission::new(read_only, &lease)), Arc::new(seal));
        let (log, segments) = (Arc::new(log), Arc::new(segments));
        let (births, aftermath) = (Arc::new(births), Arc::new(aftermath));
        let (objects, names) = (Arc::new(Objects::new(&options)), Arc::new(Names::new(&backend, seeded)));
        let values = Values {
            buckets: buckets.clone(),
            seal: seal.clone(),
            objects: objects.clone(),
            aftermath: aftermath.clone(),
            seeded,
        };
        let checkpoints = Checkpoints {
            gate: Gate::new(seeded),
            settled: Mutex::new(Instant::now()),
            admission: admission.clone(),
            backend: backend.clone(),
            log: log.clone(),
            segments: segments.clone(),
            objects: objects.clone(),
            names: names.clone(),
            births: births.clone(),
            reserve: reserve.clone(),
            seeded,
        };
        let store = Arc::new_cyclic(|me| Self {
            root,
            buckets,
            segments,
            log,
            checkpoints,
            reserve,
            objects,
            names,
            admission,
            births,
            aftermath,
            values,
            me: me.clone(),
            damage: outcome.corrupt,
            seen,
            rolled_back,
            foresight: Foresight::default(),
            seeded,
            encryptions: options.encryptions,
            rewritten: options.rewritten,
            longest_file: lock.max_len(),
            features,
            configured,
            seal,
            backend,
            keys,
            lease,
            tending: Mutex::new(tending),
            lock: Mutex::new(Some(lock)),
        });
        if !read_only {
            if store.seal.takes_unlisted() {
                store.list_configurations()?;
            }
            let bound = if store.seal.takes_unsealed() { values::bind_all(&store) } else { Ok(()) };
            match bound {
                Ok(()) => store.seal.settle(store.keys.service()),
                // A full disk can be mounted too. The next mount tries again.
                Err(error) => ::log::warn!(
                    "attributes cannot be bound to their files ({error}): until they are, ones that were moved are believed"
                ),
            }
            store.reserve.keep();
            store.tell_witness();
        }
        opening.done();
        Ok(store)
    }

    /// The store, for an object that keeps it.
    pub(crate) fn shared(&self) -> Arc<Self> {
        self.me.upgrade().expect("whoever calls a store holds it, and none is made outside an Arc")
    }

    /// Renews the lease at once, for tests of who has the store. Returns whether it could be.
    #[cfg(feature = "testing")]
    pub fn renew_lease(&self) -> bool {
        self.lease.renew(&self.reserve)
    }

    /// What is wrong with the redo log, for which the store is read-only.
    pub fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// An object that is as long fits the backing file system, or EFBIG.
    pub(crate) fn check_length(&self, plain: u64, geometry: Geometry) -> Result<()> {
        let fits = plain <= MAX_PLAIN && PlainLen(plain).cipher(geometry).0 <= self.longest_file;
        if fits { Ok(()) } else { Err(Error::Errno(libc::EFBIG)) }
    }

    /// Before the first object of a cipher suite that not every kmsfs knows: from now on they refuse the store.
    pub(crate) fn allow(&self, suite: Suite) -> Result<()> {
        match suite {
            Suite::Aes256Gcm => Ok(()),
            Suite::DualAes256Gcm => self.features.add_dual_layers(self.backend.as_ref(), &self.seal),
        }
    }
}

fn take_lock(root: &dyn backend::Dir, access: Access, options: &StoreOptions) -> Result<Arc<dyn File>> {
    let name = OsStr::new(LOCK);
    let reaching = |error| Error::reaching_part(LOCK, error);
    let before = root.stat(name).map_err(reaching)?.ino;
    let lock = root.open_file(name, access).map_err(reaching)?;
    if lock.ino() != before {
        return Err(Error::Unusable(
            "a file has another inode number once it is open for writing, as in a lower layer of overlayfs: \
             copy the store to a file system of its own"
                .into(),
        ));
    }
    if let Err(error) = lock.try_lock(access == Access::ReadWrite) {
        if error.kind() != std::io::ErrorKind::WouldBlock {
            return Err(error.into());
        }
        if let Some(elsewhere) = lease::holder(root, options.lease.machine.as_ref()) {
            return Err(elsewhere);
        }
        let mut text = [0; parameters::OWNER];
        let read = lock.read_at(&mut text, 0).unwrap_or(0);
        return Err(Error::InUse(String::from_utf8_lossy(&text[..read]).trim().parse().ok()));
    }
    Ok(lock)
}
