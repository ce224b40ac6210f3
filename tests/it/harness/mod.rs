//! A store with its key file in a directory of its own, mounts of it, and the commands that tests run on them.
//!
//! Everything is taken down when the guards are dropped, by a panic too: mounts are unmounted, daemons waited for, and
//! only processes that were started here are ended.

mod disk;
mod files;
mod system;

pub use disk::Disk;
pub use files::*;
pub use system::NOBODY;

use rustix::fs::FlockOperation;
use rustix::mount::{UnmountFlags, unmount};
use serde_json::Value;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const KMSFS: &str = env!("CARGO_BIN_EXE_kmsfs");

/// The program, which keeps what it sees of stores nowhere, unless a test says otherwise: tests put stores back, and
/// the machine's own directory is none of theirs.
pub fn kmsfs() -> Command {
    let mut command = Command::new(KMSFS);
    command.env(STATE, "none");
    command
}

/// The variable that says where what was last seen of stores is kept.
pub const STATE: &str = "KMSFS_STATE";

/// What is waited for takes milliseconds; a busy machine may take longer. Running out of it is a failure.
const PATIENCE: Duration = Duration::from_secs(30);
/// So that a mount that hangs fails a test instead of the whole run.
const COMMAND_SECONDS: &str = "600";

/// A store and its key file. Unmounts whatever is mounted below its directory when dropped.
pub struct Store {
    dir: TempDir,
    store: PathBuf,
}

impl Store {
    /// In the directory for temporary files.
    pub fn new() -> Self {
        Self::in_dir(tempfile::tempdir().unwrap())
    }

    /// In memory, where syncs cost nothing.
    pub fn on_tmpfs() -> Self {
        Self::in_dir(TempDir::new_in("/dev/shm").unwrap())
    }

    /// The store lies elsewhere, for instance on a [`Disk`]; the key file and the mount point do not.
    pub fn at(store: &Path) -> Self {
        Self::init(tempfile::tempdir().unwrap(), store.to_owned(), "")
    }

    /// With options of `kmsfs init`.
    pub fn made_with(options: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        Self::init(dir, store, options)
    }

    fn in_dir(dir: TempDir) -> Self {
        let store = dir.path().join("store");
        Self::init(dir, store, "")
    }

    fn init(dir: TempDir, store: PathBuf, options: &str) -> Self {
        // The directory's real path, as /proc/mounts will show it.
        fs::create_dir(dir.path().join("mnt")).unwrap();
        let made = Self { dir, store };
        made.sh(&format!("kmsfs init --key-file $KEY {options} $STORE"));
        made
    }

