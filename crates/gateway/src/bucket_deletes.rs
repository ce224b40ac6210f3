//! DeleteBucket.
//!
//! No directory goes with a file in it, so a bucket's default encryption has to go first; and what somebody makes in
//! between would be encrypted as nobody has asked for. (A mount's top-level directories cannot be renamed, so that the
//! bucket cannot be taken out of the way before.) So only those take a default away who may put it back, workers make
//! nothing in the bucket meanwhile, and the default is kept in the bucket's attribute: it comes back where the bucket
//! cannot be removed after all, and where its deletion was cut off.

use crate::buckets::{in_force, origin_of, refuse_all_in, write_configuration};
use crate::directories::{self, Origin};
use crate::listing::has_objects;
use crate::refusals;
use crate::tree::{Kind, Status, is_absent, is_gone, names_in, open_beneath, proc_path, status, status_at};
use crate::{Done, Worker};
use kmsfs_s3::{Answer, Code, Error};
use kmsfs_sse::{BucketName, CONFIGURATION_FILE, Configuration};
use rustix::fs::{Access, AtFlags, Mode, OFlags, accessat, fsync, unlinkat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

/// What is kept of a configuration that nothing can be made under: it is no text of one.
const REFUSES_ALL: &str = "";

impl Worker {
    /// What is left of directories in it is no obstacle.
    pub(crate) fn delete_bucket(&self, name: &BucketName) -> Result<Done, Error> {
        let _lock = self.tree.lock_bucket(name.as_str())?;
        let bucket = self.writable_bucket(name)?;
        let dir = bucket.open()?;
        if has_objects(&bucket)? || !holds_directories_alone(&dir, true)? {
            return Err(not_empty(name));
        }
        let root = self.tree.open_root()?;
        accessat(&root, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).map_err(refusals::of_errno)?;
        remove_directories(&dir)?;
        let is_configured = is_configured(&dir)?;
        if is_configured {
            take_default_away(&dir)?;
        }
        if let Err(errno) = unlinkat(&root, name.as_str(), AtFlags::REMOVEDIR) {
            if is_configured {
                put_default_back(&dir)?;
            }
            let is_filled = matches!(errno, Errno::NOTEMPTY | Errno::EXIST);
            return Err(if is_filled { not_empty(name) } else { refusals::of_errno(errno) });
        }
        fsync(&root).map_err(refusals::of_errno)?;
        Ok((Answer::Done, None))
    }

    /// Puts back the defaults that deletions have left away which were cut off, as far as the user may.
    pub(crate) fn put_defaults_back(&self) {
        let Ok(root) = self.tree.open_root() else { return };
        for name in names_in(&root).unwrap_or_default() {
            let Some(name) = name.to_str().and_then(|name| BucketName::parse(name).ok()) else { continue };
            if let Err(error) = self.put_back_if_cut_off(&root, &name) {
                log::error!("the bucket {} is without its default encryption: {}", name.as_str(), error.message());
            }
        }
    }

    fn put_back_if_cut_off(&self, root: &OwnedFd, name: &BucketName) -> Result<(), Error> {
        let path = OsStr::new(name.as_str());
        let Ok(found) = status_at(root, path) else { return Ok(()) };
        if found.kind != Kind::Directory || !may_put_default(found) {
            return Ok(());
        }
        let dir = open_beneath(root, Path::new(path), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
        let Ok(dir) = dir else { return Ok(()) };
        if origin_of(&dir)?.away.is_none() {
            return Ok(());
        }
        // Whoever has it is not done.
        match self.tree.try_lock_bucket(name.as_str())? {
            Some(_lock) => put_default_back(&dir),
            None => Ok(()),
        }
    }
}

/// What the mount says too.
fn may_put_default(bucket: Status) -> bool {
    bucket.is_own() || kmsfs_sys::file_user() == 0
}

/// Where it can be put back.
fn take_default_away(dir: &OwnedFd) -> Result<(), Error> {
    if !may_put_default(status(dir).map_err(|error| refusals::of_call(&error))?) {
        return Err(Error::new(Code::AccessDenied));
    }
    let away = in_force(dir)?.map(|configuration| configuration.to_json().to_string());
    mark_as(dir, Some(away.unwrap_or_else(|_| REFUSES_ALL.to_owned())))?;
    match unlinkat(dir, CONFIGURATION_FILE, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => mark_as(dir, None).and(Err(refusals::of_errno(errno))),
    }
}

/// Unless there is another one by now.
fn put_default_back(dir: &OwnedFd) -> Result<(), Error> {
    if let Some(encryption) = origin_of(dir)?.away
        && !is_configured(dir)?
    {
        match encryption.as_str() {
            REFUSES_ALL => refuse_all_in(dir)?,
            encryption => write_configuration(dir, &Configuration::parse(encryption.as_bytes())?)?,
        }
    }
    mark_as(dir, None)
}

/// Somebody has put another default, or has deleted it: what a deletion that was cut off has left away does not come
/// back. To be called with the bucket's lock.
pub(crate) fn forget_default_away(dir: &OwnedFd) -> Result<(), Error> {
    if origin_of(dir)?.away.is_some() { mark_as(dir, None) } else { Ok(()) }
}

/// Durable when it returns.
fn mark_as(dir: &OwnedFd, away: Option<String>) -> Result<(), Error> {
    let origin = Origin { away, ..origin_of(dir)? };
    directories::mark(&proc_path(dir), &origin).map_err(|error| refusals::of_call(&error))?;
    fsync(dir).map_err(refusals::of_errno)
}

fn is_configured(dir: &OwnedFd) -> Result<bool, Error> {
    match status_at(dir, OsStr::new(CONFIGURATION_FILE)) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(refusals::of_call(&error)),
    }
}

fn not_empty(name: &BucketName) -> Error {
    Error::new(Code::BucketNotEmpty).with("BucketName", name.as_str())
}

/// Whether directories are all that is in this one, and in those; at the top the default encryption may be there too.
fn holds_directories_alone(dir: &OwnedFd, is_bucket: bool) -> Result<bool, Error> {
    for name in names_in(dir)? {
        if is_bucket && name == CONFIGURATION_FILE {
            continue;
        }
        if status_at(dir, &name).is_ok_and(|status| status.kind != Kind::Directory) {
            return Ok(false);
        }
        let within = open_beneath(dir, Path::new(&name), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
        match within {
            Ok(within) if holds_directories_alone(&within, false)? => {}
            Ok(_) => return Ok(false),
            Err(error) if is_gone(&error) => {}
            // Something else has the name by now.
            Err(error) if is_absent(&error) => return Ok(false),
            Err(error) => return Err(refusals::of_call(&error)),
        }
    }
    Ok(true)
}

/// Removes the directories in this one that hold nothing but directories. What else comes meanwhile stays.
fn remove_directories(dir: &OwnedFd) -> Result<(), Error> {
    for name in names_in(dir)?.into_iter().filter(|name| name != CONFIGURATION_FILE) {
        match open_beneath(dir, Path::new(&name), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
            Ok(within) => remove_directories(&within)?,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(refusals::of_call(&error)),
        }
        match unlinkat(dir, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(refusals::of_errno(errno)),
        }
    }
    Ok(())
}
