//! A worker: a process with exactly one user's uid, gid and groups, which does on the mount what that user's signed
//! requests ask for. The kernel checks what it may; nothing here does.

use super::spawner;
use crate::cli::helper::{Answer, Duty, Helper};
use crate::cli::{harden, sandbox};
use kmsfs_gateway::{Locks, Worker};
use kmsfs_s3::answer::Owner;
use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;

const CONNECT: u8 = 1;

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

/// Asks a worker for a new connection.
pub fn connect(worker: &Helper) -> io::Result<Answer> {
    worker.channels[0].ask(CONNECT, &[])
}

/// The process's own side.
pub struct Serving {
    worker: Result<Arc<Worker>, i32>,
    open: Arc<Open>,
}

/// How many connections there are.
#[derive(Default)]
struct Open {
    count: Mutex<usize>,
    fewer: Condvar,
}

impl Duty for Serving {
    const WORD: &'static str = "__serve_user";
    const TELLS: bool = true;
    type About = About;

    /// The locks.
    fn given(_: &About) -> usize {
        1
    }

    fn begin(about: About, given: Vec<OwnedFd>) -> Self {
        harden::forbid_dumps();
        let begun = begin(&about, given);
        Self {
            worker: begun.map(Arc::new).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO)),
            open: Arc::default(),
        }
    }

    fn obey(&self, verb: u8, _: &[u8]) -> io::Result<Answer> {
        if verb != CONNECT {
            return Err(Errno::INVAL.into());
        }
        let worker = Arc::clone(self.worker.as_ref().map_err(|errno| io::Error::from_raw_os_error(*errno))?);
        let (ours, theirs) = UnixStream::pair()?;
        let open = Arc::clone(&self.open);
        *open.count.lock() += 1;
        let counted = Counted(open);
        thread::Builder::new().spawn(move || {
            let _counted = counted;
            serve(&worker, &ours);
        })?;
        Ok(Answer { descriptor: Some(theirs.into()), ..Answer::default() })
    }

    /// What is being done is done to its end.
    fn end(&self) {
        let mut count = self.open.count.lock();
        while *count > 0 {
            self.open.fewer.wait(&mut count);
        }
    }
}

/// A connection, as long as it is there.
struct Counted(Arc<Open>);

impl Drop for Counted {
    fn drop(&mut self) {
        *self.0.count.lock() -= 1;
        self.0.fewer.notify_all();
    }
}

fn serve(worker: &Worker, connection: &UnixStream) {
    if let Err(error) = kmsfs_gateway::serve(worker, connection) {
        log::error!("a connection of a worker has ended: {error}");
    }
}

/// Becomes the user, while there is one thread, and then gives up what is left.
fn begin(about: &About, mut given: Vec<OwnedFd>) -> io::Result<Worker> {
    let Identity { uid, gid, groups, name, account } = &about.identity;
    if geteuid().is_root() {
        let groups: Vec<_> = groups.iter().copied().map(Gid::from_raw).collect();
        set_thread_groups(&groups)?;
        set_thread_gid(Gid::from_raw(*gid))?;
        set_thread_uid(Uid::from_raw(*uid))?;
    } else if geteuid().as_raw() != *uid {
        return Err(Errno::PERM.into());
    }
    // It becomes dumpable with another uid.
    harden::forbid_dumps();
    let mountpoint = Path::new(OsStr::from_bytes(&about.spawner.mountpoint));
    let locks = Locks::of(given.pop().ok_or(Errno::INVAL)?);
    let worker = Worker::open(mountpoint, locks, owner(account, name))?;
    if about.spawner.confined
        && let Err(reason) = sandbox::enter_as_worker(mountpoint)
    {
        log::warn!("{reason}");
    }
    Ok(worker)
}

/// S3's canonical user id is 64 hexadecimal digits that say nothing; the same ones wherever the account is the same.
fn owner(account: &str, name: &str) -> Owner {
    let id = hex::encode(Sha256::digest(format!("kmsfs canonical user {account}/{name}")));
    Owner { id, display_name: name.to_owned() }
}
