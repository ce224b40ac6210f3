//! The provider of PKCS#11 against SoftHSM2.

use super::{call, context, data_key, decrypt, encrypt, open, state};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use kmsfs_kms::Code;
use kmsfs_kms_providers::Configuration;
use kmsfs_kms_remote::protocol::{Call, Reply};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const LIBRARY: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "4711";
/// Where the token is, in the process that the test starts.
const DIR: &str = "KMSFS_TEST_TOKEN";
const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/orders";
const OTHER: &str = "arn:aws:kms:eu-central-1:111122223333:key/invoices";

/// The library reads where its tokens are from the environment, once a process: so each test is one of its own.
fn in_a_process(test: &str) {
    if !Path::new(LIBRARY).exists() {
        eprintln!("NOT RUN: SoftHSM2 is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("softhsm2.conf");
    std::fs::create_dir(dir.path().join("tokens")).unwrap();
    std::fs::write(&conf, format!("directories.tokendir = {}/tokens\nlog.level = ERROR\n", dir.path().display()))
        .unwrap();
    pin(dir.path(), PIN);
    init(&conf);
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new(exe);
    command.args(["--exact", test, "--ignored", "--nocapture"]).env("SOFTHSM2_CONF", &conf).env(DIR, dir.path());
    let done = command.output().unwrap();
    let printed = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{printed}{}", String::from_utf8_lossy(&done.stderr));
    assert!(printed.contains("1 passed"), "{printed}");
}

fn init(conf: &Path) {
    let args = ["--init-token", "--free", "--label", "kmsfs", "--so-pin", "1234", "--pin", PIN];
    let made = Command::new("softhsm2-util").args(args).env("SOFTHSM2_CONF", conf).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn pin(dir: &Path, pin: &str) {
    let path = dir.join("pin");
    std::fs::write(&path, pin).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
}

fn dir() -> std::path::PathBuf {
    std::env::var_os(DIR).expect("the test that starts this one sets it").into()
}

fn configuration(mechanism: &str) -> serde_json::Value {
    let pin = json!({"file": dir().join("pin")});
    json!({"pkcs11": {"library": LIBRARY, "token": "kmsfs", "pin": pin, "mechanism": mechanism}})
}

fn administrator() -> Session {
    let library = Pkcs11::new(LIBRARY).unwrap();
    let _ = library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
    let slot = library.get_slots_with_initialized_token().unwrap()[0];
    let session = library.open_rw_session(slot).unwrap();
    let _ = session.login(UserType::User, Some(&AuthPin::from(PIN)));
    session
}

fn make_key(session: &Session, label: &str, id: u8, extractable: bool) {
    make(session, label, &[id], extractable);
}

fn make_key_of(session: &Session, label: &str, id: &[u8]) {
    make(session, label, id, false);
}

fn make(session: &Session, label: &str, id: &[u8], extractable: bool) {
    let template = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(extractable),
        Attribute::ValueLen(32.into()),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(id.to_vec()),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Wrap(true),
        Attribute::Unwrap(true),
    ];
    session.generate_key(&Mechanism::AesKeyGen, &template).unwrap();
}

#[test]
fn pkcs11_walks_through_softhsm() {
    in_a_process("pkcs11::walk");
}

#[test]
#[ignore = "started by pkcs11_walks_through_softhsm"]
fn walk() {
    let session = administrator();
    make_key(&session, "orders", 1, false);
    make_key(&session, "invoices", 1, false);
    make_key(&session, "loose", 1, true);
    let mut blobs = Vec::new();
    for mechanism in ["aes-gcm", "aes-key-wrap"] {
        let token = open(configuration(mechanism));
        let (plaintext, blob) = data_key(&token, KEY, "a").unwrap();
        assert!(!blob.windows(8).any(|part| plaintext.windows(8).any(|bytes| bytes == part)));
        assert_eq!(decrypt(&token, KEY, &blob, "a").unwrap(), plaintext, "{mechanism}");
        assert_eq!(decrypt(&token, KEY, &blob, "b").unwrap_err().code, Code::InvalidCiphertext, "{mechanism}: context");
        assert_eq!(decrypt(&token, OTHER, &blob, "a").unwrap_err().code, Code::InvalidCiphertext, "{mechanism}: key");
        for at in [0, 1, 2, 3, blob.len() / 2, blob.len() - 1] {
            let mut damaged = blob.clone();
            damaged[at] ^= 1;
            assert!(decrypt(&token, KEY, &damaged, "a").is_err(), "{mechanism}: {at}");
        }
        assert_eq!(decrypt(&token, KEY, &blob[..2], "a").unwrap_err().code, Code::InvalidCiphertext);
        let again = encrypt(&token, OTHER, &plaintext, "b").unwrap();
        assert_eq!(decrypt(&token, OTHER, &again, "b").unwrap(), plaintext);
        assert_eq!(state(&token, KEY).unwrap(), "Enabled");
        let none = "arn:aws:kms:eu-central-1:111122223333:key/none";
        assert_eq!(data_key(&token, none, "a").unwrap_err().code, Code::NotFound);
        let loose = data_key(&token, "loose", "a").unwrap_err();
        assert!(loose.is_outage() && loose.message.contains("can be taken out"), "{loose}");
        blobs.push((plaintext, blob));
    }
    // Another version of the key wraps from now on; older blobs open, by whichever mechanism they were made.
    make_key(&session, "orders", 2, false);
    let token = open(configuration("aes-gcm"));
    for (plaintext, blob) in &blobs {
        assert_eq!(decrypt(&token, KEY, blob, "a").unwrap(), *plaintext);
    }
    let (_, blob) = data_key(&token, KEY, "a").unwrap();
    assert_eq!(blob[..4], [1, 1, 1, 2]);
    let first = session.find_objects(&[Attribute::Label(b"orders".to_vec()), Attribute::Id(vec![1])]).unwrap();
    session.destroy_object(first[0]).unwrap();
    assert_eq!(decrypt(&token, KEY, &blobs[0].1, "a").unwrap_err().code, Code::KmsInvalidState);
    let Reply::Status(members) = call(&token, &Call::Status).unwrap() else { panic!("another reply") };
    assert_eq!(members["Mechanism"], "AesGcm");
    let context = context("a");
    let moved = Call::ReEncrypt {
        source_key_id: KEY.into(),
        ciphertext_blob: blob,
        source_context: context.clone(),
        destination_key_id: KEY.into(),
        destination_context: context,
    };
    assert_eq!(call(&token, &moved).err().unwrap().code, Code::UnsupportedOperation);
}

#[test]
fn pkcs11_keys_of_one_id_open_what_they_have_wrapped_and_none_is_the_newest() {
    in_a_process("pkcs11::same_ids");
}

#[test]
#[ignore = "started by pkcs11_keys_of_one_id_open_what_they_have_wrapped_and_none_is_the_newest"]
fn same_ids() {
    let session = administrator();
    let made = |id: &[u8]| {
        make_key_of(&session, "orders", id);
        let made: Vec<_> = ["aes-gcm", "aes-key-wrap"].map(|by| data_key(&open(configuration(by)), KEY, "a")).into();
        made
    };
    let first: Vec<_> = made(&[]).into_iter().map(Result::unwrap).collect();
    for refused in made(&[]) {
        let refused = refused.unwrap_err();
        assert!(refused.is_outage() && refused.message.contains("give each an id of its own"), "{refused}");
    }
    let token = open(configuration("aes-gcm"));
    let opens = |all: &[(_, Vec<u8>)]| {
        for (plaintext, blob) in all {
            assert_eq!(decrypt(&token, KEY, blob, "a").unwrap(), *plaintext);
        }
    };
    opens(&first);
    assert_eq!(decrypt(&token, KEY, &first[0].1, "b").unwrap_err().code, Code::InvalidCiphertext);
    let second: Vec<_> = made(&[7]).into_iter().map(Result::unwrap).collect();
    make_key_of(&session, "orders", &[3]);
    make_key_of(&session, "orders", &[3]);
    opens(&first);
    opens(&second);
    assert!(data_key(&token, KEY, "a").is_ok(), "the highest id is one key's");
}

#[test]
fn pkcs11_lost_sessions_and_a_token_pulled_out_are_outages() {
    in_a_process("pkcs11::lose");
}

#[test]
#[ignore = "started by pkcs11_lost_sessions_and_a_token_pulled_out_are_outages"]
fn lose() {
    let session = administrator();
    make_key(&session, "orders", 1, false);
    let token = open(configuration("aes-gcm"));
    let (plaintext, blob) = data_key(&token, KEY, "a").unwrap();
    // Whoever is logged out sees no key; that is no key that is gone.
    session.logout().unwrap();
    assert_eq!(decrypt(&token, KEY, &blob, "a").unwrap(), plaintext, "it has logged in again");
    drop(session);
    let missing = json!({"pkcs11": {"library": LIBRARY, "token": "other", "pin": {"file": dir().join("pin")}}});
    let short = std::time::Duration::from_millis(300);
    let (outcome, _) = super::decrypt_within(&open(missing), KEY, &blob, "a", short);
    let pulled_out = outcome.unwrap_err();
    assert!(pulled_out.is_outage() && pulled_out.message.contains("there is no token other"), "{pulled_out}");
    drop(token);

    // Each of these stands for a process of its own, all of which know the same file.
    let file = dir().join("pkcs11.json");
    std::fs::write(&file, configuration("aes-gcm").to_string()).unwrap();
    let process = || Configuration::parse(&configuration("aes-gcm").to_string()).unwrap().open(Some(&file)).unwrap();
    pin(&dir(), "0000");
    for wanted in ["the PIN is wrong: ", "is not tried again until", "is not tried again until"] {
        let wrong = decrypt(&process(), KEY, &blob, "a").unwrap_err();
        assert!(wrong.is_outage() && wrong.message.contains(wanted), "{wrong}");
    }
    let token = process();
    assert!(decrypt(&token, KEY, &blob, "a").unwrap_err().message.contains("pin or "), "it says what to change");
    pin(&dir(), PIN);
    assert_eq!(decrypt(&token, KEY, &blob, "a").unwrap(), plaintext);
}

#[test]
fn pkcs11_a_library_that_is_not_there_is_said() {
    let configuration = json!({"pkcs11": {"library": "/none.so", "token": "t", "pin": {"file": "/pin"}}}).to_string();
    let error = kmsfs_kms_providers::Configuration::parse(&configuration).unwrap().open(None).err().unwrap();
    assert!(error.to_string().contains("/none.so"), "{error}");
}
