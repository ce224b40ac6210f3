use super::attributes;
use kmsfs_sse::Algorithm;
use std::io;
use std::path::Path;

/// How an object is stored: what S3's PutObject and HeadObject return about its ETag and its encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Hexadecimal digits, without the quotes that S3 puts around them.
    pub etag: String,
    /// Its server-side encryption.
    pub algorithm: Algorithm,
    /// ARN of the KMS key that its data key is wrapped under; `None` under AES256.
    pub key_arn: Option<String>,
    /// Whether its data key is wrapped under a bucket key.
    pub bucket_key: bool,
}

impl Stored {
    /// Reads the attributes of the object at `path`, in a mount.
    ///
    /// # Errors
    ///
    /// ENODATA for what is not an object of a mount, else getxattr(2)'s error.
    pub fn of(path: &Path) -> io::Result<Self> {
        let required = |name| attributes::get(path, name)?.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODATA));
        let etag = required(attributes::ETAG)?;
        let algorithm = required(attributes::ALGORITHM)?;
        let algorithm = Algorithm::parse(&algorithm)
            .ok_or_else(|| io::Error::other(format!("{} is {algorithm:?}", attributes::ALGORITHM)))?;
        Ok(Self {
            etag,
            algorithm,
            key_arn: attributes::get(path, attributes::KEY_ID)?,
            bucket_key: attributes::get(path, attributes::BUCKET_KEY)?.as_deref() == Some("true"),
        })
    }

    /// The ETag as S3's APIs return it, in double quotes.
    pub fn quoted_etag(&self) -> String {
        format!("\"{}\"", self.etag)
    }
}
