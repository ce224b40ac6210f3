//! What S3 keeps with an object beside its content: one extended attribute of the file, JSON, which the mount encrypts
//! as it does all of them.

use crate::parts::PartList;
use crate::tree::Status;
use kmsfs_client::attributes;
use kmsfs_s3::{Checksum, ChecksumAlgorithm, ETag, Metadata, StorageClass, Tags};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The attribute's name, on files and on directories.
pub(crate) const NAME: &str = "user.s3.metadata";

/// S3 has the default of this type for what was put without one.
pub(crate) const DEFAULT_TYPE: &str = "binary/octet-stream";

/// All that is kept; of a file that no client of S3 has put, the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Form", into = "Form")]
pub(crate) struct Record {
    pub(crate) metadata: Metadata,
    pub(crate) storage_class: StorageClass,
    pub(crate) tags: Tags,
    pub(crate) content: Option<Content>,
}

/// What holds for one content only. A program's write makes it void, which its ETag in the mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    /// The mount's ETag of it.
    #[serde(rename = "Of")]
    pub(crate) of: String,
    /// Its length in bytes, and when it was written in nanoseconds since 1970: with these two an object is listed
    /// without its key.
    #[serde(rename = "Size")]
    pub(crate) size: u64,
    #[serde(rename = "Modified")]
    pub(crate) modified: i64,
    /// The ETag that S3 shows.
    #[serde(rename = "ETag")]
    pub(crate) etag: String,
    /// Algorithm and text.
    #[serde(rename = "Checksum", default, skip_serializing_if = "Option::is_none")]
    checksum: Option<(String, String)>,
    /// Of an object that was sent in parts.
    #[serde(rename = "Parts", default, skip_serializing_if = "Option::is_none")]
    pub(crate) parts: Option<PartList>,
    /// The multipart upload that it was.
    #[serde(rename = "Upload", default, skip_serializing_if = "Option::is_none")]
    pub(crate) upload: Option<String>,
}

impl Content {
    /// Of what is in the file now: `of` is the mount's ETag.
    pub(crate) fn new(of: &str, status: &Status, etag: String, checksum: Option<&Checksum>) -> Self {
        let checksum = checksum.map(|checksum| (checksum.algorithm.name().to_owned(), checksum.text()));
        let modified = i64::try_from(status.mtime).unwrap_or_default();
        Self { of: of.to_owned(), size: status.size, modified, etag, checksum, parts: None, upload: None }
    }

    pub(crate) fn checksum(&self) -> Option<Checksum> {
        let (algorithm, text) = self.checksum.as_ref()?;
        Checksum::parse(ChecksumAlgorithm::parse(algorithm)?, text)
    }

    /// As far as it can be told without asking for the content's key.
    pub(crate) fn seems_to_be_of(&self, status: &Status) -> bool {
        self.size == status.size && i128::from(self.modified) == status.mtime
    }
}

impl Record {
    /// Of the file at `path`. A record that cannot be read is none: so one of a later version, or another program's.
    ///
    /// # Errors
    /// getxattr(2) failed.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        Ok(attributes::get(path, NAME)?.as_deref().map(Self::parse).unwrap_or_default())
    }

    /// Of the attribute's text.
    pub(crate) fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|error| {
            log::warn!("the attribute {NAME} of a file is no record: {error}");
            Self::default()
        })
    }

    /// # Errors
    /// setxattr(2) failed; `ENOSPC` or `E2BIG` where the record is too long for the file system below.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        attributes::set(path, NAME, serde_json::to_string(self)?.as_bytes())
    }

    /// The part that holds for this content alone, if it is this one.
    pub(crate) fn content_of(&self, etag: &str) -> Option<&Content> {
        let is_whole = |content: &Content| content.parts.as_ref().is_none_or(|parts| parts.is_of(content.size));
        self.content.as_ref().filter(|content| content.of == etag && is_whole(content))
    }
}

/// The ETag that S3 shows of content that no client has sent, or has sent at once. Under AES256 S3's clients take 32
/// digits for an MD5 and compare: where they are none, `-1` behind them says so, as of an object in one part.
pub(crate) fn shown_etag(head: &kmsfs_client::Head) -> String {
    let is_plain = head.stored.algorithm == kmsfs_sse::Algorithm::Aes256;
    if is_plain && !head.etag_is_md5 { format!("{}-1", head.stored.etag) } else { head.stored.etag.clone() }
}

