//! What a keyring holds. Key material is in it wrapped, never in the clear, not even in memory that is serialized.

use super::OpenError;
use super::access_keys::AccessKey;
use super::elsewhere::KeysElsewhere;
use super::lasting::Lasting;
use super::material::Material;
use super::shred::{Sector, Wrapping};
use crate::authorization::Rules;
use bincode::Options;
use kmsfs_crypto::{SecretKey, random};
use kmsfs_kms::api::{KeyManager, KeyOrigin, KeyState, KeyStore};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Of the bytes below. In the first keyrings material had no secret of its own.
pub const VERSION: u16 = 2;
/// Bytes of the contents. A key takes about 150 and its description, which has 8192 characters at most.
const MOST: u64 = 64 << 20;

/// What is fixed when a keyring is made: whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyringParameters {
    /// The store that it belongs to.
    pub store_id: [u8; 16],
    /// Twelve digits.
    pub account_id: String,
    /// Of its ARNs.
    pub region: String,
}

/// What the other fields have no room for (a later kmsfs may keep policies, deletion dates, tags), by what it is of, a
/// key's or a material's id or `KEYRING`, and a name. A kmsfs that does not know one refuses the keyring: a policy that
/// is not understood must not be passed over.
type Attributes = BTreeMap<([u8; 16], String), Vec<u8>>;

pub(super) const KEYRING: [u8; 16] = [0; 16];
const STORE_ID: &str = "store-id";
const STORE_FORMAT: &str = "store-format";
const ACCESS_KEYS: &str = "access-keys";
const KEY_STORES: &str = "custom-key-stores";
const KEYS_ELSEWHERE: &str = "keys-elsewhere";
pub(crate) const POLICY: &str = "policy";
pub(crate) const GRANTS: &str = "grants";
pub(crate) const PENDING_MATERIAL: &str = "pending-material";
/// What keys and materials may have: JSON, but for dates.
const OF_KEYS: [&str; 9] =
    ["deletion", "deletion-watch", GRANTS, "imported", PENDING_MATERIAL, POLICY, "rotation", "rotation-type", "tags"];

/// Imported material that waits for its rotation, and what is kept with it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Pending {
    pub material: Material,
    pub known: serde_json::Value,
}

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
    /// Behind the rest, and left out where there are none.
    #[serde(skip)]
    attributes: Attributes,
    /// What the attribute of this name says.
    #[serde(skip)]
    access_keys: Vec<AccessKey>,
    /// Keys of other KMSs of which something is kept here, as the attribute of this name says.
    #[serde(skip)]
    elsewhere: KeysElsewhere,
    /// The same.
    #[serde(skip)]
    key_stores: Vec<KeyStore>,
    /// Policies and grants that were read already.
    #[serde(skip)]
    pub(crate) rules: Rules,
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

impl Contents {
    pub fn new(parameters: &KeyringParameters, wrapping: &Wrapping, now: i64) -> Result<Self, OpenError> {
        let store_id = ((KEYRING, STORE_ID.to_string()), parameters.store_id.to_vec());
        let mut contents = Self {
            account_id: parameters.account_id.clone(),
            region: parameters.region.clone(),
            generation: 1,
            keys: Vec::new(),
            aliases: Vec::new(),
            service: vec![Material::random(wrapping, now)?],
            attributes: Attributes::from([store_id]),
            access_keys: Vec::new(),
            key_stores: Vec::new(),
            elsewhere: KeysElsewhere::default(),
            rules: Rules::default(),
        };
        for which in Lasting::ALL {
            contents.keep(which, &SecretKey::random(), wrapping.root());
        }
        Ok(contents)
    }

    /// The first keyrings do not say it.
    pub fn store_id(&self) -> Option<[u8; 16]> {
        self.attributes.get(&(KEYRING, STORE_ID.to_string()))?[..].try_into().ok()
    }

