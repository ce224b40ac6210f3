//! The KMS of a keyring in a directory: its keys, their blobs, and changes by other processes.

use super::*;
use kmsfs_kms::Caller;
use kmsfs_kms::{GeneratedDataKey, Operation, ServiceKey};
use uuid::Uuid;

const CALLER: Principal = Principal::Process(Caller { uid: 0, gid: 0, pid: 1 });

fn open(dir: &Path, key: impl Fn() -> Unlock) -> Arc<LocalKms> {
    let (account_id, region) = ("111122223333".into(), "eu-central-1".into());
    LocalKms::create(dir, &KeyringParameters { store_id: [1; 16], account_id, region }, &key()).unwrap();
    LocalKms::open(dir, &key()).unwrap()
}

fn unlock(dir: &Path) -> impl Fn() -> Unlock {
    let path = dir.join("key");
    kmsfs_crypto::key_file::create(&path).unwrap();
    move || Unlock::KeyFile(kmsfs_crypto::key_file::read(&path).unwrap())
}

/// Looks at the file at the next use, however little time has passed.
fn expire(kms: &LocalKms) {
    *kms.looked.lock() = Instant::now().checked_sub(LOOK).expect("the machine has been up for longer");
}

fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
    pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect()
}

fn generate(kms: &LocalKms, key_id: &str) -> Result<GeneratedDataKey, Error> {
    Kms::generate_data_key(kms, key_id, &EncryptionContext::new(), &CALLER)
}

fn decrypt(kms: &LocalKms, key_arn: &str, blob: &[u8]) -> Result<SecretKey, Error> {
    Kms::decrypt(kms, key_arn, blob, &EncryptionContext::new(), &CALLER)
}

fn code<T>(answer: Result<T, Error>) -> (Code, String) {
    let error = answer.err().expect("it is refused");
    (error.code, error.message)
}

#[test]
fn aws_s3_is_made_at_its_first_use_and_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let kms = open(&dir.path().join("keyring"), unlock(dir.path()));
    assert!(kms.list_keys().unwrap().is_empty());
    let first = generate(&kms, AWS_S3).unwrap();
    let again = generate(&kms, "arn:aws:kms:eu-central-1:111122223333:alias/aws/s3");
    assert_eq!(first.key_arn, again.unwrap().key_arn);
    assert_eq!(kms.list_keys().unwrap(), vec![first.key_arn.clone()]);
    let refused = code(kms.set_enabled(&first.key_arn, false));
    assert_eq!(refused.0, Code::AccessDenied);
    assert!(decrypt(&kms, &first.key_arn, &first.ciphertext_blob).is_ok());
    assert_eq!(kms.calls(), KmsCalls { generate_data_key: 2, decrypt: 1, encrypt: 0 });
}

#[test]
fn keys_are_found_by_id_arn_alias_and_alias_arn_and_refused_as_aws_does() {
    let dir = tempfile::tempdir().unwrap();
    let kms = open(&dir.path().join("keyring"), unlock(dir.path()));
    let key = kms.create_key("mine").unwrap();
    kms.create_alias("alias/mine", &key.key_id).unwrap();
    let prefix = "arn:aws:kms:eu-central-1:111122223333:";
    for id in [&key.key_id, &key.arn, "alias/mine", &format!("{prefix}alias/mine")] {
        assert_eq!(generate(&kms, id).unwrap().key_arn, key.arn, "{id}");
    }
    let unknown = "11111111-2222-3333-4444-555555555555";
    let cases = [
        (unknown.to_string(), Code::NotFound, format!("Key '{prefix}key/{unknown}' does not exist")),
        (format!("key/{}", key.key_id), Code::InvalidKeyId, format!("Invalid keyId 'key/{}'", key.key_id)),
        (String::new(), Code::InvalidKeyId, "Invalid keyId ''".into()),
        ("arn:aws:s3:::bucket".into(), Code::InvalidArn, "Invalid arn arn:aws:s3:::bucket".into()),
        ("nonsense".into(), Code::InvalidKeyId, "Invalid keyId 'nonsense'".into()),
        ("arn:aws:kms:us-west-2:111122223333:key/x".into(), Code::InvalidKeyId, "Invalid arn us-west-2".into()),
        ("alias/none".into(), Code::NotFound, format!("Alias {prefix}alias/none is not found.")),
    ];
    for (id, expected, message) in cases {
        assert_eq!(code(generate(&kms, &id)), (expected, message), "{id}");
    }
}

