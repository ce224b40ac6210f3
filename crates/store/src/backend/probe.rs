//! Whether a file system keeps what a store relies on. Some that look like one do not: inode numbers that change, hard
//! links that are copies, two spellings of a name that are one file, modes that nobody keeps. Each would cost a file.

use super::{Access, Dir, File, Metadata, NewNode, Rename};
use crate::Ino;
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;

/// What is made in a directory while it is tried out; the process's number follows.
const PLACE: &str = ".kmsfs-probe-";
const FILE: NewNode = NewNode { mode: 0o640, umask: 0, owner: None };
const DIRECTORY: NewNode = NewNode { mode: 0o700, umask: 0, owner: None };
/// Longest name, in bytes, that a store has to take.
const LONGEST: usize = 255;

/// Why no store can be kept in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// A file is on another device than its directory, as on overlayfs over several file systems.
    OtherDevice,
    /// A directory lists another inode number than stat(2) shows, or a rename or a second look changes it.
    InodeNumbers,
    /// A hard link is not the same file, or its count of links is wrong.
    Links,
    /// Two names that differ in case, or in how a letter is composed, are one file.
    Spellings,
    /// A name of 255 bytes is refused.
    LongNames,
    /// Modes are not kept.
    Modes,
    /// fsync(2) of a directory fails, so no name can be made durable.
    DirectorySync,
    /// Two descriptors get the same exclusive lock, so two processes could have the store open.
    Locks,
    /// A file cannot be used any more once it has no name.
    Unlinked,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherDevice => "files are on another device than their directory",
            Self::InodeNumbers => "inode numbers change",
            Self::Links => "a hard link is not the same file",
            Self::Spellings => "two spellings of a name are one file",
            Self::LongNames => "names of 255 bytes are refused",
            Self::Modes => "permissions are not kept",
            Self::DirectorySync => "directories cannot be synced",
            Self::Locks => "a lock (flock) does not exclude anybody",
            Self::Unlinked => "an open file is lost with its name",
        })
    }
}

/// What is to be kept in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Objects, whose identity is their inode number.
    Store,
    /// A few private files, replaced by rename.
    Keyring,
}

/// Tries a directory out; nothing is left in it. `None` if it is fit. An error says that it could not be tried, for
/// instance because the disk is full, which says nothing about its fitness.
pub fn probe(root: &dyn Dir, need: Need) -> io::Result<Option<Unfit>> {
    let name = OsString::from(format!("{PLACE}{}", std::process::id()));
    // A process that was killed while it tried may have had this one's number.
    if let Ok(left) = root.open_dir(&name) {
        empty(left.as_ref());
        root.remove_dir(&name)?;
    }
    root.make_dir(&name, &DIRECTORY)?;
    let found = match root.open_dir(&name) {
        Err(error) if is(&error, Errno::XDEV) => Ok(Some(Unfit::OtherDevice)),
        Err(error) => Err(error),
        Ok(place) => {
            let found = try_out(root, &name, place.as_ref(), need);
            empty(place.as_ref());
            found
        }
    };
    let removed = root.remove_dir(&name);
    let found = found?;
    if found.is_none() {
        removed?;
    }
    Ok(found)
}

/// One property, tried out in a directory of its own names.
type Trial = fn(&dyn Dir) -> io::Result<Option<Unfit>>;

fn try_out(root: &dyn Dir, name: &OsStr, place: &dyn Dir, need: Need) -> io::Result<Option<Unfit>> {
    let trials: &[Trial] = match need {
        Need::Store => &[modes, directory_sync, locks, spellings, inode_numbers, links, unlinked],
        Need::Keyring => &[modes, directory_sync, locks],
    };
    // The directory's own mode, too.
    if root.stat(name)?.mode & 0o777 != DIRECTORY.mode {
        return Ok(Some(Unfit::Modes));
    }
    for trial in trials {
        match trial(place) {
            Err(error) if is(&error, Errno::XDEV) => return Ok(Some(Unfit::OtherDevice)),
            Ok(None) => {}
            found => return found,
        }
    }
    Ok(None)
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

fn unless(good: bool, unfit: Unfit) -> Option<Unfit> {
    (!good).then_some(unfit)
}

fn os(name: &str) -> &OsStr {
    OsStr::new(name)
}

fn modes(place: &dyn Dir) -> io::Result<Option<Unfit>> {
    let name = os("modes");
    place.create_file(name, &FILE)?;
    let shows = |mode: u32| Ok::<_, io::Error>(place.stat(name)?.mode & 0o777 == mode);
    let made = shows(FILE.mode)?;
    for mode in [0o604, 0o600] {
        match place.set_mode(Some(name), mode) {
            Err(error) if is(&error, Errno::PERM) || is(&error, Errno::OPNOTSUPP) || is(&error, Errno::NOSYS) => {
                return Ok(Some(Unfit::Modes));
            }
            done => done?,
        }
        if !shows(mode)? {
            return Ok(Some(Unfit::Modes));
        }
    }
    Ok(unless(made, Unfit::Modes))
}

fn directory_sync(place: &dyn Dir) -> io::Result<Option<Unfit>> {
    match place.sync() {
        Err(error) if is(&error, Errno::NOSPC) || is(&error, Errno::DQUOT) => Err(error),
        synced => Ok(unless(synced.is_ok(), Unfit::DirectorySync)),
    }
}

fn locks(place: &dyn Dir) -> io::Result<Option<Unfit>> {
    let name = os("lock");
    let holder = place.create_file(name, &FILE)?;
    if holder.try_lock(true).is_err() {
        return Ok(Some(Unfit::Locks));
    }
    let refused = place.open_file(name, Access::ReadWrite)?.try_lock(true);
    Ok(unless(refused.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock), Unfit::Locks))
}

