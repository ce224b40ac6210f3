//! What the serving process gives up once the file system is mounted: privileges, all paths but its own, and system
//! calls.

use super::private_root::{self, Used};
use super::system_calls::{self, Role};
use kmsfs_fuse::Carrier;
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs};
use std::fmt;
use std::path::{Path, PathBuf};

/// What serving files on behalf of others takes: their owners (CHOWN, FOWNER, FSETID), files whatever their modes are
/// (DAC_OVERRIDE, DAC_READ_SEARCH), devices (MKNOD), `security.capability` (SETFCAP), `trusted.*` attributes
/// (SYS_ADMIN), and memory that stays out of swap (IPC_LOCK).
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::IPC_LOCK);

/// What the broker reads: the user database, its libraries, and the sockets of the daemons that know users.
const USER_DATABASE: [&str; 10] =
    ["/etc", "/usr", "/lib", "/lib64", "/lib32", "/run", "/proc", "/var/lib/sss", "/var/cache/nscd", "/var/db"];
/// A log file may lie in a directory of somebody else's.
const OF_BROKER: CapabilitySet = CapabilitySet::DAC_OVERRIDE;
/// To unmount what lies in a directory of somebody else's.
const OF_KEEPER: CapabilitySet = CapabilitySet::SYS_ADMIN.union(CapabilitySet::DAC_READ_SEARCH);
const LANDLOCK: ABI = ABI::V6;

/// Which paths the serving process goes on using.
pub struct Paths {
    /// Directories in which everything may be done: the store, the keyring.
    pub own: Vec<PathBuf>,
    /// Appended to, also by others, so that its end has to be read, and made anew when it has been moved away.
    pub audit: Option<PathBuf>,
}

/// Why something is not given up. The mount goes on without it.
pub struct NotConfined(String);

impl fmt::Display for NotConfined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this process keeps more privileges than it needs: {}", self.0)
    }
}

/// For the calling thread and all that it starts from now on: to be called while there is no other that serves, and
/// when rings that carry requests were made.
pub fn enter(paths: &Paths, carrier: Carrier) -> Result<(), NotConfined> {
    let role = match carrier {
        Carrier::Device => Role::Serving,
        Carrier::Rings => Role::ServingByRings,
    };
    enter_own_tree(paths, role, KEPT)
}

fn enter_own_tree(paths: &Paths, role: Role, kept: CapabilitySet) -> Result<(), NotConfined> {
    let audit = paths.audit.as_deref().and_then(Path::parent);
    let used = |path: &Path, with_mounts| Used { path: path.to_owned(), with_mounts };
    let own = paths.own.iter().map(|path| used(path, true));
    let directories: Vec<_> = own.chain(audit.map(|directory| used(directory, false))).collect();
    // Where it cannot be had, the rest is given up all the same.
    let root = if private_root::is_possible() { private_root::enter(&directories) } else { Ok(()) };
    // A log that was moved away is made anew beside it, so others there could be written too.
    let append = append() | AccessFs::ReadFile;
    let own = paths.own.iter().map(|path| (path.clone(), AccessFs::from_all(LANDLOCK)));
    let audit = audit.map(|directory| (directory.to_owned(), append));
    // Of /proc nothing: magic links, by which the kernel finds what a descriptor refers to, need no right.
    let rules = own.chain(audit);
    give_up(role, kept, Some((rules.collect(), Scope::AbstractUnixSocket | Scope::Signal)))?;
    root.map_err(|error| NotConfined(format!("a file system tree of its own: {error}")))
}

/// For the process that opens what is outside; `logs` are files that are appended to, `reads` others that are read and
/// may be replaced.
pub fn enter_as_broker(logs: &[PathBuf], reads: &[PathBuf]) {
    let read = USER_DATABASE.map(|path| (path.into(), AccessFs::ReadFile | AccessFs::ReadDir));
    let directories = logs.iter().filter_map(|log| log.parent()).map(|directory| (directory.to_owned(), append()));
    // One may be a link to a file elsewhere.
    let files = logs.iter().map(|log| (log.clone(), AccessFs::WriteFile.into()));
    // A link leads to another directory, where there may be a new file too.
    let lead_to = reads.iter().filter_map(|path| path.canonicalize().ok());
    let replaced: Vec<_> = reads.iter().cloned().chain(lead_to).collect();
    let replaced = replaced.iter().filter_map(|path| path.parent());
    let replaced = replaced.map(|directory| (directory.to_owned(), AccessFs::ReadFile.into()));
    let rules = read.into_iter().chain(directories).chain(files).chain(replaced);
    // As much as this kernel has; the serving process says what is missing.
    let _ = give_up(Role::Broker, OF_BROKER, Some((rules.collect(), Scope::Signal.into())));
}

/// For the process that unmounts, which landlock would forbid. An ordinary user's needs fusermount3 for it, with the
/// privileges of that program.
pub fn enter_as_keeper() {
    if private_root::is_possible() {
        let _ = give_up(Role::Keeper, OF_KEEPER, None);
    }
}

/// For the process that holds the keyring and serves no files.
pub fn enter_as_authority(paths: &Paths) -> Result<(), NotConfined> {
    const KEPT: CapabilitySet = CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::IPC_LOCK);
    enter_own_tree(paths, Role::Authority, KEPT)
}