#[test]
fn the_keyring_of_another_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let kms = open(&dir.path().join("keyring"), unlock(dir.path()));
    assert_eq!(kms.check_store(&[1; 16]), Ok(()));
    let text = "it belongs to another store: 01010101-0101-0101-0101-010101010101, \
                and this one is 02020202-0202-0202-0202-020202020202";
    assert_eq!(kms.check_store(&[2; 16]), Err(OpenError::Other(text.into())));
}

#[test]
fn a_blob_opens_unchanged_under_its_key_and_with_its_context_only() {
    let dir = tempfile::tempdir().unwrap();
    let kms = open(&dir.path().join("keyring"), unlock(dir.path()));
    let arn = kms.create_key("").unwrap().arn;
    let right = context(&[("aws:s3:arn", "arn:aws:s3:::b/k"), ("x", "y")]);
    let made = Kms::generate_data_key(&*kms, &arn, &right, &CALLER).unwrap();
    let blob = made.ciphertext_blob;
    assert!(Kms::decrypt(&*kms, &arn, &blob, &right, &CALLER).is_ok());
    let invalid = (Code::InvalidCiphertext, String::new());
    for wrong in [&[][..], &[("x", "y")], &[("aws:s3:arn", "arn:aws:s3:::b/k"), ("x", "Y")]] {
        assert_eq!(code(Kms::decrypt(&*kms, &arn, &blob, &context(wrong), &CALLER)), invalid, "{wrong:?}");
    }
    for bit in 0..blob.len() * 8 {
        let mut damaged = blob.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(code(Kms::decrypt(&*kms, &arn, &damaged, &right, &CALLER)), invalid, "bit {bit}");
    }
    for len in 0..blob.len() {
        assert_eq!(code(Kms::decrypt(&*kms, &arn, &blob[..len], &right, &CALLER)), invalid, "{len} bytes");
    }
    let other = kms.create_key("").unwrap().arn;
    assert_eq!(code(Kms::decrypt(&*kms, &other, &blob, &right, &CALLER)).0, Code::IncorrectKey);
}

#[test]
fn the_services_key_and_kms_keys_do_not_open_each_others_blobs() {
    let dir = tempfile::tempdir().unwrap();
    let kms = open(&dir.path().join("keyring"), unlock(dir.path()));
    let of_key = generate(&kms, AWS_S3).unwrap();
    let (_, of_service) = ServiceKey::generate_data_key(&*kms, &EncryptionContext::new()).unwrap();
    let invalid = (Code::InvalidCiphertext, String::new());
    assert_eq!(code(decrypt(&kms, &of_key.key_arn, &of_service)), invalid);
    assert_eq!(code(ServiceKey::decrypt(&*kms, &of_key.ciphertext_blob, &EncryptionContext::new())), invalid);
    assert!(ServiceKey::decrypt(&*kms, &of_service, &EncryptionContext::new()).is_ok());
    assert_eq!(code(ServiceKey::decrypt(&*kms, &of_service, &context(&[("x", "y")]))), invalid);
    let by_its_id = Uuid::from_bytes(SERVICE).to_string();
    assert_eq!(code(kms.describe_key(&by_its_id)).0, Code::NotFound);
    assert_eq!(kms.list_keys().unwrap(), [of_key.key_arn]);
}

#[test]
fn an_encrypted_data_key_is_the_one_that_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let key = unlock(dir.path());
    let place = dir.path().join("keyring");
    let kms = open(&place, &key);
    let bound = context(&[("x", "y")]);
    let made = generate(&kms, AWS_S3).unwrap();
    let (arn, blob) = Kms::encrypt(&*kms, AWS_S3, &made.plaintext, &bound, &CALLER).unwrap();
    assert_eq!(arn, made.key_arn);
    let again = Kms::decrypt(&*LocalKms::open(&place, &key()).unwrap(), &arn, &blob, &bound, &CALLER).unwrap();
    // A key is seen by nobody: what one wrapped the other unwraps.
    let probe = kmsfs_crypto::envelope::wrap(&made.plaintext, &SecretKey::random(), b"");
    assert!(kmsfs_crypto::envelope::unwrap(&again, &probe, b"").is_ok());
}

