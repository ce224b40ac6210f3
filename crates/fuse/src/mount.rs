//! Mounting, serving, unmounting.

use super::crew::Crew;
use super::nodes::Numbers;
use super::perform;
use super::place::{CONNECTIONS, Place};
use super::runner::Runner;
use super::statistics::Statistics;
use super::transport::Carrier;
use super::transport::fuser::{Asks, Transport};
use super::transport::rings::{Rings, Serving, why_not};
use fuser::{Config, INodeNo, MountOption, Notifier, Session, SessionACL};
use kmsfs_fs::{Fs, Ino, Observer, Stale};
use rustix::process::{geteuid, getgid, getuid};
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;

/// How the kernel mounts it.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // Each is a word of mount(8).
pub struct MountOptions {
    /// The directory that it is mounted on.
    pub mountpoint: PathBuf,
    /// Shown as the source in /proc/mounts: the store's path.
    pub source: String,
    /// Nothing is changed.
    pub read_only: bool,
    /// Users other than the one who mounts see it.
    pub allow_other: bool,
    /// Kernel's writeback cache; on by default.
    pub writeback_cache: bool,
    /// Event loops; 2 by default.
    pub threads: usize,
    /// Requests come by rings of io_uring, where the kernel has them and is good for it; otherwise over /dev/fuse, and
    /// a warning says why.
    pub io_uring: bool,
    /// Programs of it may run as their owner or group.
    pub suid: bool,
    /// Device files of it are devices.
    pub dev: bool,
    /// Programs of it may be run.
    pub exec: bool,
    /// Reading leaves access times alone.
    pub noatime: bool,
    /// Each write is durable when it returns.
    pub sync: bool,
    /// Each change of a directory is durable when it returns.
    pub dirsync: bool,
}

/// Shown as the type in /proc/mounts, by which mount(8) finds its helper.
pub const TYPE: &str = "fuse.kmsfs";

const DEVICE: &str = "/dev/fuse";

/// A mount that answers (INIT is done).
pub struct Mounted {
    session: Session<Transport>,
    rings: Option<Serving>,
    statistics: Arc<Statistics>,
}

/// A path in the mount whose attributes the kernel is to ask for, from whoever sees the mount from outside.
pub type AskAttributes = Box<dyn Fn(&Path) + Send + Sync>;

/// Mounts (directly as root, else through fusermount3) and answers the kernel's INIT.
///
/// `before_threads` is called once it is mounted, before there is any thread but the caller's, with what will carry the
/// requests; the mount goes if it fails, or if a thread cannot be made.
pub fn mount(
    fs: Arc<Fs>,
    options: &MountOptions,
    ask_attributes: AskAttributes,
    before_threads: impl FnOnce(Carrier) -> io::Result<()>,
) -> io::Result<Mounted> {
    let mountpoint = options.mountpoint.canonicalize()?;
    let crew = Arc::new(Crew::new());
    let statistics = Arc::<Statistics>::default();
    let (several_users, carrier) = (options.allow_other, OnceLock::new());
    let served = perform::Mount { fs: fs.clone(), statistics: statistics.clone(), several_users, carrier };
    let runner = Runner::new(served, crew.clone());
    let (session, rings) = connect_by_best(&runner, options, &mountpoint)?;
    let carrier = if rings.is_some() { Carrier::Rings } else { Carrier::Device };
    let _ = runner.mount().carrier.set(carrier);
    let place = Place::at(&mountpoint)?;
    place.raise_read_ahead();
    let (notifier, numbers) = (session.notifier(), Numbers::of(&fs));
    runner.write_back_by(Box::new(move |ino| {
        // Invalidating makes it.
        if let Err(error) = notifier.inval_inode(INodeNo(numbers.node(ino).0), 0, 0) {
            log::debug!("the kernel does not write what it has of a file before lseek: {error}");
        }
    }));
    // The mount goes if it would lack one of its threads.
    let threads = || {
        before_threads(carrier)?;
        crew.start(fs.store().keys().may_wait())?;
        tell_the_kernel(&fs, session.notifier(), ask_attributes)?;
        let only = (!options.allow_other).then(|| geteuid().as_raw());
        rings.map(|rings| rings.start(&runner, only)).transpose()
    };
    match threads() {
        Ok(rings) => Ok(Mounted { session, rings, statistics }),
        Err(error) => {
            fs.stop_draining();
            let _ = place.unmount(true);
            Err(error)
        }
    }
}

