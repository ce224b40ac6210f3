//! What the service answers, and what its errors mean.

use crate::http::Answer;
use crate::retry::Failed;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kmsfs_kms::{Code, Error};
use serde::Deserialize;
use zeroize::Zeroizing;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Keyed {
    key_id: String,
    plaintext: Option<Zeroizing<String>>,
    ciphertext_blob: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Described {
    pub(super) key_metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Metadata {
    pub(super) arn: String,
    pub(super) key_state: String,
    #[serde(default)]
    pub(super) description: String,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(default, rename = "__type")]
    name: String,
    #[serde(default, alias = "Message")]
    message: String,
}

impl Keyed {
    pub(super) fn plaintext(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let text = self.plaintext.as_ref().ok_or_else(no_answer)?;
        STANDARD.decode(text.as_bytes()).map(Zeroizing::new).map_err(|_| no_answer())
    }

    pub(super) fn blob(&self) -> Result<Vec<u8>, Error> {
        let text = self.ciphertext_blob.as_ref().ok_or_else(no_answer)?;
        let blob = STANDARD.decode(text).map_err(|_| no_answer())?;
        if blob.is_empty() || blob.len() > 6144 { Err(no_answer()) } else { Ok(blob) }
    }

    /// The key that was used, which must be the one that was asked for.
    pub(super) fn of(self, asked: &str) -> Result<String, Error> {
        same(self.key_id, asked)
    }
}

/// A key's ARN comes back as it is; an id is the end of what comes back; of an alias only whoever resolves it knows.
pub(super) fn same(answered: String, asked: &str) -> Result<String, Error> {
    let is_alias = asked.starts_with("alias/") || asked.contains(":alias/");
    let is_same = answered == asked || answered.rsplit_once(":key/").is_some_and(|(_, id)| id == asked);
    if is_same || is_alias { Ok(answered) } else { Err(no_answer()) }
}

pub(super) fn no_answer() -> Error {
    Error::new(Code::KmsInternal, "what came is no answer to what was asked")
}

/// What is no success.
pub(super) enum Wrong {
    /// Whoever asks is not known there, or his clock is wrong: nothing is said of the key.
    Identity(Failed),
    /// Anything else.
    Other(Failed),
}

impl Wrong {
    pub(super) fn into_failed(self) -> Failed {
        match self {
            Self::Identity(failed) | Self::Other(failed) => failed,
        }
    }
}

/// Of a signature, an access key, a token, or the time they are good for.
const OF_IDENTITY: [&str; 14] = [
    "ExpiredToken",
    "UnrecognizedClient",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "InvalidSignature",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "MissingAuthentication",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "NotAuthorized",
    "OptInRequired",
    "InvalidToken",
];
const OF_THROTTLING: [&str; 5] =
    ["Throttling", "ThrottledRequest", "TooManyRequests", "RequestLimitExceeded", "LimitExceeded"];
/// Which refuse the use of a key, or say that a blob is not its.
const OF_KEYS: [Code; 11] = [
    Code::Disabled,
    Code::KmsInvalidState,
    Code::NotFound,
    Code::InvalidArn,
    Code::IncorrectKey,
    Code::InvalidCiphertext,
    Code::AccessDenied,
    Code::Validation,
    Code::UnsupportedOperation,
    Code::InvalidKeyUsage,
    Code::InvalidGrantToken,
];

pub(super) fn read<T: for<'a> Deserialize<'a>>(answer: &Answer) -> Result<T, Wrong> {
    if answer.status == 200 {
        return answer.json().map_err(Wrong::Other);
    }
    let exception: Exception = answer.json().map_err(Wrong::Other)?;
    let name =
        if exception.name.is_empty() { answer.header("x-amzn-errortype").unwrap_or_default() } else { &exception.name };
    // `com.amazonaws.kms#NotFoundException`, `NotFoundException:http://…`
    let name = name.rsplit('#').next().unwrap_or_default().split(':').next().unwrap_or_default();
    let (bare, message) = (name.strip_suffix("Exception").unwrap_or(name), exception.message);
    let said = || format!("{name}: {message}");
    if OF_IDENTITY.contains(&bare) {
        return Err(Wrong::Identity(Failed::lasting(format!("the KMS does not know who asks: {}", said()))));
    }
    if OF_THROTTLING.contains(&bare) || answer.status == 429 || answer.status >= 500 || answer.status < 400 {
        return Err(Wrong::Other(Failed::passing(said())));
    }
    let unknown = ["UnknownOperation", "InvalidAction"].contains(&bare).then_some(Code::UnsupportedOperation);
    let code = unknown.or_else(|| OF_KEYS.into_iter().find(|code| code.name() == name));
    Err(Wrong::Other(match code {
        Some(code) => Error::new(code, message).into(),
        None if ["KeyUnavailable", "KMSInternal", "DependencyTimeout"].contains(&bare) => Failed::passing(said()),
        None => Failed::lasting(said()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_another_key_is_none() {
        let (arn, other) = ("arn:aws:kms:r:1:key/a", "arn:aws:kms:r:1:key/b");
        assert_eq!(same(arn.into(), arn).unwrap(), arn);
        assert_eq!(same(arn.into(), "a").unwrap(), arn);
        assert_eq!(same(arn.into(), "arn:aws:kms:r:1:alias/x").unwrap(), arn);
        for (answered, asked) in [(other, arn), (other, "a"), ("", arn)] {
            assert!(same(answered.into(), asked).unwrap_err().is_outage(), "{answered} {asked}");
        }
    }
}
