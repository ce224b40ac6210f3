//! Data keys: made, unwrapped and wrapped anew under KMS keys, bucket keys or the service's own key.

use super::bucket_keys::{BucketKey, BucketKeys, Limits};
use super::wrapping::{Wrapping, dsse_is_not_implemented};
use super::{Algorithm, Encryption, RequestError, WrappedDataKey, arn, request};
use crate::crypto::SecretKey;
use crate::kms::{self, Caller, EncryptionContext, Kms, Operation, ServiceKey};
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
    pub fn new(kms: Arc<dyn Kms>, service: Arc<dyn ServiceKey>) -> Self {
        Self::with_clock(kms, service, Box::new(Instant::now))
    }

    fn with_clock(
        kms: Arc<dyn Kms>,
        service: Arc<dyn ServiceKey>,
        clock: Box<dyn Fn() -> Instant + Send + Sync>,
    ) -> Self {
        Self { kms, service, clock, for_new: BucketKeys::new(LIMITS), for_existing: BucketKeys::new(LIMITS) }
    }

    /// `key` is the object's S3 key. The context is `{"aws:s3:arn": object's or (with a bucket key) bucket's ARN}` and
    /// the request's own pairs.
    pub fn new_data_key(
        &self,
        want: &Encryption,
        bucket: &str,
        key: &str,
        caller: &Caller,
    ) -> Result<(SecretKey, WrappedDataKey), RequestError> {
        match Wrapping::of(want)? {
            Wrapping::Service => {
                let context = context(want, arn::object(bucket, key))?;
                let (data_key, blob) = self.service.generate_data_key(&context)?;
                Ok((data_key, wrapped_by_service(context, blob)))
            }
            Wrapping::Kms { key_id } => {
                let context = context(want, arn::object(bucket, key))?;
                let generated = self.kms.generate_data_key(key_id, &context, caller)?;
                let wrapped = wrapped_by_kms(generated.key_arn, context, generated.ciphertext_blob);
                Ok((generated.plaintext, wrapped))
            }
            Wrapping::BucketKey { key_id } => {
                let data_key = SecretKey::random();
                let wrapped = self.wrap_under_bucket_key(&data_key, key_id, want, bucket, key, caller)?;
                Ok((data_key, wrapped))
            }
        }
    }

    pub fn unwrap(&self, wrapped: &WrappedDataKey, caller: &Caller) -> Result<SecretKey, RequestError> {
        match (wrapped.algorithm, &wrapped.under_bucket_key) {
            (Algorithm::Aes256, None) => Ok(self.service.decrypt(&wrapped.ciphertext_blob, &wrapped.context)?),
            (Algorithm::AwsKms, None) => {
                Ok(self.kms.decrypt(&wrapped.key_arn, &wrapped.ciphertext_blob, &wrapped.context, caller)?)
            }
            (Algorithm::AwsKms, Some(under_bucket_key)) => {
                let bucket_key = self.bucket_key_of(wrapped, caller)?;
                bucket_key
                    .unwrap(under_bucket_key)
                    .map_err(|_| invalid_ciphertext("the data key is not what its bucket key wrapped"))
            }
            (Algorithm::Aes256, Some(_)) => Err(invalid_ciphertext("a data key of AES256 has no bucket key")),
            (Algorithm::AwsKmsDsse, _) => Err(dsse_is_not_implemented()),
        }
    }

    /// The same data key, wrapped as `want` says.
    pub fn rewrap(
        &self,
        wrapped: &WrappedDataKey,
        want: &Encryption,
        bucket: &str,
        key: &str,
        caller: &Caller,
    ) -> Result<WrappedDataKey, RequestError> {
        let wrapping = Wrapping::of(want)?;
        let data_key = self.unwrap(wrapped, caller)?;
        match wrapping {
            Wrapping::Service => {
                let context = context(want, arn::object(bucket, key))?;
                let blob = self.service.encrypt(&data_key, &context)?;
                Ok(wrapped_by_service(context, blob))
            }
            Wrapping::Kms { key_id } => {
                let context = context(want, arn::object(bucket, key))?;
                let (key_arn, blob) = self.kms.encrypt(key_id, &data_key, &context, caller)?;
                Ok(wrapped_by_kms(key_arn, context, blob))
            }
            Wrapping::BucketKey { key_id } => self.wrap_under_bucket_key(&data_key, key_id, want, bucket, key, caller),
        }
    }

    /// The KMS key that `want` names, or means, resolved as when something is wrapped under it, which the caller must be
    /// allowed to do; `None` for AES256.
    pub fn key_arn(&self, want: &Encryption, bucket: &str, caller: &Caller) -> Result<Option<String>, RequestError> {
        let (Wrapping::Kms { key_id } | Wrapping::BucketKey { key_id }) = Wrapping::of(want)? else { return Ok(None) };
        let context = context(want, arn::bucket(bucket))?;
        let (key_arn, _) = self.kms.encrypt(key_id, &SecretKey::random(), &context, caller)?;
        Ok(Some(key_arn))
    }

    pub fn service(&self) -> &dyn ServiceKey {
        &*self.service
    }

    /// Zeroizes the bucket keys whose time is over, and lets the KMS do what is due. To be called every few seconds: a mount
    /// that is idle asks for nothing.
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
        caller: &Caller,
    ) -> Result<WrappedDataKey, RequestError> {
        let context = context(want, arn::bucket(bucket))?;
        let requested = Requested { key_id: key_id.to_owned(), context: context.clone(), uid: caller.uid };
        let found = self.for_new.get(&requested, (self.clock)(), || {
            let generated = self.kms.generate_data_key(key_id, &context, caller)?;
            Ok::<_, RequestError>(BucketKey {
                key_arn: generated.key_arn,
                secret: generated.plaintext,
                ciphertext_blob: generated.ciphertext_blob,
                context: context.clone(),
                caller: *caller,
            })
        })?;
        let bucket_key = found.bucket_key;
        if found.cached {
            self.kms
                .authorize(&bucket_key.key_arn, Operation::GenerateDataKey, &context, caller)
                .inspect_err(|_| self.for_new.forget(&requested))?;
        }
        let under_bucket_key = bucket_key.wrap(data_key, &arn::object(bucket, key));
        let blob = bucket_key.ciphertext_blob.clone();
        let mut wrapped = wrapped_by_kms(bucket_key.key_arn.clone(), context, blob);
        wrapped.under_bucket_key = Some(under_bucket_key);
        Ok(wrapped)
    }

    fn bucket_key_of(&self, wrapped: &WrappedDataKey, caller: &Caller) -> Result<Arc<BucketKey>, RequestError> {
        let WrappedDataKey { key_arn, context, ciphertext_blob, .. } = wrapped;
        let stored = Stored {
            key_arn: key_arn.clone(),
            context: context.clone(),
            ciphertext_blob: ciphertext_blob.clone(),
            uid: caller.uid,
        };
        let found = self.for_existing.get(&stored, (self.clock)(), || {
            let secret = self.kms.decrypt(key_arn, ciphertext_blob, context, caller)?;
            let (key_arn, ciphertext_blob) = (key_arn.clone(), ciphertext_blob.clone());
            Ok::<_, RequestError>(BucketKey {
                key_arn,
                secret,
                ciphertext_blob,
                context: context.clone(),
                caller: *caller,
            })
        })?;
        if found.cached {
            self.kms
                .authorize(key_arn, Operation::Decrypt, context, caller)
                .inspect_err(|_| self.for_existing.forget(&stored))?;
        }
        Ok(found.bucket_key)
    }
}

