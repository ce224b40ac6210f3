//! One store, mounted for one test, in the words of docs/SEMANTICS.md.

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use rustix::io::Errno;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PREFIX: &str = "user.x-amz-server-side-encryption";
/// Long enough for a machine that is busy with other tests; what is waited for takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct MountedStore {
    dir: tempfile::TempDir,
    daemon: Option<Child>,
}

impl MountedStore {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("mnt")).unwrap();
        let mut mounted = Self { dir, daemon: None };
        let (key_file, store) = (mounted.path("key"), mounted.path("store"));
        kmsfs(&["init".as_ref(), "--key-file".as_ref(), key_file.as_os_str(), store.as_os_str()]).unwrap();
        mounted.mount_again();
        mounted
    }

    pub fn with_buckets(names: &[&str]) -> Self {
        let mounted = Self::new();
        for name in names {
            fs::create_dir(mounted.at(name)).unwrap();
        }
        mounted
    }

    /// A path in the mount.
    pub fn at(&self, path: &str) -> PathBuf {
        self.path("mnt").join(path)
    }

    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    pub fn remount(&mut self) {
        // A process that another test is just starting has our descriptors until it is the program it becomes.
        self.eventually(|| rustix::mount::unmount(self.at(""), rustix::mount::UnmountFlags::empty()).is_ok());
        let status = self.daemon.take().unwrap().wait().unwrap();
        assert!(status.success(), "{status}");
        self.mount_again();
    }

    pub fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// Where no daemon is running.
    pub fn mount_again(&mut self) {
        assert!(self.daemon.is_none());
        let daemon = self.mount_command(&self.path("mnt")).stdout(Stdio::null()).spawn().unwrap();
        self.daemon = Some(daemon);
        let source = self.path("store");
        self.eventually(|| {
            let outside = fs::metadata(&source).unwrap();
            fs::metadata(self.at("")).is_ok_and(|inside| device(&inside) != device(&outside))
                && rustix::fs::statvfs(self.at("")).is_ok()
        });
    }

    /// A second mount of the same store; what it says on standard error.
    pub fn mount_elsewhere(&self) -> Result<(), String> {
        fs::create_dir(self.path("elsewhere")).unwrap();
        succeed(self.mount_command(&self.path("elsewhere"))).map(drop)
    }

    /// Waits for a line of the daemon's log that contains `text`.
    pub fn expect_log(&self, text: &str) {
        let log = || fs::read_to_string(self.path("log")).unwrap_or_default();
        assert!(within_patience(|| log().contains(text)), "{text:?} is not in the log:\n{}", log());
    }

    pub fn eventually(&self, condition: impl Fn() -> bool) {
        let log = || fs::read_to_string(self.path("log")).unwrap_or_default();
        assert!(within_patience(condition), "what was waited for did not happen; the log:\n{}", log());
    }

    // ---- encryption

    /// Writes the configuration into `dir`, synced, and answers its text.
    pub fn set_default(&self, dir: &str, by_default: &str, bucket_key: Option<bool>) -> String {
        let content = rules(by_default, bucket_key);
        write_synced(&self.at(dir).join(".encryption.json"), &content).unwrap();
        content
    }

    pub fn algorithm(&self, path: &str) -> String {
        self.header(path, "").unwrap()
    }

    pub fn key_arn(&self, path: &str) -> Option<String> {
        match self.header(path, "-aws-kms-key-id") {
            Ok(arn) => Some(arn),
            Err(Errno::NODATA) => None,
            Err(errno) => panic!("{path}: {errno}"),
        }
    }

    pub fn etag(&self, path: &str) -> String {
        self.get_xattr(path, "user.etag").unwrap()
    }

    /// `name` is what follows `x-amz-server-side-encryption`.
    pub fn header(&self, path: &str, name: &str) -> Result<String, Errno> {
        self.get_xattr(path, &format!("{PREFIX}{name}"))
    }

    pub fn set_header(&self, path: &str, name: &str, value: &str) -> Result<(), Errno> {
        self.set_xattr(path, &format!("{PREFIX}{name}"), value)
    }

    pub fn get_xattr(&self, path: &str, name: &str) -> Result<String, Errno> {
        let mut value = vec![0; 64 * 1024];
        let len = rustix::fs::getxattr(self.at(path), name, &mut value[..])?;
        value.truncate(len);
        Ok(String::from_utf8(value).unwrap())
    }

    pub fn set_xattr(&self, path: &str, name: &str, value: &str) -> Result<(), Errno> {
        rustix::fs::setxattr(self.at(path), name, value.as_bytes(), XattrFlags::empty())
    }

    pub fn list_xattrs(&self, path: &str) -> Vec<String> {
        let mut names = vec![0; 64 * 1024];
        let len = rustix::fs::listxattr(self.at(path), &mut names[..]).unwrap();
        names[..len].split(|&b| b == 0).filter(|n| !n.is_empty()).map(|n| String::from_utf8_lossy(n).into()).collect()
    }

    // ---- commands

    /// `kmsfs kms …`; its JSON, or null where it answers nothing.
    pub fn kms(&self, arguments: &[&str]) -> Value {
        let (store, key_file) = (self.path("store"), self.path("key"));
        let mut all: Vec<&OsStr> = vec!["kms".as_ref(), "--store".as_ref(), store.as_os_str()];
        all.extend(["--key-file".as_ref(), key_file.as_os_str()]);
        all.extend(arguments.iter().map(OsStr::new));
        json(&kmsfs(&all).unwrap())
    }

    /// A customer key with this alias; its ARN.
    pub fn create_key(&self, alias: &str) -> String {
        let key = self.kms(&["create-key"]);
        let id = key["KeyMetadata"]["KeyId"].as_str().unwrap();
        self.kms(&["create-alias", "--alias-name", alias, "--target-key-id", id]);
        key["KeyMetadata"]["Arn"].as_str().unwrap().to_owned()
    }

    /// `kmsfs put`; its JSON, or what it says on standard error.
    pub fn put(&self, content: &str, path: &str, options: &[&str]) -> Result<Value, String> {
        let source = self.outside(content);
        let target = self.at(path);
        let mut all: Vec<&OsStr> = vec!["put".as_ref()];
        all.extend(options.iter().map(OsStr::new));
        all.extend([source.path().as_os_str(), target.as_os_str()]);
        kmsfs(&all).map(|text| json(&text))
    }

    pub fn stat(&self, path: &str) -> Value {
        json(&kmsfs(&["stat".as_ref(), self.at(path).as_os_str()]).unwrap())
    }

    /// With cp, which tells what close(2) answers.
    pub fn copy_in(&self, content: &str, path: &str) -> Result<(), String> {
        let source = self.outside(content);
        run("cp", &[source.path(), &self.at(path)])
    }

    pub fn make_fifo(&self, path: &str) -> Result<(), Errno> {
        rustix::fs::mknodat(CWD, self.at(path), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
    }

    fn mount_command(&self, mountpoint: &Path) -> Command {
        let mut options = std::ffi::OsString::from("log_file=");
        options.push(self.path("log"));
        let mut command = crate::harness::kmsfs();
        command.args(["mount", "--foreground", "--key-file"]).arg(self.path("key"));
        command.arg("-o").arg(options).arg(self.path("store")).arg(mountpoint);
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn outside(&self, content: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new_in(self.dir.path()).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file
    }
}

impl Drop for MountedStore {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.at(""), rustix::mount::UnmountFlags::DETACH);
        if let Some(mut daemon) = self.daemon.take()
            && !within_patience(|| daemon.try_wait().is_ok_and(|status| status.is_some()))
        {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// What the program says on standard error if it fails.
pub fn run(program: &str, arguments: &[&Path]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").env(crate::harness::STATE, "none");
    succeed(command).map(drop)
}

fn kmsfs(arguments: &[&OsStr]) -> Result<String, String> {
    let mut command = crate::harness::kmsfs();
    command.args(arguments);
    succeed(command)
}

/// S3's configuration with one rule.
pub fn rules(by_default: &str, bucket_key: Option<bool>) -> String {
    let bucket_key = bucket_key.map(|on| format!(r#","BucketKeyEnabled":{on}"#)).unwrap_or_default();
    format!(r#"{{"Rules":[{{"ApplyServerSideEncryptionByDefault":{by_default}{bucket_key}}}]}}"#)
}

/// Unlike `fs::write` it hears of an error that comes when the file is written out.
pub fn write_synced(path: &Path, content: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

/// Of something that has to fail.
#[track_caller]
pub fn errno<T, E: Into<io::Error>>(result: Result<T, E>) -> Errno {
    match result {
        Ok(_) => panic!("it succeeded"),
        Err(error) => Errno::from_io_error(&error.into()).expect("an error of a system call"),
    }
}

fn device(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::dev(metadata)
}

fn json(text: &str) -> Value {
    if text.trim().is_empty() { Value::Null } else { serde_json::from_str(text).expect(text) }
}

/// Standard output, or standard error of a command that fails.
fn succeed(mut command: Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn within_patience(mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    condition()
}
