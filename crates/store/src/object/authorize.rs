//! Data keys leaving memory when nobody who has the object open may use them, and coming back.

use super::Object;
use super::keyed::unwrap_keys;
use crate::Result;
use crate::Volume;
use kmsfs_format::sidecar::EpochKey;
use kmsfs_kms::{Caller, EncryptionContext};
use kmsfs_sse::Algorithm;

impl Object {
    /// Asks for every data key that some chunk is under on behalf of a caller, as every open does. A locked object has
    /// its keys again afterwards.
    pub(crate) fn authorize(&self, caller: &Caller) -> Result<()> {
        self.asked.again();
        loop {
            let asked = self.authorize_those_there(caller)?;
            // A key epoch that began meanwhile has one more.
            if self.state.read().keyed.sidecar().keys == asked {
                return Ok(());
            }
        }
    }

    /// Returns the keys that were asked for.
    fn authorize_those_there(&self, caller: &Caller) -> Result<Vec<EpochKey>> {
        let (sidecar, id) = {
            let state = self.state.read();
            if !state.keyed.is_locked() {
                let keys = state.keyed.sidecar().keys.clone();
                drop(state);
                for key in &keys {
                    self.store.keys.unwrap(&key.wrapped, caller)?;
                }
                return Ok(keys);
            }
            (state.keyed.sidecar().clone(), state.keyed.id())
        };
        let keys = unwrap_keys(&self.store, &sidecar, id, caller)?;
        self.state.write().keyed.unlock(keys, &sidecar);
        Ok(sidecar.keys)
    }

    /// Commits, then zeroizes the data keys. Whoever needs them gets `Error::Locked` until `authorize` has brought them
    /// back.
    pub fn lock(&self) -> Result<()> {
        self.lock_if(|| true)
    }

    /// The same, unless somebody has it open: who opens it is counted before its keys are looked for.
    pub(crate) fn lock_unless_open(&self) -> Result<()> {
        self.lock_if(|| !self.has_handles())
    }

    fn lock_if(&self, may: impl Fn() -> bool) -> Result<()> {
        let mut state = self.state.write();
        if state.keyed.is_locked() || !may() {
            return Ok(());
        }
        if state.durability.is_dirty() && !self.store.read_only() {
            // Leave to append is asked for before any object's lock.
            drop(state);
            let permit = self.store.checkpoints.permit()?;
            state = self.state.write();
            if state.durability.is_dirty() {
                self.commit_state(&mut state, &permit, false)?;
            }
            if !may() {
                return Ok(());
            }
        }
        state.keyed.lock();
        drop(state);
        self.ahead.clear();
        Ok(())
    }

    /// Whether its data keys are not in memory.
    pub fn is_locked(&self) -> bool {
        self.state.read().keyed.is_locked()
    }

    /// The KMS keys that have to be usable for the object to be read, and the encryption context of each.
    pub fn kms_keys(&self) -> Vec<(String, EncryptionContext)> {
        let state = self.state.read();
        let wrapped = state.keyed.sidecar().keys.iter().map(|key| &key.wrapped);
        wrapped
            .filter(|wrapped| wrapped.algorithm != Algorithm::Aes256)
            .map(|wrapped| (wrapped.key_arn.clone(), wrapped.context.clone()))
            .collect()
    }
}
