//! The keyring as several processes have it, and one that an earlier version made.
//!
//! `keyring-v1` has a key file, the passphrase `correct horse`, a key with two materials, a disabled key, `aws/s3`, and
//! two materials of the service's own key. Beside it are four blobs, each with its own name sealed under the data key
//! in it.

use crate::harness::{KMS, Store, kmsfs};
use kmsfs_crypto::{SecretKey, key_file, sealed};
use kmsfs_kms::api::PageRequest;
use kmsfs_kms::{Caller, Code, EncryptionContext, Kms, ServiceKey};
use kmsfs_kms_local::{LocalKms, Moment, OpenError, Unlock};
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use zeroize::Zeroizing;

const CALLER: Caller = Caller { uid: 0, gid: 0, pid: 1 };
const PREFIX: &str = "arn:aws:kms:us-west-2:123456789123:key/";
const ROTATED: &str = "d989f435-822d-4142-b833-80451d665794";
const DISABLED: &str = "8e174f88-34bd-4e39-95ad-c357468790af";
const AWS_S3: &str = "dc9598b1-8b56-41aa-afd8-47daa2cb11ce";

/// A copy of the golden keyring.
struct Golden(TempDir);

impl Golden {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["slots.json", "keyring", "key"] {
            fs::write(dir.path().join(name), golden(name)).unwrap();
            // git does not keep it.
            fs::set_permissions(dir.path().join(name), Permissions::from_mode(0o600)).unwrap();
        }
        Self(dir)
    }

    fn key(&self) -> Unlock {
        Unlock::KeyFile(key_file::read(&self.0.path().join("key")).unwrap())
    }

    fn open(&self, unlock: &Unlock) -> Result<Arc<LocalKms>, OpenError> {
        // When it was made: its keys rotate in time.
        LocalKms::open_at(
            self.0.path(),
            unlock,
            Box::new(|| Moment { date: 1_795_453_106_088_291_306, ..Moment::now([0; 16]) }),
        )
    }
}

fn golden(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/keyring-v1").join(name)).unwrap()
}

fn passphrase(text: &str) -> Unlock {
    Unlock::Passphrase(Zeroizing::new(text.into()))
}

fn context() -> EncryptionContext {
    [("aws:s3:arn", "arn:aws:s3:::bucket/key"), ("x", "ä")].map(|(name, value)| (name.into(), value.into())).into()
}

/// A data key is seen by nobody; what it sealed says which one it is.
#[track_caller]
fn expect_data_key(name: &str, key: &SecretKey) {
    let text = sealed::open(key, &golden(&format!("{name}.sealed")), b"golden").unwrap();
    assert_eq!(text[..], *name.as_bytes());
}

#[test]
fn a_keyring_of_version_1_is_opened_by_each_of_its_slots() {
    let golden = Golden::new();
    for unlock in [golden.key(), passphrase("correct horse")] {
        let kms = golden.open(&unlock).unwrap();
        let keys = kms.administer(CALLER).list_keys(&PageRequest::default()).unwrap().entries;
        assert_eq!(keys, [ROTATED, DISABLED, AWS_S3].map(|id| format!("{PREFIX}{id}")));
        let aliases = kms
            .administer(CALLER)
            .list_aliases(None, &PageRequest::default())
            .unwrap()
            .entries
            .into_iter()
            .map(|alias| (alias.name, alias.key_id));
        let expected = [("alias/aws/s3", AWS_S3), ("alias/golden", ROTATED)];
        assert_eq!(aliases.collect::<Vec<_>>(), expected.map(|(name, id)| (name.to_owned(), id.to_owned())));
        let rotated = kms.administer(CALLER).describe_key("alias/golden").unwrap();
        assert_eq!((rotated.description.as_str(), rotated.created), ("rotated once", 1_795_453_106_088_291_306));
        // Of c8313a1485c29a679c1ac0a0ab1cc2e8, as docs/FORMAT.md says.
        let material = "93673e5ce9dad440b38e835505e3e00dc76ec3ffc8ddc01c5b14a75f713f9b3a";
        assert_eq!(rotated.material_id.as_deref(), Some(material));
    }
    assert_eq!(golden.open(&passphrase("wrong horse")).err(), Some(OpenError::WrongKey));
}

#[test]
fn blobs_of_version_1_give_their_data_keys() {
    let golden_ring = Golden::new();
    let kms = golden_ring.open(&golden_ring.key()).unwrap();
    for (name, id) in [("first-material", ROTATED), ("second-material", ROTATED), ("aws-s3", AWS_S3)] {
        let blob = golden(&format!("{name}.blob"));
        let key = Kms::decrypt(&*kms, &format!("{PREFIX}{id}"), &blob, &context(), &CALLER.into()).unwrap();
        expect_data_key(name, &key);
        let refused = Kms::decrypt(&*kms, id, &blob, &EncryptionContext::new(), &CALLER.into()).unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (Code::InvalidCiphertext, ""), "{name}");
    }
    expect_data_key("service", &ServiceKey::decrypt(&*kms, &golden("service.blob"), &context()).unwrap());
    let refused = Kms::generate_data_key(&*kms, DISABLED, &context(), &CALLER.into()).err().unwrap();
    assert_eq!(refused.message, format!("{PREFIX}{DISABLED} is disabled."));
}

