//! Administration: what AWS KMS lets somebody do with keys, beside using them.

mod aliases;
mod calls;
mod cryptography;
mod deletion;
mod import;
mod keys;
mod rotation;
mod schedule;
mod tags;
#[cfg(test)]
mod testing;

pub use cryptography::DataKeySpec;
pub use import::ImportRequest;
pub(super) use keys::make_aws_s3;
pub(super) use schedule::{is_due, settle};

use super::authorization::Ask;
use super::keyring::{Contents, Key, Wrapping};
use super::local::LocalKms;
use kmsfs_kms::api::{KeyManager, KeyState};
use kmsfs_kms::{Code, Error, Principal};

/// Nanoseconds.
pub(super) const HOUR: i64 = 60 * 60 * 1_000_000_000;
pub(super) const DAY: i64 = 24 * HOUR;

/// The administrative calls, on behalf of somebody.
pub struct Administrator<'a> {
    pub(super) kms: &'a LocalKms,
    pub(super) caller: Principal,
    /// The ARN of a key of another KMS that the call is about: here are its policy, grants, tags and aliases.
    elsewhere: Option<&'a str>,
}

impl LocalKms {
    /// The administrative calls, on behalf of that caller.
    pub fn administer(&self, caller: impl Into<Principal>) -> Administrator<'_> {
        Administrator { kms: self, caller: caller.into(), elsewhere: None }
    }

    /// The same about a key of another KMS.
    pub(super) fn administer_elsewhere<'a>(&'a self, key_arn: &'a str, caller: &Principal) -> Administrator<'a> {
        Administrator { elsewhere: Some(key_arn), ..self.administer(caller) }
    }
}

/// What another KMS's key has here. Everything else is done where the key is.
const OF_KEYS_ELSEWHERE: [&str; 7] =
    ["CreateAlias", "UpdateAlias", "DeleteAlias", "ListAliases", "TagResource", "UntagResource", "ListResourceTags"];

impl Administrator<'_> {
    /// As [`LocalKms::ask`]. A key of another KMS of which nothing is kept here yet is there as one that has nothing.
    pub(super) fn ask<T>(&self, ask: impl FnOnce(&Contents) -> Result<T, Error>) -> Result<T, Error> {
        self.kms.ask(|contents| match self.elsewhere {
            Some(arn) if contents.elsewhere(arn).is_none() => {
                let mut noted = contents.clone();
                noted.note_elsewhere(arn, self.kms.now());
                ask(&noted)
            }
            _ => ask(contents),
        })
    }

    /// As [`LocalKms::change`]. A key of another KMS of which nothing is kept any more is forgotten.
    pub(super) fn change<T>(&self, change: impl Fn(&mut Contents, &Wrapping) -> Result<T, Error>) -> Result<T, Error> {
        self.kms.change(|contents, wrapping| {
            if let Some(arn) = self.elsewhere {
                contents.note_elsewhere(arn, self.kms.now());
            }
            let done = change(contents, wrapping)?;
            contents.forget_unused_elsewhere();
            Ok(done)
        })
    }

    /// The key that is named, if the caller may do that with it (`action` is AWS's name, as in a policy without
    /// `kms:`).
    fn key<'c>(&self, contents: &'c Contents, key_id: &str, action: &str) -> Result<&'c Key, Error> {
        let key = contents.find(key_id)?;
        if contents.is_elsewhere(&key.id) && !OF_KEYS_ELSEWHERE.contains(&action) {
            return Err(is_elsewhere(&contents.key_arn(&key.id), action));
        }
        self.kms.permit(contents, key, &Ask::direct(action, &self.caller, self.kms.now()).naming(key_id))?;
        Ok(key)
    }

    /// As `key`, by id or ARN only, as AWS wants it for what administers a key.
    fn key_not_alias<'c>(&self, contents: &'c Contents, key_id: &str, action: &str) -> Result<&'c Key, Error> {
        contents.find_by_id(key_id)?;
        self.key(contents, key_id, action)
    }

    /// As `key_not_alias`, a customer managed one.
    fn customer_key<'c>(&self, contents: &'c Contents, key_id: &str, action: &str) -> Result<&'c Key, Error> {
        let key = self.key_not_alias(contents, key_id, action)?;
        if key.manager == KeyManager::Aws {
            let text = format!("{} is an AWS managed key: it cannot be changed.", contents.key_arn(&key.id));
            return Err(Error::new(Code::UnsupportedOperation, text));
        }
        Ok(key)
    }
}

/// What does not concern who may use a key, nor what it is called.
pub(super) fn is_elsewhere(key_arn: &str, action: &str) -> Error {
    Error::new(Code::UnsupportedOperation, format!("{key_arn} is kept by another KMS: {action} is for that one."))
}

/// Refused while a key waits for its deletion.
fn not_pending_deletion(contents: &Contents, key: &Key) -> Result<(), Error> {
    match key.state {
        KeyState::PendingDeletion => Err(pending(contents, key, "deletion")),
        _ => Ok(()),
    }
}

fn pending(contents: &Contents, key: &Key, what: &str) -> Error {
    Error::new(Code::KmsInvalidState, format!("{} is pending {what}.", contents.key_arn(&key.id)))
}

fn disabled(contents: &Contents, key: &Key) -> Error {
    Error::new(Code::Disabled, format!("{} is disabled.", contents.key_arn(&key.id)))
}

fn gone() -> Error {
    Error::new(Code::KmsInternal, "the keyring changed in between")
}
