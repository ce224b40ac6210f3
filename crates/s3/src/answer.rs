//! What was done or found.
//!
//! An answer holds what only the one who did the operation knows; the response is made of both ([`crate::Operation`]
//! and this), so that nothing of the request is repeated here.

use crate::{
    Checksum, ChecksumAlgorithm, ChecksumType, ETag, Error, Metadata, StorageClass, Tags, Timestamp, UploadId, as_json,
};
use kmsfs_sse::{Algorithm, Configuration};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;

/// The outcome of an [`crate::Operation`] that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Nothing but success: HeadBucket, CreateBucket, GetBucketLocation, PutBucketSetting, UpdateObjectEncryption and
    /// all that delete or replace tags and configurations.
    Done,
    /// ListBuckets.
    Buckets(Buckets),
    /// GetBucketEncryption.
    Encryption(EncryptionConfiguration),
    /// GetBucketTagging, GetObjectTagging.
    Tags(Tags),
    /// GetBucketSetting, GetObjectAcl.
    Owner(Owner),
    /// ListObjects, ListObjectsV2, ListObjectVersions.
    Objects(Objects),
    /// ListMultipartUploads.
    Uploads(Uploads),
    /// ListParts.
    Parts(Box<Parts>),
    /// DeleteObjects: an outcome for each object, in the order of the request.
    Deleted(Vec<Result<(), Error>>),
    /// GetObject, HeadObject.
    Object(Box<Object>),
    /// PutObject, UploadPart, CopyObject, UploadPartCopy, CompleteMultipartUpload.
    Written(Written),
    /// GetObjectAttributes.
    Attributes(Box<Attributes>),
    /// CreateMultipartUpload.
    Upload(Upload),
}

/// Somebody to whom buckets and objects belong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// S3's canonical user id: 64 hexadecimal digits.
    pub id: String,
    /// The user's name.
    pub display_name: String,
}

/// A page of buckets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buckets {
    /// Whose they are.
    pub owner: Owner,
    /// By name.
    pub buckets: Vec<Bucket>,
    /// Whether there are more of them.
    pub truncated: bool,
}

/// A bucket in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
}

/// A bucket's default encryption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptionConfiguration(
    /// As it was put, or S3's default.
    #[serde(with = "as_json::configuration")]
    pub Configuration,
);

/// How an object or an upload is encrypted, as answers show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSideEncryption {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// ARN of the KMS key, where there is one.
    pub key_arn: Option<String>,
    /// Whether a bucket key wraps the data key.
    pub bucket_key: bool,
}

/// A page of objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objects {
    /// Whose they are.
    pub owner: Owner,
    /// By key.
    pub objects: Vec<ListedObject>,
    /// Common prefixes, in the same order, each ending in the delimiter.
    pub prefixes: Vec<String>,
    /// Where there is more: the last key or common prefix of this page, behind which the next one begins.
    pub next: Option<String>,
}

/// An object in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// When it was last written.
    pub modified: Timestamp,
    /// Its tag.
    pub etag: ETag,
    /// Its bytes.
    pub size: u64,
    /// Its storage class.
    pub storage_class: StorageClass,
    /// The checksum that it has.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
}

/// A page of uploads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uploads {
    /// Whose they are.
    pub owner: Owner,
    /// By key, and of one key by their beginning.
    pub uploads: Vec<ListedUpload>,
    /// Common prefixes, each ending in the delimiter.
    pub prefixes: Vec<String>,
    /// Where there is more: the last key or common prefix of this page, and the upload, where it was one.
    pub next: Option<(String, Option<UploadId>)>,
}

/// An upload in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedUpload {
    /// The object that it will be.
    pub key: String,
    /// Its id.
    pub upload_id: UploadId,
    /// When it was begun.
    pub initiated: Timestamp,
    /// The object's storage class.
    pub storage_class: StorageClass,
    /// The checksum that it will have.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
}

/// A page of parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// Whose the upload is.
    pub owner: Owner,
    /// By number.
    pub parts: Vec<ListedPart>,
    /// Whether there are more of them.
    pub truncated: bool,
    /// The object's storage class.
    pub storage_class: StorageClass,
    /// The checksum that parts and object have.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
    /// How the object will be encrypted. Lists of parts do not show it.
    pub encryption: ServerSideEncryption,
}

/// A part in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedPart {
    /// 1 to 10,000.
    pub number: u32,
    /// When it was sent.
    pub modified: Timestamp,
    /// Its tag.
    pub etag: ETag,
    /// Its bytes.
    pub size: u64,
    /// Its checksum.
    pub checksum: Option<Checksum>,
}

/// An object that is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// When it was last written.
    pub modified: Timestamp,
    /// Its tag.
    pub etag: ETag,
    /// Its bytes, all of them.
    pub size: u64,
    /// The offsets of the bytes that are asked for, from the first to before the last: where a range or a part of an
    /// object of several parts is, and no others.
    pub range: Option<(u64, u64)>,
    /// How many parts it was made of, where a part was asked for.
    pub parts_count: Option<NonZeroU32>,
    /// How it is encrypted.
    pub encryption: ServerSideEncryption,
    /// Its headers.
    pub metadata: Metadata,
    /// Its storage class.
    pub storage_class: StorageClass,
    /// How many tags it has.
    pub tag_count: u32,
    /// Its checksum, where it is known; of a part, the part's.
    pub checksum: Option<Checksum>,
}

/// An object or part that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Its tag.
    pub etag: ETag,
    /// When, which the answers to copies say.
    pub modified: Timestamp,
    /// How it is encrypted.
    pub encryption: ServerSideEncryption,
    /// Its checksum.
    pub checksum: Option<Checksum>,
}

/// What is known of an object, whether asked for or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// When it was last written.
    pub modified: Timestamp,
    /// Its tag.
    pub etag: ETag,
    /// Its bytes.
    pub size: u64,
    /// Its storage class.
    pub storage_class: StorageClass,
    /// Its checksum.
    pub checksum: Option<Checksum>,
    /// Its parts, where it was made of several and that was asked for.
    pub parts: Option<ObjectParts>,
}

/// A page of the parts that an object was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectParts {
    /// How many they are in all.
    pub count: u32,
    /// By number. S3 lists them only where they have checksums.
    pub parts: Vec<ObjectPart>,
    /// Whether there are more of them.
    pub truncated: bool,
}

/// A part that an object was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectPart {
    /// 1 to 10,000.
    pub number: u32,
    /// Its bytes.
    pub size: u64,
    /// Its checksum.
    pub checksum: Option<Checksum>,
}

/// An upload that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Its id.
    pub upload_id: UploadId,
    /// How the object will be encrypted.
    pub encryption: ServerSideEncryption,
}
