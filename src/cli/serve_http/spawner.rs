//! The process that makes workers: one for each user of the machine, with that user's uid, gid and groups and nothing
//! more. It is started before a secret is read, and is asked by the authority alone.

use super::worker::{self, Identity};
use crate::cli::helper::{Answer, Channel, Duty, Helper};
use crate::cli::sandbox;
use kmsfs_gateway::Locks;
use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::process::{WaitOptions, geteuid, wait};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const CONNECT: u8 = 1;
/// Workers that may be made at the same time.
const CHANNELS: usize = 4;
/// How long the last calls of workers may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Users who are served at the same time; each takes a process.
const MOST: usize = 256;

/// The spawner, as the authority sees it.
pub struct Spawner {
    helper: Helper,
}

impl Spawner {
    /// `mountpoint`: absolute, without symlinks.
    pub fn start(mountpoint: &Path, confined: bool) -> io::Result<Self> {
        let about = About { mountpoint: mountpoint.as_os_str().as_bytes().to_vec(), confined };
        Ok(Self { helper: Helper::start::<Spawning>(&about, CHANNELS)? })
    }

    pub fn expect_ready(&self) -> io::Result<()> {
        self.helper.expect_ready()
    }

    /// A new connection to that user's worker, which is made if there is none.
    ///
    /// # Errors
    /// `EPERM` where this process may not become that user, `EUSERS` where there are too many.
    pub fn connect(&self, identity: &Identity) -> io::Result<OwnedFd> {
        let question = serde_json::to_vec(identity)?;
        let answer = Channel::ask_any(&self.helper.channels, CONNECT, &question)?;
        answer.descriptor.ok_or(io::ErrorKind::InvalidData.into())
    }

    /// Ends it and all workers, which have nobody left to work for, and waits for that: until then they use the mount.
    pub fn end(&self) {
        self.helper.end(PATIENCE);
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub struct About {
    pub mountpoint: Vec<u8>,
    pub confined: bool,
}

/// The process's own side.
pub struct Spawning {
    about: About,
    /// Of all workers.
    locks: Result<Locks, i32>,
    workers: Mutex<HashMap<u32, Arc<Mutex<Option<Worker>>>>>,
}

struct Worker {
    identity: Identity,
    helper: Helper,
}

impl Duty for Spawning {
    const WORD: &'static str = "__spawn_workers";
    type About = About;

    fn begin(about: About, _: Vec<OwnedFd>) -> Self {
        if about.confined {
            sandbox::enter_as_spawner();
        }
        let locks = Locks::new().map_err(|error| error.raw_os_error().unwrap_or(libc::EIO));
        Self { about, locks, workers: Mutex::default() }
    }

    fn obey(&self, verb: u8, what: &[u8]) -> io::Result<Answer> {
        if verb != CONNECT {
            return Err(Errno::INVAL.into());
        }
        let identity: Identity = serde_json::from_slice(what)?;
        let own = geteuid();
        if !own.is_root() && own.as_raw() != identity.uid {
            return Err(Errno::PERM.into());
        }
        self.connect(&identity)
    }

    /// After the workers.
    fn end(&self) {
        for worker in self.workers.lock().values() {
            if let Some(worker) = worker.lock().as_ref() {
                worker.helper.end(PATIENCE);
            }
        }
    }
}

impl Spawning {
    /// A worker that has ended, or whose user has other groups by now, is replaced; what the old one is doing it does
    /// to its end.
    fn connect(&self, identity: &Identity) -> io::Result<Answer> {
        let place = self.place(identity.uid)?;
        let mut worker = place.lock();
        if let Some(known) = worker.as_ref().filter(|known| known.identity == *identity)
            && let Ok(answer) = worker::connect(&known.helper)
        {
            return Ok(answer);
        }
        *worker = None;
        reap();
        let about = worker::About { spawner: self.about.clone(), identity: identity.clone() };
        let locks = self.locks.as_ref().map_err(|errno| io::Error::from_raw_os_error(*errno))?;
        let helper = Helper::start_with::<worker::Serving>(&about, 1, &[locks.descriptor()])?;
        helper.expect_ready()?;
        let answer = worker::connect(&helper)?;
        *worker = Some(Worker { identity: identity.clone(), helper });
        Ok(answer)
    }

    fn place(&self, uid: u32) -> io::Result<Arc<Mutex<Option<Worker>>>> {
        let mut workers = self.workers.lock();
        if workers.len() >= MOST && !workers.contains_key(&uid) {
            return Err(Errno::USERS.into());
        }
        Ok(Arc::clone(workers.entry(uid).or_default()))
    }
}

/// Those that have ended.
fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}
