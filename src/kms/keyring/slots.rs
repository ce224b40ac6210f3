//! Unlock slots, as LUKS has them: each wraps the root key under a key file or a passphrase.

use super::{OpenError, unhex};
use crate::crypto::passphrase::{Cost, stretch};
use crate::crypto::{SecretKey, envelope};
use serde::{Deserialize, Serialize};
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
    #[serde(rename = "slots")]
    list: Vec<Slot>,
    /// CRC-32 of the list as `encode` writes it: tells damage from a wrong key. What a slot says is authenticated by its
    /// wrapped root key.
    crc32: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Slot {
    KeyFile { root_key: String },
    Passphrase { memory_kib: u32, passes: u32, lanes: u32, salt: String, root_key: String },
}

const VERSION: u16 = 1;
const KEY_FILE: &[u8] = b"kmsfs slot key-file";

impl Slots {
    /// One slot, for a new root key.
    pub fn new(root: &SecretKey, unlock: &Unlock, cost: Cost) -> Result<Self, OpenError> {
        let slots = vec![Slot::new(root, unlock, cost)?];
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
        Ok(slots)
    }

    /// The root key, from the first slot that opens.
    pub fn open(&self, unlock: &Unlock) -> Result<SecretKey, OpenError> {
        self.list.iter().find_map(|slot| slot.open(unlock)).ok_or(OpenError::WrongKey)
    }
}

impl Slot {
    fn new(root: &SecretKey, unlock: &Unlock, cost: Cost) -> Result<Self, OpenError> {
        match unlock {
            Unlock::KeyFile(key) => Ok(Self::KeyFile { root_key: hex::encode(envelope::wrap(key, root, KEY_FILE)) }),
            Unlock::Passphrase(passphrase) => {
                let salt: [u8; 16] = rand::random();
                let key = stretch(passphrase, &salt, cost)
                    .map_err(|_| OpenError::Other("this cost of a passphrase cannot be had".into()))?;
                let Cost { memory_kib, passes, lanes } = cost;
                let root_key = hex::encode(envelope::wrap(&key, root, &bound_to(cost)));
                Ok(Self::Passphrase { memory_kib, passes, lanes, salt: hex::encode(salt), root_key })
            }
        }
    }

    fn open(&self, unlock: &Unlock) -> Option<SecretKey> {
        match (self, unlock) {
            (Self::KeyFile { root_key }, Unlock::KeyFile(key)) => {
                envelope::unwrap(key, &unhex(root_key)?, KEY_FILE).ok()
            }
            (Self::Passphrase { memory_kib, passes, lanes, salt, root_key }, Unlock::Passphrase(passphrase)) => {
                let cost = Cost { memory_kib: *memory_kib, passes: *passes, lanes: *lanes };
                let key = stretch(passphrase, &unhex(salt)?.try_into().ok()?, cost).ok()?;
                envelope::unwrap(&key, &unhex(root_key)?, &bound_to(cost)).ok()
            }
            _ => None,
        }
    }
}

fn checksum(slots: &[Slot]) -> u32 {
    crc32fast::hash(&serde_json::to_vec(slots).expect("numbers and strings can be serialized"))
}

fn bound_to(cost: Cost) -> Vec<u8> {
    let Cost { memory_kib, passes, lanes } = cost;
    let numbers = [memory_kib, passes, lanes].map(u32::to_le_bytes).concat();
    [&b"kmsfs slot passphrase"[..], &numbers].concat()
}
