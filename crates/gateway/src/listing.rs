//! ListObjects, ListObjectsV2 and ListObjectVersions: a page of keys and common prefixes.

use crate::objects::EMPTY_MD5;
use crate::record::{Content, Record, guessed_etag, shown_etag};
use crate::refusals;
use crate::tree::{Bucket, Kind, is_absent, proc_path, status_at};
use crate::walker::{Walker, What};
use crate::{Done, Worker};
use kmsfs_client::Head;
use kmsfs_s3::answer::{ListedObject, Objects};
use kmsfs_s3::listing::{Keys, Listing, Page};
use kmsfs_s3::operation::{ListObjectVersions, ListObjects, ListObjectsV2};
use kmsfs_s3::{Answer, ETag, Error};
use kmsfs_sse::BucketName;
use std::ffi::OsStr;

impl Worker {
    pub(crate) fn list_objects(&self, of: &ListObjects) -> Result<Done, Error> {
        self.list(&of.bucket, of.into(), self.tree.names.has_ended(of.bucket.as_str(), &of.marker))
    }

    pub(crate) fn list_objects_v2(&self, of: &ListObjectsV2) -> Result<Done, Error> {
        self.list(&of.bucket, of.into(), of.continuation.is_some())
    }

    pub(crate) fn list_object_versions(&self, of: &ListObjectVersions) -> Result<Done, Error> {
        self.list(&of.bucket, of.into(), self.tree.names.has_ended(of.bucket.as_str(), &of.key_marker))
    }

    /// `goes_on` where there was a page before, which clients of the first version say by the key that it ended with.
    fn list(&self, name: &BucketName, page: Page<'_>, goes_on: bool) -> Result<Done, Error> {
        let bucket = self.readable_bucket(name)?;
        let mut walker = Walker::new(&bucket, page.prefix, goes_on)?;
        let Listing { objects, prefixes, next } = page.fill(&mut walker)?;
        if let Some(last) = &next {
            self.tree.names.note_end(name.as_str(), last);
        }
        Ok((Answer::Objects(Objects { owner: self.owner.clone(), objects, prefixes, next }), None))
    }
}

/// Whether there is any object in the bucket.
pub(crate) fn has_objects(bucket: &Bucket) -> Result<bool, Error> {
    let mut walker = Walker::new(bucket, "", false)?;
    Ok(walker.step()?.is_some())
}

impl Keys for Walker<'_> {
    type Found = What;
    type Object = ListedObject;
    type Error = Error;

    fn skip_to(&mut self, target: &[u8]) -> Result<(), Error> {
        self.seek(target)
    }

    fn next(&mut self) -> Result<Option<(String, What)>, Error> {
        self.step()
    }

    fn look_at(&mut self, key: String, found: What) -> Result<Option<ListedObject>, Error> {
        describe(self, key, found)
    }
}

/// `None` where there is no object any more.
fn describe(walker: &Walker<'_>, key: String, found: What) -> Result<Option<ListedObject>, Error> {
    let marker = match found {
        What::Marker(marker) => marker,
        What::File => return describe_file(walker, key),
    };
    Ok(Some(ListedObject {
        key,
        modified: marker.modified(),
        etag: ETag::new(EMPTY_MD5),
        size: 0,
        storage_class: marker.record.storage_class,
        checksum: None,
    }))
}

/// A file whose content is as S3 put it is told of without asking for its key.
fn describe_file(walker: &Walker<'_>, key: String) -> Result<Option<ListedObject>, Error> {
    let Some(dir) = walker.dir() else { return Ok(None) };
    let name = key.rsplit('/').next().unwrap_or(&key);
    let status = match status_at(dir, OsStr::new(name)) {
        Ok(status) if status.kind == Kind::File => status,
        Ok(_) => return Ok(None),
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(refusals::of_call(&error)),
    };
    let path = proc_path(dir).join(name);
    // Of a file that the user may not read there is its name.
    let record = Record::of(&path).unwrap_or_default();
    let content = record.content.as_ref().filter(|content| content.seems_to_be_of(&status));
    let etag = match content {
        Some(content) => ETag::new(&content.etag),
        None => match Head::of(&path) {
            Ok(Ok(head)) => {
                let known = record.content_of(&head.stored.etag).map(|content| content.etag.clone());
                ETag::new(known.unwrap_or_else(|| shown_etag(&head)))
            }
            Err(error) if is_absent(&error) => return Ok(None),
            _ => guessed_etag(&status),
        },
    };
    let checksum = content.and_then(Content::checksum);
    Ok(Some(ListedObject {
        key,
        modified: status.modified(),
        etag,
        size: status.size,
        storage_class: record.storage_class,
        checksum: checksum.map(|checksum| (checksum.algorithm, checksum.kind())),
    }))
}
