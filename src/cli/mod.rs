//! Arguments, output and exit codes; no behaviour of its own.

#[macro_use]
mod output;

mod assembly;
mod audit;
mod aws;
mod aws_input;
mod aws_output;
mod bucket_encryption;
mod config;
mod daemon;
mod doctor;
mod exit;
mod fsck;
mod fsck8;
mod harden;
mod helper;
mod iam;
mod idle;
mod inherited;
mod init;
mod interruption;
mod keyring;
mod kms;
mod logging;
mod ls;
mod memory;
mod mount;
mod mount8;
mod mounted;
mod mountpoint;
mod notify;
mod options;
mod private_root;
mod prometheus;
mod provider;
mod put;
mod reencrypt;
mod remount;
mod sandbox;
mod scrub;
mod serve;
mod serve_http;
mod sockets;
mod speed;
mod stat;
mod state;
mod status;
mod store_args;
mod strength;
mod sync;
mod system_calls;
mod terminal;
mod text;
mod threads;
mod umount;
mod unlock;
mod version;

use clap::{CommandFactory as _, Parser, Subcommand};
use exit::{Exit, Failure};
use helper::Duty as _;
use helper::broker::Opener;
use helper::keeper::Kept;
use helper::metrics::Telling;
use provider::Starting;
use std::ffi::OsString;
use std::process::ExitCode;

/// A file system that encrypts every file as Amazon S3 does under SSE-KMS
///
/// Top-level directories of the mount are buckets, paths below them are object keys. Every file is
/// encrypted under its own data key; a KMS key wraps it, and the wrapped key is kept beside the file
/// in a sidecar.
#[derive(Parser)]
#[command(
    name = "kmsfs",
    version,
    verbatim_doc_comment,
    after_help = format!("{EXAMPLES}\n\n{}", exit::HELP),
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(init::InitArgs),
    Mount(mount::MountArgs),
    Umount(umount::UmountArgs),
    Serve(Box<serve_http::ServeArgs>),
    Put(put::PutArgs),
    Stat(stat::StatArgs),
    Ls(ls::LsArgs),
    PutBucketEncryption(bucket_encryption::PutArgs),
    GetBucketEncryption(bucket_encryption::GetArgs),
    DeleteBucketEncryption(bucket_encryption::DeleteArgs),
    Kms(kms::KmsArgs),
    Iam(iam::IamArgs),
    Keyring(keyring::KeyringArgs),
    Fsck(fsck::FsckArgs),
    Scrub(scrub::ScrubArgs),
    Status(status::StatusArgs),
    Sync(sync::SyncArgs),
    Reencrypt(reencrypt::ReencryptArgs),
    Doctor(doctor::DoctorArgs),
    Speed(speed::SpeedArgs),
    Version(version::VersionArgs),
}

const EXAMPLES: &str = "\
Examples:
  kmsfs init --key-file /root/kmsfs.key /srv/store
  kmsfs mount --key-file /root/kmsfs.key /srv/store /mnt
  mkdir /mnt/my-bucket
  cp sse-config-kms.json /mnt/my-bucket/.encryption.json
  cp bond.json /mnt/my-bucket/
  kmsfs stat /mnt/my-bucket/bond.json
  kmsfs kms --store /srv/store --key-file /root/kmsfs.key list-keys
  kmsfs umount /mnt

`kmsfs COMMAND --help` shows more of each command.";

/// mount(8)'s exit codes, for its helper: `Incorrect invocation` and `mount failure`.
const MOUNT8_USAGE: u8 = 1;
const MOUNT8_FAILURE: u8 = 32;

/// What the command line may be.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    output::code(run())
}

fn run() -> ExitCode {
    let mut arguments = std::env::args_os();
    let argv0 = arguments.next().unwrap_or_default();
    let is_helper = mount8::is_helper(&argv0);
    if let Err(failure) = inherited::make_room_for_the_stack() {
        let code = tell(&failure);
        return if is_helper { ExitCode::from(MOUNT8_FAILURE) } else { code.into() };
    }
    if is_helper {
        return as_mount_helper(arguments);
    }
    if fsck8::is_helper(&argv0) {
        return as_fsck_helper(arguments);
    }
    match std::env::args_os().nth(1) {
        Some(word) if word == Kept::WORD => return helper::run::<Kept>(),
        Some(word) if word == Telling::WORD => return helper::run::<Telling>(),
        Some(word) if word == Opener::WORD => return helper::run::<Opener>(),
        Some(word) if word == Starting::WORD => return helper::run::<Starting>(),
        Some(word) if word == provider::PROGRAM => return provider::become_provider(),
        Some(word) => {
            if let Some(code) = serve_http::run_helper(&word) {
                return code;
            }
        }
        None => {}
    }
    let words = store_args::behind_the_command(std::env::args_os());
    let words = match read_document(words) {
        Ok(words) => words,
        Err(code) => return code,
    };
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let code = if error.use_stderr() { usage_code(words.get(1)) } else { 0 };
            return ExitCode::from(code);
        }
    };
    if matches!(cli.command, Command::Init(_) | Command::Kms(_) | Command::Iam(_) | Command::Keyring(_)) {
        inherited::put_limits_right();
    }
    let result = match cli.command {
        Command::Init(args) => init::run(args),
        Command::Mount(args) => args.into_request().and_then(mount::run),
        Command::Umount(args) => umount::run(&args),
        Command::Serve(args) => serve_http::run(*args),
        Command::Put(args) => return put::run(args),
        Command::Stat(args) => return stat::run(&args),
        Command::Ls(args) => ls::run(&args),
        Command::PutBucketEncryption(args) => return bucket_encryption::put(&args),
        Command::GetBucketEncryption(args) => return bucket_encryption::get(&args),
        Command::DeleteBucketEncryption(args) => return bucket_encryption::delete(&args),
        Command::Kms(args) => return kms::run(args),
        Command::Iam(args) => return iam::run(args),
        Command::Keyring(args) => keyring::run(args),
        Command::Fsck(args) => return fsck::run(&args),
        Command::Scrub(args) => scrub::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Sync(args) => sync::run(&args),
        Command::Reencrypt(args) => reencrypt::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Speed(args) => speed::run(&args),
        Command::Version(args) => return version::run(&args),
    };
    result.unwrap_or_else(|failure| tell(&failure).into())
}

