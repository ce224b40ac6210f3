//! Data keys leaving memory when nobody who has the object open may use them, and coming back.

use super::opening::load::unwrap_keys;
use super::{Keys, Object};
use crate::{Dir, Result, Store};
use kmsfs_format::sidecar::EpochKey;
use kmsfs_kms::{Caller, EncryptionContext};
use kmsfs_sse::Algorithm;
use std::ffi::OsStr;
use std::sync::Arc;

impl Object {
    /// Asks for every data key that some chunk is under on behalf of a caller, as every open does. A locked object has its
    /// keys again afterwards.
    pub(crate) fn authorize(&self, caller: &Caller) -> Result<()> {
        self.asked.again();
        loop {
            let asked = self.authorize_those_there(caller)?;
            // A key epoch that began meanwhile has one more.
            if self.state.read().sidecar.keys == asked {
                return Ok(());
            }
        }
    }

    /// Answers what was asked for.
    fn authorize_those_there(&self, caller: &Caller) -> Result<Vec<EpochKey>> {
        let (sidecar, id) = {
            let state = self.state.read();
            if state.keys.are_there().is_ok() {
                let keys = state.sidecar.keys.clone();
                drop(state);
                for key in &keys {
                    self.store.keys.unwrap(&key.wrapped, caller)?;
                }
                return Ok(keys);
            }
            (state.sidecar.clone(), state.id)
        };
        let keys = unwrap_keys(&self.store, &sidecar, id, caller)?;
        let mut state = self.state.write();
        // Somebody else may have brought them, or even others, meanwhile.
        if state.keys.are_there().is_err() && state.sidecar.keys == sidecar.keys {
            state.keys = Arc::new(keys);
        }
        Ok(sidecar.keys)
    }

    /// Commits, then zeroizes the data keys. Whoever needs them is answered `Error::Locked`.
    pub fn lock(&self) -> Result<()> {
        if self.state.read().keys.are_there().is_err() {
            return Ok(());
        }
        let permit = if self.store.read_only() { None } else { Some(self.store.permit()?) };
        let mut state = self.state.write();
        if let Some(permit) = permit
            && state.dirty
        {
            self.commit_state(&mut state, &permit, false)?;
        }
        state.keys = Arc::new(Keys::new(Vec::new()));
        drop(state);
        self.ahead.lock().clear();
        Ok(())
    }

    /// Whether something of its content may not be durable.
    pub fn is_unsynced(&self) -> bool {
        let state = self.state.read();
        state.dirty || state.durable_sequence < state.seal.sequence || !state.homes.are_synced()
    }

    pub fn is_locked(&self) -> bool {
        self.state.read().keys.are_there().is_err()
    }

    /// The KMS keys that have to be usable for the object to be read, and the encryption context of each.
    pub fn kms_keys(&self) -> Vec<(String, EncryptionContext)> {
        let state = self.state.read();
        let wrapped = state.sidecar.keys.iter().map(|key| &key.wrapped);
        wrapped
            .filter(|wrapped| wrapped.algorithm != Algorithm::Aes256)
            .map(|wrapped| (wrapped.key_arn.clone(), wrapped.context.clone()))
            .collect()
    }
}

impl Store {
    /// Zeroizes the data keys of the closed objects that a KMS key protects: whoever opens one asks for them anyway.
    pub fn lock_closed(&self) {
        for object in self.living() {
            if !object.has_handles()
                && !object.kms_keys().is_empty()
                && let Err(error) = object.lock()
            {
                ::log::error!("{}: its data key stays in memory: {error}", object.show());
            }
        }
    }

    /// The object of that name if it is in memory, open or not.
    pub fn known(&self, dir: &Dir, name: &OsStr) -> Option<Arc<Object>> {
        self.loaded(dir.backing.stat(name).ok()?.ino)
    }

    /// Brings back the data keys of a locked object, on behalf of a caller.
    pub fn unlock(&self, object: &Object, caller: &Caller) -> Result<()> {
        object.authorize(caller)
    }
}
