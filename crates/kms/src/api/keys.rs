//! Keys, as calls and answers describe them.

use super::Expiration;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyState {
    Enabled,
    Disabled,
    PendingDeletion,
    PendingImport,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyManager {
    Aws,
    Customer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyOrigin {
    AwsKms,
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
    pub description: String,
    pub tags: Vec<Tag>,
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
    pub account_id: String,
    pub key_id: String,
    pub arn: String,
    pub created: i64,
    pub description: String,
    pub state: KeyState,
    pub origin: KeyOrigin,
    pub manager: KeyManager,
    /// Of the newest material, hexadecimal.
    pub material_id: Option<String>,
    /// Of a key that is pending deletion.
    pub deletion: Option<i64>,
    /// Of imported material.
    pub expiration: Option<Expiration>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    pub key: String,
    pub value: String,
}

/// One alias, as ListAliases answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasEntry {
    pub name: String,
    pub arn: String,
    pub key_id: String,
    pub created: i64,
    pub updated: i64,
}

/// What ScheduleKeyDeletion answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    pub key_arn: String,
    /// Nanoseconds since 1970.
    pub date: i64,
    pub window_in_days: u64,
}
