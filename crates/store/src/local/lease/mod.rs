//! One owner for each store, on whichever machine: rules L1 to L6.
//!
//! The lock excludes whoever the file system below shows it to. Where several machines reach a store that may not be
//! all, and an owner that was cut off or frozen may go on after its lock has been given to another. So an owner has a
//! lease too: it renews a record that others watch, and obeys its end itself, by a clock that goes on while it is
//! frozen. `tests/model/lease_model.py` is the protocol as a program.

mod fence;
mod machine;
mod record;

use self::record::OwnerRecord;
use crate::backend::{Access, Dir, File};
use crate::local::reserve::Reserve;
use crate::local::sealed::parameters::PRIVATE_FILE;
use crate::{Error, Result};
use kmsfs_locks::{Mutex, ranks};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub(crate) use fence::fenced;
pub use machine::{Machine, ThisMachine};
pub use record::Identity;

/// Beside the lock.
pub(crate) const FILE: &str = "owner";
/// Of a lease on a file system that several machines reach.
const TERM: Duration = Duration::from_secs(30);
/// The longest that a claim may take, of a long lease; of a short one it is a tenth.
const LONGEST_CLAIM: Duration = Duration::from_secs(2);
/// A deadline that never comes.
const NEVER: u64 = u64::MAX;
/// The lease is over, or was given up.
const OVER: u64 = 0;

/// How long a lease lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Term {
    /// For ever: no other machine reaches the store.
    #[default]
    ForEver,
    /// 30 seconds where other machines may reach the file system below, and else for ever.
    ByFileSystem,
    /// So long, in whole seconds up to 600.
    Of(Duration),
}

/// How the store is taken into use.
#[derive(Debug, Clone)]
pub struct LeaseOptions {
    /// How long it may be used without renewing that.
    pub term: Term,
    /// Whoever had it last is known to be stopped: nothing is waited for.
    pub take_over: bool,
    /// Where this happens.
    pub machine: Arc<dyn Machine>,
    /// Says why it takes long.
    pub announce: fn(&str),
}

impl Default for LeaseOptions {
    fn default() -> Self {
        let announce = |text: &str| ::log::warn!("{text}");
        Self { term: Term::default(), take_over: false, machine: Arc::new(ThisMachine), announce }
    }
}

/// The right to use the store.
pub(crate) struct Lease {
    /// In nanoseconds of the machine's clock.
    deadline: AtomicU64,
    term: Option<Duration>,
    machine: Arc<dyn Machine>,
    /// What this mount has written; `None` of a store that is only read.
    owner: Mutex<ranks::Owner, Option<Owner>>,
}

struct Owner {
    root: Arc<dyn Dir>,
    file: Arc<dyn File>,
    record: OwnerRecord,
}

/// Renews a lease, until it is dropped.
pub(crate) struct Tending {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the record of whoever had the store last means for whoever wants it.
enum Before {
    /// Nobody has it.
    Free,
    /// Somebody may, who renews the record within this time.
    Unsure(Duration),
    /// Somebody has it, or nobody can say.
    Taken,
}

impl Lease {
    /// Whether it never runs out.
    pub(crate) fn is_for_ever(&self) -> bool {
        self.deadline.load(Ordering::Relaxed) == NEVER
    }

    /// EIO once the lease has run out.
    pub(crate) fn check(&self) -> io::Result<()> {
        loop {
            let deadline = self.deadline.load(Ordering::SeqCst);
            if deadline == NEVER || deadline != OVER && nanoseconds(self.machine.now()) < deadline {
                return Ok(());
            }
            // Not where it has been renewed since the deadline was looked at.
            if self.lose_at(deadline, "it was not renewed in time") {
                return Err(Errno::IO.into());
            }
        }
    }

    /// From now on nothing is written any more.
    fn lose(&self, why: &str) {
        while !self.lose_at(self.deadline.load(Ordering::SeqCst), why) {}
    }

