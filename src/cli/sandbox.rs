//! What the serving process gives up once the file system is mounted: privileges, all paths but its own, and system calls.

use super::system_calls;
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus,
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs};
use std::fmt;
use std::path::{Path, PathBuf};

/// What serving files on behalf of others takes: their owners (CHOWN, FOWNER, FSETID), files whatever their modes are
/// (DAC_OVERRIDE, DAC_READ_SEARCH), devices (MKNOD), `security.capability` (SETFCAP), `trusted.*` attributes (SYS_ADMIN),
/// and memory that stays out of swap (IPC_LOCK).
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::IPC_LOCK);

/// The user database and its libraries, and who a caller is.
const READ: [&str; 8] = ["/etc", "/usr", "/lib", "/lib64", "/lib32", "/run", "/proc", "/var/lib/sss"];
/// The devices that any program may need. Others, disks among them, this process could open as well.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/tty"];

/// Which paths the process goes on using.
pub struct Paths {
    /// Directories in which everything may be done: the store, the keyring.
    pub own: Vec<PathBuf>,
    /// Files that are appended to, and made anew when they have been moved away.
    pub logs: Vec<PathBuf>,
    /// The same, and others append to it too, so that its end has to be read.
    pub audit: Option<PathBuf>,
}

/// Why something is not given up. The mount goes on without it.
pub struct NotConfined(String);

impl fmt::Display for NotConfined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this process keeps more privileges than it needs: {}", self.0)
    }
}

/// For the calling thread and all that it starts from now on: to be called while there is no other that serves.
pub fn enter(paths: &Paths) -> Result<(), NotConfined> {
    set_no_new_privs(true).map_err(|errno| NotConfined(format!("no_new_privs: {errno}")))?;
    confine(paths).map_err(|error| NotConfined(format!("landlock: {error}")))?;
    drop_capabilities().map_err(|errno| NotConfined(format!("capabilities: {errno}")))?;
    system_calls::refuse().map_err(|error| NotConfined(format!("seccomp: {error}")))
}

fn confine(paths: &Paths) -> Result<(), Box<dyn std::error::Error>> {
    let abi = ABI::V5;
    let read = AccessFs::from_read(abi);
    // A log that was moved away is made anew beside it, so others there could be written too, but not read.
    let append = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .create()?;
    let audit = paths.audit.iter().filter_map(|log| log.parent()).map(Path::to_owned);
    let parents = paths.logs.iter().filter_map(|log| log.parent()).map(Path::to_owned);
    let all = paths.own.iter().cloned().map(|path| (path, AccessFs::from_all(abi)));
    let all = all.chain(parents.map(|path| (path, append)));
    let all = all.chain(audit.map(|path| (path, append | AccessFs::ReadFile)));
    let all = all.chain(paths.logs.iter().cloned().map(|path| (path, AccessFs::from_file(abi))));
    let all = all.chain(READ.map(|path| (path.into(), read)));
    let all = all.chain(DEVICES.map(|path| (path.into(), AccessFs::from_file(abi))));
    for (path, access) in all {
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
    if path.is_dir() { access } else { access & AccessFs::from_file(ABI::V5) }
}

fn drop_capabilities() -> rustix::io::Result<()> {
    let now = capabilities(None)?;
    let kept = now.permitted.intersection(KEPT);
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() })
}
