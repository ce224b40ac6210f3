//! Refusals in S3's words.

mod code;

pub use code::Code;

use kmsfs_sse::RequestError;
use serde::{Deserialize, Serialize};

/// Why a request is not done, as the client is told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub struct Error {
    code: Code,
    message: String,
    elements: Vec<(String, String)>,
    headers: Vec<(String, String)>,
}

impl Error {
    /// With S3's message for that code.
    pub fn new(code: Code) -> Self {
        let message = code.message().to_owned();
        Self { code, message, elements: Vec::new(), headers: Vec::new() }
    }

    /// `InvalidArgument`, with the argument's name and value as elements.
    pub fn argument(message: impl Into<String>, name: impl Into<String>, value: impl Into<String>) -> Self {
        let error = Self::new(Code::InvalidArgument).saying(message);
        error.with("ArgumentName", name).with("ArgumentValue", value)
    }

    /// `NotImplemented`, for a header that asks for what kmsfs does not do.
    pub fn header_not_implemented(name: impl Into<String>) -> Self {
        Self::new(Code::NotImplemented).with("Header", name)
    }

    /// Another message than the usual one.
    #[must_use]
    pub fn saying(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// One more element of the answer, behind `Code` and `Message`.
    #[must_use]
    pub fn with(mut self, element: impl Into<String>, value: impl Into<String>) -> Self {
        self.elements.push((element.into(), value.into()));
        self
    }

    /// One more header of the answer.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// S3's code.
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.code.status()
    }

    /// What the client reads.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Names and values of the elements behind `Code` and `Message`.
    pub fn elements(&self) -> &[(String, String)] {
        &self.elements
    }

    /// Names and values of the headers that belong to it.
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        let text = error.to_string();
        // Both forms of a RequestError are written as `CODE: MESSAGE`.
        let (name, message) = text.split_once(": ").unwrap_or((&text, ""));
        Self::new(Code::parse(name).unwrap_or(Code::InternalError)).saying(message)
    }
}

impl From<&kmsfs_sigv4::Error> for Error {
    fn from(error: &kmsfs_sigv4::Error) -> Self {
        let code = Code::parse(error.code()).unwrap_or(Code::AccessDenied);
        let base = Self::new(code).saying(error.to_string());
        error.elements().into_iter().fold(base, |all, (name, value)| all.with(name, value))
    }
}

impl From<kmsfs_sigv4::Error> for Error {
    fn from(error: kmsfs_sigv4::Error) -> Self {
        Self::from(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_encryption_keep_their_code() {
        let error = Error::from(RequestError::malformed("no rule: none"));
        assert_eq!((error.code(), error.status(), error.message()), (&Code::MalformedXML, 400, "no rule: none"));
        let mut request = kmsfs_sse::Request::default();
        let error = Error::from(request.set_header(kmsfs_sse::request::ALGORITHM, "rot13").unwrap_err());
        assert_eq!(error.code(), &Code::InvalidArgument);
    }

    #[test]
    fn refusals_of_signatures_keep_their_code_status_and_elements() {
        let all = [
            kmsfs_sigv4::Error::Anonymous,
            kmsfs_sigv4::Error::TwoMechanisms { authorization: "x".into() },
            kmsfs_sigv4::Error::VersionTwo,
            kmsfs_sigv4::Error::HeaderMalformed { what: "x".into(), region: Some("r".into()) },
            kmsfs_sigv4::Error::QueryMalformed { what: "x".into(), region: None },
            kmsfs_sigv4::Error::InvalidToken { token: "x".into() },
            kmsfs_sigv4::Error::RequestTimeTooSkewed {
                request_time: "x".into(),
                server_time: time::OffsetDateTime::UNIX_EPOCH,
            },
            kmsfs_sigv4::Error::NotImplemented { header: "x" },
            kmsfs_sigv4::Error::InvalidAccessKeyId { access_key_id: "x".into() },
            kmsfs_sigv4::Error::SignatureDoesNotMatch(Box::new(kmsfs_sigv4::Mismatch {
                access_key_id: "x".into(),
                string_to_sign: "x".into(),
                signature_provided: "x".into(),
                canonical_request: None,
            })),
            kmsfs_sigv4::Error::NoDecodedLength,
            kmsfs_sigv4::Error::InvalidUri,
            kmsfs_sigv4::Error::ContentSha256Mismatch { provided: "x".into(), computed: "y".into() },
            kmsfs_sigv4::Error::Incomplete,
            kmsfs_sigv4::Error::ChunkTooSmall { chunk: 1, size: 1 },
            kmsfs_sigv4::Error::MalformedTrailer,
            kmsfs_sigv4::Error::NoContentSha256,
        ];
        for theirs in all {
            let ours = Error::from(&theirs);
            assert_eq!((ours.code().name(), ours.status()), (theirs.code().into(), theirs.status()), "{theirs:?}");
            assert_eq!(ours.message(), theirs.to_string());
            assert_eq!(ours.elements().len(), theirs.elements().len());
        }
    }
}
