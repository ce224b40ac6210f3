//! Which callers may still use a key whose data keys are in memory.

use super::KeyService;
use super::bucket_keys::BucketKey;
use kmsfs_kms::elsewhere::ProviderStatus;
use kmsfs_kms::{self as kms, EncryptionContext, KmsCalls, Operation, Principal};
use kmsfs_locks::check_before_asking_the_kms;

/// Somebody's use of a key, which the KMS is asked whether it permits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Asked {
    /// The key's.
    pub key_arn: String,
    /// What it is used for.
    pub operation: Operation,
    /// The encryption context.
    pub context: EncryptionContext,
    /// Who uses it.
    pub caller: Principal,
}

impl KeyService {
    /// How the KMSs that are elsewhere are.
    pub fn providers(&self) -> Vec<ProviderStatus> {
        self.kms.providers()
    }

    /// Calls of the KMS so far.
    pub fn calls(&self) -> KmsCalls {
        self.kms.calls()
    }

    /// Grows whenever keys, or who may use them, may have changed.
    pub fn version(&self) -> u64 {
        self.kms.version()
    }

    /// Whether a key's KMS is asked without waiting for anybody.
    pub fn is_at_hand(&self, key_arn: &str) -> bool {
        !self.kms.may_wait_for(key_arn)
    }

    /// Whether KMS would let this caller use that key now, without using it. `None` if KMS cannot be asked: then
    /// nothing changes, neither for those who were allowed nor for those who were not. For threads that may wait for
    /// the KMS ([`KeyService::may_ask_about`]).
    pub fn permits(&self, asked: &Asked) -> Option<bool> {
        check_before_asking_the_kms();
        let Asked { key_arn, operation, context, caller } = asked;
        debug_assert_eq!(self.may_ask_about(key_arn), Ok(()), "this thread must not wait for the KMS");
        let _running = self.begin();
        told(self.kms.authorize(key_arn, *operation, context, caller))
    }

    /// The same as far as it is known without waiting for a KMS that is elsewhere: true if nothing is known against it,
    /// `None` if it cannot be told.
    pub fn permits_here(&self, asked: &Asked) -> Option<bool> {
        check_before_asking_the_kms();
        let Asked { key_arn, operation, context, caller } = asked;
        told(self.kms.authorize_here(key_arn, *operation, context, caller))
    }

    /// Whether the decision about that key may differ between callers.
    pub fn distinguishes(&self, key_arn: &str, context: &EncryptionContext) -> bool {
        self.kms.distinguishes(key_arn, context)
    }

    /// What has to be permitted for the bucket keys in memory to stay there.
    pub fn held_bucket_keys(&self) -> Vec<Asked> {
        let of_new = self.for_new.all().into_iter().map(|held| held.asked(Operation::GenerateDataKey));
        let of_existing = self.for_existing.all().into_iter().map(|held| held.asked(Operation::Decrypt));
        of_new.chain(of_existing).collect()
    }

    /// Zeroizes the bucket keys that their users may no longer use. `permits` says what is known of that.
    pub fn drop_refused(&self, permits: impl Fn(Asked) -> Option<bool>) {
        self.for_new.retain(|held| permits(held.asked(Operation::GenerateDataKey)) != Some(false));
        self.for_existing.retain(|held| permits(held.asked(Operation::Decrypt)) != Some(false));
    }
}

impl BucketKey {
    fn asked(&self, operation: Operation) -> Asked {
        let (key_arn, context, caller) = (self.key_arn.clone(), self.context.clone(), self.caller.clone());
        Asked { key_arn, operation, context, caller }
    }
}

fn told(answer: Result<(), kms::Error>) -> Option<bool> {
    match answer {
        Ok(()) => Some(true),
        Err(error) if error.is_outage() => None,
        Err(_) => Some(false),
    }
}
