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
use super::exit::{Failure, describe};
use super::state::StateArgs;
use super::unlock::UnlockArgs;
use super::{assembly, text};
use clap::{Args, Subcommand};
use kmsfs_kms::api::PageRequest;
use kmsfs_kms::api::{Answer, Request, Service, TimeForm};
use kmsfs_kms::{Caller, Error, Principal};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

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
    #[command(flatten)]
    state: StateArgs,
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

#[derive(Subcommand)]
enum Operation {
    #[command(flatten)]
    Call(Call),
    ListObjects(objects::ListObjects),
    VerifyAuditLog(audit::VerifyAuditLog),
}

/// A call of the KMS whose answer is printed.
#[derive(Subcommand)]
enum Call {
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
}

impl Call {
    fn request(self) -> Result<Request, Usage> {
        match self {
            Self::Keys(operation) => operation.request(),
            Self::Aliases(operation) => Ok(operation.request()),
            Self::Tags(operation) => operation.request(),
            Self::Rotation(operation) => Ok(operation.request()),
            Self::Import(operation) => operation.request(),
            Self::Cryptography(operation) => operation.request(),
            Self::Access(operation) => operation.request(),
        }
    }
}

/// What is wrong with an argument, in aws' words.
struct Usage(String);

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

impl From<PageArgs> for PageRequest {
    fn from(page: PageArgs) -> Self {
        Self { limit: page.limit, marker: page.marker }
    }
}

/// aws' exit codes for an error that the service answered, and for wrong usage.
const SERVICE_ERROR: u8 = 254;
const USAGE: u8 = 252;

/// Why there is no answer to print.
enum Ending {
    Failure(Failure),
    Usage(Usage),
    /// By the KMS; the call's name and the refusal.
    Refused(&'static str, Error),
}

impl From<Failure> for Ending {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Usage> for Ending {
    fn from(usage: Usage) -> Self {
        Self::Usage(usage)
    }
}

pub fn run(args: KmsArgs) -> ExitCode {
    super::harden::forbid_dumps();
    match carry_out(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ending::Failure(failure)) => {
            eprintln!("kmsfs: {failure}");
            failure.exit.into()
        }
        Err(Ending::Usage(Usage(text))) => {
            eprintln!("\n{text}");
            ExitCode::from(USAGE)
        }
        Err(Ending::Refused(operation, error)) => {
            let code = error.code.name();
            eprintln!("\nAn error occurred ({code}) when calling the {operation} operation: {}", error.message);
            ExitCode::from(SERVICE_ERROR)
        }
    }
}

fn carry_out(args: KmsArgs) -> Result<(), Ending> {
    let store = assembly::find_store(&args.store)?;
    let keyring = args.keyring.unwrap_or_else(|| assembly::default_keyring(&store));
    let kms = assembly::open_kms(&store, &keyring, &args.unlock.or_environment().read()?, &args.state)?;
    let service = || -> Result<Arc<dyn Service>, Failure> {
        let audited = args.audit.or_environment().start(&kms, &assembly::Outside::default().connect_syslog)?;
        Ok(audited.map_or_else(|| Arc::clone(&kms) as Arc<dyn Service>, |audited| Arc::new(audited)))
    };
    match args.operation {
        Operation::VerifyAuditLog(verify) => Ok(verify.run(&kms)?),
        Operation::ListObjects(list) => {
            let answer = ask(&*service()?, &list.request())?;
            Ok(list.print(&store, answer.key_arn().unwrap_or_default())?)
        }
        Operation::Call(call) => {
            let service = service()?;
            let answer = ask(&*service, &call.request()?)?;
            if let Answer::Deletion(deletion) = &answer {
                warn_of_deletion(&store, &deletion.key_arn);
            }
            Ok(print(&answer)?)
        }
    }
}

fn ask(service: &dyn Service, request: &Request) -> Result<Answer, Ending> {
    service.call(request, &Principal::Process(myself())).map_err(|error| Ending::Refused(request.name(), error))
}

/// As aws does: JSON, or nothing where there is nothing to say.
fn print(answer: &Answer) -> Result<(), Failure> {
    let Some(answer) = answer.to_json(TimeForm::Text) else { return Ok(()) };
    let written = io::stdout().write_all(text::pretty(&answer).as_bytes());
    written.map_err(|error| Failure::new(format!("it is done, but the answer cannot be written: {}", describe(&error))))
}

/// Says how many objects go with a key whose deletion has been scheduled.
fn warn_of_deletion(store: &Path, key_arn: &str) {
    match objects::count(store, key_arn) {
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
