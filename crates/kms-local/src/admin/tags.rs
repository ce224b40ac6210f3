//! Tags of keys.

use super::{Administrator, not_pending_deletion};
use crate::keyring::Contents;
use kmsfs_kms::api::Tag;
use kmsfs_kms::api::{Page, PageRequest, validation};
use kmsfs_kms::{Code, Error};

/// Tags of one key, at most.
const MOST: usize = 50;
const ATTRIBUTE: &str = "tags";

impl Administrator<'_> {
    /// Adds tags, or gives those that are there another value.
    pub fn tag_resource(&self, key_id: &str, tags: &[Tag]) -> Result<(), Error> {
        check(tags)?;
        self.change(|contents, _| {
            let key = self.customer_key(contents, key_id, "TagResource")?;
            not_pending_deletion(contents, key)?;
            let id = key.id;
            let mut all = of(contents, &id);
            for tag in tags {
                match all.iter_mut().find(|there| there.key == tag.key) {
                    Some(there) => there.value.clone_from(&tag.value),
                    None => all.push(tag.clone()),
                }
            }
            put(contents, &id, &all)
        })
    }

    /// Takes tags of those names away.
    pub fn untag_resource(&self, key_id: &str, keys: &[String]) -> Result<(), Error> {
        self.change(|contents, _| {
            let key = self.customer_key(contents, key_id, "UntagResource")?;
            not_pending_deletion(contents, key)?;
            let id = key.id;
            let mut all = of(contents, &id);
            all.retain(|tag| !keys.contains(&tag.key));
            put(contents, &id, &all)
        })
    }

    /// The key's tags.
    pub fn list_resource_tags(&self, key_id: &str, page: &PageRequest) -> Result<Page<Tag>, Error> {
        let tags = self.ask(|contents| {
            let key = self.key_not_alias(contents, key_id, "ListResourceTags")?;
            Ok(of(contents, &key.id))
        })?;
        page.of(tags)
    }
}

pub(super) fn of(contents: &Contents, id: &[u8; 16]) -> Vec<Tag> {
    contents.json(id, ATTRIBUTE).unwrap_or_default()
}

pub(super) fn put(contents: &mut Contents, id: &[u8; 16], tags: &[Tag]) -> Result<(), Error> {
    if tags.len() > MOST {
        return Err(Error::new(Code::Tag, format!("The maximum number of tags for a resource is {MOST}")));
    }
    contents.set_json(id, ATTRIBUTE, (!tags.is_empty()).then_some(&tags));
    Ok(())
}

pub(super) fn check(tags: &[Tag]) -> Result<(), Error> {
    for (n, tag) in tags.iter().enumerate() {
        let member = |what: &str| format!("tags.{}.member.{what}", n + 1);
        validation::length(tag.key.chars().count(), &tag.key, &member("tagKey"), 1..=128)?;
        validation::length(tag.value.chars().count(), &tag.value, &member("tagValue"), 0..=256)?;
        if tag.key.starts_with("aws:") {
            return Err(Error::new(Code::Tag, "Tag keys cannot begin with aws:"));
        }
        if tags[..n].iter().any(|other| other.key == tag.key) {
            return Err(Error::new(Code::Tag, format!("Duplicate tag key: {}", tag.key)));
        }
    }
    Ok(())
}