/// Mounts so that requests come by rings, if that is asked for and possible, and over /dev/fuse otherwise. A connection
/// that has agreed on rings answers nothing without them, so it is given up for another one.
fn connect_by_best(
    runner: &Runner,
    options: &MountOptions,
    mountpoint: &Path,
) -> io::Result<(Session<Transport>, Option<Rings>)> {
    if !options.io_uring {
        return Ok((connect(runner, options, mountpoint, false)?.0, None));
    }
    if let Some(reason) = why_not() {
        log::warn!("requests come over /dev/fuse: {reason}");
        return Ok((connect(runner, options, mountpoint, false)?.0, None));
    }
    let (session, is_agreed) = connect(runner, options, mountpoint, true)?;
    if !is_agreed {
        log::warn!("requests come over /dev/fuse: the kernel does not offer rings to this mount");
        return Ok((session, None));
    }
    let place = Place::at(mountpoint)?;
    let abort = place.open_abort().map_err(|error| {
        let text = "the file that ends the connection cannot be opened (root: mount -t fusectl none";
        io::Error::new(error.kind(), format!("{text} {CONNECTIONS}): {error}"))
    });
    match abort.and_then(|abort| Rings::new(session.as_fd(), abort)) {
        Ok(rings) => Ok((session, Some(rings))),
        Err(error) => {
            log::warn!("requests come over /dev/fuse: rings of io_uring cannot be made: {error}");
            drop(session);
            let _ = place.unmount(true);
            Ok((connect(runner, options, mountpoint, false)?.0, None))
        }
    }
}

/// Mounts, and answers INIT; and whether requests will come by `rings`.
fn connect(
    runner: &Runner,
    options: &MountOptions,
    mountpoint: &Path,
    rings: bool,
) -> io::Result<(Session<Transport>, bool)> {
    let device = open_device()?;
    let mut config = Config::default();
    config.mount_options = kernel_options(options);
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(options.threads.max(1));
    let writeback_cache = options.writeback_cache && !options.read_only;
    let rings = Arc::new(AtomicBool::new(rings));
    let transport = Transport::new(runner.clone(), Asks { writeback_cache, rings: Arc::clone(&rings) });
    let session = match mount_directly(options, mountpoint, &device) {
        Ok(()) => Session::from_fd(transport, device.into(), config.acl, config)
            .inspect_err(|_| drop(Place::at(mountpoint).and_then(|place| place.unmount(true))))?,
        // Not root: fuser asks fusermount3.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Session::new(transport, mountpoint, &config).map_err(|error| why_not_through_helper(&error))?
        }
        Err(error) => return Err(error),
    };
    Ok((session, rings.load(Ordering::Relaxed)))
}

/// mount(2), as root. (fuser's own call mounts as type `fuse`, and unmounts whatever is there when it ends.)
fn mount_directly(options: &MountOptions, mountpoint: &Path, device: &File) -> io::Result<()> {
    use rustix::mount::MountFlags as Flag;
    let mut flags = Flag::empty();
    flags.set(Flag::RDONLY, options.read_only);
    flags.set(Flag::NOSUID, !options.suid);
    flags.set(Flag::NODEV, !options.dev);
    flags.set(Flag::NOEXEC, !options.exec);
    flags.set(Flag::NOATIME, options.noatime);
    flags.set(Flag::SYNCHRONOUS, options.sync);
    flags.set(Flag::DIRSYNC, options.dirsync);
    let (fd, uid, gid) = (device.as_raw_fd(), getuid().as_raw(), getgid().as_raw());
    let mut data = format!("fd={fd},rootmode=40000,user_id={uid},group_id={gid},default_permissions");
    if options.allow_other {
        data.push_str(",allow_other");
    }
    let data = CString::new(data)?;
    Ok(rustix::mount::mount(&*options.source, mountpoint, TYPE, flags, Some(data.as_c_str()))?)
}

