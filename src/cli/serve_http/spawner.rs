//! The process that makes workers: one for each user of the machine, with that user's uid, gid and groups and nothing
//! more. It is started before a secret is read, and is asked by the authority alone.
//!
//! It never waits for a worker: what it has for one it puts in a queue, and whoever does not empty the queue is
//! replaced.

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
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

const CONNECT: u8 = 1;
/// Questions at the same time.
const CHANNELS: usize = 4;
/// How long the last calls of workers may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The spawner, as the authority sees it.
pub struct Spawner {
    helper: Helper,
}

impl Spawner {
    pub fn start(about: &About) -> io::Result<Self> {
        Ok(Self { helper: Helper::start::<Spawning>(about, CHANNELS)? })
    }

    pub fn expect_ready(&self) -> io::Result<()> {
        self.helper.expect_ready()
    }

    /// A new connection to that user's worker, which is made if there is none. A worker that cannot begin ends it.
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
    /// Absolute, without symlinks.
    pub mountpoint: Vec<u8>,
    pub confined: bool,
    /// Users who are served at the same time; each takes a process.
    pub most_workers: usize,
    /// Without a connection; connections have it too.
    pub worker_lifetime: Duration,
}

impl About {
    pub fn new(mountpoint: &Path, confined: bool, most_workers: usize, worker_lifetime: Duration) -> Self {
        Self { mountpoint: mountpoint.as_os_str().as_bytes().to_vec(), confined, most_workers, worker_lifetime }
    }
}

/// The process's own side.
pub struct Spawning {
    about: About,
    /// Of all workers.
    locks: Result<Locks, i32>,
    workers: Mutex<Workers>,
}

/// All workers that there are.
#[derive(Default)]
struct Workers {
    /// By their users' uids.
    known: HashMap<u32, Known>,
    /// Which do what they were asked for to its end, and nothing more.
    ending: Vec<Helper>,
}

struct Known {
    identity: Identity,
    worker: worker::Started,
    /// When somebody has come to it last.
    last: Instant,
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
        let connection = self.connect(&identity)?;
        Ok(Answer { descriptor: Some(connection.into()), ..Answer::default() })
    }

    /// After the workers, all of which have the same time for it.
    fn end(&self) {
        let mut workers = self.workers.lock();
        workers.end_all();
        let since = Instant::now();
        for helper in workers.ending.drain(..) {
            helper.end(PATIENCE.saturating_sub(since.elapsed()));
        }
    }
}

impl Spawning {
    /// A worker that has ended, takes nothing, or whose user has other groups by now, is replaced; what the old one is
    /// doing it does to its end.
    fn connect(&self, identity: &Identity) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut workers = self.workers.lock();
        workers.reap();
        if let Some(known) = workers.known.get_mut(&identity.uid)
            && known.identity == *identity
            && known.worker.pass(&theirs).is_ok()
        {
            known.last = Instant::now();
            return Ok(ours);
        }
        workers.end(identity.uid);
        workers.make_room(self.about.most_workers)?;
        let locks = self.locks.as_ref().map_err(|errno| io::Error::from_raw_os_error(*errno))?;
        let about = worker::About { spawner: self.about.clone(), identity: identity.clone() };
        let worker = worker::Started::new(&about, locks)?;
        worker.pass(&theirs)?;
        workers.known.insert(identity.uid, Known { identity: identity.clone(), worker, last: Instant::now() });
        Ok(ours)
    }
}

impl Workers {
    /// Those that have ended are forgotten.
    fn reap(&mut self) {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        self.known.retain(|_, known| !known.worker.helper.is_gone());
        self.ending.retain(|helper| !helper.is_gone());
    }

    /// For another one. Whoever has not been asked for longest gives way.
    ///
    /// # Errors
    /// `EUSERS`: as many again have not come to their end.
    fn make_room(&mut self, most: usize) -> io::Result<()> {
        if self.known.len() >= most {
            let longest = self.known.iter().min_by_key(|(_, known)| known.last).map(|(uid, _)| *uid);
            if let Some(uid) = longest {
                self.end(uid);
            }
        }
        if self.ending.len() > most { Err(Errno::USERS.into()) } else { Ok(()) }
    }

    fn end(&mut self, uid: u32) {
        if let Some(known) = self.known.remove(&uid) {
            known.worker.helper.tell_to_end();
            self.ending.push(known.worker.helper);
        }
    }

    fn end_all(&mut self) {
        for (_, known) in self.known.drain() {
            known.worker.helper.tell_to_end();
            self.ending.push(known.worker.helper);
        }
    }
}
