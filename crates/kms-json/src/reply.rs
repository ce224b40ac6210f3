//! What is sent back.

use crate::Refusal;
use kmsfs_kms::api::{Answer, TimeForm};
use kmsfs_kms::{Code, Error};
use kmsfs_sigv4 as sigv4;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io;
use zeroize::{Zeroize, Zeroizing};

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
        let body = answer.to_json(TimeForm::Seconds).map_or_else(Zeroizing::default, text);
        Self { status: 200, body }
    }

    fn error(error: &Error) -> Self {
        let status = match error.code {
            Code::KmsInternal | Code::KeyUnavailable | Code::AwayTooLong => 500,
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
        Self { status, body: text(body) }
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

/// A plaintext may be in it: the tree is overwritten, and the text is written at once, since a vector that grows leaves
/// copies.
fn text(json: Value) -> Zeroizing<Vec<u8>> {
    let json = Wiped(json);
    let mut len = Count(0);
    let write = |writer: &mut dyn io::Write| serde_json::to_writer(writer, &json.0).expect("a tree in memory");
    write(&mut len);
    let mut body = Zeroizing::new(Vec::with_capacity(len.0));
    write(&mut *body);
    body
}

/// How long what is written is.
struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A tree whose texts are zeroized when it is dropped.
struct Wiped(Value);

impl Drop for Wiped {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_written_at_once_and_its_tree_is_overwritten() {
        let body = text(json!({"Plaintext": "YQ==", "More": ["\"b\"", {"c": null}]}));
        assert_eq!(&body[..], br#"{"Plaintext":"YQ==","More":["\"b\"",{"c":null}]}"#);
        assert_eq!(body.capacity(), body.len());
        let mut tree = json!({"a": ["b", {"c": "d"}]});
        wipe(&mut tree);
        assert_eq!(tree, json!({"a": ["", {"c": ""}]}));
    }
}
