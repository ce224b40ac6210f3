//! `kmsfs doctor`: whether this machine has what kmsfs needs, and the cure for what it lacks.

use super::exit::{Exit, Failure, describe};
use super::text::{pretty, shown};
use super::{assembly, logging};
use clap::Args;
use kmsfs_client::mounts;
use kmsfs_store::backend::{self, Backend as _, Need};
use landlock::{ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, Scope};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};
use serde_json::{Value, json};
use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

/// Find out whether this machine has what kmsfs needs
///
/// Looks at the kernel and what it has of FUSE, landlock and io_uring, at /dev/fuse and fusermount3, at what this user
/// may lock in memory, at the clock and at the log; and, of a store or a directory for one, at the file system that it
/// is on. Each finding has its cure. Nothing is changed.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub struct DoctorArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// A store, or the directory that one is to be made in
    #[arg(value_name = "STORE")]
    store: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  kmsfs doctor
  kmsfs doctor --json /srv/store | jq '.[] | select(.State != \"ok\")'

Exit codes: 0 kmsfs can mount here, 1 something that it needs is missing.";

/// What kmsfs was released in: a clock before it is wrong.
const RELEASED: Duration = Duration::from_secs(1_767_225_600);
/// Linux that has every call that mounting takes (openat2, open_tree, mount_setattr).
const LEAST_KERNEL: (u32, u32) = (5, 12);
/// Memory that a mount has with the smallest cache.
const MEMLOCK: u64 = 256 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    /// kmsfs goes on without it.
    Note,
    /// It does not mount.
    Problem,
}

#[derive(Debug)]
struct Finding {
    about: &'static str,
    state: State,
    found: String,
    /// Empty where nothing is wrong.
    cure: String,
}

impl Finding {
    fn ok(about: &'static str, found: impl Into<String>) -> Self {
        Self { about, state: State::Ok, found: found.into(), cure: String::new() }
    }

    fn note(about: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { about, state: State::Note, found: found.into(), cure: cure.into() }
    }

    fn problem(about: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { about, state: State::Problem, found: found.into(), cure: cure.into() }
    }
}

pub fn run(args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let mut findings = vec![
        kernel(),
        fuse_device(Path::new("/dev/fuse")),
        fusermount(),
        allow_other(),
        uring(),
        landlock(),
        locked_memory(),
        clock(SystemTime::now()),
        processor(),
        log(),
    ];
    if let Some(store) = &args.store {
        findings.extend(file_system(store)?);
    }
    if args.json {
        print!("{}", pretty(&findings.iter().map(as_json).collect()));
    } else {
        for Finding { about, state, found, cure } in &findings {
            let mark = match state {
                State::Ok => "ok     ",
                State::Note => "note   ",
                State::Problem => "PROBLEM",
            };
            println!("{mark}  {about:<14} {found}");
            if !cure.is_empty() {
                println!("{:26}{cure}", "");
            }
        }
    }
    let lacking = findings.iter().any(|finding| finding.state == State::Problem);
    Ok(if lacking { Exit::Failure.into() } else { ExitCode::SUCCESS })
}

fn as_json(finding: &Finding) -> Value {
    let state = match finding.state {
        State::Ok => "ok",
        State::Note => "note",
        State::Problem => "problem",
    };
    let cure = (!finding.cure.is_empty()).then_some(&finding.cure);
    json!({"About": finding.about, "State": state, "Found": finding.found, "Cure": cure})
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (major, minor) = LEAST_KERNEL;
    if version < LEAST_KERNEL {
        let cure = format!("Linux {major}.{minor} or newer is needed: install a newer kernel");
        return Finding::problem("kernel", format!("Linux {release}"), cure);
    }
    Finding::ok("kernel", format!("Linux {release}"))
}

