//! Which encryption a new object gets, as S3 decides it, and the data keys that follow from it.

pub mod arn;
mod bucket_keys;
mod bucket_name;
mod configuration;
mod error;
mod json;
mod key_service;
pub mod request;

pub use bucket_name::{BucketName, BucketNameError};
pub use configuration::Configuration;
pub use error::RequestError;
pub use key_service::{AWS_S3, KeyService};
pub use request::{Request, resolve};

use crate::kms::EncryptionContext;
use serde::{Deserialize, Serialize};

/// S3's `SSEAlgorithm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    #[serde(rename = "AES256")]
    Aes256,
    #[serde(rename = "aws:kms")]
    AwsKms,
    #[serde(rename = "aws:kms:dsse")]
    AwsKmsDsse,
}

impl Algorithm {
    /// S3's name, in exactly its letters.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Aes256, Self::AwsKms, Self::AwsKmsDsse].into_iter().find(|a| a.as_str() == name)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aes256 => "AES256",
            Self::AwsKms => "aws:kms",
            Self::AwsKmsDsse => "aws:kms:dsse",
        }
    }
}

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

/// A data key as the sidecar keeps it: wrapped, with all that is needed to ask for it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedDataKey {
    pub algorithm: Algorithm,
    /// ARN of the KMS key; empty for `AES256`, whose key is the service's own.
    pub key_arn: String,
    pub context: EncryptionContext,
    /// The KMS ciphertext blob: of the data key, or of the bucket key.
    pub ciphertext_blob: Vec<u8>,
    /// With a bucket key: the data key wrapped under it (bucket_keys.rs says how).
    pub under_bucket_key: Option<Vec<u8>>,
}
