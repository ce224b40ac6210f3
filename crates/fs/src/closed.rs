//! Files that were read and closed: the kernel may have pages of them still, which go when their key is taken away.

use kmsfs_kms::{Caller, EncryptionContext};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};

/// A KMS key's ARN and the encryption context.
type Key = (String, EncryptionContext);

/// The keys that files were read under; while an object comes under a new data key, several. Each set has a number,
/// from 1 on.
#[derive(Default)]
pub struct Closed(Mutex<HashMap<Vec<String>, ReadUnder>>);

struct ReadUnder {
    number: u32,
    /// Who closed one last, and its keys: if even that caller is refused one, nobody is known to have a use for the
    /// pages.
    caller: Caller,
    keys: Vec<Key>,
    refused: bool,
}

impl Closed {
    pub fn number(&self, keys: Vec<Key>, caller: &Caller) -> u32 {
        let mut known = self.0.lock();
        let next = known.len() as u32 + 1;
        let new = || ReadUnder { number: next, caller: *caller, keys: Vec::new(), refused: false };
        let under = known.entry(keys.iter().map(|(key_arn, _)| key_arn.clone()).collect()).or_insert_with(new);
        (under.caller, under.keys) = (*caller, keys);
        under.number
    }

    /// Numbers of those that are refused and were not before.
    pub fn refused(&self, mut is_refused: impl FnMut(&str, &EncryptionContext, &Caller) -> bool) -> HashSet<u32> {
        let mut known = self.0.lock();
        let mut numbers = HashSet::new();
        for under in known.values_mut() {
            let refused = under.keys.iter().any(|(key_arn, context)| is_refused(key_arn, context, &under.caller));
            let before = std::mem::replace(&mut under.refused, refused);
            if refused && !before {
                numbers.insert(under.number);
            }
        }
        numbers
    }
}
