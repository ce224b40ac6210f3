//! Where kmsfs is mounted, as this process's mount namespace has it.

pub use kmsfs_fuse::Mount;
use kmsfs_fuse::{TYPE, mounted_at};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The kmsfs mount right at `target` (absolute, without symlinks), if that is the topmost mount there.
///
/// # Errors
///
/// /proc/self/mountinfo cannot be read.
pub fn at(target: &Path) -> io::Result<Option<Mount>> {
    Ok(mounted_at(target)?.filter(|mount| mount.kind == TYPE))
}

/// The kmsfs mount that `path` (absolute, without symlinks) lies in.
///
/// # Errors
///
/// `path` does not exist or cannot be looked at, or /proc/self/mountinfo cannot be read.
pub fn of(path: &Path) -> io::Result<Option<Mount>> {
    let device = fs::metadata(path)?.dev();
    let device = (rustix::fs::major(device), rustix::fs::minor(device));
    let contains = |mount: &Mount| mount.kind == TYPE && mount.device == device && path.starts_with(&mount.target);
    Ok(kmsfs_fuse::mounts()?.into_iter().rfind(contains))
}

/// Where the store in the directory `store` (absolute, without symlinks) is mounted; empty if it is not.
///
/// # Errors
///
/// /proc/self/mountinfo cannot be read.
pub fn of_store(store: &Path) -> io::Result<Vec<PathBuf>> {
    let of_it = kmsfs_fuse::mounts()?.into_iter().filter(|mount| mount.kind == TYPE && mount.source == store);
    Ok(of_it.map(|mount| mount.target).collect())
}
