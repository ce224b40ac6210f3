//! Data keys: made, unwrapped and wrapped anew under KMS keys, bucket keys or the service's own key.

use super::bucket_keys::{BucketKey, BucketKeys, Limits};
use super::wrapping::Wrapping;
use super::{Algorithm, Encryption, RequestError, WrappedDataKey, arn, request};
use kmsfs_crypto::{DataKey, SecretKey};
use kmsfs_kms::deadline::{self, Deadline};
use kmsfs_kms::{self as kms, EncryptionContext, Kms, Operation, Principal, ServiceKey, Waits, WouldWait, waits};
use kmsfs_locks::check_before_asking_the_kms;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The AWS managed key, which `aws:kms` without a key id means. KMS makes it at its first use.
pub const AWS_S3: &str = "alias/aws/s3";

/// S3 keeps a bucket key "for a limited time" and tells no numbers; these keep an audit trail readable and what a key
/// in memory protects small.
const LIMITS: Limits = Limits { lifetime: Duration::from_secs(5 * 60), uses: 1 << 16, kept: 1024 };

/// Makes and unwraps data keys: directly under a KMS key, under a bucket key, or under the service's own key.
pub struct KeyService {
    pub(super) kms: Arc<dyn Kms>,
    service: Arc<dyn ServiceKey>,
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
    /// How long an operation waits for the KMS.
    limit: Duration,
    pub(super) for_new: BucketKeys<Requested>,
    pub(super) for_existing: BucketKeys<Stored>,
}

/// What a bucket key for new objects is kept under: one per requester and KMS key, as S3 has it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Requested {
    /// As named in the request or configuration; an alias is resolved when the bucket key is made.
    key_id: String,
    context: EncryptionContext,
    uid: u32,
}

/// What a bucket key of existing objects is kept under: exactly what KMS was shown when it decrypted it, so that a
/// sidecar that names another key or context does not find it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Stored {
    key_arn: String,
    context: EncryptionContext,
    ciphertext_blob: Vec<u8>,
    uid: u32,
}

impl KeyService {
    /// Data keys of `kms`, and those under `service`, the service's own key.
    pub fn new(kms: Arc<dyn Kms>, service: Arc<dyn ServiceKey>) -> Self {
        Self::with_clock(kms, service, Box::new(Instant::now))
    }

    /// As [`KeyService::new`], with a clock of the caller's own, by which bucket keys grow old.
    pub fn with_clock(
        kms: Arc<dyn Kms>,
        service: Arc<dyn ServiceKey>,
        clock: Box<dyn Fn() -> Instant + Send + Sync>,
    ) -> Self {
        let (for_new, for_existing) = (BucketKeys::new(LIMITS), BucketKeys::new(LIMITS));
        Self { kms, service, clock, limit: deadline::LIMIT, for_new, for_existing }
    }

