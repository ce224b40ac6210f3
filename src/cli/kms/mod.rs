//! `kmsfs kms`: names, options, answers, messages and exit codes of `aws kms`.

mod access;
mod aliases;
mod audit;
mod cryptography;
mod import;
mod input;
mod key_stores;
mod keys;
mod objects;
mod paging;
mod rotation;
mod tags;

use super::aws::{Ending, KeyringArgs, Usage, end, myself, print};
use super::aws_output::OutputArgs;
use super::{store_args, text};
use clap::{Args, Subcommand};
use kmsfs_kms::api::PageRequest;
use kmsfs_kms::api::{Answer, Request, Service, TimeForm};
use std::path::Path;
use std::process::ExitCode;

/// Manage the store's KMS keys, with the names, options and answers of `aws kms`
///
/// A change takes effect in a mount of the store within one second.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = format!("{EXAMPLES}\n\n{}", store_args::HELP))]
pub struct KmsArgs {
    #[command(flatten)]
    keyring: KeyringArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    operation: Operation,
}

const EXAMPLES: &str = "\
Examples:
  kmsfs kms --store /srv/store --key-file /root/kmsfs.key create-key --description invoices
  export KMSFS_STORE=/srv/store KMSFS_KEY_FILE=/root/kmsfs.key
  kmsfs kms create-alias --alias-name alias/invoices --target-key-id KEY-ID
  kmsfs kms describe-key --key-id alias/invoices
  kmsfs kms disable-key --key-id KEY-ID --store /mnt
  kmsfs kms list-keys --query 'Keys[].KeyId' --output text";

#[derive(Subcommand)]
enum Operation {
    #[command(flatten)]
    Call(Call),
    ListObjects(objects::ListObjects),
    TestCustomKeyStore(key_stores::Test),
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
    KeyStores(key_stores::Operation),
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
            Self::KeyStores(operation) => Ok(operation.request()),
            Self::Tags(operation) => operation.request(),
            Self::Rotation(operation) => Ok(operation.request()),
            Self::Import(operation) => operation.request(),
            Self::Cryptography(operation) => operation.request(),
            Self::Access(operation) => operation.request(),
        }
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

impl From<PageArgs> for PageRequest {
    fn from(page: PageArgs) -> Self {
        Self { limit: page.limit, marker: page.marker }
    }
}

pub fn run(args: KmsArgs) -> ExitCode {
    super::harden::forbid_dumps();
    end(carry_out(args))
}

fn carry_out(args: KmsArgs) -> Result<(), Ending> {
    let output = args.output.compile()?;
    let opened = args.keyring.open()?;
    match args.operation {
        Operation::VerifyAuditLog(verify) => Ok(verify.run(&opened.keys.local)?),
        Operation::ListObjects(list) => {
            let answer = ask(&*opened.kms()?, &list.request())?;
            Ok(list.print(&opened.store, answer.key_arn().unwrap_or_default())?)
        }
        Operation::TestCustomKeyStore(test) => {
            ask(&*opened.kms()?, &test.request())?;
            Ok(print(Some(&test.run(&opened.keys)?))?)
        }
        Operation::Call(call) => {
            let mut request = call.request()?;
            let service = opened.kms()?;
            if args.output.pages() {
                let listed = paging::list(&*service, &mut request, &args.output)?;
                return output.print(request.name(), Some(&listed));
            }
            let answer = ask(&*service, &request)?;
            if let Answer::Deletion(deletion) = &answer {
                warn_of_deletion(&opened.store, &deletion.key_arn);
            }
            let answer = answer.to_json(TimeForm::Text);
            output.print(request.name(), answer.as_ref())
        }
    }
}

fn ask(service: &dyn Service, request: &Request) -> Result<Answer, Ending> {
    service.call(request, &myself()).map_err(|error| Ending::Refused {
        operation: request.name(),
        code: error.code.name().into(),
        message: error.message,
    })
}

/// Says how many objects go with a key whose deletion has been scheduled.
fn warn_of_deletion(store: &Path, key_arn: &str) {
    match objects::count(store, key_arn) {
        Ok(0) => {}
        Ok(count) => eprintln!(
            "kmsfs: {} under this key and will be lost with it: kmsfs kms list-objects shows which, \
             kmsfs reencrypt brings them under another",
            text::count(count, "object is", "objects are")
        ),
        Err(failure) => eprintln!("kmsfs: how many objects are under this key is not known: {failure}"),
    }
}
