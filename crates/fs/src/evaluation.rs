//! Asking the KMS about handles that are open.

use super::handles::Handle;
use kmsfs_kms::{Caller, EncryptionContext, Operation};
use kmsfs_store::Store;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// An evaluation of handles: the KMS's answers, each asked for once. Nothing is locked meanwhile, so several go on side
/// by side; each has a number, from before its first question on.
pub(crate) struct Evaluation {
    pub(crate) number: u64,
    answers: HashMap<((String, EncryptionContext), Operation, Caller), Option<bool>>,
}

impl Evaluation {
    pub(crate) fn new(number: u64) -> Self {
        Self { number, answers: HashMap::new() }
    }

    /// `None` if the KMS cannot tell.
    pub(crate) fn of(&mut self, store: &Store, handle: &Handle) -> Option<bool> {
        let (operation, caller) = (handle.opener.operation, handle.opener.caller);
        let mut known = true;
        for key in handle.object.kms_keys() {
            let answer = self.ask(store, key, operation, caller);
            match answer {
                Some(true) => {}
                Some(false) => return Some(false),
                None => known = false,
            }
        }
        known.then_some(true)
    }

    pub(crate) fn ask(
        &mut self,
        store: &Store,
        key: (String, EncryptionContext),
        operation: Operation,
        caller: Caller,
    ) -> Option<bool> {
        match self.answers.entry((key, operation, caller)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let ((key_arn, context), ..) = new.key();
                let answer = store.keys().permits(key_arn, operation, context, caller);
                *new.insert(answer)
            }
        }
    }
}