    /// As it is, with another limit than [`deadline::LIMIT`] to how long an operation waits for the KMS.
    #[must_use]
    pub fn waiting_at_most(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// When an operation that needs the KMS from now on is given up; `None` for a KMS that nobody waits for.
    pub fn deadline(&self) -> Option<Deadline> {
        self.kms.may_wait().then(|| Deadline::after(self.limit))
    }

    /// From here on the thread's operation waits so long for the KMS, and for others who ask it the same, and no
    /// longer, unless it began earlier. `None` for a KMS that nobody waits for.
    pub fn begin(&self) -> Option<deadline::Running> {
        self.deadline().map(Deadline::begin)
    }

    /// `key` is the object's S3 key. The context is `{"aws:s3:arn": object's or (with a bucket key) bucket's ARN}` and
    /// the request's own pairs.
    pub fn new_data_key(
        &self,
        want: &Encryption,
        bucket: &str,
        key: &str,
        caller: impl Into<Principal>,
    ) -> Result<(DataKey, WrappedDataKey), RequestError> {
        let _running = self.begin();
        let caller = &caller.into();
        match Wrapping::of(want) {
            Wrapping::Service => {
                let context = context(want, arn::object(bucket, key))?;
                let (data_key, blob) = self.service().generate_data_key(&context)?;
                Ok((data_key.into(), wrapped_by_service(context, blob)))
            }
            Wrapping::Kms { key_id } => {
                let context = context(want, arn::object(bucket, key))?;
                let generated = self.kms(key_id)?.generate_data_key(key_id, &context, caller)?;
                let wrapped = wrapped_by_kms(generated.key_arn, context, generated.ciphertext_blob);
                Ok((generated.plaintext.into(), wrapped))
            }
            Wrapping::Dual { key_id } => {
                let context = context(want, arn::object(bucket, key))?;
                let outer = self.kms(key_id)?.generate_data_key(key_id, &context, caller)?;
                // By its ARN: an alias may be moved in between.
                let inner = self.kms(&outer.key_arn)?.generate_data_key(&outer.key_arn, &context, caller)?;
                let blobs = (outer.ciphertext_blob, inner.ciphertext_blob);
                let wrapped = wrapped_twice(outer.key_arn, context, blobs);
                Ok((DataKey::Dual { outer: outer.plaintext, inner: inner.plaintext }, wrapped))
            }
            Wrapping::BucketKey { key_id } => {
                let data_key = SecretKey::random();
                let wrapped = self.wrap_under_bucket_key(&data_key, key_id, want, bucket, key, caller)?;
                Ok((data_key.into(), wrapped))
            }
        }
    }

    /// The object's data key, from the KMS, the service's own key or a bucket key in memory.
    ///
    /// # Errors
    ///
    /// As KMS refuses `caller`, or as what is wrapped is damaged.
    pub fn unwrap(&self, wrapped: &WrappedDataKey, caller: impl Into<Principal>) -> Result<DataKey, RequestError> {
        let _running = self.begin();
        let caller = &caller.into();
        let Some(inner_blob) = &wrapped.inner_blob else {
            return Ok(DataKey::Single(self.unwrap_single(wrapped, caller)?));
        };
        let kms = self.kms(&wrapped.key_arn)?;
        let decrypt = |blob: &[u8]| kms.decrypt(&wrapped.key_arn, blob, &wrapped.context, caller);
        Ok(DataKey::Dual { outer: decrypt(&wrapped.ciphertext_blob)?, inner: decrypt(inner_blob)? })
    }

    fn unwrap_single(&self, wrapped: &WrappedDataKey, caller: &Principal) -> Result<SecretKey, RequestError> {
        match (wrapped.algorithm, &wrapped.under_bucket_key) {
            (Algorithm::Aes256, None) => Ok(self.service().decrypt(&wrapped.ciphertext_blob, &wrapped.context)?),
            (Algorithm::AwsKms, None) => Ok(self.kms(&wrapped.key_arn)?.decrypt(
                &wrapped.key_arn,
                &wrapped.ciphertext_blob,
                &wrapped.context,
                caller,
            )?),
            (Algorithm::AwsKms, Some(under_bucket_key)) => {
                let bucket_key = self.bucket_key_of(wrapped, caller)?;
                bucket_key
                    .unwrap(under_bucket_key)
                    .map_err(|_| invalid_ciphertext("the data key is not what its bucket key wrapped"))
            }
            (Algorithm::Aes256, Some(_)) => Err(invalid_ciphertext("a data key of AES256 has no bucket key")),
            (Algorithm::AwsKmsDsse, _) => Err(invalid_ciphertext("there is one data key for two layers")),
        }
    }

    /// A data key that exists, wrapped as `want` says, which has as many layers.
    pub fn wrap(
        &self,
        data_key: &DataKey,
        want: &Encryption,
        bucket: &str,
        key: &str,
        caller: impl Into<Principal>,
    ) -> Result<WrappedDataKey, RequestError> {
        let _running = self.begin();
        let caller = &caller.into();
        match (Wrapping::of(want), data_key) {
            (Wrapping::Service, DataKey::Single(data_key)) => {
                let context = context(want, arn::object(bucket, key))?;
                let blob = self.service().encrypt(data_key, &context)?;
                Ok(wrapped_by_service(context, blob))
            }
            (Wrapping::Kms { key_id }, DataKey::Single(data_key)) => {
                let context = context(want, arn::object(bucket, key))?;
                let (key_arn, blob) = self.kms(key_id)?.encrypt(key_id, data_key, &context, caller)?;
                Ok(wrapped_by_kms(key_arn, context, blob))
            }
            (Wrapping::BucketKey { key_id }, DataKey::Single(data_key)) => {
                self.wrap_under_bucket_key(data_key, key_id, want, bucket, key, caller)
            }
            (Wrapping::Dual { key_id }, DataKey::Dual { outer, inner }) => {
                let context = context(want, arn::object(bucket, key))?;
                let (key_arn, outer) = self.kms(key_id)?.encrypt(key_id, outer, &context, caller)?;
                let (key_arn, inner) = self.kms(&key_arn)?.encrypt(&key_arn, inner, &context, caller)?;
                Ok(wrapped_twice(key_arn, context, (outer, inner)))
            }
            (Wrapping::Dual { .. }, DataKey::Single(_)) | (_, DataKey::Dual { .. }) => {
                Err(RequestError::invalid_argument("another number of layers needs another data key"))
            }
        }
    }

    /// The ARN of the KMS key that `want` names, or means, under which the caller must be allowed to wrap; `None` for
    /// AES256. KMS describes the key for whoever may do that (`kms:DescribeKey`). S3 resolves an alias by using the
    /// key, which takes no such permission, so that nobody needs it here: who lacks it has something wrapped.
    pub fn key_arn(
        &self,
        want: &Encryption,
        bucket: &str,
        caller: impl Into<Principal>,
    ) -> Result<Option<String>, RequestError> {
        let _running = self.begin();
        let caller = &caller.into();
        let Some((key_id, context)) = kms_key(want, bucket)? else { return Ok(None) };
        match self.kms(key_id)?.describe_key(key_id, caller) {
            Ok(key_arn) => {
                self.kms(key_id)?.authorize(key_id, Operation::Encrypt, &context, caller)?;
                Ok(Some(key_arn))
            }
            Err(error) if error.code == kms::Code::AccessDenied => {
                let (key_arn, _) = self.kms(key_id)?.encrypt(key_id, &SecretKey::random(), &context, caller)?;
                Ok(Some(key_arn))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses whom the KMS would not let wrap as `want` says. Nothing is resolved, and no key is used.
    pub fn check_wrapping(
        &self,
        want: &Encryption,
        bucket: &str,
        caller: impl Into<Principal>,
    ) -> Result<(), RequestError> {
        let _running = self.begin();
        let Some((key_id, context)) = kms_key(want, bucket)? else { return Ok(()) };
        Ok(self.kms(key_id)?.authorize(key_id, Operation::Encrypt, &context, &caller.into())?)
    }

    /// An error if calls about some key may take their time, and this thread must not wait for the KMS. For whoever
    /// does not know yet which key it will be.
    pub fn may_ask(&self) -> Result<(), WouldWait> {
        check_before_asking_the_kms();
        if self.kms.may_wait() { waits::may_wait(Waits::Kms) } else { Ok(()) }
    }

    /// The same for calls about that key alone.
    pub fn may_ask_about(&self, key_arn: &str) -> Result<(), WouldWait> {
        self.kms(key_arn).map(drop)
    }

    /// The one way to the KMS, for a call about a key: whoever calls it holds nothing that others wait for.
    #[cfg_attr(debug_assertions, track_caller)]
    fn kms(&self, key_id: &str) -> Result<&dyn Kms, WouldWait> {
        check_before_asking_the_kms();
        if self.kms.may_wait_for(key_id) {
            waits::may_wait(Waits::Kms)?;
        }
        Ok(&*self.kms)
    }

    /// As [`Kms::may_wait`].
    pub fn may_wait(&self) -> bool {
        self.kms.may_wait()
    }

    /// The key of the service itself, for one question to it.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn service(&self) -> &dyn ServiceKey {
        check_before_asking_the_kms();
        &*self.service
    }

    /// Zeroizes the bucket keys whose time is over, and lets the KMS do what is due. To be called every few seconds: a
    /// mount that is idle asks for nothing.
    pub fn tick(&self) {
        self.kms.tick();
        let now = (self.clock)();
        self.for_new.drop_expired(now);
        self.for_existing.drop_expired(now);
    }

    fn wrap_under_bucket_key(
        &self,
        data_key: &SecretKey,
        key_id: &str,
        want: &Encryption,
        bucket: &str,
        key: &str,
        caller: &Principal,
    ) -> Result<WrappedDataKey, RequestError> {
        let context = context(want, arn::bucket(bucket))?;
        // Before the bucket key's lock, which others hold while they ask.
        let kms = self.kms(key_id)?;
        let requested = Requested { key_id: key_id.to_owned(), context: context.clone(), uid: caller.uid() };
        let found = self.for_new.get(&requested, (self.clock)(), || {
            let generated = kms.generate_data_key(key_id, &context, caller)?;
            Ok::<_, RequestError>(BucketKey {
                key_arn: generated.key_arn,
                secret: generated.plaintext,
                ciphertext_blob: generated.ciphertext_blob,
                context: context.clone(),
                caller: caller.clone(),
            })
        })?;
        let bucket_key = found.bucket_key;
        if found.cached {
            kms.authorize(&bucket_key.key_arn, Operation::GenerateDataKey, &context, caller)
                .inspect_err(|_| self.for_new.forget(&requested))?;
        }
        let under_bucket_key = bucket_key.wrap(data_key, &arn::object(bucket, key));
        let blob = bucket_key.ciphertext_blob.clone();
        let mut wrapped = wrapped_by_kms(bucket_key.key_arn.clone(), context, blob);
        wrapped.under_bucket_key = Some(under_bucket_key);
        Ok(wrapped)
    }

    fn bucket_key_of(&self, wrapped: &WrappedDataKey, caller: &Principal) -> Result<Arc<BucketKey>, RequestError> {
        let WrappedDataKey { key_arn, context, ciphertext_blob, .. } = wrapped;
        let kms = self.kms(key_arn)?;
        let stored = Stored {
            key_arn: key_arn.clone(),
            context: context.clone(),
            ciphertext_blob: ciphertext_blob.clone(),
            uid: caller.uid(),
        };
        let found = self.for_existing.get(&stored, (self.clock)(), || {
            let secret = kms.decrypt(key_arn, ciphertext_blob, context, caller)?;
            let (key_arn, ciphertext_blob) = (key_arn.clone(), ciphertext_blob.clone());
            Ok::<_, RequestError>(BucketKey {
                key_arn,
                secret,
                ciphertext_blob,
                context: context.clone(),
                caller: caller.clone(),
            })
        })?;
        if found.cached {
            kms.authorize(key_arn, Operation::Decrypt, context, caller)
                .inspect_err(|_| self.for_existing.forget(&stored))?;
        }
        Ok(found.bucket_key)
    }
}

fn invalid_ciphertext(finding: &str) -> RequestError {
    RequestError::Kms(kms::Error { code: kms::Code::InvalidCiphertext, message: finding.to_owned() })
}

/// The KMS key that `want` names, or means, and the context that wrapping has there; `None` for AES256.
fn kms_key<'a>(want: &'a Encryption, bucket: &str) -> Result<Option<(&'a str, EncryptionContext)>, RequestError> {
    match Wrapping::of(want) {
        Wrapping::Service => Ok(None),
        Wrapping::Kms { key_id } | Wrapping::BucketKey { key_id } | Wrapping::Dual { key_id } => {
            Ok(Some((key_id, context(want, arn::bucket(bucket))?)))
        }
    }
}

/// The request's own pairs and the one that S3 adds.
fn context(want: &Encryption, arn: String) -> Result<EncryptionContext, RequestError> {
    request::check_context(&want.context)?;
    let mut context = want.context.clone();
    context.insert(arn::CONTEXT_KEY.to_owned(), arn);
    Ok(context)
}

fn wrapped_by_service(context: EncryptionContext, ciphertext_blob: Vec<u8>) -> WrappedDataKey {
    WrappedDataKey {
        algorithm: Algorithm::Aes256,
        key_arn: String::new(),
        context,
        ciphertext_blob,
        under_bucket_key: None,
        inner_blob: None,
    }
}

fn wrapped_by_kms(key_arn: String, context: EncryptionContext, ciphertext_blob: Vec<u8>) -> WrappedDataKey {
    let algorithm = Algorithm::AwsKms;
    WrappedDataKey { algorithm, key_arn, context, ciphertext_blob, under_bucket_key: None, inner_blob: None }
}

/// The blobs of the outer layer's data key and of the inner one's.
fn wrapped_twice(key_arn: String, context: EncryptionContext, blobs: (Vec<u8>, Vec<u8>)) -> WrappedDataKey {
    let single = wrapped_by_kms(key_arn, context, blobs.0);
    WrappedDataKey { algorithm: Algorithm::AwsKmsDsse, inner_blob: Some(blobs.1), ..single }
}
