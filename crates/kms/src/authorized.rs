//! A KMS that asks somebody here first whether a caller may use its keys.

use crate::api::{Answer, Request, Service};
use crate::elsewhere::{Outage, ProviderStatus};
use crate::{Code, EncryptionContext, Error, GeneratedDataKey, Kms, KmsCalls, Operation, Principal};
use kmsfs_crypto::SecretKey;
use std::sync::Arc;

/// Whoever decides, by key policies, who may use which key of a KMS that does not know the users of this machine.
pub trait Authorizer: Send + Sync {
    /// Refuses what the key's policy does not let the caller do.
    ///
    /// # Errors
    ///
    /// `AccessDenied`, or an outage if it cannot be told.
    fn permit(&self, asked: &KeyUse<'_>) -> Result<(), Error>;

    /// As [`Kms::distinguishes`].
    fn distinguishes(&self, key_arn: &str, context: &EncryptionContext) -> bool;

    /// Answers a call about what is kept here of a key of another KMS: its policy, grants, tags and aliases.
    ///
    /// # Errors
    ///
    /// AWS's for such a call; `UnsupportedOperation` for any other.
    fn administer(&self, key_arn: &str, request: &Request, caller: &Principal) -> Result<Answer, Error>;

    /// Grows whenever somebody may have been permitted something else.
    fn version(&self) -> u64;
}

/// What somebody wants to do with a key.
#[derive(Debug, Clone, Copy)]
pub struct KeyUse<'a> {
    /// The key's.
    pub key_arn: &'a str,
    /// AWS's name of the permission, without `kms:`.
    pub action: &'a str,
    /// Of cryptographic operations.
    pub context: Option<&'a EncryptionContext>,
    /// Who wants it.
    pub caller: &'a Principal,
    /// Through a mount: S3 asks on the caller's behalf.
    pub through_s3: bool,
}

/// Asks an [`Authorizer`], and then a KMS that sees one and the same client in all users of this machine. Keys are
/// named by their ARNs here. What administers keys is refused: such a KMS is administered where it is.
pub struct Authorized<K: ?Sized> {
    kms: Arc<K>,
    by: Arc<dyn Authorizer>,
}

impl<K: ?Sized> Authorized<K> {
    /// The keys of `kms`, for those whom `by` permits.
    pub fn new(kms: Arc<K>, by: Arc<dyn Authorizer>) -> Self {
        Self { kms, by }
    }

    fn through_s3(
        &self,
        key_arn: &str,
        action: &str,
        context: Option<&EncryptionContext>,
        caller: &Principal,
    ) -> Result<(), Error> {
        self.by.permit(&KeyUse { key_arn, action, context, caller, through_s3: true })
    }

    fn permit(&self, request: &Request, caller: &Principal) -> Result<(), Error> {
        let permit = |key_arn: &str, action: &str, context: Option<&EncryptionContext>| {
            self.by.permit(&KeyUse { key_arn, action, context, caller, through_s3: false })
        };
        let unnamed = || Error::new(Code::Validation, "Please name the key that the ciphertext was made with.");
        match request {
            Request::DescribeKey { key_id } => permit(key_id, "DescribeKey", None),
            Request::Encrypt { key_id, encryption_context, .. } => permit(key_id, "Encrypt", Some(encryption_context)),
            Request::Decrypt { key_id, encryption_context, .. } => {
                permit(key_id.as_deref().ok_or_else(unnamed)?, "Decrypt", Some(encryption_context))
            }
            Request::GenerateDataKey(asked) | Request::GenerateDataKeyWithoutPlaintext(asked) => {
                permit(&asked.key_id, request.name(), Some(&asked.encryption_context))
            }
            Request::ReEncrypt {
                source_key_id,
                source_encryption_context,
                destination_key_id,
                destination_encryption_context,
                ..
            } => {
                let source = source_key_id.as_deref().ok_or_else(unnamed)?;
                permit(source, "ReEncryptFrom", Some(source_encryption_context))?;
                permit(destination_key_id, "ReEncryptTo", Some(destination_encryption_context))
            }
            _ => {
                let text = format!("{} is for the KMS that keeps the key: call it there.", request.name());
                Err(Error::new(Code::UnsupportedOperation, text))
            }
        }
    }
}

impl<K: Kms + ?Sized> Kms for Authorized<K> {
    fn generate_data_key(
        &self,
        key_id: &str,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<GeneratedDataKey, Error> {
        self.through_s3(key_id, "GenerateDataKey", Some(context), caller)?;
        self.kms.generate_data_key(key_id, context, caller)
    }

    fn encrypt(
        &self,
        key_id: &str,
        plaintext: &SecretKey,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<(String, Vec<u8>), Error> {
        self.through_s3(key_id, "Encrypt", Some(context), caller)?;
        self.kms.encrypt(key_id, plaintext, context, caller)
    }

    fn decrypt(
        &self,
        key_arn: &str,
        ciphertext_blob: &[u8],
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<SecretKey, Error> {
        self.through_s3(key_arn, "Decrypt", Some(context), caller)?;
        self.kms.decrypt(key_arn, ciphertext_blob, context, caller)
    }

    fn describe_key(&self, key_id: &str, caller: &Principal) -> Result<String, Error> {
        self.through_s3(key_id, "DescribeKey", None, caller)?;
        self.kms.describe_key(key_id, caller)
    }

    fn authorize(
        &self,
        key_id: &str,
        operation: Operation,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<(), Error> {
        self.through_s3(key_id, operation.name(), Some(context), caller)?;
        self.kms.authorize(key_id, operation, context, caller)
    }

    fn authorize_here(
        &self,
        key_id: &str,
        operation: Operation,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<(), Error> {
        self.through_s3(key_id, operation.name(), Some(context), caller)?;
        self.kms.authorize_here(key_id, operation, context, caller)
    }

    /// The KMS sees one client alone.
    fn distinguishes(&self, key_arn: &str, context: &EncryptionContext) -> bool {
        self.by.distinguishes(key_arn, context)
    }

    fn may_wait(&self) -> bool {
        self.kms.may_wait()
    }

    fn may_wait_for(&self, key_id: &str) -> bool {
        self.kms.may_wait_for(key_id)
    }

    fn tick(&self) {
        self.kms.tick();
    }

    fn version(&self) -> u64 {
        self.kms.version().wrapping_add(self.by.version())
    }

    fn providers(&self) -> Vec<ProviderStatus> {
        self.kms.providers()
    }

    fn take_outages(&self) -> Vec<Outage> {
        self.kms.take_outages()
    }

    fn calls(&self) -> KmsCalls {
        self.kms.calls()
    }
}

impl<K: Service + ?Sized> Service for Authorized<K> {
    fn call(&self, request: &Request, caller: &Principal) -> Result<Answer, Error> {
        self.permit(request, caller)?;
        self.kms.call(request, caller)
    }
}
