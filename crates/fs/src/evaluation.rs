//! Asking the KMS about handles that are open.

use super::handles::Handle;
use kmsfs_kms::{Caller, EncryptionContext, Operation};
use kmsfs_sse::KeyService;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// An evaluation of handles: the KMS's answers, each asked for once. Nothing is locked meanwhile, so several go on side
/// by side; each has a number, from before its first question on.
pub(crate) struct Evaluation {
    pub(crate) number: u64,
    answers: HashMap<((String, EncryptionContext), Operation, Caller), Option<bool>>,
    unasked: bool,
}

impl Evaluation {
    pub(crate) fn new(number: u64) -> Self {
        Self { number, answers: HashMap::new(), unasked: false }
    }

    /// Whether there was something to ask that this thread must not wait for: nothing was decided by it.
    pub(crate) fn has_unasked(&self) -> bool {
        self.unasked
    }

    /// `None` if the KMS cannot tell, or this thread must not wait for it.
    pub(crate) fn of(&mut self, keys: &KeyService, handle: &Handle) -> Option<bool> {
        let (operation, caller) = (handle.opener.operation, handle.opener.caller);
        let mut known = true;
        for key in handle.object.kms_keys() {
            let answer = self.ask(keys, key, operation, caller);
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
        keys: &KeyService,
        key: (String, EncryptionContext),
        operation: Operation,
        caller: Caller,
    ) -> Option<bool> {
        match self.answers.entry((key, operation, caller)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                if keys.may_ask().is_err() {
                    self.unasked = true;
                    return None;
                }
                let ((key_arn, context), ..) = new.key();
                let answer = keys.permits(key_arn, operation, context, caller);
                *new.insert(answer)
            }
        }
    }
}