/// For the process that makes others and is given names of users and nothing else. What it may, those that it makes may
/// until they have become a user: root's keeps what passes over the modes of files.
pub fn enter_as_spawner() {
    const KEPT: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID).union(OF_ROOTS_WORKER);
    let given_up = set_no_new_privs(true).and_then(|()| drop_capabilities(KEPT));
    // As much as this kernel has; the authority says what is missing.
    let _ = given_up;
}

/// For the process that does on the mount what one user asks for.
pub fn enter_as_worker(mountpoint: &Path) -> Result<(), NotConfined> {
    let rules = vec![(mountpoint.to_owned(), AccessFs::from_all(LANDLOCK))];
    give_up(Role::Worker, OF_ROOTS_WORKER, Some((rules, Scope::AbstractUnixSocket | Scope::Signal)))
}

/// For the process that speaks HTTP: no path at all.
pub fn enter_as_front() -> Result<(), NotConfined> {
    give_up(Role::Front, CapabilitySet::empty(), Some((Vec::new(), Scope::AbstractUnixSocket | Scope::Signal)))
}

/// For the process that tells how a mount is: it accepts connections, and asks for one attribute, of a mount in
/// whatever directory.
pub fn enter_to_tell_metrics() {
    let scope = Scope::AbstractUnixSocket | Scope::Signal;
    // As much as this kernel has; the serving process says what is missing.
    let _ = give_up(Role::Metrics, CapabilitySet::DAC_READ_SEARCH, Some((Vec::new(), scope)));
}

/// For the process that starts providers, each of which has a cage of its own.
pub fn enter_as_starter() {
    // As much as this kernel has.
    let _ = set_no_new_privs(true).and_then(|()| drop_capabilities(CapabilitySet::empty()));
}

/// For a provider: it reads what programs need, and `reads`, and has the directory of its configuration for its own. It
/// may open sockets.
pub fn enter_as_provider(reads: &[PathBuf], own: Option<&Path>) -> Result<(), NotConfined> {
    // Not /etc and /run as a whole: there are keys in them, nor /dev with its disks.
    const NEEDED: [&str; 32] = [
        "/usr",
        "/lib",
        "/lib64",
        "/lib32",
        "/bin",
        "/sbin",
        "/opt",
        "/proc",
        "/sys/devices",
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/tty",
        "/dev/bus/usb",
        "/etc/ssl",
        "/etc/pki",
        "/etc/ca-certificates",
        "/etc/resolv.conf",
        "/run/systemd/resolve",
        "/etc/hosts",
        "/etc/host.conf",
        "/etc/nsswitch.conf",
        "/etc/services",
        "/etc/protocols",
        "/etc/gai.conf",
        "/etc/passwd",
        "/etc/group",
        "/etc/ld.so.cache",
        "/etc/ld.so.preload",
        "/etc/localtime",
        "/etc/alternatives",
        "/etc/python3",
    ];
    set_no_new_privs(true).map_err(|errno| NotConfined(format!("no_new_privs: {errno}")))?;
    let read = NEEDED.map(|path| (PathBuf::from(path), AccessFs::from_read(LANDLOCK)));
    let devices = ["/dev/null", "/dev/tty", "/dev/bus/usb"].map(|path| (path.into(), AccessFs::WriteFile.into()));
    let reads = reads.iter().map(|path| (path.clone(), AccessFs::from_read(LANDLOCK)));
    let own = own.map(|own| (own.to_owned(), AccessFs::from_all(LANDLOCK)));
    let rules = read.into_iter().chain(devices).chain(reads).chain(own).collect();
    drop_capabilities(CapabilitySet::empty()).map_err(|errno| NotConfined(format!("capabilities: {errno}")))?;
    confine(rules, Scope::AbstractUnixSocket | Scope::Signal).map_err(|error| NotConfined(format!("landlock: {error}")))
}

/// An ordinary user has none of them.
const OF_ROOTS_WORKER: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH);

type Rules = (Vec<(PathBuf, BitFlags<AccessFs>)>, BitFlags<Scope>);

fn give_up(role: Role, kept: CapabilitySet, rules: Option<Rules>) -> Result<(), NotConfined> {
    set_no_new_privs(true).map_err(|errno| NotConfined(format!("no_new_privs: {errno}")))?;
    if let Some((paths, scope)) = rules {
        confine(paths, scope).map_err(|error| NotConfined(format!("landlock: {error}")))?;
    }
    drop_capabilities(kept).map_err(|errno| NotConfined(format!("capabilities: {errno}")))?;
    system_calls::refuse(role).map_err(|error| NotConfined(format!("seccomp: {error}")))
}

fn append() -> BitFlags<AccessFs> {
    AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg
}

fn confine(
    paths: Vec<(PathBuf, BitFlags<AccessFs>)>,
    scope: BitFlags<Scope>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .scope(scope)?
        .create()?;
    for (path, access) in paths {
        // Not every machine has each of them.
        if let Ok(opened) = PathFd::new(&path) {
            rules = rules.add_rule(PathBeneath::new(opened, of_kind(&path, access)))?;
        }
    }
    match rules.restrict_self()?.ruleset {
        RulesetStatus::NotEnforced => Err("this kernel has none".into()),
        _ => Ok(()),
    }
}

/// Of a file, only what can be done with files.
fn of_kind(path: &Path, access: BitFlags<AccessFs>) -> BitFlags<AccessFs> {
    if path.is_dir() { access } else { access & AccessFs::from_file(LANDLOCK) }
}

fn drop_capabilities(kept: CapabilitySet) -> rustix::io::Result<()> {
    let now = capabilities(None)?;
    let kept = now.permitted.intersection(kept);
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() })
}
