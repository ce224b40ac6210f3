//! Tags of objects, and whose they are: what is known without asking for an object's key.

use crate::directories::{self, Marker, Origin};
use crate::locks::Mutual;
use crate::objects::no_such_key;
use crate::puts::too_long;
use crate::record::Record;
use crate::refusals;
use crate::tree::{Bucket, Kind, proc_path, status};
use crate::{Done, Worker};
use kmsfs_s3::{Answer, Error, ObjectKey, Tags};
use kmsfs_sse::BucketName;
use rustix::fs::{Mode, OFlags, fsync};
use std::os::fd::OwnedFd;

/// An object's record, and where it is.
struct Recorded {
    inode: OwnedFd,
    record: Record,
    /// Of a marker's directory.
    origin: Option<Origin>,
}

impl Worker {
    pub(crate) fn object_tags(&self, bucket: &BucketName, key: &ObjectKey) -> Result<Done, Error> {
        let recorded = Recorded::of(&self.tree.bucket(bucket)?, key)?;
        Ok((Answer::Tags(recorded.record.tags), None))
    }

    pub(crate) fn put_object_tags(&self, bucket: &BucketName, key: &ObjectKey, tags: &Tags) -> Result<Done, Error> {
        let bucket = self.tree.bucket(bucket)?;
        // Nobody holds up others on a key that may not be looked at.
        Recorded::of(&bucket, key)?;
        let _lock = bucket.lock(key.as_str(), Mutual::Exclusive)?;
        let recorded = Recorded::of(&bucket, key)?;
        if recorded.record.tags != *tags {
            let record = Record { tags: tags.clone(), ..recorded.record.clone() };
            recorded.replace(record)?;
        }
        Ok((Answer::Done, None))
    }

    pub(crate) fn object_acl(&self, bucket: &BucketName, key: &ObjectKey) -> Result<Done, Error> {
        Recorded::of(&self.tree.bucket(bucket)?, key)?;
        Ok((Answer::Owner(self.owner.clone()), None))
    }
}

impl Recorded {
    fn of(bucket: &Bucket, key: &ObjectKey) -> Result<Self, Error> {
        let inode = bucket.find(key)?.ok_or_else(|| no_such_key(key))?;
        let kind = status(&inode).map_err(|error| refusals::of_call(&error))?.kind;
        let path = proc_path(&inode);
        match (kind, key.is_marker()) {
            (Kind::File, false) => {
                let record = Record::of(&path).map_err(|error| refusals::of_call(&error))?;
                Ok(Self { inode, record, origin: None })
            }
            (Kind::Directory, true) => {
                let origin = directories::origin(&path).map_err(|error| refusals::of_call(&error))?;
                let origin = origin.ok_or_else(|| no_such_key(key))?;
                let marker = origin.marker.clone().ok_or_else(|| no_such_key(key))?;
                Ok(Self { inode, record: marker.record, origin: Some(origin) })
            }
            _ => Err(no_such_key(key)),
        }
    }

    fn replace(self, record: Record) -> Result<(), Error> {
        let path = proc_path(&self.inode);
        let written = match self.origin {
            None => record.write(&path),
            Some(origin) => {
                let modified = origin.marker.as_ref().map_or(0, |marker| marker.modified);
                let marker = Some(Marker { record, modified });
                directories::mark(&path, &Origin { marker, ..origin })
            }
        };
        written.map_err(|error| too_long(&error))?;
        // Where the key refuses to open the object, it becomes durable with the next commit of the file system below.
        match rustix::fs::open(&path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => fsync(file).map_err(refusals::of_errno),
            Err(_) => Ok(()),
        }
    }
}
