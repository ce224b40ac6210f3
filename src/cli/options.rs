//! What stands behind `-o`: the words of mount(8), of FUSE, and kmsfs's own, parsed once into [`Options`].

use super::audit::AuditArgs;
use super::helper::metrics::Address;
use super::state::StateArgs;
use super::unlock::UnlockArgs;
use kmsfs_store::lease::Term;
use log::LevelFilter;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Mount options, the later of two contradicting words having won.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Each is a word of mount(8).
pub struct Options {
    pub read_only: bool,
    pub allow_other: bool,
    /// `None` where nothing was said: `nosuid` and `nodev`, and at a remount what the mount has.
    pub suid: Option<bool>,
    pub dev: Option<bool>,
    pub exec: bool,
    pub noatime: bool,
    pub sync: bool,
    pub dirsync: bool,
    /// The kernel's writeback cache.
    pub writeback: bool,
    /// Threads that answer the kernel, 1 to 64.
    pub threads: usize,
    /// Requests come by io_uring where that is possible.
    pub io_uring: bool,
    /// Bytes of what was verified and is kept in memory.
    pub cache: usize,
    /// Inodes that the kernel is let know, about.
    pub inodes: Option<usize>,
    /// The serving process gives up privileges and paths.
    pub sandbox: bool,
    /// For how long the store is taken without renewing that.
    pub lease: Term,
    /// Whoever had the store last is known to be stopped.
    pub take_over: bool,
    /// Unmount when nobody has used it for so long.
    pub idle_timeout: Option<Duration>,
    /// Change the flags of a mount that is there.
    pub remount: bool,
    /// The later of two that open the keyring counts alone.
    pub unlock: UnlockArgs,
    pub keyring: Option<PathBuf>,
    pub audit: AuditArgs,
    pub state: StateArgs,
    pub log_file: Option<PathBuf>,
    pub log_level: Option<LevelFilter>,
    /// Where Prometheus is told how the mount is.
    pub metrics: Option<Address>,
}

/// Two threads: with one, an asynchronous RELEASE delays the next request; more measured no better on two cores.
const THREADS: usize = 2;
const MAX_THREADS: usize = 64;
/// MiB; less would keep too little of one large file.
const CACHE: usize = 64;
/// MiB.
pub const LEAST_CACHE: usize = 4;
const LEAST_INODES: usize = 1000;
/// Seconds.
const LEASES: RangeInclusive<u64> = 3..=600;

/// Words that mean something to mount(8), fstab, systemd or the FUSE library, and nothing to the mount itself: mount(8)
/// has acted on them (`user`, `nofail`), the kernel shows them (`user_id=`), or they are what kmsfs does anyway.
const WITHOUT_EFFECT: &[&str] = &[
    "defaults",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "nousers",
    "owner",
    "noowner",
    "group",
    "nogroup",
    "nofail",
    "_netdev",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "diratime",
    "nodiratime",
    "lazytime",
    "nolazytime",
    "default_permissions",
    "loud",
    "silent",
    "mand",
    "nomand",
    "iversion",
    "noiversion",
    "big_writes",
    "nonempty",
];
const WITHOUT_EFFECT_VALUED: &[&str] =
    &["user", "comment", "user_id", "group_id", "max_read", "rootmode", "fd", "fsname", "subtype", "blksize"];

