//! What a mode denies to its own owner. Recovery, fsck and commits have to reach whatever a user made, whatever mode it
//! has, and an ordinary user's process can do that only by changing the mode for a moment. Until it is put back there
//! is a record of it: a symlink `mode-INODE` in the root, to the owner's three bits and the path, so that a process
//! which is killed in that moment leaves nothing changed. A symlink, because journals keep it in order with the change
//! of the mode, without a sync.

use super::directory::RealDir;
use super::{Ground, magic_link};
use crate::Ino;
use crate::backend::{Dir, Metadata};
use kmsfs_locks::{ReentrantMutex, ranks};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, chmod, fstat, openat, readlink, symlinkat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Gid, getegid, geteuid, getgroups};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const RECORD: &str = "mode-";
const OWNERS: u32 = 0o700;

/// Held by whoever changes a mode, and by whoever puts one back: nobody takes a mode for a user's that is about to
/// change again.
pub(super) static MODES: ReentrantMutex<ranks::Modes, ()> = ReentrantMutex::new(());

/// Does it, and again if it is refused with `EACCES`: then as `with_permission`.
pub(super) fn reach<T>(ground: &Ground, fd: impl AsFd, wanted: Mode, act: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match act() {
        Err(error) if is_denied(&error) => with_permission(ground, fd, wanted, act),
        done => done,
    }
}

/// A name as a place, which takes no permission of what is there.
pub(super) fn open_place(directory: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// Does what was refused with `EACCES` again, while the owner of `fd`, if we are, has these permissions.
pub(super) fn with_permission<T>(
    ground: &Ground,
    fd: impl AsFd,
    wanted: Mode,
    act: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let _alone = MODES.lock();
    let stat = fstat(&fd)?;
    let (path, mode) = (magic_link(&fd), Mode::from_raw_mode(stat.st_mode));
    if stat.st_uid != geteuid().as_raw() || mode.contains(wanted) || !stays(&stat) || is_read_only(ground) {
        return act();
    }
    let record = Record::write(ground, &stat, &path);
    let done = chmod(&path, mode | wanted).map_err(io::Error::from).and_then(|()| act());
    chmod(&path, mode)?;
    if let Some(record) = record {
        unlinkat(&ground.root, &record.name, AtFlags::empty())?;
    }
    done
}

/// Puts back what killed processes have left. Only the owner's permissions can change by that, and only to fewer.
pub(super) fn put_back(root: &RealDir) -> io::Result<()> {
    let mut names = Vec::new();
    root.read(0, &mut |entry| {
        if entry.name.as_bytes().starts_with(RECORD.as_bytes()) {
            names.push(entry.name.to_owned());
        }
        true
    })?;
    let mut records: Vec<_> = names.into_iter().filter_map(|name| Record::read(root, name)).collect();
    // What is below a directory is reached before the directory is closed.
    records.sort_by_key(|record| std::cmp::Reverse(record.path.as_os_str().len()));
    for record in records {
        match record.put_back(root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!(
                    "{}: the mode that {} says was not put back: {error}",
                    record.path.display(),
                    record.name.display()
                );
            }
            _ => root.unlink(&record.name)?,
        }
    }
    Ok(())
}

struct Record {
    name: OsString,
    ino: Ino,
    /// The owner's permissions.
    mode: u32,
    /// Below the root.
    path: PathBuf,
}

impl Record {
    /// `None` where there can be none, for instance on a full disk: what is wanted matters more.
    fn write(ground: &Ground, stat: &Stat, path: &str) -> Option<Self> {
        let root = readlink(magic_link(&ground.root), Vec::new()).ok()?;
        let path = readlink(path, Vec::new()).ok()?;
        let path = Path::new(OsStr::from_bytes(path.as_bytes()));
        let path = path.strip_prefix(OsStr::from_bytes(root.as_bytes())).ok()?.to_owned();
        let record = Self {
            name: format!("{RECORD}{}", stat.st_ino).into(),
            ino: Ino(stat.st_ino),
            mode: stat.st_mode & OWNERS,
            path,
        };
        let mut target = OsString::from(format!("{} ", record.mode >> 6));
        target.push(&record.path);
        symlinkat(target, &ground.root, &record.name).ok()?;
        Some(record)
    }

    fn read(root: &RealDir, name: OsString) -> Option<Self> {
        let ino = Ino(name.to_str()?.strip_prefix(RECORD)?.parse().ok()?);
        let target = root.read_link(&name).ok()?;
        let (&[digit @ b'0'..=b'7', b' '], path) = target.split_first_chunk()? else { return None };
        let path = PathBuf::from(OsString::from_vec(path.to_vec()));
        Some(Self { name, ino, mode: u32::from(digit - b'0') << 6, path })
    }

    fn put_back(&self, root: &RealDir) -> io::Result<()> {
        let mut parts: Vec<_> = self.path.iter().collect();
        let Some(last) = parts.pop() else { return Ok(()) };
        let mut dir = root.again()?;
        for part in parts {
            dir = dir.below(part)?;
        }
        let Some(found) = self.found(&dir, last)? else { return Ok(()) };
        let mode = fstat(&found)?.st_mode;
        let fewer = mode & (!OWNERS | self.mode);
        if fewer != mode {
            chmod(magic_link(&found), Mode::from_raw_mode(fewer))?;
            log::info!("{}: its mode is what it was before a process was killed", self.path.display());
        }
        Ok(())
    }

    /// What the record is about, if that is what is there now.
    fn found(&self, dir: &RealDir, name: &OsStr) -> io::Result<Option<OwnedFd>> {
        let Metadata { ino, mode, uid, .. } = dir.stat(name)?;
        let kind = FileType::from_raw_mode(mode);
        if ino != self.ino || uid != geteuid().as_raw() || !matches!(kind, FileType::Directory | FileType::RegularFile)
        {
            return Ok(None);
        }
        let found = dir.reach(Mode::XUSR, |dir| open_place(dir, name))?;
        Ok((Ino(fstat(&found)?.st_ino) == ino).then_some(found))
    }
}

/// Whether the kernel leaves the mode as it is said: it takes the set-gid bit from whoever is not in the group.
fn stays(stat: &Stat) -> bool {
    let ours = |gid: Gid| gid.as_raw() == stat.st_gid;
    stat.st_mode & libc::S_ISGID == 0 || ours(getegid()) || getgroups().is_ok_and(|groups| groups.into_iter().any(ours))
}

fn is_read_only(ground: &Ground) -> bool {
    rustix::fs::fstatvfs(&ground.root).is_ok_and(|stat| stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Whether a mode may be what refuses it.
pub(super) fn is_denied(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ACCESS.raw_os_error())
}
