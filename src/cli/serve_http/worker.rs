//! A worker: a process that uses files as exactly one user, by uid, gid and groups, and does on the mount what that
//! user's signed requests ask for. The kernel checks what it may; nothing here does.
//!
//! It is the user to the file system alone. Its real, effective and saved uids are nobody's, so that the user, who may
//! stop, trace and slow down every process with the user's own uid, has no such power over it.

use super::spawner;
use crate::cli::helper::{self, Answer, Duty, Helper, pair};
use crate::cli::logging::{self, Sink};
use crate::cli::{harden, sandbox};
use kmsfs_gateway::{Locks, Worker};
use kmsfs_s3::answer::Owner;
use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_keep_capabilities, set_thread_gid, set_thread_groups,
    set_thread_uid,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// The real, effective and saved uid of all workers but root's. It is nobody's, as the front's is.
const NOBODY: u32 = 65533;
/// Connections at a time: a front that works has one, and others for uploads that have taken long.
const MOST_CONNECTIONS: usize = 64;

/// How long requests may come over a connection whose time is over: they have waited.
const LAST_REQUESTS: Duration = Duration::from_secs(300);

/// A user of the machine, as the kernel knows one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// All of them, in ascending order.
    pub groups: Vec<u32>,
    /// For answers that name the owner.
    pub name: String,
    /// Of the keyring.
    pub account: String,
}

#[derive(Serialize, Deserialize)]
pub struct About {
    pub spawner: spawner::About,
    pub identity: Identity,
}

/// A worker, as the spawner sees it.
pub struct Started {
    pub helper: Helper,
    /// By which it is passed connections.
    door: OwnedFd,
}

impl Started {
    /// Does not wait until it has become the user.
    pub fn new(about: &About, locks: &Locks) -> io::Result<Self> {
        let (door, theirs) = pair()?;
        let helper = Helper::start_with::<Serving>(about, 0, &[locks.descriptor(), theirs.as_fd()])?;
        Ok(Self { helper, door })
    }

    /// Has it serve a connection, as soon as it can.
    ///
    /// # Errors
    /// It has ended, or has not taken many before.
    pub fn pass(&self, connection: &UnixStream) -> io::Result<()> {
        helper::pass(&self.door, connection.as_fd())
    }
}

/// The process's own side.
pub struct Serving {
    /// `None` where it could not become the user.
    open: Option<Arc<Open>>,
}

/// Which connections there are.
struct Open {
    connections: Mutex<Connections>,
    fewer: Condvar,
    door: OwnedFd,
    /// Of connections, and without any.
    lifetime: Duration,
}

struct Connections {
    count: usize,
    /// None has come since, nor gone.
    since: Instant,
    /// Until none can come any more.
    is_attended: bool,
}

impl Duty for Serving {
    const WORD: &'static str = "__serve_user";
    const TELLS: bool = true;
    type About = About;

    /// The locks and the door.
    fn given(_: &About) -> usize {
        2
    }

    fn begin(about: About, given: Vec<OwnedFd>) -> Self {
        harden::forbid_dumps();
        logging::start(Sink::Stderr, None);
        match begin(&about, given) {
            Ok(open) => Self { open: Some(open) },
            Err(error) => {
                log::error!("the worker of {} cannot begin: {error}", about.identity.name);
                Self { open: None }
            }
        }
    }

    /// It is asked for nothing but connections.
    fn obey(&self, _: u8, _: &[u8]) -> io::Result<Answer> {
        Err(Errno::INVAL.into())
    }

    /// Nobody asks it for anything, or nobody can.
    fn is_orphaned(&self) -> bool {
        self.open.as_ref().is_none_or(|open| {
            let connections = open.connections.lock();
            connections.count == 0 && connections.since.elapsed() >= open.lifetime
        })
    }

    /// What is being done is done to its end. That goes for connections that have been passed, of which the last ones
    /// are still to be taken; whoever would pass another one is told at once that nobody takes it.
    fn end(&self) {
        let Some(open) = &self.open else { return };
        let _ = shutdown(&open.door, Shutdown::Read);
        let mut connections = open.connections.lock();
        while connections.count > 0 || connections.is_attended {
            open.fewer.wait(&mut connections);
        }
    }
}

