//! What is sent back.

use crate::Refusal;
use kmsfs_kms::api::{Answer, TimeForm};
use kmsfs_kms::{Code, Error};
use kmsfs_sigv4 as sigv4;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// The content type of requests and replies.
pub const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// Status and body of a reply. The body may hold a plaintext: it is zeroized when dropped.
#[derive(Serialize, Deserialize)]
pub struct Reply {
    /// Of HTTP.
    pub status: u16,
    /// JSON, or nothing.
    pub body: Zeroizing<Vec<u8>>,
}

impl Reply {
    /// The answer to a call, or the KMS's refusal of it.
    pub fn new(answer: &Result<Answer, Error>) -> Self {
        match answer {
            Ok(answer) => Self::answer(answer),
            Err(error) => Self::error(error),
        }
    }

    fn answer(answer: &Answer) -> Self {
        let body = answer.to_json(TimeForm::Seconds).map_or_else(Zeroizing::default, |json| text(&json));
        Self { status: 200, body }
    }

    fn error(error: &Error) -> Self {
        let status = match error.code {
            Code::KmsInternal | Code::KeyUnavailable => 500,
            Code::DependencyTimeout => 503,
            _ => 400,
        };
        Self::exception(status, error.code.name(), &error.message)
    }

    /// To what is no call of the KMS.
    pub fn refusal(refusal: &Refusal) -> Self {
        let status = if refusal.exception == "RequestEntityTooLargeException" { 413 } else { 400 };
        Self::exception(status, refusal.exception, &refusal.message)
    }

    /// To a request that is not signed as it has to be.
    pub fn unsigned(error: &sigv4::Error) -> Self {
        let (exception, message) = match error {
            sigv4::Error::Anonymous => {
                ("MissingAuthenticationTokenException", "Missing Authentication Token".to_owned())
            }
            sigv4::Error::InvalidAccessKeyId { .. } | sigv4::Error::InvalidToken { .. } => {
                ("UnrecognizedClientException", "The security token included in the request is invalid.".to_owned())
            }
            sigv4::Error::SignatureDoesNotMatch(_) => ("InvalidSignatureException", SIGNATURE.to_owned()),
            sigv4::Error::RequestTimeTooSkewed { .. } | sigv4::Error::Expired { .. } | sigv4::Error::NotYetValid => {
                ("InvalidSignatureException", error.to_string())
            }
            _ => ("IncompleteSignatureException", error.to_string()),
        };
        Self::exception(400, exception, &message)
    }

    fn exception(status: u16, exception: &str, message: &str) -> Self {
        let mut body = json!({"__type": exception});
        if !message.is_empty() {
            body["message"] = message.into();
        }
        Self { status, body: text(&body) }
    }
}

/// Nothing of a body is shown.
impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reply {} of {} bytes", self.status, self.body.len())
    }
}

pub(crate) const SIGNATURE: &str = "The request signature we calculated does not match the signature you provided. Check \
                                    your AWS Secret Access Key and signing method. Consult the service documentation for \
                                    details.";

fn text(json: &Value) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(json.to_string().into_bytes())
}
