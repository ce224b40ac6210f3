//! Unlock slots, as LUKS has them: each wraps the root key under a key file or a passphrase.

use super::{OpenError, unhex};
use crate::crypto::passphrase::{Cost, stretch};
use crate::crypto::{SecretKey, envelope};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

/// What opens a slot.
pub enum Unlock {
    KeyFile(SecretKey),
    Passphrase(Zeroizing<Vec<u8>>),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slots {
    version: u16,
    /// As they are in the file: one of a kind that only a later kmsfs knows is passed over, and kept.
    #[serde(rename = "slots")]
    list: Vec<Value>,
    /// CRC-32 of the list as `encode` writes it: tells damage from a wrong key. What a slot says is authenticated by its
    /// wrapped root key.
    crc32: u32,
}

/// Further members, a name or a date, are passed over.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Slot {
    KeyFile { root_key: String },
    Passphrase { memory_kib: u32, passes: u32, lanes: u32, salt: String, root_key: String },
}

const VERSION: u16 = 1;
const KEY_FILE: &[u8] = b"kmsfs slot key-file";

impl Slots {
    /// One slot, for a new root key.
    pub fn new(root: &SecretKey, unlock: &Unlock, cost: Cost) -> Result<Self, OpenError> {
        let slot = serde_json::to_value(Slot::new(root, unlock, cost)?).expect("numbers and strings can be serialized");
        let slots = vec![slot];
        Ok(Self { version: VERSION, crc32: checksum(&slots), list: slots })
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and strings can be serialized")
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        #[derive(Deserialize)]
        struct Version {
            version: u16,
        }
        let damaged = |why: String| OpenError::Other(format!("slots.json is damaged: {why}; restore it from a backup"));
        let Version { version } = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if version > VERSION {
            return Err(OpenError::Other(format!(
                "slots.json has version {version} and this kmsfs reads version {VERSION}: use a newer kmsfs"
            )));
        }
        let slots: Self = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if version != VERSION || slots.crc32 != checksum(&slots.list) {
            return Err(damaged("its checksum is wrong".into()));
        }
        // JSON can be written in more than one way: a bit that only changes how is damage too.
        if slots.encode() != bytes {
            return Err(damaged("it is not written as kmsfs does".into()));
        }
        Ok(slots)
    }

