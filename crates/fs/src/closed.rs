//! Files that were read and closed: the kernel may have pages of them still, which go when their key is taken away.

use kmsfs_kms::{Caller, EncryptionContext};
use kmsfs_locks::{Mutex, ranks};
use std::collections::HashMap;

/// A KMS key's ARN and the encryption context.
type Key = (String, EncryptionContext);

/// The keys that files were read under; while an object comes under a new data key, several. Each set has a number,
/// from 1 on.
#[derive(Default)]
pub(crate) struct Closed(Mutex<ranks::ClosedKeys, HashMap<Vec<String>, ReadUnder>>);

struct ReadUnder {
    number: u32,
    /// Who closed one last, and its keys: if even that caller is refused one, nobody is known to have a use for the
    /// pages.
    caller: Caller,
    keys: Vec<Key>,
    refused: bool,
    /// By which evaluation.
    decided: u64,
}

/// What the KMS is to be asked about files that were read under the keys of that number, and closed.
#[derive(Clone)]
pub(crate) struct Question {
    pub number: u32,
    pub caller: Caller,
    pub keys: Vec<Key>,
}

impl Closed {
    pub(crate) fn number(&self, keys: Vec<Key>, caller: &Caller) -> u32 {
        let mut known = self.0.lock();
        let next = known.len() as u32 + 1;
        let new = || ReadUnder { number: next, caller: *caller, keys: Vec::new(), refused: false, decided: 0 };
        let under = known.entry(keys.iter().map(|(key_arn, _)| key_arn.clone()).collect()).or_insert_with(new);
        (under.caller, under.keys) = (*caller, keys);
        under.number
    }

    /// One for each set of keys.
    pub(crate) fn questions(&self) -> Vec<Question> {
        let known = self.0.lock();
        let question =
            |under: &ReadUnder| Question { number: under.number, caller: under.caller, keys: under.keys.clone() };
        known.values().map(question).collect()
    }

    /// What the evaluation of that number found about the files with this number. Returns whether they are refused and
    /// were not before.
    pub(crate) fn decided(&self, evaluation: u64, number: u32, refused: bool) -> bool {
        let mut known = self.0.lock();
        let of_number = known.values_mut().find(|under| under.number == number);
        let Some(under) = of_number.filter(|under| under.decided <= evaluation) else { return false };
        under.decided = evaluation;
        let before = std::mem::replace(&mut under.refused, refused);
        refused && !before
    }
}