fn invalid_ciphertext(finding: &str) -> RequestError {
    RequestError::Kms(kms::Error { code: kms::Code::InvalidCiphertext, message: finding.to_owned() })
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
    }
}

fn wrapped_by_kms(key_arn: String, context: EncryptionContext, ciphertext_blob: Vec<u8>) -> WrappedDataKey {
    WrappedDataKey { algorithm: Algorithm::AwsKms, key_arn, context, ciphertext_blob, under_bucket_key: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{ObjectKeys, ObjectParameters, Suite, envelope};
    use kms::{Code, Error, GeneratedDataKey};
    use parking_lot::Mutex;

    const S3_ARN: &str = "arn:aws:kms:us-east-1:000000000000:key/aws-s3";
    const X_ARN: &str = "arn:aws:kms:us-east-1:000000000000:key/x";

    /// One secret wraps everything; the key's ARN and the context are additional data.
    struct FakeKms {
        secret: SecretKey,
        calls: Mutex<Vec<String>>,
        disabled: Mutex<bool>,
        denied_uid: Mutex<Option<u32>>,
    }

    impl FakeKms {
        fn call(&self, name: &str, key_id: &str, caller: &Caller) -> Result<String, Error> {
            self.calls.lock().push(format!("{name} {key_id} {}", caller.uid));
            let (code, message) = match key_id {
                _ if *self.disabled.lock() => (Code::Disabled, format!("{X_ARN} is disabled.")),
                _ if *self.denied_uid.lock() == Some(caller.uid) => (Code::AccessDenied, "User".to_owned()),
                AWS_S3 | S3_ARN => return Ok(S3_ARN.to_owned()),
                "alias/x" | X_ARN => return Ok(X_ARN.to_owned()),
                _ => (Code::NotFound, format!("Key '{key_id}' does not exist")),
            };
            Err(Error { code, message })
        }

        fn wrap(&self, arn: &str, secret: &SecretKey, context: &EncryptionContext) -> Vec<u8> {
            envelope::wrap(&self.secret, secret, format!("{arn} {context:?}").as_bytes())
        }

        fn unwrap(&self, arn: &str, blob: &[u8], context: &EncryptionContext) -> Result<SecretKey, Error> {
            envelope::unwrap(&self.secret, blob, format!("{arn} {context:?}").as_bytes())
                .map_err(|_| Error { code: Code::InvalidCiphertext, message: String::new() })
        }
    }

    impl Kms for FakeKms {
        fn generate_data_key(
            &self,
            key_id: &str,
            context: &EncryptionContext,
            caller: &Caller,
        ) -> Result<GeneratedDataKey, Error> {
            let key_arn = self.call("GenerateDataKey", key_id, caller)?;
            let plaintext = SecretKey::random();
            let ciphertext_blob = self.wrap(&key_arn, &plaintext, context);
            Ok(GeneratedDataKey { key_arn, plaintext, ciphertext_blob })
        }

        fn encrypt(
            &self,
            key_id: &str,
            plaintext: &SecretKey,
            context: &EncryptionContext,
            caller: &Caller,
        ) -> Result<(String, Vec<u8>), Error> {
            let key_arn = self.call("Encrypt", key_id, caller)?;
            let blob = self.wrap(&key_arn, plaintext, context);
            Ok((key_arn, blob))
        }

        fn decrypt(
            &self,
            key_arn: &str,
            blob: &[u8],
            context: &EncryptionContext,
            caller: &Caller,
        ) -> Result<SecretKey, Error> {
            self.call("Decrypt", key_arn, caller)?;
            self.unwrap(key_arn, blob, context)
        }

        fn authorize(
            &self,
            key_arn: &str,
            operation: Operation,
            _context: &EncryptionContext,
            caller: &Caller,
        ) -> Result<(), Error> {
            self.call(&format!("authorize {operation:?}"), key_arn, caller).map(|_| ())
        }
    }

    impl ServiceKey for FakeKms {
        fn generate_data_key(&self, context: &EncryptionContext) -> Result<(SecretKey, Vec<u8>), Error> {
            let data_key = SecretKey::random();
            let blob = self.wrap("", &data_key, context);
            Ok((data_key, blob))
        }
        fn encrypt(&self, plaintext: &SecretKey, context: &EncryptionContext) -> Result<Vec<u8>, Error> {
            Ok(self.wrap("", plaintext, context))
        }
        fn decrypt(&self, blob: &[u8], context: &EncryptionContext) -> Result<SecretKey, Error> {
            self.unwrap("", blob, context)
        }
    }

    struct Fixture {
        kms: Arc<FakeKms>,
        keys: KeyService,
        elapsed: Arc<Mutex<Duration>>,
    }

    impl Fixture {
        fn new() -> Self {
            let kms = Arc::new(FakeKms {
                secret: SecretKey::random(),
                calls: Mutex::default(),
                disabled: Mutex::default(),
                denied_uid: Mutex::default(),
            });
            let elapsed = Arc::new(Mutex::new(Duration::ZERO));
            let (start, shared) = (Instant::now(), Arc::clone(&elapsed));
            let keys = KeyService::with_clock(kms.clone(), kms.clone(), Box::new(move || start + *shared.lock()));
            Self { kms, keys, elapsed }
        }

        fn new_data_key(&self, want: &Encryption, uid: u32) -> Result<(SecretKey, WrappedDataKey), RequestError> {
            self.keys.new_data_key(want, "my-bucket", "dir/bond.json", &caller(uid))
        }

        fn pass(&self, seconds: u64) {
            *self.elapsed.lock() += Duration::from_secs(seconds);
        }

        /// The calls since the last look.
        fn calls(&self) -> Vec<String> {
            std::mem::take(&mut self.kms.calls.lock())
        }

        /// How often each operation was called since the last look, authorizations aside.
        fn count(&self, operation: &str) -> usize {
            self.calls().iter().filter(|call| call.starts_with(operation)).count()
        }
    }

    fn caller(uid: u32) -> Caller {
        Caller { uid, gid: 100, pid: 1 }
    }

    fn want(algorithm: Algorithm, key_id: Option<&str>, bucket_key: bool) -> Encryption {
        Encryption { algorithm, key_id: key_id.map(str::to_owned), bucket_key, context: EncryptionContext::new() }
    }

    fn pairs(pairs: &[(&str, &str)]) -> EncryptionContext {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    /// Equal for equal keys; a key itself can be looked at by nobody.
    fn print(key: SecretKey) -> [u8; 32] {
        let parameters = ObjectParameters { object_id: [0; 16], suite: Suite::Aes256Gcm, chunk_size: 4096 };
        *ObjectKeys::new(key, parameters, 0).commitment()
    }

    fn code(error: RequestError) -> Code {
        match error {
            RequestError::Kms(error) => error.code,
            RequestError::Invalid { code, message } => panic!("{code}: {message}"),
        }
    }

    const OBJECT: &[(&str, &str)] = &[("aws:s3:arn", "arn:aws:s3:::my-bucket/dir/bond.json")];
    const BUCKET: &[(&str, &str)] = &[("aws:s3:arn", "arn:aws:s3:::my-bucket")];

    #[test]
    fn aes256_is_the_services_key_and_no_kms_call() {
        let f = Fixture::new();
        let (key, wrapped) = f.new_data_key(&want(Algorithm::Aes256, None, true), 1000).unwrap();
        assert_eq!((wrapped.algorithm, wrapped.key_arn.as_str()), (Algorithm::Aes256, ""));
        assert_eq!(wrapped.context, pairs(OBJECT));
        assert_eq!(wrapped.under_bucket_key, None);
        assert_eq!(print(f.keys.unwrap(&wrapped, &caller(1000)).unwrap()), print(key));
        assert_eq!(f.calls(), [""; 0]);
    }

    #[test]
    fn aws_kms_asks_once_an_object_and_binds_its_arn() {
        let f = Fixture::new();
        let (key, wrapped) = f.new_data_key(&want(Algorithm::AwsKms, None, false), 1000).unwrap();
        assert_eq!((wrapped.algorithm, wrapped.key_arn.as_str()), (Algorithm::AwsKms, S3_ARN));
        assert_eq!(wrapped.context, pairs(OBJECT));
        assert_eq!(print(f.keys.unwrap(&wrapped, &caller(1001)).unwrap()), print(key));
        assert_eq!(f.calls(), ["GenerateDataKey alias/aws/s3 1000", &format!("Decrypt {S3_ARN} 1001")]);
    }

    #[test]
    fn a_requests_context_is_extended_by_the_arn() {
        let f = Fixture::new();
        let mut kms = want(Algorithm::AwsKms, Some("alias/x"), false);
        kms.context = pairs(&[("project", "bond")]);
        let (_, wrapped) = f.new_data_key(&kms, 1000).unwrap();
        assert_eq!(wrapped.context, pairs(&[OBJECT[0], ("project", "bond")]));
        kms.context = pairs(&[("aws:s3:arn", "arn:aws:s3:::other")]);
        let error = f.new_data_key(&kms, 1000).unwrap_err();
        assert!(error.log_text().starts_with("InvalidArgument: "), "{error}");
    }

    #[test]
    fn a_hundred_objects_under_a_bucket_key_cost_one_generate_data_key() {
        let f = Fixture::new();
        let kms = want(Algorithm::AwsKms, Some("alias/x"), true);
        let made: Vec<_> =
            (0..100).map(|_| f.new_data_key(&kms, 1000).unwrap()).map(|(key, wrapped)| (print(key), wrapped)).collect();
        assert_eq!(f.count("GenerateDataKey"), 1);
        let prints: std::collections::BTreeSet<_> = made.iter().map(|(print, _)| print).collect();
        assert_eq!(prints.len(), 100, "every object has a data key of its own");
        for (made, wrapped) in &made {
            assert_eq!((wrapped.key_arn.as_str(), &wrapped.context), (X_ARN, &pairs(BUCKET)));
            assert_eq!(print(f.keys.unwrap(wrapped, &caller(1000)).unwrap()), *made);
        }
        assert_eq!(f.count("Decrypt"), 1);
    }

    #[test]
    fn bucket_keys_are_one_a_requester_a_key_a_bucket_and_a_context() {
        let f = Fixture::new();
        let mut kms = want(Algorithm::AwsKms, Some("alias/x"), true);
        f.new_data_key(&kms, 1000).unwrap();
        f.new_data_key(&kms, 1001).unwrap();
        f.keys.new_data_key(&kms, "other-bucket", "k", &caller(1000)).unwrap();
        f.new_data_key(&want(Algorithm::AwsKms, None, true), 1000).unwrap();
        kms.context = pairs(&[("project", "bond")]);
        let (key, wrapped) = f.new_data_key(&kms, 1000).unwrap();
        assert_eq!(f.count("GenerateDataKey"), 5);
        assert_eq!(wrapped.context, pairs(&[BUCKET[0], ("project", "bond")]));
        assert_eq!(print(f.keys.unwrap(&wrapped, &caller(1000)).unwrap()), print(key));
        f.keys.unwrap(&wrapped, &caller(1001)).unwrap();
        assert_eq!(f.count("Decrypt"), 2, "each requester's first use is a call, and so in the audit trail");
    }

    #[test]
    fn a_bucket_key_is_asked_for_again_after_five_minutes() {
        let f = Fixture::new();
        let kms = want(Algorithm::AwsKms, Some("alias/x"), true);
        let (_, first) = f.new_data_key(&kms, 1000).unwrap();
        f.pass(299);
        assert_eq!(f.new_data_key(&kms, 1000).unwrap().1.ciphertext_blob, first.ciphertext_blob);
        f.pass(1);
        assert_ne!(f.new_data_key(&kms, 1000).unwrap().1.ciphertext_blob, first.ciphertext_blob);
        assert_eq!(f.count("GenerateDataKey"), 2);
    }

    #[test]
    fn a_cached_bucket_key_does_not_outlive_its_kms_keys_consent() {
        let f = Fixture::new();
        let kms = want(Algorithm::AwsKms, Some("alias/x"), true);
        let (_, wrapped) = f.new_data_key(&kms, 1000).unwrap();
        f.keys.unwrap(&wrapped, &caller(1000)).unwrap();

        *f.kms.disabled.lock() = true;
        let error = f.new_data_key(&kms, 1000).unwrap_err();
        assert_eq!(error.log_text(), format!("KMS.DisabledException: {X_ARN} is disabled."));
        assert_eq!(error.errno(), libc::EACCES);
        assert_eq!(code(f.keys.unwrap(&wrapped, &caller(1000)).unwrap_err()), Code::Disabled);

        *f.kms.disabled.lock() = false;
        f.new_data_key(&kms, 1000).unwrap();
        f.keys.unwrap(&wrapped, &caller(1000)).unwrap();

        *f.kms.denied_uid.lock() = Some(1000);
        assert_eq!(code(f.new_data_key(&kms, 1000).unwrap_err()), Code::AccessDenied);
        assert_eq!(code(f.keys.unwrap(&wrapped, &caller(1000)).unwrap_err()), Code::AccessDenied);
        f.keys.unwrap(&wrapped, &caller(1001)).unwrap();
    }

    #[test]
    fn a_cached_bucket_key_is_not_found_under_another_key_or_context() {
        let f = Fixture::new();
        let (_, wrapped) = f.new_data_key(&want(Algorithm::AwsKms, Some("alias/x"), true), 1000).unwrap();
        f.keys.unwrap(&wrapped, &caller(1000)).unwrap();
        let other_key = WrappedDataKey { key_arn: S3_ARN.to_owned(), ..wrapped.clone() };
        assert_eq!(code(f.keys.unwrap(&other_key, &caller(1000)).unwrap_err()), Code::InvalidCiphertext);
        let other_context = WrappedDataKey { context: pairs(OBJECT), ..wrapped };
        assert_eq!(code(f.keys.unwrap(&other_context, &caller(1000)).unwrap_err()), Code::InvalidCiphertext);
    }

    #[test]
    fn every_flipped_byte_and_every_truncation_under_a_bucket_key_is_refused() {
        let f = Fixture::new();
        let (_, wrapped) = f.new_data_key(&want(Algorithm::AwsKms, Some("alias/x"), true), 1000).unwrap();
        let good = wrapped.under_bucket_key.clone().unwrap();
        let refused = |bytes: Vec<u8>| {
            let wrapped = WrappedDataKey { under_bucket_key: Some(bytes), ..wrapped.clone() };
            let error = f.keys.unwrap(&wrapped, &caller(1000)).unwrap_err();
            assert_eq!(error.errno(), libc::EIO, "{error}");
        };
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x80;
            refused(bytes);
            refused(good[..at].to_vec());
        }
        refused([&good[..], &[0]].concat());
    }

    #[test]
    fn rewrapping_keeps_the_data_key() {
        let f = Fixture::new();
        let (key, mut wrapped) = f.new_data_key(&want(Algorithm::Aes256, None, false), 1000).unwrap();
        let key = print(key);
        for (algorithm, key_id, bucket_key, arn) in [
            (Algorithm::AwsKms, None, false, S3_ARN),
            (Algorithm::AwsKms, Some("alias/x"), true, X_ARN),
            (Algorithm::AwsKms, Some(X_ARN), false, X_ARN),
            (Algorithm::Aes256, None, false, ""),
        ] {
            let want = want(algorithm, key_id, bucket_key);
            wrapped = f.keys.rewrap(&wrapped, &want, "my-bucket", "dir/bond.json", &caller(1000)).unwrap();
            assert_eq!((wrapped.algorithm, wrapped.key_arn.as_str()), (algorithm, arn));
            assert_eq!(wrapped.under_bucket_key.is_some(), bucket_key);
            assert_eq!(wrapped.context, pairs(if bucket_key { BUCKET } else { OBJECT }));
            assert_eq!(print(f.keys.unwrap(&wrapped, &caller(1000)).unwrap()), key);
        }
    }

    #[test]
    fn rewrapping_needs_leave_for_both_keys() {
        let f = Fixture::new();
        let (_, wrapped) = f.new_data_key(&want(Algorithm::AwsKms, None, false), 1000).unwrap();
        let rewrap = |key_id, uid| {
            let want = want(Algorithm::AwsKms, Some(key_id), false);
            f.keys.rewrap(&wrapped, &want, "my-bucket", "k", &caller(uid)).map(|_| ())
        };
        assert_eq!(code(rewrap("alias/nobody", 1000).unwrap_err()), Code::NotFound);
        *f.kms.denied_uid.lock() = Some(1000);
        assert_eq!(code(rewrap("alias/x", 1000).unwrap_err()), Code::AccessDenied);
        rewrap("alias/x", 1001).unwrap();
    }

    #[test]
    fn an_unknown_key_is_kms_error_untouched() {
        let f = Fixture::new();
        for bucket_key in [false, true] {
            let error = f.new_data_key(&want(Algorithm::AwsKms, Some("alias/nobody"), bucket_key), 1000).unwrap_err();
            let message = "Key 'alias/nobody' does not exist".to_owned();
            assert_eq!(error, RequestError::Kms(Error { code: Code::NotFound, message }));
            assert_eq!(error.errno(), libc::ENOKEY);
        }
    }

    #[test]
    fn dsse_is_refused_clearly_wherever_it_is_met() {
        let f = Fixture::new();
        let dsse = want(Algorithm::AwsKmsDsse, None, false);
        let error = f.new_data_key(&dsse, 1000).unwrap_err();
        assert_eq!(error.errno(), libc::EOPNOTSUPP);
        assert!(error.log_text().starts_with("NotImplemented: aws:kms:dsse"), "{error}");
        let (_, wrapped) = f.new_data_key(&want(Algorithm::AwsKms, None, false), 1000).unwrap();
        f.calls();
        assert_eq!(f.keys.rewrap(&wrapped, &dsse, "my-bucket", "k", &caller(1000)).unwrap_err(), error);
        let stored = WrappedDataKey { algorithm: Algorithm::AwsKmsDsse, ..wrapped };
        assert_eq!(f.keys.unwrap(&stored, &caller(1000)).unwrap_err(), error);
        assert_eq!(f.calls(), [""; 0], "no key was used");
    }
}
