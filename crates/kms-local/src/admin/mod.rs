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
use super::keyring::{Contents, Key};
use super::local::LocalKms;
use kmsfs_kms::api::{KeyManager, KeyState};
use kmsfs_kms::{Code, Error, Principal};

/// Nanoseconds.
pub(super) const HOUR: i64 = 60 * 60 * 1_000_000_000;
pub(super) const DAY: i64 = 24 * HOUR;

/// The administrative calls, on behalf of somebody.
pub struct Administrator<'a> {
    kms: &'a LocalKms,
    caller: Principal,
}

impl LocalKms {
    /// The administrative calls, on behalf of that caller.
    pub fn administer(&self, caller: impl Into<Principal>) -> Administrator<'_> {
        Administrator { kms: self, caller: caller.into() }
    }
}

impl Administrator<'_> {
    /// The key that is named, if the caller may do that with it (`action` is AWS's name, as in a policy without
    /// `kms:`).
    fn key<'c>(&self, contents: &'c Contents, key_id: &str, action: &str) -> Result<&'c Key, Error> {
        let key = contents.find(key_id)?;
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
