//! Keys, as calls and answers describe them.

use super::Expiration;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
/// Whether a key can be used, in AWS's words.
pub enum KeyState {
    /// It can.
    Enabled,
    /// Somebody has disabled it.
    Disabled,
    /// It is deleted when its time has come.
    PendingDeletion,
    /// It has no material yet, or none any more.
    PendingImport,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
/// Whose key it is.
pub enum KeyManager {
    /// A service's: `aws/s3`.
    Aws,
    /// Made by somebody.
    Customer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
/// Where a key's material comes from.
pub enum KeyOrigin {
    /// Made by the KMS.
    AwsKms,
    /// Imported.
    External,
}

impl KeyState {
    /// AWS's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enabled => "Enabled",
            Self::Disabled => "Disabled",
            Self::PendingDeletion => "PendingDeletion",
            Self::PendingImport => "PendingImport",
        }
    }
}

impl KeyManager {
    /// AWS's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aws => "AWS",
            Self::Customer => "CUSTOMER",
        }
    }
}

impl KeyOrigin {
    /// AWS's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AwsKms => "AWS_KMS",
            Self::External => "EXTERNAL",
        }
    }
}

/// What CreateKey is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewKey {
    /// Free text.
    pub description: String,
    /// Names and values.
    pub tags: Vec<Tag>,
    /// Where its material comes from.
    pub origin: KeyOrigin,
    /// The default policy where there is none.
    pub policy: Option<String>,
    /// Also one under which the caller could not put another.
    pub bypass_lockout_check: bool,
}

impl Default for NewKey {
    fn default() -> Self {
        let (description, tags, policy) = Default::default();
        Self { description, tags, origin: KeyOrigin::AwsKms, policy, bypass_lockout_check: false }
    }
}

/// What DescribeKey answers. Times in nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyMetadata {
    /// Twelve digits.
    pub account_id: String,
    /// The last part of the key's ARN.
    pub key_id: String,
    /// Its ARN.
    pub arn: String,
    /// Nanoseconds since 1970.
    pub created: i64,
    /// Free text.
    pub description: String,
    /// Whether it can be used.
    pub state: KeyState,
    /// Where its material comes from.
    pub origin: KeyOrigin,
    /// Whose it is.
    pub manager: KeyManager,
    /// Of the newest material, hexadecimal.
    pub material_id: Option<String>,
    /// Of a key that is pending deletion.
    pub deletion: Option<i64>,
    /// Of imported material.
    pub expiration: Option<Expiration>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
/// A tag of a key.
pub struct Tag {
    /// Its name.
    pub key: String,
    /// What it says.
    pub value: String,
}

/// One alias, as ListAliases answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasEntry {
    /// With `alias/`.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// The last part of the key's ARN.
    pub key_id: String,
    /// Nanoseconds since 1970.
    pub created: i64,
    /// Nanoseconds since 1970.
    pub updated: i64,
}

/// What ScheduleKeyDeletion answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// The key that is deleted.
    pub key_arn: String,
    /// Nanoseconds since 1970.
    pub date: i64,
    /// From the call on.
    pub window_in_days: u64,
}
