//! The store's own key, which authenticates what the store says of itself, and how a store comes to have one.
//!
//! store.json is not authenticated: its version can be put back. That every part of the store is sealed is therefore
//! said once more beside the service's key (`ServiceKey::store_format`), when the last part has been: until then, forms
//! of earlier versions are taken; afterwards they are not, whatever store.json says.

use crate::backend::{Access, Backend};
use crate::local::sealed::parameters::{Json, replace_json};
use crate::{Error, Result};
use kmsfs_crypto::{MacKey, StoreKey};
use kmsfs_kms::{self as kms, EncryptionContext, ServiceKey};
use std::sync::atomic::{AtomicU16, Ordering};

/// Version of a store with a store key.
pub(crate) const SEALED: u16 = 3;
/// The present version, whose attributes' values are bound to what carries them.
pub(crate) const PRESENT: u16 = 4;
const RAISED: &str = "the store is raised to format version 4: earlier versions of kmsfs refuse it";
const OF_JSON: &str = "kmsfs store.json";

/// How far a store's word about itself is to be believed.
pub(crate) struct StoreSeal {
    /// `None`: a store of an earlier version that is only read.
    key: Option<StoreKey>,
    /// Version that all of the store is known to have: forms of earlier ones are not taken.
    settled: AtomicU16,
}

impl StoreSeal {
    /// Opens the seal of the store that has this store.json, which has been read under the store's lock. For writing,
    /// a store of an earlier version is given its key: store.json is replaced as a whole, durably, before anything is
    /// sealed.
    pub(crate) fn open(
        backend: &dyn Backend,
        mut json: Json,
        service: &dyn ServiceKey,
        access: Access,
    ) -> Result<Self> {
        let remembered = service.store_format().map_err(|error| unusable(&error))?;
        if json.format_version < remembered {
            return Err(Error::Unusable(format!(
                "store.json has format version {}, and the keyring says that the store was raised to {remembered}: it was \
                 put back to an earlier state, or changed; restore the newest store.json, or store and keyring from one backup",
                json.format_version
            )));
        }
        let settled = AtomicU16::new(remembered);
        if json.format_version < SEALED {
            if access == Access::Read {
                return Ok(Self { key: None, settled });
            }
            json.format_version = PRESENT;
            let (json, key) = with_new_key(json, service)?;
            replace_json(backend, &json)?;
            ::log::info!("{RAISED}");
            return Ok(Self { key: Some(key), settled });
        }
        let blob = hex::decode(&json.store_key).map_err(|error| damaged(&error))?;
        let secret = service.decrypt(&blob, &context(&json.store_id)).map_err(|error| match error.code {
            kms::Code::InvalidCiphertext => damaged(&"the keyring does not open it"),
            _ => unusable(&error),
        })?;
        let key = StoreKey::new(secret);
        let mac = hex::decode(&json.mac).map_err(|error| damaged(&error))?;
        if mac.len() != MacKey::LEN || !key.mac_key(OF_JSON).verify(&[&json.signed()], &mac) {
            return Err(Error::Unusable("store.json is not what was written: restore it from a backup".into()));
        }
        if json.format_version < PRESENT && access == Access::ReadWrite {
            json.format_version = PRESENT;
            replace_json(backend, &signed(json, &key))?;
            ::log::info!("{RAISED}");
        }
        Ok(Self { key: Some(key), settled })
    }

    /// store.json with its MAC.
    pub(crate) fn sign(&self, json: Json) -> Result<Json> {
        Ok(signed(json, self.key().ok_or(Error::ReadOnly)?))
    }

    /// What derives the keys for each purpose; `None` in a store of an earlier version that is only read.
    pub(crate) fn key(&self) -> Option<&StoreKey> {
        self.key.as_ref()
    }

    /// Whether it is to be believed that a directory's configuration is missing, or there, that the store does not
    /// list: only until it lists them all, as version 3 does.
    pub(crate) fn takes_unlisted(&self) -> bool {
        self.settled.load(Ordering::SeqCst) < SEALED
    }

    /// Whether a redo log is to be believed that nothing authenticates, and a value that is bound to no more than a
    /// bucket and an attribute's name: only until the store is of the present version throughout.
    pub(crate) fn takes_unsealed(&self) -> bool {
        self.settled.load(Ordering::SeqCst) < PRESENT
    }

    /// Once everything is sealed, durably: from now on nothing else is taken.
    pub(crate) fn settle(&self, service: &dyn ServiceKey) {
        if self.settled.swap(PRESENT, Ordering::SeqCst) < PRESENT
            && let Err(error) = remember(service)
        {
            ::log::warn!("{error}: until it can be written, the next mount believes what is not sealed in the store");
        }
    }
}

/// store.json with a new store key.
pub(crate) fn with_new_key(json: Json, service: &dyn ServiceKey) -> Result<(Json, StoreKey)> {
    let (secret, blob) = service.generate_data_key(&context(&json.store_id)).map_err(|error| unusable(&error))?;
    let key = StoreKey::new(secret);
    Ok((signed(Json { store_key: hex::encode(blob), ..json }, &key), key))
}

fn signed(json: Json, key: &StoreKey) -> Json {
    Json { mac: hex::encode(key.mac_key(OF_JSON).tag(&[&json.signed()])), ..json }
}

pub(crate) fn remember(service: &dyn ServiceKey) -> Result<()> {
    service.raise_store_format(PRESENT).map_err(|error| unusable(&error))
}

fn context(store_id: &str) -> EncryptionContext {
    [("kmsfs:purpose".to_string(), "store".to_string()), ("kmsfs:store".to_string(), store_id.to_string())].into()
}

fn damaged(why: &dyn std::fmt::Display) -> Error {
    Error::Unusable(format!(
        "store.json: the store key is damaged ({why}): restore store.json or the keyring from a backup"
    ))
}

fn unusable(error: &kms::Error) -> Error {
    Error::Unusable(format!("the keyring does not give the store's key: {}: {}", error.code.name(), error.message))
}
