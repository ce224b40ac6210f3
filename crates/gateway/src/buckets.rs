//! Buckets: the directories at the root of the mount.

use crate::directories::{self, Origin};
use crate::puts::too_long;
use crate::refusals;
use crate::tree::{Bucket, Kind, open_beneath, proc_path, status_at};
use crate::{Done, Worker};
use kmsfs_client::{attributes, temporary_name};
use kmsfs_s3::answer::{self, EncryptionConfiguration};
use kmsfs_s3::operation::{CreateBucket, ListBuckets};
use kmsfs_s3::{Answer, Code, Error, Tags, Timestamp};
use kmsfs_sse::{BucketName, CONFIGURATION_FILE, Configuration};
use rustix::fs::{Access, AtFlags, Mode, OFlags, accessat, mkdirat, renameat, unlinkat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

impl Worker {
    pub(crate) fn create_bucket(&self, of: &CreateBucket) -> Result<Done, Error> {
        let name = of.bucket.as_str();
        let root = self.tree.open_root()?;
        match mkdirat(&root, name, Mode::from_raw_mode(0o777)) {
            Ok(()) => {}
            Err(Errno::EXIST) if !self.is_own(&of.bucket) => {
                return Err(Error::new(Code::BucketAlreadyExists).with("BucketName", name));
            }
            Err(Errno::EXIST) if of.idempotent => return Ok((Answer::Done, None)),
            Err(Errno::EXIST) => return Err(Error::new(Code::BucketAlreadyOwnedByYou).with("BucketName", name)),
            Err(errno) => return Err(refusals::of_errno(errno)),
        }
        let origin = Origin { created: Some(directories::now()), ..Origin::default() }.with_tags(&of.tags);
        let bucket = self.tree.bucket(&of.bucket)?;
        directories::mark(&proc_path(bucket.dir()), &origin).map_err(|error| too_long(&error))?;
        rustix::fs::fsync(&root).map_err(refusals::of_errno)?;
        Ok((Answer::Done, None))
    }

    /// What is left of directories in it is no obstacle. Its default encryption goes last, and comes back where the
    /// bucket cannot be removed after all.
    pub(crate) fn delete_bucket(&self, name: &BucketName) -> Result<Done, Error> {
        let bucket = self.writable_bucket(name)?;
        let not_empty = || Error::new(Code::BucketNotEmpty).with("BucketName", name.as_str());
        let dir = bucket.open()?;
        if self.has_objects(&bucket)? || !holds_directories_alone(&dir, true)? {
            return Err(not_empty());
        }
        remove_directories(&dir)?;
        let (Answer::Encryption(EncryptionConfiguration(encryption)), _) = self.bucket_encryption(name)? else {
            return Err(Error::new(Code::InternalError));
        };
        let had_encryption = match unlinkat(&dir, CONFIGURATION_FILE, AtFlags::empty()) {
            Ok(()) => true,
            Err(Errno::NOENT) => false,
            Err(errno) => return Err(refusals::of_errno(errno)),
        };
        match unlinkat(self.tree.root(), name.as_str(), AtFlags::REMOVEDIR) {
            Ok(()) => {}
            Err(errno) => {
                if had_encryption {
                    self.put_bucket_encryption(name, &encryption)?;
                }
                let is_filled = matches!(errno, Errno::NOTEMPTY | Errno::EXIST);
                return Err(if is_filled { not_empty() } else { refusals::of_errno(errno) });
            }
        }
        rustix::fs::fsync(self.tree.open_root()?).map_err(refusals::of_errno)?;
        Ok((Answer::Done, None))
    }

    /// S3 tells an owner that the bucket is there, and others that the name is taken. Whoever can make objects in it
    /// has it.
    fn is_own(&self, name: &BucketName) -> bool {
        let access = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        accessat(self.tree.root(), name.as_str(), access, AtFlags::EACCESS).is_ok()
    }

    /// Of those that the user may read.
    pub(crate) fn list_buckets(&self, of: &ListBuckets) -> Result<Done, Error> {
        let root = self.tree.open_root()?;
        let mut names: Vec<String> = Vec::new();
        for entry in rustix::fs::Dir::read_from(&root).map_err(refusals::of_errno)? {
            let entry = entry.map_err(refusals::of_errno)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let is_behind = of.after.as_deref().is_none_or(|after| name > after);
            if name.starts_with(&of.prefix) && is_behind && BucketName::parse(name).is_ok() {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        let access = Access::READ_OK | Access::EXEC_OK;
        let mut visible =
            names.into_iter().filter(|name| accessat(&root, name.as_str(), access, AtFlags::EACCESS).is_ok());
        let mut buckets = Vec::new();
        for name in visible.by_ref().take(of.max as usize) {
            let Ok(status) = status_at(&root, OsStr::new(&name)) else { continue };
            if status.kind != Kind::Directory {
                continue;
            }
            let origin = directories::origin(&proc_path(&root).join(&name)).ok().flatten().unwrap_or_default();
            // Of one that mkdir(1) made there is no such time: its last change stands for it.
            let created = origin.created.map_or_else(|| status.modified(), Timestamp::from_unix);
            buckets.push(answer::Bucket { name, created });
        }
        let truncated = visible.next().is_some();
        Ok((Answer::Buckets(answer::Buckets { owner: self.owner.clone(), buckets, truncated }), None))
    }

    /// It is there, and may be read.
    pub(crate) fn readable_bucket(&self, name: &BucketName) -> Result<Bucket, Error> {
        let bucket = self.tree.bucket(name)?;
        accessat(bucket.dir(), ".", Access::READ_OK | Access::EXEC_OK, AtFlags::EACCESS).map_err(refusals::of_errno)?;
        Ok(bucket)
    }

    /// It is there, and may be changed.
    pub(crate) fn writable_bucket(&self, name: &BucketName) -> Result<Bucket, Error> {
        let bucket = self.tree.bucket(name)?;
        accessat(bucket.dir(), ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
            .map_err(refusals::of_errno)?;
        Ok(bucket)
    }

    pub(crate) fn bucket_tags(&self, name: &BucketName) -> Result<Done, Error> {
        let bucket = self.readable_bucket(name)?;
        let tags = origin_of(&bucket)?.tags();
        if tags.is_empty() {
            return Err(Error::new(Code::NoSuchTagSet).with("BucketName", name.as_str()));
        }
        Ok((Answer::Tags(tags), None))
    }

    pub(crate) fn put_bucket_tags(&self, name: &BucketName, tags: &Tags) -> Result<Done, Error> {
        let bucket = self.writable_bucket(name)?;
        let origin = origin_of(&bucket)?;
        if origin.tags() != *tags {
            directories::mark(&proc_path(bucket.dir()), &origin.with_tags(tags)).map_err(|error| too_long(&error))?;
            sync_bucket(&bucket)?;
        }
        Ok((Answer::Done, None))
    }

    /// As it was put; S3's default where nobody has put one.
    pub(crate) fn bucket_encryption(&self, name: &BucketName) -> Result<Done, Error> {
        let bucket = self.readable_bucket(name)?;
        let text = attributes::get(&proc_path(bucket.dir()), attributes::CONFIGURATION);
        let text = text.map_err(|error| refusals::of_call(&error))?.unwrap_or_default();
        let in_force: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| refusals::of_call(&error.into()))?;
        let configuration = in_force["ServerSideEncryptionConfiguration"].to_string();
        let configuration = Configuration::parse(configuration.as_bytes())?;
        Ok((Answer::Encryption(EncryptionConfiguration(configuration)), None))
    }

    /// It is put in place as `kmsfs put` does it, and the mount checks whose it is.
    pub(crate) fn put_bucket_encryption(
        &self,
        name: &BucketName,
        configuration: &Configuration,
    ) -> Result<Done, Error> {
        let bucket = self.writable_bucket(name)?;
        let dir = bucket.open()?;
        let temporary = temporary_name(OsStr::new(CONFIGURATION_FILE));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let file = open_beneath(&dir, Path::new(&temporary), flags, Mode::from_raw_mode(0o644))
            .map_err(|error| refusals::of_call(&error))?;
        let mut file = File::from(file);
        let written = file
            .write_all(configuration.to_json().to_string().as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(renameat(&dir, &temporary, &dir, CONFIGURATION_FILE)?));
        if let Err(error) = written {
            let _ = unlinkat(&dir, &temporary, AtFlags::empty());
            return Err(refusals::of_call(&error));
        }
        rustix::fs::fsync(&dir).map_err(refusals::of_errno)?;
        Ok((Answer::Done, None))
    }

    pub(crate) fn delete_bucket_encryption(&self, name: &BucketName) -> Result<Done, Error> {
        let bucket = self.writable_bucket(name)?;
        match unlinkat(bucket.dir(), CONFIGURATION_FILE, AtFlags::empty()) {
            Ok(()) => sync_bucket(&bucket)?,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(refusals::of_errno(errno)),
        }
        Ok((Answer::Done, None))
    }
}

fn origin_of(bucket: &Bucket) -> Result<Origin, Error> {
    let origin = directories::origin(&proc_path(bucket.dir())).map_err(|error| refusals::of_call(&error))?;
    Ok(origin.unwrap_or_default())
}

fn sync_bucket(bucket: &Bucket) -> Result<(), Error> {
    let dir = bucket.open()?;
    rustix::fs::fsync(&dir).map_err(refusals::of_errno)
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
        if !holds_directories_alone(&within.map_err(|error| refusals::of_call(&error))?, false)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes the directories in this one that hold nothing but directories.
fn remove_directories(dir: &OwnedFd) -> Result<(), Error> {
    for name in names_in(dir)?.into_iter().filter(|name| name != CONFIGURATION_FILE) {
        let within = open_beneath(dir, Path::new(&name), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
        remove_directories(&within.map_err(|error| refusals::of_call(&error))?)?;
        unlinkat(dir, &name, AtFlags::REMOVEDIR).map_err(refusals::of_errno)?;
    }
    Ok(())
}

fn names_in(dir: &OwnedFd) -> Result<Vec<OsString>, Error> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir).map_err(refusals::of_errno)? {
        let name = OsStr::from_bytes(entry.map_err(refusals::of_errno)?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}
