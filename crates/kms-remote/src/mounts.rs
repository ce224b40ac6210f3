//! What mounts ask.

use crate::RemoteKms;
use kmsfs_crypto::SecretKey;
use kmsfs_kms::elsewhere::{Outage, ProviderStatus};
use kmsfs_kms::{EncryptionContext, Error, GeneratedDataKey, Kms, KmsCalls, Operation, Principal};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

impl Kms for RemoteKms {
    fn generate_data_key(
        &self,
        key_id: &str,
        context: &EncryptionContext,
        _: &Principal,
    ) -> Result<GeneratedDataKey, Error> {
        let made = self.shared().generate(key_id, context)?;
        self.shared().count(Operation::GenerateDataKey);
        Ok(made)
    }

    fn encrypt(
        &self,
        key_id: &str,
        plaintext: &SecretKey,
        context: &EncryptionContext,
        _: &Principal,
    ) -> Result<(String, Vec<u8>), Error> {
        let made = self.shared().seal(key_id, plaintext.duplicate().into_plaintext(), context)?;
        self.shared().count(Operation::Encrypt);
        Ok(made)
    }

    fn decrypt(
        &self,
        key_arn: &str,
        ciphertext_blob: &[u8],
        context: &EncryptionContext,
        _: &Principal,
    ) -> Result<SecretKey, Error> {
        let plaintext = self.shared().open(key_arn, ciphertext_blob, context)?;
        let wrong = || self.shared().lies(Some(key_arn), &format!("a data key of {} bytes", plaintext.len()));
        let key = SecretKey::from_plaintext(&plaintext).ok_or_else(wrong)?;
        self.shared().count(Operation::Decrypt);
        Ok(key)
    }

    /// What a canary has told last, and whether somebody here has disconnected it.
    fn authorize_here(
        &self,
        key_id: &str,
        _: Operation,
        context: &EncryptionContext,
        _: &Principal,
    ) -> Result<(), Error> {
        self.shared().check_connected()?;
        self.shared().check_not_ended(key_id)?;
        let within = self.shared().settings.revalidate + self.shared().settings.deadline;
        self.shared().keys.lock().canaries.known(key_id, context, within).unwrap_or(Ok(()))
    }

    fn describe_key(&self, key_id: &str, _: &Principal) -> Result<String, Error> {
        self.shared().describe(key_id).map(|(arn, ..)| arn)
    }

    fn authorize(&self, key_id: &str, _: Operation, context: &EncryptionContext, _: &Principal) -> Result<(), Error> {
        self.shared().usable(key_id, context)
    }

    /// It sees one client alone.
    fn distinguishes(&self, _: &str, _: &EncryptionContext) -> bool {
        false
    }

    fn may_wait(&self) -> bool {
        true
    }

    fn version(&self) -> u64 {
        self.shared().is_connected();
        self.shared().version.load(Ordering::SeqCst)
    }

    /// The first one finds out whether it can be asked at all, on a thread of its own: nothing of a mount waits for it.
    fn tick(&self) {
        if self.shared().was_looked_at.swap(true, Ordering::SeqCst) {
            return;
        }
        let shared = Arc::clone(self.shared());
        let thread = thread::Builder::new().name("kmsfs-canary".into()).spawn(move || {
            if let Some(problem) = shared.problem() {
                log::warn!("KMS {}: what needs its keys fails until it can be used: {problem}", shared.name);
            }
        });
        if let Err(error) = thread {
            log::debug!("nobody looks whether a KMS can be used: {error}");
        }
    }

    fn providers(&self) -> Vec<ProviderStatus> {
        vec![self.status()]
    }

    fn take_outages(&self) -> Vec<Outage> {
        self.shared().health.lock().take_told()
    }

    fn calls(&self) -> KmsCalls {
        let count = |operation: Operation| self.shared().calls[operation as usize].load(Ordering::Relaxed);
        KmsCalls {
            generate_data_key: count(Operation::GenerateDataKey),
            decrypt: count(Operation::Decrypt),
            encrypt: count(Operation::Encrypt),
        }
    }
}