    /// The format version that the store is known to have at least; 0 if it was never said.
    pub fn store_format(&self) -> u16 {
        let bytes = self.attribute(&KEYRING, STORE_FORMAT).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u16::from_le_bytes)
    }

    pub fn raise_store_format(&mut self, version: u16) {
        let version = version.max(self.store_format());
        self.set_attribute(&KEYRING, STORE_FORMAT, version.to_le_bytes().into());
    }

    /// Refuses the keyring of another store: its keys open nothing there.
    pub fn check_store(&self, store_id: &[u8; 16]) -> Result<(), OpenError> {
        match self.store_id() {
            Some(of) if of != *store_id => {
                let [of, not] = [of, *store_id].map(Uuid::from_bytes);
                Err(OpenError::Other(format!("it belongs to another store: {of}, and this one is {not}")))
            }
            _ => Ok(()),
        }
    }

    pub fn key(&self, id: &[u8; 16]) -> Option<&Key> {
        self.all_keys().find(|key| key.id == *id)
    }

    /// Those of this KMS, and those of others of which something is kept here.
    pub fn all_keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().chain(self.elsewhere.keys())
    }

    /// What is here for a key of another KMS, if something is.
    pub fn elsewhere(&self, arn: &str) -> Option<&Key> {
        self.elsewhere.of(arn)
    }

    pub fn is_elsewhere(&self, id: &[u8; 16]) -> bool {
        self.arn_elsewhere(id).is_some()
    }

    pub fn arn_elsewhere(&self, id: &[u8; 16]) -> Option<&str> {
        self.elsewhere.arn(id)
    }

    /// From here on the key of another KMS can have a policy, grants, tags and aliases.
    pub fn note_elsewhere(&mut self, arn: &str, now: i64) {
        if self.elsewhere.note(arn, now) {
            self.keep_elsewhere();
        }
    }

    /// Keys of other KMSs that have none of these are as if they had never been noted.
    pub fn forget_unused_elsewhere(&mut self) {
        let used: BTreeSet<_> = self.attributes.keys().map(|(of, _)| *of).collect();
        let named: BTreeSet<_> = self.aliases.iter().map(|alias| alias.key).collect();
        if self.elsewhere.retain(|id| used.contains(id) || named.contains(id)) {
            self.keep_elsewhere();
        }
    }

    fn keep_elsewhere(&mut self) {
        let bytes = self.elsewhere.encode();
        self.set_attribute(&KEYRING, KEYS_ELSEWHERE, bytes);
    }

    pub fn alias(&self, name: &str) -> Option<&Alias> {
        self.aliases.iter().find(|alias| alias.name == name)
    }

    pub fn key_mut(&mut self, id: &[u8; 16]) -> Option<&mut Key> {
        self.keys.iter_mut().find(|key| key.id == *id)
    }

    /// A key with its aliases, materials, and everything that was kept of them.
    pub fn remove_key(&mut self, id: &[u8; 16]) {
        let materials: Vec<_> = self.key(id).into_iter().flat_map(|key| &key.materials).map(|one| one.id).collect();
        self.keys.retain(|key| key.id != *id);
        self.aliases.retain(|alias| alias.key != *id);
        self.attributes.retain(|(of, _), _| of != id && !materials.contains(of));
    }

    pub fn attribute(&self, of: &[u8; 16], name: &str) -> Option<&[u8]> {
        self.attributes.get(&(*of, name.to_string())).map(Vec::as_slice)
    }

    /// No bytes: it is left out.
    pub fn set_attribute(&mut self, of: &[u8; 16], name: &str, bytes: Vec<u8>) {
        self.rules = Rules::default();
        if bytes.is_empty() {
            self.attributes.remove(&(*of, name.to_string()));
        } else {
            self.attributes.insert((*of, name.to_string()), bytes);
        }
    }

    /// An attribute that is JSON.
    pub fn json<T: for<'de> Deserialize<'de>>(&self, of: &[u8; 16], name: &str) -> Option<T> {
        serde_json::from_slice(self.attribute(of, name)?).ok()
    }

    pub fn set_json<T: Serialize>(&mut self, of: &[u8; 16], name: &str, value: Option<&T>) {
        let bytes = value.map(|value| serde_json::to_vec(value).expect("strings and numbers can be serialized"));
        self.set_attribute(of, name, bytes.unwrap_or_default());
    }

    /// The oldest first.
    pub fn access_keys(&self) -> &[AccessKey] {
        &self.access_keys
    }

    pub fn set_access_keys(&mut self, keys: Vec<AccessKey>) {
        self.set_json(&KEYRING, ACCESS_KEYS, (!keys.is_empty()).then_some(&keys));
        self.access_keys = keys;
    }

    /// The oldest first.
    pub fn key_stores(&self) -> &[KeyStore] {
        &self.key_stores
    }

    pub fn set_key_stores(&mut self, stores: Vec<KeyStore>) {
        self.set_json(&KEYRING, KEY_STORES, (!stores.is_empty()).then_some(&stores));
        self.key_stores = stores;
    }

    /// Key materials as they are wrapped: what must be nowhere once it was destroyed.
    pub fn wrapped_materials(&self) -> BTreeSet<Vec<u8>> {
        self.materials().filter(Material::is_there).map(|material| material.wrapped).collect()
    }

    /// Sectors of `shred` that materials name.
    pub fn sectors(&self) -> BTreeSet<Sector> {
        self.materials().filter_map(|material| material.sector()).collect()
    }

    /// Those that wait for their rotation too, and those of access keys.
    fn materials(&self) -> impl Iterator<Item = Material> {
        let of_access_keys = self.access_keys.iter().map(|key| &key.material);
        let of_keys = self.keys.iter().flat_map(|key| &key.materials);
        let materials = of_keys.chain(&self.service).chain(of_access_keys).cloned();
        let pending = self.keys.iter().filter_map(|key| self.json::<Pending>(&key.id, PENDING_MATERIAL));
        materials.chain(pending.map(|pending| pending.material))
    }

    /// Wraps every material and what else is wrapped anew: materials in sectors of their own.
    pub fn rewrap(&mut self, from: &Wrapping, to: &Wrapping) -> Result<(), OpenError> {
        let lasting: Vec<_> = Lasting::ALL.into_iter().map(|which| (which, self.lasting(which, from.root()))).collect();
        for (which, key) in lasting {
            self.keep(which, &key?, to.root());
        }
        let mut materials = self.keys.iter_mut().flat_map(|key| &mut key.materials).chain(&mut self.service);
        materials.try_for_each(|material| material.rewrap(from, to))?;
        for id in self.keys.iter().map(|key| key.id).collect::<Vec<_>>() {
            let Some(mut pending) = self.json::<Pending>(&id, PENDING_MATERIAL) else { continue };
            pending.material.rewrap(from, to)?;
            self.set_json(&id, PENDING_MATERIAL, Some(&pending));
        }
        let mut access_keys = self.access_keys.clone();
        access_keys.iter_mut().try_for_each(|key| key.material.rewrap(from, to))?;
        self.set_access_keys(access_keys);
        Ok(())
    }

    /// Whether a material is the service's, an enabled key's or an active access key's.
    pub fn may_use(&self, material: &[u8; 16]) -> bool {
        let enabled = self.keys.iter().filter(|key| key.state == KeyState::Enabled);
        let active = self.access_keys.iter().filter(|key| key.is_active());
        let usable = enabled.flat_map(|key| &key.materials).chain(&self.service);
        usable.chain(active.map(|key| &key.material)).any(|usable| usable.id == *material)
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, OpenError> {
        // Serializing into memory fails only past the limit.
        let bytes = if self.attributes.is_empty() {
            encoding().serialize(self)
        } else {
            encoding().serialize(&(self, &self.attributes))
        };
        bytes.map_err(|_| OpenError::Other(format!("it would be larger than {MOST} bytes")))
    }

    /// Only what `encode` writes: no empty list of attributes, nothing twice or in another order.
    pub(crate) fn decode(all: &[u8]) -> Result<Self, OpenError> {
        let mut bytes = all;
        let fail = |error: bincode::Error| OpenError::Other(format!("its contents do not decode: {error}"));
        let mut contents: Self = encoding().deserialize_from(&mut bytes).map_err(fail)?;
        if !bytes.is_empty() {
            contents.attributes = encoding().deserialize(bytes).map_err(fail)?;
        }
        let is_known = |(of, name): &&([u8; 16], String)| {
            if *of == KEYRING {
                [STORE_ID, STORE_FORMAT, ACCESS_KEYS, KEY_STORES, KEYS_ELSEWHERE].contains(&name.as_str())
                    || Lasting::ALL.iter().any(|which| which.name() == name)
            } else {
                OF_KEYS.contains(&name.as_str())
            }
        };
        if let Some((_, name)) = contents.attributes.keys().find(|key| !is_known(key)) {
            return Err(OpenError::Other(format!(
                "it has '{name}', which this kmsfs does not know: use a newer kmsfs"
            )));
        }
        if let Some(keys) = contents.attribute(&KEYRING, ACCESS_KEYS) {
            contents.access_keys = serde_json::from_slice(keys).map_err(|error| {
                OpenError::Other(format!("its access keys are none that this kmsfs knows, use a newer one: {error}"))
            })?;
        }
        if let Some(keys) = contents.attribute(&KEYRING, KEYS_ELSEWHERE) {
            contents.elsewhere = KeysElsewhere::decode(keys).map_err(|error| {
                OpenError::Other(format!("its keys of other KMSs are none that this kmsfs knows: {error}"))
            })?;
        }
        if let Some(stores) = contents.attribute(&KEYRING, KEY_STORES) {
            contents.key_stores = serde_json::from_slice(stores).map_err(|error| {
                let text = "its custom key stores are none that this kmsfs knows, use a newer one";
                OpenError::Other(format!("{text}: {error}"))
            })?;
        }
        if contents.encode()? != all {
            return Err(OpenError::Other("its contents are not in the order in which they are written".into()));
        }
        Ok(contents)
    }
}

