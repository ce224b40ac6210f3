//! What a provider answers.

use super::request::at;
use super::text::Bytes;
use super::{Frame, Malformed, Verb};
use kmsfs_crypto::SecretKey;
use kmsfs_kms::{Code, Error};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// Most characters of an error's message that are kept.
const LONGEST_MESSAGE: usize = 500;

/// What came of a call.
pub enum Reply {
    /// To `Hello`.
    Hello {
        /// Which is spoken.
        version: u32,
        /// `vault`, `aws`, `pkcs11`, or what a program calls itself.
        provider: String,
        /// Where the KMS is, for people.
        endpoint: String,
    },
    /// To `GenerateDataKey`.
    DataKey {
        /// The key that was used.
        key_id: String,
        /// The data key.
        plaintext: SecretKey,
        /// What `Decrypt` makes the data key of again.
        ciphertext_blob: Vec<u8>,
    },
    /// To `Encrypt` and `ReEncrypt`.
    Encrypted {
        /// The key that was used; the destination's.
        key_id: String,
        /// What `Decrypt` opens.
        ciphertext_blob: Vec<u8>,
    },
    /// To `Decrypt`.
    Decrypted {
        /// The key that was used.
        key_id: String,
        /// What the blob held.
        plaintext: Zeroizing<Vec<u8>>,
    },
    /// To `DescribeKey`.
    Key {
        /// The key.
        key_id: String,
        /// AWS's name of its state, `Enabled` where it can be used.
        key_state: String,
        /// Of whoever made it.
        description: Option<String>,
    },
    /// To `Status`: what the provider says of itself.
    Status(Map<String, Value>),
}

/// How a call was made, for the audit trail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// What the KMS calls the request in its own records.
    pub request_id: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// For how long, as the provider measures it.
    pub milliseconds: u64,
}

/// What is sent back.
pub struct Response {
    /// Of the request.
    pub id: u64,
    /// What came of it.
    pub outcome: Result<Reply, Error>,
    /// How.
    pub trace: Trace,
}

/// A response whose request is still to be found by its number.
pub struct Incoming<'a> {
    /// Of the request.
    pub id: u64,
    envelope: Envelope<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    id: u64,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<Failed>,
    #[serde(default)]
    request_id: Option<String>,
    #[serde(default)]
    attempts: u32,
    #[serde(default)]
    milliseconds: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outgoing<'a> {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Answer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    attempts: u32,
    milliseconds: u64,
}

#[derive(Serialize, Deserialize)]
struct Failed {
    code: String,
    #[serde(default)]
    message: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Answer<'a> {
    Hello(Hello),
    Keyed(Keyed),
    Status(&'a Map<String, Value>),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Hello {
    version: u32,
    provider: String,
    #[serde(default)]
    endpoint: String,
}

/// Of all that concerns a key. What an operation does not have is not looked for.
#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Keyed {
    key_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plaintext: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ciphertext_blob: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

impl Response {
    /// The frame of it; of an error instead, where it does not fit into one.
    pub fn frame(&self) -> Result<Frame, Malformed> {
        let (result, error) = match &self.outcome {
            Ok(reply) => (Some(reply.answer()), None),
            Err(error) => (None, Some(Failed { code: error.code.name().into(), message: error.message.clone() })),
        };
        let Trace { request_id, attempts, milliseconds } = &self.trace;
        let (request_id, attempts, milliseconds) = (request_id.as_deref(), *attempts, *milliseconds);
        Frame::new(&Outgoing { id: self.id, result, error, request_id, attempts, milliseconds })
    }
}

impl<'a> Incoming<'a> {
    /// Reads as much as tells whose response it is.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn parse(json: &'a [u8]) -> Result<Self, Malformed> {
        let envelope: Envelope<'a> =
            serde_json::from_slice(json).map_err(|error| Malformed(format!("no response: {}", at(&error))))?;
        Ok(Self { id: envelope.id, envelope })
    }

    /// Reads the rest, as a response to that operation.
    ///
    /// # Errors
    ///
    /// It is none to that: for instance a data key of another length than 32 bytes.
    pub fn read(self, verb: Verb) -> Result<Response, Malformed> {
        let Envelope { id, result, error, request_id, attempts, milliseconds } = self.envelope;
        let outcome = match (result, error) {
            (Some(result), None) => Ok(Reply::read(verb, result.get())?),
            (None, Some(error)) => Err(error.into_error()),
            _ => return Err(Malformed("a response has either a result or an error".into())),
        };
        let request_id = request_id.map(|text| bounded(&text));
        Ok(Response { id, outcome, trace: Trace { request_id, attempts, milliseconds } })
    }
}

