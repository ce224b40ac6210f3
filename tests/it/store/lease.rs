//! The lease on a store that several machines reach, where the lock excludes nobody: rules L1 to L6.

use super::*;
use kmsfs_store::Error;
use kmsfs_store::lease::{Identity, LeaseOptions, Machine, Term};
use kmsfs_testing::disk::CrashPoint;
use std::ffi::OsString;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

const TERM: Duration = Duration::from_secs(30);

/// The time that all machines share, in nanoseconds. It goes on where somebody waits, and where a test says so.
type Clock = Arc<AtomicU64>;
/// What happens at the machine's next looks at the clock.
type Meanwhile = Box<dyn FnMut() + Send>;

/// A machine of its own, on which a mount is the only process.
struct Host {
    name: &'static str,
    clock: Clock,
    looks: AtomicUsize,
    /// Which look is interrupted, and by what.
    frozen: Mutex<Option<(usize, Meanwhile)>>,
    /// What others do while it waits.
    waiting: Mutex<Option<Meanwhile>>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Host {
    fn new(name: &'static str, clock: &Clock) -> Arc<Self> {
        let (frozen, waiting) = (Mutex::new(None), Mutex::new(None));
        Arc::new(Self { name, clock: clock.clone(), looks: AtomicUsize::new(0), frozen, waiting })
    }

    fn options(self: &Arc<Self>) -> StoreOptions {
        let lease = LeaseOptions { term: Term::Of(TERM), machine: self.clone(), ..LeaseOptions::default() };
        StoreOptions { lease, ..StoreOptions::default() }
    }

    fn taking_over(self: &Arc<Self>) -> StoreOptions {
        let options = self.options();
        StoreOptions { lease: LeaseOptions { take_over: true, ..options.lease.clone() }, ..options }
    }
}

impl Machine for Host {
    fn now(&self) -> Duration {
        let look = self.looks.fetch_add(1, Ordering::SeqCst);
        let interrupted = self.frozen.lock().take_if(|(at, _)| *at == look);
        if let Some((_, act)) = interrupted {
            // From another thread, which has taken no locks.
            std::thread::spawn(act).join().unwrap();
        }
        Duration::from_nanos(self.clock.load(Ordering::SeqCst))
    }

    fn identity(&self) -> Identity {
        Identity { host: self.name.into(), boot: self.name.into(), namespace: 1, process: 77, started: 5 }
    }

    fn is_alive(&self, _: u32, _: u64) -> bool {
        false
    }

