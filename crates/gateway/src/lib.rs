//! S3's operations on a kmsfs mount, by the system calls of any program, as the user whose process it is.
//!
//! A bucket is a directory at the mount's root and a key is a path in it, so that the kernel checks permissions and the
//! mount asks the KMS for the calling user. [`Worker`] does one operation at a time for any number of threads; bodies
//! do not pass through it: whoever speaks HTTP is given descriptors to read from and to write to. [`wire`] is how that
//! is asked for from another process, which has neither the user's rights nor anything of the mount open.
//!
//! docs/SEMANTICS.md has what differs between files and S3's objects.
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod attributes;
mod bucket_deletes;
mod buckets;
mod copies;
mod deletes;
mod directories;
mod etags;
mod leftovers;
mod listing;
mod locks;
mod names;
mod objects;
mod parts;
mod puts;
mod record;
mod refusals;
mod serving;
mod tagging;
mod tree;
mod uploads;
mod walker;
pub mod wire;
mod withdrawn;

pub use locks::Locks;
pub use serving::serve;

use kmsfs_s3::answer::Owner;
use kmsfs_s3::operation::PutObject;
use kmsfs_s3::{Answer, Checksum, Code, Error, Operation};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use tree::Tree;

/// What was done, and a descriptor of the content where that was asked for: at its beginning, for reading.
pub type Done = (Answer, Option<OwnedFd>);

/// Does operations on one mount, as the user whose process it is.
pub struct Worker {
    tree: Tree,
    owner: Owner,
}

/// An upload whose body the caller writes. If it is dropped before it is finished, nothing of it is left.
#[derive(Debug)]
pub struct Upload(Begin);

#[derive(Debug)]
enum Begin {
    Put(Box<puts::Put>),
    Part(Box<uploads::PartUpload>),
}

/// An upload that was begun.
#[derive(Debug)]
pub struct Begun {
    /// To be finished.
    pub upload: Upload,
    /// Where the body is to be written, in its order, from where the descriptor is. The upload has it too: closing a
    /// second one would have the kernel write the file's times.
    pub file: Arc<OwnedFd>,
    /// Whether [`Body::md5`] is needed.
    pub wants_md5: bool,
}

/// The body of an upload that was written: what the caller has found out about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// How many bytes were written.
    pub length: u64,
    /// Where [`Begun::wants_md5`] asked for it.
    pub md5: Option<[u8; 16]>,
    /// To be kept with the object, of all of these bytes.
    pub checksum: Option<Checksum>,
}

