//! One unlock slot: the root key, wrapped under a key file, a passphrase or a recovery key.

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
    RecoveryKey(SecretKey),
}

impl Unlock {
    /// What a new slot with it is to cost; measured where it costs anything.
    pub fn cost(&self) -> Cost {
        match self {
            Self::Passphrase(_) => Cost::for_this_machine(),
            Self::KeyFile(_) | Self::RecoveryKey(_) => Cost { memory_kib: 0, passes: 0, lanes: 0 },
        }
    }
}

/// Further members, a name or a date, are passed over.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Slot {
    KeyFile { root_key: String },
    Passphrase { memory_kib: u32, passes: u32, lanes: u32, salt: String, root_key: String },
    RecoveryKey { root_key: String },
}

/// What a slot tells without being opened. Only that it opens is authenticated: name and date are what the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotInfo {
    pub number: u32,
    /// One that this version does not know is a later one's.
    pub kind: String,
    pub name: Option<String>,
    /// Nanoseconds since 1970; the first slots do not say it.
    pub created: Option<i64>,
    /// Of a passphrase.
    pub cost: Option<Cost>,
}

const KEY_FILE: &[u8] = b"kmsfs slot key-file";
const RECOVERY_KEY: &[u8] = b"kmsfs slot recovery-key";

impl Slot {
    pub fn new(root: &SecretKey, unlock: &Unlock, cost: Cost) -> Result<Self, OpenError> {
        match unlock {
            Unlock::KeyFile(key) => Ok(Self::KeyFile { root_key: hex::encode(envelope::wrap(key, root, KEY_FILE)) }),
            Unlock::RecoveryKey(key) => {
                Ok(Self::RecoveryKey { root_key: hex::encode(envelope::wrap(key, root, RECOVERY_KEY)) })
            }
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
    pub fn open(&self, unlock: &Unlock) -> Result<Option<SecretKey>, OpenError> {
        match (self, unlock) {
            (Self::KeyFile { root_key }, Unlock::KeyFile(key)) => Ok(unwrap(key, root_key, KEY_FILE)),
            (Self::RecoveryKey { root_key }, Unlock::RecoveryKey(key)) => Ok(unwrap(key, root_key, RECOVERY_KEY)),
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

impl SlotInfo {
    pub fn of(number: u32, slot: &Value) -> Self {
        let cost = match Slot::deserialize(slot) {
            Ok(Slot::Passphrase { memory_kib, passes, lanes, .. }) => Some(Cost { memory_kib, passes, lanes }),
            _ => None,
        };
        Self {
            number,
            kind: slot["kind"].as_str().unwrap_or("unknown").to_owned(),
            name: slot["name"].as_str().map(str::to_owned),
            created: slot["created"].as_i64(),
            cost,
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

fn bound_to(cost: Cost) -> Vec<u8> {
    let Cost { memory_kib, passes, lanes } = cost;
    let numbers = [memory_kib, passes, lanes].map(u32::to_le_bytes).concat();
    [&b"kmsfs slot passphrase"[..], &numbers].concat()
}
