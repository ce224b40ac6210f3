//! Which encryption a new object gets, as S3 decides it, and the data keys that follow from it.
#![forbid(unsafe_code)]

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
pub use error::RequestError;
pub use key_service::{AWS_S3, KeyService};
pub use request::{Request, resolve};

/// What a sidecar keeps of them.
pub use kmsfs_format::data_key::{Algorithm, WrappedDataKey};

use kmsfs_kms::EncryptionContext;

/// What a request or a configuration asks for, before any key is resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    pub algorithm: Algorithm,
    /// Key id, key ARN, alias or alias ARN; none is `aws/s3`.
    pub key_id: Option<String>,
    pub bucket_key: bool,
    /// The request's own context, without `aws:s3:arn`.
    pub context: EncryptionContext,
}
