use kmsfs_kms as kms;

/// Why S3 would refuse a request: its code and its message, which are also the log line that goes with the errno.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// KMS refused, or could not be asked.
    #[error("{}: {}", s3_code(.0.code), .0.message)]
    Kms(#[from] kms::Error),
    /// S3's `InvalidArgument`, `MalformedXML` and the like: code and message.
    #[error("{code}: {message}")]
    Invalid {
        /// S3's code.
        code: &'static str,
        /// S3's message, or what is wrong and what to do.
        message: String,
    },
}

/// S3's code for a request that asks for something that is not provided here.
const NOT_IMPLEMENTED: &str = "NotImplemented";

impl RequestError {
    pub(super) fn invalid_argument(message: impl Into<String>) -> Self {
        Self::Invalid { code: "InvalidArgument", message: message.into() }
    }

    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::Invalid { code: "MalformedXML", message: message.into() }
    }

    /// For what S3 does and kmsfs does not; system calls return EOPNOTSUPP.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::Invalid { code: NOT_IMPLEMENTED, message: message.into() }
    }

    /// The errno that system calls return.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Kms(error) => kms_errno(error.code),
            Self::Invalid { code, .. } if *code == NOT_IMPLEMENTED => libc::EOPNOTSUPP,
            Self::Invalid { .. } => libc::EINVAL,
        }
    }
}

/// S3 passes KMS's codes on with this prefix, but has a code of its own for a missing permission.
fn s3_code(code: kms::Code) -> String {
    match code {
        kms::Code::AccessDenied => "AccessDenied".into(),
        code => format!("KMS.{}", code.name()),
    }
}

fn kms_errno(code: kms::Code) -> i32 {
    use kms::Code;
    match code {
        Code::Disabled | Code::KmsInvalidState | Code::AccessDenied | Code::InvalidKeyUsage => libc::EACCES,
        Code::NotFound => libc::ENOKEY,
        Code::InvalidKeyId
        | Code::InvalidArn
        | Code::InvalidAliasName
        | Code::Validation
        | Code::Tag
        | Code::InvalidMarker
        | Code::InvalidImportToken
        | Code::ExpiredImportToken
        | Code::IncorrectKeyMaterial
        | Code::MalformedPolicyDocument
        | Code::InvalidGrantId
        | Code::InvalidGrantToken => libc::EINVAL,
        // The blob is not what KMS made for this context, or is another key's: what the sidecar says is not true. The
        // others are outages.
        Code::InvalidCiphertext
        | Code::IncorrectKey
        | Code::KmsInternal
        | Code::KeyUnavailable
        | Code::DependencyTimeout => libc::EIO,
        Code::LimitExceeded => libc::EAGAIN,
        Code::AlreadyExists => libc::EEXIST,
        Code::UnsupportedOperation => libc::EOPNOTSUPP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kms::Code;

    const ARN: &str = "arn:aws:kms:us-east-1:000000000000:key/1234abcd-12ab-34cd-56ef-1234567890ab";

    fn of(code: Code, message: &str) -> RequestError {
        RequestError::Kms(kms::Error { code, message: message.to_owned() })
    }

    #[test]
    fn key_states_read_as_s3_words_them() {
        let disabled = of(Code::Disabled, &format!("{ARN} is disabled."));
        assert_eq!(disabled.to_string(), format!("KMS.DisabledException: {ARN} is disabled."));
        let pending = of(Code::KmsInvalidState, &format!("{ARN} is pending deletion."));
        assert_eq!(pending.to_string(), format!("KMS.KMSInvalidStateException: {ARN} is pending deletion."));
        let unknown = of(Code::NotFound, &format!("Key '{ARN}' does not exist"));
        assert_eq!(unknown.to_string(), format!("KMS.NotFoundException: Key '{ARN}' does not exist"));
        let denied =
            of(Code::AccessDenied, "User: x is not authorized to perform: kms:Decrypt on resource: y because z");
        assert!(denied.to_string().starts_with("AccessDenied: User: x is not authorized"));
    }

    #[test]
    fn a_refusing_key_is_eacces_a_missing_one_enokey_a_bad_name_einval() {
        assert_eq!(of(Code::Disabled, "").errno(), libc::EACCES);
        assert_eq!(of(Code::KmsInvalidState, "").errno(), libc::EACCES);
        assert_eq!(of(Code::AccessDenied, "").errno(), libc::EACCES);
        assert_eq!(of(Code::NotFound, "Key 'x' does not exist").errno(), libc::ENOKEY);
        assert_eq!(of(Code::NotFound, "Alias arn:aws:kms:r:a:alias/x is not found.").errno(), libc::ENOKEY);
        assert_eq!(of(Code::InvalidKeyId, "Invalid keyId 'x'").errno(), libc::EINVAL);
        assert_eq!(of(Code::InvalidKeyId, "Invalid arn us-west-2").errno(), libc::EINVAL);
        assert_eq!(of(Code::InvalidArn, "").errno(), libc::EINVAL);
        assert_eq!(of(Code::InvalidCiphertext, "").errno(), libc::EIO);
        for outage in [Code::KmsInternal, Code::KeyUnavailable, Code::DependencyTimeout] {
            assert_eq!(of(outage, "").errno(), libc::EIO);
        }
    }

    #[test]
    fn what_is_not_provided_is_eopnotsupp_and_what_is_malformed_einval() {
        assert_eq!(RequestError::not_implemented("x").errno(), libc::EOPNOTSUPP);
        assert_eq!(RequestError::malformed("x").errno(), libc::EINVAL);
        assert_eq!(RequestError::invalid_argument("x").errno(), libc::EINVAL);
        assert_eq!(RequestError::malformed("no rule").to_string(), "MalformedXML: no rule");
    }
}
