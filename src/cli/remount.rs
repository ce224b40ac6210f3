//! `mount -o remount`: the kernel changes the mount's flags; what the running kmsfs process was started with stays.

use super::exit::{Failure, describe};
use super::options::Options;
use super::status;
use super::sync;
use super::text::shown;
use kmsfs_client::mounts;
use kmsfs_fuse::Mount;
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::mount::{MountFlags, mount_remount};
use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long files that were closed just now may still count as open for writing: the kernel tells kmsfs of the last
/// close after close(2) has returned, and refuses `ro` until it is answered.
const CLOSING: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(10);

/// mount(8) passes all options of the mount as it is, changed by those of its command line.
pub fn run(mountpoint: &Path, options: &Options) -> Result<(), Failure> {
    let refused = |why: &str| Failure::new(format!("cannot remount {}: {why}", shown(mountpoint)));
    let target = fs::canonicalize(mountpoint).map_err(|e| refused(&describe(&e)))?;
    let mount = mounts::at(&target).map_err(|e| refused(&describe(&e)))?;
    let mount = mount.ok_or_else(|| refused("no kmsfs store is mounted there"))?;
    if let Some(option) = unchangeable(&mount, options) {
        return Err(refused(&format!("'{option}' cannot be changed: unmount it and mount it again")));
    }
    let set = |flags| set_flags(&target, flags).map_err(|e| refused(&describe(&e)));
    let now = statvfs(&target).map_err(|e| refused(&describe(&e.into())))?.f_flag;
    let flags = flags(options, now);
    if options.read_only {
        // Read-only, the store is not written to any more. One that has failed already is made read-only all the same.
        let _ = sync::sync(&target);
    }
    set(flags)?;
    if has_own_options(options) {
        eprintln!("kmsfs: threads, writeback and logging stay as they are until the next mount");
    }
    if !options.read_only && serves_read_only(&target) {
        set(flags | MountFlags::RDONLY)?;
        return Err(refused("it was mounted read-only: unmount it and mount it again to write"));
    }
    Ok(())
}

fn set_flags(target: &Path, flags: MountFlags) -> io::Result<()> {
    let since = Instant::now();
    loop {
        match mount_remount(target, flags, "") {
            Err(rustix::io::Errno::BUSY) if since.elapsed() < CLOSING => thread::sleep(RETRY),
            done => return Ok(done?),
        }
    }
}

/// The kernel takes these from the first mount only, and would say nothing.
fn unchangeable(mount: &Mount, options: &Options) -> Option<&'static str> {
    let has = |option: &str| mount.super_options.split(',').any(|word| word == option);
    let wanted = [("allow_other", options.allow_other), ("dirsync", options.dirsync)];
    wanted.into_iter().find(|&(option, wanted)| wanted && !has(option)).map(|(option, _)| option)
}

/// Whether something was asked for that is the running process's affair. (Keys are not: fstab's options come along.)
fn has_own_options(options: &Options) -> bool {
    let default = Options::default();
    options.threads != default.threads
        || options.writeback != default.writeback
        || options.audit != super::audit::AuditArgs::default()
        || options.log_file.is_some()
        || options.log_level.is_some()
}

/// `now` are the mount's present ones.
fn flags(options: &Options, now: StatVfsMountFlags) -> MountFlags {
    let mut flags = MountFlags::RELATIME;
    flags.set(MountFlags::RDONLY, options.read_only);
    flags.set(MountFlags::NOSUID, !options.suid.unwrap_or(!now.contains(StatVfsMountFlags::NOSUID)));
    flags.set(MountFlags::NODEV, !options.dev.unwrap_or(!now.contains(StatVfsMountFlags::NODEV)));
    flags.set(MountFlags::NOEXEC, !options.exec);
    flags.set(MountFlags::SYNCHRONOUS, options.sync);
    if options.noatime {
        flags.remove(MountFlags::RELATIME);
        flags.insert(MountFlags::NOATIME);
    }
    flags
}

/// Whether the process behind the mount refuses changes.
fn serves_read_only(target: &Path) -> bool {
    status::of(target).is_ok_and(|status| status.get("ReadOnly") == Some(&serde_json::Value::Bool(true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &str) -> Options {
        Options::parse([list], false).unwrap()
    }

    #[test]
    fn flags_follow_the_options() {
        let flags = |list: &str, now| flags(&options(list), now);
        let closed = StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV;
        assert_eq!(flags("remount,rw", StatVfsMountFlags::empty()), MountFlags::RELATIME);
        let expected = MountFlags::RELATIME | MountFlags::NOSUID | MountFlags::NODEV;
        assert_eq!(flags("remount,rw", closed), expected, "what is not named stays");
        assert_eq!(flags("remount,suid,dev", closed), MountFlags::RELATIME);
        let expected = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
        assert_eq!(flags("remount,ro,nosuid,nodev,noatime", StatVfsMountFlags::empty()), expected);
    }

    #[test]
    fn what_only_the_first_mount_decides_is_refused_by_name() {
        let mount = |super_options: &str| Mount {
            id: 88,
            device: (0, 47),
            target: "/m".into(),
            kind: kmsfs_fuse::TYPE.into(),
            source: "/s".into(),
            super_options: super_options.into(),
        };
        let closed = mount("rw,user_id=0,group_id=0");
        assert_eq!(unchangeable(&closed, &options("remount,allow_other")), Some("allow_other"));
        assert_eq!(unchangeable(&closed, &options("remount,ro")), None);
        assert_eq!(unchangeable(&mount("rw,allow_other"), &options("remount,allow_other")), None);
    }
}
