//! Several KMSs behind one: which of them keeps a key is told by its ARN.

use kmsfs_crypto::SecretKey;
use kmsfs_kms::api::{Answer, Ciphertext, DataKeyRequest, NewKey, Plaintext, Request, Service};
use kmsfs_kms::audit::{AuditLog, Audited, ConnectSyslog, Destination, RecordSource, WhenFull};
use kmsfs_kms::{
    Authorized, Caller, Code, EncryptionContext, Error, GeneratedDataKey, Kms, Operation, Principal, Router,
};
use kmsfs_kms_local::{KeyringParameters, LocalKms, Unlock};
use kmsfs_sse::{Algorithm, Encryption, KeyService};
use kmsfs_testing::kms::{Moody, arn};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

const ROOT: Principal = Principal::Process(Caller { uid: 0, gid: 0, pid: 1 });
const BOB: Principal = Principal::Process(Caller { uid: 2000, gid: 2000, pid: 20 });
const ALIAS: &str = "alias/x";
/// Of the second KMS.
const THERE: &str = "arn:aws:kms:eu-central-1:111122223333:";

/// A home KMS, a second real one for all keys of another account, and two fakes with one key each, which have ARNs of
/// the home KMS's own account.
struct World {
    dir: tempfile::TempDir,
    home: Arc<LocalKms>,
    second: Arc<LocalKms>,
    fakes: [Arc<Moody>; 2],
    router: Arc<Router>,
    /// ARNs of a key of each: home, second, and the fakes.
    keys: [String; 4],
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = local(&dir.path().join("home"), "000000000000", "us-east-1");
        let second = local(&dir.path().join("second"), "111122223333", "eu-central-1");
        let fakes = [Moody::new(), Moody::new()];
        let keys = [new_key(&home), new_key(&second), arn("one"), arn("two")];
        for (kms, key) in [(&home, &keys[0]), (&second, &keys[1])] {
            call(&**kms, &Request::CreateAlias { alias_name: ALIAS.into(), target_key_id: key.clone() }).unwrap();
        }
        let router = Router::new(home.clone()).with_route(THERE, "second", second.clone()).unwrap();
        let router = router.with_route(&keys[2], "one", fakes[0].clone()).unwrap();
        let router = router.with_route(&keys[3], "two", fakes[1].clone()).unwrap();
        Self { dir, home, second, fakes, router: Arc::new(router), keys }
    }

    /// What the fakes were asked since this was asked before.
    fn asked(&self) -> [Vec<String>; 2] {
        self.fakes.each_ref().map(|fake| fake.take_calls().iter().map(ToString::to_string).collect())
    }
}

fn local(dir: &Path, account: &str, region: &str) -> Arc<LocalKms> {
    let parameters = KeyringParameters { store_id: [1; 16], account_id: account.into(), region: region.into() };
    LocalKms::create(dir, &parameters, &Unlock::KeyFile(SecretKey::random())).unwrap()
}

fn new_key(kms: &LocalKms) -> String {
    let Answer::Key(key) = call(kms, &Request::CreateKey(NewKey::default())).unwrap() else { panic!("it is a key") };
    key.arn
}

fn call(kms: &dyn Service, request: &Request) -> Result<Answer, Error> {
    kms.call(request, &ROOT)
}

fn context(value: &str) -> EncryptionContext {
    [("purpose".to_owned(), value.to_owned())].into()
}

fn encrypt(key_id: &str) -> Request {
    let plaintext = Zeroizing::new(b"any bytes".to_vec());
    Request::Encrypt { key_id: key_id.into(), plaintext, encryption_context: context("a") }
}

/// The ARN of the key that was used, and the blob.
fn encrypted(kms: &dyn Service, key_id: &str) -> (String, Vec<u8>) {
    let Answer::Encrypted(made) = call(kms, &encrypt(key_id)).unwrap() else { panic!("it is a ciphertext") };
    (made.key_arn, made.blob)
}

fn decrypted(kms: &dyn Service, key_id: &str, blob: &[u8], context: EncryptionContext) -> Vec<u8> {
    let (ciphertext_blob, key_id) = (blob.to_vec(), Some(key_id.to_owned()));
    let request = Request::Decrypt { ciphertext_blob, encryption_context: context, key_id };
    let Answer::Decrypted(opened) = call(kms, &request).unwrap() else { panic!("it is a plaintext") };
    opened.bytes.to_vec()
}

fn code<T>(result: Result<T, Error>) -> Code {
    result.err().expect("it is refused").code
}

