//! What an object says of itself.

use crate::error::{Code, Error};
use crate::request::Headers;
use crate::rfc2047;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The headers that are kept with an object and come back with it, as they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// `Content-Type`; without one it is guessed by the key's ending, or `binary/octet-stream`.
    pub content_type: Option<String>,
    /// `Content-Encoding`, without `aws-chunked`, which is of the request and not of the object.
    pub content_encoding: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Expires`, which S3 does not parse.
    pub expires: Option<String>,
    /// `x-amz-meta-*`: names in lower case without that prefix; values as Unicode text.
    pub user: BTreeMap<String, String>,
}

impl Metadata {
    /// What S3 allows for the names and values of `user`, in bytes of UTF-8 (Amazon S3 User Guide, "Working with object
    /// metadata").
    pub const MAX_USER_LEN: usize = 2048;

    /// Of the headers of a PUT.
    ///
    /// # Errors
    /// `MetadataTooLarge`; `InvalidArgument` for what is there twice or is not UTF-8.
    pub(crate) fn read(headers: Headers<'_>) -> Result<Self, Error> {
        let text = |name| Ok::<_, Error>(headers.get(name)?.map(str::to_owned));
        Ok(Self {
            content_type: text("content-type")?,
            content_encoding: headers.get("content-encoding")?.and_then(without_aws_chunked),
            content_disposition: text("content-disposition")?,
            content_language: text("content-language")?,
            cache_control: text("cache-control")?,
            expires: text("expires")?,
            user: read_user(headers)?,
        })
    }
}

const USER_PREFIX: &str = "x-amz-meta-";

/// Several headers of one name are one, with commas between their values (Amazon S3 User Guide, the same).
fn read_user(headers: Headers<'_>) -> Result<BTreeMap<String, String>, Error> {
    let mut user: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers.0 {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        let Some(short) = name.strip_prefix(USER_PREFIX) else { continue };
        let text = std::str::from_utf8(value.trim_ascii())
            .map_err(|_| Error::argument("The header is not UTF-8", &name, String::from_utf8_lossy(value)))?;
        let text = rfc2047::decoded(text);
        user.entry(short.to_owned()).and_modify(|all| *all = format!("{all},{text}")).or_insert(text);
        let size: usize = user.iter().map(|(name, value)| name.len() + value.len()).sum();
        if size > Metadata::MAX_USER_LEN {
            return Err(Error::new(Code::MetadataTooLarge)
                .with("Size", size.to_string())
                .with("MaxSizeAllowed", Metadata::MAX_USER_LEN.to_string()));
        }
    }
    Ok(user)
}

/// `aws-chunked` is how the body comes, and is over when it has.
fn without_aws_chunked(text: &str) -> Option<String> {
    let others = text.split(',').map(str::trim).filter(|coding| !coding.eq_ignore_ascii_case("aws-chunked"));
    let others: Vec<_> = others.filter(|coding| !coding.is_empty()).collect();
    (!others.is_empty()).then(|| others.join(","))
}

/// S3's `StorageClass`, of those that can be read at once. It is kept and answered; all are stored alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StorageClass {
    /// `STANDARD`, which S3 does not answer on GET and HEAD.
    #[default]
    Standard,
    /// `REDUCED_REDUNDANCY`
    ReducedRedundancy,
    /// `STANDARD_IA`
    StandardIa,
    /// `ONEZONE_IA`
    OnezoneIa,
    /// `INTELLIGENT_TIERING`
    IntelligentTiering,
    /// `GLACIER_IR`
    GlacierIr,
}

impl StorageClass {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Standard,
        Self::ReducedRedundancy,
        Self::StandardIa,
        Self::OnezoneIa,
        Self::IntelligentTiering,
        Self::GlacierIr,
    ];

    /// S3's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "STANDARD",
            Self::ReducedRedundancy => "REDUCED_REDUNDANCY",
            Self::StandardIa => "STANDARD_IA",
            Self::OnezoneIa => "ONEZONE_IA",
            Self::IntelligentTiering => "INTELLIGENT_TIERING",
            Self::GlacierIr => "GLACIER_IR",
        }
    }

    /// By S3's name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&str, &str)]) -> Result<Metadata, Error> {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        Metadata::read(Headers(&headers))
    }

    #[test]
    fn headers_are_kept_as_they_were() {
        let metadata = read(&[
            ("Content-Type", "text/plain; charset=x"),
            ("CONTENT-ENCODING", "aws-chunked, gzip"),
            ("Expires", "whenever"),
            ("x-amz-meta-A", "1"),
            ("X-Amz-Meta-a", " 2 "),
            ("x-amz-meta-b", "=?UTF-8?B?w6Q=?="),
            ("x-amz-meta-", ""),
            ("x-other", "3"),
        ])
        .unwrap();
        assert_eq!(metadata.content_type.as_deref(), Some("text/plain; charset=x"));
        assert_eq!(metadata.content_encoding.as_deref(), Some("gzip"));
        assert_eq!(metadata.expires.as_deref(), Some("whenever"));
        let user: Vec<_> = metadata.user.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(user, [("", ""), ("a", "1,2"), ("b", "ä")]);
        assert_eq!(read(&[("Content-Encoding", "AWS-chunked,")]).unwrap().content_encoding, None);
        assert!(read(&[("Content-Type", "a"), ("content-type", "a")]).is_err());
    }

    #[test]
    fn user_metadata_has_s3s_limit() {
        assert!(read(&[("x-amz-meta-abc", &"v".repeat(2045))]).is_ok());
        let error = read(&[("x-amz-meta-abc", &"v".repeat(2046))]).unwrap_err();
        assert_eq!((error.code(), error.elements()[0].1.as_str()), (&Code::MetadataTooLarge, "2049"));
        let many: Vec<_> = (0..1000).map(|n| format!("x-amz-meta-{n}")).collect();
        let many: Vec<_> = many.iter().map(|name| (name.as_str(), "v")).collect();
        assert_eq!(read(&many).unwrap_err().code(), &Code::MetadataTooLarge);
    }

    #[test]
    fn classes_have_s3s_names() {
        for class in StorageClass::ALL {
            assert_eq!(StorageClass::parse(class.name()), Some(class));
        }
        assert_eq!(StorageClass::parse("GLACIER"), None);
        assert_eq!(StorageClass::parse("standard"), None);
    }
}
