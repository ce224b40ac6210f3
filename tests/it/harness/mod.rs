//! A store with its key file in a directory of its own, mounts of it, and the commands that tests run on them.
//!
//! Everything is taken down when the guards are dropped, by a panic too: mounts are unmounted, daemons waited for, and
//! only processes that were started here are ended.

mod disk;
mod files;
mod mount;
mod served;
mod system;

pub use disk::Disk;
pub use files::*;
pub use mount::{Mount, Mounting};
pub use served::{Served, WATCHER};
pub use system::NOBODY;

use rustix::fs::FlockOperation;
use rustix::mount::{UnmountFlags, unmount};
use serde_json::Value;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The program that is tested: cargo's, unless the tests are compiled for another one
/// (`scripts/conformance optimized`).
pub const KMSFS: &str = match option_env!("KMSFS_PROGRAM") {
    Some(program) => program,
    None => env!("CARGO_BIN_EXE_kmsfs"),
};

/// The program, which keeps what it sees of stores nowhere, unless a test says otherwise: tests put stores back, and
/// the machine's own directory is none of theirs.
pub fn kmsfs() -> Command {
    let mut command = Command::new(KMSFS);
    command.env(STATE, "none");
    command
}

/// The variable that says where what was last seen of stores is kept.
pub const STATE: &str = "KMSFS_STATE";

/// Whether mounts that tests make by [`Mounting`] and [`Served`] are to be served by io_uring: so says the variable
/// `KMSFS_TEST_TRANSPORT`, which `scripts/conformance rings` sets.
pub fn by_io_uring() -> bool {
    std::env::var_os("KMSFS_TEST_TRANSPORT").is_some_and(|transport| transport == "io_uring")
}

/// What is waited for takes milliseconds; a busy machine may take longer. Running out of it is a failure.
const PATIENCE: Duration = Duration::from_secs(30);
/// So that a mount that hangs fails a test instead of the whole run.
const COMMAND_SECONDS: &str = "600";

/// A store and its key file in a directory of their own. When it is dropped, whatever is mounted below that directory
/// is unmounted.
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

    /// Without a key file and a store: those that `kmsfs init` is tried with.
    pub fn absent() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        Self::with_mountpoint(dir, store)
    }

    fn with_mountpoint(dir: TempDir, store: PathBuf) -> Self {
        fs::create_dir(dir.path().join("mnt")).unwrap();
        Self { dir, store }
    }

    fn init(dir: TempDir, store: PathBuf, options: &str) -> Self {
        let made = Self::with_mountpoint(dir, store);
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

    pub fn mount(&self) -> Mount {
        self.mount_with("")
    }

    /// `options` are words of `-o`.
    pub fn mount_with(&self, options: &str) -> Mount {
        self.mounting().options(options).start()
    }

    /// The mount, or what the daemon said when it ended without mounting.
    pub fn try_mount(&self, options: &str) -> Result<Mount, Answer> {
        self.mounting().options(options).try_start()
    }

    /// A mount of this store, to be described further and started.
    pub fn mounting(&self) -> Mounting {
        Mounting::new(self.dir(), &self.store)
    }

    /// What the daemons of this store have logged so far.
    pub fn log(&self) -> String {
        read_log(self.dir())
    }

    /// Waits for a line of the log that contains `text`.
    #[track_caller]
    pub fn expect_log(&self, text: &str) {
        assert!(wait_until(|| self.log().contains(text)), "{text:?} is not in the log:\n{}", self.log());
    }

    /// Unmounts whatever is mounted below this directory, and returns whether anything was.
    pub fn unmount_all(&self) -> bool {
        let left = mounts_below(self.dir());
        for target in left.iter().rev() {
            let _ = unmount(target, UnmountFlags::DETACH);
        }
        !left.is_empty()
    }

    /// Waits until no process has the store open.
    pub fn wait_until_closed(&self) {
        let Ok(lock) = File::open(self.store().join("lock")) else { return };
        let closed = wait_until(|| rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok());
        assert!(closed || std::thread::panicking(), "a daemon goes on after unmounting:\n{}", self.log());
        // Said rather than left to closing, which unlocks only once no process that is being started has a copy.
        let _ = rustix::fs::flock(&lock, FlockOperation::Unlock);
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
        let script = format!("{UMOUNT}\n{script}");
        let words = ["timeout", "--kill-after=9", COMMAND_SECONDS, "bash", "-euo", "pipefail", "-c", &script];
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
        if self.unmount_all() {
            self.wait_until_closed();
        }
    }
}

/// How a command ended and what it said.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Answer {
    /// Runs the command to its end, with nothing on its standard input.
    pub fn of(mut command: Command) -> Self {
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Standard output, or standard error of a command that failed.
    pub fn into_result(self) -> Result<String, String> {
        if self.code == 0 { Ok(self.out) } else { Err(self.err) }
    }

    /// It has to have failed with this code, and with this text in what it said on standard error.
    #[track_caller]
    pub fn expect_failure(&self, code: i32, text: &str) {
        assert!(self.code == code && self.err.contains(text), "expected {code} and {text:?}, got {self:?}");
    }
}

/// Polls `condition` until it is true, and returns whether it became so within [`PATIENCE`].
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

/// umount(8) for scripts, as [`unmount_when_free`] is for tests.
const UMOUNT: &str = r#"umount() {
    local said tries=0
    while ! said=$(command umount "$@" 2>&1); do
        if [[ $said != *"target is busy"* ]] || ((++tries > 3000)); then echo "$said" >&2; return 32; fi
        sleep 0.01
    done
}"#;

/// Unmounts, once nobody uses the mount any more.
///
/// A process that another thread is just starting has copies of this one's descriptors until it has become the program
/// that it is to run. So a file that the test has closed can still be open for a moment, and the mount busy.
///
/// # Panics
/// If it stays in use, or cannot be unmounted.
#[track_caller]
pub fn unmount_when_free(target: &Path) {
    let mut last = Ok(());
    wait_until(|| {
        last = unmount(target, UnmountFlags::empty());
        last != Err(rustix::io::Errno::BUSY)
    });
    last.unwrap_or_else(|errno| panic!("{} cannot be unmounted: {errno}", target.display()));
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

/// What the daemons of the store in `dir` have logged so far.
fn read_log(dir: &Path) -> String {
    fs::read_to_string(dir.join("log")).unwrap_or_default()
}

/// The JSON that a command printed; null if it printed nothing.
pub fn json(text: &str) -> Value {
    if text.trim().is_empty() { Value::Null } else { serde_json::from_str(text).expect(text) }
}
