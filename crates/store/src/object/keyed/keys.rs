//! Data keys by key epoch, and the ciphers that come from them.

use crate::{Error, Result};
use kmsfs_crypto::{ChunkCipher, ObjectKeys};
use kmsfs_locks::{RwLock, ranks};
use std::collections::HashMap;
use std::sync::Arc;

/// The data keys by the first key epoch that each serves, and the ciphers of the epochs that were met.
pub(crate) struct Keys {
    keys: Vec<(u16, Arc<ObjectKeys>)>,
    ciphers: RwLock<ranks::Ciphers, HashMap<u16, Arc<ChunkCipher>>>,
}

impl Keys {
    /// Without any, the object is locked.
    pub(in crate::object) fn new(keys: Vec<(u16, ObjectKeys)>) -> Self {
        let keys = keys.into_iter().map(|(first, key)| (first, Arc::new(key))).collect();
        Self { keys, ciphers: RwLock::default() }
    }

    /// These, and a newer one.
    pub(in crate::object) fn and(&self, first_epoch: u16, key: ObjectKeys) -> Self {
        let mut keys = self.keys.clone();
        keys.push((first_epoch, Arc::new(key)));
        Self { keys, ciphers: RwLock::default() }
    }

    /// The newest alone.
    pub(in crate::object) fn without_old(&self) -> Self {
        Self { keys: self.keys.last().cloned().into_iter().collect(), ciphers: RwLock::default() }
    }

    /// First epoch of the newest data key.
    pub(in crate::object) fn newest_epoch(&self) -> Result<u16> {
        Ok(self.keys.last().ok_or(Error::Locked)?.0)
    }

    pub(in crate::object) fn are_there(&self) -> Result<()> {
        if self.keys.is_empty() { Err(Error::Locked) } else { Ok(()) }
    }

    /// Of the data key that serves this epoch.
    pub(in crate::object) fn cipher(&self, epoch: u16) -> Result<Arc<ChunkCipher>> {
        if let Some(cipher) = self.ciphers.read().get(&epoch) {
            return Ok(cipher.clone());
        }
        self.are_there()?;
        let key = self.keys.iter().rev().find(|(first, _)| *first <= epoch);
        let (_, key) = key.ok_or_else(|| Error::Corrupt(format!("a chunk of key epoch {epoch}, which has no key")))?;
        let cipher = Arc::new(key.chunk_cipher(epoch));
        self.ciphers.write().insert(epoch, cipher.clone());
        Ok(cipher)
    }

    /// The newest data key's: it authenticates seal and sidecar.
    pub(in crate::object) fn newest(&self) -> Result<&Arc<ObjectKeys>> {
        Ok(&self.keys.last().ok_or(Error::Locked)?.1)
    }
}
