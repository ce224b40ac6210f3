//! Backups as files.

use super::{Place, about_file, print};
use crate::cli::assembly;
use crate::cli::exit::{Failure, describe};
use crate::cli::text::shown;
use kmsfs_kms_local::Backup;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// More than any backup has.
const MOST: u64 = 256 << 20;

pub fn write(place: &Place, file: &Path) -> Result<(), Failure> {
    let backup = Backup::of(&place.dir, &place.store_id).map_err(|error| place.explain(&error))?;
    let bytes = backup.encode();
    put_new(file, &bytes).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => about_file("backup", file, "it exists already: name another file"),
        _ => about_file("backup", file, &describe(&error)),
    })?;
    print(&format!(
        "Wrote the backup {}, {} bytes, sealed: what opens the keyring opens it\n",
        shown(file),
        bytes.len()
    ))
}

pub fn restore(place: &Place, file: &Path, force: bool) -> Result<(), Failure> {
    let bytes = read(file).map_err(|error| about_file("backup", file, &describe(&error)))?;
    let refuse = |error: &kmsfs_kms_local::OpenError| about_file("backup", file, &error.to_string());
    let backup = Backup::decode(&bytes).map_err(|error| refuse(&error))?;
    // Not what is to be replaced, which may be lost, or have another passphrase.
    let what = format!("backup {}", shown(file));
    let secret = place.unlock.read_for(&what, |secret| backup.check_opens(secret))?;
    let restored =
        backup.restore(&place.dir, &place.store_id, &secret, force, &place.watch()?).map_err(|error| match error {
            kmsfs_kms_local::OpenError::WrongKey => assembly::explain_unlocking(file, &secret, &error),
            kmsfs_kms_local::OpenError::RolledBack(_) | kmsfs_kms_local::OpenError::Other(_) => refuse(&error),
        })?;
    let kept = restored.kept.as_ref().map_or(String::new(), |kept| {
        format!("What was there is in {}: delete it when you do not need it\n", shown(kept))
    });
    let generation = restored.generation;
    print(&format!("Restored generation {generation} of the keyring {}\n{kept}", shown(&place.dir)))
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The whole file under its name, durably, or nothing; never in the place of another.
fn put_new(file: &Path, bytes: &[u8]) -> io::Result<()> {
    if file.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = PathBuf::from(name);
    let written = write_new(&temporary, bytes).and_then(|()| name_new(&temporary, file));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Some file systems (vfat on a USB stick) cannot rename without replacing: then the look before has to do.
fn name_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => fs::rename(from, to),
        renamed => Ok(renamed?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_backup_is_private_whole_and_never_in_the_place_of_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backup");
        put_new(&file, b"content").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(put_new(&file, b"other").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&file).unwrap(), b"content");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(read(dir.path()).is_err() && read(Path::new("/dev/zero")).is_err());
    }
}
