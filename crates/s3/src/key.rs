//! Keys of objects, which here are paths.

use crate::error::{Code, Error};
use kmsfs_sse::CONFIGURATION_FILE;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The directories of a bucket in which multipart uploads are kept until they are complete have this name, with `.` and
/// their user's number behind it.
pub const UPLOADS_DIRECTORY: &str = ".kmsfs-uploads";
/// What the names of objects begin with that are being put, beside the ones that they will be.
pub const PUT_PREFIX: &str = ".kmsfs-put.";

/// The key of an object that can be a file: relative, in UTF-8, of 1 to 1024 bytes, of segments that name what they
/// say. It ends in `/` where it is a directory's marker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectKey(String);

impl ObjectKey {
    /// In bytes of UTF-8 (Amazon S3 User Guide, "Naming Amazon S3 objects").
    pub const MAX_LEN: usize = 1024;
    /// In bytes, of what is between two `/`: Linux's `NAME_MAX`.
    pub const MAX_SEGMENT_LEN: usize = 255;

    /// # Errors
    /// `KeyTooLongError` as S3 has it, or `InvalidArgument` that says why this key can be no file.
    pub fn parse(key: impl Into<String>) -> Result<Self, Error> {
        let key = key.into();
        if key.len() > Self::MAX_LEN {
            return Err(Error::new(Code::KeyTooLongError)
                .with("Size", key.len().to_string())
                .with("MaxSizeAllowed", Self::MAX_LEN.to_string()));
        }
        match refusal(&key) {
            Some(why) => Err(Error::argument(format!("The object key cannot be a path: {why}"), "key", key)),
            None => Ok(Self(key)),
        }
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a directory's marker.
    pub fn is_marker(&self) -> bool {
        self.0.ends_with('/')
    }

    /// The names on the way to the object, its own the last; a marker's is its directory's.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.strip_suffix('/').unwrap_or(&self.0).split('/')
    }
}

/// Whether a file or directory of that name is an affair of kmsfs, and so neither addressed nor listed.
pub fn is_reserved(name: &str) -> bool {
    let of_uploads = name.strip_prefix(UPLOADS_DIRECTORY).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    name == CONFIGURATION_FILE || of_uploads || name.starts_with(PUT_PREFIX)
}

fn refusal(key: &str) -> Option<String> {
    if key.is_empty() {
        return Some("it is empty".into());
    }
    if key.contains('\0') {
        return Some("it contains a NUL".into());
    }
    let path = key.strip_suffix('/').unwrap_or(key);
    path.split('/').find_map(|segment| match segment {
        "" => Some("it has an empty segment (two slashes in a row, or one at its beginning)".into()),
        "." | ".." => Some(format!("it has the segment {segment:?}")),
        _ if segment.len() > ObjectKey::MAX_SEGMENT_LEN => Some(format!(
            "it has a segment of {} bytes, at most {} are allowed",
            segment.len(),
            ObjectKey::MAX_SEGMENT_LEN
        )),
        _ if is_reserved(segment) => Some(format!("the name {segment:?} is reserved for kmsfs")),
        _ => None,
    })
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ObjectKey {
    type Error = Error;

    fn try_from(key: String) -> Result<Self, Error> {
        Self::parse(key)
    }
}

impl From<ObjectKey> for String {
    fn from(key: ObjectKey) -> Self {
        key.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_keys_are_taken_as_they_are() {
        let longest = format!("{}/{}/{}/{}/x", "a".repeat(255), "b".repeat(255), "c".repeat(255), "d".repeat(254));
        for key in ["a", "a/b c.json", "dir/", "...", "a/.b/..c", "ä/\u{1}", " ", "a\\b", "encryption.json", &longest]
        {
            assert_eq!(ObjectKey::parse(key).unwrap().as_str(), key);
        }
        assert_eq!(longest.len(), ObjectKey::MAX_LEN);
        assert_eq!(ObjectKey::parse("a/b/").unwrap().segments().collect::<Vec<_>>(), ["a", "b"]);
        assert!(ObjectKey::parse("a/").unwrap().is_marker());
    }

    #[test]
    fn keys_that_are_no_paths_are_refused_with_the_reason() {
        let long = format!("a/{}", "b".repeat(256));
        for (key, why) in [
            ("", "empty"),
            ("/", "empty segment"),
            ("/a", "empty segment"),
            ("a//b", "empty segment"),
            ("a//", "empty segment"),
            (".", "segment \".\""),
            ("a/../b", "segment \"..\""),
            ("..", "segment \"..\""),
            ("a/./", "segment \".\""),
            ("a\0", "NUL"),
            (".encryption.json", "reserved"),
            ("a/.encryption.json", "reserved"),
            (".kmsfs-uploads/x", "reserved"),
            (".kmsfs-uploads.1000/x", "reserved"),
            ("a/.kmsfs-put.1.x", "reserved"),
            (&long, "256 bytes"),
        ] {
            let error = ObjectKey::parse(key).unwrap_err();
            assert_eq!(error.code(), &Code::InvalidArgument);
            assert!(error.message().contains(why), "{key:?}: {}", error.message());
            assert_eq!(error.elements()[0], ("ArgumentName".to_owned(), "key".to_owned()));
        }
        let error = ObjectKey::parse("k".repeat(1025)).unwrap_err();
        assert_eq!((error.code(), error.status()), (&Code::KeyTooLongError, 400));
    }
}