#[test]
fn a_keyring_of_version_1_can_be_changed() {
    let golden_ring = Golden::new();
    let kms = golden_ring.open(&golden_ring.key()).unwrap();
    kms.administer(CALLER).set_enabled(DISABLED, true).unwrap();
    // Both generations have secrets of their own for what they wrap, which the golden one has not.
    let kept = fs::read(golden_ring.0.path().join("keyring.previous")).unwrap();
    assert!(kept.starts_with(b"KMSFSKEY\x02\0") && golden("keyring").starts_with(b"KMSFSKEY\x01\0"));
    let kms = golden_ring.open(&passphrase("correct horse")).unwrap();
    assert!(Kms::generate_data_key(&*kms, DISABLED, &context(), &CALLER.into()).is_ok());
    let key = Kms::decrypt(&*kms, ROTATED, &golden("first-material.blob"), &context(), &CALLER.into()).unwrap();
    expect_data_key("first-material", &key);
}

/// `kmsfs kms` with its answer in a file, so that it is there even if the process is killed.
fn start(store: &Store, words: &[&str], answer: &Path) -> Child {
    let mut command = kmsfs();
    command.arg("kms").arg("--store").arg(store.store()).arg("--key-file").arg(store.path("key")).args(words);
    command.stdin(Stdio::null()).stdout(fs::File::create(answer).unwrap()).spawn().unwrap()
}

fn key_ids(store: &Store) -> BTreeSet<String> {
    let keys = store.kms("list-keys");
    keys["Keys"].as_array().unwrap().iter().map(|key| key["KeyId"].as_str().unwrap().to_owned()).collect()
}

/// The key that a `create-key` said it had made, if it came as far.
fn made(answer: &Path) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(&fs::read(answer).unwrap()).ok()?;
    Some(answer["KeyMetadata"]["KeyId"].as_str().expect("a KeyId").to_owned())
}

#[test]
fn processes_that_change_it_at_the_same_time_lose_nothing() {
    const PROCESSES: usize = 12;
    let store = Store::on_tmpfs();
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    mount.set_default("bucket", KMS, false);
    let answers: Vec<PathBuf> = (0..PROCESSES).map(|n| store.path(&format!("answer{n}"))).collect();
    let mut children: Vec<_> = answers.iter().map(|answer| start(&store, &["create-key"], answer)).collect();
    // The mount's own change, aws/s3, among theirs.
    fs::write(bucket.join("object"), "content").unwrap();
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    let listed = key_ids(&store);
    assert_eq!(listed.len(), PROCESSES + 1);
    assert!(answers.iter().all(|answer| listed.contains(&made(answer).unwrap())));
    mount.unmount();
    let _mount = store.mount();
    assert_eq!(fs::read_to_string(bucket.join("object")).unwrap(), "content");
}

#[test]
fn a_process_that_is_killed_while_it_changes_it_damages_nothing() {
    let store = Store::on_tmpfs();
    let answer = store.path("answer");
    let mut known = BTreeSet::new();
    // Ever later, until some have come to their end; then nearly every moment before it has had its turn.
    let (mut moment, mut ended) = (Duration::ZERO, 0);
    while ended < 3 {
        let mut child = start(&store, &["create-key"], &answer);
        std::thread::sleep(moment);
        moment += Duration::from_micros(50);
        child.kill().unwrap();
        ended += usize::from(child.wait().unwrap().success());
        let listed = key_ids(&store);
        assert!(listed.is_superset(&known), "keys are lost after {moment:?}");
        assert!(listed.len() <= known.len() + 1);
        assert!(made(&answer).is_none_or(|made| listed.contains(&made)), "{moment:?}");
        known = listed;
    }
    // Nobody is kept waiting by what the dead one had locked, and what it left half written is replaced.
    store.create_key("alias/after");
    assert!(!store.store().join("keyring/keyring.new").exists());
}

#[test]
fn the_keyring_of_another_store_is_refused_though_its_key_file_fits() {
    let store = Store::on_tmpfs();
    store.sh("kmsfs init --key-file $KEY other");
    let text = "it belongs to another store: ";
    let other = store.path("other/keyring");
    store.try_mount(&format!("keyring={}", other.display())).err().expect("it is refused").expect_failure(1, text);
    let kms = store.try_sh("kmsfs kms --store $STORE --keyring other/keyring --key-file $KEY list-keys");
    kms.expect_failure(1, text);
    assert_eq!(store.sh("kmsfs kms --store other --key-file $KEY list-keys").matches("KeyArn").count(), 0);
}

#[test]
fn what_is_refused_is_told_as_aws_tells_it() {
    let store = Store::on_tmpfs();
    let key = store.create_key("alias/x");
    let kms = |words: &str| store.try_sh(&format!("kmsfs kms --store $STORE --key-file $KEY {words}"));
    let missing = "11111111-2222-3333-4444-555555555555";
    let arn = format!("arn:aws:kms:us-east-1:000000000000:key/{missing}");
    let cases = [
        (format!("describe-key --key-id {missing}"), "NotFound", "DescribeKey", format!("Key '{arn}' does not exist")),
        ("enable-key --key-id nonsense".into(), "NotFound", "EnableKey", "Invalid keyId 'nonsense'".into()),
        (
            format!("create-alias --alias-name alias/x --target-key-id {key}"),
            "AlreadyExists",
            "CreateAlias",
            "An alias with the name arn:aws:kms:us-east-1:000000000000:alias/x already exists".into(),
        ),
        (
            format!("create-alias --alias-name alias/aws/y --target-key-id {key}"),
            "InvalidAliasName",
            "CreateAlias",
            "Alias must not start with alias/aws/".into(),
        ),
    ];
    for (words, code, operation, message) in cases {
        let answer = kms(&words);
        let text = format!("\nAn error occurred ({code}Exception) when calling the {operation} operation: {message}\n");
        assert_eq!((answer.code, answer.out.as_str(), answer.err), (254, "", text), "{words}");
    }
    assert_eq!(kms("create-alias --alias-name alias/y").code, 252);
    fs::write(store.path("key"), [7; 32]).unwrap();
    assert_eq!(kms("list-keys").code, 3);
}
