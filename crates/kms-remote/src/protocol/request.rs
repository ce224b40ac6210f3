//! What a provider is asked.

use super::text::Bytes;
use super::{Frame, Malformed, VERSION};
use kmsfs_kms::{Code, EncryptionContext, Error};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::time::Duration;
use zeroize::Zeroizing;

/// One operation, with what it is about. Keys are named by what the provider calls them.
#[derive(Clone, PartialEq, Eq)]
pub enum Call {
    /// Who is there, and which version of the protocol it speaks. It is asked first.
    Hello {
        /// Of whoever asks.
        version: u32,
    },
    /// A new data key of 32 bytes.
    GenerateDataKey {
        /// Which key wraps it.
        key_id: String,
        /// Bound to the blob.
        context: EncryptionContext,
    },
    /// Wraps bytes, mostly a data key that exists.
    Encrypt {
        /// Which key wraps them.
        key_id: String,
        /// Up to 4096 bytes.
        plaintext: Zeroizing<Vec<u8>>,
        /// Bound to the blob.
        context: EncryptionContext,
    },
    /// Opens a blob.
    Decrypt {
        /// The key that made it.
        key_id: String,
        /// In a form of the provider's own.
        ciphertext_blob: Vec<u8>,
        /// It was made with.
        context: EncryptionContext,
    },
    /// Wraps anew what a blob holds, without showing it. A provider may refuse to (`UnsupportedOperation`).
    ReEncrypt {
        /// The key that made the blob.
        source_key_id: String,
        /// In a form of the provider's own.
        ciphertext_blob: Vec<u8>,
        /// It was made with.
        source_context: EncryptionContext,
        /// Which key wraps it from then on.
        destination_key_id: String,
        /// Bound to the new blob.
        destination_context: EncryptionContext,
    },
    /// What state a key is in.
    DescribeKey {
        /// Which.
        key_id: String,
    },
    /// How the provider is, for people.
    Status,
}

/// Which operation a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)] // As in `Call`.
pub enum Verb {
    Hello,
    GenerateDataKey,
    Encrypt,
    Decrypt,
    ReEncrypt,
    DescribeKey,
    Status,
}

/// A call that is sent.
pub struct Request {
    /// Which the response repeats.
    pub id: u64,
    /// For how long it is waited for.
    pub timeout: Duration,
    /// What is asked.
    pub call: Call,
}

/// A request that a provider cannot carry out, as it stands.
#[derive(Debug)]
pub struct Refused {
    /// Its number.
    pub id: u64,
    /// What is wrong with it.
    pub error: Error,
}

#[derive(Serialize)]
struct Outgoing<'a> {
    id: u64,
    operation: Verb,
    /// Milliseconds.
    timeout: u64,
    parameters: Parameters<'a>,
}

