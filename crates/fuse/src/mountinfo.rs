//! What is mounted where, as /proc/self/mountinfo tells.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One line of /proc/self/mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Of the mount, not of the file system: as statx(2) has it.
    pub id: u64,
    /// Major and minor number of `st_dev` of everything in it.
    pub device: (u32, u32),
    /// Where it is mounted, absolute.
    pub target: PathBuf,
    /// The file system's type.
    pub kind: String,
    /// What is mounted; of a kmsfs its store.
    pub source: PathBuf,
    /// Options of the superblock, as the kernel prints them.
    pub super_options: String,
}

/// All mounts of this namespace, later ones on top of earlier ones.
pub fn mounts() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read("/proc/self/mountinfo")?))
}

/// What is mounted right at `target` (absolute, without symlinks), the topmost.
pub fn mounted_at(target: &Path) -> io::Result<Option<Mount>> {
    Ok(mounts()?.into_iter().rfind(|mount| mount.target == target))
}

/// proc(5): ID, parent, device, root, mount point, options, optional fields up to a `-`, type, source, super options.
fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = parse_device(fields.nth(1)?)?;
    let target = unescape(fields.nth(1)?);
    let mut fields = fields.skip_while(|&field| field != b"-").skip(1);
    let kind = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = unescape(fields.next()?);
    let super_options = String::from_utf8_lossy(fields.next()?).into_owned();
    Some(Mount { id, device, target, kind, source, super_options })
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
    fn lines_are_read_with_their_escapes_and_optional_fields() {
        let mounts = parse(MOUNTINFO);
        assert_eq!(mounts.len(), 3);
        let expected = Mount {
            id: 88,
            device: (0, 47),
            target: "/mnt/a b".into(),
            kind: "fuse.kmsfs".into(),
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
}
