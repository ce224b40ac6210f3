//! Operations on one object.

use crate::conditions::EtagMatch;
use crate::{
    ChecksumAlgorithm, ExpectedChecksum, Metadata, ObjectKey, Preconditions, Range, StorageClass, Tags, WriteCondition,
    as_json,
};
use kmsfs_sse::BucketName;
use serde::{Deserialize, Serialize};

/// Makes or replaces an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutObject {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// The object.
    pub key: ObjectKey,
    /// Bytes of the object, up to 5 GiB.
    pub length: u64,
    /// Its encryption.
    #[serde(with = "as_json::request")]
    pub encryption: kmsfs_sse::Request,
    /// Its headers.
    pub metadata: Metadata,
    /// Its storage class.
    pub storage_class: StorageClass,
    /// Its tags.
    pub tags: Tags,
    /// What must hold of the object that is replaced.
    pub condition: Option<WriteCondition>,
    /// The checksum that it has to have. Without one S3 computes CRC64NVME.
    pub checksum: Option<ExpectedChecksum>,
    /// `Content-MD5`.
    pub content_md5: Option<[u8; 16]>,
}

/// The source of a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopySource {
    /// Its bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// The object.
    pub key: ObjectKey,
    /// Whether its version `null` was named, which is the only one.
    pub null_version: bool,
}

/// Makes or replaces an object with the content of another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyObject {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// The object.
    pub key: ObjectKey,
    /// The object that is copied.
    pub source: CopySource,
    /// What must hold of it.
    pub source_conditions: Preconditions,
    /// The new object's encryption, which does not depend on the source's.
    #[serde(with = "as_json::request")]
    pub encryption: kmsfs_sse::Request,
    /// `x-amz-metadata-directive: REPLACE`: the new object's headers. Otherwise they are the source's.
    pub metadata: Option<Metadata>,
    /// `x-amz-tagging-directive: REPLACE`: the new object's tags. Otherwise they are the source's.
    pub tags: Option<Tags>,
    /// The storage class, which is never the source's; none is `STANDARD`.
    pub storage_class: Option<StorageClass>,
    /// The checksum that the new object gets; otherwise that of the source's algorithm.
    pub checksum: Option<ChecksumAlgorithm>,
    /// What must hold of the object that is replaced.
    pub condition: Option<WriteCondition>,
}

impl CopyObject {
    /// Whether it copies an object onto itself and asks for no change.
    ///
    /// # Errors
    /// `InvalidRequest` in S3's words.
    pub fn check_changes(&self) -> Result<(), crate::Error> {
        let same = self.source.bucket == self.bucket && self.source.key == self.key;
        let changes = self.metadata.is_some() || self.storage_class.is_some() || !self.encryption.is_empty();
        if !same || changes {
            return Ok(());
        }
        Err(crate::Error::new(crate::Code::InvalidRequest).saying(
            "This copy request is illegal because it is trying to copy an object to itself without changing the \
             object's metadata, storage class, website redirect location or encryption attributes.",
        ))
    }
}

/// Reads an object (`GET`), or what is known of it (`HEAD`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetObject {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// The object.
    pub key: ObjectKey,
    /// Whether the version `null` was named.
    pub null_version: bool,
    /// What must hold of it, before the range is looked at.
    pub conditions: Preconditions,
    /// Which bytes; there is either this or a part's number.
    pub range: Option<Range>,
    /// Which part, 1 to 10,000; an object that was sent at once is its own part 1.
    pub part_number: Option<u32>,
    /// `x-amz-checksum-mode: ENABLED`: whether the answer has the checksum.
    pub checksum_mode: bool,
    /// Headers of the answer instead of the object's own.
    pub overrides: Overrides,
}

/// `response-*`: headers of an answer instead of the object's own. Only a signed request may have them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    /// `response-content-type`
    pub content_type: Option<String>,
    /// `response-content-encoding`
    pub content_encoding: Option<String>,
    /// `response-content-disposition`
    pub content_disposition: Option<String>,
    /// `response-content-language`
    pub content_language: Option<String>,
    /// `response-cache-control`
    pub cache_control: Option<String>,
    /// `response-expires`
    pub expires: Option<String>,
}

impl Overrides {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Removes an object; one that is not there is a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteObject {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// The object.
    pub key: ObjectKey,
    /// Whether the version `null` was named.
    pub null_version: bool,
    /// The tag that it must have: `If-Match`. With it an object that is not there is `NoSuchKey`.
    pub if_match: Option<EtagMatch>,
}

/// What is known of an object, of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetObjectAttributes {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// The object.
    pub key: ObjectKey,
    /// Whether the version `null` was named.
    pub null_version: bool,
    /// What was asked for.
    pub attributes: Attributes,
    /// Parts at most, up to 1000.
    pub max_parts: u32,
    /// Parts behind this one.
    pub part_number_marker: u32,
}

/// `x-amz-object-attributes`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools)]
pub struct Attributes {
    /// `ETag`
    pub etag: bool,
    /// `Checksum`
    pub checksum: bool,
    /// `ObjectParts`
    pub object_parts: bool,
    /// `StorageClass`
    pub storage_class: bool,
    /// `ObjectSize`
    pub object_size: bool,
}

/// Who may do what with an object: its owner all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetObjectAcl {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// The object.
    pub key: ObjectKey,
    /// Whether the version `null` was named.
    pub null_version: bool,
}

/// Wraps an object's data key under another KMS key; content, tag and time stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateObjectEncryption {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// The object.
    pub key: ObjectKey,
    /// Whether the version `null` was named.
    pub null_version: bool,
    /// The KMS key's whole ARN.
    pub key_arn: String,
    /// Whether a bucket key wraps the data key.
    pub bucket_key: bool,
}

/// Replaces an object's tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutObjectTagging {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// The object.
    pub key: ObjectKey,
    /// Whether the version `null` was named.
    pub null_version: bool,
    /// All of the new ones.
    pub tags: Tags,
}

/// An object's tags, which may be none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetObjectTagging {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// The object.
    pub key: ObjectKey,
    /// Whether the version `null` was named.
    pub null_version: bool,
}

/// Removes an object's tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteObjectTagging {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// The object.
    pub key: ObjectKey,
    /// Whether the version `null` was named.
    pub null_version: bool,
}
