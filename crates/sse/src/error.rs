use kmsfs_kms as kms;

/// Why S3 would refuse: its code and its message. What a program is told instead (an errno, an HTTP status) is the
/// front end's to decide.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// KMS refused, or could not be asked.
    #[error("{}: {}", s3_code(.0.code), .0.message)]
    Kms(#[from] kms::Error),
    /// Nobody was asked: it takes a thread that may wait for the KMS.
    #[error(transparent)]
    WouldWait(#[from] kms::WouldWait),
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
    /// A value that S3 does not take in this place.
    pub fn invalid_argument(message: impl Into<String>) -> Self {
        Self::Invalid { code: "InvalidArgument", message: message.into() }
    }

    /// What is to be XML or JSON and is none, or not S3's.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::Invalid { code: "MalformedXML", message: message.into() }
    }

    /// For what S3 does and kmsfs does not.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::Invalid { code: NOT_IMPLEMENTED, message: message.into() }
    }

    /// What was asked for is not provided here, and is no mistake of whoever asked.
    pub fn is_not_implemented(&self) -> bool {
        matches!(self, Self::Invalid { code: NOT_IMPLEMENTED, .. })
    }
}

/// S3's code for a refusal of KMS: S3 passes KMS's codes on with a prefix, but has a code of its own for a missing
/// permission.
pub fn s3_code(code: kms::Code) -> String {
    match code {
        kms::Code::AccessDenied => "AccessDenied".into(),
        code => format!("KMS.{}", code.name()),
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
    fn what_is_not_provided_is_told_from_what_is_malformed() {
        assert!(RequestError::not_implemented("x").is_not_implemented());
        assert!(!RequestError::malformed("x").is_not_implemented());
        assert!(!RequestError::invalid_argument("x").is_not_implemented());
        assert_eq!(RequestError::malformed("no rule").to_string(), "MalformedXML: no rule");
    }
}
