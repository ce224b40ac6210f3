//! Data keys under KMS keys, bucket keys and the service's own key: which calls a KMS gets, and what opens again.

use kmsfs_crypto::{DataKey, ObjectKeys, ObjectParameters};
use kmsfs_kms::{Caller, Code, EncryptionContext, Error, Operation};
use kmsfs_sse::{AWS_S3, Algorithm, Encryption, KeyService, RequestError, WrappedDataKey};
use kmsfs_testing::kms::{Action, Moody, OneKey};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

const S3_ARN: &str = "arn:aws:kms:us-east-1:000000000000:key/alias/aws/s3";
const X_ARN: &str = "arn:aws:kms:us-east-1:000000000000:key/alias/x";

/// A service whose KMS has the two keys of these ARNs, and whose clock the test sets.
struct Fixture {
    kms: Arc<Moody>,
    keys: KeyService,
    elapsed: Arc<Mutex<Duration>>,
}

impl Fixture {
    fn new() -> Self {
        let kms = Moody::new();
        kms.answer(|call| match call.key.as_str() {
            AWS_S3 | S3_ARN | "alias/x" | X_ARN => Ok(()),
            key => Err(Error::new(Code::NotFound, format!("Key '{key}' does not exist"))),
        });
        let elapsed = Arc::new(Mutex::new(Duration::ZERO));
        let (start, shared) = (Instant::now(), Arc::clone(&elapsed));
        let keys =
            KeyService::with_clock(kms.clone(), Arc::new(OneKey::new()), Box::new(move || start + *shared.lock()));
        Self { kms, keys, elapsed }
    }

    fn new_data_key(&self, want: &Encryption, uid: u32) -> Result<(DataKey, WrappedDataKey), RequestError> {
        self.keys.new_data_key(want, "my-bucket", "dir/bond.json", caller(uid))
    }

    /// As a mount does it: who asks for the data key has another wrapping of it made.
    fn rewrap(&self, wrapped: &WrappedDataKey, want: &Encryption, uid: u32) -> Result<WrappedDataKey, RequestError> {
        let data_key = self.keys.unwrap(wrapped, caller(uid))?;
        self.keys.wrap(&data_key, want, "my-bucket", "dir/bond.json", caller(uid))
    }

    fn pass(&self, seconds: u64) {
        *self.elapsed.lock() += Duration::from_secs(seconds);
    }

