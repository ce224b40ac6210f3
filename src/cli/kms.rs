//! `kmsfs kms`: names, options, answers, messages and exit codes of `aws kms`.

use super::exit::{Exit, Failure, describe};
use super::unlock::UnlockArgs;
use super::{assembly, text};
use crate::kms::{AliasEntry, Code, Error, KeyManager, KeyMetadata, KeyOrigin, KeyState, LocalKms};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use time::OffsetDateTime;
use time::macros::format_description;

/// Manage the store's KMS keys, with the names, options and answers of `aws kms`
///
/// A change takes effect in a mount of the store within one second.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub struct KmsArgs {
    /// The store whose keys they are
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// The keyring, if it is not in the store
    #[arg(long, value_name = "DIR")]
    keyring: Option<PathBuf>,
    #[command(flatten)]
    unlock: UnlockArgs,
    #[command(subcommand)]
    operation: Operation,
}

const EXAMPLES: &str = "\
Examples:
  kmsfs kms --store /srv/store --key-file /root/kmsfs.key create-key --description invoices
  export KMSFS_KEY_FILE=/root/kmsfs.key
  kmsfs kms --store /srv/store create-alias --alias-name alias/invoices --target-key-id KEY-ID
  kmsfs kms --store /srv/store describe-key --key-id alias/invoices
  kmsfs kms --store /srv/store disable-key --key-id KEY-ID

KMSFS_KEY_FILE names the key file where neither --key-file nor --passphrase-file is given.";

const KEY_FILE_VARIABLE: &str = "KMSFS_KEY_FILE";

#[derive(Subcommand)]
enum Operation {
    /// Make a customer managed key
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store create-key --description invoices")]
    CreateKey {
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Show a key's metadata
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store describe-key --key-id alias/aws/s3")]
    DescribeKey {
        /// Key id, key ARN, alias or alias ARN
        #[arg(long)]
        key_id: String,
    },
    /// List all keys
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store list-keys")]
    ListKeys,
    /// Give a key a name
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store create-alias --alias-name alias/x --target-key-id KEY-ID"
    )]
    CreateAlias {
        #[arg(long)]
        alias_name: String,
        /// Key id or key ARN
        #[arg(long)]
        target_key_id: String,
    },
    /// List aliases
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store list-aliases")]
    ListAliases {
        /// Only those of this key
        #[arg(long)]
        key_id: Option<String>,
    },
    /// Refuse every use of a key until it is enabled again
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store disable-key --key-id KEY-ID")]
    DisableKey {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
    },
    /// Let a key be used again
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store enable-key --key-id KEY-ID")]
    EnableKey {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
    },
}

/// aws' exit code for an error that the service answered.
const SERVICE_ERROR: u8 = 254;

pub fn run(args: KmsArgs) -> ExitCode {
    super::harden::forbid_dumps();
    let kms = match open(&args) {
        Ok(kms) => kms,
        Err(failure) => {
            eprintln!("kmsfs: {failure}");
            return failure.exit.into();
        }
    };
    match answer(&kms, &args.operation) {
        Ok(Some(answer)) => match io::stdout().write_all(text::pretty(&answer).as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("kmsfs: it is done, but the answer cannot be written: {}", describe(&error));
                Exit::Failure.into()
            }
        },
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            let operation = args.operation.name();
            let code = code(error.code);
            eprintln!("\nAn error occurred ({code}) when calling the {operation} operation: {}", error.message);
            ExitCode::from(SERVICE_ERROR)
        }
    }
}

fn open(args: &KmsArgs) -> Result<Arc<LocalKms>, Failure> {
    let mut unlock = args.unlock.clone();
    if unlock.key_file.is_none() && unlock.passphrase_file.is_none() {
        unlock.key_file = std::env::var_os(KEY_FILE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    }
    let store = assembly::find_store(&args.store)?;
    let keyring = args.keyring.clone().unwrap_or_else(|| assembly::default_keyring(&store));
    assembly::open_kms(&store, &keyring, &unlock.read()?)
}

fn answer(kms: &LocalKms, operation: &Operation) -> Result<Option<Value>, Error> {
    Ok(match operation {
        Operation::CreateKey { description } => Some(metadata(&kms.create_key(description)?)),
        Operation::DescribeKey { key_id } => Some(metadata(&kms.describe_key(key_id)?)),
        Operation::ListKeys => {
            let keys = kms.list_keys()?.into_iter();
            let entry = |arn: String| json!({"KeyId": arn.rsplit('/').next(), "KeyArn": arn});
            Some(json!({"Keys": keys.map(entry).collect::<Vec<_>>(), "Truncated": false}))
        }
        Operation::CreateAlias { alias_name, target_key_id } => {
            kms.create_alias(alias_name, target_key_id)?;
            None
        }
        Operation::ListAliases { key_id } => {
            let aliases: Vec<_> = kms.list_aliases(key_id.as_deref())?.iter().map(alias).collect();
            Some(json!({"Aliases": aliases, "Truncated": false}))
        }
        Operation::DisableKey { key_id } => {
            kms.set_enabled(key_id, false)?;
            None
        }
        Operation::EnableKey { key_id } => {
            kms.set_enabled(key_id, true)?;
            None
        }
    })
}

impl Operation {
    /// AWS's name of it.
    fn name(&self) -> &'static str {
        match self {
            Self::CreateKey { .. } => "CreateKey",
            Self::DescribeKey { .. } => "DescribeKey",
            Self::ListKeys => "ListKeys",
            Self::CreateAlias { .. } => "CreateAlias",
            Self::ListAliases { .. } => "ListAliases",
            Self::DisableKey { .. } => "DisableKey",
            Self::EnableKey { .. } => "EnableKey",
        }
    }
}