#[test]
fn a_data_key_is_made_and_opened_by_the_kms_that_keeps_its_key() {
    let world = World::new();
    let kms = &*world.router;
    for key in &world.keys {
        let made = Kms::generate_data_key(kms, key, &context("a"), &ROOT).unwrap();
        assert_eq!(made.key_arn, *key);
        let opened = Kms::decrypt(kms, key, &made.ciphertext_blob, &context("a"), &ROOT).unwrap();
        assert_eq!(opened.into_plaintext(), made.plaintext.into_plaintext());
        assert!(Kms::decrypt(kms, key, &made.ciphertext_blob, &context("b"), &ROOT).is_err());
        Kms::authorize(kms, key, Operation::Decrypt, &context("a"), &ROOT).unwrap();
        assert_eq!(Kms::describe_key(kms, key, &ROOT).as_ref(), Ok(key));
        for other in world.keys.iter().filter(|other| *other != key) {
            assert!(Kms::decrypt(kms, other, &made.ciphertext_blob, &context("a"), &ROOT).is_err(), "{key} {other}");
        }
    }
    let of_fake = |key: &str| {
        let calls = ["GenerateDataKey", "Decrypt", "Decrypt", "authorize Decrypt", "DescribeKey", "Decrypt", "Decrypt"];
        let mut calls: Vec<_> = calls.iter().map(|call| format!("{call} {key} 0")).collect();
        calls.push(calls[1].clone());
        calls.sort();
        calls
    };
    let asked = world.asked().map(|mut calls| {
        calls.sort();
        calls
    });
    assert_eq!(asked, [of_fake(&world.keys[2]), of_fake(&world.keys[3])], "and nothing about others' keys");
    let sum = world.home.calls().generate_data_key + world.second.calls().generate_data_key;
    assert_eq!((kms.calls().generate_data_key, sum), (2, 2), "the fakes do not count");
}

#[test]
fn names_are_the_home_kms_s_to_resolve_and_are_shown_to_nobody_else() {
    let world = World::new();
    let kms = &*world.router;
    let [home, second, ..] = &world.keys;
    for name in [ALIAS, &format!("arn:aws:kms:us-east-1:000000000000:{ALIAS}"), home.rsplit('/').next().unwrap()] {
        assert_eq!(Kms::describe_key(kms, name, &ROOT).as_ref(), Ok(home), "{name}");
        assert_eq!(encrypted(kms, name).0, *home);
    }
    assert_eq!(Kms::describe_key(kms, &format!("{THERE}{ALIAS}"), &ROOT).as_ref(), Ok(second));
    for name in ["alias/none", second.rsplit('/').next().unwrap(), "one", "arn:aws:kms:us-east-1:000000000000:alias/no"]
    {
        let refused = Kms::generate_data_key(kms, name, &context("a"), &ROOT).err();
        let by_home = Kms::generate_data_key(&*world.home, name, &context("a"), &ROOT).err();
        assert_eq!(refused, by_home, "{name}");
        assert!(refused.is_some());
    }
    // The managed key is made at home, and nowhere else.
    let managed = Kms::generate_data_key(kms, "alias/aws/s3", &context("a"), &ROOT).unwrap().key_arn;
    assert!(managed.starts_with("arn:aws:kms:us-east-1:000000000000:key/"), "{managed}");
    assert_eq!(world.asked(), [Vec::<String>::new(), Vec::new()]);
}

#[test]
fn the_longest_route_counts_and_the_own_account_is_no_part_of_a_shorter_one() {
    let world = World::new();
    let rest = Moody::new();
    let router = Router::new(world.home.clone()).with_route("arn:aws:kms:", "rest", rest.clone()).unwrap();
    let router = router.with_route(THERE, "second", world.second.clone()).unwrap();
    let router = router.with_route(&world.keys[2], "one", world.fakes[0].clone()).unwrap();
    let elsewhere = "arn:aws:kms:ap-south-1:444455556666:key/k".to_owned();
    let near = format!("{}1", world.keys[2]);
    let providers = [
        (&world.keys[0], None),
        (&world.keys[1], Some("second")),
        (&world.keys[2], Some("one")),
        (&world.keys[3], None),
        (&near, None),
        (&elsewhere, Some("rest")),
    ];
    for (key, expected) in providers {
        assert_eq!(router.provider_of(key).as_deref(), expected, "{key}");
    }
    assert_eq!(Kms::describe_key(&router, &elsewhere, &ROOT), Ok(elsewhere.clone()));
    assert_eq!((rest.calls(), world.fakes[0].calls()), (1, 0));
    let waits = [&world.keys[0], &world.keys[1], &world.keys[2]].map(|key| router.may_wait_for(key));
    assert_eq!((router.may_wait(), waits), (true, [false, false, true]), "nobody waits for his own key");

    let bad = |arns: &str| {
        let router = Router::new(world.home.clone()).with_route(THERE, "second", world.second.clone()).unwrap();
        router.with_route(arns, "bad", rest.clone()).err().unwrap_or_else(|| panic!("{arns} is taken"))
    };
    for (arns, why) in [
        ("alias/x", "it must begin with arn:aws:kms:"),
        ("arn:aws:s3:::bucket", "it must begin with arn:aws:kms:"),
        ("arn:aws:kms:eu-central-1:1111", "must end with : or /"),
        ("arn:aws:kms:us-east-1:000000000000:", "where this store's own keys are"),
        ("arn:aws:kms:us-east-1:000000000000:key/", "where this store's own keys are"),
        ("arn:aws:kms:us-east-1:000000000000:alias/", "where this store's own keys are"),
        ("arn:aws:kms:us-east-1:000000000000:alias/x:", "where this store's own keys are"),
        (THERE, "has a KMS already"),
    ] {
        assert!(bad(arns).contains(why), "{arns}: {}", bad(arns));
    }
}