impl Reply {
    fn answer(&self) -> Answer<'_> {
        let keyed = |key_id: &String| Keyed { key_id: key_id.clone(), ..Keyed::default() };
        match self {
            Self::Hello { version, provider, endpoint } => {
                Answer::Hello(Hello { version: *version, provider: provider.clone(), endpoint: endpoint.clone() })
            }
            Self::DataKey { key_id, plaintext, ciphertext_blob } => Answer::Keyed(Keyed {
                plaintext: Some(Bytes(plaintext.duplicate().into_plaintext())),
                ciphertext_blob: Some(Bytes::of(ciphertext_blob)),
                ..keyed(key_id)
            }),
            Self::Encrypted { key_id, ciphertext_blob } => {
                Answer::Keyed(Keyed { ciphertext_blob: Some(Bytes::of(ciphertext_blob)), ..keyed(key_id) })
            }
            Self::Decrypted { key_id, plaintext } => {
                Answer::Keyed(Keyed { plaintext: Some(Bytes(plaintext.clone())), ..keyed(key_id) })
            }
            Self::Key { key_id, key_state, description } => Answer::Keyed(Keyed {
                key_state: Some(key_state.clone()),
                description: description.clone(),
                ..keyed(key_id)
            }),
            Self::Status(members) => Answer::Status(members),
        }
    }

    fn read(verb: Verb, result: &str) -> Result<Self, Malformed> {
        let malformed = |error| Malformed(format!("a result of {}: {}", verb.name(), at(&error)));
        match verb {
            Verb::Hello => {
                let Hello { version, provider, endpoint } = serde_json::from_str(result).map_err(malformed)?;
                return Ok(Self::Hello { version, provider: bounded(&provider), endpoint: bounded(&endpoint) });
            }
            Verb::Status => return serde_json::from_str(result).map(Self::Status).map_err(malformed),
            _ => {}
        }
        let Keyed { key_id, plaintext, ciphertext_blob, key_state, description } =
            serde_json::from_str(result).map_err(malformed)?;
        let missing = |what| move || Malformed(format!("a result of {} has no {what}", verb.name()));
        let blob = || ciphertext_blob.map(Bytes::into_vec).filter(|blob| !blob.is_empty());
        let blob = || blob().ok_or_else(missing("CiphertextBlob"));
        let plaintext = plaintext.map(|bytes| bytes.0);
        match verb {
            Verb::GenerateDataKey => {
                let plaintext = plaintext.ok_or_else(missing("Plaintext"))?;
                let wrong = || Malformed(format!("a data key of {} bytes", plaintext.len()));
                let plaintext = SecretKey::from_plaintext(&plaintext).ok_or_else(wrong)?;
                Ok(Self::DataKey { key_id, plaintext, ciphertext_blob: blob()? })
            }
            Verb::Encrypt | Verb::ReEncrypt => Ok(Self::Encrypted { key_id, ciphertext_blob: blob()? }),
            Verb::Decrypt => Ok(Self::Decrypted { key_id, plaintext: plaintext.ok_or_else(missing("Plaintext"))? }),
            Verb::DescribeKey => {
                let key_state = key_state.ok_or_else(missing("KeyState"))?;
                Ok(Self::Key { key_id, key_state, description: description.map(|text| bounded(&text)) })
            }
            Verb::Hello | Verb::Status => unreachable!("these were read above"),
        }
    }
}

impl Failed {
    /// What is not AWS's name of an error says nothing of who may use a key: it is taken for an outage.
    fn into_error(self) -> Error {
        /// Of those that several names stand for, the one that says most.
        const CODES: [Code; 18] = [
            Code::Disabled,
            Code::KmsInvalidState,
            Code::NotFound,
            Code::InvalidArn,
            Code::IncorrectKey,
            Code::InvalidCiphertext,
            Code::AccessDenied,
            Code::LimitExceeded,
            Code::Validation,
            Code::UnsupportedOperation,
            Code::InvalidKeyUsage,
            Code::KeyUnavailable,
            Code::KmsInternal,
            Code::DependencyTimeout,
            Code::InvalidGrantToken,
            Code::InvalidMarker,
            Code::AlreadyExists,
            Code::IncorrectKeyMaterial,
        ];
        let message = bounded(&self.message);
        match CODES.into_iter().find(|code| code.name() == self.code) {
            Some(code) => Error::new(code, message),
            None => Error::new(Code::KmsInternal, format!("{}: {message}", bounded(&self.code))),
        }
    }
}