    /// The directory that holds `key`, `mnt`, `log` and usually `store`, and that scripts run in.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn store(&self) -> &Path {
        &self.store
    }

    pub fn mountpoint(&self) -> PathBuf {
        self.path("mnt")
    }

    pub fn mount(&self) -> Mount<'_> {
        self.mount_with("")
    }

    /// `options` are words of `-o`.
    pub fn mount_with(&self, options: &str) -> Mount<'_> {
        self.try_mount(options).unwrap_or_else(|answer| panic!("the mount failed: {answer:?}\n{}", self.log()))
    }

    /// As `mount_with`, by a daemon that has this variable in its environment.
    pub fn mount_in_environment(&self, options: &str, variable: (&str, &str)) -> Mount<'_> {
        let mounted = self.start_mount(options, Some(variable));
        mounted.unwrap_or_else(|answer| panic!("the mount failed: {answer:?}\n{}", self.log()))
    }

    /// Answers once the mount does, or what the process said when it ended.
    pub fn try_mount(&self, options: &str) -> Result<Mount<'_>, Answer> {
        self.start_mount(options, None)
    }

    fn start_mount(&self, options: &str, variable: Option<(&str, &str)>) -> Result<Mount<'_>, Answer> {
        let said = self.path("daemon.said");
        let logged = self.log().len();
        let mut words = OsString::from("log_file=");
        words.push(self.path("log"));
        if !options.is_empty() {
            words.push(",");
            words.push(options);
        }
        let child = kmsfs()
            .args(["mount", "--foreground", "--key-file"])
            .arg(self.path("key"))
            .arg("-o")
            .arg(words)
            .args([self.store(), &self.mountpoint()])
            .envs(variable)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&said).unwrap())
            .spawn()
            .unwrap();
        // Made first, so that it ends the daemon whatever happens below.
        let mut mount = Mount { store: self, child: Some(child) };
        let mut ended = None;
        let answers = wait_until(|| {
            ended = mount.child.as_mut().and_then(|child| child.try_wait().unwrap());
            // Said once the daemon has looked at the mount from outside and is done with it.
            ended.is_some() || self.log()[logged..].contains("] mounted ")
        });
        if let Some(status) = ended {
            mount.child = None;
            let err = fs::read_to_string(&said).unwrap();
            return Err(Answer { code: status.code().unwrap_or(-1), out: String::new(), err });
        }
        assert!(answers, "the mount does not answer:\n{}", self.log());
        Ok(mount)
    }

    /// What the daemons of this store have logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits for a line of the log that contains `text`.
    #[track_caller]
    pub fn expect_log(&self, text: &str) {
        assert!(wait_until(|| self.log().contains(text)), "{text:?} is not in the log:\n{}", self.log());
    }

    /// Waits until no process has the store open.
    pub fn wait_until_closed(&self) {
        let Ok(lock) = File::open(self.store().join("lock")) else { return };
        let closed = wait_until(|| rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok());
        assert!(closed || std::thread::panicking(), "a daemon goes on after unmounting:\n{}", self.log());
    }

    /// The script's standard output; it has to succeed. `bash -euo pipefail` in [`Store::dir`], with `kmsfs` in the
    /// path and the variables STORE, KEY and MNT.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        let answer = self.try_sh(script);
        assert!(answer.code == 0, "{script}\nanswered {answer:?}\nthe log:\n{}", self.log());
        answer.out
    }

    pub fn try_sh(&self, script: &str) -> Answer {
        self.run_script(&[], script)
    }

    /// The same as a user without a name, without privileges and in no other group. The directory has to be open to
    /// that user (see [`Store::open_to_all`]).
    pub fn sh_as(&self, uid: u32, script: &str) -> Answer {
        let id = uid.to_string();
        self.run_script(&["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--"], script)
    }

    /// Lets other users reach the mount point, and puts `kmsfs` where they can run it.
    pub fn open_to_all(&self) {
        self.sh(r#"chmod 755 . && mkdir bin && cp "$(command -v kmsfs)" bin/ && chmod -R 755 bin"#);
    }

    fn run_script(&self, prefix: &[&str], script: &str) -> Answer {
        let binaries = Path::new(KMSFS).parent().unwrap();
        let path = format!("{}:{}:{}", self.path("bin").display(), binaries.display(), std::env::var("PATH").unwrap());
        let words = ["timeout", "--kill-after=9", COMMAND_SECONDS, "bash", "-euo", "pipefail", "-c", script];
        let words: Vec<&str> = prefix.iter().copied().chain(words).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(self.dir()).env("PATH", path).env("LC_ALL", "C");
        command
            .env(STATE, "none")
            .env("STORE", self.store())
            .env("KEY", self.path("key"))
            .env("MNT", self.mountpoint());
        Answer::of(command)
    }

    /// `kmsfs kms`; its JSON, or null where it answers nothing.
    #[track_caller]
    pub fn kms(&self, arguments: &str) -> Value {
        json(&self.sh(&format!("kmsfs kms --store $STORE --key-file $KEY {arguments}")))
    }

    /// KMS wants the id or the ARN here, not an alias.
    pub fn disable_key(&self, key: &str) {
        self.kms(&format!("disable-key --key-id {key}"));
    }

    pub fn enable_key(&self, key: &str) {
        self.kms(&format!("enable-key --key-id {key}"));
    }

    /// A customer key with this alias; its ARN.
    pub fn create_key(&self, alias: &str) -> String {
        let key = self.kms(&format!("create-key --description {alias}"));
        let id = key["KeyMetadata"]["KeyId"].as_str().expect("a KeyId");
        self.kms(&format!("create-alias --alias-name {alias} --target-key-id {id}"));
        key["KeyMetadata"]["Arn"].as_str().expect("an Arn").to_owned()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let left = mounts_below(self.dir());
        for target in left.iter().rev() {
            let _ = unmount(target, UnmountFlags::DETACH);
        }
        if !left.is_empty() {
            self.wait_until_closed();
        }
    }
}

