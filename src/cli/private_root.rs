//! A file system tree of the serving process's own: what it uses, at the usual paths, and nothing else.
//!
//! Everything in it is a clone of a mount, without devices, set-id bits and programs: a device that is made in the
//! store cannot be opened by this process, whatever its mode. Inode and device numbers are those of the file system
//! below.

use kmsfs_sys::set_mount_attributes;
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, chroot, fchdir, pivot_root};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, capabilities, move_into_link_name_space};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const INERT: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NODEV.union(MountAttrFlags::MOUNT_ATTR_NOSUID).union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Whether this process may make mounts. An ordinary user may not, and can make no device either.
pub fn is_possible() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// A directory that the process goes on using, by its absolute path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    pub path: PathBuf,
    /// With what is mounted below it. Not where strangers' mounts can lie, this file system's own among them: a copy
    /// would keep it in use after it was unmounted, and this process serving nobody.
    pub with_mounts: bool,
}

/// The directory as a mount that is nowhere attached: it goes with its descriptor. Linux 5.12 is the first that can
/// make one.
pub fn clone_of(directory: &Path, with_mounts: bool) -> io::Result<OwnedFd> {
    let below = if with_mounts { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    let tree = open_tree(CWD, directory, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | below)?;
    set_mount_attributes(tree.as_fd(), INERT.bits().into(), true)?;
    Ok(tree)
}

/// For the calling thread, while it is the only one: from now on there is a clone of each of these directories,
/// `/proc`, as far as it concerns processes, and nothing else. The current directory is `/`.
pub fn enter(directories: &[Used]) -> io::Result<()> {
    let before = open("/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let root = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    kmsfs_sys::unshare_mounts()?;
    build(directories).inspect_err(|_| {
        // A namespace that is not left would keep everybody's file systems in use. Its root may not be this process's.
        let back = move_into_link_name_space(before.as_fd(), Some(LinkNameSpaceType::Mount));
        let _ = back.and_then(|()| fchdir(&root)).and_then(|()| chroot("."));
    })
}

fn build(directories: &[Used]) -> io::Result<()> {
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    let mut clones = Vec::new();
    for Used { path, with_mounts } in needed(directories) {
        if path == Path::new("/") {
            return Err(io::Error::other("the whole tree is in use: a log lies in /"));
        }
        clones.push((path.as_path(), clone_of(path, *with_mounts)?));
    }
    let root = new_mount("tmpfs", &[("mode", "0755"), ("size", "1m")], INERT)?;
    // Read-only, since this too is reached as root.
    let processes = INERT | MountAttrFlags::MOUNT_ATTR_RDONLY;
    let processes = new_mount("proc", &[("subset", "pid")], processes)?;
    // On top of any directory that is there: it will be the root itself.
    let place = clones.first().map(|(directory, _)| *directory).ok_or(io::ErrorKind::InvalidInput)?;
    attach(&root, place)?;
    for (directory, clone) in &clones {
        let below = place.join(directory.strip_prefix("/").map_err(io::Error::other)?);
        DirBuilder::new().recursive(true).mode(0o755).create(&below)?;
        attach(clone, &below)?;
    }
    fs::create_dir(place.join("proc"))?;
    attach(&processes, &place.join("proc"))?;
    set_mount_attributes(root.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into(), false)?;
    chdir(place)?;
    // The old root on top of the new one, from where it is taken away.
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(chdir("/")?)
}

/// Those that do not come with another one, outer ones first: what is attached later lies on top.
fn needed(directories: &[Used]) -> Vec<&Used> {
    let comes_with = |one: &Used, other: &Used| {
        let same = one.path == other.path;
        other.with_mounts && one.path.starts_with(&other.path) && (!same || !one.with_mounts)
    };
    let mut found: Vec<&Used> =
        directories.iter().filter(|one| !directories.iter().any(|other| comes_with(one, other))).collect();
    found.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    found.dedup();
    found
}

fn new_mount(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in options {
        fsconfig_set_string(context.as_fd(), *name, *value)?;
    }
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn attach(mount: &OwnedFd, place: &Path) -> io::Result<()> {
    Ok(move_mount(mount, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_comes_with_an_outer_one_that_brings_its_mounts() {
        let used = |path: &str, with_mounts| Used { path: path.into(), with_mounts };
        let own = ["/srv/store/keyring", "/srv/store", "/srv/store-2", "/srv/store"].map(|path| used(path, true));
        let needed_with = |log: &str| {
            let all: Vec<_> = own.iter().cloned().chain([used(log, false)]).collect();
            needed(&all).into_iter().map(|one| one.path.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(needed_with("/var/log"), ["/srv/store", "/srv/store-2", "/var/log"]);
        // A log beside the store: the store's own mount may be another one.
        assert_eq!(needed_with("/srv"), ["/srv", "/srv/store", "/srv/store-2"]);
        for log in ["/srv/store", "/srv/store/logs"] {
            assert_eq!(needed_with(log), ["/srv/store", "/srv/store-2"]);
        }
    }
}
