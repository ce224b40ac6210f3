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
    KeyMetadata {
        account_id: contents.account_id.clone(),
        key_id: Uuid::from_bytes(key.id).to_string(),
        arn: contents.key_arn(&key.id),
        created: key.created,
        description: key.description.clone(),
        state: key.state,
        origin: key.origin,
        manager: key.manager,
        material_id: key.newest().map(|material| hex::encode(material.id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kms::{KeyringParameters, Unlock};
    use std::sync::Arc;

    const PREFIX: &str = "arn:aws:kms:us-east-1:000000000000:";

    fn kms(dir: &tempfile::TempDir) -> Arc<LocalKms> {
        let path = dir.path().join("key");
        crate::crypto::key_file::create(&path).unwrap();
        let unlock = Unlock::KeyFile(crate::crypto::key_file::read(&path).unwrap());
        let place = dir.path().join("keyring");
        let (account_id, region) = ("000000000000".into(), "us-east-1".into());
        LocalKms::create(&place, &KeyringParameters { store_id: [1; 16], account_id, region }, &unlock).unwrap();
        LocalKms::open(&place, &unlock).unwrap()
    }

    fn code<T>(answer: Result<T, Error>) -> Code {
        answer.err().expect("it is refused").code
    }

    #[test]
    fn a_key_is_described_as_it_was_made() {
        let dir = tempfile::tempdir().unwrap();
        let kms = kms(&dir);
        let before = now();
        let made = kms.create_key("for M").unwrap();
        assert_eq!(made.arn, format!("{PREFIX}key/{}", made.key_id));
        assert_eq!((made.description.as_str(), made.account_id.as_str()), ("for M", "000000000000"));
        assert_eq!(
            (made.state, made.origin, made.manager),
            (KeyState::Enabled, KeyOrigin::AwsKms, KeyManager::Customer)
        );
        assert!((before..=now()).contains(&made.created));
        assert_eq!(kms.describe_key(&made.key_id).unwrap(), made);
        kms.set_enabled(&made.key_id, false).unwrap();
        assert_eq!(kms.describe_key(&made.arn).unwrap(), KeyMetadata { state: KeyState::Disabled, ..made.clone() });
        kms.set_enabled(&made.arn, false).unwrap();
        kms.set_enabled(&made.arn, true).unwrap();
        assert_eq!(kms.describe_key(&made.arn).unwrap(), made);
    }

    #[test]
    fn a_description_has_8192_characters_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let kms = kms(&dir);
        assert!(kms.create_key(&"é".repeat(8192)).is_ok());
        assert_eq!(code(kms.create_key(&"x".repeat(8193))), Code::Validation);
        assert_eq!(kms.list_keys().unwrap().len(), 1);
    }

    #[test]
    fn aliases_are_listed_by_name_and_by_key() {
        let dir = tempfile::tempdir().unwrap();
        let kms = kms(&dir);
        let (one, two) = (kms.create_key("").unwrap(), kms.create_key("").unwrap());
        for (name, key) in [("alias/b", &one), ("alias/a", &two), ("alias/c", &one)] {
            kms.create_alias(name, &key.arn).unwrap();
        }
        let names = |key_id| kms.list_aliases(key_id).unwrap().into_iter().map(|alias| alias.name).collect::<Vec<_>>();
        assert_eq!(names(None), ["alias/a", "alias/b", "alias/c"]);
        assert_eq!(names(Some(one.key_id.as_str())), ["alias/b", "alias/c"]);
        assert_eq!(names(Some("alias/a")), ["alias/a"]);
        let entry = kms.list_aliases(Some(&two.arn)).unwrap().remove(0);
        assert_eq!((entry.arn, entry.key_id), (format!("{PREFIX}alias/a"), two.key_id));
    }

    #[test]
    fn an_alias_is_one_keys_and_not_made_for_what_does_not_exist() {
        let dir = tempfile::tempdir().unwrap();
        let kms = kms(&dir);
        let key = kms.create_key("").unwrap().key_id;
        kms.create_alias("alias/x", &key).unwrap();
        let error = kms.create_alias("alias/x", &key).unwrap_err();
        let text = format!("An alias with the name {PREFIX}alias/x already exists");
        assert_eq!(error, Error::new(Code::AlreadyExists, text));
        let unknown = "11111111-2222-3333-4444-555555555555";
        assert_eq!(code(kms.create_alias("alias/y", unknown)), Code::NotFound);
        assert_eq!(code(kms.create_alias("alias/y", "alias/x")), Code::Validation);
        assert_eq!(code(kms.set_enabled(unknown, false)), Code::NotFound);
        kms.set_enabled("alias/x", false).unwrap();
        assert_eq!(kms.describe_key("alias/x").unwrap().state, KeyState::Disabled);
        assert_eq!(kms.list_aliases(None).unwrap().len(), 1);
    }
}