/// An ETag by which a listing tells apart contents that it may not ask for.
pub(crate) fn guessed_etag(status: &Status) -> ETag {
    ETag::new(format!("{:016x}{:016x}-1", status.mtime as i64, status.size ^ status.ino.rotate_left(32)))
}

/// As it is stored.
#[derive(Serialize, Deserialize)]
struct Form {
    #[serde(rename = "Version")]
    version: u8,
    #[serde(rename = "Headers", default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(rename = "User", default, skip_serializing_if = "BTreeMap::is_empty")]
    user: BTreeMap<String, String>,
    #[serde(rename = "StorageClass", default, skip_serializing_if = "Option::is_none")]
    storage_class: Option<String>,
    #[serde(rename = "Tags", default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<(String, String)>,
    #[serde(rename = "Content", default, skip_serializing_if = "Option::is_none")]
    content: Option<Content>,
}

const VERSION: u8 = 1;

/// The headers by their names, with what is kept of them.
fn headers(metadata: &mut Metadata) -> [(&'static str, &mut Option<String>); 6] {
    [
        ("Content-Type", &mut metadata.content_type),
        ("Content-Encoding", &mut metadata.content_encoding),
        ("Content-Disposition", &mut metadata.content_disposition),
        ("Content-Language", &mut metadata.content_language),
        ("Cache-Control", &mut metadata.cache_control),
        ("Expires", &mut metadata.expires),
    ]
}

impl From<Record> for Form {
    fn from(mut record: Record) -> Self {
        let present = headers(&mut record.metadata).map(|(name, value)| Some((name.to_owned(), value.take()?)));
        Self {
            version: VERSION,
            headers: present.into_iter().flatten().collect(),
            user: record.metadata.user,
            storage_class: (record.storage_class != StorageClass::default())
                .then(|| record.storage_class.name().to_owned()),
            tags: record.tags.pairs().to_vec(),
            content: record.content,
        }
    }
}

impl From<Form> for Record {
    fn from(mut form: Form) -> Self {
        if form.version != VERSION {
            return Self::default();
        }
        let mut metadata = Metadata { user: form.user, ..Metadata::default() };
        for (name, value) in headers(&mut metadata) {
            *value = form.headers.remove(name);
        }
        Self {
            metadata,
            storage_class: form.storage_class.and_then(|name| StorageClass::parse(&name)).unwrap_or_default(),
            tags: Tags::new(form.tags, Tags::MAX_ON_BUCKET).unwrap_or_default(),
            content: form.content,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Kind;

    fn status() -> Status {
        Status { kind: Kind::File, mode: 0o644, uid: 0, ino: 7, size: 3, mtime: 1_000_000_001, ctime: 0 }
    }

    fn record() -> Record {
        let checksum = Checksum::of_bytes(ChecksumAlgorithm::Crc32, vec![1, 2, 3, 4]);
        let tags = Tags::new(vec![("b".into(), "1".into()), ("a".into(), String::new())], 10).unwrap();
        Record {
            metadata: Metadata {
                content_type: Some("text/plain".into()),
                expires: Some("never".into()),
                user: [("mtime".to_owned(), "1".to_owned())].into(),
                ..Metadata::default()
            },
            storage_class: StorageClass::StandardIa,
            tags,
            content: Some(Content::new("aa", &status(), "bb-2".into(), Some(&checksum))),
        }
    }

    #[test]
    fn a_record_is_the_same_after_it_was_stored() {
        for record in [record(), Record::default()] {
            let text = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record, "{text}");
        }
        assert_eq!(serde_json::to_string(&Record::default()).unwrap(), r#"{"Version":1}"#);
    }

    #[test]
    fn what_a_later_version_has_stored_is_no_record() {
        let text = serde_json::to_string(&record()).unwrap().replace("\"Version\":1", "\"Version\":2");
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), Record::default());
    }

    #[test]
    fn what_is_of_a_content_holds_for_that_content_alone() {
        let record = record();
        assert!(record.content_of("aa").is_some_and(|content| content.checksum().is_some()));
        assert_eq!(record.content_of("ab"), None);
        let content = record.content.unwrap();
        assert!(content.seems_to_be_of(&status()));
        assert!(!content.seems_to_be_of(&Status { size: 4, ..status() }));
        assert!(!content.seems_to_be_of(&Status { mtime: 1_000_000_002, ..status() }));
    }
}
