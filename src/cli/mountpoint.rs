//! Whether a mount point will do.

use super::exit::{Failure, describe};
use super::text::shown;
use kmsfs_client::mounts;
use rustix::mount::{UnmountFlags, unmount};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The mount point made absolute, and fit to be mounted on: a directory that exists and is no kmsfs mount. The mount of
/// a daemon that is gone is taken away. Returns warnings too, for standard error and the log.
pub fn prepare(mountpoint: &Path) -> Result<(PathBuf, Vec<String>), Failure> {
    let mut warnings = Vec::new();
    let target = without_symlinks(mountpoint).map_err(|e| missing(mountpoint, &e))?;
    // Each round takes one dead mount away; there may be several on top of each other.
    while let Some(mount) = mounts::at(&target).map_err(|e| failed("/proc/self/mountinfo", &e))? {
        if !is_dead(&target) {
            let text = format!("{} is already mounted: {} is mounted there", shown(mountpoint), shown(&mount.source));
            return Err(Failure::new(text));
        }
        detach(&target)?;
        warnings.push(format!("{}: replaced the mount that an ended kmsfs process left behind", shown(&target)));
    }
    check_directory(mountpoint, &target, &mut warnings)?;
    Ok((target, warnings))
}

/// Neither may lie in the other: kmsfs would be asked to serve the files that it works on.
pub fn check_apart(store: &Path, mountpoint: &Path) -> Result<(), Failure> {
    if store.starts_with(mountpoint) || mountpoint.starts_with(store) {
        let text = format!("the store {} and the mount point {} overlap", shown(store), shown(mountpoint));
        return Err(Failure::new(text));
    }
    Ok(())
}

/// The path without symlinks, also of a mount whose process has ended.
pub fn without_symlinks(mountpoint: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(mountpoint) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED)) => {
            // A dead mount cannot be looked at, but the directory it lies in can.
            let Some(name) = mountpoint.file_name() else { return Err(e) };
            let parent = mountpoint.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Ok(fs::canonicalize(parent)?.join(name))
        }
        found => found,
    }
}

fn missing(mountpoint: &Path, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::NotFound {
        return Failure::new(format!("mount point {} does not exist", shown(mountpoint)));
    }
    Failure::new(format!("mount point {}: {}", shown(mountpoint), describe(error)))
}

fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::new(format!("{what}: {}", describe(error)))
}

/// ENOTCONN is the kernel's word for a FUSE mount whose daemon is gone; ECONNABORTED that of one taken down by force.
pub fn is_dead(target: &Path) -> bool {
    let error = fs::metadata(target).and_then(|_| rustix::fs::statfs(target).map_err(io::Error::from)).err();
    matches!(error.and_then(|e| e.raw_os_error()), Some(libc::ENOTCONN | libc::ECONNABORTED))
}

fn detach(target: &Path) -> Result<(), Failure> {
    let direct = unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).map_err(io::Error::from);
    let Err(error) = direct else { return Ok(()) };
    // Not root: fusermount3 lets those unmount who mounted.
    let helper = Command::new("fusermount3").args(["-u", "-z", "--"]).arg(target).output();
    if helper.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    let text = format!("{}: a dead mount is there and cannot be taken away: {}", shown(target), describe(&error));
    Err(Failure::new(text))
}

fn check_directory(mountpoint: &Path, target: &Path, warnings: &mut Vec<String>) -> Result<(), Failure> {
    let metadata = fs::metadata(target).map_err(|e| missing(mountpoint, &e))?;
    if !metadata.is_dir() {
        return Err(Failure::new(format!("mount point {} is not a directory", shown(mountpoint))));
    }
    // One that cannot be listed may still be mounted on.
    if fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some()) {
        warnings.push(format!("{} is not empty: its files are hidden while kmsfs is mounted there", shown(target)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_mount_point_and_one_that_is_a_file_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("absent");
        let message = prepare(&absent).unwrap_err().message;
        assert_eq!(message, format!("mount point {} does not exist", absent.display()));
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        let message = prepare(&file).unwrap_err().message;
        assert_eq!(message, format!("mount point {} is not a directory", file.display()));
    }

    #[test]
    fn hidden_files_are_warned_about_and_an_empty_directory_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let target = fs::canonicalize(dir.path()).unwrap();
        assert_eq!(prepare(dir.path()).unwrap(), (target.clone(), vec![]));
        fs::write(dir.path().join("file"), b"").unwrap();
        let (_, warnings) = prepare(dir.path()).unwrap();
        let expected = format!("{} is not empty: its files are hidden while kmsfs is mounted there", target.display());
        assert_eq!(warnings, [expected]);
    }

    #[test]
    fn store_and_mount_point_may_not_lie_in_each_other() {
        assert!(check_apart(Path::new("/a/store"), Path::new("/a")).is_err());
        assert!(check_apart(Path::new("/a"), Path::new("/a/mnt")).is_err());
        assert!(check_apart(Path::new("/a"), Path::new("/a")).is_err());
        assert!(check_apart(Path::new("/a"), Path::new("/ab")).is_ok());
    }
}
