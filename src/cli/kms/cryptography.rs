//! The cryptographic calls.

use super::{Answer, input};
use crate::kms::{Administrator, Ciphertext, Code, DataKeySpec, Error};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

#[derive(Subcommand, Serialize)]
#[serde(rename_all_fields = "camelCase")]
pub enum Operation {
    /// Encrypt up to 4096 bytes
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store encrypt --key-id alias/x --plaintext fileb://secret --encryption-context purpose=test\n\nAn argument can be seen in the list of processes: give secrets as fileb://PATH or fileb://-."
    )]
    Encrypt {
        /// Key id, key ARN, alias or alias ARN
        #[arg(long)]
        key_id: String,
        /// fileb://PATH, fileb://- for standard input, or base64
        #[arg(long)]
        #[serde(skip)]
        plaintext: String,
        /// name=value,name2=value2, or JSON
        #[arg(long)]
        encryption_context: Option<String>,
    },
    /// Decrypt what encrypt or generate-data-key answered
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store decrypt --ciphertext-blob fileb://blob --encryption-context purpose=test"
    )]
    Decrypt {
        /// fileb://PATH, fileb://- for standard input, or base64
        #[arg(long)]
        #[serde(skip)]
        ciphertext_blob: String,
        /// name=value,name2=value2, or JSON
        #[arg(long)]
        encryption_context: Option<String>,
        /// The key that it has to be
        #[arg(long)]
        key_id: Option<String>,
    },
    /// Encrypt under another key or context, without showing the plaintext
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store re-encrypt --ciphertext-blob fileb://blob --destination-key-id alias/y"
    )]
    ReEncrypt {
        /// fileb://PATH, fileb://- for standard input, or base64
        #[arg(long)]
        #[serde(skip)]
        ciphertext_blob: String,
        #[arg(long)]
        source_encryption_context: Option<String>,
        #[arg(long)]
        source_key_id: Option<String>,
        #[arg(long)]
        destination_key_id: String,
        #[arg(long)]
        destination_encryption_context: Option<String>,
    },
    /// Make a data key: in plaintext, and wrapped
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store generate-data-key --key-id alias/x --key-spec AES_256"
    )]
    GenerateDataKey(DataKeyArgs),
    /// Make a data key, wrapped only
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store generate-data-key-without-plaintext --key-id alias/x --key-spec AES_256"
    )]
    GenerateDataKeyWithoutPlaintext(DataKeyArgs),
    /// Make random bytes
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store generate-random --number-of-bytes 32")]
    GenerateRandom {
        /// 1 to 1024
        #[arg(long)]
        number_of_bytes: u64,
    },
}

#[derive(Args, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataKeyArgs {
    /// Key id, key ARN, alias or alias ARN
    #[arg(long)]
    key_id: String,
    /// What key to make
    #[arg(long, value_enum)]
    key_spec: Option<KeySpec>,
    /// Instead of --key-spec: 1 to 1024
    #[arg(long)]
    number_of_bytes: Option<u64>,
    /// name=value,name2=value2, or JSON
    #[arg(long)]
    encryption_context: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum, Serialize)]
#[allow(clippy::enum_variant_names)] // AWS's names.
pub enum KeySpec {
    #[value(name = "AES_256")]
    #[serde(rename = "AES_256")]
    Aes256,
    #[value(name = "AES_128")]
    #[serde(rename = "AES_128")]
    Aes128,
}

impl DataKeyArgs {
    fn spec(&self) -> Result<DataKeySpec, Error> {
        match (self.key_spec, self.number_of_bytes) {
            (Some(KeySpec::Aes256), None) => Ok(DataKeySpec::Aes256),
            (Some(KeySpec::Aes128), None) => Ok(DataKeySpec::Aes128),
            (None, Some(count)) => Ok(DataKeySpec::Bytes(count)),
            // Not wrong usage to aws: the service is asked, and refuses.
            _ => Err(Error::new(Code::Validation, "Please specify either number of bytes or key spec.")),
        }
    }
}

