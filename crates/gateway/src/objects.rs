//! Objects that are there: found by their keys, read, and told of.

use crate::directories::{self, Marker};
use crate::puts::head_of;
use crate::record::{self, Content, Record, shown_etag};
use crate::refusals;
use crate::tree::{Bucket, Kind, Status, proc_path, status};
use crate::{Done, Worker};
use kmsfs_client::{Head, Stored};
use kmsfs_s3::answer::{self, ServerSideEncryption};
use kmsfs_s3::operation::GetObject;
use kmsfs_s3::{Answer, Checksum, Code, ETag, Error, Metadata, ObjectKey, Timestamp};
use kmsfs_sse::Algorithm;
use rustix::fs::{MemfdFlags, Mode, OFlags, fcntl_getfl, fcntl_setfl};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;

/// MD5 of nothing, which a marker has for its ETag.
pub(crate) const EMPTY_MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";

/// An object that is there, and may be read.
pub(crate) struct Found {
    /// By which it is looked at; none of a directory's marker, which has no content.
    file: Option<OwnedFd>,
    /// Its content is not to stay in the kernel's cache.
    past_the_cache: bool,
    pub(crate) size: u64,
    pub(crate) modified: Timestamp,
    pub(crate) etag: ETag,
    pub(crate) encryption: ServerSideEncryption,
    pub(crate) record: Record,
    /// The part of the record that is of this content.
    pub(crate) content: Option<Content>,
}

impl Found {
    /// # Errors
    /// `NoSuchKey`, or that the user or the object's key refuses, in S3's and KMS's words.
    pub(crate) fn look_up(bucket: &Bucket, key: &ObjectKey) -> Result<Self, Error> {
        Self::if_there(bucket, key)?.ok_or_else(|| no_such_key(key))
    }

    /// `None` where nothing has the key.
    pub(crate) fn if_there(bucket: &Bucket, key: &ObjectKey) -> Result<Option<Self>, Error> {
        Self::find(bucket, key, Ok)
    }

