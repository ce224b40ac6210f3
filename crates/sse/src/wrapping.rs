//! Which key wraps a data key.

use super::key_service::AWS_S3;
use super::{Algorithm, Encryption};

pub(super) enum Wrapping<'a> {
    Service,
    Kms {
        key_id: &'a str,
    },
    BucketKey {
        key_id: &'a str,
    },
    /// Two data keys, each asked of the KMS.
    Dual {
        key_id: &'a str,
    },
}

impl<'a> Wrapping<'a> {
    pub(crate) fn of(want: &'a Encryption) -> Self {
        let key_id = want.key_id.as_deref().unwrap_or(AWS_S3);
        match want.algorithm {
            Algorithm::Aes256 => Self::Service,
            Algorithm::AwsKms if want.bucket_key => Self::BucketKey { key_id },
            Algorithm::AwsKms => Self::Kms { key_id },
            Algorithm::AwsKmsDsse => Self::Dual { key_id },
        }
    }
}
