//! Aliases. One is resolved when an object is created: moving it re-targets later objects only.

use super::{Administrator, not_pending_deletion};
use crate::keyring::{Alias, Contents};
use crate::lookup::check_alias_name;
use kmsfs_kms::api::AliasEntry;
use kmsfs_kms::api::{Page, PageRequest, validation};
use kmsfs_kms::{Code, Error};

impl Administrator<'_> {
    /// Gives a key another name.
    pub fn create_alias(&self, name: &str, target: &str) -> Result<(), Error> {
        check_alias_name(name)?;
        let now = self.kms.now();
        self.change(|contents, _| {
            let id = self.target(contents, target, "CreateAlias")?;
            if contents.alias(name).is_some() {
                let text = format!("An alias with the name {} already exists", contents.alias_arn(name));
                return Err(Error::new(Code::AlreadyExists, text));
            }
            contents.aliases.push(Alias { name: name.into(), key: id, created: now, updated: now });
            Ok(())
        })
    }

    /// Gives the name to another key.
    pub fn update_alias(&self, name: &str, target: &str) -> Result<(), Error> {
        check_alias_name(name)?;
        let now = self.kms.now();
        self.change(|contents, _| {
            let id = self.target(contents, target, "UpdateAlias")?;
            let missing = not_found(contents, name);
            let before = contents.alias(name).ok_or(missing)?.key;
            self.key(contents, &contents.key_arn(&before), "UpdateAlias")?;
            for alias in contents.aliases.iter_mut().filter(|alias| alias.name == name) {
                (alias.key, alias.updated) = (id, now);
            }
            Ok(())
        })
    }

    /// Takes the name away; the key stays.
    pub fn delete_alias(&self, name: &str) -> Result<(), Error> {
        check_alias_name(name)?;
        self.change(|contents, _| {
            let key = contents.alias(name).ok_or_else(|| not_found(contents, name))?.key;
            self.key(contents, &contents.key_arn(&key), "DeleteAlias")?;
            contents.aliases.retain(|alias| alias.name != name);
            Ok(())
        })
    }

    /// All of them, or those of one key, in order of their names.
    pub fn list_aliases(&self, key_id: Option<&str>, page: &PageRequest) -> Result<Page<AliasEntry>, Error> {
        let entries = self.ask(|contents| {
            let only = match key_id {
                Some(key_id) => Some(self.key_not_alias(contents, key_id, "ListAliases")?.id),
                None => None,
            };
            let wanted = contents.aliases.iter().filter(|alias| only.is_none_or(|only| alias.key == only));
            let mut entries: Vec<_> = wanted.map(|alias| entry(contents, alias)).collect();
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(entries)
        })?;
        page.of(entries)
    }

    fn target(&self, contents: &Contents, target: &str, action: &str) -> Result<[u8; 16], Error> {
        if target.starts_with("alias/") || target.contains(":alias/") {
            return Err(Error::new(Code::Validation, "Aliases must refer to keys. Not aliases"));
        }
        validation::length(target.len(), target, "targetKeyId", 1..=2048)?;
        let key = self.key(contents, target, action)?;
        not_pending_deletion(contents, key)?;
        Ok(key.id)
    }
}

fn not_found(contents: &Contents, name: &str) -> Error {
    Error::new(Code::NotFound, format!("Alias {} is not found.", contents.alias_arn(name)))
}

fn entry(contents: &Contents, alias: &Alias) -> AliasEntry {
    AliasEntry {
        name: alias.name.clone(),
        arn: contents.alias_arn(&alias.name),
        key_id: contents.key_id(&alias.key),
        created: alias.created,
        updated: alias.updated,
    }
}
