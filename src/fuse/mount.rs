//! Mounting, serving, unmounting.

use super::adapter::Adapter;
use super::convert::Numbers;
use crate::fs::Fs;
use fuser::{Config, MountOption, Notifier, Session, SessionACL};
use parking_lot::Mutex;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

/// How the kernel mounts it.
#[derive(Debug, Clone)]
pub struct MountOptions {
    pub mountpoint: PathBuf,
    /// Shown as the source in /proc/mounts: the store's path.
    pub source: String,
    pub read_only: bool,
    pub allow_other: bool,
    /// Kernel's writeback cache; on by default.
    pub writeback_cache: bool,
    /// Event loops; 2 by default.
    pub threads: usize,
    pub suid: bool,
    pub dev: bool,
    pub exec: bool,
    pub noatime: bool,
    pub sync: bool,
    pub dirsync: bool,
}

/// Read-ahead of the mount: the kernel offers 128 KiB whatever INIT asks for, and a request can be 1 MiB.
const READ_AHEAD_KIB: u32 = 1024;

/// A mount that answers (INIT is done).
pub struct Mounted {
    session: Session<Adapter>,
    mountpoint: PathBuf,
}

/// Mounts (directly as root, else through fusermount3) and answers the kernel's INIT.
pub fn mount(fs: Arc<Fs>, options: &MountOptions) -> io::Result<Mounted> {
    let mountpoint = options.mountpoint.canonicalize()?;
    let mut config = Config::default();
    config.mount_options = kernel_options(options);
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(options.threads.max(1));
    let adapter = Adapter::new(fs.clone(), options.writeback_cache && !options.read_only);
    let session = Session::new(adapter, &mountpoint, &config)?;
    send_invalidations(&fs, session.notifier());
    Ok(Mounted { session, mountpoint })
}

impl Mounted {
    /// Serves until somebody unmounts.
    pub fn run(self) -> io::Result<()> {
        raise_read_ahead(&self.mountpoint);
        self.session.run()
    }

    /// Can be called from another thread: unmounts (lazily if it is busy), which ends `run`.
    pub fn unmounter(&mut self) -> Box<dyn Fn() -> io::Result<()> + Send> {
        let session = Mutex::new(self.session.unmount_callable());
        let mountpoint = self.mountpoint.clone();
        Box::new(move || session.lock().unmount().or_else(|_| unmount_lazily(&mountpoint)))
    }
}

fn kernel_options(options: &MountOptions) -> Vec<MountOption> {
    let either = |set: bool, on: MountOption, off: MountOption| if set { on } else { off };
    let mut list = vec![
        MountOption::FSName(options.source.clone()),
        // Not `Subtype`: fuser passes that one to fusermount3 only.
        MountOption::CUSTOM("subtype=kmsfs".into()),
        MountOption::DefaultPermissions,
        either(options.read_only, MountOption::RO, MountOption::RW),
        either(options.suid, MountOption::Suid, MountOption::NoSuid),
        either(options.dev, MountOption::Dev, MountOption::NoDev),
        either(options.exec, MountOption::Exec, MountOption::NoExec),
        either(options.noatime, MountOption::NoAtime, MountOption::Atime),
    ];
    if options.sync {
        list.push(MountOption::Sync);
    }
    if options.dirsync {
        list.push(MountOption::DirSync);
    }
    list
}

/// Invalidations go out from a thread of their own: the kernel takes locks for them that the request being served may
/// hold.
fn send_invalidations(fs: &Arc<Fs>, notifier: Notifier) {
    let (queue, names) = channel::<(u64, OsString)>();
    let numbers = Numbers::of(fs);
    let started = thread::Builder::new().name("kmsfs-notify".into()).spawn(move || {
        for (parent, name) in names {
            if let Err(error) = notifier.inval_entry(numbers.shown(parent), &name) {
                log::debug!("the kernel keeps a name that is no longer right: {error}");
            }
        }
    });
    if let Err(error) = started {
        log::error!("no thread for invalidations: {error}");
    }
    fs.on_invalidate(Box::new(move |parent, name| {
        let _ = queue.send((parent, name.to_owned()));
    }));
}

/// Where it is permitted; otherwise the mount is slower and nothing else.
fn raise_read_ahead(mountpoint: &Path) {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return };
    // Fields: mount id, parent, major:minor, root, mount point. The last mount on the point is ours.
    let ours = mounts.lines().rev().map(|line| line.split(' ').collect::<Vec<_>>());
    let device = ours
        .filter(|fields| fields.len() > 4)
        .find(|fields| Path::new(fields[4]) == mountpoint)
        .map(|fields| fields[2].to_string());
    if let Some(device) = device {
        let _ = std::fs::write(format!("/sys/class/bdi/{device}/read_ahead_kb"), READ_AHEAD_KIB.to_string());
    }
}

fn unmount_lazily(mountpoint: &Path) -> io::Result<()> {
    if rustix::mount::unmount(mountpoint, rustix::mount::UnmountFlags::DETACH).is_ok() {
        return Ok(());
    }
    let done = Command::new("fusermount3").arg("-uz").arg("--").arg(mountpoint).stdin(Stdio::null()).status()?;
    if done.success() { Ok(()) } else { Err(io::Error::other("fusermount3 -uz failed")) }
}