    fn pause(&self, time: Duration) {
        self.clock.fetch_add(time.as_nanos() as u64, Ordering::SeqCst);
        let act = self.waiting.lock().take();
        if let Some(mut act) = act {
            act();
            self.waiting.lock().get_or_insert(act);
        }
    }
}

/// A disk that two machines reach, whose lock excludes nobody.
fn shared() -> (SimulatedDisk, Arc<KeyService>, Clock) {
    let (disk, keys) = new_disk();
    disk.grant_all_locks();
    (disk, keys, Clock::default())
}

fn try_open(disk: &SimulatedDisk, keys: &Arc<KeyService>, options: &StoreOptions) -> Result<Arc<Store>, Error> {
    Store::open(Arc::new(disk.clone()), keys.clone(), options.clone())
}

fn taken(by: &str) -> Error {
    Error::Owned { host: by.into(), process: 77 }
}

fn eio<T: fmt::Debug>(done: Result<T, Error>) {
    assert_eq!(done.map(drop), Err(Error::Errno(libc::EIO)));
}

fn content(store: &Arc<Store>, name: &str) -> Vec<u8> {
    let object = open_object(store, &bucket(store), name);
    let mut found = vec![0; object.attr().unwrap().size as usize];
    assert_eq!(object.read(0, &mut found).unwrap(), found.len());
    store.release(&object);
    found
}

#[test]
fn an_owner_that_is_alive_is_not_taken_from_and_is_named() {
    let (disk, keys, clock) = shared();
    let owner = try_open(&disk, &keys, &Host::new("alpha", &clock).options()).unwrap();
    let object = create(&owner, &bucket(&owner), "object");
    let other = Host::new("beta", &clock);
    let (renewed, since) = (owner.clone(), clock.clone());
    let mut last = 0;
    *other.waiting.lock() = Some(Box::new(move || {
        let now = since.load(Ordering::SeqCst);
        if now - last >= TERM.as_nanos() as u64 / 3 {
            assert!(renewed.renew_lease());
            last = now;
        }
    }));
    assert_eq!(try_open(&disk, &keys, &other.options()).err(), Some(taken("alpha")));
    assert!(clock.load(Ordering::SeqCst) < TERM.as_nanos() as u64, "it is known before the wait is over");
    object.write(0, b"mine").unwrap();
    object.fsync().unwrap();
    owner.close().unwrap();
}

#[test]
fn whoever_follows_a_clean_end_does_not_wait_for_it() {
    let (disk, keys, clock) = shared();
    for (host, read_only) in [("alpha", false), ("beta", false), ("gamma", true), ("alpha", false)] {
        let options = StoreOptions { read_only, ..Host::new(host, &clock).options() };
        try_open(&disk, &keys, &options).unwrap().close().unwrap();
    }
    assert!(clock.load(Ordering::SeqCst) < TERM.as_nanos() as u64);
}

#[test]
fn a_process_that_was_killed_on_the_same_machine_is_not_waited_for() {
    let (disk, keys, clock) = shared();
    let options = Host::new("alpha", &clock).options();
    drop(try_open(&disk, &keys, &options).unwrap());
    try_open(&disk, &keys, &options).unwrap().close().unwrap();
    assert!(clock.load(Ordering::SeqCst) < TERM.as_nanos() as u64);
}

#[test]
fn whoever_takes_over_by_hand_does_not_wait_and_the_owner_stops_when_it_looks() {
    let (disk, keys, clock) = shared();
    let owner = try_open(&disk, &keys, &Host::new("alpha", &clock).options()).unwrap();
    let object = create(&owner, &bucket(&owner), "object");
    let next = try_open(&disk, &keys, &Host::new("beta", &clock).taking_over()).unwrap();
    assert!(clock.load(Ordering::SeqCst) < TERM.as_nanos() as u64);
    assert!(!owner.renew_lease());
    eio(object.write(0, b"too late"));
    next.close().unwrap();
}

#[test]
fn of_two_that_have_the_lock_and_claim_the_store_one_gets_it() {
    let (disk, keys, clock) = shared();
    let (first, second) = (Host::new("alpha", &clock), Host::new("beta", &clock));
    // While the first one waits for whoever else has claimed it, a second one does, which had waited for its silence.
    let (there, with) = (disk.clone(), keys.clone());
    let mut left = Some(second);
    *first.waiting.lock() = Some(Box::new(move || {
        if let Some(second) = left.take() {
            let store = try_open(&there, &with, &second.taking_over()).unwrap();
            drop(bucket(&store));
            std::mem::forget(store);
        }
    }));
    assert_eq!(try_open(&disk, &keys, &first.options()).err(), Some(taken("beta")));
}

#[test]
fn a_record_that_is_damaged_or_of_an_owner_that_renews_nothing_is_refused_until_it_is_taken_over() {
    let (disk, keys, clock) = shared();
    let alpha = Host::new("alpha", &clock).options();
    try_open(&disk, &keys, &alpha).unwrap().close().unwrap();
    let local = LeaseOptions { term: Term::ForEver, ..alpha.lease.clone() };
    drop(try_open(&disk, &keys, &StoreOptions { lease: local, ..alpha }).unwrap());
    let beta = Host::new("beta", &clock);
    disk.watch(|_| panic!("a store that is refused was changed"));
    assert_eq!(try_open(&disk, &keys, &beta.options()).err(), Some(taken("alpha")));
    disk.unwatch();
    let record = disk.root().unwrap().open_file(OsStr::new("owner"), kmsfs_store::backend::Access::ReadWrite).unwrap();
    record.write_at(b"\0", 100).unwrap();
    disk.watch(|_| panic!("a store that is refused was changed"));
    let refused = try_open(&disk, &keys, &beta.options()).err();
    disk.unwatch();
    let Some(Error::Unusable(text)) = refused else { panic!("{refused:?}") };
    assert!(text.contains("--take-over"), "{text}");
    try_open(&disk, &keys, &beta.taking_over()).unwrap().close().unwrap();
    assert_eq!(clock.load(Ordering::SeqCst) / TERM.as_nanos() as u64, 0);
}

/// What the first owner was told, as the second one finds it.
#[derive(Default)]
struct Told {
    /// Each has a content of its own, under its own name.
    synced: Vec<String>,
}

/// Creates, syncs, overwrites and renames, until something fails.
fn work(store: &Arc<Store>, told: &Mutex<Told>) -> Result<(), Error> {
    let dir = store.open_dir(store.root(), OsStr::new(BUCKET))?;
    for number in 0..3 {
        let name = format!("object-{number}");
        let (object, _) = store.create(&dir, OsStr::new(&name), &NODE, &aes256(), &name, &CALLER)?;
        for chunk in 0..2 {
            object.write(chunk * 4096, &name.as_bytes().repeat(4096 / name.len()))?;
        }
        object.fsync()?;
        object.write(0, name.to_uppercase().as_bytes())?;
        object.fsync()?;
        store.fsync_dir(&dir)?;
        told.lock().synced.push(name);
        store.release(&object);
        store.checkpoint()?;
    }
    Ok(())
}

/// Names and bytes of all files of the disk, but for what the record says.
fn everything(disk: &CrashPoint) -> Vec<(OsString, Vec<u8>)> {
    let disk = disk.kill();
    let mut found = Vec::new();
    let mut left = vec![disk.root().unwrap()];
    while let Some(dir) = left.pop() {
        let mut names = Vec::new();
        dir.read(0, &mut |entry| {
            names.push((entry.name.to_owned(), entry.kind));
            true
        })
        .unwrap();
        for (name, kind) in names {
            if kind == libc::S_IFDIR {
                left.push(dir.open_dir(&name).unwrap());
            } else if kind == libc::S_IFREG {
                let file = dir.open_file(&name, kmsfs_store::backend::Access::Read).unwrap();
                let mut bytes = vec![0; file.metadata().unwrap().len as usize];
                file.read_at(&mut bytes, 0).unwrap();
                found.push((name, bytes));
            }
        }
    }
    found.sort();
    found
}

/// The owner is frozen at each of its looks at the clock in turn, until another machine has taken the store over, and
/// woken up again.
#[test]
fn an_owner_that_is_frozen_anywhere_loses_nothing_it_acknowledged_and_destroys_nothing_when_it_wakes() {
    for look in 0.. {
        let (disk, keys, clock) = shared();
        let store = try_open(&disk, &keys, &Host::new("alpha", &clock).options()).unwrap();
        drop(bucket(&store));
        store.close().unwrap();
        let frozen = Host::new("alpha", &clock);
        let store = try_open(&disk, &keys, &frozen.options()).unwrap();
        let told = Arc::new(Mutex::new(Told::default()));
        let next = Arc::new(Mutex::new(None));
        let at = frozen.looks.load(Ordering::SeqCst) + look;
        let (there, with, since, seen, by) = (disk.clone(), keys.clone(), clock.clone(), told.clone(), next.clone());
        let take_over = move || {
            let store = try_open(&there, &with, &Host::new("beta", &since).options()).unwrap();
            for name in &seen.lock().synced {
                assert_eq!(content(&store, name)[..name.len()], *name.to_uppercase().as_bytes());
            }
            let object = create(&store, &bucket(&store), "of beta");
            object.write(0, b"beta's").unwrap();
            object.fsync().unwrap();
            *by.lock() = Some((store, object, seen.lock().synced.len(), there.crash_point()));
        };
        *frozen.frozen.lock() = Some((at, Box::new(take_over)));
        let done = work(&store, &told);
        let taken = next.lock().take();
        let Some((heir, object, synced, before)) = taken else {
            done.unwrap();
            assert!(look > 50, "{look} looks at the clock are too few");
            return;
        };
        assert!(done.is_err(), "look {look}");
        assert_eq!(told.lock().synced.len(), synced, "look {look}: something was acknowledged after it");
        assert!(!store.renew_lease());
        let _ = store.close();
        drop(store);
        assert!(everything(&disk.crash_point()) == everything(&before), "look {look}: the disk was changed");
        object.write(0, b"BETA'S").unwrap();
        object.fsync().unwrap();
        heir.release(&object);
        heir.close().unwrap();
        let last = try_open(&disk, &keys, &Host::new("gamma", &clock).options()).unwrap();
        assert_eq!(content(&last, "of beta"), b"BETA'S", "look {look}");
        last.close().unwrap();
    }
}
