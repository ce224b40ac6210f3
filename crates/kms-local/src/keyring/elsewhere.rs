//! Keys of other KMSs of which something is kept here: what is kept is attributes and aliases of an id, as of any key,
//! and this says which key the id stands for.

use super::contents::Key;
use kmsfs_kms::api::KeyManager;
use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use uuid::Uuid;

/// In the order in which they came. Each has an id of its own here, and no material.
#[derive(Debug, Clone, Default)]
pub(super) struct KeysElsewhere(Vec<(String, Key)>);

/// As the keyring keeps one, in JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Kept {
    arn: String,
    id: String,
    /// Nanoseconds since 1970.
    noted: i64,
}

impl KeysElsewhere {
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.iter().map(|(_, key)| key)
    }

    pub(super) fn of(&self, arn: &str) -> Option<&Key> {
        self.0.iter().find(|(known, _)| known == arn).map(|(_, key)| key)
    }

    pub(super) fn arn(&self, id: &[u8; 16]) -> Option<&str> {
        self.0.iter().find(|(_, key)| key.id == *id).map(|(arn, _)| arn.as_str())
    }

    /// Returns whether it is new.
    pub(super) fn note(&mut self, arn: &str, now: i64) -> bool {
        let is_new = self.of(arn).is_none();
        if is_new {
            self.0.push((arn.to_owned(), Key::new("", KeyManager::Customer, now)));
        }
        is_new
    }

    /// Returns whether one has gone.
    pub(super) fn retain(&mut self, keep: impl Fn(&[u8; 16]) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|(_, key)| keep(&key.id));
        self.0.len() < before
    }

    /// Nothing for none.
    pub(super) fn encode(&self) -> Vec<u8> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let kept = |(arn, key): &(String, Key)| Kept {
            arn: arn.clone(),
            id: Uuid::from_bytes(key.id).to_string(),
            noted: key.created,
        };
        let all: Vec<_> = self.0.iter().map(kept).collect();
        serde_json::to_vec(&all).expect("strings and numbers can be serialized")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let all: Vec<Kept> = serde_json::from_slice(bytes)?;
        let key = |Kept { arn, id, noted }: Kept| {
            let id = Uuid::try_parse(&id).map_err(serde_json::Error::custom)?.into_bytes();
            Ok((arn, Key { id, ..Key::new("", KeyManager::Customer, noted) }))
        };
        let all: Vec<(String, Key)> = all.into_iter().map(key).collect::<Result<_, _>>()?;
        let arns: HashSet<_> = all.iter().map(|(arn, _)| arn).collect();
        let ids: HashSet<_> = all.iter().map(|(_, key)| key.id).collect();
        if arns.len() < all.len() || ids.len() < all.len() {
            return Err(serde_json::Error::custom("one is there twice"));
        }
        Ok(Self(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_elsewhere_are_kept_as_docs_format_has_them() {
        let text = concat!(
            r#"[{"Arn":"arn:aws:kms:ap-south-1:444455556666:key/k","#,
            r#""Id":"11111111-2222-3333-4444-555555555555","Noted":5}]"#
        );
        let mut keys = KeysElsewhere::decode(text.as_bytes()).unwrap();
        assert_eq!(keys.encode(), text.as_bytes());
        let id = keys.of("arn:aws:kms:ap-south-1:444455556666:key/k").unwrap().id;
        assert_eq!(keys.arn(&id), Some("arn:aws:kms:ap-south-1:444455556666:key/k"));
        assert!(!keys.note("arn:aws:kms:ap-south-1:444455556666:key/k", 7), "it is there");
        assert!(keys.note("arn:aws:kms:ap-south-1:444455556666:key/other", 7));
        assert!(keys.retain(|kept| *kept == id) && !keys.retain(|kept| *kept == id));
        assert_eq!(keys.encode(), text.as_bytes());
        assert!(keys.retain(|_| false));
        assert_eq!(keys.encode(), Vec::<u8>::new());
        let entry = &text[1..text.len() - 1];
        assert!(KeysElsewhere::decode(format!("[{entry},{entry}]").as_bytes()).is_err());
        assert!(KeysElsewhere::decode(text.replace("Noted", "More").as_bytes()).is_err());
    }
}