/// The kernel's side of FUSE. An error says what to do, in a container too.
fn open_device() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(DEVICE).map_err(|error| {
        let cure = match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
                "is not there: load the kernel's module (modprobe fuse), or give the container the device \
                 (docker and podman: --device /dev/fuse)"
            }
            // What a control group of devices says.
            Some(libc::EPERM) => {
                "is closed to this container: give it the device (docker and podman: --device /dev/fuse)"
            }
            Some(libc::EACCES) => "may not be opened by this user: its mode is 666 elsewhere (chmod 666 /dev/fuse)",
            _ => return error,
        };
        io::Error::new(error.kind(), format!("{DEVICE} {cure}"))
    })
}

/// What whoever may not mount has to be told when fusermount3 has not done it either.
fn why_not_through_helper(error: &io::Error) -> io::Error {
    let text = if error.kind() == io::ErrorKind::NotFound {
        "fusermount3 is not there, which mounts for those who may not (package fuse3)".to_owned()
    } else {
        error.to_string().trim_end().to_owned()
    };
    let cure = if getuid().is_root() {
        ": this container may not mount: give it the right (docker and podman: --cap-add SYS_ADMIN, and where AppArmor \
         forbids it --security-opt apparmor=unconfined)"
    } else {
        ""
    };
    io::Error::new(error.kind(), format!("{text}{cure}"))
}

impl Mounted {
    /// Serves until somebody unmounts.
    pub fn run(self) -> io::Result<()> {
        let served = self.session.run();
        // What comes by rings goes on as long as the connection does.
        let rings = self.rings.map_or(Ok(()), |rings| rings.join(served.is_err()));
        served.and(rings)
    }

    /// What it counts while it serves.
    pub fn statistics(&self) -> Arc<Statistics> {
        self.statistics.clone()
    }
}

/// For fusermount3.
fn kernel_options(options: &MountOptions) -> Vec<MountOption> {
    let either = |set: bool, on: MountOption, off: MountOption| if set { on } else { off };
    let mut list = vec![
        MountOption::FSName(options.source.replace('\\', r"\\").replace(',', r"\,")),
        MountOption::Subtype("kmsfs".into()),
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

/// The kernel's cache of a mount.
struct Cache {
    notifier: Notifier,
    numbers: Numbers,
    ask_attributes: AskAttributes,
    stale: Sender<Stale>,
}

impl Observer for Cache {
    fn is_stale(&self, what: Stale) {
        let _ = self.stale.send(what);
    }

    fn forget_attributes(&self, ino: Ino) {
        // A negative offset is for attributes alone.
        self.tell(ino, -1);
    }

    fn ask_attributes(&self, path: &Path) {
        (self.ask_attributes)(path);
    }

    fn drop_pages(&self, ino: Ino) {
        self.tell(ino, 0);
    }
}

impl Cache {
    fn tell(&self, ino: Ino, offset: i64) {
        if let Err(error) = self.notifier.inval_inode(INodeNo(self.numbers.node(ino).0), offset, 0) {
            log::warn!("the kernel may keep content that is no longer to be read: {error}");
        }
    }
}

/// Has the kernel told what is no longer right: of names and attributes from a thread of its own, since the kernel
/// takes locks for them that the request being served may hold; of what is revoked from another, since the kernel
/// writes back what is dirty before it drops it, and waits for the answers.
fn tell_the_kernel(fs: &Arc<Fs>, notifier: Notifier, ask_attributes: AskAttributes) -> io::Result<()> {
    let (stale, all) = channel::<Stale>();
    let numbers = Numbers::of(fs);
    fs.observe(Box::new(Cache { notifier: notifier.clone(), numbers, ask_attributes, stale }));
    thread::Builder::new().name("kmsfs-notify".into()).spawn(move || {
        for stale in all {
            let told = match &stale {
                Stale::Name(parent, name) => notifier.inval_entry(INodeNo(numbers.node(*parent).0), name),
                // A negative offset is for attributes alone.
                Stale::Attributes(ino) => notifier.inval_inode(INodeNo(numbers.node(*ino).0), -1, 0),
            };
            if let Err(error) = told {
                log::debug!("the kernel does not take {stale:?}: {error}");
            }
        }
    })?;
    let drained = Arc::clone(fs);
    thread::Builder::new().name("kmsfs-revoke".into()).spawn(move || drained.drain_forever()).map(drop)
}