/// Text of a provider's, for logs and people: without control characters, and no longer than it is read.
fn bounded(text: &str) -> String {
    text.chars().take(LONGEST_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(verb: Verb, json: &str) -> Result<Response, Malformed> {
        Incoming::parse(json.as_bytes())?.read(verb)
    }

    fn over(verb: Verb, reply: Reply) -> Reply {
        let trace = Trace { request_id: Some("r-1".into()), attempts: 2, milliseconds: 12 };
        let frame = Response { id: 7, outcome: Ok(reply), trace: trace.clone() }.frame().unwrap();
        let came = Incoming::parse(frame.json()).unwrap().read(verb).unwrap();
        assert_eq!((came.id, came.trace), (7, trace));
        came.outcome.unwrap()
    }

    #[test]
    fn every_reply_comes_over_as_it_was_sent() {
        let (key_id, blob) = ("k".to_owned(), vec![1, 2, 3]);
        let secret = SecretKey::random();
        let plaintext = secret.duplicate().into_plaintext();
        let made = Reply::DataKey { key_id: key_id.clone(), plaintext: secret, ciphertext_blob: blob.clone() };
        let made = over(Verb::GenerateDataKey, made);
        assert!(matches!(made, Reply::DataKey { key_id: k, plaintext: p, ciphertext_blob: b }
            if k == "k" && p.duplicate().into_plaintext() == plaintext && b == blob));
        for verb in [Verb::Encrypt, Verb::ReEncrypt] {
            let sealed = over(verb, Reply::Encrypted { key_id: key_id.clone(), ciphertext_blob: blob.clone() });
            assert!(matches!(sealed, Reply::Encrypted { key_id: k, ciphertext_blob: b } if k == "k" && b == blob));
        }
        let opened = over(Verb::Decrypt, Reply::Decrypted { key_id: key_id.clone(), plaintext: plaintext.clone() });
        assert!(matches!(opened, Reply::Decrypted { key_id: k, plaintext: p } if k == "k" && p == plaintext));
        let key = Reply::Key { key_id, key_state: "Enabled".into(), description: Some("d".into()) };
        assert!(matches!(over(Verb::DescribeKey, key), Reply::Key { key_state, description, .. }
            if key_state == "Enabled" && description.as_deref() == Some("d")));
        let hello = Reply::Hello { version: 1, provider: "p".into(), endpoint: "e".into() };
        assert!(matches!(over(Verb::Hello, hello), Reply::Hello { version: 1, provider, endpoint }
            if provider == "p" && endpoint == "e"));
        let members: Map<String, Value> = [("clock".to_owned(), Value::from(3))].into_iter().collect();
        assert!(matches!(over(Verb::Status, Reply::Status(members.clone())), Reply::Status(m) if m == members));
    }

    #[test]
    fn what_is_no_response_to_what_was_asked_is_none() {
        let wrong = [
            (Verb::Decrypt, ""),
            (Verb::Decrypt, "[]"),
            (Verb::Decrypt, "{\"id\":7"),
            (Verb::Decrypt, r#"{"id":"7","result":{}}"#),
            (Verb::Decrypt, r#"{"id":7}"#),
            (Verb::Decrypt, r#"{"id":7,"result":{},"error":{"code":"NotFoundException"}}"#),
            (Verb::Decrypt, r#"{"id":7,"result":{"KeyId":"k"}}"#),
            (Verb::Decrypt, r#"{"id":7,"result":{"KeyId":"k","Plaintext":"!"}}"#),
            (Verb::Decrypt, r#"{"id":7,"result":{"Plaintext":"AQID"}}"#),
            (Verb::GenerateDataKey, r#"{"id":7,"result":{"KeyId":"k","Plaintext":"AQID","CiphertextBlob":"AQID"}}"#),
            (Verb::Encrypt, r#"{"id":7,"result":{"KeyId":"k","CiphertextBlob":""}}"#),
            (Verb::DescribeKey, r#"{"id":7,"result":{"KeyId":"k"}}"#),
            (Verb::Status, r#"{"id":7,"result":[]}"#),
        ];
        for (verb, json) in wrong {
            let error = read(verb, json).err().unwrap_or_else(|| panic!("{json}"));
            assert!(!error.0.contains("AQID"), "{error}");
        }
    }

    #[test]
    fn an_error_is_awss_or_else_an_outage() {
        let error = |json: &str| read(Verb::Decrypt, json).unwrap().outcome.err().unwrap();
        let denied = error(r#"{"id":7,"error":{"code":"AccessDeniedException","message":"no\u001b[2J"}}"#);
        assert_eq!((denied.code, denied.message.as_str()), (Code::AccessDenied, "no [2J"));
        assert_eq!(error(r#"{"id":7,"error":{"code":"NotFoundException"}}"#).code, Code::NotFound);
        for unknown in ["TeapotException", "AccessDenied", ""] {
            let unknown = error(&format!(r#"{{"id":7,"error":{{"code":"{unknown}","message":"m"}}}}"#));
            assert!(unknown.is_outage(), "{unknown}");
        }
        let long = format!(r#"{{"id":7,"error":{{"code":"DisabledException","message":"{}"}}}}"#, "x".repeat(9999));
        assert_eq!(error(&long).message.len(), LONGEST_MESSAGE);
    }
}