impl Key {
    /// Without material.
    pub fn new(description: &str, manager: KeyManager, now: i64) -> Self {
        Self {
            id: random::uuid().into_bytes(),
            description: description.into(),
            created: now,
            state: KeyState::Enabled,
            manager,
            origin: KeyOrigin::AwsKms,
            materials: Vec::new(),
        }
    }

    pub fn newest(&self) -> Option<&Material> {
        self.materials.last()
    }
}

fn encoding() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().with_little_endian().reject_trailing_bytes().with_limit(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmsfs_crypto::{SecretKey, envelope};
    use std::sync::Arc;

    /// As docs/FORMAT.md has them.
    #[test]
    fn the_bytes_are_those_of_the_format() {
        let material = |byte: u8| Material { id: [byte; 16], created: 5, wrapped: vec![byte + 1; envelope::LEN] };
        let mut contents = Contents {
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
            attributes: Attributes::new(),
            access_keys: Vec::new(),
            key_stores: Vec::new(),
            elsewhere: KeysElsewhere::default(),
            rules: Rules::default(),
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
        let decoded = |bytes: &[u8]| Contents::decode(bytes).map(|contents| contents.encode().unwrap());
        assert_eq!(contents.encode().unwrap(), expected);
        assert_eq!(decoded(&expected).unwrap(), expected);
        let attributes = [number(1), vec![0; 16], text("store-id"), number(16), vec![6; 16]].concat();
        contents.attributes.insert((KEYRING, STORE_ID.into()), vec![6; 16]);
        let longer = [&expected[..], &attributes].concat();
        assert_eq!(contents.encode().unwrap(), longer);
        assert_eq!(decoded(&longer).unwrap(), longer);
        assert_eq!(Contents::decode(&longer).unwrap().store_id(), Some([6; 16]));
        assert_eq!(Contents::decode(&expected).unwrap().store_id(), None);
        assert!(Contents::decode(&[&longer[..], &[0]].concat()).is_err());
        assert!(Contents::decode(&[&expected[..], &number(0)].concat()).is_err(), "no attributes, and a list of them");
        for len in (0..longer.len()).filter(|&len| len != expected.len()) {
            assert!(Contents::decode(&longer[..len]).is_err(), "{len} bytes");
        }
    }

    fn contents() -> Contents {
        let (account_id, region) = ("000000000000".into(), "us-east-1".into());
        // Nothing is written there.
        let wrapping = Wrapping::new(Arc::new(SecretKey::random()), "/nonexistent".as_ref());
        Contents::new(&KeyringParameters { store_id: [1; 16], account_id, region }, &wrapping, 0).unwrap()
    }

    #[test]
    fn what_a_later_version_keeps_is_refused_by_its_name() {
        let mut contents = contents();
        assert!(Contents::decode(&contents.encode().unwrap()).is_ok());
        for of in [KEYRING, [7; 16]] {
            let name = if of == KEYRING { "rotation" } else { STORE_ID };
            contents.attributes.insert((of, name.into()), vec![1]);
            let text = format!("it has '{name}', which this kmsfs does not know: use a newer kmsfs");
            let error = Contents::decode(&contents.encode().unwrap()).err();
            assert_eq!(error, Some(OpenError::Other(text)));
            contents.attributes.remove(&(of, name.into()));
        }
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_written() {
        let mut contents = contents();
        contents.keys.push(Key::new(&"x".repeat(MOST as usize), KeyManager::Customer, 0));
        let text = format!("it would be larger than {MOST} bytes");
        assert_eq!(contents.encode(), Err(OpenError::Other(text)));
    }
}