#[test]
fn re_encrypting_between_two_is_decrypting_there_and_encrypting_here() {
    let world = World::new();
    let kms = &*world.router;
    for from in &world.keys {
        let (_, blob) = encrypted(kms, from);
        for to in &world.keys {
            world.asked();
            let request = Request::ReEncrypt {
                ciphertext_blob: blob.clone(),
                source_encryption_context: context("a"),
                source_key_id: Some(from.clone()),
                destination_key_id: to.clone(),
                destination_encryption_context: context("b"),
            };
            let Answer::ReEncrypted { source, destination } = call(kms, &request).unwrap() else { panic!("it is") };
            assert_eq!((&source.key_arn, source.bytes.len(), &destination.key_arn), (from, 0, to));
            let calls = world.asked();
            assert_eq!(decrypted(kms, to, &destination.blob, context("b")), b"any bytes");
            let expected = [2, 3].map(|fake| {
                let key = &world.keys[fake];
                match (key == from, key == to) {
                    (true, true) => vec![format!("ReEncrypt {key} 0")],
                    (true, false) => vec![format!("Decrypt {key} 0")],
                    (false, true) => vec![format!("Encrypt {key} 0")],
                    (false, false) => vec![],
                }
            });
            assert_eq!(calls, expected, "{from} {to}");
        }
    }
    // A blob says nothing of who made it.
    let (_, blob) = encrypted(kms, &world.keys[1]);
    let decrypt = Request::Decrypt { ciphertext_blob: blob, encryption_context: context("a"), key_id: None };
    assert_eq!(code(call(kms, &decrypt)), Code::InvalidCiphertext);
}

#[test]
fn a_key_that_is_kept_elsewhere_is_administered_there() {
    let world = World::new();
    let key_id = world.keys[1].clone();
    let count = Request::ListObjects { key_id: key_id.clone(), count: true };
    assert!(matches!(call(&*world.router, &count), Ok(Answer::KeyId(arn)) if arn == key_id));
    for request in [
        Request::DisableKey { key_id: key_id.clone() },
        Request::ScheduleKeyDeletion { key_id: key_id.clone(), pending_window_in_days: None },
        Request::EnableKeyRotation { key_id: key_id.clone(), rotation_period_in_days: None },
    ] {
        let refused = call(&*world.router, &request).err().unwrap();
        let text = format!("The key is kept by second: {} is for that KMS.", request.name());
        assert_eq!(refused, Error::new(Code::UnsupportedOperation, text));
    }
    assert!(Kms::authorize(&*world.second, &key_id, Operation::Decrypt, &context("a"), &ROOT).is_ok());
    let of_home = Request::DisableKey { key_id: world.keys[0].clone() };
    assert!(matches!(call(&*world.router, &of_home), Ok(Answer::Done)));
    assert_eq!(code(Kms::encrypt(&*world.router, ALIAS, &SecretKey::random(), &context("a"), &ROOT)), Code::Disabled);
}

