//! Access keys: what they open, and when their secrets are gone.

use super::access_keys::Signer;
use super::tests_of_access::{ALICE, ROOT, access_denied, allow, arn_of, context, policy};
use super::tests_of_users::{Users, outlive_answers};
use super::{Backup, Keyring, KeyringParameters, LocalKms, Machine, OpenError, Unlock};
use kmsfs_crypto::SecretKey;
use kmsfs_kms::audit::{AuditLog, Audited, ConnectSyslog, Destination, RecordSource, WhenFull};
use kmsfs_kms::iam::{Answer, Code, Error, NewAccessKey, Request, Service, Status};
use kmsfs_kms::{Error as CallError, Kms, Operation, Principal, api};
use kmsfs_sigv4::{Credential, SecretAccessKey, SigningKey};
use kmsfs_witness::Watch;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// A keyring, and what opens it.
struct Place {
    dir: tempfile::TempDir,
    users: Arc<Users>,
}

impl Place {
    fn new() -> (Self, Arc<LocalKms>) {
        let dir = tempfile::tempdir().unwrap();
        kmsfs_crypto::key_file::create(&dir.path().join("key")).unwrap();
        let users = Users::new(&[("root", 0, &[0]), ("alice", 2001, &[7]), ("bob", 2002, &[])]);
        let place = Self { dir, users };
        let (account_id, region) = ("111122223333".into(), "eu-central-1".into());
        let parameters = KeyringParameters { store_id: [1; 16], account_id, region };
        LocalKms::create(&place.keyring(), &parameters, &place.unlock()).unwrap();
        let kms = place.open();
        (place, kms)
    }

    fn keyring(&self) -> std::path::PathBuf {
        self.dir.path().join("keyring")
    }

    fn unlock(&self) -> Unlock {
        Unlock::KeyFile(kmsfs_crypto::key_file::read(&self.dir.path().join("key")).unwrap())
    }

    fn open(&self) -> Arc<LocalKms> {
        self.open_by(&self.unlock())
    }

    fn open_by(&self, unlock: &Unlock) -> Arc<LocalKms> {
        let machine = Machine { users: self.users.clone(), ..Machine::default() };
        LocalKms::open_on(&self.keyring(), unlock, machine).unwrap()
    }
}

fn create(kms: &LocalKms, user_name: &str) -> Result<NewAccessKey, Error> {
    match kms.call(&Request::CreateAccessKey { user_name: user_name.into() }, &ROOT)? {
        Answer::Created(made) => Ok(made),
        _ => panic!("it is no new access key"),
    }
}

fn list(kms: &LocalKms, user_name: Option<&str>) -> Result<Vec<(String, String, Status)>, Error> {
    match kms.call(&Request::ListAccessKeys { user_name: user_name.map(str::to_owned) }, &ROOT)? {
        Answer::AccessKeys(keys) => {
            Ok(keys.into_iter().map(|key| (key.user_name, key.id.to_string(), key.status)).collect())
        }
        _ => panic!("it is no list"),
    }
}

fn update(kms: &LocalKms, id: &str, status: Status) -> Result<(), Error> {
    let request = Request::UpdateAccessKey { user_name: None, access_key_id: id.into(), status };
    kms.call(&request, &ROOT).map(drop)
}

fn delete(kms: &LocalKms, user_name: Option<&str>, id: &str) -> Result<(), Error> {
    let user_name = user_name.map(str::to_owned);
    kms.call(&Request::DeleteAccessKey { user_name, access_key_id: id.into() }, &ROOT).map(drop)
}

fn signer(kms: &LocalKms, id: &str) -> Option<Signer> {
    kms.signer(&credential(id)).unwrap()
}

fn credential(id: &str) -> Credential {
    let [access_key_id, date, region, service] = [id, "20130524", "eu-central-1", "s3"].map(str::to_owned);
    Credential { access_key_id, date, region, service }
}

