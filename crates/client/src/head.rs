use super::{Stored, attributes};
use kmsfs_sse::Algorithm;
use serde::Deserialize;
use std::io;
use std::path::Path;

/// What a mount says of an object in one call: all that HeadObject returns about its ETag and its encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// ETag and encryption.
    pub stored: Stored,
    /// The ETag is the MD5 of the content; any other is opaque.
    pub etag_is_md5: bool,
    /// The policy of the object's key may decide differently for two users, or might when it was opened by those who
    /// have it open: whoever reads by splice(2) or sendfile(2) has to go past the kernel's cache (`O_DIRECT`), where
    /// pages would be there for whoever has the file open. It holds for a descriptor that was opened before.
    pub past_the_cache: bool,
    /// The attribute that [`Head::with`] asks for, if it is there.
    pub attribute: Option<String>,
}

/// Why S3 or KMS refuses the calling process, in their words.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Refused {
    /// S3's code: `KMS.DisabledException`, `AccessDenied`.
    #[serde(rename = "Code")]
    pub code: String,
    /// The message that goes with it.
    #[serde(rename = "Message")]
    pub message: String,
}

impl Head {
    /// Asks for the object at `path`, in a mount; or why its key refuses the caller.
    ///
    /// # Errors
    ///
    /// ENODATA for what is no object of a mount, EACCES where its mode refuses the caller, else getxattr(2)'s error.
    pub fn of(path: &Path) -> io::Result<Result<Self, Refused>> {
        Self::ask(path, attributes::HEAD)
    }

    /// The same, together with an attribute that is stored under a name that begins with `user.`, in one call.
    ///
    /// # Errors
    ///
    /// As [`Head::of`].
    pub fn with(path: &Path, attribute: &str) -> io::Result<Result<Self, Refused>> {
        let name = attribute.strip_prefix("user.").unwrap_or(attribute);
        Self::ask(path, &format!("{}.{name}", attributes::HEAD))
    }

    fn ask(path: &Path, name: &str) -> io::Result<Result<Self, Refused>> {
        let text = attributes::get(path, name)?.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODATA))?;
        let answer: Answer = serde_json::from_str(&text)?;
        Ok(match answer {
            Answer::Head { etag, etag_is_md5, algorithm, key_arn, bucket_key, past_the_cache, attribute } => {
                let algorithm = Algorithm::parse(&algorithm)
                    .ok_or_else(|| io::Error::other(format!("{} says {algorithm:?}", attributes::HEAD)))?;
                let stored = Stored { etag, algorithm, key_arn, bucket_key };
                Ok(Self { stored, etag_is_md5, past_the_cache, attribute })
            }
            Answer::Refused(refused) => Err(refused),
        })
    }
}

impl Refused {
    /// Why the mount refused what this user last asked for by an attribute of the object at `path`: its encryption. It
    /// is told once. `None` where it has nothing to say, as the reason was none of S3's or KMS's.
    ///
    /// # Errors
    ///
    /// getxattr(2) failed.
    pub fn last(path: &Path) -> io::Result<Option<Self>> {
        Ok(attributes::get(path, attributes::REFUSAL)?.map(|text| serde_json::from_str(&text)).transpose()?)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Head {
        #[serde(rename = "ETag")]
        etag: String,
        #[serde(rename = "ETagIsMD5")]
        etag_is_md5: bool,
        #[serde(rename = "ServerSideEncryption")]
        algorithm: String,
        #[serde(rename = "SSEKMSKeyId")]
        key_arn: Option<String>,
        #[serde(rename = "BucketKeyEnabled")]
        bucket_key: bool,
        #[serde(rename = "PastTheCache")]
        past_the_cache: bool,
        #[serde(rename = "Attribute", default)]
        attribute: Option<String>,
    },
    Refused(Refused),
}
