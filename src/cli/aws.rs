//! What `kmsfs kms` and `kmsfs iam` have in common: what they open, and answers, messages and exit codes of `aws`.

use super::assembly::Keys;
use super::audit::AuditArgs;
use super::exit::{Exit, Failure, describe};
use super::state::StateArgs;
use super::store_args::StoreArgs;
use super::{assembly, text};
use clap::Args;
use kmsfs_kms::audit::Audited;
use kmsfs_kms::{Caller, Principal, Router, api, iam};
use serde_json::Value;
use std::borrow::Cow;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use zeroize::Zeroizing;

#[derive(Args)]
pub struct KeyringArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    audit: AuditArgs,
    #[command(flatten)]
    state: StateArgs,
}

/// A keyring that was unlocked.
pub struct Opened {
    pub store: PathBuf,
    pub keys: Keys,
    audit: AuditArgs,
}

impl KeyringArgs {
    pub fn open(self) -> Result<Opened, Failure> {
        let chosen = self.store.choose(None)?;
        let store = chosen.find_store()?;
        let keyring = chosen.keyring_of(&store);
        let keys = assembly::open_kms(&store, &keyring, &chosen.unlock.read(&keyring)?, &self.state)?;
        Ok(Opened { store, keys, audit: self.audit.or_environment() })
    }
}

impl Opened {
    pub fn kms(&self) -> Result<Arc<dyn api::Service>, Failure> {
        Ok(self.audited()?.map_or_else(|| Arc::clone(&self.keys.kms) as _, |audited| Arc::new(audited) as _))
    }

    pub fn iam(&self) -> Result<Arc<dyn iam::Service>, Failure> {
        Ok(self.audited()?.map_or_else(|| Arc::clone(&self.keys.kms) as _, |audited| Arc::new(audited) as _))
    }

    fn audited(&self) -> Result<Option<Audited<Router>>, Failure> {
        self.audit.start(&self.keys, &assembly::Outside::default().connect_syslog)
    }
}

/// aws' exit codes for an error that the service answered, and for wrong usage.
const SERVICE_ERROR: u8 = 254;
pub const USAGE: u8 = 252;

/// What is wrong with an argument, in aws' words.
pub struct Usage(pub String);

/// The text of a parameter, or of the file that `file://PATH` names.
pub fn parameter(argument: &str, name: &str) -> Result<String, Usage> {
    match argument.strip_prefix("file://") {
        None => Ok(argument.to_owned()),
        Some(path) => fs::read_to_string(path).map_err(|error| unreadable(name, argument, &error)),
    }
}

/// A parameter names a file that cannot be read.
pub fn unreadable(name: &str, argument: &str, why: &io::Error) -> Usage {
    let (file, why) = (text::escape(argument), describe(why));
    Usage(format!("Error parsing parameter '{name}': Unable to load paramfile {file}: {why}"))
}

/// Why there is no answer to print.
pub enum Ending {
    Failure(Failure),
    Usage(Usage),
    /// By the service: the call's name, and the error's name and message.
    Refused {
        operation: &'static str,
        code: Cow<'static, str>,
        message: String,
    },
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

/// The exit code of a command, whose ending is told.
pub fn end(result: Result<(), Ending>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(ending) => {
            eprintln!("{}", ending.text());
            match ending {
                Ending::Failure(failure) if failure.exit == Exit::Usage => ExitCode::from(USAGE),
                Ending::Failure(failure) => failure.exit.into(),
                Ending::Usage(_) => ExitCode::from(USAGE),
                Ending::Refused { .. } => ExitCode::from(SERVICE_ERROR),
            }
        }
    }
}

impl Ending {
    /// What is said on standard error, without the line break at its end.
    pub fn text(&self) -> String {
        match self {
            Self::Failure(failure) => format!("kmsfs: {failure}"),
            Self::Usage(Usage(text)) => format!("\n{text}"),
            Self::Refused { operation, code, message } => {
                format!("\nAn error occurred ({code}) when calling the {operation} operation: {message}")
            }
        }
    }
}

/// As aws does: JSON, or nothing where there is nothing to say.
pub fn print(answer: Option<&Value>) -> Result<(), Failure> {
    let Some(answer) = answer else { return Ok(()) };
    write(&Zeroizing::new(text::pretty(answer)))
}

/// On standard output, of a call that has been carried out.
pub fn write(text: &str) -> Result<(), Failure> {
    let written = io::stdout().write_all(text.as_bytes());
    written.map_err(|error| Failure::new(format!("it is done, but the answer cannot be written: {}", describe(&error))))
}

/// Whoever runs this command.
pub fn myself() -> Principal {
    use rustix::process::{getegid, geteuid};
    Principal::Process(Caller { uid: geteuid().as_raw(), gid: getegid().as_raw(), pid: std::process::id() })
}
