//! AWS KMS's errors.

use crate::policy::Unknown;
use serde::{Deserialize, Serialize};

/// An AWS KMS error: `code` without the suffix `Exception` where AWS has it, message as AWS words it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub struct Error {
    /// Which error of AWS's it is.
    pub code: Code,
    /// In AWS's words, for whoever asked.
    pub message: String,
}

/// AWS KMS's errors, by AWS's names of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // They mean what they mean there.
pub enum Code {
    Disabled,
    KmsInvalidState,
    NotFound,
    /// A name that no key here can have: AWS has the code of a key that is not there for it.
    InvalidKeyId,
    InvalidArn,
    IncorrectKey,
    InvalidCiphertext,
    AccessDenied,
    AlreadyExists,
    InvalidAliasName,
    LimitExceeded,
    Validation,
    UnsupportedOperation,
    Tag,
    InvalidMarker,
    InvalidImportToken,
    ExpiredImportToken,
    IncorrectKeyMaterial,
    InvalidKeyUsage,
    KeyUnavailable,
    MalformedPolicyDocument,
    InvalidGrantId,
    InvalidGrantToken,
    KmsInternal,
    CustomKeyStoreNotFound,
    CustomKeyStoreNameInUse,
    CustomKeyStoreInvalidState,
    /// The KMS, or what it relies on, took too long.
    DependencyTimeout,
    /// The KMS is away for so long that what is open ends, as somebody has decided: an outage to whoever asks, and the
    /// only one that takes something away.
    AwayTooLong,
}

/// What an error says of those who may use a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// KMS could not tell: nothing changes, neither for those who were allowed nor for those who were not. It may be
    /// asked again.
    Outage,
    /// KMS will not do that, for this caller or for anybody, until somebody changes the request, the key, or who may
    /// use it.
    Refusal,
    /// What KMS was given to open is not what it made, under this key and context: it was damaged, or is another's.
    Fault,
}

impl Code {
    /// AWS's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disabled => "DisabledException",
            Self::KmsInvalidState => "KMSInvalidStateException",
            Self::NotFound | Self::InvalidKeyId => "NotFoundException",
            Self::InvalidArn => "InvalidArnException",
            Self::IncorrectKey => "IncorrectKeyException",
            Self::InvalidCiphertext => "InvalidCiphertextException",
            Self::AccessDenied => "AccessDeniedException",
            Self::AlreadyExists => "AlreadyExistsException",
            Self::InvalidAliasName => "InvalidAliasNameException",
            Self::LimitExceeded => "LimitExceededException",
            Self::Validation => "ValidationException",
            Self::UnsupportedOperation => "UnsupportedOperationException",
            Self::MalformedPolicyDocument => "MalformedPolicyDocumentException",
            Self::InvalidGrantId => "InvalidGrantIdException",
            Self::InvalidGrantToken => "InvalidGrantTokenException",
            Self::Tag => "TagException",
            Self::InvalidMarker => "InvalidMarkerException",
            Self::InvalidImportToken => "InvalidImportTokenException",
            Self::ExpiredImportToken => "ExpiredImportTokenException",
            Self::IncorrectKeyMaterial => "IncorrectKeyMaterialException",
            Self::InvalidKeyUsage => "InvalidKeyUsageException",
            Self::KeyUnavailable | Self::AwayTooLong => "KeyUnavailableException",
            Self::CustomKeyStoreNotFound => "CustomKeyStoreNotFoundException",
            Self::CustomKeyStoreNameInUse => "CustomKeyStoreNameInUseException",
            Self::CustomKeyStoreInvalidState => "CustomKeyStoreInvalidStateException",
            Self::KmsInternal => "KMSInternalException",
            Self::DependencyTimeout => "DependencyTimeoutException",
        }
    }
}

impl Error {
    /// An error with that message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// AWS says no more about a blob that does not open, or not with this context.
    pub fn invalid_ciphertext() -> Self {
        Self::new(Code::InvalidCiphertext, "")
    }

    /// What it says of those who may use a key.
    pub fn kind(&self) -> Kind {
        match self.code {
            Code::KmsInternal | Code::LimitExceeded | Code::KeyUnavailable | Code::DependencyTimeout => Kind::Outage,
            Code::InvalidCiphertext | Code::IncorrectKey => Kind::Fault,
            _ => Kind::Refusal,
        }
    }

    /// Whether KMS could not answer, rather than refuse: who was allowed before is not denied by that.
    pub fn is_outage(&self) -> bool {
        self.kind() == Kind::Outage
    }

    /// A blob names another key than it has to.
    pub fn incorrect_key() -> Self {
        let text = "The key ID in the request does not identify a CMK that can perform this operation.";
        Self::new(Code::IncorrectKey, text)
    }
}

/// Nobody is taken for somebody else, whom no policy denies anything.
impl From<Unknown> for Error {
    fn from(unknown: Unknown) -> Self {
        Self::new(Code::KmsInternal, unknown.0)
    }
}