const ALGORITHM: &str = "SYMMETRIC_DEFAULT";

impl Operation {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Encrypt { .. } => "Encrypt",
            Self::Decrypt { .. } => "Decrypt",
            Self::ReEncrypt { .. } => "ReEncrypt",
            Self::GenerateDataKey(_) => "GenerateDataKey",
            Self::GenerateDataKeyWithoutPlaintext(_) => "GenerateDataKeyWithoutPlaintext",
            Self::GenerateRandom { .. } => "GenerateRandom",
        }
    }

    pub fn answer(&self, admin: &Administrator<'_>) -> Answer {
        Ok(Some(match self {
            Self::Encrypt { key_id, plaintext, encryption_context } => {
                let plaintext = input::bytes(plaintext, "--plaintext")?;
                let context = input::context(encryption_context.as_deref())?;
                let made = admin.encrypt(key_id, &plaintext, &context)?;
                let blob = input::base64(&made.blob);
                json!({"CiphertextBlob": blob, "KeyId": made.key_arn, "EncryptionAlgorithm": ALGORITHM})
            }
            Self::Decrypt { ciphertext_blob, encryption_context, key_id } => {
                let blob = input::bytes(ciphertext_blob, "--ciphertext-blob")?;
                let context = input::context(encryption_context.as_deref())?;
                let opened = admin.decrypt(&blob, &context, key_id.as_deref())?;
                json!({
                    "KeyId": opened.key_arn,
                    "Plaintext": input::base64(&opened.bytes),
                    "EncryptionAlgorithm": ALGORITHM,
                    "KeyMaterialId": opened.material_id,
                })
            }
            Self::ReEncrypt {
                ciphertext_blob,
                source_encryption_context,
                source_key_id,
                destination_key_id,
                destination_encryption_context,
            } => {
                let blob = input::bytes(ciphertext_blob, "--ciphertext-blob")?;
                let source = input::context(source_encryption_context.as_deref())?;
                let destination = input::context(destination_encryption_context.as_deref())?;
                let source = (&source, source_key_id.as_deref());
                let (from, to) = admin.re_encrypt(&blob, source, (&destination, destination_key_id))?;
                json!({
                    "CiphertextBlob": input::base64(&to.blob),
                    "SourceKeyId": from.key_arn,
                    "KeyId": to.key_arn,
                    "SourceEncryptionAlgorithm": ALGORITHM,
                    "DestinationEncryptionAlgorithm": ALGORITHM,
                    "SourceKeyMaterialId": from.material_id,
                    "DestinationKeyMaterialId": to.material_id,
                })
            }
            Self::GenerateDataKey(args) => {
                let context = input::context(args.encryption_context.as_deref())?;
                let (plaintext, made) =
                    admin.generate_data_key(&args.key_id, args.spec()?, &context, "GenerateDataKey")?;
                data_key(&made, Some(&plaintext))
            }
            Self::GenerateDataKeyWithoutPlaintext(args) => {
                let context = input::context(args.encryption_context.as_deref())?;
                let action = "GenerateDataKeyWithoutPlaintext";
                let (_, made) = admin.generate_data_key(&args.key_id, args.spec()?, &context, action)?;
                data_key(&made, None)
            }
            Self::GenerateRandom { number_of_bytes } => {
                json!({"Plaintext": input::base64(&admin.generate_random(*number_of_bytes)?)})
            }
        }))
    }
}

fn data_key(made: &Ciphertext, plaintext: Option<&[u8]>) -> Value {
    let mut answer = json!({"CiphertextBlob": input::base64(&made.blob)});
    if let Some(plaintext) = plaintext {
        answer["Plaintext"] = json!(input::base64(plaintext));
    }
    answer["KeyId"] = json!(made.key_arn);
    answer["KeyMaterialId"] = json!(made.material_id);
    answer
}
