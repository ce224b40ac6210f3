//! `kmsfs kms`: names, options, answers, messages and exit codes of `aws kms`.

mod access;
mod aliases;
mod audit;
mod cryptography;
mod import;
mod input;
mod keys;
mod objects;
mod rotation;
mod tags;

use super::audit::AuditArgs;
use super::exit::{Exit, Failure, describe};
use super::unlock::UnlockArgs;
use super::{assembly, text};
use crate::kms::{Administrator, Caller, Error, LocalKms, PageRequest, is_read_only};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;
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
    #[command(flatten)]
    audit: AuditArgs,
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

KMSFS_KEY_FILE names the key file where nothing that opens the keyring is given.";

#[derive(Subcommand, Serialize)]
#[serde(untagged)]
enum Operation {
    #[command(flatten)]
    Keys(keys::Operation),
    #[command(flatten)]
    Aliases(aliases::Operation),
    #[command(flatten)]
    Tags(tags::Operation),
    #[command(flatten)]
    Rotation(rotation::Operation),
    #[command(flatten)]
    Import(import::Operation),
    #[command(flatten)]
    Cryptography(cryptography::Operation),
    #[command(flatten)]
    Access(access::Operation),
    ListObjects(objects::ListObjects),
    VerifyAuditLog(audit::VerifyAuditLog),
}

impl Operation {
    /// AWS's name of it.
    fn name(&self) -> &'static str {
        match self {
            Self::Keys(operation) => operation.name(),
            Self::Aliases(operation) => operation.name(),
            Self::Tags(operation) => operation.name(),
            Self::Rotation(operation) => operation.name(),
            Self::Import(operation) => operation.name(),
            Self::Cryptography(operation) => operation.name(),
            Self::Access(operation) => operation.name(),
            Self::ListObjects(_) => "ListObjects",
            Self::VerifyAuditLog(_) => "VerifyAuditLog",
        }
    }

    fn answer(&self, admin: &Administrator<'_>) -> Answer {
        match self {
            Self::Keys(operation) => operation.answer(admin),
            Self::Aliases(operation) => operation.answer(admin),
            Self::Tags(operation) => operation.answer(admin),
            Self::Rotation(operation) => operation.answer(admin),
            Self::Import(operation) => operation.answer(admin),
            Self::Cryptography(operation) => operation.answer(admin),
            Self::Access(operation) => operation.answer(admin),
            // `run` has found the key, and prints line by line.
            Self::ListObjects(list) => Ok(Some(admin.describe_key(&list.key_id)?.arn.into())),
            Self::VerifyAuditLog(_) => Ok(None),
        }
    }
}

/// What is printed, or nothing where aws prints nothing.
type Answer = Result<Option<Value>, Refused>;

enum Refused {
    /// By the KMS.
    Service(Error),
    /// An argument that is none.
    Usage(String),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Service(error)
    }
}

/// How much of a list is wanted.
#[derive(Args)]
struct PageArgs {
    /// Entries at most, 1 to 1000
    #[arg(long)]
    limit: Option<u64>,
    /// NextMarker of the answer before
    #[arg(long)]
    marker: Option<String>,
}

impl PageArgs {
    fn request(&self) -> PageRequest {
        PageRequest { limit: self.limit, marker: self.marker.clone() }
    }
}

/// A page's end, as aws answers it.
fn with_page(mut answer: Value, next: Option<String>) -> Value {
    if let Some(next) = &next {
        answer["NextMarker"] = next.as_str().into();
    }
    answer["Truncated"] = next.is_some().into();
    answer
}

/// aws' exit codes for an error that the service answered, and for wrong usage.
const SERVICE_ERROR: u8 = 254;
const USAGE: u8 = 252;

pub fn run(args: KmsArgs) -> ExitCode {
    super::harden::forbid_dumps();
    let kms = match open(&args) {
        Ok(kms) => kms,
        Err(failure) => {
            eprintln!("kmsfs: {failure}");
            return failure.exit.into();
        }
    };
    if let Operation::VerifyAuditLog(verify) = &args.operation {
        return told(verify.run(&kms));
    }
    let audited = match args.audit.clone().or_environment().start(&kms, &assembly::Outside::default().connect_syslog) {
        Ok(audited) => audited,
        Err(failure) => return told(Err(failure)),
    };
    let act = || args.operation.answer(&kms.administer(myself()));
    let answer = match audited {
        None => act(),
        Some(audited) => {
            let (name, parameters) = (args.operation.name(), audit::parameters(&args.operation));
            let explain = |answer: &Answer| audit::outcome(is_read_only(name), &parameters, answer);
            audited.administer(name, &myself(), parameters.clone(), act, explain)
        }
    };
    if let Operation::ListObjects(list) = &args.operation
        && let Ok(Some(Value::String(key_arn))) = &answer
    {
        return told(assembly::find_store(&args.store).and_then(|store| list.print(&store, key_arn)));
    }
    if let (Operation::Keys(keys::Operation::ScheduleKeyDeletion { .. }), Ok(Some(answer))) = (&args.operation, &answer)
    {
        warn_of_deletion(&args, answer);
    }
    match answer {
        Ok(Some(answer)) => match io::stdout().write_all(text::pretty(&answer).as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("kmsfs: it is done, but the answer cannot be written: {}", describe(&error));
                Exit::Failure.into()
            }
        },
        Ok(None) => ExitCode::SUCCESS,
        Err(Refused::Service(error)) => {
            let (code, operation) = (error.code.name(), args.operation.name());
            eprintln!("\nAn error occurred ({code}) when calling the {operation} operation: {}", error.message);
            ExitCode::from(SERVICE_ERROR)
        }
        Err(Refused::Usage(text)) => {
            eprintln!("\n{text}");
            ExitCode::from(USAGE)
        }
    }
}

fn told(done: Result<(), Failure>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("kmsfs: {failure}");
            failure.exit.into()
        }
    }
}

/// Says how many objects go with a key whose deletion has been scheduled.
fn warn_of_deletion(args: &KmsArgs, answer: &Value) {
    let key_arn = answer["KeyId"].as_str().unwrap_or_default();
    match assembly::find_store(&args.store).and_then(|store| objects::count(&store, key_arn)) {
        Ok(0) => {}
        Ok(count) => eprintln!(
            "kmsfs: {count} objects are under this key and will be lost with it: kmsfs kms list-objects shows which, \
             kmsfs reencrypt brings them under another"
        ),
        Err(failure) => eprintln!("kmsfs: how many objects are under this key is not known: {failure}"),
    }
}

fn myself() -> Caller {
    use rustix::process::{getegid, geteuid};
    Caller { uid: geteuid().as_raw(), gid: getegid().as_raw(), pid: std::process::id() }
}

fn open(args: &KmsArgs) -> Result<Arc<LocalKms>, Failure> {
    let store = assembly::find_store(&args.store)?;
    let keyring = args.keyring.clone().unwrap_or_else(|| assembly::default_keyring(&store));
    assembly::open_kms(&store, &keyring, &args.unlock.clone().or_environment().read()?)
}

/// As aws prints a time: ISO 8601 with microseconds.
fn date(nanoseconds: i64) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]+00:00");
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(nanoseconds));
    time.ok().and_then(|time| time.format(format).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_printed_as_aws_does() {
        assert_eq!(date(1_700_000_000_123_456_789), "2023-11-14T22:13:20.123456+00:00");
    }
}
