//! Objects that an O_TRUNC could not read, on a thread that must not wait for what follows: the one that does it
//! instead does not ask the KMS again, and no second refusal is recorded.

use super::Ino;
use kmsfs_kms::{Caller, Waits, waits};
use kmsfs_locks::{Mutex, ranks};
use kmsfs_store as store;
use std::collections::HashMap;

/// A request that was not done anew, since the mount was aborted, leaves its entry.
const KEPT: usize = 1024;

/// Why an object could not be read by that caller, until the request goes on.
#[derive(Default)]
pub(super) struct GivenUp(Mutex<ranks::GivenUp, HashMap<(Ino, Caller), store::Error>>);

impl GivenUp {
    pub(super) fn keep(&self, ino: Ino, caller: &Caller, why: store::Error) {
        let mut kept = self.0.lock();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert((ino, *caller), why);
    }

    /// For a thread that goes on with what another one has begun: that one may not have waited for anything.
    pub(super) fn take(&self, ino: Ino, caller: &Caller) -> Option<store::Error> {
        if waits::allowed() == Waits::Nothing { None } else { self.0.lock().remove(&(ino, *caller)) }
    }
}
