//! The local KMS: data keys, and policies of some statements.

use criterion::Criterion;
use kmsfs_crypto::key_file;
use kmsfs_kms::api::NewKey;
use kmsfs_kms::{Caller, EncryptionContext, Kms, Operation};
use kmsfs_kms_local::{KeyringParameters, LocalKms, Unlock};
use std::path::Path;
use std::sync::Arc;

pub const ROOT: Caller = Caller { uid: 0, gid: 0, pid: 1 };

/// A keyring of its own in that directory.
pub fn kms(dir: &Path) -> Arc<LocalKms> {
    let key = || Unlock::KeyFile(key_file::from_bytes(&[1; 32]).unwrap());
    let parameters =
        KeyringParameters { store_id: [1; 16], account_id: "000000000000".into(), region: "us-east-1".into() };
    let keyring = dir.join("keyring");
    LocalKms::create(&keyring, &parameters, &key()).unwrap();
    LocalKms::open(&keyring, &key()).unwrap()
}

/// Lets the object's prefix be used by everybody, and denies twenty others.
fn policy() -> String {
    let allow = |sid: &str, effect: &str, prefix: &str| {
        format!(
            r#"{{"Sid": "{sid}", "Effect": "{effect}", "Principal": "*", "Action": ["kms:Decrypt", "kms:GenerateDataKey*"],
                "Resource": "*", "Condition": {{"StringLike": {{"kms:EncryptionContext:aws:s3:arn": "{prefix}*"}}}}}}"#
        )
    };
    let denied = (0..20).map(|n| allow(&format!("deny{n}"), "Deny", &format!("arn:aws:s3:::bucket/private-{n}/")));
    let allowed = allow("allow", "Allow", "arn:aws:s3:::bucket/");
    let statements: Vec<_> = denied.chain([allowed]).collect();
    format!(r#"{{"Version": "2012-10-17", "Statement": [{}]}}"#, statements.join(","))
}

pub fn all(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let kms = kms(dir.path());
    let context = EncryptionContext::from([("aws:s3:arn".into(), "arn:aws:s3:::bucket/some/object".into())]);
    let mut group = criterion.benchmark_group("kms");
    let plain = kms.administer(ROOT).create_key(&NewKey::default()).unwrap().arn;
    group.bench_function("GenerateDataKey", |bench| {
        bench.iter(|| kms.generate_data_key(&plain, &context, &ROOT.into()).unwrap().ciphertext_blob);
    });
    let blob = kms.generate_data_key(&plain, &context, &ROOT.into()).unwrap().ciphertext_blob;
    group.bench_function("Decrypt", |bench| {
        bench.iter(|| Kms::decrypt(&*kms, &plain, &blob, &context, &ROOT.into()).unwrap());
    });
    let new = NewKey { policy: Some(policy()), bypass_lockout_check: true, ..NewKey::default() };
    let guarded = kms.administer(ROOT).create_key(&new).unwrap().arn;
    let someone = Caller { uid: 65534, gid: 65534, pid: 1 };
    group.bench_function("the default policy", |bench| {
        bench.iter(|| kms.authorize(&plain, Operation::Decrypt, &context, &someone.into()).unwrap());
    });
    group.bench_function("a policy of 21 statements", |bench| {
        bench.iter(|| kms.authorize(&guarded, Operation::Decrypt, &context, &someone.into()).unwrap());
    });
    group.finish();
}