    /// The same, and it is open for reading. What is said of it is asked for afterwards, since how the kernel caches it
    /// is decided when it is opened.
    fn open(bucket: &Bucket, key: &ObjectKey) -> Result<Self, Error> {
        let open = |inode: OwnedFd| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            match rustix::fs::open(proc_path(&inode), flags, Mode::empty()) {
                Ok(file) => Ok(file),
                // Where its key refuses, S3 and KMS have words for it.
                Err(errno) => Err(head_of(&inode).err().unwrap_or_else(|| refusals::of_errno(errno))),
            }
        };
        Self::find(bucket, key, open)?.ok_or_else(|| no_such_key(key))
    }

    /// `open`: what makes of a file's inode what it is looked at by.
    fn find(
        bucket: &Bucket,
        key: &ObjectKey,
        open: impl FnOnce(OwnedFd) -> Result<OwnedFd, Error>,
    ) -> Result<Option<Self>, Error> {
        let Some(inode) = bucket.find(key)? else { return Ok(None) };
        let status = status(&inode).map_err(|error| refusals::of_call(&error))?;
        match (status.kind, key.is_marker()) {
            (Kind::File, false) => Self::of_file(open(inode)?, &status).map(Some),
            (Kind::Directory, true) => {
                let origin = directories::origin(&proc_path(&inode)).map_err(|error| refusals::of_call(&error))?;
                Ok(origin.and_then(|origin| origin.marker).map(Self::of_marker))
            }
            _ => Ok(None),
        }
    }

    fn of_file(file: OwnedFd, status: &Status) -> Result<Self, Error> {
        let head = Head::with(&proc_path(&file), record::NAME);
        let head = head.map_err(|error| refusals::of_call(&error))?.map_err(refusals::in_their_words)?;
        let record = head.attribute.as_deref().map(Record::parse).unwrap_or_default();
        let content = record.content_of(&head.stored.etag).filter(|content| content.size == status.size).cloned();
        let etag = content.as_ref().map_or_else(|| shown_etag(&head), |content| content.etag.clone());
        Ok(Self {
            file: Some(file),
            past_the_cache: head.past_the_cache,
            size: status.size,
            modified: status.modified(),
            etag: ETag::new(etag),
            encryption: encryption(&head.stored),
            record,
            content,
        })
    }

    fn of_marker(marker: Marker) -> Self {
        Self {
            file: None,
            past_the_cache: false,
            size: 0,
            modified: marker.modified(),
            etag: ETag::new(EMPTY_MD5),
            encryption: encryption_of_markers(),
            content: None,
            record: marker.record,
        }
    }

    /// A new descriptor of the content to read from.
    pub(crate) fn reopen(&self) -> Result<OwnedFd, Error> {
        match &self.file {
            Some(file) => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                rustix::fs::open(proc_path(file), flags, Mode::empty()).map_err(refusals::of_errno)
            }
            None => empty_file(),
        }
    }

    /// The descriptor that it was opened with, at the content's beginning.
    fn into_content(self) -> Result<OwnedFd, Error> {
        let Some(file) = self.file else { return empty_file() };
        if self.past_the_cache {
            // sendfile(2) puts into the cache what it sends, unless it is told so.
            let flags = fcntl_getfl(&file).map_err(refusals::of_errno)?;
            fcntl_setfl(&file, flags | OFlags::DIRECT).map_err(refusals::of_errno)?;
        }
        Ok(file)
    }

    pub(crate) fn checksum(&self) -> Option<Checksum> {
        self.content.as_ref().and_then(Content::checksum)
    }

    /// Everything but the content.
    fn describe(&self, of: &GetObject) -> Result<answer::Object, Error> {
        of.conditions.check(&self.etag, self.modified)?;
        let parts = self.content.as_ref().and_then(|content| content.parts.as_ref());
        let mut checksum = self.checksum();
        let mut range = of.range.map(|range| range.resolve(self.size)).transpose()?;
        if let Some(number) = of.part_number {
            match parts {
                None if number == 1 => {}
                None => return Err(Error::new(Code::InvalidPartNumber)),
                Some(parts) => {
                    let part = parts.parts().find(|part| part.number == number);
                    let part = part.ok_or_else(|| Error::new(Code::InvalidPartNumber))?;
                    let algorithm = checksum.as_ref().map(|checksum| checksum.algorithm);
                    checksum = algorithm.and_then(|algorithm| Checksum::parse(algorithm, part.checksum.as_deref()?));
                    range = Some(part.range);
                }
            }
        }
        Ok(answer::Object {
            modified: self.modified,
            etag: self.etag.clone(),
            size: self.size,
            range: range.map(|range| (range.start, range.end)),
            parts_count: parts.filter(|_| of.part_number.is_some()).and_then(|parts| NonZeroU32::new(parts.count())),
            encryption: self.encryption.clone(),
            metadata: self.metadata(),
            storage_class: self.record.storage_class,
            tag_count: self.record.tags.pairs().len() as u32,
            checksum,
        })
    }

    pub(crate) fn metadata(&self) -> Metadata {
        self.record.metadata.clone()
    }
}

impl Worker {
    pub(crate) fn get_object(&self, of: &GetObject) -> Result<Done, Error> {
        let found = Found::open(&self.tree.bucket(&of.bucket)?, &of.key)?;
        let object = found.describe(of)?;
        Ok((Answer::Object(Box::new(object)), Some(found.into_content()?)))
    }

    pub(crate) fn head_object(&self, of: &GetObject) -> Result<Done, Error> {
        let found = Found::look_up(&self.tree.bucket(&of.bucket)?, &of.key)?;
        Ok((Answer::Object(Box::new(found.describe(of)?)), None))
    }
}

pub(crate) fn no_such_key(key: &ObjectKey) -> Error {
    Error::new(Code::NoSuchKey).with("Key", key.as_str())
}

pub(crate) fn encryption(stored: &Stored) -> ServerSideEncryption {
    ServerSideEncryption { algorithm: stored.algorithm, key_arn: stored.key_arn.clone(), bucket_key: stored.bucket_key }
}

/// A marker has no content; its name and attributes are under the service's own key.
pub(crate) fn encryption_of_markers() -> ServerSideEncryption {
    ServerSideEncryption { algorithm: Algorithm::Aes256, key_arn: None, bucket_key: false }
}

/// For the content of a marker, which is none.
pub(crate) fn empty_file() -> Result<OwnedFd, Error> {
    rustix::fs::memfd_create("kmsfs-marker", MemfdFlags::CLOEXEC).map_err(refusals::of_errno)
}