/// In case, and in Unicode's two forms of one letter.
fn spellings(place: &dyn Dir) -> io::Result<Option<Unfit>> {
    for (one, other) in [("spelling", "SPELLING"), ("\u{e9}", "e\u{301}"), ("stra\u{df}e", "strasse")] {
        place.create_file(os(one), &FILE)?;
        match place.stat(os(other)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => return Ok(Some(Unfit::Spellings)),
        }
    }
    let longest = OsString::from("n".repeat(LONGEST));
    match place.create_file(&longest, &FILE) {
        Err(error) if is(&error, Errno::NAMETOOLONG) || is(&error, Errno::INVAL) => Ok(Some(Unfit::LongNames)),
        made => {
            made?;
            // Names are any bytes, not only UTF-8.
            let bytes = place.create_file(OsStr::from_bytes(b"\xff\xfe"), &FILE);
            Ok(unless(bytes.is_ok(), Unfit::Spellings))
        }
    }
}

/// One number for one file: as it is listed, by its name, through a descriptor, and after a rename.
fn inode_numbers(place: &dyn Dir) -> io::Result<Option<Unfit>> {
    let (old, new) = (os("numbered"), os("renamed"));
    let file = place.create_file(old, &FILE)?;
    let ino = file.ino();
    let mut same = place.stat(old)?.ino == ino && listed(place, old)? == Some(ino);
    place.rename(old, place, new, Rename::Replace)?;
    same &= place.stat(new)?.ino == ino && listed(place, new)? == Some(ino) && file.metadata()?.ino == ino;
    same &= place.open_file(new, Access::ReadWrite)?.ino() == ino;
    Ok(unless(same, Unfit::InodeNumbers))
}

fn listed(place: &dyn Dir, name: &OsStr) -> io::Result<Option<Ino>> {
    let mut found = None;
    place.read(0, &mut |entry| {
        if entry.name == name {
            found = Some(entry.ino);
        }
        found.is_none()
    })?;
    Ok(found)
}

/// A file system without hard links will do: link(2) is refused in the mount, too.
fn links(place: &dyn Dir) -> io::Result<Option<Unfit>> {
    let (one, other) = (os("one"), os("other"));
    let file = place.create_file(one, &FILE)?;
    let refusals = [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS, Errno::MLINK];
    match place.link(one, place, other) {
        Err(error) if refusals.iter().any(|errno| is(&error, *errno)) => return Ok(None),
        linked => linked?,
    }
    let is_file = |found: Metadata, nlink| found.ino == file.ino() && found.nlink == nlink;
    let both = is_file(place.stat(other)?, 2) && is_file(place.stat(one)?, 2) && is_file(file.metadata()?, 2);
    place.unlink(one)?;
    Ok(unless(both && is_file(place.stat(other)?, 1), Unfit::Links))
}

fn unlinked(place: &dyn Dir) -> io::Result<Option<Unfit>> {
    let name = os("unlinked");
    let file = place.create_file(name, &FILE)?;
    file.write_at(b"kept", 0)?;
    place.unlink(name)?;
    Ok(unless(is_kept(file.as_ref()), Unfit::Unlinked))
}

fn is_kept(file: &dyn File) -> bool {
    let mut text = [0; 4];
    file.write_at(b"K", 0).is_ok() && file.read_at(&mut text, 0).is_ok_and(|read| &text[..read] == b"Kept")
}

/// What is still there after a trial: names that the trials have not removed. What cannot be removed keeps the
/// directory, whose removal then fails and is told.
fn empty(place: &dyn Dir) {
    let mut names = Vec::new();
    let _ = place.read(0, &mut |entry| {
        names.push(entry.name.to_owned());
        true
    });
    for name in names {
        let _ = place.unlink(&name);
    }
}

#[cfg(test)]
mod tests;
