//! One unlock slot: a key pair under a key file, a passphrase or a recovery key, and the root key sealed to it.

use super::{OpenError, unhex};
use kmsfs_crypto::passphrase::{Cost, stretch};
use kmsfs_crypto::{KeyPair, SecretKey, envelope, random, seal_to};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

/// What opens a slot.
pub enum Unlock {
    /// The key in a key file.
    KeyFile(SecretKey),
    /// What somebody types.
    Passphrase(Zeroizing<Vec<u8>>),
    /// The key that was printed once.
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

/// What unlocks it, and the root key that is sealed to its public key. Slots of the first keyrings have no key pair
/// until they are opened: their root key is wrapped under the secret itself. Further members, a name or a date, are
/// passed over.
#[derive(Serialize, Deserialize)]
pub(crate) struct Slot {
    #[serde(flatten)]
    kind: Kind,
    root_key: String,
    #[serde(flatten)]
    keys: Option<WrittenKeys>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Kind {
    KeyFile,
    Passphrase { memory_kib: u32, passes: u32, lanes: u32, salt: String },
    RecoveryKey,
}

/// Two envelopes under the secret, and what everybody may see.
#[derive(Serialize, Deserialize)]
#[allow(clippy::struct_field_names)] // They are the members' names in slots.json.
struct WrittenKeys {
    public_key: String,
    private_key: String,
    slots_key: String,
}

/// What a slot's secret gives beside the root key, and what follows the root key when it changes.
pub(crate) struct SlotKeys {
    pub pair: KeyPair,
    /// The keyring's, by which the slots are known to be made by somebody who had it open.
    pub slots: SecretKey,
}

/// What opening a slot gives.
pub(crate) struct OpenedSlot {
    pub root: SecretKey,
    /// `None` in the first keyrings.
    pub keys: Option<SlotKeys>,
    /// What the slot's keys are wrapped under.
    pub secret: SecretKey,
}

/// What a slot tells without being opened. Only that it opens is authenticated: name and date are what the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotInfo {
    /// It is named by this.
    pub number: u32,
    /// One that this version does not know is a later one's.
    pub kind: String,
    /// What somebody calls it.
    pub name: Option<String>,
    /// Nanoseconds since 1970; the first slots do not say it.
    pub created: Option<i64>,
    /// Of a passphrase.
    pub cost: Option<Cost>,
}

const ROOT_KEY: &[u8] = b"kmsfs slot root key";

impl Slot {
    /// A slot, its keys, and what they are wrapped under; the root key is still to be sealed to it.
    pub(crate) fn new(unlock: &Unlock, cost: Cost, slots: &SecretKey) -> Result<(Self, SlotKeys), OpenError> {
        let kind = match unlock {
            Unlock::KeyFile(_) => Kind::KeyFile,
            Unlock::RecoveryKey(_) => Kind::RecoveryKey,
            Unlock::Passphrase(_) => {
                let Cost { memory_kib, passes, lanes } = cost;
                let salt: [u8; 16] = random::bytes();
                Kind::Passphrase { memory_kib, passes, lanes, salt: hex::encode(salt) }
            }
        };
        let secret = kind.secret(unlock)?.ok_or(OpenError::WrongKey)?;
        let mut slot = Self { kind, root_key: String::new(), keys: None };
        let keys = slot.give_keys(&secret, slots);
        Ok((slot, keys))
    }

    /// A key pair of its own; the root key is still to be sealed to it.
    pub(crate) fn give_keys(&mut self, secret: &SecretKey, slots: &SecretKey) -> SlotKeys {
        let pair = KeyPair::random();
        let wrap = |key, what| hex::encode(envelope::wrap(secret, key, &self.kind.bound_to(what)));
        self.keys = Some(WrittenKeys {
            public_key: hex::encode(pair.public()),
            private_key: wrap(pair.private(), PRIVATE_KEY),
            slots_key: wrap(slots, SLOTS_KEY),
        });
        SlotKeys { pair, slots: slots.duplicate() }
    }

    /// False where it has no public key yet, or one that is none.
    pub(crate) fn seal_root(&mut self, root: &SecretKey) -> bool {
        let public = self.keys.as_ref().and_then(|keys| unhex(&keys.public_key)?.try_into().ok());
        let sealed = public.and_then(|public| seal_to(&public, root, ROOT_KEY).ok());
        sealed.map(|sealed| self.root_key = hex::encode(sealed)).is_some()
    }

