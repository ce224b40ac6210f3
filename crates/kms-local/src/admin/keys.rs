//! Keys: made, described, listed, enabled and disabled.

use super::import;
use super::tags;
use super::{Administrator, deletion, gone, not_pending_deletion, pending};
use crate::authorization::Ask;
use crate::keyring::{Alias, Contents, Key, Material, Wrapping, material_name};
use crate::lookup::AWS_S3;
use kmsfs_kms::Error;
use kmsfs_kms::api::{KeyManager, KeyOrigin, KeyState};
use kmsfs_kms::api::{KeyMetadata, NewKey};
use kmsfs_kms::api::{Page, PageRequest, validation};
use uuid::Uuid;

const AWS_S3_DESCRIPTION: &str = "Default key that protects my S3 objects when no other key is defined";

/// Its ARN, if it was missing.
pub(crate) fn make_aws_s3(contents: &mut Contents, wrapping: &Wrapping, now: i64) -> Result<Option<String>, Error> {
    // Two who miss it at the same time make it once.
    if contents.alias(AWS_S3).is_some() {
        return Ok(None);
    }
    let mut key = Key::new(AWS_S3_DESCRIPTION, KeyManager::Aws, now);
    key.materials.push(Material::random(wrapping, now)?);
    contents.aliases.push(Alias { name: AWS_S3.into(), key: key.id, created: now, updated: now });
    let arn = contents.key_arn(&key.id);
    contents.keys.push(key);
    Ok(Some(arn))
}

impl Administrator<'_> {
    /// Makes a key.
    pub fn create_key(&self, new: &NewKey) -> Result<KeyMetadata, Error> {
        check_description(&new.description)?;
        tags::check(&new.tags)?;
        let now = self.kms.now();
        let who = self.kms.directory.principals(&self.caller);
        self.change(|contents, wrapping| {
            let mut key = Key::new(&new.description, KeyManager::Customer, now);
            match new.origin {
                KeyOrigin::AwsKms => key.materials.push(Material::random(wrapping, now)?),
                KeyOrigin::External => (key.origin, key.state) = (KeyOrigin::External, KeyState::PendingImport),
            }
            let id = key.id;
            contents.keys.push(key);
            tags::put(contents, &id, &new.tags)?;
            if let Some(policy) = &new.policy {
                let key = contents.key(&id).ok_or_else(gone)?.clone();
                let asks = Ask::direct("PutKeyPolicy", &self.caller, now);
                contents.set_policy(&key, policy, new.bypass_lockout_check, &who, &asks)?;
            }
            Ok(describe(contents, contents.key(&id).ok_or_else(gone)?))
        })
    }

    /// Describing `aws/s3` makes it, as using it does.
    pub fn describe_key(&self, key_id: &str) -> Result<KeyMetadata, Error> {
        let find = |contents: &Contents| Ok(describe(contents, self.key(contents, key_id, "DescribeKey")?));
        self.kms.making_aws_s3(key_id, find)
    }

    /// ARNs, oldest key first.
    pub fn list_keys(&self, page: &PageRequest) -> Result<Page<String>, Error> {
        let arns = self.ask(|contents| Ok(contents.keys.iter().map(|key| contents.key_arn(&key.id)).collect()))?;
        page.of(arns)
    }

    /// Changes what is said of the key.
    pub fn update_key_description(&self, key_id: &str, description: &str) -> Result<(), Error> {
        check_description(description)?;
        self.change(|contents, _| {
            let key = self.customer_key(contents, key_id, "UpdateKeyDescription")?;
            not_pending_deletion(contents, key)?;
            let id = key.id;
            contents.key_mut(&id).ok_or_else(gone)?.description = description.into();
            Ok(())
        })
    }

    /// EnableKey and DisableKey.
    pub fn set_enabled(&self, key_id: &str, enabled: bool) -> Result<(), Error> {
        let action = if enabled { "EnableKey" } else { "DisableKey" };
        self.change(|contents, _| {
            let key = self.customer_key(contents, key_id, action)?;
            match key.state {
                KeyState::PendingDeletion => return Err(pending(contents, key, "deletion")),
                KeyState::PendingImport => return Err(pending(contents, key, "import")),
                KeyState::Enabled | KeyState::Disabled => {}
            }
            let id = key.id;
            let key = contents.key_mut(&id).ok_or_else(gone)?;
            key.state = if enabled { KeyState::Enabled } else { KeyState::Disabled };
            Ok(())
        })
    }
}

fn check_description(description: &str) -> Result<(), Error> {
    let shown: String = description.chars().take(100).collect();
    validation::length(description.chars().count(), &shown, "description", 0..=8192)
}

