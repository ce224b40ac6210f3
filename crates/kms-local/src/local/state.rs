//! What a KMS has read of its keyring.

use super::{ACCESS_KEYS, SERVICE};
use crate::blob::Names;
use crate::keyring::{Contents, Material, Stamp, Wrapping};
use kmsfs_crypto::SecretKey;
use std::collections::HashMap;
use std::sync::Arc;

pub(super) struct State {
    pub contents: Arc<Contents>,
    /// What these contents are wrapped under.
    pub wrapping: Wrapping,
    pub stamp: Option<Stamp>,
    /// How often contents were read anew.
    pub version: u64,
    /// Unwrapped materials, by their id.
    pub materials: HashMap<[u8; 16], Arc<SecretKey>>,
    /// The keyring cannot be read: why. Nothing is answered until it can.
    pub broken: Option<String>,
}

impl State {
    pub(crate) fn material(&self, names: Names) -> Option<Arc<SecretKey>> {
        let Self { contents, wrapping, .. } = self;
        let is_meant = |material: &&Material| material.id == names.material;
        let material = match names.key {
            SERVICE => contents.service.iter().find(is_meant),
            ACCESS_KEYS => contents.access_keys().iter().map(|key| &key.material).find(is_meant),
            key => contents.key(&key)?.materials.iter().find(is_meant),
        };
        material?.unwrap(wrapping).map(Arc::new)
    }
}