/// Whether it signs as whoever has the secret does.
fn is_of(signer: Option<Signer>, made: &NewAccessKey) -> bool {
    let secret = SecretAccessKey::new(&made.secret);
    let expected = SigningKey::derive(&secret, "20130524", "eu-central-1", "s3").into_secret().into_plaintext();
    signer.is_some_and(|signer| signer.key.into_secret().into_plaintext() == expected)
}

fn error(code: Code, message: &str) -> Error {
    Error::new(code, message)
}

#[test]
fn an_access_key_signs_as_its_user_until_it_is_inactive_or_deleted() {
    let (place, kms) = Place::new();
    let made = create(&kms, "alice").unwrap();
    let id = made.key.id.to_string();
    assert_eq!(made.secret.len(), 40);
    assert!(made.secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte)));
    let found = signer(&kms, &id).unwrap();
    assert_eq!((found.access_key, found.user.name.as_str(), found.user.uid), (made.key.id, "alice", 2001));
    assert!(is_of(Some(found), &made));
    let elsewhere = place.open();
    assert!(is_of(signer(&elsewhere, &id), &made));
    assert!(signer(&kms, "AKIAIOSFODNN7EXAMPLE").is_none() && signer(&kms, "").is_none());

    update(&elsewhere, &id, Status::Inactive).unwrap();
    assert_eq!(list(&elsewhere, None).unwrap(), [("alice".into(), id.clone(), Status::Inactive)]);
    assert!(signer(&elsewhere, &id).is_none());
    update(&elsewhere, &id, Status::Active).unwrap();
    assert!(is_of(signer(&elsewhere, &id), &made));
    delete(&elsewhere, None, &id).unwrap();
    assert!(signer(&elsewhere, &id).is_none());
    let gone = error(Code::NoSuchEntity, &format!("The Access Key with id {id} cannot be found."));
    assert_eq!(update(&kms, &id, Status::Active), Err(gone.clone()));
    assert_eq!(delete(&kms, None, &id), Err(gone));
}

#[test]
fn an_access_key_that_is_made_elsewhere_signs_at_once() {
    let (place, kms) = Place::new();
    let elsewhere = place.open();
    let made = create(&elsewhere, "alice").unwrap();
    assert!(is_of(signer(&kms, &made.key.id.to_string()), &made));
}

#[test]
fn a_user_has_two_access_keys_at_most_and_nobody_else_has_one() {
    let (_place, kms) = Place::new();
    let one = create(&kms, "alice").unwrap().key.id.to_string();
    create(&kms, "alice").unwrap();
    create(&kms, "bob").unwrap();
    let full = error(Code::LimitExceeded, "Cannot exceed quota for AccessKeysPerUser: 2");
    assert_eq!(create(&kms, "alice").err(), Some(full));
    for name in ["nobody-has-this-name", "", "al\nice", "al\0ice"] {
        let unknown = error(Code::NoSuchEntity, &format!("The user with name {name} cannot be found."));
        assert_eq!(create(&kms, name).err(), Some(unknown.clone()), "{name:?}");
        assert_eq!(list(&kms, Some(name)), Err(unknown), "{name:?}");
    }
    assert_eq!(list(&kms, Some("alice")).unwrap().len(), 2);
    assert_eq!(list(&kms, None).unwrap().len(), 3);
    let not_his = error(Code::NoSuchEntity, &format!("The Access Key with id {one} cannot be found."));
    assert_eq!(delete(&kms, Some("bob"), &one), Err(not_his));
    assert_eq!(delete(&kms, Some("alice"), &one), Ok(()));
    assert!(create(&kms, "alice").is_ok());
}

#[test]
fn only_the_accounts_root_has_to_do_with_access_keys() {
    let (_place, kms) = Place::new();
    let text = "User: arn:aws:iam::111122223333:user/uid:4000001 is not authorized to perform: iam:CreateAccessKey on \
                resource: user alice because no identity-based policy allows the iam:CreateAccessKey action";
    let request = Request::CreateAccessKey { user_name: "alice".into() };
    let call = |caller: &Principal| kms.call(&request, caller).map(drop);
    assert_eq!(call(&ALICE), Err(error(Code::AccessDenied, text)));
    assert!(list(&kms, None).unwrap().is_empty());
    assert_eq!(call(&ROOT), Ok(()));
}