    /// The calls since the last look.
    fn calls(&self) -> Vec<String> {
        self.kms.take_calls().iter().map(ToString::to_string).collect()
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
fn print(key: DataKey) -> [u8; 32] {
    let parameters = ObjectParameters { object_id: [0; 16], chunk_size: 4096 };
    *ObjectKeys::new(key, parameters, 0).commitment()
}

fn code(error: RequestError) -> Code {
    match error {
        RequestError::Kms(error) => error.code,
        other => panic!("{other}"),
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
    assert_eq!(print(f.keys.unwrap(&wrapped, caller(1000)).unwrap()), print(key));
    assert_eq!(f.calls(), [""; 0]);
}

#[test]
fn aws_kms_asks_once_an_object_and_binds_its_arn() {
    let f = Fixture::new();
    let (key, wrapped) = f.new_data_key(&want(Algorithm::AwsKms, None, false), 1000).unwrap();
    assert_eq!((wrapped.algorithm, wrapped.key_arn.as_str()), (Algorithm::AwsKms, S3_ARN));
    assert_eq!(wrapped.context, pairs(OBJECT));
    assert_eq!(print(f.keys.unwrap(&wrapped, caller(1001)).unwrap()), print(key));
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
    assert!(error.to_string().starts_with("InvalidArgument: "), "{error}");
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
        assert_eq!(print(f.keys.unwrap(wrapped, caller(1000)).unwrap()), *made);
    }
    assert_eq!(f.count("Decrypt"), 1);
}

#[test]
fn bucket_keys_are_one_a_requester_a_key_a_bucket_and_a_context() {
    let f = Fixture::new();
    let mut kms = want(Algorithm::AwsKms, Some("alias/x"), true);
    f.new_data_key(&kms, 1000).unwrap();
    f.new_data_key(&kms, 1001).unwrap();
    f.keys.new_data_key(&kms, "other-bucket", "k", caller(1000)).unwrap();
    f.new_data_key(&want(Algorithm::AwsKms, None, true), 1000).unwrap();
    kms.context = pairs(&[("project", "bond")]);
    let (key, wrapped) = f.new_data_key(&kms, 1000).unwrap();
    assert_eq!(f.count("GenerateDataKey"), 5);
    assert_eq!(wrapped.context, pairs(&[BUCKET[0], ("project", "bond")]));
    assert_eq!(print(f.keys.unwrap(&wrapped, caller(1000)).unwrap()), print(key));
    f.keys.unwrap(&wrapped, caller(1001)).unwrap();
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
    f.keys.unwrap(&wrapped, caller(1000)).unwrap();

    f.kms.fail(Some(Error::new(Code::Disabled, format!("{X_ARN} is disabled."))));
    let error = f.new_data_key(&kms, 1000).unwrap_err();
    assert_eq!(error.to_string(), format!("KMS.DisabledException: {X_ARN} is disabled."));
    assert_eq!(code(error), Code::Disabled);
    assert_eq!(code(f.keys.unwrap(&wrapped, caller(1000)).unwrap_err()), Code::Disabled);

    f.kms.fail(None);
    f.new_data_key(&kms, 1000).unwrap();
    f.keys.unwrap(&wrapped, caller(1000)).unwrap();

    f.kms.deny(&caller(1000));
    assert_eq!(code(f.new_data_key(&kms, 1000).unwrap_err()), Code::AccessDenied);
    assert_eq!(code(f.keys.unwrap(&wrapped, caller(1000)).unwrap_err()), Code::AccessDenied);
    f.keys.unwrap(&wrapped, caller(1001)).unwrap();
}

#[test]
fn a_cached_bucket_key_is_not_found_under_another_key_or_context() {
    let f = Fixture::new();
    let (_, wrapped) = f.new_data_key(&want(Algorithm::AwsKms, Some("alias/x"), true), 1000).unwrap();
    f.keys.unwrap(&wrapped, caller(1000)).unwrap();
    let other_key = WrappedDataKey { key_arn: S3_ARN.to_owned(), ..wrapped.clone() };
    assert_eq!(code(f.keys.unwrap(&other_key, caller(1000)).unwrap_err()), Code::InvalidCiphertext);
    let other_context = WrappedDataKey { context: pairs(OBJECT), ..wrapped };
    assert_eq!(code(f.keys.unwrap(&other_context, caller(1000)).unwrap_err()), Code::InvalidCiphertext);
}

#[test]
fn every_flipped_byte_and_every_truncation_under_a_bucket_key_is_refused() {
    let f = Fixture::new();
    let (_, wrapped) = f.new_data_key(&want(Algorithm::AwsKms, Some("alias/x"), true), 1000).unwrap();
    let good = wrapped.under_bucket_key.clone().unwrap();
    let refused = |bytes: Vec<u8>| {
        let wrapped = WrappedDataKey { under_bucket_key: Some(bytes), ..wrapped.clone() };
        let error = f.keys.unwrap(&wrapped, caller(1000)).unwrap_err();
        assert_eq!(code(error), Code::InvalidCiphertext);
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
        wrapped = f.rewrap(&wrapped, &want, 1000).unwrap();
        assert_eq!((wrapped.algorithm, wrapped.key_arn.as_str()), (algorithm, arn));
        assert_eq!(wrapped.under_bucket_key.is_some(), bucket_key);
        assert_eq!(wrapped.context, pairs(if bucket_key { BUCKET } else { OBJECT }));
        assert_eq!(print(f.keys.unwrap(&wrapped, caller(1000)).unwrap()), key);
    }
}

#[test]
fn rewrapping_needs_leave_for_both_keys() {
    let f = Fixture::new();
    let (_, wrapped) = f.new_data_key(&want(Algorithm::AwsKms, None, false), 1000).unwrap();
    let rewrap = |key_id, uid| {
        let want = want(Algorithm::AwsKms, Some(key_id), false);
        f.rewrap(&wrapped, &want, uid).map(|_| ())
    };
    assert_eq!(code(rewrap("alias/nobody", 1000).unwrap_err()), Code::NotFound);
    f.kms.deny(&caller(1000));
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
    }
}

#[test]
fn dsse_asks_for_two_data_keys_under_one_kms_key() {
    let f = Fixture::new();
    let dsse = want(Algorithm::AwsKmsDsse, Some("alias/x"), false);
    let (key, wrapped) = f.new_data_key(&dsse, 1000).unwrap();
    assert_eq!(f.calls(), ["GenerateDataKey alias/x 1000".to_owned(), format!("GenerateDataKey {X_ARN} 1000")]);
    assert_eq!((wrapped.algorithm, wrapped.key_arn.as_str()), (Algorithm::AwsKmsDsse, X_ARN));
    assert_eq!(wrapped.context, pairs(OBJECT));
    let inner_blob = wrapped.inner_blob.clone().unwrap();
    assert_ne!(inner_blob, wrapped.ciphertext_blob);
    let key = print(key);
    assert_eq!(print(f.keys.unwrap(&wrapped, caller(1000)).unwrap()), key);
    assert_eq!(f.calls(), [format!("Decrypt {X_ARN} 1000"), format!("Decrypt {X_ARN} 1000")]);

    let swapped = WrappedDataKey {
        ciphertext_blob: inner_blob,
        inner_blob: Some(wrapped.ciphertext_blob.clone()),
        ..wrapped.clone()
    };
    assert_ne!(print(f.keys.unwrap(&swapped, caller(1000)).unwrap()), key, "the commitment tells them apart");
    let one = WrappedDataKey { inner_blob: None, ..wrapped };
    assert_eq!(code(f.keys.unwrap(&one, caller(1000)).unwrap_err()), Code::InvalidCiphertext);
}

#[test]
fn rewrapping_keeps_both_data_keys_and_never_the_number_of_layers() {
    let f = Fixture::new();
    let rewrap = |wrapped: &WrappedDataKey, want: &Encryption| f.rewrap(wrapped, want, 1000);
    let dsse = |key_id| want(Algorithm::AwsKmsDsse, Some(key_id), false);
    let (key, wrapped) = f.new_data_key(&dsse("alias/x"), 1000).unwrap();
    let again = rewrap(&wrapped, &dsse(AWS_S3)).unwrap();
    assert_eq!((again.algorithm, again.key_arn.as_str()), (Algorithm::AwsKmsDsse, S3_ARN));
    assert_eq!(print(f.keys.unwrap(&again, caller(1000)).unwrap()), print(key));
    let (_, single) = f.new_data_key(&want(Algorithm::AwsKms, None, false), 1000).unwrap();
    for error in [
        rewrap(&single, &dsse("alias/x")).unwrap_err(),
        rewrap(&wrapped, &want(Algorithm::AwsKms, None, false)).unwrap_err(),
        rewrap(&wrapped, &want(Algorithm::Aes256, None, false)).unwrap_err(),
    ] {
        assert_eq!(error.to_string(), "InvalidArgument: another number of layers needs another data key");
    }
}

#[test]
fn an_alias_is_resolved_by_describing_its_key_and_no_key_is_used() {
    let f = Fixture::new();
    let arn = |want: &Encryption| f.keys.key_arn(want, "my-bucket", caller(1000)).unwrap();
    assert_eq!(arn(&want(Algorithm::AwsKms, Some("alias/x"), true)).as_deref(), Some(X_ARN));
    assert_eq!(f.calls(), ["DescribeKey alias/x 1000", "authorize Encrypt alias/x 1000"]);
    assert_eq!(arn(&want(Algorithm::AwsKmsDsse, None, false)).as_deref(), Some(S3_ARN));
    assert_eq!(f.count("Encrypt"), 0);
    assert_eq!(arn(&want(Algorithm::Aes256, None, false)), None);
    assert_eq!(f.calls(), Vec::<String>::new());
    f.keys.check_wrapping(&want(Algorithm::AwsKms, Some("alias/x"), true), "my-bucket", caller(1000)).unwrap();
    assert_eq!(f.calls(), ["authorize Encrypt alias/x 1000"], "where it is resolved already");
    f.kms.deny_operation(Operation::Encrypt, &caller(1000));
    let denied = f.keys.key_arn(&want(Algorithm::AwsKms, Some("alias/x"), false), "my-bucket", caller(1000));
    assert_eq!(code(denied.unwrap_err()), Code::AccessDenied, "who may describe a key may not wrap under it by that");
}

#[test]
fn who_may_not_describe_a_key_resolves_an_alias_by_using_it() {
    let f = Fixture::new();
    f.kms.answer(|call| match call.action {
        Action::DescribeKey => Err(Error::new(Code::AccessDenied, "no")),
        _ => Ok(()),
    });
    let arn = f.keys.key_arn(&want(Algorithm::AwsKms, Some("alias/x"), false), "my-bucket", caller(1000));
    assert_eq!(arn.unwrap().as_deref(), Some(X_ARN));
    assert_eq!(f.calls(), ["DescribeKey alias/x 1000", "Encrypt alias/x 1000"]);
    f.kms.answer(|_| Err(Error::new(Code::DependencyTimeout, "")));
    let outage = f.keys.key_arn(&want(Algorithm::AwsKms, Some("alias/x"), false), "my-bucket", caller(1000));
    assert_eq!(code(outage.unwrap_err()), Code::DependencyTimeout);
    assert_eq!(f.count("Encrypt"), 0, "an outage is no refusal");
}
