//! What a keyring keeps of keys of other KMSs.

use super::tests_of_access::{ALICE, BOB, ROOT, access_denied, allow, arn_of, context, policy};
use super::{KeyringParameters, LocalKms, Unlock};
use kmsfs_kms::api::{Answer, Constraints, GrantRequest, NewKey, PageRequest, Request, Service, Tag};
use kmsfs_kms::{Authorizer, Code, Error, KeyUse, Kms, Operation, Principal};
use std::path::Path;
use std::sync::Arc;

const FAR: &str = "arn:aws:kms:ap-south-1:444455556666:key/k";

fn open(dir: &Path) -> Arc<LocalKms> {
    let path = dir.join("key");
    if !path.exists() {
        kmsfs_crypto::key_file::create(&path).unwrap();
        let (account_id, region) = ("111122223333".into(), "eu-central-1".into());
        let parameters = KeyringParameters { store_id: [1; 16], account_id, region };
        LocalKms::create(&dir.join("keyring"), &parameters, &unlock(&path)).unwrap();
    }
    LocalKms::open(&dir.join("keyring"), &unlock(&path)).unwrap()
}

fn unlock(path: &Path) -> Unlock {
    Unlock::KeyFile(kmsfs_crypto::key_file::read(path).unwrap())
}

fn administer(kms: &LocalKms, request: &Request, caller: &Principal) -> Result<Answer, Error> {
    Authorizer::administer(kms, FAR, request, caller)
}

fn put_policy(text: &str) -> Request {
    let (key_id, policy) = (FAR.into(), text.into());
    Request::PutKeyPolicy { key_id, policy_name: None, policy, bypass_policy_lockout_safety_check: false }
}

fn policy_of(kms: &LocalKms) -> String {
    let request = Request::GetKeyPolicy { key_id: FAR.into(), policy_name: None };
    let Ok(Answer::Policy(text)) = administer(kms, &request, &ROOT) else { panic!("it has one") };
    text
}

/// Whether that caller may decrypt through a mount.
fn permit(kms: &LocalKms, caller: &Principal) -> Result<(), Error> {
    let context = context(&[]);
    let asked = KeyUse { key_arn: FAR, action: "Decrypt", context: Some(&context), caller, through_s3: true };
    Authorizer::permit(kms, &asked)
}

fn is_kept(kms: &LocalKms) -> bool {
    kms.ask(|contents| Ok(contents.elsewhere(FAR).is_some())).unwrap()
}

fn generation(kms: &LocalKms) -> u64 {
    kms.ask(|contents| Ok(contents.generation)).unwrap()
}

#[test]
fn a_key_elsewhere_has_the_default_policy_until_one_is_put_and_that_one_decides_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let kms = open(dir.path());
    let own = kms.administer(&ROOT).create_key(&NewKey::default()).unwrap().arn;
    assert_eq!(policy_of(&kms), kms.get_key_policy(&own, None, &ROOT).unwrap());
    assert_eq!((permit(&kms, &ALICE), is_kept(&kms)), (Ok(()), false), "whoever POSIX lets, and nothing was written");
    assert!(!Authorizer::distinguishes(&*kms, FAR, &context(&[])));
    let for_alice = policy(&[&allow("root", "kms:*"), &allow("user/uid:4000001", "kms:Decrypt")]);
    let before = Authorizer::version(&*kms);
    administer(&kms, &put_policy(&for_alice), &ROOT).unwrap();
    assert!(Authorizer::version(&*kms) > before);
    for kms in [kms, open(dir.path())] {
        assert_eq!(policy_of(&kms), for_alice);
        assert_eq!(permit(&kms, &ALICE), Ok(()));
        assert_eq!(permit(&kms, &BOB), Err(access_denied("user/uid:4000002", "Decrypt", FAR)));
        assert!(Authorizer::distinguishes(&*kms, FAR, &context(&[])));
        assert_eq!(kms.list_keys().unwrap(), std::slice::from_ref(&own), "it is no key of this KMS");
    }
}

