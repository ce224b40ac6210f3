//! Operations that list, a page at a time.

use crate::{ObjectKey, UploadId, as_json};
use kmsfs_sse::BucketName;
use serde::{Deserialize, Serialize};

/// Objects by key, in the older form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListObjects {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// What keys begin with.
    pub prefix: String,
    /// What ends a common prefix; empty for none.
    pub delimiter: String,
    /// The page begins behind this key or common prefix.
    pub marker: String,
    /// Keys and common prefixes at most, up to 1000.
    pub max_keys: u32,
    /// Whether keys and prefixes are URL-encoded in the answer.
    pub url_encoded: bool,
}

/// Objects by key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListObjectsV2 {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// What keys begin with.
    pub prefix: String,
    /// What ends a common prefix; empty for none.
    pub delimiter: String,
    /// The first page begins behind this key.
    pub start_after: String,
    /// The key or common prefix that the page begins behind, instead: what the continuation token holds.
    pub continuation: Option<String>,
    /// Keys and common prefixes at most, up to 1000.
    pub max_keys: u32,
    /// Whether keys and prefixes are URL-encoded in the answer.
    pub url_encoded: bool,
    /// Whether the answer says whose the objects are.
    pub fetch_owner: bool,
}

/// Versions of objects, of which each has one: `null`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListObjectVersions {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// What keys begin with.
    pub prefix: String,
    /// What ends a common prefix; empty for none.
    pub delimiter: String,
    /// The page begins behind this key.
    pub key_marker: String,
    /// The version of that key that was the last one: it has no other.
    pub version_id_marker: Option<String>,
    /// Keys and common prefixes at most, up to 1000.
    pub max_keys: u32,
    /// Whether keys and prefixes are URL-encoded in the answer.
    pub url_encoded: bool,
}

/// Multipart uploads that are neither complete nor aborted, by key, and of one key by their beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListMultipartUploads {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// What keys begin with.
    pub prefix: String,
    /// What ends a common prefix; empty for none.
    pub delimiter: String,
    /// The page begins behind this key, or with `upload_id_marker` within it.
    pub key_marker: String,
    /// Behind this upload of that key.
    pub upload_id_marker: Option<UploadId>,
    /// Uploads and common prefixes at most, 1 to 1000.
    pub max_uploads: u32,
    /// Whether keys and prefixes are URL-encoded in the answer.
    pub url_encoded: bool,
}

/// Parts of an upload, by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListParts {
    /// The bucket.
    #[serde(with = "as_json::bucket")]
    pub bucket: BucketName,
    /// The object that it will be.
    pub key: ObjectKey,
    /// The upload.
    pub upload_id: UploadId,
    /// The page begins behind this part.
    pub part_number_marker: u32,
    /// Parts at most, up to 1000.
    pub max_parts: u32,
}
