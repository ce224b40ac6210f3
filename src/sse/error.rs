use crate::kms;
use std::fmt;

/// Why S3 would refuse: its code, its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestError {
    Kms(kms::Error),
    /// S3's `InvalidArgument`, `MalformedXML` and the like: code and message.
    Invalid {
        code: &'static str,
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

    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::Invalid { code: NOT_IMPLEMENTED, message: message.into() }
    }

    /// Code and message as S3 answers them, for the log line that goes with the errno.
    pub fn log_text(&self) -> String {
        match self {
            Self::Kms(error) => format!("{}: {}", s3_code(error.code), error.message),
            Self::Invalid { code, message } => format!("{code}: {message}"),
        }
    }

    /// The errno that system calls answer.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Kms(error) => kms_errno(error.code),
            Self::Invalid { code, .. } if *code == NOT_IMPLEMENTED => libc::EOPNOTSUPP,
            Self::Invalid { .. } => libc::EINVAL,
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.log_text())
    }
}

impl std::error::Error for RequestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Kms(error) => Some(error),
            Self::Invalid { .. } => None,
        }
    }
}

impl From<kms::Error> for RequestError {
    fn from(error: kms::Error) -> Self {
        Self::Kms(error)
    }
}

/// S3 passes KMS's codes on with this prefix, but answers a missing permission with its own.
fn s3_code(code: kms::Code) -> String {
    match code {
        kms::Code::AccessDenied => "AccessDenied".into(),
        code => format!("KMS.{}", code.name()),
    }
}

fn kms_errno(code: kms::Code) -> i32 {
    use kms::Code;
    match code {
        Code::Disabled | Code::KmsInvalidState | Code::AccessDenied | Code::InvalidKeyUsage | Code::KeyUnavailable => {
            libc::EACCES
        }
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
        // The blob is not what KMS made for this context, or is another key's: what the sidecar says is not true.
        Code::InvalidCiphertext | Code::IncorrectKey | Code::KmsInternal => libc::EIO,
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
        assert_eq!(disabled.log_text(), format!("KMS.DisabledException: {ARN} is disabled."));
        let pending = of(Code::KmsInvalidState, &format!("{ARN} is pending deletion."));
        assert_eq!(pending.log_text(), format!("KMS.KMSInvalidStateException: {ARN} is pending deletion."));
        let unknown = of(Code::NotFound, &format!("Key '{ARN}' does not exist"));
        assert_eq!(unknown.log_text(), format!("KMS.NotFoundException: Key '{ARN}' does not exist"));
        let denied =
            of(Code::AccessDenied, "User: x is not authorized to perform: kms:Decrypt on resource: y because z");
        assert!(denied.log_text().starts_with("AccessDenied: User: x is not authorized"));
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
        assert_eq!(of(Code::KmsInternal, "").errno(), libc::EIO);
    }

    #[test]
    fn what_is_not_provided_is_eopnotsupp_and_what_is_malformed_einval() {
        assert_eq!(RequestError::not_implemented("x").errno(), libc::EOPNOTSUPP);
        assert_eq!(RequestError::malformed("x").errno(), libc::EINVAL);
        assert_eq!(RequestError::invalid_argument("x").errno(), libc::EINVAL);
        assert_eq!(RequestError::malformed("no rule").to_string(), "MalformedXML: no rule");
    }
}