/// Opening it is what mounting begins with.
fn fuse_device(path: &Path) -> Finding {
    const IN_CONTAINERS: &str = "in a container: start it with --device /dev/fuse --cap-add SYS_ADMIN";
    let about = "/dev/fuse";
    match fs::OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Finding::ok(about, "there, and this user may open it"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Finding::problem(about, "missing", format!("modprobe fuse, as root; {IN_CONTAINERS}"))
        }
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) || error.raw_os_error() == Some(libc::ENXIO) => {
            Finding::problem(about, "there, but the kernel has no FUSE", "modprobe fuse, as root")
        }
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            let found = "closed by the control group of this container";
            Finding::problem(about, found, IN_CONTAINERS)
        }
        Err(error) => {
            let cure = "chmod 666 /dev/fuse, as root, as udev sets it; or mount as root";
            Finding::problem(about, describe(&error), cure)
        }
    }
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn fusermount() -> Finding {
    let about = "fusermount3";
    let install = "apt install fuse3 (dnf install fuse3, apk add fuse3)";
    match in_path(about) {
        None if is_root() => Finding::note(about, "missing; root mounts without it", install),
        None => Finding::problem(about, "missing: only root can mount without it", install),
        Some(path) => {
            let metadata = fs::metadata(&path);
            let set_id = metadata.is_ok_and(|metadata| metadata.uid() == 0 && metadata.mode() & 0o4000 != 0);
            if set_id || is_root() {
                return Finding::ok(about, shown(&path));
            }
            let cure = format!("chmod u+s {}, as root, which owns it", super::text::shell_word(&path));
            Finding::problem(about, format!("{} is not set-user-id root: it cannot mount", shown(&path)), cure)
        }
    }
}

/// fusermount3 refuses it to ordinary users otherwise.
fn allow_other() -> Finding {
    let about = "allow_other";
    if is_root() {
        return Finding::ok(about, "root may use -o allow_other");
    }
    let text = fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    if text.lines().any(|line| line.trim() == "user_allow_other") {
        return Finding::ok(about, "ordinary users may use -o allow_other");
    }
    let cure = "only needed to let other users in: write user_allow_other into /etc/fuse.conf, as root";
    Finding::note(about, "ordinary users may not use -o allow_other", cure)
}

fn uring() -> Finding {
    let about = "FUSE io_uring";
    match kmsfs_fuse::why_not_by_rings() {
        None => Finding::ok(about, "enabled: mounts with -o io_uring use it"),
        Some(reason) => Finding::note(about, reason, "only for speed: requests go through /dev/fuse"),
    }
}

/// The newest version of which the kernel has everything.
fn landlock() -> Finding {
    let about = "landlock";
    let versions = [(6, ABI::V6), (5, ABI::V5), (4, ABI::V4), (3, ABI::V3), (2, ABI::V2), (1, ABI::V1)];
    let has = |abi: ABI| {
        // Making rules restricts nobody.
        let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let rules = rules.handle_access(AccessFs::from_all(abi));
        let rules = if abi == ABI::V6 { rules.and_then(|rules| rules.scope(Scope::from_all(abi))) } else { rules };
        rules.and_then(Ruleset::create).is_ok()
    };
    match versions.into_iter().find(|(_, abi)| has(*abi)) {
        Some((6, _)) => Finding::ok(about, "version 6 or newer"),
        Some((number, _)) => {
            let cure = "Linux 6.12 or newer has all that kmsfs uses";
            Finding::note(about, format!("version {number}: the serving process gives up less"), cure)
        }
        None => {
            let cure = "boot with landlock in lsm=, and with a kernel that has it (CONFIG_SECURITY_LANDLOCK)";
            Finding::note(about, "none: the serving process keeps paths that it does not need", cure)
        }
    }
}

fn locked_memory() -> Finding {
    let about = "locked memory";
    let limit = getrlimit(Resource::Memlock).current;
    let privileged = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    match limit {
        Some(bytes) if !privileged => {
            let cure = format!(
                "ulimit -l unlimited, or memlock in /etc/security/limits.conf, or LimitMEMLOCK=infinity in the unit{}",
                if bytes >= MEMLOCK { "" } else { "; encrypt swap, or have none" }
            );
            Finding::note(about, format!("limited to {bytes} bytes: keys may reach swap"), cure)
        }
        _ => Finding::ok(about, "keys stay out of swap"),
    }
}