#[test]
fn a_disabled_key_refuses_every_use() {
    let dir = tempfile::tempdir().unwrap();
    let kms = open(&dir.path().join("keyring"), unlock(dir.path()));
    let arn = kms.create_key("").unwrap().arn;
    let made = generate(&kms, &arn).unwrap();
    kms.set_enabled(&arn, false).unwrap();
    assert!(kms.state.read().materials.is_empty(), "its material is forgotten");
    let disabled = (Code::Disabled, format!("{arn} is disabled."));
    assert_eq!(code(generate(&kms, &arn)), disabled);
    assert_eq!(code(Kms::encrypt(&*kms, &arn, &made.plaintext, &EncryptionContext::new(), &CALLER)), disabled);
    assert_eq!(code(decrypt(&kms, &arn, &made.ciphertext_blob)), disabled);
    assert_eq!(code(kms.authorize(&arn, Operation::Decrypt, &EncryptionContext::new(), &CALLER)), disabled);
    assert_eq!(code(kms.authorize(&arn, Operation::GenerateDataKey, &EncryptionContext::new(), &CALLER)), disabled);
    kms.set_enabled(&arn, true).unwrap();
    assert!(decrypt(&kms, &arn, &made.ciphertext_blob).is_ok());
}

#[test]
fn what_is_changed_elsewhere_is_seen_at_the_next_look() {
    let dir = tempfile::tempdir().unwrap();
    let key = unlock(dir.path());
    let place = dir.path().join("keyring");
    let here = open(&place, &key);
    let there = LocalKms::open(&place, &key()).unwrap();
    let arn = there.create_key("").unwrap().arn;
    expire(&here);
    let made = generate(&here, &arn).unwrap();
    there.set_enabled(&arn, false).unwrap();
    expire(&here);
    assert_eq!(code(decrypt(&here, &arn, &made.ciphertext_blob)).0, Code::Disabled);
    there.set_enabled(&arn, true).unwrap();
    expire(&here);
    assert!(decrypt(&here, &arn, &made.ciphertext_blob).is_ok());
}

#[test]
fn the_version_grows_with_changes_made_elsewhere_and_with_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let key = unlock(dir.path());
    let place = dir.path().join("keyring");
    let here = open(&place, &key);
    let before = Kms::version(&*here);
    assert_eq!(Kms::version(&*here), before);
    let there = LocalKms::open(&place, &key()).unwrap();
    let arn = there.create_key("").unwrap().arn;
    let made = Kms::version(&*here);
    assert!(made > before, "at once");
    assert_eq!(here.authorize(&arn, Operation::Decrypt, &EncryptionContext::new(), &CALLER), Ok(()));
    std::fs::rename(place.join("keyring"), place.join("away")).unwrap();
    assert_eq!(Kms::version(&*here), made, "that it is away changes no key");
    assert!(here.authorize(&arn, Operation::Decrypt, &EncryptionContext::new(), &CALLER).unwrap_err().is_outage());
    std::fs::rename(place.join("away"), place.join("keyring")).unwrap();
    assert!(Kms::version(&*here) > made);
}

#[test]
fn changes_at_the_same_time_are_all_kept_and_seen_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let key = unlock(dir.path());
    let place = dir.path().join("keyring");
    let shared = open(&place, &key);
    std::thread::scope(|scope| {
        for of_its_own in [false, true, false, true] {
            let kms = if of_its_own { LocalKms::open(&place, &key()).unwrap() } else { shared.clone() };
            scope.spawn(move || {
                for _ in 0..5 {
                    let made = kms.create_key("").unwrap();
                    assert_eq!(kms.describe_key(&made.arn).unwrap(), made);
                    generate(&kms, AWS_S3).unwrap();
                }
            });
        }
    });
    assert_eq!(LocalKms::open(&place, &key()).unwrap().list_keys().unwrap().len(), 21, "20, and aws/s3 once");
}

#[test]
fn a_keyring_that_disappears_or_is_damaged_refuses_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("keyring");
    let kms = open(&place, unlock(dir.path()));
    let arn = generate(&kms, AWS_S3).unwrap().key_arn;
    let (file, away) = (place.join("keyring"), place.join("away"));
    std::fs::rename(&file, &away).unwrap();
    for damaged in [false, true] {
        if damaged {
            std::fs::write(&file, b"not a keyring").unwrap();
        }
        expire(&kms);
        for _ in 0..2 {
            assert_eq!(code(generate(&kms, &arn)).0, Code::KmsInternal);
            assert_eq!(
                code(kms.authorize(&arn, Operation::Decrypt, &EncryptionContext::new(), &CALLER)).0,
                Code::KmsInternal
            );
            let of_service = ServiceKey::generate_data_key(&*kms, &EncryptionContext::new());
            assert_eq!(code(of_service).0, Code::KmsInternal);
        }
    }
    std::fs::rename(&away, &file).unwrap();
    expire(&kms);
    assert!(generate(&kms, &arn).is_ok());
}