/// The words of the command line with the parameters that a document gives; or the exit code, where that is all.
fn read_document(words: Vec<OsString>) -> Result<Vec<OsString>, ExitCode> {
    let Some(aws) = words.get(1).filter(|word| *word == "kms" || *word == "iam") else { return Ok(words) };
    let mut command = Cli::command();
    command.build();
    let Some(command) = command.find_subcommand(aws) else { return Ok(words) };
    match aws_input::read(words, command) {
        Ok(aws_input::Line::Words(words)) => Ok(words),
        Ok(aws_input::Line::Skeleton(skeleton)) => Err(aws::end(aws::print(Some(&skeleton)).map_err(Into::into))),
        Err(usage) => Err(aws::end(Err(usage.into()))),
    }
}

/// The exit code for wrong usage: that of aws for `kmsfs kms` and `kmsfs iam`, of e2fsck for `kmsfs fsck`, and of most
/// programs for the rest.
fn usage_code(command: Option<&OsString>) -> u8 {
    match command {
        Some(word) if word == "kms" || word == "iam" || is_of_s3(word) => aws::USAGE,
        Some(word) if word == "fsck" => fsck::USAGE,
        _ => Exit::Usage as u8,
    }
}

fn is_of_s3(word: &OsString) -> bool {
    let operations = ["put", "put-bucket-encryption", "get-bucket-encryption", "delete-bucket-encryption"];
    operations.iter().any(|operation| word == operation)
}

/// For fuzzing: reads the words of `-o`, each way that they are read.
#[cfg(feature = "testing")]
pub fn mount_options(text: &str) {
    for sloppy in [false, true] {
        let _ = options::Options::parse([text], sloppy);
    }
    let _ = mount8::parse(text.split(' ').map(OsString::from));
}

fn as_mount_helper(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    if arguments.iter().any(|argument| argument == "-h" || argument == "--help") {
        println!("{}\n\n{}\n\n{}", mount8::USAGE, options::HELP, exit::HELP);
        return ExitCode::SUCCESS;
    }
    let call = mount8::parse(arguments).map_err(Failure::usage);
    call.and_then(mount::Request::of_mount8).and_then(mount::run).unwrap_or_else(|failure| as_mount8(tell(&failure)))
}

fn as_fsck_helper(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match fsck8::parse(arguments) {
        Ok(args) => fsck::run(&args),
        Err(wrong) => {
            tell(&Failure::usage(wrong));
            ExitCode::from(fsck::USAGE)
        }
    }
}

fn as_mount8(exit: Exit) -> ExitCode {
    match exit {
        Exit::Usage => ExitCode::from(MOUNT8_USAGE),
        // Nothing else distinguishes it from a mount that may succeed at the next attempt.
        Exit::RolledBack => exit.into(),
        _ => ExitCode::from(MOUNT8_FAILURE),
    }
}

fn tell(failure: &Failure) -> Exit {
    eprintln!("kmsfs: {failure}");
    failure.exit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples_in_its_help() {
        let mut command = Cli::command();
        command.build();
        expect_examples(&mut command);
        assert!(command.render_help().to_string().contains("Exit codes:"));
    }

    #[test]
    fn every_option_and_argument_says_what_it_is() {
        let mut command = Cli::command();
        command.build();
        let mut silent = Vec::new();
        expect_help(&command, "kmsfs", &mut silent);
        assert!(silent.is_empty(), "{silent:#?}");
    }

    fn expect_help(command: &clap::Command, path: &str, silent: &mut Vec<String>) {
        let says_nothing = |argument: &&clap::Arg| argument.get_help().is_none() && argument.get_long_help().is_none();
        silent.extend(
            command.get_arguments().filter(says_nothing).map(|argument| format!("{path} {}", argument.get_id())),
        );
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            expect_help(sub, &format!("{path} {}", sub.get_name()), silent);
        }
    }

    fn expect_examples(command: &mut clap::Command) {
        for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
            let name = sub.get_name().to_string();
            let help = sub.render_long_help().to_string();
            assert!(help.contains("Examples:\n  "), "{name}: {help}");
            expect_examples(sub);
        }
    }

    #[test]
    fn mount_is_told_in_its_own_codes() {
        assert_eq!(as_mount8(Exit::Usage), ExitCode::from(1));
        assert_eq!(as_mount8(Exit::WrongKey), ExitCode::from(32));
        assert_eq!(as_mount8(Exit::RolledBack), ExitCode::from(5));
    }
}