    /// The root key, from the first slot that opens.
    pub fn open(&self, unlock: &Unlock) -> Result<SecretKey, OpenError> {
        let mut refused = OpenError::WrongKey;
        for slot in self.list.iter().filter_map(|slot| Slot::deserialize(slot).ok()) {
            match slot.open(unlock) {
                Ok(Some(root)) => return Ok(root),
                Ok(None) => {}
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

impl Slot {
    fn new(root: &SecretKey, unlock: &Unlock, cost: Cost) -> Result<Self, OpenError> {
        match unlock {
            Unlock::KeyFile(key) => Ok(Self::KeyFile { root_key: hex::encode(envelope::wrap(key, root, KEY_FILE)) }),
            Unlock::Passphrase(passphrase) => {
                let salt: [u8; 16] = rand::random();
                let key = stretch(passphrase, &salt, cost).map_err(|_| impossible(cost))?;
                let Cost { memory_kib, passes, lanes } = cost;
                let root_key = hex::encode(envelope::wrap(&key, root, &bound_to(cost)));
                Ok(Self::Passphrase { memory_kib, passes, lanes, salt: hex::encode(salt), root_key })
            }
        }
    }

    /// `None` if this is not what opens it.
    fn open(&self, unlock: &Unlock) -> Result<Option<SecretKey>, OpenError> {
        match (self, unlock) {
            (Self::KeyFile { root_key }, Unlock::KeyFile(key)) => Ok(unwrap(key, root_key, KEY_FILE)),
            (Self::Passphrase { memory_kib, passes, lanes, salt, root_key }, Unlock::Passphrase(passphrase)) => {
                let cost = Cost { memory_kib: *memory_kib, passes: *passes, lanes: *lanes };
                let Some(salt) = unhex(salt).and_then(|salt| salt.try_into().ok()) else { return Ok(None) };
                let key = stretch(passphrase, &salt, cost).map_err(|_| impossible(cost))?;
                Ok(unwrap(&key, root_key, &bound_to(cost)))
            }
            _ => Ok(None),
        }
    }
}

fn unwrap(key: &SecretKey, root_key: &str, bound_to: &[u8]) -> Option<SecretKey> {
    envelope::unwrap(key, &unhex(root_key)?, bound_to).ok()
}

/// Not to be taken for a wrong passphrase.
fn impossible(Cost { memory_kib, passes, .. }: Cost) -> OpenError {
    let what = format!("{memory_kib} KiB of memory and {passes} passes");
    OpenError::Other(format!("to check a passphrase takes {what}, which cannot be had here"))
}

fn checksum(slots: &[Value]) -> u32 {
    crc32fast::hash(&serde_json::to_vec(slots).expect("numbers and strings can be serialized"))
}

fn bound_to(cost: Cost) -> Vec<u8> {
    let Cost { memory_kib, passes, lanes } = cost;
    let numbers = [memory_kib, passes, lanes].map(u32::to_le_bytes).concat();
    [&b"kmsfs slot passphrase"[..], &numbers].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

    fn passphrase() -> Unlock {
        Unlock::Passphrase(Zeroizing::new(b"word".to_vec()))
    }

    /// The file with its slots changed, and a checksum that is right again.
    fn changed(slots: &Slots, change: impl FnOnce(&mut Vec<Value>)) -> Vec<u8> {
        let mut list = slots.list.clone();
        change(&mut list);
        Slots { version: VERSION, crc32: checksum(&list), list }.encode()
    }

    #[test]
    fn slots_and_members_of_a_later_version_are_passed_over_and_kept() {
        let slots = Slots::new(&SecretKey::random(), &passphrase(), CHEAP).unwrap();
        let bytes = changed(&slots, |list| {
            list[0]["name"] = json!("mine");
            list.insert(0, json!({"kind": "recovery-key", "root_key": "00"}));
        });
        let later = Slots::decode(&bytes).unwrap();
        assert!(later.open(&passphrase()).is_ok());
        assert_eq!(later.encode(), bytes);
        let none = Slots::decode(&changed(&slots, |list| list[0]["kind"] = json!("recovery-key"))).unwrap();
        assert_eq!(none.open(&passphrase()).err(), Some(OpenError::WrongKey));
    }

    #[test]
    fn a_passphrase_that_cannot_be_checked_is_not_called_wrong() {
        let slots = Slots::new(&SecretKey::random(), &passphrase(), CHEAP).unwrap();
        let greedy = Slots::decode(&changed(&slots, |list| list[0]["memory_kib"] = json!(u32::MAX))).unwrap();
        let text = "to check a passphrase takes 4294967295 KiB of memory and 1 passes, which cannot be had here";
        assert_eq!(greedy.open(&passphrase()).err(), Some(OpenError::Other(text.into())));
        let cheaper = Slots::decode(&changed(&slots, |list| list[0]["memory_kib"] = json!(32))).unwrap();
        assert_eq!(cheaper.open(&passphrase()).err(), Some(OpenError::WrongKey), "the cost is authenticated");
    }

    #[test]
    fn the_same_json_written_otherwise_is_damage() {
        let slots = Slots::new(&SecretKey::random(), &passphrase(), CHEAP).unwrap();
        let text = String::from_utf8(slots.encode()).unwrap();
        for otherwise in [format!("{text}\n"), text.replacen(':', ": ", 1), text.replacen("kind", "\\u006bind", 1)] {
            let error = Slots::decode(otherwise.as_bytes()).err();
            let why = "slots.json is damaged: it is not written as kmsfs does; restore it from a backup";
            assert_eq!(error, Some(OpenError::Other(why.into())), "{otherwise}");
        }
    }
}