    pub(crate) fn root_key(&self) -> &str {
        &self.root_key
    }

    /// `None` if this is not what opens it.
    pub(crate) fn open(&self, unlock: &Unlock) -> Result<Option<OpenedSlot>, OpenError> {
        match self.kind.secret(unlock)? {
            Some(secret) => self.open_with(secret),
            None => Ok(None),
        }
    }

    pub(crate) fn open_with(&self, secret: SecretKey) -> Result<Option<OpenedSlot>, OpenError> {
        let unwrap = |text: &str, what| envelope::unwrap(&secret, &unhex(text)?, &self.kind.bound_to(what)).ok();
        let Some(keys) = &self.keys else {
            let root = unwrap(&self.root_key, &[]);
            return Ok(root.map(|root| OpenedSlot { root, keys: None, secret }));
        };
        let Some(private) = unwrap(&keys.private_key, PRIVATE_KEY) else { return Ok(None) };
        let slots = unwrap(&keys.slots_key, SLOTS_KEY).ok_or_else(forged)?;
        let keys = SlotKeys { pair: KeyPair::of(private), slots };
        let root = self.root_for(&keys).ok_or_else(forged)?;
        Ok(Some(OpenedSlot { root, keys: Some(keys), secret }))
    }

    /// The root key, if this is the slot with these keys.
    pub(crate) fn root_for(&self, keys: &SlotKeys) -> Option<SecretKey> {
        let is_own = self.keys.as_ref()?.public_key == hex::encode(keys.pair.public());
        keys.pair.open(&is_own.then(|| unhex(&self.root_key))??, ROOT_KEY).ok()
    }
}

const PRIVATE_KEY: &[u8] = b" private key";
const SLOTS_KEY: &[u8] = b" slots key";

impl Kind {
    /// The key that a secret of this kind is or gives; `None` for one of another kind.
    fn secret(&self, unlock: &Unlock) -> Result<Option<SecretKey>, OpenError> {
        match (self, unlock) {
            (Self::KeyFile, Unlock::KeyFile(key)) | (Self::RecoveryKey, Unlock::RecoveryKey(key)) => {
                Ok(Some(key.duplicate()))
            }
            (Self::Passphrase { memory_kib, passes, lanes, salt }, Unlock::Passphrase(passphrase)) => {
                let cost = Cost { memory_kib: *memory_kib, passes: *passes, lanes: *lanes };
                let Some(salt) = unhex(salt).and_then(|salt| salt.try_into().ok()) else { return Ok(None) };
                stretch(passphrase, &salt, cost).map(Some).map_err(|_| impossible(cost))
            }
            _ => Ok(None),
        }
    }

    /// Additional data of what is wrapped under the secret: the root key in the first keyrings (`what` is empty).
    fn bound_to(&self, what: &[u8]) -> Vec<u8> {
        match self {
            Self::KeyFile => [b"kmsfs slot key-file", what].concat(),
            Self::RecoveryKey => [b"kmsfs slot recovery-key", what].concat(),
            Self::Passphrase { memory_kib, passes, lanes, .. } => {
                let numbers = [memory_kib, passes, lanes].map(|number| number.to_le_bytes()).concat();
                [b"kmsfs slot passphrase", &numbers[..], what].concat()
            }
        }
    }
}

impl SlotInfo {
    /// Of the slot in `slots.json`.
    pub fn of(number: u32, slot: &Value) -> Self {
        let cost = match Slot::deserialize(slot) {
            Ok(Slot { kind: Kind::Passphrase { memory_kib, passes, lanes, .. }, .. }) => {
                Some(Cost { memory_kib, passes, lanes })
            }
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

/// Not to be taken for a wrong passphrase.
fn impossible(Cost { memory_kib, passes, .. }: Cost) -> OpenError {
    let what = format!("{memory_kib} KiB of memory and {passes} passes");
    OpenError::Other(format!("to check a passphrase takes {what}, which cannot be had here"))
}

/// What the keyring's own hands never write.
pub(crate) fn forged() -> OpenError {
    let text = "slots.json was changed by somebody who had not unlocked the keyring: restore it from a backup";
    OpenError::Other(text.into())
}