pub(super) fn describe(contents: &Contents, key: &Key) -> KeyMetadata {
    KeyMetadata {
        account_id: contents.account_id.clone(),
        key_id: Uuid::from_bytes(key.id).to_string(),
        arn: contents.key_arn(&key.id),
        created: key.created,
        description: key.description.clone(),
        state: key.state,
        origin: key.origin,
        manager: key.manager,
        material_id: key.newest().map(|material| material_name(&material.id)),
        deletion: deletion::date(contents, key),
        expiration: import::expiration(contents, key),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CALLER, code, kms};
    use super::*;
    use kmsfs_kms::Code;
    use kmsfs_kms::api::Tag;

    const PREFIX: &str = "arn:aws:kms:us-east-1:000000000000:";

    #[test]
    fn a_key_is_described_as_it_was_made() {
        let (_dir, kms) = kms();
        let tags = vec![Tag { key: "for".into(), value: "M".into() }];
        let new = NewKey { description: "for M".into(), tags: tags.clone(), ..NewKey::default() };
        let made = kms.administer(CALLER).create_key(&new).unwrap();
        assert_eq!(made.arn, format!("{PREFIX}key/{}", made.key_id));
        assert_eq!((made.description.as_str(), made.account_id.as_str()), ("for M", "000000000000"));
        assert_eq!(
            (made.state, made.origin, made.manager),
            (KeyState::Enabled, KeyOrigin::AwsKms, KeyManager::Customer)
        );
        let admin = kms.administer(CALLER);
        assert_eq!(admin.list_resource_tags(&made.key_id, &PageRequest::default()).unwrap().entries, tags);
        assert_eq!(kms.describe_key(&made.key_id).unwrap(), made);
        kms.set_enabled(&made.key_id, false).unwrap();
        assert_eq!(kms.describe_key(&made.arn).unwrap(), KeyMetadata { state: KeyState::Disabled, ..made.clone() });
        kms.set_enabled(&made.arn, false).unwrap();
        kms.set_enabled(&made.arn, true).unwrap();
        assert_eq!(kms.describe_key(&made.arn).unwrap(), made);
        admin.update_key_description(&made.arn, "for Q").unwrap();
        assert_eq!(kms.describe_key(&made.arn).unwrap().description, "for Q");
    }

    #[test]
    fn a_description_has_8192_characters_at_most() {
        let (_dir, kms) = kms();
        assert!(kms.create_key(&"é".repeat(8192)).is_ok());
        assert_eq!(code(kms.create_key(&"x".repeat(8193))), Code::Validation);
        assert_eq!(kms.list_keys().unwrap().len(), 1);
    }

    #[test]
    fn aliases_are_listed_by_name_and_by_key() {
        let (_dir, kms) = kms();
        let (one, two) = (kms.create_key("").unwrap(), kms.create_key("").unwrap());
        for (name, key) in [("alias/b", &one), ("alias/a", &two), ("alias/c", &one)] {
            kms.create_alias(name, &key.arn).unwrap();
        }
        let list = |key_id| kms.administer(CALLER).list_aliases(key_id, &PageRequest::default()).unwrap().entries;
        let names = |key_id| list(key_id).into_iter().map(|alias| alias.name).collect::<Vec<_>>();
        assert_eq!(names(None), ["alias/a", "alias/b", "alias/c"]);
        assert_eq!(names(Some(one.key_id.as_str())), ["alias/b", "alias/c"]);
        let by_alias = kms.administer(CALLER).list_aliases(Some("alias/a"), &PageRequest::default());
        assert_eq!(by_alias, Err(Error::new(Code::InvalidKeyId, "Invalid keyId 'alias/a'")));
        let entry = list(Some(&two.arn)).remove(0);
        assert_eq!((entry.arn, entry.key_id), (format!("{PREFIX}alias/a"), two.key_id));
    }

    #[test]
    fn an_alias_is_one_keys_and_not_made_for_what_does_not_exist() {
        let (_dir, kms) = kms();
        let key = kms.create_key("").unwrap().key_id;
        kms.create_alias("alias/x", &key).unwrap();
        let error = kms.create_alias("alias/x", &key).unwrap_err();
        let text = format!("An alias with the name {PREFIX}alias/x already exists");
        assert_eq!(error, Error::new(Code::AlreadyExists, text));
        let unknown = "11111111-2222-3333-4444-555555555555";
        assert_eq!(code(kms.create_alias("alias/y", unknown)), Code::NotFound);
        assert_eq!(code(kms.create_alias("alias/y", "alias/x")), Code::Validation);
        assert_eq!(code(kms.set_enabled(unknown, false)), Code::NotFound);
        let invalid = Error::new(Code::InvalidKeyId, "Invalid keyId 'alias/x'");
        assert_eq!(kms.set_enabled("alias/x", false), Err(invalid));
        let admin = kms.administer(CALLER);
        assert_eq!(admin.list_aliases(None, &PageRequest::default()).unwrap().entries.len(), 1);
    }

    #[test]
    fn an_alias_moves_to_another_key_and_goes() {
        let (_dir, kms) = kms();
        let (one, two) = (kms.create_key("").unwrap(), kms.create_key("").unwrap());
        kms.create_alias("alias/x", &one.arn).unwrap();
        let admin = kms.administer(CALLER);
        admin.update_alias("alias/x", &two.key_id).unwrap();
        assert_eq!(kms.describe_key("alias/x").unwrap().arn, two.arn);
        admin.delete_alias("alias/x").unwrap();
        let missing = Error::new(Code::NotFound, format!("Alias {PREFIX}alias/x is not found."));
        assert_eq!(kms.describe_key("alias/x"), Err(missing.clone()));
        assert_eq!(admin.delete_alias("alias/x"), Err(missing.clone()));
        assert_eq!(admin.update_alias("alias/x", &two.arn), Err(missing));
        assert_eq!(code(admin.delete_alias("alias/aws/s3")), Code::InvalidAliasName);
    }
}