#[test]
fn the_audit_trail_says_which_kms_answered() {
    let world = World::new();
    let trail = world.dir.path().join("audit.log");
    let connect: ConnectSyslog = Arc::new(|| unreachable!("it is a file"));
    let key = world.home.audit_key().unwrap();
    let log = AuditLog::open(key, &Destination::File(trail.clone()), WhenFull::Refuse, &connect).unwrap();
    let audited = Audited::new(world.router.clone(), world.router.clone(), log);
    for key in &world.keys {
        Kms::generate_data_key(&audited, key, &context("a"), &ROOT).unwrap();
        call(&audited, &encrypt(key)).unwrap();
    }
    world.fakes[0].fail(Some(Error::new(Code::KeyUnavailable, "away")));
    assert_eq!(code(call(&audited, &encrypt(&world.keys[2]))), Code::KeyUnavailable);
    let records = fs::read_to_string(trail).unwrap();
    let records: Vec<Value> = records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = records
        .iter()
        .map(|record| {
            let (data, key) = (&record["additionalEventData"], &record["resources"][0]["ARN"]);
            (data["keyProvider"].as_str(), key.as_str().unwrap().to_owned(), data["keyMaterialId"].is_string())
        })
        .collect();
    let [home, second, one, two] = world.keys.each_ref().map(Clone::clone);
    let direct_at_second = (Some("second"), second.clone(), true);
    assert_eq!(
        told,
        [
            (None, home.clone(), true),
            (None, home, true),
            (Some("second"), second, false),
            direct_at_second,
            (Some("one"), one.clone(), false),
            (Some("one"), one.clone(), true),
            (Some("two"), two.clone(), false),
            (Some("two"), two, true),
            (Some("one"), one, false),
        ]
    );
    assert_eq!(records[8]["errorCode"], "KeyUnavailableException");
}

#[test]
fn sidecars_have_the_same_form_wherever_the_key_is_kept() {
    let world = World::new();
    let keys = KeyService::new(world.router.clone(), world.home.clone());
    let want = |key_id: &str| Encryption {
        algorithm: Algorithm::AwsKms,
        key_id: Some(key_id.into()),
        context: BTreeMap::default(),
        bucket_key: false,
    };
    let caller = Caller { uid: 0, gid: 0, pid: 1 };
    let expected = [("aws:s3:arn".to_owned(), "arn:aws:s3:::bucket/object".to_owned())].into();
    for from in &world.keys {
        let (data_key, wrapped) = keys.new_data_key(&want(from), "bucket", "object", caller).unwrap();
        assert_eq!((&wrapped.key_arn, &wrapped.context), (from, &expected));
        for to in &world.keys {
            let again = keys.wrap(&data_key, &want(to), "bucket", "object", caller).unwrap();
            assert_eq!((&again.key_arn, &again.context), (to, &expected));
            let opened = keys.unwrap(&again, caller).unwrap();
            let once_more = keys.wrap(&opened, &want(from), "bucket", "object", caller).unwrap();
            assert!(keys.unwrap(&once_more, caller).is_ok());
        }
    }
    let moved = |key_arn: &String| {
        let (_, wrapped) = keys.new_data_key(&want(&world.keys[2]), "bucket", "object", caller).unwrap();
        keys.unwrap(&kmsfs_sse::WrappedDataKey { key_arn: key_arn.clone(), ..wrapped }, caller).is_ok()
    };
    assert_eq!(world.keys.each_ref().map(moved), [false, false, true, false], "a blob is of its own KMS alone");
}

#[test]
fn whom_a_policy_here_does_not_permit_the_other_kms_is_not_asked_for() {
    let world = World::new();
    let by = Authorized::new(world.fakes[0].clone(), world.home.clone());
    let key = "arn:aws:kms:ap-south-1:444455556666:key/k";
    let router = Router::new(world.home.clone()).with_route(key, "one", Arc::new(by)).unwrap();
    // Through a mount whoever POSIX lets, as with a key of this keyring for which nobody put a policy.
    let made = Kms::generate_data_key(&router, key, &context("a"), &BOB).unwrap();
    Kms::decrypt(&router, key, &made.ciphertext_blob, &context("a"), &BOB).unwrap();
    assert_eq!(world.asked()[0].len(), 2);
    let refused = router.call(&encrypt(key), &BOB).err().unwrap();
    assert_eq!(refused.code, Code::AccessDenied);
    assert!(refused.message.contains(&format!("not authorized to perform: kms:Encrypt on resource: {key}")));
    let disable = Request::DisableKey { key_id: key.into() };
    assert_eq!(code(router.call(&disable, &ROOT)), Code::UnsupportedOperation);
    assert_eq!(world.asked()[0], [""; 0], "the other one sees this machine alone, and does not know Bob");
    let (_, blob) = encrypted(&router, key);
    assert_eq!(decrypted(&router, key, &blob, context("a")), b"any bytes");
    world.fakes[0].deny(&Caller { uid: 0, gid: 0, pid: 1 });
    assert_eq!(code(Kms::decrypt(&router, key, &made.ciphertext_blob, &context("a"), &ROOT)), Code::AccessDenied);
}

