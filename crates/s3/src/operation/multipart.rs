//! Uploads in parts.

use super::CopySource;
use crate::{
    Checksum, ChecksumAlgorithm, ChecksumType, ETag, ExpectedChecksum, Metadata, ObjectKey, Preconditions,
    StorageClass, Tags, UploadId, WriteCondition, as_json,
};
use kmsfs_sse::BucketName;
use serde::{Deserialize, Serialize};

/// Begins an upload; what the object will be is said here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateMultipartUpload {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// The object that it will be.
    pub key: ObjectKey,
    /// Its encryption.
    #[serde(with = "as_json::request")]
    pub encryption: kmsfs_sse::Request,
    /// Its headers.
    pub metadata: Metadata,
    /// Its storage class.
    pub storage_class: StorageClass,
    /// Its tags.
    pub tags: Tags,
    /// The checksum that parts and object have, where the client said one.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
}

/// Sends one part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadPart {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// The object that it will be.
    pub key: ObjectKey,
    /// The upload.
    pub upload_id: UploadId,
    /// 1 to 10,000.
    pub part_number: u32,
    /// Bytes of the part, up to 5 GiB.
    pub length: u64,
    /// The part's own checksum.
    pub checksum: Option<ExpectedChecksum>,
    /// `Content-MD5`.
    pub content_md5: Option<[u8; 16]>,
}

/// Makes a part of an object that is there, or of a range of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadPartCopy {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// The object that it will be.
    pub key: ObjectKey,
    /// The upload.
    pub upload_id: UploadId,
    /// 1 to 10,000.
    pub part_number: u32,
    /// The object that is copied.
    pub source: CopySource,
    /// The first and the last byte of it, both included; the last one has to be there.
    pub source_range: Option<(u64, u64)>,
    /// What must hold of it.
    pub source_conditions: Preconditions,
}

/// Makes the object of its parts. Asked for a second time, it has the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompleteMultipartUpload {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// The object that it will be.
    pub key: ObjectKey,
    /// The upload.
    pub upload_id: UploadId,
    /// In the ascending order of their numbers, 1 to 10,000 of them.
    pub parts: Vec<CompletedPart>,
    /// The checksum that the object has to have.
    pub checksum: Option<Checksum>,
    /// The form that the client takes the upload's checksum to have: another one is `InvalidRequest`.
    pub checksum_type: Option<ChecksumType>,
    /// `x-amz-mp-object-size`: the object's length, as the client has it.
    pub object_size: Option<u64>,
    /// What must hold of the object that is replaced.
    pub condition: Option<WriteCondition>,
}

/// A part, as the client names it for the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedPart {
    /// 1 to 10,000.
    pub number: u32,
    /// As it was answered to the part; another one is `InvalidPart`.
    pub etag: ETag,
    /// As they were answered to the part; another one is `InvalidPart`.
    pub checksums: Vec<Checksum>,
}

/// Gives an upload and its parts up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortMultipartUpload {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// The object that it would have been.
    pub key: ObjectKey,
    /// The upload.
    pub upload_id: UploadId,
}
