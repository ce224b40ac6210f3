//! Which callers may still use a key whose data keys are in memory.

use super::KeyService;
use super::bucket_keys::BucketKey;
use kmsfs_kms::{EncryptionContext, KmsCalls, Operation, Principal};
use kmsfs_locks::check_before_asking_the_kms;

impl KeyService {
    /// Calls of the KMS so far.
    pub fn calls(&self) -> KmsCalls {
        self.kms.calls()
    }

    /// Grows whenever keys, or who may use them, may have changed.
    pub fn version(&self) -> u64 {
        self.kms.version()
    }

    /// Whether KMS would let this caller use that key now, without using it. `None` if KMS cannot be asked: then
    /// nothing changes, neither for those who were allowed nor for those who were not. For threads that may wait for
    /// the KMS ([`KeyService::may_ask`]).
    pub fn permits(
        &self,
        key_arn: &str,
        operation: Operation,
        context: &EncryptionContext,
        caller: impl Into<Principal>,
    ) -> Option<bool> {
        check_before_asking_the_kms();
        debug_assert_eq!(self.may_ask(), Ok(()), "this thread must not wait for the KMS");
        let _running = self.begin();
        match self.kms.authorize(key_arn, operation, context, &caller.into()) {
            Ok(()) => Some(true),
            Err(error) if error.is_outage() => None,
            Err(_) => Some(false),
        }
    }

    /// Whether the decision about that key may differ between callers.
    pub fn distinguishes(&self, key_arn: &str, context: &EncryptionContext) -> bool {
        self.kms.distinguishes(key_arn, context)
    }

    /// Zeroizes the bucket keys that their users may no longer use.
    pub fn drop_refused(&self) {
        self.for_new.retain(|held| self.keeps(held, Operation::GenerateDataKey));
        self.for_existing.retain(|held| self.keeps(held, Operation::Decrypt));
    }

    fn keeps(&self, held: &BucketKey, operation: Operation) -> bool {
        self.permits(&held.key_arn, operation, &held.context, &held.caller) != Some(false)
    }
}