fn metadata(key: &KeyMetadata) -> Value {
    let mut answer = json!({"KeyMetadata": {
        "AWSAccountId": key.account_id,
        "KeyId": key.key_id,
        "Arn": key.arn,
        "CreationDate": date(key.created),
        "Enabled": key.state == KeyState::Enabled,
        "Description": key.description,
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": match key.state {
            KeyState::Enabled => "Enabled",
            KeyState::Disabled => "Disabled",
            KeyState::PendingDeletion => "PendingDeletion",
            KeyState::PendingImport => "PendingImport",
        },
        "Origin": match key.origin { KeyOrigin::AwsKms => "AWS_KMS", KeyOrigin::External => "EXTERNAL" },
        "KeyManager": match key.manager { KeyManager::Aws => "AWS", KeyManager::Customer => "CUSTOMER" },
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
        "MultiRegion": false,
    }});
    // AWS leaves it out where material has yet to be imported.
    if let Some(id) = &key.material_id {
        answer["KeyMetadata"]["CurrentKeyMaterialId"] = json!(id);
    }
    answer
}

fn alias(alias: &AliasEntry) -> Value {
    json!({
        "AliasName": alias.name,
        "AliasArn": alias.arn,
        "TargetKeyId": alias.key_id,
        "CreationDate": date(alias.created),
        "LastUpdatedDate": date(alias.updated),
    })
}

/// As aws prints a time: ISO 8601 with microseconds.
fn date(nanoseconds: i64) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]+00:00");
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(nanoseconds));
    time.ok().and_then(|time| time.format(format).ok()).unwrap_or_default()
}

/// AWS's name of the error.
fn code(code: Code) -> &'static str {
    match code {
        Code::Disabled => "DisabledException",
        Code::KmsInvalidState => "KMSInvalidStateException",
        Code::NotFound => "NotFoundException",
        Code::InvalidArn => "InvalidArnException",
        Code::IncorrectKey => "IncorrectKeyException",
        Code::InvalidCiphertext => "InvalidCiphertextException",
        Code::AccessDenied => "AccessDeniedException",
        Code::AlreadyExists => "AlreadyExistsException",
        Code::InvalidAliasName => "InvalidAliasNameException",
        Code::LimitExceeded => "LimitExceededException",
        Code::Validation => "ValidationException",
        Code::UnsupportedOperation => "UnsupportedOperationException",
        Code::KmsInternal => "KMSInternalException",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_described_in_the_order_of_aws() {
        let mut key = KeyMetadata {
            account_id: "111122223333".into(),
            key_id: "id".into(),
            arn: "arn".into(),
            created: 0,
            description: "for \"M\"".into(),
            state: KeyState::Disabled,
            origin: KeyOrigin::AwsKms,
            manager: KeyManager::Customer,
            material_id: Some("0a".into()),
        };
        let expected = r#"{
    "KeyMetadata": {
        "AWSAccountId": "111122223333",
        "KeyId": "id",
        "Arn": "arn",
        "CreationDate": "1970-01-01T00:00:00.000000+00:00",
        "Enabled": false,
        "Description": "for \"M\"",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": "Disabled",
        "Origin": "AWS_KMS",
        "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "EncryptionAlgorithms": [
            "SYMMETRIC_DEFAULT"
        ],
        "MultiRegion": false,
        "CurrentKeyMaterialId": "0a"
    }
}
"#;
        assert_eq!(text::pretty(&metadata(&key)), expected);
        key.material_id = None;
        assert!(!text::pretty(&metadata(&key)).contains("CurrentKeyMaterialId"));
    }

    #[test]
    fn dates_are_printed_as_aws_does() {
        assert_eq!(date(1_700_000_000_123_456_789), "2023-11-14T22:13:20.123456+00:00");
    }
}