/// A mount that answers. Unmounts when dropped.
pub struct Mount<'a> {
    store: &'a Store,
    child: Option<Child>,
}

impl Mount<'_> {
    /// A path in the mount.
    pub fn path(&self, path: &str) -> PathBuf {
        self.store.mountpoint().join(path)
    }

    /// Makes a bucket; its path.
    pub fn bucket(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// Writes `.encryption.json` into a directory of the mount.
    pub fn set_default(&self, dir: &str, by_default: &str, bucket_key: bool) {
        let content = configuration(by_default, bucket_key);
        fs::write(self.path(dir).join(".encryption.json"), content).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map(Child::id).expect("the daemon runs as long as this mount")
    }

    /// Unmounts, and expects that the daemon ends well.
    #[track_caller]
    pub fn unmount(mut self) {
        self.take_down();
    }

    #[track_caller]
    fn take_down(&mut self) {
        // A process that another test is just starting has our descriptors until it is the program it becomes.
        let unmounted = wait_until(|| unmount(self.store.mountpoint(), UnmountFlags::empty()).is_ok());
        assert!(unmounted, "somebody uses the mount");
        let status = self.child.take().expect("only taken down once").wait().unwrap();
        assert!(status.success(), "the daemon ended with {status}:\n{}", self.store.log());
    }

    /// Unmounts and mounts anew, so that nothing comes from a cache.
    #[track_caller]
    pub fn remount(&mut self) {
        self.take_down();
        let mut fresh = self.store.mount();
        self.child = fresh.child.take();
        // Its daemon lives on in this mount.
        std::mem::forget(fresh);
    }

    /// Somebody has unmounted it: waits for the daemon.
    #[track_caller]
    pub fn ended(mut self) {
        let status = self.child.take().expect("the daemon runs as long as this mount").wait().unwrap();
        assert!(status.success(), "the daemon ended with {status}:\n{}", self.store.log());
    }

    /// Kills the daemon without warning. The dead mount stays where it is.
    pub fn kill9(mut self) {
        let mut child = self.child.take().expect("the daemon runs as long as this mount");
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    /// Most memory that the daemon has had resident so far, in bytes.
    pub fn peak_rss(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel tells VmHWM");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1024
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let target = self.store.mountpoint();
        if unmount(&target, UnmountFlags::empty()).is_err() {
            let _ = unmount(&target, UnmountFlags::DETACH);
        }
        if !wait_until(|| child.try_wait().is_ok_and(|status| status.is_some())) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Answer {
    fn of(mut command: Command) -> Self {
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// It has to have failed with this code, and with this text in what it said on standard error.
    #[track_caller]
    pub fn expect_failure(&self, code: i32, text: &str) {
        assert!(self.code == code && self.err.contains(text), "expected {code} and {text:?}, got {self:?}");
    }
}

/// Whether that happened within the patience of this file.
pub fn wait_until(mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    condition()
}

pub fn is_mounted(target: &Path) -> bool {
    mounts_below(target).iter().any(|mounted| mounted == target)
}

/// Mount points at or below `dir`, in the order of mounting.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read("/proc/self/mountinfo").unwrap();
    let lines = table.split(|&byte| byte == b'\n').filter_map(|line| line.split(|&byte| byte == b' ').nth(4));
    // Names under test directories have no characters that the table escapes.
    lines.map(|field| PathBuf::from(OsString::from_vec(field.to_vec()))).filter(|path| path.starts_with(dir)).collect()
}

fn json(text: &str) -> Value {
    if text.trim().is_empty() { Value::Null } else { serde_json::from_str(text).expect(text) }
}
