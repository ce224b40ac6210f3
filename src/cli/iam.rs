//! `kmsfs iam`: access keys, with names, options, answers, messages and exit codes of `aws iam`.

use super::aws::{Ending, KeyringArgs, Usage, end, myself};
use super::aws_output::OutputArgs;
use super::store_args;
use clap::{Args, Subcommand, ValueEnum};
use kmsfs_kms::iam::{Request, Status};
use std::process::ExitCode;

/// Manage access keys, with the names, options and answers of `aws iam`
///
/// An access key lets whoever has it sign requests as a Linux user. It is kept in the keyring; its secret
/// is printed once, when it is made. A change takes effect in a server within one second.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = format!("{EXAMPLES}\n\n{}", store_args::HELP))]
pub struct IamArgs {
    #[command(flatten)]
    keyring: KeyringArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    operation: Operation,
}

const EXAMPLES: &str = "\
Examples:
  kmsfs iam --store /srv/store --key-file /root/kmsfs.key create-access-key --user-name alice
  export KMSFS_STORE=/srv/store KMSFS_KEY_FILE=/root/kmsfs.key
  kmsfs iam list-access-keys --user-name alice
  kmsfs iam update-access-key --access-key-id AKIA... --status Inactive
  kmsfs iam delete-access-key --access-key-id AKIA...";

#[derive(Subcommand)]
enum Operation {
    /// Make an access key for a Linux user, and print its secret, which nothing prints again
    #[command(
        after_help = "Examples:\n  kmsfs iam --store /srv/store create-access-key --user-name alice > alice.json"
    )]
    CreateAccessKey {
        /// The Linux user whom requests signed with it come from; a user has two access keys at most
        #[arg(long, visible_alias = "user")]
        user_name: String,
    },
    /// List access keys, without their secrets
    #[command(after_help = "Examples:\n  kmsfs iam --store /srv/store list-access-keys")]
    ListAccessKeys {
        /// This user's alone
        #[arg(long, visible_alias = "user")]
        user_name: Option<String>,
    },
    /// Refuse what is signed with an access key, or accept it again
    #[command(
        after_help = "Examples:\n  kmsfs iam --store /srv/store update-access-key --access-key-id AKIA... --status Inactive"
    )]
    UpdateAccessKey {
        /// The user whose it has to be
        #[arg(long, visible_alias = "user")]
        user_name: Option<String>,
        /// The access key, as list-access-keys shows it
        #[arg(long)]
        access_key_id: String,
        /// Inactive refuses what is signed with it
        #[arg(long, value_enum)]
        status: Wanted,
    },
    /// Delete an access key: what is signed with it is refused, and its secret is overwritten
    #[command(after_help = "Examples:\n  kmsfs iam --store /srv/store delete-access-key --access-key-id AKIA...")]
    DeleteAccessKey {
        /// The user whose it has to be
        #[arg(long, visible_alias = "user")]
        user_name: Option<String>,
        /// The access key, as list-access-keys shows it
        #[arg(long)]
        access_key_id: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum Wanted {
    Active,
    Inactive,
}

impl Operation {
    fn request(self) -> Request {
        match self {
            Self::CreateAccessKey { user_name } => Request::CreateAccessKey { user_name },
            Self::ListAccessKeys { user_name } => Request::ListAccessKeys { user_name },
            Self::UpdateAccessKey { user_name, access_key_id, status } => Request::UpdateAccessKey {
                user_name,
                access_key_id,
                status: match status {
                    Wanted::Active => Status::Active,
                    Wanted::Inactive => Status::Inactive,
                },
            },
            Self::DeleteAccessKey { user_name, access_key_id } => Request::DeleteAccessKey { user_name, access_key_id },
        }
    }
}

pub fn run(args: IamArgs) -> ExitCode {
    super::harden::forbid_dumps();
    end(carry_out(args))
}

fn carry_out(args: IamArgs) -> Result<(), Ending> {
    let output = args.output.compile()?;
    if args.output.pages() {
        return Err(
            Usage("Unknown options: --max-items, --starting-token: all access keys are listed at once".into()).into()
        );
    }
    let request = args.operation.request();
    let service = args.keyring.open()?.iam()?;
    let answer = service.call(&request, &myself()).map_err(|error| Ending::Refused {
        operation: request.name(),
        code: error.code.name().into(),
        message: error.message,
    })?;
    output.print(request.name(), answer.to_json().as_ref())
}