/// What `kmsfs mount --help` says.
pub const HELP: &str = "\
Options for -o:
  ro, rw                    read only; reading and writing (default)
  allow_other               let every user in, as file modes and owners permit; without it only the user who mounts
                            (root too has to ask, as with other FUSE file systems)
  key-file=F, passphrase-file=F, recovery_key_file=F, credential=NAME, passphrase_command=COMMAND
                            what opens the keyring, as the command line's --key-file and so on; the last one counts
  keyring=DIR               as --keyring
  state=DIR                 as --state; --accept-rollback is no mount option, since it would stay in fstab
  log_file=F, log_level=L   log to this file; error, warn, info (default), debug or trace
  audit_log=F               record each use of a key in this file, or in syslog (audit_log=syslog)
  audit_full=WHAT           when the audit log cannot be written: refuse the use of keys (default), or drop records
  writeback, nowriteback    the kernel's writeback cache: on by default; off, every write(2) reaches kmsfs at once
  threads=N                 threads that answer the kernel, 1 to 64 (default 2)
  io_uring, noio_uring      requests by io_uring, which answers each on the processor that made it: off by default, and
                            only with Linux 6.18.39 or a later 6.18, or 7.2 or newer, and where root has switched it on:
                            echo Y > /sys/module/fuse/parameters/enable_uring; elsewhere a warning says so, and requests
                            come over /dev/fuse; a kernel that refuses only later has the mount fail. Do not kill -9
                            the process of such a mount
  cache=MIB                 memory for what was verified and is kept, 4 or more (default 64); what is in use, and about
                            220 bytes for each inode that the kernel knows, come on top; no more than half of the memory that
                            the control group, the process or the machine may have
  inodes=N                  have the kernel forget files beyond so many, 1000 or more, which costs looking them up again;
                            without it the kernel forgets them when it needs the memory
  sandbox, nosandbox        the serving process gives up what serving does not take: on by default; off where the
                            user database lies in places that its helper cannot read
  lease=SECONDS, lease=auto, lease=none
                            how long the store is this machine's without renewing that, 3 to 600, for stores that other
                            machines reach, which all have to say it (docs/SHARED.md); auto: 30 on file systems that several
                            machines can mount, none on others; none by default
  idle_timeout=TIME         unmount when no file is open and nobody has used the mount for TIME: seconds, or a number
                            with s, m, h or d; 0 (default) never does
  metrics=ADDRESS           tell Prometheus how the mount is, at /metrics, and monitoring at /healthz: a loopback address and
                            port, as 127.0.0.1:9100, or the path of a socket; whoever reaches it may ask
  nosuid, suid, nodev, dev  whether set-id bits and file capabilities, and device files, count: no by default, since
                            whoever can write the store can make them; only root can have suid and dev
  exec, noexec, sync, async, dirsync, atime, noatime
                            as mount(8) has them
  remount                   change ro, rw, suid, dev, exec or sync of a mount that is there (root only)
  debug                     log_level=debug
fstab's own words (auto, user, nofail, _netdev, x-..., comment=... and so on) are accepted, unknown ones refused.
A comma or backslash in a value is written \\, or \\\\.";

impl Default for Options {
    fn default() -> Self {
        Self {
            read_only: false,
            allow_other: false,
            suid: None,
            dev: None,
            exec: true,
            noatime: false,
            sync: false,
            dirsync: false,
            writeback: true,
            threads: THREADS,
            io_uring: false,
            cache: CACHE << 20,
            inodes: None,
            sandbox: true,
            lease: Term::ForEver,
            take_over: false,
            idle_timeout: None,
            remount: false,
            unlock: UnlockArgs::default(),
            keyring: None,
            audit: AuditArgs::default(),
            state: StateArgs::default(),
            log_file: None,
            log_level: None,
            metrics: None,
        }
    }
}