#[test]
fn a_change_at_any_of_them_is_a_new_version() {
    let world = World::new();
    for fake in &world.fakes {
        let before = (RecordSource::version_now(&*world.router), Kms::version(&*world.router));
        fake.change();
        let after = (RecordSource::version_now(&*world.router), Kms::version(&*world.router));
        assert!(after.0 > before.0 && after.1 > before.1, "what was refused before is recorded again");
    }
}

/// Says that it has used another's key, whichever it was asked for.
struct Liar(String);

impl Kms for Liar {
    fn generate_data_key(&self, _: &str, _: &EncryptionContext, _: &Principal) -> Result<GeneratedDataKey, Error> {
        let (key_arn, plaintext, ciphertext_blob) = (self.0.clone(), SecretKey::random(), vec![1]);
        Ok(GeneratedDataKey { key_arn, plaintext, ciphertext_blob })
    }

    fn encrypt(
        &self,
        _: &str,
        _: &SecretKey,
        _: &EncryptionContext,
        _: &Principal,
    ) -> Result<(String, Vec<u8>), Error> {
        Ok((self.0.clone(), vec![1]))
    }

    fn decrypt(&self, _: &str, _: &[u8], _: &EncryptionContext, _: &Principal) -> Result<SecretKey, Error> {
        Ok(SecretKey::random())
    }

    fn describe_key(&self, _: &str, _: &Principal) -> Result<String, Error> {
        Ok(self.0.clone())
    }

    fn authorize(&self, _: &str, _: Operation, _: &EncryptionContext, _: &Principal) -> Result<(), Error> {
        Ok(())
    }
}

impl Service for Liar {
    fn call(&self, request: &Request, _: &Principal) -> Result<Answer, Error> {
        let (key_arn, material_id) = (self.0.clone(), String::new());
        let wrapped = || Ciphertext { key_arn: key_arn.clone(), material_id: material_id.clone(), blob: vec![1] };
        let opened = || Plaintext { key_arn: key_arn.clone(), material_id: material_id.clone(), bytes: vec![1].into() };
        Ok(match request {
            Request::Encrypt { .. } => Answer::Encrypted(wrapped()),
            Request::Decrypt { .. } => Answer::Decrypted(opened()),
            Request::ReEncrypt { .. } => Answer::ReEncrypted { source: opened(), destination: wrapped() },
            Request::GenerateDataKey(_) => Answer::DataKey { plaintext: None, wrapped: wrapped() },
            Request::DescribeKey { .. } => Answer::KeyId(key_arn),
            _ => Answer::Done,
        })
    }
}

#[test]
fn what_names_a_key_of_another_kms_than_was_asked_is_no_answer() {
    let world = World::new();
    let near = "arn:aws:kms:ap-south-1:444455556666:key/other".to_owned();
    for named in [world.keys[0].clone(), near, String::new()] {
        assert_is_no_answer(&world, Liar(named));
    }
}

fn assert_is_no_answer(world: &World, liar: Liar) {
    let key = "arn:aws:kms:ap-south-1:444455556666:key/k";
    let router = Router::new(world.home.clone()).with_route(key, "liar", Arc::new(liar)).unwrap();
    let context = context("a");
    let data_key = DataKeyRequest {
        key_id: key.into(),
        key_spec: None,
        number_of_bytes: Some(32),
        encryption_context: context.clone(),
    };
    for request in [
        encrypt(key),
        Request::Decrypt { ciphertext_blob: vec![1], encryption_context: context.clone(), key_id: Some(key.into()) },
        Request::GenerateDataKey(data_key),
        Request::DescribeKey { key_id: key.into() },
        Request::ReEncrypt {
            ciphertext_blob: vec![1],
            source_encryption_context: context.clone(),
            source_key_id: Some(key.into()),
            destination_key_id: key.into(),
            destination_encryption_context: context.clone(),
        },
    ] {
        assert_eq!(code(call(&router, &request)), Code::KmsInternal, "{}", request.name());
    }
    assert_eq!(code(Kms::generate_data_key(&router, key, &context, &ROOT)), Code::KmsInternal);
    assert_eq!(code(Kms::encrypt(&router, key, &SecretKey::random(), &context, &ROOT)), Code::KmsInternal);
    assert_eq!(code(Kms::describe_key(&router, key, &ROOT)), Code::KmsInternal);
    let (_, blob) = encrypted(&router, &world.keys[0]);
    let request = Request::ReEncrypt {
        ciphertext_blob: blob,
        source_encryption_context: context.clone(),
        source_key_id: None,
        destination_key_id: key.into(),
        destination_encryption_context: context,
    };
    assert_eq!(code(call(&router, &request)), Code::KmsInternal);
}
