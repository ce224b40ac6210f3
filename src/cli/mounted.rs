//! Mounts that commands are about, by where they are or by what is mounted.

use super::config;
use super::exit::{Failure, describe};
use super::mountpoint;
use super::text::{shell_word, shown};
use kmsfs_client::mounts;
use kmsfs_fuse::Mount;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The mount at a mount point; of a store, its mount, if there is one alone. A mount whose process has ended is found.
pub fn find(path: &Path) -> Result<Mount, Failure> {
    let named = config::find(path)?;
    let named = named.map(|named| named.mountpoint.unwrap_or(named.store));
    let path = named.as_deref().unwrap_or(path);
    let failed = |e: &io::Error| Failure::new(format!("{}: {}", shown(path), describe(e)));
    let target = mountpoint::without_symlinks(path).map_err(|e| failed(&e))?;
    if let Some(mount) = mounts::at(&target).map_err(|e| failed(&e))? {
        return Ok(mount);
    }
    match &mounts::of_store(&target).map_err(|e| failed(&e))?[..] {
        [] if target.join("store.json").is_file() => {
            Err(Failure::new(format!("the store {} is not mounted: kmsfs mount mounts it", shown(path))))
        }
        [] => Err(Failure::new(format!("{} is not a mount of a kmsfs store{}", shown(path), around(&target)))),
        [one] => {
            let mount = mounts::at(one).map_err(|e| failed(&e))?;
            mount.ok_or_else(|| Failure::new(format!("{} was unmounted just now", shown(path))))
        }
        several => {
            let list: Vec<_> = several.iter().map(|target| shown(target)).collect();
            Err(Failure::new(format!("{} is mounted on {}: name one of these", shown(path), list.join(" and "))))
        }
    }
}

/// The same, of a mount that answers.
pub fn find_alive(path: &Path) -> Result<PathBuf, Failure> {
    let mount = find(path)?;
    if mountpoint::is_dead(&mount.target) {
        let word = shell_word(&mount.target);
        let text = format!("{}: the kmsfs process behind this mount has ended", shown(path));
        return Err(Failure::new(format!("{text}: kmsfs umount {word} takes the mount away")));
    }
    Ok(mount.target)
}

/// Where a path in a mount leads, absolute and without symlinks, and the mount that it lies in.
pub fn holding(path: &Path) -> Result<(PathBuf, Mount), Failure> {
    let failed = |e: &io::Error| Failure::new(format!("{}: {}", shown(path), describe(e)));
    let real = fs::canonicalize(path).map_err(|e| failed(&e))?;
    let mount = mounts::of(&real).map_err(|e| failed(&e))?;
    let mount = mount.ok_or_else(|| Failure::new(format!("{} is not in a kmsfs mount", shown(path))))?;
    Ok((real, mount))
}

/// Where a path is that lies in a mount.
fn around(path: &Path) -> String {
    let mount = mounts::of(path).ok().flatten();
    mount.map_or_else(String::new, |mount| format!(", but lies in the one on {}", shown(&mount.target)))
}

/// Where a store is mounted, for a message: ` on MOUNTPOINT`, or nothing.
pub fn places(store: &Path) -> String {
    let found = fs::canonicalize(store).and_then(|store| mounts::of_store(&store)).unwrap_or_default();
    let list: Vec<_> = found.iter().map(|target| shown(target)).collect();
    if list.is_empty() { String::new() } else { format!(", mounted on {}", list.join(" and ")) }
}
