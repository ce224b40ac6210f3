//! How a command ends: the exit codes that `kmsfs --help` documents, and the one line that says why.

use std::fmt;
use std::process::ExitCode;

/// Exit codes of every command but those that are as in `aws`, which have its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Failure = 1,
    Usage = 2,
    WrongKey = 3,
    InUse = 4,
    RolledBack = 5,
}

impl Exit {
    /// What another process of this program ended with.
    pub fn of_code(code: i32) -> Option<Self> {
        [Self::Failure, Self::Usage, Self::WrongKey, Self::InUse, Self::RolledBack]
            .into_iter()
            .find(|exit| *exit as i32 == code)
    }
}

/// What `kmsfs --help` says about exit codes.
pub const HELP: &str = "\
Exit codes:
  0    done
  1    it failed; standard error says why
  2    wrong usage: an unknown option, a missing argument, an impossible value
  3    the key file, passphrase or recovery key is not one that opens the keyring
  4    another process has the store open; standard error names its pid
  5    the store or its keyring was put back to an earlier state, or is another copy; standard error says what to do
  252  kmsfs kms, iam, put, and put-, get- and delete-bucket-encryption: wrong usage, as aws
  254  the same: the call was answered with an error, as aws
kmsfs fsck answers with e2fsck's: 0 no errors, 1 mended, 4 errors left, 8 it failed, 16 wrong usage, 32 interrupted.
As mount.kmsfs it answers with mount(8)'s: 0 mounted, 1 wrong usage, 5 as above, 32 the mount failed.";

/// A command failed: the exit code and the line for standard error, without the leading `kmsfs: `.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failure, message: message.into() }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into() }
    }

    pub fn with(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// The text of an errno alone: std's own appends `(os error 13)`, which no other program's messages have.
pub fn describe(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_string(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_texts_read_like_those_of_other_programs() {
        let denied = std::io::Error::from_raw_os_error(libc::EACCES);
        assert_eq!(describe(&denied), "Permission denied");
        assert_eq!(describe(&std::io::Error::other("no such thing")), "no such thing");
    }

    #[test]
    fn help_names_every_exit_code() {
        for exit in [Exit::Failure, Exit::Usage, Exit::WrongKey, Exit::InUse, Exit::RolledBack] {
            assert!(HELP.contains(&format!("\n  {} ", exit as u8)), "{exit:?}");
        }
    }
}
