//! What the tests of policies and grants share.

use super::{KeyringParameters, LocalKms, Machine, Unlock};
use kmsfs_kms::api::{Grant, GrantEntry, GrantRequest, Retired};
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

/// Short forms, on behalf of a caller.
impl LocalKms {
    pub(crate) fn put_key_policy(
        &self,
        key_id: &str,
        name: Option<&str>,
        text: &str,
        bypass: bool,
        caller: &Principal,
    ) -> Result<(), Error> {
        self.administer(caller).put_key_policy(key_id, name, text, bypass)
    }

    pub(crate) fn get_key_policy(&self, key_id: &str, name: Option<&str>, caller: &Principal) -> Result<String, Error> {
        self.administer(caller).get_key_policy(key_id, name)
    }

    pub(crate) fn list_key_policies(&self, key_id: &str, caller: &Principal) -> Result<Vec<String>, Error> {
        self.administer(caller).list_key_policies(key_id)
    }

    pub(crate) fn create_grant(
        &self,
        key_id: &str,
        request: &GrantRequest,
        tokens: &[String],
        caller: &Principal,
    ) -> Result<Grant, Error> {
        self.administer(caller).create_grant(key_id, request, tokens)
    }

    pub(crate) fn list_grants(
        &self,
        key_id: &str,
        grant_id: Option<&str>,
        grantee: Option<&str>,
        caller: &Principal,
    ) -> Result<Vec<GrantEntry>, Error> {
        self.administer(caller).list_grants(key_id, grant_id, grantee)
    }

    pub(crate) fn list_retirable_grants(&self, retiring: &str) -> Result<Vec<GrantEntry>, Error> {
        self.administer(&ROOT).list_retirable_grants(retiring)
    }

    pub(crate) fn revoke_grant(&self, key_id: &str, grant_id: &str, caller: &Principal) -> Result<(), Error> {
        self.administer(caller).revoke_grant(key_id, grant_id)
    }

    pub(crate) fn retire_grant(&self, which: &Retired, caller: &Principal) -> Result<(), Error> {
        self.administer(caller).retire_grant(which)
    }
}