/// Requests to `kmsfs serve` are good for 15 minutes, and KMS keys are deleted on a date.
fn clock(now: SystemTime) -> Finding {
    let about = "clock";
    let cure = "set it: timedatectl set-ntp true, or date --set";
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let shown = super::stat::last_modified(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    if now < RELEASED {
        return Finding::problem(about, format!("{shown}: before this kmsfs was made"), cure);
    }
    Finding::ok(about, shown)
}

fn processor() -> Finding {
    let about = "processor";
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().filter(|line| line.starts_with("flags") || line.starts_with("Features"));
    let has = flags.flat_map(str::split_whitespace).any(|flag| flag == "aes");
    if has {
        return Finding::ok(about, "encrypts AES by itself");
    }
    let cure = "slow: in a virtual machine pass the host's processor through (-cpu host)";
    Finding::note(about, "has no instructions for AES", cure)
}

fn log() -> Finding {
    let about = "log";
    let reachable = UnixDatagram::unbound().is_ok_and(|socket| socket.connect("/dev/log").is_ok());
    if reachable {
        return Finding::ok(about, "mounts in the background log to syslog (journalctl -t kmsfs)");
    }
    let file = logging::default_log_files().into_iter().next();
    let file = file.map_or_else(|| "nowhere".into(), |file| shown(&file));
    Finding::note(about, format!("there is no syslog: messages go to {file}"), "-o log_file=FILE says where else")
}

/// Tried out where it can be, as `kmsfs init` and `kmsfs mount` do.
fn file_system(path: &Path) -> Result<Vec<Finding>, Failure> {
    let about = "file system";
    let store = assembly::find_store(path)?;
    let mut findings = Vec::new();
    if mounts::of_store(&store).unwrap_or_default().is_empty() {
        findings.push(fitness(&store)?);
    } else {
        findings.push(Finding::ok(about, format!("{} is mounted, so it is fit", shown(&store))));
    }
    if let Ok(space) = rustix::fs::statvfs(&store) {
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        let found = format!("{} MiB are free", free >> 20);
        let short = free < 64 << 20 || (space.f_files > 0 && space.f_favail < 1000);
        let cure = "a full disk refuses writes, and loses nothing: make room";
        findings.push(if short { Finding::note("space", found, cure) } else { Finding::ok("space", found) });
    }
    Ok(findings)
}

fn fitness(store: &Path) -> Result<Finding, Failure> {
    let about = "file system";
    let found = assembly::open_backend(store)?.root().and_then(|root| backend::probe(root.as_ref(), Need::Store));
    Ok(match found {
        Ok(None) => Finding::ok(about, format!("{} is fit for a store", shown(store))),
        Ok(Some(unfit)) => {
            let cure = "use a directory on ext4, xfs, btrfs or tmpfs";
            Finding::problem(about, format!("{} is not fit for a store: {unfit}", shown(store)), cure)
        }
        Err(error) => {
            let cure = "run it as the user who mounts, with a file system that can be written";
            Finding::problem(about, format!("{} cannot be tried out: {}", shown(store), describe(&error)), cure)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_device_and_one_that_is_closed_have_their_cures() {
        let dir = tempfile::tempdir().unwrap();
        let missing = fuse_device(&dir.path().join("fuse"));
        assert!(missing.state == State::Problem && missing.cure.starts_with("modprobe fuse"), "{missing:?}");
        // A directory cannot be written.
        let closed = fuse_device(dir.path());
        assert_eq!((closed.state, closed.found.as_str()), (State::Problem, "Is a directory"));
    }

    #[test]
    fn a_clock_before_the_program_was_made_is_wrong() {
        assert_eq!(clock(SystemTime::UNIX_EPOCH).state, State::Problem);
        assert_eq!(clock(SystemTime::UNIX_EPOCH + RELEASED).state, State::Ok);
    }
}
