//! What a keyring holds. Key material is in it wrapped under the root key, never in the clear, not even in memory that
//! is serialized.

use super::OpenError;
use crate::crypto::{SecretKey, envelope};
use bincode::Options;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Of the bytes below.
pub const VERSION: u16 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Contents {
    pub account_id: String,
    pub region: String,
    /// Grows by one with each change.
    pub generation: u64,
    pub keys: Vec<Key>,
    /// Alias name (`alias/...`), the key's id, creation and last update.
    pub aliases: Vec<Alias>,
    /// Material of the service's own key (SSE-S3), the newest last.
    pub service: Vec<Material>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Key {
    pub id: [u8; 16],
    pub description: String,
    /// Nanoseconds since 1970.
    pub created: i64,
    pub state: KeyState,
    pub manager: KeyManager,
    pub origin: KeyOrigin,
    /// The newest last; old ones stay for decryption.
    pub materials: Vec<Material>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Alias {
    pub name: String,
    pub key: [u8; 16],
    pub created: i64,
    pub updated: i64,
}

/// One generation of a key's secret, wrapped under the root key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Material {
    pub id: [u8; 16],
    pub created: i64,
    wrapped: Vec<u8>,
}

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

impl Contents {
    pub fn new(account_id: &str, region: &str, root: &SecretKey, now: i64) -> Self {
        Self {
            account_id: account_id.into(),
            region: region.into(),
            generation: 1,
            keys: Vec::new(),
            aliases: Vec::new(),
            service: vec![Material::random(root, now)],
        }
    }

    pub fn key(&self, id: &[u8; 16]) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == *id)
    }

    pub fn alias(&self, name: &str) -> Option<&Alias> {
        self.aliases.iter().find(|alias| alias.name == name)
    }

    /// Whether a material is the service's or an enabled key's.
    pub fn may_use(&self, material: &[u8; 16]) -> bool {
        let enabled = self.keys.iter().filter(|key| key.state == KeyState::Enabled);
        let mut usable = enabled.flat_map(|key| &key.materials).chain(&self.service);
        usable.any(|usable| usable.id == *material)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        // Serializing into memory fails only past the limit, which is beyond any keyring.
        encoding().serialize(self).expect("a keyring can be serialized")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        encoding().deserialize(bytes).map_err(|error| OpenError::Other(format!("its contents do not decode: {error}")))
    }
}

impl Key {
    pub fn new(description: &str, manager: KeyManager, root: &SecretKey, now: i64) -> Self {
        Self {
            id: Uuid::new_v4().into_bytes(),
            description: description.into(),
            created: now,
            state: KeyState::Enabled,
            manager,
            origin: KeyOrigin::AwsKms,
            materials: vec![Material::random(root, now)],
        }
    }

    pub fn newest(&self) -> Option<&Material> {
        self.materials.last()
    }
}

impl Material {
    pub fn random(root: &SecretKey, now: i64) -> Self {
        let id: [u8; 16] = rand::random();
        Self { id, created: now, wrapped: envelope::wrap(root, &SecretKey::random(), &bound_to(&id)) }
    }

    pub fn unwrap(&self, root: &SecretKey) -> Option<SecretKey> {
        envelope::unwrap(root, &self.wrapped, &bound_to(&self.id)).ok()
    }
}

fn bound_to(id: &[u8; 16]) -> Vec<u8> {
    [&b"kmsfs material"[..], id].concat()
}

fn encoding() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
        .reject_trailing_bytes()
        .with_limit(64 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As docs/FORMAT.md has them.
    #[test]
    fn the_bytes_are_those_of_the_format() {
        let material = |byte: u8| Material { id: [byte; 16], created: 5, wrapped: vec![byte + 1; envelope::LEN] };
        let contents = Contents {
            account_id: "000000000000".into(),
            region: "us-east-1".into(),
            generation: 7,
            keys: vec![Key {
                id: [1; 16],
                description: "mine".into(),
                created: -1,
                state: KeyState::PendingDeletion,
                manager: KeyManager::Customer,
                origin: KeyOrigin::External,
                materials: vec![material(2)],
            }],
            aliases: vec![Alias { name: "alias/x".into(), key: [1; 16], created: 3, updated: 4 }],
            service: vec![material(8)],
        };
        let number = |number: u64| number.to_le_bytes().to_vec();
        let text = |text: &str| [number(text.len() as u64), text.into()].concat();
        let material = |byte: u8| [vec![byte; 16], number(5), number(64), vec![byte + 1; 64]].concat();
        let expected = [
            text("000000000000"),
            text("us-east-1"),
            number(7),
            number(1),
            vec![1; 16],
            text("mine"),
            vec![0xff; 8],
            vec![2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0],
            number(1),
            material(2),
            number(1),
            text("alias/x"),
            vec![1; 16],
            number(3),
            number(4),
            number(1),
            material(8),
        ]
        .concat();
        assert_eq!(contents.encode(), expected);
        assert_eq!(Contents::decode(&expected).unwrap().encode(), expected);
        assert!(Contents::decode(&[&expected[..], &[0]].concat()).is_err());
        for len in 0..expected.len() {
            assert!(Contents::decode(&expected[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_material_opens_under_its_own_root_key_and_id_only() {
        let (root, other) = (SecretKey::random(), SecretKey::random());
        let material = Material::random(&root, 0);
        assert!(material.unwrap(&root).is_some());
        assert!(material.unwrap(&other).is_none());
        assert!(Material { id: [0; 16], ..material }.unwrap(&root).is_none());
    }
}
