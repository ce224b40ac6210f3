//! Which key wraps a data key.

use super::key_service::AWS_S3;
use super::{Algorithm, Encryption, RequestError};

pub(super) enum Wrapping<'a> {
    Service,
    Kms { key_id: &'a str },
    BucketKey { key_id: &'a str },
}

impl<'a> Wrapping<'a> {
    pub fn of(want: &'a Encryption) -> Result<Self, RequestError> {
        let key_id = want.key_id.as_deref().unwrap_or(AWS_S3);
        match want.algorithm {
            Algorithm::Aes256 => Ok(Self::Service),
            Algorithm::AwsKms if want.bucket_key => Ok(Self::BucketKey { key_id }),
            Algorithm::AwsKms => Ok(Self::Kms { key_id }),
            Algorithm::AwsKmsDsse => Err(dsse_is_not_implemented()),
        }
    }
}

pub(super) fn dsse_is_not_implemented() -> RequestError {
    RequestError::not_implemented(
        "aws:kms:dsse, dual-layer encryption, is not provided by this version of kmsfs: use aws:kms",
    )
}
