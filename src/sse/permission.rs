//! Who may still use a key whose data keys are in memory.

use super::KeyService;
use crate::kms::{Caller, Operation};

impl KeyService {
    /// Grows whenever keys, or who may use them, may have changed.
    pub fn version(&self) -> u64 {
        self.kms.version()
    }

    /// Whether KMS would let this caller use that key now, without using it. A KMS that cannot be asked refuses nobody
    /// here: what it is asked for next will fail.
    pub fn permits(&self, key_arn: &str, operation: Operation, caller: &Caller) -> bool {
        self.kms.authorize(key_arn, operation, caller).map_or_else(|error| error.is_outage(), |()| true)
    }

    /// Zeroizes the bucket keys that their users may no longer use.
    pub fn drop_refused(&self) {
        self.for_new.retain(|held| self.permits(&held.key_arn, Operation::GenerateDataKey, &held.caller));
        self.for_existing.retain(|held| self.permits(&held.key_arn, Operation::Decrypt, &held.caller));
    }
}