#[test]
fn the_user_of_an_access_key_is_who_has_the_name_now() {
    let (place, kms) = Place::new();
    let id = create(&kms, "alice").unwrap().key.id.to_string();
    let uid = || signer(&kms, &id).map(|signer| signer.user.uid);
    assert_eq!(uid(), Some(2001));
    // The number went to somebody else.
    place.users.set(&[("alice", 2003, &[]), ("carol", 2001, &[])]);
    outlive_answers();
    assert_eq!(uid(), Some(2003));
    place.users.set(&[("carol", 2001, &[])]);
    outlive_answers();
    assert_eq!(uid(), None);
    assert_eq!(list(&kms, Some("alice")).unwrap().len(), 1, "it can be seen and deleted");
    place.users.fail(Errno::EIO);
    outlive_answers();
    assert!(kms.signer(&credential(&id)).unwrap_err().is_outage());
    let answer = create(&kms, "alice").map(|made| made.key.id).map_err(|error| error.code);
    assert_eq!(answer, Err(Code::ServiceFailure));
}

#[test]
fn access_keys_live_through_another_root_key_another_slot_and_a_backup() {
    let (place, kms) = Place::new();
    let made = create(&kms, "alice").unwrap();
    let id = made.key.id.to_string();
    let keyring = Keyring::open(&place.keyring(), &place.unlock()).unwrap();
    keyring.rotate_root_key(false).unwrap();
    assert!(is_of(signer(&place.open(), &id), &made));
    let second = Unlock::KeyFile(SecretKey::random());
    keyring.add_slot(&second, None).unwrap();
    assert!(is_of(signer(&place.open_by(&second), &id), &made));
    let backup = Backup::of(&place.keyring(), &[1; 16]).unwrap();
    fs::remove_dir_all(place.keyring()).unwrap();
    let restored = backup.restore(&place.keyring(), &[1; 16], &place.unlock(), false, &Watch::default());
    assert!(restored.is_ok(), "{:?}", restored.err());
    let again = place.open();
    assert!(is_of(signer(&again, &id), &made));
    // What was open before the change of the root key, and follows.
    update(&again, &id, Status::Inactive).unwrap();
    update(&again, &id, Status::Active).unwrap();
    assert!(is_of(signer(&kms, &id), &made));
}

type Files = BTreeMap<OsString, Vec<u8>>;

