//! The cryptographic calls.

use super::{Usage, input};
use clap::{Args, Subcommand, ValueEnum};
use kmsfs_kms::api::{DataKeyRequest, KeySpec, Request};

/// An argument's name, for messages.
const BLOB: &str = "--ciphertext-blob";

#[derive(Subcommand)]
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
        ciphertext_blob: String,
        /// What it was encrypted with: name=value,name2=value2, or JSON
        #[arg(long)]
        source_encryption_context: Option<String>,
        /// The key that it has to be under now
        #[arg(long)]
        source_key_id: Option<String>,
        /// Key id, key ARN, alias or alias ARN of the key that it is to be under
        #[arg(long)]
        destination_key_id: String,
        /// What it is to be encrypted with: name=value,name2=value2, or JSON
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

#[derive(Args)]
pub struct DataKeyArgs {
    /// Key id, key ARN, alias or alias ARN
    #[arg(long)]
    key_id: String,
    /// What key to make
    #[arg(long, value_enum)]
    key_spec: Option<Spec>,
    /// Instead of --key-spec: 1 to 1024
    #[arg(long)]
    number_of_bytes: Option<u64>,
    /// name=value,name2=value2, or JSON
    #[arg(long)]
    encryption_context: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[allow(clippy::enum_variant_names)] // AWS's names.
pub enum Spec {
    #[value(name = "AES_256")]
    Aes256,
    #[value(name = "AES_128")]
    Aes128,
}

impl DataKeyArgs {
    fn request(self) -> Result<DataKeyRequest, Usage> {
        let key_spec = self.key_spec.map(|spec| match spec {
            Spec::Aes256 => KeySpec::Aes256,
            Spec::Aes128 => KeySpec::Aes128,
        });
        let encryption_context = input::context(self.encryption_context.as_deref())?;
        Ok(DataKeyRequest { key_id: self.key_id, key_spec, number_of_bytes: self.number_of_bytes, encryption_context })
    }
}

impl Operation {
    pub fn request(self) -> Result<Request, Usage> {
        Ok(match self {
            Self::Encrypt { key_id, plaintext, encryption_context } => Request::Encrypt {
                key_id,
                plaintext: input::bytes(&plaintext, "--plaintext")?,
                encryption_context: input::context(encryption_context.as_deref())?,
            },
            Self::Decrypt { ciphertext_blob, encryption_context, key_id } => Request::Decrypt {
                ciphertext_blob: input::bytes(&ciphertext_blob, BLOB)?.to_vec(),
                encryption_context: input::context(encryption_context.as_deref())?,
                key_id,
            },
            Self::ReEncrypt {
                ciphertext_blob,
                source_encryption_context,
                source_key_id,
                destination_key_id,
                destination_encryption_context,
            } => Request::ReEncrypt {
                ciphertext_blob: input::bytes(&ciphertext_blob, BLOB)?.to_vec(),
                source_encryption_context: input::context(source_encryption_context.as_deref())?,
                source_key_id,
                destination_key_id,
                destination_encryption_context: input::context(destination_encryption_context.as_deref())?,
            },
            Self::GenerateDataKey(args) => Request::GenerateDataKey(args.request()?),
            Self::GenerateDataKeyWithoutPlaintext(args) => Request::GenerateDataKeyWithoutPlaintext(args.request()?),
            Self::GenerateRandom { number_of_bytes } => Request::GenerateRandom { number_of_bytes },
        })
    }
}
