//! The process that keeps the mount: it unmounts, which one under landlock cannot, and looks at the mount from outside.
//!
//! It is bound once to what is mounted at one place. No request names a mount, so whoever takes over the serving
//! process can end that process's own mount with it and no other.

use super::{Answer, Channel, Duty, Helper};
use crate::cli::sandbox;
use kmsfs_fuse::Place;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags, open, openat2, statx};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const BIND: u8 = 1;
const UNMOUNT: u8 = 2;
const UNMOUNT_LAZILY: u8 = 3;
const UNMOUNT_UNLESS_BUSY: u8 = 4;
const LOOK: u8 = 5;
const ASK_ATTRIBUTES: u8 = 6;
const RELEASE_STORE: u8 = 7;
const ABORT: u8 = 8;

/// The keeper, as the serving process sees it.
pub struct Keeper {
    helper: Helper,
}

impl Keeper {
    /// For what is going to be mounted at `target`; the file system that `store` is on stays busy as long as it runs.
    /// Both absolute, without symlinks.
    pub fn start(target: &Path, store: &Path, confined: bool) -> io::Result<Self> {
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        let about = About { target: bytes(target), store: bytes(store), confined };
        Ok(Self { helper: Helper::start::<Kept>(&about, 2)? })
    }

    pub fn expect_ready(&self) -> io::Result<()> {
        self.helper.expect_ready()
    }

    /// From now on and for good, what is mounted there now is the mount, and this process the one that serves it.
    pub fn bind(&self) -> io::Result<()> {
        self.order(BIND, &std::process::id().to_le_bytes())
    }

    /// Unmounts, lazily if it is busy. Nothing to do if it is not mounted any more.
    pub fn unmount(&self) -> io::Result<()> {
        self.order(UNMOUNT, &[])
    }

    pub fn unmount_lazily(&self) -> io::Result<()> {
        self.order(UNMOUNT_LAZILY, &[])
    }

    /// `EBUSY` if somebody uses the mount.
    pub fn unmount_unless_busy(&self) -> io::Result<()> {
        self.order(UNMOUNT_UNLESS_BUSY, &[])
    }

    /// Ends the kernel's connection: nobody is asked anything any more.
    pub fn abort(&self) {
        let _ = self.order(ABORT, &[]);
    }

    /// The store is closed: its file system may be unmounted.
    pub fn release_store(&self) {
        let _ = self.order(RELEASE_STORE, &[]);
    }

    fn order(&self, verb: u8, what: &[u8]) -> io::Result<()> {
        self.helper.channels[0].ask(verb, what).map(drop)
    }

    /// Waits until the mount serves requests, as seen from outside. To be called once only.
    pub fn look(&self) -> io::Result<()> {
        self.looks().ask(LOOK, &[]).map(drop)
    }

    /// Has the kernel ask for the attributes of a path in the mount.
    pub fn ask_attributes(&self, path: &Path) {
        // If it has just moved, the next open or write(2) asks.
        let _ = self.looks().ask(ASK_ATTRIBUTES, path.as_os_str().as_bytes());
    }

    /// Apart from the orders: what is looked at may take its time to answer.
    fn looks(&self) -> &Channel {
        &self.helper.channels[1]
    }
}

#[derive(Serialize, Deserialize)]
pub struct About {
    target: Vec<u8>,
    store: Vec<u8>,
    confined: bool,
}

/// The process's own side.
pub struct Kept {
    target: PathBuf,
    store: Mutex<Option<OwnedFd>>,
    bound: Mutex<Option<Bound>>,
}

struct Bound {
    place: Place,
    /// Its root, held from the beginning until somebody has looked: a path may lead through an automounter, which makes
    /// everybody wait until the mount has been announced.
    root: Option<OwnedFd>,
    served_by: u32,
}

impl Duty for Kept {
    const WORD: &'static str = "__keep_mount";
    type About = About;

    fn begin(about: About, _: Vec<OwnedFd>) -> Self {
        // The serving process may reach the store through a mount of its own, which keeps no other one busy.
        let store = open(OsStr::from_bytes(&about.store), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok();
        let target = OsStr::from_bytes(&about.target).into();
        if about.confined {
            sandbox::enter_as_keeper();
        }
        Self { target, store: Mutex::new(store), bound: Mutex::new(None) }
    }

    fn obey(&self, verb: u8, what: &[u8]) -> io::Result<Answer> {
        let done = match verb {
            BIND => self.bind(what),
            UNMOUNT => self.leave()?.unmount(false),
            UNMOUNT_LAZILY => self.leave()?.unmount(true),
            UNMOUNT_UNLESS_BUSY => self.leave()?.unmount_unless_busy(),
            LOOK => self.look(),
            RELEASE_STORE => {
                *self.store.lock() = None;
                Ok(())
            }
            ABORT => {
                self.end();
                Ok(())
            }
            ASK_ATTRIBUTES => self.ask_attributes(Path::new(OsStr::from_bytes(what))),
            _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        };
        done.map(|()| Answer::default())
    }

    /// Whether the serving process has ended although some thread of it, and with it the lifeline, has not: the kernel
    /// does not let a thread go that waits for an answer of the process's own.
    fn is_orphaned(&self) -> bool {
        let Some(pid) = self.bound.lock().as_ref().map(|bound| bound.served_by) else { return false };
        // proc(5): pid, name in brackets, state.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
    }

    /// Nobody is there to answer: whoever waits in the mount is let go, with an error.
    fn end(&self) {
        if let Some(bound) = self.bound.lock().as_ref() {
            // Nobody is there to be told, and the mount is taken away all the same.
            let _ = bound.place.abort();
        }
    }
}

impl Kept {
    fn bind(&self, pid: &[u8]) -> io::Result<()> {
        let mut bound = self.bound.lock();
        let pid = pid.try_into().map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        if bound.is_some() {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        let place = Place::at(&self.target)?;
        let root = Some(open(&self.target, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?);
        *bound = Some(Bound { place, root, served_by: u32::from_le_bytes(pid) });
        Ok(())
    }

    /// The mount, which nothing of ours keeps busy from now on.
    fn leave(&self) -> io::Result<Place> {
        let mut bound = self.bound.lock();
        let bound = bound.as_mut().ok_or_else(unbound)?;
        bound.root = None;
        Ok(bound.place.clone())
    }

    fn look(&self) -> io::Result<()> {
        let root = self.bound.lock().as_mut().and_then(|bound| bound.root.take()).ok_or_else(unbound)?;
        statx(&root, "", AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC, StatxFlags::BASIC_STATS)?;
        Ok(())
    }

    fn ask_attributes(&self, path: &Path) -> io::Result<()> {
        let place = self.bound.lock().as_ref().ok_or_else(unbound)?.place.clone();
        let root = open(&place.mountpoint, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        if !place.holds(&root)? {
            return Err(unbound());
        }
        // Nothing outside the mount, whoever asks.
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let found = openat2(&root, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), within)?;
        statx(&found, "", AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC, StatxFlags::MODE)?;
        Ok(())
    }
}

fn unbound() -> io::Error {
    io::Error::from_raw_os_error(libc::ENODEV)
}