#[derive(Deserialize)]
struct Arrived<'a> {
    id: u64,
    #[serde(borrow)]
    operation: std::borrow::Cow<'a, str>,
    #[serde(default)]
    timeout: u64,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Parameters<'a> {
    Hello(Hello),
    Keyed(Keyed<'a>),
    ReEncrypt(Box<ReEncrypt>),
    None {},
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Hello {
    version: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Keyed<'a> {
    key_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext_blob: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption_context: Option<&'a EncryptionContext>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfKey {
    key_id: String,
    #[serde(default)]
    encryption_context: EncryptionContext,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Encrypt {
    key_id: String,
    plaintext: Bytes,
    #[serde(default)]
    encryption_context: EncryptionContext,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypt {
    key_id: String,
    ciphertext_blob: Bytes,
    #[serde(default)]
    encryption_context: EncryptionContext,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ReEncrypt {
    source_key_id: String,
    ciphertext_blob: Bytes,
    #[serde(default)]
    source_encryption_context: EncryptionContext,
    destination_key_id: String,
    #[serde(default)]
    destination_encryption_context: EncryptionContext,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Hello,
        Self::GenerateDataKey,
        Self::Encrypt,
        Self::Decrypt,
        Self::ReEncrypt,
        Self::DescribeKey,
        Self::Status,
    ];

    /// AWS's name of it, where AWS has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hello => "Hello",
            Self::GenerateDataKey => "GenerateDataKey",
            Self::Encrypt => "Encrypt",
            Self::Decrypt => "Decrypt",
            Self::ReEncrypt => "ReEncrypt",
            Self::DescribeKey => "DescribeKey",
            Self::Status => "Status",
        }
    }
}

impl Call {
    /// Who is there?
    pub fn hello() -> Self {
        Self::Hello { version: VERSION }
    }

    /// Which operation it is.
    pub fn verb(&self) -> Verb {
        match self {
            Self::Hello { .. } => Verb::Hello,
            Self::GenerateDataKey { .. } => Verb::GenerateDataKey,
            Self::Encrypt { .. } => Verb::Encrypt,
            Self::Decrypt { .. } => Verb::Decrypt,
            Self::ReEncrypt { .. } => Verb::ReEncrypt,
            Self::DescribeKey { .. } => Verb::DescribeKey,
            Self::Status => Verb::Status,
        }
    }

    /// The key that it is about; the destination's, of ReEncrypt.
    pub fn key_id(&self) -> Option<&str> {
        match self {
            Self::Hello { .. } | Self::Status => None,
            Self::GenerateDataKey { key_id, .. }
            | Self::Encrypt { key_id, .. }
            | Self::Decrypt { key_id, .. }
            | Self::DescribeKey { key_id } => Some(key_id),
            Self::ReEncrypt { destination_key_id, .. } => Some(destination_key_id),
        }
    }

    fn parameters(&self) -> Parameters<'_> {
        let keyed = |key_id, plaintext, ciphertext_blob, encryption_context| {
            Parameters::Keyed(Keyed { key_id, plaintext, ciphertext_blob, encryption_context })
        };
        match self {
            Self::Hello { version } => Parameters::Hello(Hello { version: *version }),
            Self::GenerateDataKey { key_id, context } => keyed(key_id, None, None, Some(context)),
            Self::Encrypt { key_id, plaintext, context } => {
                keyed(key_id, Some(Bytes::of(plaintext)), None, Some(context))
            }
            Self::Decrypt { key_id, ciphertext_blob, context } => {
                keyed(key_id, None, Some(Bytes::of(ciphertext_blob)), Some(context))
            }
            Self::ReEncrypt {
                source_key_id,
                ciphertext_blob,
                source_context,
                destination_key_id,
                destination_context,
            } => Parameters::ReEncrypt(Box::new(ReEncrypt {
                source_key_id: source_key_id.clone(),
                ciphertext_blob: Bytes::of(ciphertext_blob),
                source_encryption_context: source_context.clone(),
                destination_key_id: destination_key_id.clone(),
                destination_encryption_context: destination_context.clone(),
            })),
            Self::DescribeKey { key_id } => keyed(key_id, None, None, None),
            Self::Status => Parameters::None {},
        }
    }

    fn read(verb: Verb, parameters: &str) -> Result<Self, serde_json::Error> {
        Ok(match verb {
            Verb::Hello => Self::Hello { version: serde_json::from_str::<Hello>(parameters)?.version },
            Verb::GenerateDataKey => {
                let OfKey { key_id, encryption_context } = serde_json::from_str(parameters)?;
                Self::GenerateDataKey { key_id, context: encryption_context }
            }
            Verb::Encrypt => {
                let Encrypt { key_id, plaintext, encryption_context } = serde_json::from_str(parameters)?;
                Self::Encrypt { key_id, plaintext: plaintext.0, context: encryption_context }
            }
            Verb::Decrypt => {
                let Decrypt { key_id, ciphertext_blob, encryption_context } = serde_json::from_str(parameters)?;
                Self::Decrypt { key_id, ciphertext_blob: ciphertext_blob.into_vec(), context: encryption_context }
            }
            Verb::ReEncrypt => {
                let asked: ReEncrypt = serde_json::from_str(parameters)?;
                Self::ReEncrypt {
                    source_key_id: asked.source_key_id,
                    ciphertext_blob: asked.ciphertext_blob.into_vec(),
                    source_context: asked.source_encryption_context,
                    destination_key_id: asked.destination_key_id,
                    destination_context: asked.destination_encryption_context,
                }
            }
            Verb::DescribeKey => Self::DescribeKey { key_id: serde_json::from_str::<OfKey>(parameters)?.key_id },
            Verb::Status => Self::Status,
        })
    }
}

impl Request {
    /// The frame of it.
    ///
    /// # Errors
    ///
    /// It does not fit into one.
    pub fn frame(&self) -> Result<Frame, Malformed> {
        let timeout = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        let Self { id, call, .. } = self;
        Frame::new(&Outgoing { id: *id, operation: call.verb(), timeout, parameters: call.parameters() })
    }