    /// The same, if that is still the deadline. Said once.
    fn lose_at(&self, deadline: u64, why: &str) -> bool {
        let lost = self.deadline.compare_exchange(deadline, OVER, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if lost && deadline != OVER {
            ::log::error!(
                "this mount no longer has the store ({why}): nothing is read, written or acknowledged any more until it \
                 is mounted anew"
            );
        }
        lost
    }

    /// L2. Renews the lease, if nobody else has written the record. What fails is tried again until the lease is over.
    pub(crate) fn renew(&self, reserve: &Reserve) -> bool {
        let (Some(term), Some(owner)) = (self.term, &mut *self.owner.lock()) else { return true };
        let since = self.machine.now();
        if self.check().is_err() {
            return false;
        }
        let failed = |error: &dyn std::fmt::Display| {
            ::log::warn!("the lease on the store cannot be renewed, and is tried again: {error}");
            false
        };
        match read(owner.root.as_ref()) {
            Ok(Ok(Some(found))) if found.is_of(&owner.record) => {}
            Ok(found) => {
                let whose = found.ok().flatten();
                self.lose(&whose.map_or("its owner record was replaced".into(), |other| {
                    format!("process {} on host {} has taken it", other.process(), other.host())
                }));
                return false;
            }
            Err(error) => return failed(&error),
        }
        owner.record.renewal += 1;
        let deadline = self.deadline.load(Ordering::SeqCst);
        if self.check().is_err() {
            return false;
        }
        // Some file systems need room even to overwrite.
        let written = || owner.file.write_at(&owner.record.write(), 0).and_then(|()| owner.file.sync_data());
        if let Err(error) = reserve.with_room(written) {
            return failed(&error);
        }
        if self.check().is_err() {
            return false;
        }
        // From when it began: whoever sees the record sees it later. One that is over meanwhile stays so.
        let next = nanoseconds(since + kept(term));
        self.deadline.compare_exchange(deadline, next, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// L5. Gives the store up, so that the next one need not wait. Only what is still this mount's own.
    pub(crate) fn release(&self) {
        let Some(mut owner) = self.owner.lock().take() else { return };
        let is_own = |found: io::Result<std::result::Result<Option<OwnerRecord>, _>>| matches!(found, Ok(Ok(Some(found))) if found.is_of(&owner.record));
        if self.check().is_ok() && is_own(read(owner.root.as_ref())) && self.check().is_ok() {
            owner.record.held = false;
            let written = owner.file.write_at(&owner.record.write(), 0);
            let synced = if self.term.is_some() { written.and_then(|()| owner.file.sync_data()) } else { written };
            if let Err(error) = synced {
                ::log::warn!("the store is not recorded as free, so that the next mount may have to wait: {error}");
            }
        }
        self.deadline.store(OVER, Ordering::SeqCst);
    }

    /// Renews it from a thread, which has the privileges of the one that calls this.
    pub(crate) fn tend(self: &Arc<Self>, reserve: &Arc<Reserve>) -> io::Result<Option<Tending>> {
        let Some(term) = self.term.filter(|_| !self.is_for_ever()) else { return Ok(None) };
        let (stop, stopped) = mpsc::channel::<()>();
        let (lease, reserve) = (self.clone(), reserve.clone());
        let tend = move || {
            let mut next = term / 3;
            while stopped.recv_timeout(next) == Err(mpsc::RecvTimeoutError::Timeout) {
                next = if lease.renew(&reserve) { term / 3 } else { term / 12 };
            }
        };
        let thread = thread::Builder::new().name("kmsfs-lease".into()).spawn(tend)?;
        Ok(Some(Tending { stop: Some(stop), thread: Some(thread) }))
    }
}

/// A store that is being opened: if it cannot be, the next one need not wait.
pub(crate) struct Opening(Option<Arc<Lease>>);

impl Opening {
    pub(crate) fn new(lease: &Arc<Lease>) -> Self {
        Self(Some(lease.clone()))
    }

    /// It is open.
    pub(crate) fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(lease) = &self.0 {
            lease.release();
        }
    }
}

impl Drop for Tending {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A store whose lock the caller has, and that nobody else uses any more.
pub(crate) struct Vacant<'a> {
    root: &'a Arc<dyn Dir>,
    term: Option<Duration>,
    options: &'a LeaseOptions,
    /// What was recorded of the one that had it last.
    last: Option<OwnerRecord>,
}

impl<'a> Vacant<'a> {
    /// L4. Waits until whoever had the store last has obeyed the end of its lease, or says who has it. `shared`: other
    /// machines may reach it. Nothing is written.
    pub(crate) fn wait_for(root: &'a Arc<dyn Dir>, shared: bool, options: &'a LeaseOptions) -> Result<Self> {
        let term = match options.term {
            Term::Of(term) => Some(term.clamp(Duration::from_secs(1), record::LONGEST)),
            Term::ByFileSystem => shared.then_some(TERM),
            Term::ForEver => None,
        };
        let doubted = options.take_over || term.is_none();
        let nobody = |why: &dyn std::fmt::Display| {
            ::log::warn!("{why}: the lock alone says that nobody has the store");
            None
        };
        let last = match read(root.as_ref()) {
            Ok(Ok(found)) => found,
            Ok(Err(why)) if doubted => nobody(&why),
            Ok(Err(why)) => return Err(Error::Unusable(why.to_string())),
            Err(error) if doubted => nobody(&format_args!("the owner record cannot be read: {error}")),
            Err(error) => return Err(error.into()),
        };
        let vacant = Self { root, term, options, last };
        let Some(last) = &vacant.last else { return Ok(vacant) };
        match vacant.before(last) {
            Before::Free => {}
            Before::Taken | Before::Unsure(_) if options.take_over => {}
            Before::Taken => return Err(taken(last)),
            Before::Unsure(term) => vacant.watch(last, term)?,
        }
        Ok(vacant)
    }

    fn watch(&self, last: &OwnerRecord, term: Duration) -> Result<()> {
        let LeaseOptions { machine, announce, .. } = self.options;
        let (process, host, seconds) = (last.process(), last.host(), term.as_secs());
        announce(&format!(
            "process {process} on host {host} had the store last and did not give it up: it is taken if that shows no sign \
             of life within {seconds} s (if that host is known to be down, --take-over does not wait)"
        ));
        let since = machine.now();
        while machine.now() < since + term {
            machine.pause((term / 50).min(Duration::from_millis(500)));
            self.is_unchanged()?;
        }
        Ok(())
    }

    /// An error that says who has the store, if the record is another than it was.
    fn is_unchanged(&self) -> Result<()> {
        let found = read(self.root.as_ref())?;
        if matches!(&found, Ok(found) if *found == self.last) {
            return Ok(());
        }
        Err(found.ok().flatten().as_ref().map_or(Error::InUse(None), taken))
    }

    /// Takes the store. One that is only read is not written, and needs no lease.
    pub(crate) fn take(self, access: Access, reserve: &Reserve) -> Result<Arc<Lease>> {
        let LeaseOptions { machine, .. } = self.options;
        let lease = |deadline, owner| {
            let (deadline, owner) = (AtomicU64::new(deadline), Mutex::new(owner));
            Arc::new(Lease { deadline, term: self.term, machine: machine.clone(), owner })
        };
        if access == Access::Read {
            return Ok(lease(NEVER, None));
        }
        let root = self.root.clone();
        let record = OwnerRecord::new(&machine.identity(), self.term, self.last.as_ref());
        let Some(term) = self.term else {
            if self.last.is_none() {
                return Ok(lease(NEVER, None));
            }
            // A store that is used with leases at other times: it tells others who has the store.
            let file = self.open(reserve).and_then(|file| file.write_at(&record.write(), 0).map(|()| file));
            let file = file.inspect_err(|why| ::log::debug!("who has the store is not recorded: {why}")).ok();
            return Ok(lease(NEVER, file.map(|file| Owner { root, file, record })));
        };
        let (file, since) = self.claim(term, &record, reserve)?;
        Ok(lease(nanoseconds(since + kept(term)), Some(Owner { root, file, record })))
    }

    fn before(&self, last: &OwnerRecord) -> Before {
        let machine = &self.options.machine;
        let me = machine.identity();
        let unsure = |renewed: Option<Duration>| match renewed {
            Some(term) => Before::Unsure(term),
            // It renews nothing, so that its silence says nothing.
            None => Before::Taken,
        };
        if !last.held {
            return Before::Free;
        }
        if self.term.is_none() && last.term().is_none() {
            // The lock decides: the record may be of another machine whose disk this was, or of the store that this
            // is a copy of.
            return Before::Free;
        }
        if !last.is_of_boot(&me) {
            return unsure(last.term());
        }
        if last.is_of_namespace(&me) {
            // The lock says that this process does not have it any more; one that goes on may be about to end.
            let ended = last.process() == me.process || !machine.is_alive(last.process(), last.started());
            if ended {
                return Before::Free;
            }
        }
        unsure(last.term())
    }

    /// The record's file, which a store of an earlier version does not have.
    fn open(&self, reserve: &Reserve) -> io::Result<Arc<dyn File>> {
        let name = OsStr::new(FILE);
        match self.root.open_file(name, Access::ReadWrite) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = reserve.with_room(|| self.root.create_file(name, &PRIVATE_FILE))?;
                if self.term.is_some() {
                    self.root.sync()?;
                }
                Ok(file)
            }
            file => file,
        }
    }