impl Worker {
    /// On the mount at `mountpoint`. All workers of a mount share `locks`; objects belong to `owner`, who is the user.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub fn open(mountpoint: &Path, locks: Locks, owner: Owner) -> io::Result<Self> {
        let worker = Self::open_alone(mountpoint, locks, owner)?;
        worker.put_defaults_back();
        Ok(worker)
    }

    /// The same for somebody beside the mount's workers, whose locks it does not share: what they may be in the midst
    /// of is left as it is.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub fn open_alone(mountpoint: &Path, locks: Locks, owner: Owner) -> io::Result<Self> {
        Ok(Self { tree: Tree::open(mountpoint, locks)?, owner })
    }

    /// Does an operation that has no body.
    ///
    /// # Errors
    /// As S3 refuses it; `InternalError` for one that has a body, which [`Worker::begin`] is for.
    pub fn perform(&self, operation: &Operation) -> Result<Done, Error> {
        let done = |()| (Answer::Done, None);
        match operation {
            Operation::ListBuckets(of) => self.list_buckets(of),
            Operation::CreateBucket(of) => self.create_bucket(of),
            Operation::DeleteBucket(of) => self.delete_bucket(&of.bucket),
            Operation::HeadBucket(of) => self.readable_bucket(&of.bucket).map(drop).map(done),
            Operation::GetBucketLocation(of) => self.readable_bucket(&of.bucket).map(drop).map(done),
            Operation::PutBucketEncryption(of) => self.put_bucket_encryption(&of.bucket, &of.configuration),
            Operation::GetBucketEncryption(of) => self.bucket_encryption(&of.bucket),
            Operation::DeleteBucketEncryption(of) => self.delete_bucket_encryption(&of.bucket),
            Operation::PutBucketTagging(of) => self.put_bucket_tags(&of.bucket, &of.tags),
            Operation::GetBucketTagging(of) => self.bucket_tags(&of.bucket),
            Operation::DeleteBucketTagging(of) => self.put_bucket_tags(&of.bucket, &kmsfs_s3::Tags::default()),
            Operation::GetBucketSetting(of) => {
                self.readable_bucket(&of.bucket).map(|_| (Answer::Owner(self.owner.clone()), None))
            }
            Operation::PutBucketSetting(of) => self.writable_bucket(&of.bucket).map(drop).map(done),
            Operation::ListObjects(of) => self.list_objects(of),
            Operation::ListObjectsV2(of) => self.list_objects_v2(of),
            Operation::ListObjectVersions(of) => self.list_object_versions(of),
            Operation::DeleteObjects(of) => self.delete_objects(of),
            Operation::GetObject(of) => self.get_object(of),
            Operation::HeadObject(of) => self.head_object(of),
            Operation::DeleteObject(of) => self.delete_object(of),
            Operation::GetObjectTagging(of) => self.object_tags(&of.bucket, &of.key),
            Operation::PutObjectTagging(of) => self.put_object_tags(&of.bucket, &of.key, &of.tags),
            Operation::DeleteObjectTagging(of) => self.put_object_tags(&of.bucket, &of.key, &kmsfs_s3::Tags::default()),
            Operation::GetObjectAcl(of) => self.object_acl(&of.bucket, &of.key),
            Operation::CopyObject(of) => self.copy_object(of),
            Operation::GetObjectAttributes(of) => self.object_attributes(of),
            Operation::UpdateObjectEncryption(of) => self.update_object_encryption(of),
            Operation::CreateMultipartUpload(of) => self.create_upload(of),
            Operation::UploadPartCopy(of) => self.copy_part(of),
            Operation::CompleteMultipartUpload(of) => self.complete_upload(of),
            Operation::AbortMultipartUpload(of) => self.abort_upload(of),
            Operation::ListParts(of) => self.list_parts(of),
            Operation::ListMultipartUploads(of) => self.list_uploads(of),
            Operation::PutObject(_) | Operation::UploadPart(_) => Err(Error::new(Code::InternalError)),
        }
    }

    /// Begins an operation that has a body: PutObject or UploadPart.
    ///
    /// # Errors
    /// As S3 refuses it before it has seen the body; `InternalError` for one that has none.
    pub fn begin(&self, operation: Operation) -> Result<Begun, Error> {
        match operation {
            Operation::PutObject(put) => {
                let (put, file) = self.begin_put(put)?;
                Ok(Begun { upload: Upload(Begin::Put(Box::new(put))), file, wants_md5: false })
            }
            Operation::UploadPart(part) => {
                let (part, file, wants_md5) = self.begin_part(&part)?;
                Ok(Begun { upload: Upload(Begin::Part(Box::new(part))), file, wants_md5 })
            }
            _ => Err(Error::new(Code::InternalError)),
        }
    }

    /// Both, and the body between them.
    ///
    /// # Errors
    /// As S3 refuses it; nothing is left of it then.
    pub fn put(&self, put: PutObject, content: &[u8], body: &Body) -> Result<Answer, Error> {
        if content.len() > wire::SHORT {
            return Err(Error::new(Code::InternalError));
        }
        let begun = self.begin(Operation::PutObject(put))?;
        if !content.is_empty() {
            copies::write_all(&begun.file, content, 0)?;
        }
        // Closing it is the upload's.
        drop(begun.file);
        begun.upload.finish(body)
    }
}

impl Upload {
    /// The body is there, whole, and is what the client said that it would be. `Ok` means that what was put is in place
    /// and durable.
    ///
    /// # Errors
    /// As S3 refuses it; nothing is left of the upload then.
    pub fn finish(self, body: &Body) -> Result<Answer, Error> {
        let written = match self.0 {
            Begin::Put(put) => puts::finish(*put, body),
            Begin::Part(part) => part.finish(body),
        };
        written.map(Answer::Written)
    }
}
