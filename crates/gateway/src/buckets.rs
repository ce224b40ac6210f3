//! Buckets: the directories at the root of the mount.

use crate::bucket_deletes::forget_default_away;
use crate::directories::{self, Origin};
use crate::locks::Lock;
use crate::puts::too_long;
use crate::refusals;
use crate::tree::{Bucket, Kind, names_in, open_beneath, proc_path, status_at};
use crate::{Done, Worker};
use kmsfs_client::{attributes, temporary_name};
use kmsfs_s3::answer::{self, EncryptionConfiguration};
use kmsfs_s3::operation::{CreateBucket, ListBuckets};
use kmsfs_s3::{Answer, Code, Error, Tags, Timestamp};
use kmsfs_sse::{BucketName, CONFIGURATION_FILE, Configuration};
use rustix::fs::{Access, AtFlags, Mode, OFlags, accessat, mkdirat, renameat, unlinkat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

impl Worker {
    pub(crate) fn create_bucket(&self, of: &CreateBucket) -> Result<Done, Error> {
        let name = of.bucket.as_str();
        let root = self.tree.open_root()?;
        // A bucket that is being deleted may stay.
        let _lock = self.tree.lock_bucket(name)?;
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

    /// S3 tells an owner that the bucket is there, and others that the name is taken. Whoever can make objects in it
    /// has it.
    fn is_own(&self, name: &BucketName) -> bool {
        let access = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        accessat(self.tree.root(), name.as_str(), access, AtFlags::EACCESS).is_ok()
    }

    /// Of those that the user may read.
    pub(crate) fn list_buckets(&self, of: &ListBuckets) -> Result<Done, Error> {
        let root = self.tree.open_root()?;
        let names = names_in(&root)?;
        let is_listed = |name: &String| {
            let is_behind = of.after.as_deref().is_none_or(|after| name.as_str() > after);
            name.starts_with(&of.prefix) && is_behind && BucketName::parse(name).is_ok()
        };
        let names = names.into_iter().filter_map(|name| name.into_string().ok());
        let mut names: Vec<String> = names.filter(is_listed).collect();
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

    /// The same, and nobody else changes what is kept with it until the lock is dropped. Who may not change it does not
    /// wait for it either, nor has others wait.
    fn locked_bucket(&self, name: &BucketName) -> Result<(Lock, Bucket), Error> {
        self.writable_bucket(name)?;
        let lock = self.tree.lock_bucket(name.as_str())?;
        Ok((lock, self.writable_bucket(name)?))
    }

    pub(crate) fn bucket_tags(&self, name: &BucketName) -> Result<Done, Error> {
        let bucket = self.readable_bucket(name)?;
        let tags = origin_of(bucket.dir())?.tags();
        if tags.is_empty() {
            return Err(Error::new(Code::NoSuchTagSet).with("BucketName", name.as_str()));
        }
        Ok((Answer::Tags(tags), None))
    }

    pub(crate) fn put_bucket_tags(&self, name: &BucketName, tags: &Tags) -> Result<Done, Error> {
        // What else is kept with it is written again, as it was read.
        let (_lock, bucket) = self.locked_bucket(name)?;
        let origin = origin_of(bucket.dir())?;
        if origin.tags() != *tags {
            directories::mark(&proc_path(bucket.dir()), &origin.with_tags(tags)).map_err(|error| too_long(&error))?;
            sync_bucket(&bucket)?;
        }
        Ok((Answer::Done, None))
    }

    /// As it was put; S3's default where nobody has put one.
    pub(crate) fn bucket_encryption(&self, name: &BucketName) -> Result<Done, Error> {
        let bucket = self.readable_bucket(name)?;
        let configuration = configuration_in(bucket.dir())?;
        Ok((Answer::Encryption(EncryptionConfiguration(configuration)), None))
    }

    /// It is put in place as `kmsfs put` does it, and the mount checks whose it is.
    pub(crate) fn put_bucket_encryption(
        &self,
        name: &BucketName,
        configuration: &Configuration,
    ) -> Result<Done, Error> {
        let (_lock, bucket) = self.locked_bucket(name)?;
        let dir = bucket.open()?;
        write_configuration(&dir, configuration)?;
        forget_default_away(&dir)?;
        Ok((Answer::Done, None))
    }

    pub(crate) fn delete_bucket_encryption(&self, name: &BucketName) -> Result<Done, Error> {
        let (_lock, bucket) = self.locked_bucket(name)?;
        let dir = bucket.open()?;
        // First, so that none comes back if this is cut off.
        forget_default_away(&dir)?;
        match unlinkat(&dir, CONFIGURATION_FILE, AtFlags::empty()) {
            Ok(()) => rustix::fs::fsync(&dir).map_err(refusals::of_errno)?,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(refusals::of_errno(errno)),
        }
        Ok((Answer::Done, None))
    }
}

/// What S3 keeps with a bucket.
pub(crate) fn origin_of(bucket: impl AsFd) -> Result<Origin, Error> {
    let origin = directories::origin(&proc_path(bucket)).map_err(|error| refusals::of_call(&error))?;
    Ok(origin.unwrap_or_default())
}

/// Has a directory without a configuration of its own have one that nothing can be made under: an empty file.
pub(crate) fn refuse_all_in(dir: &OwnedFd) -> Result<(), Error> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let file = open_beneath(dir, Path::new(CONFIGURATION_FILE), flags, Mode::from_raw_mode(0o644))
        .map_err(|error| refusals::of_call(&error))?;
    rustix::fs::fsync(&file).and_then(|()| rustix::fs::fsync(dir)).map_err(refusals::of_errno)
}

/// Durable when it returns, or as before.
pub(crate) fn write_configuration(dir: &OwnedFd, configuration: &Configuration) -> Result<(), Error> {
    let temporary = temporary_name(OsStr::new(CONFIGURATION_FILE));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let file = open_beneath(dir, Path::new(&temporary), flags, Mode::from_raw_mode(0o644))
        .map_err(|error| refusals::of_call(&error))?;
    let mut file = File::from(file);
    let written = file
        .write_all(configuration.to_json().to_string().as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| Ok(renameat(dir, &temporary, dir, CONFIGURATION_FILE)?));
    if let Err(error) = written {
        let _ = unlinkat(dir, &temporary, AtFlags::empty());
        return Err(refusals::of_call(&error));
    }
    rustix::fs::fsync(dir).map_err(refusals::of_errno)
}

/// The configuration in force in a directory.
///
/// # Errors
/// `InvalidRequest`: there is one that nothing can be made under, and why.
pub(crate) fn configuration_in(dir: impl AsFd) -> Result<Configuration, Error> {
    in_force(dir)?.map_err(|why| Error::new(Code::InvalidRequest).saying(why))
}

/// The same; or why nothing can be made under the one that there is.
pub(crate) fn in_force(dir: impl AsFd) -> Result<Result<Configuration, String>, Error> {
    let text = attributes::get(&proc_path(dir), attributes::CONFIGURATION);
    let text = text.map_err(|error| refusals::of_call(&error))?.unwrap_or_default();
    let in_force: serde_json::Value = serde_json::from_str(&text).map_err(|error| refusals::of_call(&error.into()))?;
    if let (Some(why), Some(source)) = (in_force["Refused"].as_str(), in_force["Source"].as_str()) {
        return Ok(Err(format!("{source}: {why}")));
    }
    Ok(Ok(Configuration::parse(in_force["ServerSideEncryptionConfiguration"].to_string().as_bytes())?))
}

fn sync_bucket(bucket: &Bucket) -> Result<(), Error> {
    let dir = bucket.open()?;
    rustix::fs::fsync(&dir).map_err(refusals::of_errno)
}
