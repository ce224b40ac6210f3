//! One store, mounted for one test, in the words of docs/SEMANTICS.md.

pub use crate::harness::errno;
use crate::harness::{self, Answer, Mount, Store, json, wait_until};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use rustix::io::Errno;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A store and its mount, which is there except between [`MountedStore::kill_daemon`] and
/// [`MountedStore::mount_again`].
pub struct MountedStore {
    mount: Option<Mount>,
    store: Store,
}

impl MountedStore {
    pub fn new() -> Self {
        let store = Store::new();
        Self { mount: Some(store.mount()), store }
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
        self.store.mountpoint().join(path)
    }

    pub fn daemon_pid(&self) -> u32 {
        self.mount.as_ref().unwrap().pid()
    }

    pub fn remount(&mut self) {
        self.mount.take().unwrap().unmount();
        self.mount_again();
    }

    pub fn kill_daemon(&mut self) {
        self.mount.take().unwrap().kill9();
    }

    /// Where no daemon is running.
    pub fn mount_again(&mut self) {
        assert!(self.mount.is_none());
        self.mount = Some(self.store.mount());
    }

    /// A second mount of the same store; what it says on standard error.
    pub fn mount_elsewhere(&self) -> Result<(), String> {
        let mountpoint = self.store.path("elsewhere");
        fs::create_dir(&mountpoint).unwrap();
        self.store.mounting().at(&mountpoint).try_start().map(drop).map_err(|answer| answer.err)
    }

    /// Waits for a line of the daemon's log that contains `text`.
    #[track_caller]
    pub fn expect_log(&self, text: &str) {
        self.store.expect_log(text);
    }

    #[track_caller]
    pub fn eventually(&self, condition: impl Fn() -> bool) {
        assert!(wait_until(condition), "what was waited for did not happen; the log:\n{}", self.store.log());
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
        harness::header(&self.at(path), name)
    }

    pub fn set_header(&self, path: &str, name: &str, value: &str) -> Result<(), Errno> {
        harness::set_header(&self.at(path), name, value)
    }

    pub fn get_xattr(&self, path: &str, name: &str) -> Result<String, Errno> {
        harness::xattr(&self.at(path), name)
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
        let (store, key_file) = (self.store.path("store"), self.store.path("key"));
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

    fn outside(&self, content: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new_in(self.store.dir()).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file
    }
}

/// What the program says on standard error if it fails.
pub fn run(program: &str, arguments: &[&Path]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").env(crate::harness::STATE, "none");
    Answer::of(command).into_result().map(drop)
}

fn kmsfs(arguments: &[&OsStr]) -> Result<String, String> {
    let mut command = crate::harness::kmsfs();
    command.args(arguments);
    Answer::of(command).into_result()
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
