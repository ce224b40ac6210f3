//! The command line as users and mount(8) call it: exit codes, what it says, what it leaves behind.

mod buckets;
mod doctor;
mod fsck;
mod iam;
mod input;
mod kms;
mod messages;
mod metrics;
mod mount8;
mod mounting;
mod named;
mod options;
mod output;
mod scrub;
mod status;
mod umount;

use crate::harness::{Answer, KMSFS, STATE, Store, unmount_when_free, wait_until};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory with a mount point, and a key file and store if they were asked for. Nothing in it stays mounted.
struct Place {
    store: Store,
}

impl Place {
    fn empty() -> Self {
        Self { store: Store::absent() }
    }

    fn with_store() -> Self {
        Self { store: Store::new() }
    }

    /// Without symlinks, as the program shows paths.
    fn path(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.store.dir()).unwrap().join(name)
    }

    fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// `kmsfs mount --key-file KEY [more] STORE MNT`, with messages to a file named log.
    fn mount(&self, more: &[&str]) -> Answer {
        let mut words: Vec<OsString> = ["mount", "--key-file"].map(OsString::from).to_vec();
        words.push(self.path("key").into());
        words.push("-o".into());
        words.push(self.log_option().into());
        words.extend(more.iter().map(OsString::from));
        words.extend([self.path("store").into(), self.path("mnt").into()]);
        run(KMSFS, words)
    }

    fn log_option(&self) -> String {
        format!("log_file={}", self.shown("log"))
    }

    fn log(&self) -> String {
        self.store.log()
    }

    /// Type, source and options of what is mounted on the mount point.
    fn mounted(&self) -> Option<(String, String, String)> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let target = self.shown("mnt");
        let line = mounts.lines().rfind(|line| line.split(' ').nth(1) == Some(&target))?;
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        Some((words[2].clone(), words[0].clone(), words[3].clone()))
    }

    fn unmount(&self) {
        unmount_when_free(&self.path("mnt"));
    }

    /// Processes that were started to mount this place's store.
    fn daemons(&self) -> Vec<u32> {
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        let store = self.shown("store");
        let mounts_it = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|&byte| byte == 0).any(|word| word == store.as_bytes())
        };
        pids.filter(mounts_it).collect()
    }

    fn wait_for_daemon(&self) {
        assert!(wait_until(|| self.daemons().is_empty()), "still there: {:?}\n{}", self.daemons(), self.log());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.store.unmount_all();
        wait_until(|| self.daemons().is_empty());
    }
}

fn run<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, words: impl IntoIterator<Item = S>) -> Answer {
    let mut command = Command::new(program);
    command.args(words).env("LC_ALL", "C").env(STATE, "none");
    Answer::of(command)
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
