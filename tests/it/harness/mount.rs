//! Mounts by a `kmsfs` process in the foreground, which the test that starts it takes down.

use super::{Answer, Store, by_io_uring, configuration, is_mounted, kmsfs, read_log, unmount_when_free, wait_until};
use kmsfs_fuse::Place;
use rustix::mount::{UnmountFlags, unmount};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// A mount that is described and not started yet.
pub struct Mounting {
    dir: PathBuf,
    store: PathBuf,
    mountpoint: PathBuf,
    options: String,
    variables: Vec<(String, String)>,
}

impl Mounting {
    /// Without options, on `mnt` in the store's directory.
    pub(super) fn new(dir: &Path, store: &Path) -> Self {
        let (dir, store, mountpoint) = (dir.to_owned(), store.to_owned(), dir.join("mnt"));
        Self { dir, store, mountpoint, options: String::new(), variables: Vec::new() }
    }

    /// With these words of `-o`.
    pub fn options(self, options: &str) -> Self {
        Self { options: options.to_owned(), ..self }
    }

    /// On another directory than `mnt`.
    pub fn at(self, mountpoint: &Path) -> Self {
        Self { mountpoint: mountpoint.to_owned(), ..self }
    }

    /// By a daemon that has this variable in its environment.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Returns once the mount serves requests.
    ///
    /// # Panics
    /// If the daemon ends before that, with what it said and the log.
    #[track_caller]
    pub fn start(self) -> Mount {
        let dir = self.dir.clone();
        self.try_start().unwrap_or_else(|answer| panic!("the mount failed: {answer:?}\n{}", read_log(&dir)))
    }

    /// Returns once the mount serves requests; or what the daemon said when it ended before that.
    #[track_caller]
    pub fn try_start(self) -> Result<Mount, Answer> {
        let said = self.dir.join("daemon.said");
        let logged = read_log(&self.dir).len();
        let mut words = OsString::from("log_file=");
        words.push(self.dir.join("log"));
        if !self.options.is_empty() {
            words.push(",");
            words.push(&self.options);
        }
        if by_io_uring() {
            words.push(",io_uring");
        }
        let child = kmsfs()
            .args(["mount", "--foreground", "--key-file"])
            .arg(self.dir.join("key"))
            .arg("-o")
            .arg(words)
            .args([&self.store, &self.mountpoint])
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&said).unwrap())
            .spawn()
            .unwrap();
        // Made first, so that it ends the daemon whatever happens below.
        let Self { dir, store, mountpoint, variables, .. } = self;
        let mut mount = Mount { dir, store, mountpoint, variables, child: Some(child) };
        let mut ended = None;
        let serves = wait_until(|| {
            ended = mount.child.as_mut().and_then(|child| child.try_wait().unwrap());
            // Logged once the daemon has looked at the mount from outside and is done with it.
            ended.is_some() || read_log(&mount.dir)[logged..].contains("] mounted ")
        });
        if let Some(status) = ended {
            mount.child = None;
            let err = fs::read_to_string(&said).unwrap();
            return Err(Answer { code: status.code().unwrap_or(-1), out: String::new(), err });
        }
        assert!(serves, "the mount does not serve requests:\n{}", read_log(&mount.dir));
        Ok(mount)
    }
}

/// A mount that serves requests. It is unmounted when it is dropped, and its daemon has ended then.
pub struct Mount {
    /// The store's directory, which holds `key` and `log`.
    dir: PathBuf,
    store: PathBuf,
    mountpoint: PathBuf,
    variables: Vec<(String, String)>,
    child: Option<Child>,
}

impl Mount {
    /// A path in the mount.
    pub fn path(&self, path: &str) -> PathBuf {
        self.mountpoint.join(path)
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
        unmount_when_free(&self.mountpoint);
        let status = self.child.take().expect("only taken down once").wait().unwrap();
        assert!(status.success(), "the daemon ended with {status}:\n{}", read_log(&self.dir));
    }

    /// Unmounts and mounts again, without options and in the same environment, so that nothing comes from a cache.
    #[track_caller]
    pub fn remount(&mut self) {
        self.take_down();
        // The one that is replaced has no daemon left to take down.
        let mut mounting = Mounting::new(&self.dir, &self.store).at(&self.mountpoint);
        mounting.variables.clone_from(&self.variables);
        *self = mounting.start();
    }

    /// Somebody has unmounted it: waits for the daemon.
    #[track_caller]
    pub fn ended(mut self) {
        let status = self.child.take().expect("the daemon runs as long as this mount").wait().unwrap();
        assert!(status.success(), "the daemon ended with {status}:\n{}", read_log(&self.dir));
    }

    /// Kills the daemon without warning. The dead mount stays where it is. One that is served by io_uring has its
    /// connection ended instead, and ends by itself: kernels have been left with threads that nothing ends.
    pub fn kill9(mut self) {
        let mut child = self.child.take().expect("the daemon runs as long as this mount");
        if by_io_uring() {
            self.abort();
            child.wait().unwrap();
            return;
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    /// Ends the kernel's connection to the daemon.
    fn abort(&self) {
        if let Ok(place) = Place::at(&self.mountpoint) {
            place.abort().unwrap();
        }
    }

    /// Most memory that the daemon has had resident so far, in bytes.
    pub fn peak_rss(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel tells VmHWM");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1024
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if unmount(&self.mountpoint, UnmountFlags::empty()).is_err() {
            let _ = unmount(&self.mountpoint, UnmountFlags::DETACH);
        }
        if !wait_until(|| child.try_wait().is_ok_and(|status| status.is_some())) {
            if by_io_uring() {
                self.abort();
                wait_until(|| child.try_wait().is_ok_and(|status| status.is_some()));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_test_that_panics_leaves_nothing_mounted_and_no_daemon() {
    let store = Store::new();
    let pid = std::cell::Cell::new(0);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mount = store.mount();
        pid.set(mount.pid());
        // Its mount point is in use, which unmounting has to do with.
        let _open = File::create(mount.bucket("bucket").join("object")).unwrap();
        panic!("as a failed assertion does");
    }));
    assert!(panicked.is_err() && pid.get() != 0);
    assert!(!is_mounted(&store.mountpoint()));
    assert!(!fs::exists(format!("/proc/{}", pid.get())).unwrap());
}

#[test]
fn a_mount_that_another_process_still_has_open_for_a_moment_is_unmounted() {
    let store = Store::new();
    let mount = store.mount();
    let object = File::create(mount.bucket("bucket").join("object")).unwrap();
    let mut holder = std::process::Command::new("sleep").arg("0.3").stdin(object).spawn().unwrap();
    assert_eq!(unmount(store.mountpoint(), UnmountFlags::empty()), Err(rustix::io::Errno::BUSY));
    mount.unmount();
    assert!(holder.wait().unwrap().success());
    // The same for scripts.
    let mount = store.mount();
    store.sh("sleep 0.3 <$MNT/bucket/object & umount $MNT; wait $!");
    mount.ended();
}

#[test]
fn a_mount_that_does_not_come_about_says_why() {
    let store = Store::new();
    let refused = store.mounting().options("no_such_option").try_start().map(drop).unwrap_err();
    refused.expect_failure(2, "unknown mount option 'no_such_option'");
    assert!(!is_mounted(&store.mountpoint()));
}