    /// What a frame asks for: a call, or something that is to be refused.
    ///
    /// # Errors
    ///
    /// It has no number, so that it cannot be answered either.
    pub fn parse(json: &[u8]) -> Result<Result<Self, Refused>, Malformed> {
        let arrived: Arrived<'_> =
            serde_json::from_slice(json).map_err(|error| Malformed(format!("no request: {}", at(&error))))?;
        let Arrived { id, operation, timeout, parameters } = arrived;
        let refuse = |code, text| Ok(Err(Refused { id, error: Error::new(code, text) }));
        let Some(verb) = Verb::ALL.into_iter().find(|verb| verb.name() == operation) else {
            return refuse(Code::UnsupportedOperation, "There is no such operation.".to_owned());
        };
        match Call::read(verb, parameters.map_or("{}", RawValue::get)) {
            Ok(call) => Ok(Ok(Self { id, timeout: Duration::from_millis(timeout), call })),
            Err(error) => refuse(Code::Validation, format!("Parameters of {}: {}.", verb.name(), at(&error))),
        }
    }
}

/// What is wrong with a message, without a word of what it says.
pub(super) fn at(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Io => "it could not be read",
        serde_json::error::Category::Syntax => "it is not JSON",
        serde_json::error::Category::Data => "a member is missing or of another kind",
        serde_json::error::Category::Eof => "it ends early",
    };
    format!("{what} (column {})", error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> EncryptionContext {
        [("aws:s3:arn".to_owned(), "arn:aws:s3:::b/\"k\"\u{e4}".to_owned())].into()
    }

    fn calls() -> Vec<Call> {
        let (key_id, context) = (|| "arn:aws:kms:eu-central-1:111122223333:key/k".to_owned(), context);
        vec![
            Call::hello(),
            Call::GenerateDataKey { key_id: key_id(), context: context() },
            Call::Encrypt { key_id: key_id(), plaintext: Zeroizing::new(vec![7; 32]), context: context() },
            Call::Decrypt { key_id: key_id(), ciphertext_blob: vec![1, 2, 3], context: context() },
            Call::ReEncrypt {
                source_key_id: key_id(),
                ciphertext_blob: vec![1, 2, 3],
                source_context: context(),
                destination_key_id: "other".into(),
                destination_context: EncryptionContext::new(),
            },
            Call::DescribeKey { key_id: key_id() },
            Call::Status,
        ]
    }

    #[test]
    fn every_call_comes_over_as_it_was_sent() {
        assert_eq!(calls().iter().map(Call::verb).collect::<Vec<_>>(), Verb::ALL);
        for call in calls() {
            let sent = Request { id: 7, timeout: Duration::from_millis(1990), call: call.clone() };
            let Ok(Ok(came)) = Request::parse(sent.frame().unwrap().json()) else { panic!("{}", call.verb().name()) };
            assert!(came.id == 7 && came.timeout == sent.timeout && came.call == call, "{}", call.verb().name());
        }
    }

    #[test]
    fn requests_are_spelled_as_the_documentation_has_them() {
        let json = |call| {
            let frame = Request { id: 7, timeout: Duration::from_millis(1990), call }.frame().unwrap();
            String::from_utf8(frame.json().to_vec()).unwrap()
        };
        assert_eq!(json(Call::hello()), r#"{"id":7,"operation":"Hello","timeout":1990,"parameters":{"Version":1}}"#);
        let context = [("a".to_owned(), "b".to_owned())].into();
        assert_eq!(
            json(Call::Decrypt { key_id: "k".into(), ciphertext_blob: vec![1, 2, 3], context }),
            r#"{"id":7,"operation":"Decrypt","timeout":1990,"parameters":{"KeyId":"k","CiphertextBlob":"AQID","EncryptionContext":{"a":"b"}}}"#
        );
        assert_eq!(json(Call::Status), r#"{"id":7,"operation":"Status","timeout":1990,"parameters":{}}"#);
    }

    #[test]
    fn what_cannot_be_carried_out_is_refused_by_its_number_and_what_has_none_is_no_request() {
        let refused = |text: &str| match Request::parse(text.as_bytes()) {
            Ok(Err(refused)) => (refused.id, refused.error.code),
            _ => panic!("{text}"),
        };
        assert_eq!(refused(r#"{"id":1,"operation":"Sign"}"#), (1, Code::UnsupportedOperation));
        assert_eq!(refused(r#"{"id":2,"operation":"Decrypt","parameters":{}}"#), (2, Code::Validation));
        let not_base64 = r#"{"id":3,"operation":"Decrypt","parameters":{"KeyId":"k","CiphertextBlob":"!"}}"#;
        assert_eq!(refused(not_base64), (3, Code::Validation));
        for none in ["", "[]", "{", r#"{"operation":"Status"}"#, r#"{"id":-1,"operation":"Status"}"#, "\u{0}"] {
            assert!(Request::parse(none.as_bytes()).is_err(), "{none}");
        }
    }
}
