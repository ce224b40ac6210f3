//! What is mounted where, and whether a mount point will do.

use super::exit::{Failure, describe};
use super::text::shown;
use rustix::mount::{UnmountFlags, unmount};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The file system type of /proc/mounts.
pub const TYPE: &str = "fuse.kmsfs";

/// One line of /proc/self/mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Major and minor number of `st_dev` of everything in it.
    pub device: (u32, u32),
    pub target: PathBuf,
    pub kind: String,
    pub source: PathBuf,
    /// Options of the superblock, as the kernel prints them.
    pub super_options: String,
}

/// All mounts of this namespace, later ones on top of earlier ones.
pub fn mounts() -> io::Result<Vec<Mount>> {
    Ok(parse_mountinfo(&fs::read("/proc/self/mountinfo")?))
}

/// The kmsfs mount right at `target`, if that is what is on top there.
pub fn kmsfs_at(target: &Path) -> io::Result<Option<Mount>> {
    let top = mounts()?.into_iter().rfind(|mount| mount.target == target);
    Ok(top.filter(|mount| mount.kind == TYPE))
}

/// The kmsfs mount that `path` (without symlinks in it) lies in.
pub fn kmsfs_of(path: &Path) -> io::Result<Option<Mount>> {
    let device = fs::metadata(path)?.dev();
    let device = (rustix::fs::major(device), rustix::fs::minor(device));
    let contains = |mount: &Mount| mount.kind == TYPE && mount.device == device && path.starts_with(&mount.target);
    Ok(mounts()?.into_iter().rfind(contains))
}

/// Whether some kmsfs mount shows `store` as its source.
pub fn is_mounted(store: &Path) -> io::Result<bool> {
    Ok(mounts()?.iter().any(|mount| mount.kind == TYPE && mount.source == store))
}

/// The mount point made absolute, and fit to be mounted on: a directory that exists and is no kmsfs mount. The mount of
/// a daemon that is gone is taken away. Answers warnings too, for standard error and the log.
pub fn prepare(mountpoint: &Path) -> Result<(PathBuf, Vec<String>), Failure> {
    let mut warnings = Vec::new();
    let target = resolve(mountpoint)?;
    // Each round takes one dead mount away; there may be several on top of each other.
    while let Some(mount) = kmsfs_at(&target).map_err(|e| failed("/proc/self/mountinfo", &e))? {
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

fn resolve(mountpoint: &Path) -> Result<PathBuf, Failure> {
    match fs::canonicalize(mountpoint) {
        Ok(target) => Ok(target),
        Err(e) if e.raw_os_error() == Some(libc::ENOTCONN) => {
            // A dead mount cannot be looked at, but the directory it lies in can.
            let name = mountpoint.file_name().ok_or_else(|| missing(mountpoint, &e))?;
            let parent = mountpoint.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Ok(fs::canonicalize(parent).map_err(|e| missing(mountpoint, &e))?.join(name))
        }
        Err(e) => Err(missing(mountpoint, &e)),
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
fn is_dead(target: &Path) -> bool {
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

/// proc(5): ID, parent, device, root, mount point, options, optional fields up to a `-`, type, source, super options.
fn parse_mountinfo(text: &[u8]) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n').filter_map(parse_mountinfo_line).collect()
}

fn parse_mountinfo_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let device = parse_device(fields.nth(2)?)?;
    let target = unescape(fields.nth(1)?);
    let mut fields = fields.skip_while(|&field| field != b"-").skip(1);
    let kind = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = unescape(fields.next()?);
    let super_options = String::from_utf8_lossy(fields.next()?).into_owned();
    Some(Mount { device, target, kind, source, super_options })
}

fn parse_device(field: &[u8]) -> Option<(u32, u32)> {
    let (major, minor) = std::str::from_utf8(field).ok()?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Blank, tab, newline and backslash are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        if let Some(digits) = octal {
            bytes.push(digits.iter().fold(0, |value: u8, digit| (value << 3) | (digit - b'0')));
            rest = &tail[3..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &[u8] = b"\
22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/vda rw
88 22 0:47 / /mnt/a\\040b rw,nosuid,nodev shared:9 master:2 - fuse.kmsfs /srv/my\\040store rw,user_id=0,group_id=0
89 22 0:48 / /mnt/c rw - tmpfs tmpfs rw\n";

    #[test]
    fn mountinfo_is_read_with_its_escapes_and_optional_fields() {
        let mounts = parse_mountinfo(MOUNTINFO);
        assert_eq!(mounts.len(), 3);
        let expected = Mount {
            device: (0, 47),
            target: "/mnt/a b".into(),
            kind: TYPE.into(),
            source: "/srv/my store".into(),
            super_options: "rw,user_id=0,group_id=0".into(),
        };
        assert_eq!(mounts[1], expected);
        assert_eq!((mounts[2].kind.as_str(), mounts[2].source.to_str()), ("tmpfs", Some("tmpfs")));
    }

    #[test]
    fn a_backslash_that_begins_no_octal_number_stays() {
        assert_eq!(unescape(br"/a\134b\9\04"), PathBuf::from(r"/a\b\9\04"));
    }

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
