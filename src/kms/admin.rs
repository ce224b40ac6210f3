//! Administration: making keys and aliases, describing, listing, enabling and disabling.

use super::keyring::{Alias, Contents, Key, KeyManager, KeyOrigin, KeyState, now};
use super::local::LocalKms;
use super::lookup::{AWS_S3, check_alias_name};
use super::{Code, Error};
use crate::crypto::SecretKey;
use uuid::Uuid;

const AWS_S3_DESCRIPTION: &str = "Default key that protects my S3 objects when no other key is defined";
const MAX_DESCRIPTION: usize = 8192;

/// What DescribeKey answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyMetadata {
    pub account_id: String,
    pub key_id: String,
    pub arn: String,
    /// Nanoseconds since 1970.
    pub created: i64,
    pub description: String,
    pub state: KeyState,
    pub origin: KeyOrigin,
    pub manager: KeyManager,
    /// Of the newest material, hexadecimal.
    pub material_id: Option<String>,
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

pub(super) fn make_aws_s3(contents: &mut Contents, root: &SecretKey) {
    // Two who miss it at the same time make it once.
    if contents.alias(AWS_S3).is_some() {
        return;
    }
    let now = now();
    let key = Key::new(AWS_S3_DESCRIPTION, KeyManager::Aws, root, now);
    contents.aliases.push(Alias { name: AWS_S3.into(), key: key.id, created: now, updated: now });
    contents.keys.push(key);
}

impl LocalKms {
    pub fn create_key(&self, description: &str) -> Result<KeyMetadata, Error> {
        if description.chars().count() > MAX_DESCRIPTION {
            let what = "failed to satisfy constraint: Member must have length less than or equal to 8192";
            let text = format!("1 validation error detected: Value at 'description' {what}");
            return Err(Error::new(Code::Validation, text));
        }
        self.change(|contents, root| {
            let key = Key::new(description, KeyManager::Customer, root, now());
            let metadata = describe(contents, &key);
            contents.keys.push(key);
            Ok(metadata)
        })
    }

    pub fn describe_key(&self, key_id: &str) -> Result<KeyMetadata, Error> {
        self.ask(|contents| Ok(describe(contents, contents.find(key_id)?)))
    }

    /// ARNs, oldest key first.
    pub fn list_keys(&self) -> Result<Vec<String>, Error> {
        self.ask(|contents| Ok(contents.keys.iter().map(|key| contents.key_arn(&key.id)).collect()))
    }

    pub fn create_alias(&self, name: &str, target: &str) -> Result<(), Error> {
        check_alias_name(name)?;
        self.change(|contents, _| {
            let key = contents.find(target)?;
            if target.contains("alias/") {
                return Err(Error::new(Code::Validation, "Aliases must refer to keys. Not aliases"));
            }
            let (id, arn) = (key.id, contents.alias_arn(name));
            if key.state == KeyState::PendingDeletion {
                let text = format!("{} is pending deletion.", contents.key_arn(&id));
                return Err(Error::new(Code::KmsInvalidState, text));
            }
            if contents.alias(name).is_some() {
                let text = format!("An alias with the name {arn} already exists");
                return Err(Error::new(Code::AlreadyExists, text));
            }
            let now = now();
            contents.aliases.push(Alias { name: name.into(), key: id, created: now, updated: now });
            Ok(())
        })
    }

    /// All of them, or those of one key, in order of their names.
    pub fn list_aliases(&self, key_id: Option<&str>) -> Result<Vec<AliasEntry>, Error> {
        self.ask(|contents| {
            let only = key_id.map(|key_id| contents.find(key_id).map(|key| key.id)).transpose()?;
            let wanted = contents.aliases.iter().filter(|alias| only.is_none_or(|only| alias.key == only));
            let mut entries: Vec<_> = wanted
                .map(|alias| AliasEntry {
                    name: alias.name.clone(),
                    arn: contents.alias_arn(&alias.name),
                    key_id: Uuid::from_bytes(alias.key).to_string(),
                    created: alias.created,
                    updated: alias.updated,
                })
                .collect();
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(entries)
        })
    }

    /// EnableKey and DisableKey. AWS takes no alias here; here one does no harm.
    pub fn set_enabled(&self, key_id: &str, enabled: bool) -> Result<(), Error> {
        self.change(|contents, _| {
            let arn = contents.key_arn(&contents.find(key_id)?.id);
            let key = contents.find_mut(key_id)?;
            if key.manager == KeyManager::Aws {
                let text = format!("{arn} is an AWS managed key: its state cannot be changed.");
                return Err(Error::new(Code::UnsupportedOperation, text));
            }
            match key.state {
                KeyState::Enabled | KeyState::Disabled => {
                    key.state = if enabled { KeyState::Enabled } else { KeyState::Disabled };
                    Ok(())
                }
                KeyState::PendingDeletion => {
                    Err(Error::new(Code::KmsInvalidState, format!("{arn} is pending deletion.")))
                }
                KeyState::PendingImport => Err(Error::new(Code::KmsInvalidState, format!("{arn} is pending import."))),
            }
        })
    }
}

fn describe(contents: &Contents, key: &Key) -> KeyMetadata {
    let digits = |id: &[u8; 16]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    KeyMetadata {
        account_id: contents.account_id.clone(),
        key_id: Uuid::from_bytes(key.id).to_string(),
        arn: contents.key_arn(&key.id),
        created: key.created,
        description: key.description.clone(),
        state: key.state,
        origin: key.origin,
        manager: key.manager,
        material_id: key.newest().map(|material| digits(&material.id)),
    }
}
