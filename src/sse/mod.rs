//! Which encryption a new object gets, as S3 decides it, and the data keys that follow from it.

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
    /// With a bucket key: the data key wrapped under it.
    pub under_bucket_key: Option<Vec<u8>>,
}

/// Makes and unwraps data keys: directly under a KMS key, under a bucket key, or under the service's own key.
pub struct KeyService {/* private */}

impl KeyService {
    pub fn new(
        _kms: std::sync::Arc<dyn crate::kms::Kms>,
        _service: std::sync::Arc<dyn crate::kms::ServiceKey>,
    ) -> Self {
        todo!()
    }
    /// `key` is the object's S3 key. The context is `{"aws:s3:arn": object's or (with a bucket key) bucket's ARN}` and
    /// the request's own pairs.
    pub fn new_data_key(
        &self,
        _want: &Encryption,
        _bucket: &str,
        _key: &str,
        _caller: &crate::kms::Caller,
    ) -> Result<(crate::crypto::SecretKey, WrappedDataKey), RequestError> {
        todo!()
    }
    pub fn unwrap(
        &self,
        _wrapped: &WrappedDataKey,
        _caller: &crate::kms::Caller,
    ) -> Result<crate::crypto::SecretKey, RequestError> {
        todo!()
    }
    /// The same data key, wrapped as `want` says.
    pub fn rewrap(
        &self,
        _wrapped: &WrappedDataKey,
        _want: &Encryption,
        _bucket: &str,
        _key: &str,
        _caller: &crate::kms::Caller,
    ) -> Result<WrappedDataKey, RequestError> {
        todo!()
    }
    pub fn service(&self) -> &dyn crate::kms::ServiceKey {
        todo!()
    }
}

/// Why S3 would refuse: its code, its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestError {
    Kms(crate::kms::Error),
    /// S3's `InvalidArgument`, `MalformedXML` and the like: code and message.
    Invalid {
        code: &'static str,
        message: String,
    },
}
