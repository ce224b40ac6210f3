//! The calls of a mount: S3 asks on behalf of whoever makes the system call.

use super::{LocalKms, admin, check_usable};
use crate::authorization::Ask;
use crate::blob;
use kmsfs_crypto::SecretKey;
use kmsfs_kms::{EncryptionContext, Error, GeneratedDataKey, Kms, KmsCalls, Operation, Principal};
use std::sync::atomic::Ordering;
use std::time::Instant;

impl LocalKms {
    /// Why the keyring should not be used, where it was opened to be looked at.
    pub fn rolled_back(&self) -> Option<&str> {
        self.keyring.rolled_back()
    }
}

impl Kms for LocalKms {
    fn generate_data_key(
        &self,
        key_id: &str,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<GeneratedDataKey, Error> {
        self.calls.generate_data_key.fetch_add(1, Ordering::Relaxed);
        let (key_arn, names) = self.usable(key_id, &Ask::through_s3("GenerateDataKey", context, caller, self.now()))?;
        let plaintext = SecretKey::random();
        let ciphertext_blob = blob::wrap(names, &*self.unwrapped(names)?, &plaintext, context);
        Ok(GeneratedDataKey { key_arn, plaintext, ciphertext_blob })
    }

    fn encrypt(
        &self,
        key_id: &str,
        plaintext: &SecretKey,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<(String, Vec<u8>), Error> {
        self.calls.encrypt.fetch_add(1, Ordering::Relaxed);
        let (key_arn, names) = self.usable(key_id, &Ask::through_s3("Encrypt", context, caller, self.now()))?;
        Ok((key_arn, blob::wrap(names, &*self.unwrapped(names)?, plaintext, context)))
    }

    fn decrypt(
        &self,
        key_arn: &str,
        ciphertext_blob: &[u8],
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<SecretKey, Error> {
        self.calls.decrypt.fetch_add(1, Ordering::Relaxed);
        let names = blob::names(ciphertext_blob).ok_or_else(Error::invalid_ciphertext)?;
        self.ask_twice(|contents| {
            let key = contents.find(key_arn)?;
            if key.id != names.key {
                // A key that is not here was not named by a KMS: the blob is damaged, or another keyring's.
                let known = contents.key(&names.key).is_some();
                return Err(if known { Error::incorrect_key() } else { Error::invalid_ciphertext() });
            }
            self.permit(contents, key, &Ask::through_s3("Decrypt", context, caller, self.now()))?;
            check_usable(contents, key)
        })?;
        let material = self.unwrapped(names)?;
        blob::unwrap(ciphertext_blob, &material, context).ok_or_else(Error::invalid_ciphertext)
    }

    fn describe_key(&self, key_id: &str, caller: &Principal) -> Result<String, Error> {
        let ask = Ask { through_s3: true, ..Ask::direct("DescribeKey", caller, self.now()) }.naming(key_id);
        self.making_aws_s3(key_id, |contents| {
            let key = contents.find(key_id)?;
            self.permit(contents, key, &ask)?;
            Ok(contents.key_arn(&key.id))
        })
    }

    fn authorize(
        &self,
        key_id: &str,
        operation: Operation,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<(), Error> {
        let ask = Ask::through_s3(operation.name(), context, caller, self.now()).naming(key_id);
        self.ask_twice(|contents| {
            let key = contents.find(key_id)?;
            self.permit(contents, key, &ask)?;
            check_usable(contents, key)
        })
    }

    fn authorize_here(
        &self,
        key_id: &str,
        operation: Operation,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<(), Error> {
        self.authorize(key_id, operation, context, caller)
    }

    fn distinguishes(&self, key_arn: &str, context: &EncryptionContext) -> bool {
        self.ask(|contents| Ok(contents.distinguishes(contents.find(key_arn)?, context, self.now()))).unwrap_or(true)
    }

    fn tick(&self) {
        let due = self.ask(|contents| Ok(admin::is_due(contents, &self.moment())));
        if due != Ok(true) {
            return;
        }
        match self.change(|_, _| Ok(())) {
            Ok(()) => self.overdue.store(false, Ordering::Relaxed),
            Err(error) => {
                if !self.overdue.swap(true, Ordering::Relaxed) {
                    log::error!(
                        "what is due in the keyring, a deletion or rotation, cannot be done: {}",
                        error.message
                    );
                }
            }
        }
    }

    fn calls(&self) -> KmsCalls {
        LocalKms::calls(self)
    }

    fn version(&self) -> u64 {
        *self.looked.lock() = Instant::now();
        self.look_now();
        self.state.read().version
    }
}