    /// L3. Writes the record, and looks at it once more after everybody else who wanted to must have written theirs:
    /// the lock may have been given to two. Returns when it was looked at before.
    fn claim(&self, term: Duration, record: &OwnerRecord, reserve: &Reserve) -> Result<(Arc<dyn File>, Duration)> {
        let LeaseOptions { machine, take_over, .. } = self.options;
        let most = (term / 10).min(LONGEST_CLAIM);
        let file = self.open(reserve)?;
        let since = machine.now();
        if !take_over {
            self.is_unchanged()?;
        }
        reserve.with_room(|| file.write_at(&record.write(), 0).and_then(|()| file.sync()))?;
        if machine.now() > since + most {
            return Err(Error::Unusable(format!(
                "it took the file system more than {} ms to write who has the store, too long for a lease of {} s: try \
                 again, or mount it with a longer one (-o lease=SECONDS)",
                most.as_millis(),
                term.as_secs()
            )));
        }
        machine.pause(most + most / 4);
        match read(self.root.as_ref())? {
            Ok(Some(found)) if found.is_of(record) => Ok((file, since)),
            found => Err(found.ok().flatten().as_ref().map_or(Error::InUse(None), taken)),
        }
    }
}

/// Who has the store, for whoever has not got the lock.
pub(crate) fn holder(root: &dyn Dir, machine: &dyn Machine) -> Option<Error> {
    let found = read(root).ok()?.ok().flatten().filter(|found| found.held)?;
    (!found.is_of_boot(&machine.identity())).then(|| taken(&found))
}

fn taken(by: &OwnerRecord) -> Error {
    Error::Owned { host: by.host().to_owned(), process: by.process() }
}

/// The record as it is on the disk now.
fn read(root: &dyn Dir) -> io::Result<std::result::Result<Option<OwnerRecord>, record::Unreadable>> {
    match root.read_past_caches(OsStr::new(FILE), record::LEN + 1) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Ok(None)),
        bytes => Ok(OwnerRecord::read(&bytes?)),
    }
}

/// L2. What an owner keeps of its term: a tenth is for clocks that drift.
fn kept(term: Duration) -> Duration {
    term * 9 / 10
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(NEVER - 1)
}
