//! The only place that imports fuser: decode, call `fs`, map errors to errno.

use crate::fs::Fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// How the kernel mounts it.
#[derive(Debug, Clone)]
pub struct MountOptions {
    pub mountpoint: PathBuf,
    /// Shown as the source in /proc/mounts: the store's path.
    pub source: String,
    pub read_only: bool,
    pub allow_other: bool,
    /// Kernel's writeback cache; on by default.
    pub writeback_cache: bool,
    /// Event loops; 2 by default.
    pub threads: usize,
    pub suid: bool,
    pub dev: bool,
    pub exec: bool,
    pub noatime: bool,
    pub sync: bool,
    pub dirsync: bool,
}

/// A mount that answers (INIT is done).
pub struct Mounted {/* private */}

impl Mounted {
    /// Serves until somebody unmounts.
    pub fn run(self) -> io::Result<()> {
        todo!()
    }
    /// Can be called from another thread: unmounts (lazily if it is busy), which ends `run`.
    pub fn unmounter(&mut self) -> Box<dyn Fn() -> io::Result<()> + Send> {
        todo!()
    }
}

/// Mounts (directly as root, else through fusermount3) and answers the kernel's INIT.
pub fn mount(_fs: Arc<Fs>, _options: &MountOptions) -> io::Result<Mounted> {
    todo!()
}