impl Options {
    /// Parses the arguments of every `-o`. With `sloppy` (mount's `-s`) unknown words are left out instead of refused.
    pub fn parse<'a>(arguments: impl IntoIterator<Item = &'a str>, sloppy: bool) -> Result<Self, String> {
        let mut options = Self::default();
        for word in arguments.into_iter().flat_map(split) {
            match options.apply(&word) {
                Err(Refused::Unknown) if sloppy => {}
                Err(Refused::Unknown) => return Err(format!("unknown mount option '{word}'")),
                Err(Refused::Value(why)) => return Err(format!("mount option '{word}': {why}")),
                Ok(()) => {}
            }
        }
        Ok(options)
    }

    fn apply(&mut self, word: &str) -> Result<(), Refused> {
        match word.split_once('=') {
            None => self.apply_flag(word),
            Some((name, value)) => self.apply_value(name, value),
        }
    }

    fn apply_flag(&mut self, word: &str) -> Result<(), Refused> {
        match word {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "allow_other" => self.allow_other = true,
            "suid" => self.suid = Some(true),
            "nosuid" => self.suid = Some(false),
            "dev" => self.dev = Some(true),
            "nodev" => self.dev = Some(false),
            "exec" => self.exec = true,
            "noexec" => self.exec = false,
            "noatime" => self.noatime = true,
            "atime" => self.noatime = false,
            "sync" => self.sync = true,
            "async" => self.sync = false,
            "dirsync" => self.dirsync = true,
            "writeback" => self.writeback = true,
            "nowriteback" => self.writeback = false,
            "io_uring" => self.io_uring = true,
            "noio_uring" => self.io_uring = false,
            "sandbox" => self.sandbox = true,
            "nosandbox" => self.sandbox = false,
            "remount" => self.remount = true,
            "debug" => self.log_level = Some(LevelFilter::Debug),
            _ if WITHOUT_EFFECT.contains(&word) || is_private(word) => {}
            "take_over" => {
                let why = "would take the store from whoever has it each time; say --take-over once, to kmsfs mount";
                return Err(Refused::Value(why.into()));
            }
            "accept_rollback" => {
                let why =
                    "would take every rollback from fstab; say --accept-rollback once, to kmsfs mount or kmsfs fsck";
                return Err(Refused::Value(why.into()));
            }
            "key-file" | "passphrase-file" | "passphrase_command" | "recovery_key_file" | "credential" | "keyring"
            | "audit_log" | "audit_full" | "state" | "log_file" | "log_level" | "threads" | "cache" | "inodes"
            | "idle_timeout" | "metrics" | "lease" => {
                return Err(Refused::Value("needs a value, as in NAME=VALUE".into()));
            }
            _ => return Err(Refused::Unknown),
        }
        Ok(())
    }

    fn apply_value(&mut self, name: &str, value: &str) -> Result<(), Refused> {
        match name {
            "key-file" => {
                self.unlock = UnlockArgs { key_file: Some(path(value)?), ..UnlockArgs::default() };
            }
            "passphrase-file" => {
                self.unlock = UnlockArgs { passphrase_file: Some(path(value)?), ..UnlockArgs::default() };
            }
            "passphrase_command" => {
                let command = Some(path(value).map_err(|_| Refused::Value("needs a command".into()))?.into());
                self.unlock = UnlockArgs { passphrase_command: command, ..UnlockArgs::default() };
            }
            "credential" => {
                let name = Some(path(value).map_err(|_| Refused::Value("needs a name".into()))?.into());
                self.unlock = UnlockArgs { credential: name, ..UnlockArgs::default() };
            }
            "recovery_key_file" => {
                self.unlock = UnlockArgs { recovery_key_file: Some(path(value)?), ..UnlockArgs::default() };
            }
            "keyring" => self.keyring = Some(path(value)?),
            "audit_log" => self.audit.set_log(path(value)?),
            "audit_full" => self.audit.set_full(value).map_err(Refused::Value)?,
            "state" => self.state.state = Some(path(value)?),
            "log_file" => self.log_file = Some(path(value)?),
            "log_level" => {
                let level = LevelFilter::from_str(value)
                    .map_err(|_| Refused::Value("must be error, warn, info, debug or trace".into()))?;
                self.log_level = Some(level);
            }
            "threads" => {
                let threads = value.parse().ok().filter(|n| (1..=MAX_THREADS).contains(n));
                self.threads =
                    threads.ok_or_else(|| Refused::Value(format!("must be a number from 1 to {MAX_THREADS}")))?;
            }
            "cache" => {
                let mebibytes = value.parse::<usize>().ok().filter(|n| *n >= LEAST_CACHE);
                let bytes = mebibytes.and_then(|n| n.checked_mul(1 << 20));
                self.cache =
                    bytes.ok_or_else(|| Refused::Value(format!("must be a number of MiB, {LEAST_CACHE} or more")))?;
            }
            "inodes" => {
                let inodes = value.parse().ok().filter(|n| *n >= LEAST_INODES);
                let wrong = || Refused::Value(format!("must be a number, {LEAST_INODES} or more"));
                self.inodes = Some(inodes.ok_or_else(wrong)?);
            }
            "metrics" => {
                let address = value.parse().map_err(|why: &str| Refused::Value(why.into()))?;
                self.metrics = Some(address);
            }
            "idle_timeout" => self.idle_timeout = duration(value)?,
            "lease" if value == "none" => self.lease = Term::ForEver,
            "lease" if value == "auto" => self.lease = Term::ByFileSystem,
            "lease" => {
                let seconds = value.parse().ok().filter(|n| LEASES.contains(n));
                let wrong = || Refused::Value("must be a number of seconds from 3 to 600, auto or none".into());
                self.lease = Term::Of(Duration::from_secs(seconds.ok_or_else(wrong)?));
            }
            _ if WITHOUT_EFFECT_VALUED.contains(&name) || is_private(name) => {}
            _ => return Err(Refused::Unknown),
        }
        Ok(())
    }
}