/// A connection, as long as it is there.
struct Counted(Arc<Open>);

impl Counted {
    /// `None` if there are too many.
    fn new(open: &Arc<Open>) -> Option<Self> {
        let mut connections = open.connections.lock();
        if connections.count >= MOST_CONNECTIONS {
            return None;
        }
        connections.count += 1;
        Some(Self(Arc::clone(open)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut connections = self.0.connections.lock();
        connections.count -= 1;
        connections.since = Instant::now();
        self.0.fewer.notify_all();
    }
}

/// Serves what comes through the door, each connection from a thread of its own.
fn attend(worker: &Arc<Worker>, open: &Arc<Open>) -> io::Result<()> {
    while let Some(connection) = helper::take(&open.door)? {
        let connection = UnixStream::from(connection);
        let Some(counted) = Counted::new(open) else {
            log::error!("a connection is refused: there are {MOST_CONNECTIONS} of this user");
            continue;
        };
        let worker = Arc::clone(worker);
        // The front lets go of it before, and does not wait for answers that long.
        let lifetime = open.lifetime.saturating_add(LAST_REQUESTS);
        let serving = move || {
            let _counted = counted;
            if let Err(error) = kmsfs_gateway::serve(&worker, &connection, lifetime) {
                log::error!("a connection of a worker has ended: {error}");
            }
        };
        // Where there is no thread it is closed.
        if let Err(error) = thread::Builder::new().spawn(serving) {
            log::error!("a connection is refused: {error}");
        }
    }
    Ok(())
}

/// Becomes the user, while there is one thread, gives up what is left, and opens the door.
fn begin(about: &About, mut given: Vec<OwnedFd>) -> io::Result<Arc<Open>> {
    let Identity { uid, gid, groups, name, account } = &about.identity;
    if geteuid().is_root() {
        become_user(*uid, *gid, groups)?;
    } else if geteuid().as_raw() != *uid {
        return Err(Errno::PERM.into());
    }
    // It becomes dumpable with another uid.
    harden::forbid_dumps();
    let mountpoint = Path::new(OsStr::from_bytes(&about.spawner.mountpoint));
    let door = given.pop().ok_or(Errno::INVAL)?;
    let locks = Locks::of(given.pop().ok_or(Errno::INVAL)?);
    let worker = Arc::new(Worker::open(mountpoint, locks, owner(account, name))?);
    if about.spawner.confined
        && let Err(reason) = sandbox::enter_as_worker(mountpoint)
    {
        log::warn!("{reason}");
    }
    let connections = Connections { count: 0, since: Instant::now(), is_attended: true };
    let lifetime = about.spawner.worker_lifetime;
    let open = Arc::new(Open { connections: Mutex::new(connections), fewer: Condvar::new(), door, lifetime });
    let known = Arc::clone(&open);
    let attending = move || {
        if let Err(error) = attend(&worker, &known) {
            log::error!("a worker is passed no more connections: {error}");
        }
        known.connections.lock().is_attended = false;
        known.fewer.notify_all();
    };
    thread::Builder::new().spawn(attending)?;
    Ok(open)
}

/// Uses files as the user, without capabilities. Root's is root altogether: nobody else has power over that.
fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    let groups: Vec<_> = groups.iter().copied().map(Gid::from_raw).collect();
    set_thread_groups(&groups)?;
    set_thread_gid(Gid::from_raw(gid))?;
    if uid == 0 {
        return Ok(());
    }
    // Another user of files takes a capability, which goes with the uids unless it is kept.
    set_keep_capabilities(true)?;
    set_thread_uid(Uid::from_raw(NOBODY))?;
    let only = |kept| CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, only(CapabilitySet::SETUID))?;
    kmsfs_sys::set_file_user(uid)?;
    set_capabilities(None, only(CapabilitySet::empty()))?;
    Ok(())
}

/// S3's canonical user id is 64 hexadecimal digits that say nothing; the same ones wherever the account is the same.
fn owner(account: &str, name: &str) -> Owner {
    let id = hex::encode(Sha256::digest(format!("kmsfs canonical user {account}/{name}")));
    Owner { id, display_name: name.to_owned() }
}
