//! What the server answers, and what its errors mean.

use crate::http::Answer;
use crate::names::not_found;
use crate::retry::Failed;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kmsfs_kms::{Code, Error};
use kmsfs_kms_remote::protocol::Trace;
use serde::Deserialize;
use zeroize::Zeroizing;

#[derive(Deserialize)]
pub(super) struct Encrypted {
    pub(super) ciphertext: String,
}

#[derive(Deserialize)]
pub(super) struct Decrypted {
    pub(super) plaintext: Zeroizing<String>,
}

#[derive(Deserialize)]
pub(super) struct Key {
    pub(super) name: String,
    /// OpenBao's alone.
    #[serde(default)]
    pub(super) soft_deleted: bool,
}

#[derive(Deserialize)]
pub(super) struct Token {
    #[serde(default)]
    pub(super) display_name: String,
    #[serde(default)]
    pub(super) policies: Vec<String>,
    /// Seconds; 0 for ever.
    pub(super) ttl: u64,
    #[serde(default)]
    pub(super) renewable: bool,
}

#[derive(Deserialize)]
pub(super) struct Health {
    pub(super) sealed: bool,
    #[serde(default)]
    pub(super) version: String,
    pub(super) server_time_utc: i64,
}

/// Of a login, and of a renewal.
#[derive(Deserialize)]
pub(super) struct Login {
    pub(super) auth: Issued,
}

#[derive(Deserialize)]
pub(super) struct Issued {
    pub(super) client_token: Zeroizing<String>,
    /// Seconds; 0 for ever.
    pub(super) lease_duration: u64,
    #[serde(default)]
    pub(super) renewable: bool,
}

#[derive(Deserialize)]
struct Enveloped<T> {
    request_id: String,
    data: T,
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<String>,
}

/// The data of an answer, or what its error means for that key.
pub(super) fn data<T: for<'a> Deserialize<'a>>(answer: &Answer, key_id: &str, trace: &mut Trace) -> Result<T, Failed> {
    if answer.status != 200 {
        return Err(failure(answer, key_id));
    }
    let Enveloped { request_id, data } = answer.json()?;
    trace.request_id = Some(request_id);
    Ok(data)
}

/// The server's texts; empty also where it sent something else.
pub(super) fn errors(answer: &Answer) -> String {
    let errors = answer.json::<Errors>().map(|errors| errors.errors).unwrap_or_default();
    errors.iter().map(|error| error.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("; ")
}

/// What a status that is no success means. Refusals are those alone that the server words so; the rest is an outage.
pub(super) fn failure(answer: &Answer, key_id: &str) -> Failed {
    let (status, text) = (answer.status, errors(answer));
    let says = |part: &str| text.contains(part);
    match status {
        403 if !says("permission denied") => Failed::passing(format!("status {status}: {text}")),
        403 => Error::new(Code::AccessDenied, format!("The KMS denies the use of key {key_id}: {text}")).into(),
        400 if says("encryption key not found") || says("no existing key named") => not_found(key_id).into(),
        400 if says("too old") => {
            Error::new(Code::KmsInvalidState, format!("{key_id}: the version that it was wrapped by may not be used"))
                .into()
        }
        400 if says("soft-deleted") => {
            Error::new(Code::KmsInvalidState, format!("{key_id} is pending deletion.")).into()
        }
        400 if says("message authentication failed") || says("invalid ciphertext") => {
            Error::invalid_ciphertext().into()
        }
        300..=399 | 412 | 429 | 472 | 473 | 500.. => Failed::passing(format!("status {status}: {text}")),
        404 if says("no handler for route") => {
            Failed::lasting(format!("there is no transit engine where it should be mounted: {text}"))
        }
        _ => Failed::lasting(format!("status {status}: {text}")),
    }
}

pub(super) fn no_answer() -> Error {
    Error::new(Code::KmsInternal, "what came is no answer to what was asked")
}

/// Ciphertexts are text, and kept as it is.
pub(super) fn blob(ciphertext: String) -> Result<Vec<u8>, Error> {
    let right = ciphertext.starts_with("vault:v") && ciphertext.len() <= 6144;
    if right { Ok(ciphertext.into_bytes()) } else { Err(no_answer()) }
}

pub(super) fn decoded(text: &Zeroizing<String>) -> Result<Zeroizing<Vec<u8>>, Error> {
    STANDARD.decode(text.as_bytes()).map(Zeroizing::new).map_err(|_| no_answer())
}
