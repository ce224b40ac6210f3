//! S3's rules of server-side encryption: which encryption a new object gets, and the data keys that follow from it.
//!
//! The package has no files and no FUSE in it. A request's headers ([`Request`]) and a directory's configuration
//! ([`Configuration`]) are parsed into types that cannot be wrong; [`resolve`] decides between them as S3 does; a
//! [`KeyService`] asks a KMS for the data keys, with bucket keys in between where that is configured. What S3 refuses
//! is a [`RequestError`] with S3's code and message. Sources are the S3 User Guide ("Using server-side encryption with
//! AWS KMS keys", "Reducing the cost of SSE-KMS with Amazon S3 Bucket Keys") and the responses of S3 itself.
//!
//! ```
//! use kmsfs_sse::{Algorithm, Configuration, Request, request, resolve};
//!
//! let default = Configuration::parse(
//!     br#"{"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]}"#,
//! )?
//! .encryption();
//! assert_eq!(resolve(None, Some(&default))?.algorithm, Algorithm::AwsKms);
//!
//! let mut asked = Request::default();
//! asked.set_header(request::ALGORITHM, "AES256")?;
//! assert_eq!(resolve(Some(&asked), Some(&default))?.algorithm, Algorithm::Aes256);
//!
//! // S3 takes a key id only together with aws:kms.
//! asked.set_header(request::KEY_ID, "alias/my-key")?;
//! assert!(resolve(Some(&asked), Some(&default)).is_err());
//! # Ok::<(), kmsfs_sse::RequestError>(())
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod arn;
mod bucket_keys;
mod bucket_name;
mod configuration;
mod error;
mod json;
mod key_service;
mod permission;
pub mod request;
mod wrapping;

pub use bucket_name::{BucketName, BucketNameError};
pub use configuration::{CONFIGURATION_FILE, Configuration};
pub use error::{RequestError, s3_code};
pub use key_service::{AWS_S3, KeyService};
pub use permission::Asked;
pub use request::{Request, resolve};

/// What a sidecar keeps of them.
pub use kmsfs_format::data_key::{Algorithm, WrappedDataKey};

use kmsfs_kms::EncryptionContext;

/// What a request or a configuration asks for, before any key is resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// AES256, aws:kms or aws:kms:dsse.
    pub algorithm: Algorithm,
    /// Key id, key ARN, alias or alias ARN; none is `aws/s3`.
    pub key_id: Option<String>,
    /// Whether a bucket key wraps the data key, where the algorithm is aws:kms.
    pub bucket_key: bool,
    /// The request's own context, without `aws:s3:arn`.
    pub context: EncryptionContext,
}
