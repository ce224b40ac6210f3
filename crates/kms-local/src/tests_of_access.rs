//! What the tests of policies and grants share.

use super::{KeyringParameters, LocalKms, Machine, Unlock};
use kmsfs_kms::{Caller, Code, EncryptionContext, Error, Principal};
use std::sync::Arc;

/// Users without names, so that they are the same on every machine.
pub(crate) const ALICE: Principal = Principal::Process(Caller { uid: 4_000_001, gid: 4_000_001, pid: 0 });
pub(crate) const BOB: Principal = Principal::Process(Caller { uid: 4_000_002, gid: 4_000_002, pid: 0 });
pub(crate) const ROOT: Principal = Principal::Process(Caller { uid: 0, gid: 0, pid: 0 });

pub(crate) fn kms(dir: &tempfile::TempDir) -> Arc<LocalKms> {
    kms_on(dir, Machine::default())
}

pub(crate) fn kms_on(dir: &tempfile::TempDir, machine: Machine) -> Arc<LocalKms> {
    let path = dir.path().join("key");
    kmsfs_crypto::key_file::create(&path).unwrap();
    let unlock = || Unlock::KeyFile(kmsfs_crypto::key_file::read(&path).unwrap());
    let place = dir.path().join("keyring");
    let (account_id, region) = ("111122223333".into(), "eu-central-1".into());
    LocalKms::create(&place, &KeyringParameters { store_id: [1; 16], account_id, region }, &unlock()).unwrap();
    LocalKms::open_on(&place, &unlock(), machine).unwrap()
}

pub(crate) fn arn_of(principal: &str) -> String {
    format!("arn:aws:iam::111122223333:{principal}")
}

pub(crate) fn allow(principal: &str, action: &str) -> String {
    let arn = arn_of(principal);
    format!(r#"{{"Effect": "Allow", "Action": "{action}", "Resource": "*", "Principal": {{"AWS": "{arn}"}}}}"#)
}

pub(crate) fn policy(statements: &[&str]) -> String {
    format!(r#"{{"Version": "2012-10-17", "Statement": [{}]}}"#, statements.join(", "))
}

pub(crate) fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
    pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect()
}

pub(crate) fn access_denied(principal: &str, action: &str, key_arn: &str) -> Error {
    let user = arn_of(principal);
    let text = format!(
        "User: {user} is not authorized to perform: kms:{action} on resource: {key_arn} \
         because no resource-based policy allows the kms:{action} action"
    );
    Error::new(Code::AccessDenied, text)
}