fn files(dir: &Path) -> Files {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn the_secret_of_a_deleted_access_key_opens_from_no_older_copy_of_the_keyring() {
    let (place, kms) = Place::new();
    let [made, kept] = ["alice", "bob"].map(|user_name| create(&kms, user_name).unwrap());
    let [id, kept_id] = [&made, &kept].map(|made| made.key.id.to_string());
    let old = files(&place.keyring());
    delete(&kms, None, &id).unwrap();
    let new = files(&place.keyring());
    assert_eq!(new[&OsString::from("keyring.previous")], new[&OsString::from("keyring")], "no generation has it");
    // The keyring as it is found in free blocks, beside the secrets of today.
    fs::write(place.keyring().join("keyring"), &old[&OsString::from("keyring")]).unwrap();
    let found = place.open();
    assert_eq!(list(&found, None).unwrap().len(), 2);
    assert!(found.signer(&credential(&id)).is_err());
    assert!(is_of(signer(&found, &kept_id), &kept));
}

#[test]
fn access_keys_of_a_newer_kmsfs_are_refused_and_nothing_is_overwritten() {
    let (place, kms) = Place::new();
    create(&kms, "alice").unwrap();
    let keyring = Keyring::open(&place.keyring(), &place.unlock()).unwrap();
    let (before, refused) = (files(&place.keyring()), |text: String| {
        assert!(text.starts_with("its access keys are none that this kmsfs knows, use a newer one: "), "{text}");
    });
    let newer = |contents: &mut super::keyring::Contents, _: &super::keyring::Wrapping| {
        let bytes = br#"[{"AccessKeyId":"AKIAIOSFODNN7EXAMPLE","UserName":"alice","Expires":1}]"#;
        contents.set_attribute(&[0; 16], "access-keys", bytes.to_vec());
        Ok::<_, OpenError>(())
    };
    refused(keyring.change(newer).and_then(|()| keyring.read()).err().unwrap().to_string());
    refused(LocalKms::open(&place.keyring(), &place.unlock()).err().unwrap().to_string());
    let shred = OsString::from("shred");
    assert_eq!(files(&place.keyring())[&shred], before[&shred]);
}

/// Who signs with the access key, from an address of the documentation.
fn signed_by(kms: &LocalKms, made: &NewAccessKey) -> Principal {
    let signer = signer(kms, &made.key.id.to_string()).unwrap();
    signer.principal(Some("192.0.2.7".parse().unwrap()), Some("aws-cli/2.15".into()))
}

fn decrypts(kms: &LocalKms, arn: &str, who: &Principal) -> Result<(), CallError> {
    kms.authorize(arn, Operation::Decrypt, &context(&[]), who)
}

#[test]
fn a_policy_for_a_user_or_a_group_is_for_whoever_signs_as_that_user() {
    let (_place, kms) = Place::new();
    let [alice, bob] = ["alice", "bob"].map(|name| signed_by(&kms, &create(&kms, name).unwrap()));
    for principal in ["user/alice", "user/uid:2001", "role/g7", "role/gid:7"] {
        let arn = kms.create_key("").unwrap().arn;
        let statements = [allow("root", "kms:*"), allow(principal, "kms:Decrypt")];
        kms.put_key_policy(&arn, None, &policy(&statements.each_ref().map(String::as_str)), false, &ROOT).unwrap();
        assert_eq!(decrypts(&kms, &arn, &alice), Ok(()), "{principal}");
        assert_eq!(decrypts(&kms, &arn, &bob), Err(access_denied("user/bob", "Decrypt", &arn)), "{principal}");
        let deny = allow(principal, "kms:Decrypt").replace("Allow", "Deny");
        let statements = [allow("root", "kms:*"), allow("user/alice", "kms:*"), deny];
        kms.put_key_policy(&arn, None, &policy(&statements.each_ref().map(String::as_str)), false, &ROOT).unwrap();
        let refusal = decrypts(&kms, &arn, &alice).unwrap_err();
        assert!(
            refusal.message.ends_with("with an explicit deny in a resource-based policy"),
            "{principal}: {refusal}"
        );
    }
}

#[test]
fn what_is_asked_with_an_access_key_is_recorded_with_it() {
    let (place, kms) = Place::new();
    let made = create(&kms, "alice").unwrap();
    let (who, arn) = (signed_by(&kms, &made), kms.create_key("").unwrap().arn);
    let trail = place.dir.path().join("audit.log");
    let connect: ConnectSyslog = Arc::new(|| unreachable!("it is a file"));
    let log = AuditLog::open(kms.audit_key().unwrap(), &Destination::File(trail.clone()), WhenFull::Refuse, &connect);
    let audited = Audited::new(Arc::clone(&kms), Arc::clone(&kms) as Arc<dyn RecordSource>, log.unwrap());
    let request = api::Request::DescribeKey { key_id: arn.clone() };
    assert!(api::Service::call(&audited, &request, &who).is_err(), "the default policy is for root alone");
    let text = fs::read_to_string(trail).unwrap();
    assert!(!text.contains(made.secret.as_str()));
    let record: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let identity = serde_json::json!({"type": "IAMUser", "principalId": "2001", "arn": arn_of("user/alice"),
        "accountId": "111122223333", "userName": "alice", "accessKeyId": made.key.id.to_string()});
    assert_eq!(record["userIdentity"], identity);
    assert_eq!((&record["sourceIPAddress"], &record["userAgent"]), (&"192.0.2.7".into(), &"aws-cli/2.15".into()));
    assert_eq!((&record["eventName"], &record["errorCode"]), (&"DescribeKey".into(), &"AccessDeniedException".into()));
}