enum Refused {
    Unknown,
    Value(String),
}

/// fstab comments for other programs: `x-systemd.automount`, `X-mount.mkdir`.
fn is_private(name: &str) -> bool {
    name.starts_with("x-") || name.starts_with("X-")
}

fn path(value: &str) -> Result<PathBuf, Refused> {
    if value.is_empty() { Err(Refused::Value("needs a path".into())) } else { Ok(PathBuf::from(value)) }
}

/// Seconds, or a number with its unit; `None` for 0.
fn duration(value: &str) -> Result<Option<Duration>, Refused> {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &value[digits.len()..] {
        "" | "s" | "sec" => Some(1),
        "m" | "min" => Some(60),
        "h" => Some(60 * 60),
        "d" => Some(24 * 60 * 60),
        _ => None,
    };
    let seconds = digits.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    match seconds {
        Some(0) => Ok(None),
        Some(seconds) => Ok(Some(Duration::from_secs(seconds))),
        None => Err(Refused::Value("must be a number of seconds, or a number with s, m, h or d".into())),
    }
}

/// The words between commas. As in libfuse a backslash takes a comma or backslash as it is; as in libmount so does a
/// pair of double quotes around a value.
fn split(list: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if matches!(chars.peek(), Some(',' | '\\' | '"')) => word.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> Result<Options, String> {
        Options::parse([list], false)
    }

    #[test]
    fn what_fstab_and_mount_add_is_accepted_and_changes_nothing() {
        let words = "rw,suid,dev,exec,noauto,user,users,nofail,_netdev,x-systemd.automount,comment=mine,relatime,\
                     user_id=0,group_id=0,max_read=131072,default_permissions,defaults,auto,X-mount.mkdir=0700,async";
        let expected = Options { suid: Some(true), dev: Some(true), ..Options::default() };
        assert_eq!(parse(words), Ok(expected));
        assert_eq!(parse("remount,rw,relatime,user_id=0,group_id=0").map(|o| o.remount), Ok(true));
    }

    #[test]
    fn unknown_words_are_refused_by_name() {
        assert_eq!(parse("rw,cipher=none").unwrap_err(), "unknown mount option 'cipher=none'");
        assert_eq!(parse("nosymfollow").unwrap_err(), "unknown mount option 'nosymfollow'");
        assert_eq!(parse("key_file=/k").unwrap_err(), "unknown mount option 'key_file=/k'");
        let said = parse("ro,accept_rollback").unwrap_err();
        assert!(said.starts_with("mount option 'accept_rollback': would take every rollback from fstab"), "{said}");
        assert_eq!(parse("ro=yes").unwrap_err(), "unknown mount option 'ro=yes'");
    }

    #[test]
    fn sloppy_leaves_unknown_words_out_but_not_bad_values() {
        assert_eq!(Options::parse(["cipher=none,ro"], true).map(|o| o.read_only), Ok(true));
        assert!(Options::parse(["threads=0"], true).is_err());
    }

    #[test]
    fn an_idle_timeout_has_a_unit_or_is_in_seconds() {
        let timeout = |word: &str| parse(&format!("idle_timeout={word}")).map(|options| options.idle_timeout);
        let seconds = |n| Ok(Some(Duration::from_secs(n)));
        assert_eq!((timeout("90"), timeout("5m"), timeout("2h")), (seconds(90), seconds(300), seconds(7200)));
        assert_eq!(timeout("0"), Ok(None));
        for wrong in ["", "m", "-1", "5 m", "1y", "99999999999999999d"] {
            let said = timeout(wrong).unwrap_err();
            assert!(said.contains("must be a number of seconds"), "{said}");
        }
    }

    #[test]
    fn the_later_of_two_contradicting_words_wins() {
        let options = Options::parse(["ro,nosuid,noexec", "rw,suid,exec,nowriteback,writeback"], false).unwrap();
        assert_eq!(options, Options { suid: Some(true), ..Options::default() });
        assert!(parse("rw,ro").unwrap().read_only);
    }

    #[test]
    fn values_are_checked() {
        assert_eq!(parse("threads=4,log_level=debug").unwrap().threads, 4);
        assert_eq!(parse("threads=65").unwrap_err(), "mount option 'threads=65': must be a number from 1 to 64");
        assert_eq!(
            parse("log_level=loud").unwrap_err(),
            "mount option 'log_level=loud': must be error, warn, info, debug or trace"
        );
        assert_eq!(parse("cache=256").unwrap().cache, 256 << 20);
        for wrong in ["3", "64M", "", "99999999999999999"] {
            let said = parse(&format!("cache={wrong}")).unwrap_err();
            assert_eq!(said, format!("mount option 'cache={wrong}': must be a number of MiB, 4 or more"));
        }
        assert_eq!(parse("inodes=1000").unwrap().inodes, Some(1000));
        assert_eq!(parse("inodes=999").unwrap_err(), "mount option 'inodes=999': must be a number, 1000 or more");
        let why = "must be an address and port, as 127.0.0.1:9100, or a socket's path";
        assert_eq!(parse("metrics=9100").unwrap_err(), format!("mount option 'metrics=9100': {why}"));
        let why = "can be reached from elsewhere: must be a loopback address, as 127.0.0.1:9100";
        assert_eq!(parse("metrics=0.0.0.0:1").unwrap_err(), format!("mount option 'metrics=0.0.0.0:1': {why}"));
        assert_eq!(parse("keyring=").unwrap_err(), "mount option 'keyring=': needs a path");
        assert_eq!(parse("key-file").unwrap_err(), "mount option 'key-file': needs a value, as in NAME=VALUE");
    }

    #[test]
    fn commas_in_values_can_be_written() {
        assert_eq!(parse(r"ro,key-file=/a\,b\\c").unwrap().unlock.key_file, Some(PathBuf::from(r"/a,b\c")));
        assert_eq!(parse(r#"key-file="/a,b",ro"#).unwrap().unlock.key_file, Some(PathBuf::from("/a,b")));
    }

    #[test]
    fn of_several_words_that_open_the_keyring_the_last_counts() {
        let unlock = |list: &str| parse(list).unwrap().unlock;
        let credential = UnlockArgs { credential: Some("disk".into()), ..UnlockArgs::default() };
        assert_eq!(unlock("key-file=/k,passphrase_command=pass show,credential=disk"), credential);
        assert_eq!(unlock(r#"passphrase_command="a,b""#).passphrase_command, Some("a,b".into()));
        assert_eq!(unlock("credential=a,recovery_key_file=/r").recovery_key_file, Some("/r".into()));
        assert_eq!(parse("credential=").unwrap_err(), "mount option 'credential=': needs a name");
        assert_eq!(parse("passphrase=x").unwrap_err(), "unknown mount option 'passphrase=x'");
    }
}
