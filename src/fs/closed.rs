//! Files that were read and closed: the kernel may have pages of them still, which go when their key is taken away.

use crate::kms::{Caller, EncryptionContext};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};

/// The keys that files were read under. Each has a number, from 1 on.
#[derive(Default)]
pub struct Closed(Mutex<HashMap<String, ReadUnder>>);

struct ReadUnder {
    number: u32,
    /// Who closed one last, and its encryption context: if even that caller is refused, nobody is known to have a use for
    /// the pages.
    caller: Caller,
    context: EncryptionContext,
    refused: bool,
}

impl Closed {
    pub fn number(&self, (key_arn, context): (String, EncryptionContext), caller: &Caller) -> u32 {
        let mut keys = self.0.lock();
        let next = keys.len() as u32 + 1;
        let new = || ReadUnder { number: next, caller: *caller, context: EncryptionContext::new(), refused: false };
        let key = keys.entry(key_arn).or_insert_with(new);
        (key.caller, key.context) = (*caller, context);
        key.number
    }

    /// Numbers of those that are refused and were not before.
    pub fn refused(&self, mut is_refused: impl FnMut(&str, &EncryptionContext, &Caller) -> bool) -> HashSet<u32> {
        let mut keys = self.0.lock();
        let mut numbers = HashSet::new();
        for (key_arn, key) in keys.iter_mut() {
            let before = std::mem::replace(&mut key.refused, is_refused(key_arn, &key.context, &key.caller));
            if key.refused && !before {
                numbers.insert(key.number);
            }
        }
        numbers
    }
}
