//! What a new slot is to open with.

use super::about_file;
use crate::cli::exit::{Failure, describe};
use crate::cli::unlock::{ask_new, first_line, from_command, from_credential, from_key_file};
use clap::Args;
use kmsfs_crypto::key_file;
use kmsfs_crypto::recovery_key::RecoveryKey;
use kmsfs_kms_local::Unlock;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use zeroize::Zeroizing;

#[derive(Args)]
#[allow(clippy::struct_field_names)] // They are the options' names, beside those of what unlocks.
#[group(id = "new-secret", multiple = false)]
pub struct NewSecretArgs {
    /// A key file, made with 32 random bytes if it does not exist
    #[arg(long, value_name = "FILE")]
    new_key_file: Option<PathBuf>,
    /// The first line of this file, as a passphrase
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    /// The first line that this shell command prints, as a passphrase
    #[arg(long, value_name = "COMMAND")]
    new_passphrase_command: Option<OsString>,
    /// A systemd credential with a passphrase or a key file's content
    #[arg(long, value_name = "NAME")]
    new_credential: Option<OsString>,
    /// A recovery key, which is made here and printed once
    #[arg(long)]
    new_recovery_key: bool,
}

pub struct NewSecret {
    unlock: Unlock,
    /// What to print.
    recovery_key: Option<Zeroizing<String>>,
    /// Made here; removed again unless it is kept.
    key_file: Option<PathBuf>,
}

impl NewSecretArgs {
    /// Asks for a passphrase where nothing is given.
    pub fn read(&self) -> Result<NewSecret, Failure> {
        let plain = |unlock| NewSecret { unlock, recovery_key: None, key_file: None };
        if self.new_recovery_key {
            let key = RecoveryKey::random();
            let unlock = Unlock::RecoveryKey(key.key());
            return Ok(NewSecret { unlock, recovery_key: Some(key.text()), key_file: None });
        }
        if let Some(path) = &self.new_key_file {
            let made = match key_file::create(path) {
                Ok(()) => Some(path.clone()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
                Err(error) => return Err(about_file("key file", path, &describe(&error))),
            };
            return from_key_file(path).map(|unlock| NewSecret { unlock, recovery_key: None, key_file: made });
        }
        if let Some(path) = &self.new_passphrase_file {
            return first_line(path, "passphrase file").map(Unlock::Passphrase).map(plain);
        }
        if let Some(command) = &self.new_passphrase_command {
            return from_command(command).map(Unlock::Passphrase).map(plain);
        }
        self.new_credential.as_deref().map_or_else(ask_new, from_credential).map(plain)
    }
}

impl NewSecret {
    pub fn unlock(&self) -> &Unlock {
        &self.unlock
    }

    /// The slot has been added: returns its recovery key, if it has one.
    pub fn keep(mut self) -> Option<Zeroizing<String>> {
        self.key_file = None;
        self.recovery_key.take()
    }
}

impl Drop for NewSecret {
    /// A key file that opens nothing is not left behind.
    fn drop(&mut self) {
        if let Some(path) = &self.key_file {
            let _ = std::fs::remove_file(path);
        }
    }
}
