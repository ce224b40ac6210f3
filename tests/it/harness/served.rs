//! A mount that the test's own process serves, so that a test can play the KMS and the disk behind it.

use kmsfs_fs::Fs;
use kmsfs_fuse::{self as fuse, MountOptions, Place};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tempfile::TempDir;

/// The name of the thread that looks whether keys have changed.
pub const WATCHER: &str = "watcher";

/// A mount of a file system in this process, which everybody may use. It is unmounted when it is dropped.
pub struct Served {
    dir: TempDir,
    place: Place,
    fs: Arc<Fs>,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Served {
    /// With so many event loops.
    pub fn new(fs: &Arc<Fs>, threads: usize, writeback_cache: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let mountpoint = dir.path().join("mnt");
        std::fs::create_dir(&mountpoint).unwrap();
        let options = MountOptions {
            mountpoint,
            source: "test".into(),
            read_only: false,
            allow_other: true,
            writeback_cache,
            threads,
            io_uring: super::by_io_uring(),
            suid: false,
            dev: false,
            exec: true,
            noatime: false,
            sync: false,
            dirsync: false,
        };
        let root = options.mountpoint.clone();
        let ask = Box::new(move |path: &Path| drop(std::fs::metadata(root.join(path))));
        let mounted = fuse::mount(fs.clone(), &options, ask, |_| Ok(())).unwrap();
        let place = Place::at(&options.mountpoint).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let served = thread::spawn(move || mounted.run().unwrap());
        let (watched, stop) = (fs.clone(), ended.clone());
        let watch = move || {
            while !stop.load(Ordering::SeqCst) {
                watched.watch_keys();
                thread::sleep(Duration::from_millis(20));
            }
        };
        let watcher = thread::Builder::new().name(WATCHER.into()).spawn(watch).unwrap();
        Self { dir, place, fs: fs.clone(), ended, threads: vec![served, watcher] }
    }

    /// A path in the mount.
    pub fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join("mnt").join(path)
    }

    /// Ends the kernel's connection, as `umount -f` does, and waits until nothing is served any more.
    pub fn abort(&mut self) {
        self.place.abort().unwrap();
        self.threads.remove(0).join().unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        self.place.unmount(false).unwrap();
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            // A second panic would hide the first.
            assert!(ended.is_ok() || thread::panicking());
        }
        self.fs.stop_draining();
    }
}
