//! What a sidecar says of an object's data key.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A data key as the sidecar keeps it: wrapped, with all that is needed to ask for it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedDataKey {
    /// The object's encryption.
    pub algorithm: Algorithm,
    /// ARN of the KMS key; empty for `AES256`, whose key is the service's own.
    pub key_arn: String,
    /// KMS encryption context: string pairs bound to the blob.
    pub context: BTreeMap<String, String>,
    /// The KMS ciphertext blob: of the data key, or of the bucket key.
    pub ciphertext_blob: Vec<u8>,
    /// With a bucket key: the data key wrapped under it (bucket_keys.rs says how).
    pub under_bucket_key: Option<Vec<u8>>,
    /// With two layers, and only then: the inner layer's data key, as `ciphertext_blob` is the outer one's.
    pub inner_blob: Option<Vec<u8>>,
}

/// S3's `SSEAlgorithm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// SSE-S3: the service's own key wraps it.
    #[serde(rename = "AES256")]
    Aes256,
    /// SSE-KMS: a KMS key wraps it.
    #[serde(rename = "aws:kms")]
    AwsKms,
    /// DSSE-KMS: two layers, each with a data key that the KMS key wraps.
    #[serde(rename = "aws:kms:dsse")]
    AwsKmsDsse,
}

impl Algorithm {
    /// S3's name, in exactly its letters.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Aes256, Self::AwsKms, Self::AwsKmsDsse].into_iter().find(|a| a.as_str() == name)
    }

    /// S3's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aes256 => "AES256",
            Self::AwsKms => "aws:kms",
            Self::AwsKmsDsse => "aws:kms:dsse",
        }
    }
}