#[test]
fn grants_hold_as_those_of_a_key_of_this_kms() {
    let dir = tempfile::tempdir().unwrap();
    let kms = open(dir.path());
    administer(&kms, &put_policy(&policy(&[&allow("root", "kms:*")])), &ROOT).unwrap();
    assert_eq!(permit(&kms, &ALICE), Err(access_denied("user/uid:4000001", "Decrypt", FAR)));
    let grant = GrantRequest {
        grantee_principal: arn_of("user/uid:4000001"),
        retiring_principal: None,
        operations: vec!["Decrypt".into()],
        constraints: Constraints::default(),
        name: None,
    };
    let create = Request::CreateGrant { key_id: FAR.into(), grant, grant_tokens: vec![] };
    let Answer::Grant { id, token } = administer(&kms, &create, &ROOT).unwrap() else { panic!("it is a grant") };
    assert_eq!((permit(&kms, &ALICE), permit(&kms, &BOB).is_err()), (Ok(()), true));
    let list = Request::ListGrants {
        key_id: FAR.into(),
        grant_id: None,
        grantee_principal: None,
        page: PageRequest::default(),
    };
    let Answer::Grants(listed) = administer(&kms, &list, &ROOT).unwrap() else { panic!("they are grants") };
    assert_eq!((listed.entries.len(), &*listed.entries[0].key_arn), (1, FAR));
    let by_token = kmsfs_kms::api::Retired::Token { grant_token: token };
    assert_eq!(kms.retire_grant(&by_token, &BOB).unwrap_err().code, Code::AccessDenied);
    administer(&kms, &Request::RevokeGrant { key_id: FAR.into(), grant_id: id }, &ROOT).unwrap();
    assert!(permit(&kms, &ALICE).is_err());
}

#[test]
fn tags_and_aliases_are_kept_here_and_a_key_without_anything_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let kms = open(dir.path());
    let tag = Tag { key: "team".into(), value: "billing".into() };
    administer(&kms, &Request::TagResource { key_id: FAR.into(), tags: vec![tag.clone()] }, &ROOT).unwrap();
    let list = Request::ListResourceTags { key_id: FAR.into(), page: PageRequest::default() };
    let Answer::Tags(tags) = administer(&kms, &list, &ROOT).unwrap() else { panic!("they are tags") };
    assert_eq!(tags.entries, [tag]);
    administer(&kms, &Request::UntagResource { key_id: FAR.into(), tag_keys: vec!["team".into()] }, &ROOT).unwrap();
    assert!(!is_kept(&kms));

    let alias = |target: &str| Request::UpdateAlias { alias_name: "alias/x".into(), target_key_id: target.into() };
    let create = Request::CreateAlias { alias_name: "alias/x".into(), target_key_id: FAR.into() };
    administer(&kms, &create, &ROOT).unwrap();
    assert_eq!(kms.arn_of("alias/x").as_deref(), Some(FAR));
    assert_eq!(kms.arn_of("arn:aws:kms:eu-central-1:111122223333:alias/x").as_deref(), Some(FAR));
    for key_id in [None, Some(FAR)] {
        let listed = kms.administer(&ROOT).list_aliases(key_id, &PageRequest::default()).unwrap().entries;
        assert_eq!((&*listed[0].name, &*listed[0].key_id), ("alias/x", "k"));
    }
    // Where nothing leads to its KMS it is refused, and not taken for a key of this one.
    let refused = kms.authorize("alias/x", Operation::Decrypt, &context(&[]), &ROOT).unwrap_err();
    assert_eq!(refused.code, Code::KmsInvalidState);
    assert!(Kms::generate_data_key(&*kms, "alias/x", &context(&[]), &ROOT).is_err());
    let own = kms.administer(&ROOT).create_key(&NewKey::default()).unwrap().arn;
    kms.call(&alias(&own), &ROOT).unwrap();
    assert_eq!((kms.arn_of("alias/x"), is_kept(&kms)), (Some(own), false));
    administer(&kms, &alias(FAR), &ROOT).unwrap();
    assert_eq!(kms.arn_of("alias/x").as_deref(), Some(FAR));
    kms.call(&Request::DeleteAlias { alias_name: "alias/x".into() }, &ROOT).unwrap();
    assert!(!is_kept(&kms));
}

#[test]
fn what_is_refused_about_a_key_elsewhere_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let kms = open(dir.path());
    let before = generation(&kms);
    let code = |request: &Request, caller: &Principal| administer(&kms, request, caller).err().unwrap().code;
    let mine = put_policy(&policy(&[&allow("root", "kms:*")]));
    assert_eq!(code(&mine, &ALICE), Code::AccessDenied);
    assert_eq!(code(&put_policy("{"), &ROOT), Code::MalformedPolicyDocument);
    let create = Request::CreateAlias { alias_name: "alias/aws/x".into(), target_key_id: FAR.into() };
    assert_eq!(code(&create, &ROOT), Code::InvalidAliasName);
    for request in [
        Request::DisableKey { key_id: FAR.into() },
        Request::ScheduleKeyDeletion { key_id: FAR.into(), pending_window_in_days: None },
        Request::DescribeKey { key_id: FAR.into() },
        Request::EnableKeyRotation { key_id: FAR.into(), rotation_period_in_days: None },
    ] {
        assert_eq!(code(&request, &ROOT), Code::UnsupportedOperation, "{}", request.name());
    }
    // Nothing is said of a key elsewhere unless it is known to be one.
    assert!(kms.call(&mine, &ROOT).is_err());
    assert_eq!((generation(&kms), is_kept(&kms)), (before, false));
}
