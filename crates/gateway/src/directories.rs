//! What S3 keeps with a directory: whether it made it for an object's key, and whether it is an object itself, `dir/`.
//! With a bucket's, when it was made and its tags. It is in the attribute that files have their record in.

use crate::record::{NAME, Record};
use kmsfs_client::attributes;
use kmsfs_s3::{Tags, Timestamp};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Of a directory that S3 has something to do with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// S3 made it, for an object in it: it goes with the last of them.
    #[serde(rename = "Implicit", default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) implicit: bool,
    /// It is an object of length 0.
    #[serde(rename = "Marker", default, skip_serializing_if = "Option::is_none")]
    pub(crate) marker: Option<Marker>,
    /// A bucket was made then, in seconds since 1970.
    #[serde(rename = "Created", default, skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<i64>,
    /// Of a bucket.
    #[serde(rename = "Tags", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<(String, String)>,
    /// Of a bucket that is being deleted: its default encryption, as its file had it; empty if it was malformed.
    #[serde(rename = "Away", default, skip_serializing_if = "Option::is_none")]
    pub(crate) away: Option<String>,
}

/// A directory as an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    #[serde(rename = "Record")]
    pub(crate) record: Record,
    /// When it was put, in seconds since 1970.
    #[serde(rename = "Modified")]
    pub(crate) modified: i64,
}

impl Origin {
    pub(crate) fn implicit() -> Self {
        Self { implicit: true, ..Self::default() }
    }

    pub(crate) fn tags(&self) -> Tags {
        Tags::new(self.tags.clone(), Tags::MAX_ON_BUCKET).unwrap_or_default()
    }

    pub(crate) fn with_tags(mut self, tags: &Tags) -> Self {
        self.tags = tags.pairs().to_vec();
        self
    }
}

impl Marker {
    pub(crate) fn modified(&self) -> Timestamp {
        Timestamp::from_unix(self.modified)
    }
}

/// # Errors
/// getxattr(2) failed.
pub(crate) fn origin(path: &Path) -> io::Result<Option<Origin>> {
    Ok(attributes::get(path, NAME)?.and_then(|text| serde_json::from_str(&text).ok()))
}

/// # Errors
/// setxattr(2) failed.
pub(crate) fn mark(path: &Path, origin: &Origin) -> io::Result<()> {
    attributes::set(path, NAME, serde_json::to_string(origin)?.as_bytes())
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    (now_in_nanoseconds() / 1_000_000_000) as i64
}

/// Since 1970.
pub(crate) fn now_in_nanoseconds() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos().cast_signed())
}
