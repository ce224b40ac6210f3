//! What a KMS has read of its keyring.

use super::SERVICE;
use crate::blob::Names;
use crate::keyring::{Contents, Stamp, Wrapping};
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
    pub fn material(&self, names: Names) -> Option<Arc<SecretKey>> {
        let Self { contents, wrapping, .. } = self;
        let materials = if names.key == SERVICE { &contents.service } else { &contents.key(&names.key)?.materials };
        let material = materials.iter().find(|material| material.id == names.material)?;
        material.unwrap(wrapping).map(Arc::new)
    }
}
