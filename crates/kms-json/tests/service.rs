//! From bytes to bytes, over a keyring: what a client sends and what it is answered.

use kmsfs_crypto::SecretKey;
use kmsfs_kms::api::Service;
use kmsfs_kms::{AccessKeyId, Caller, Principal, SignedRequest};
use kmsfs_kms_json::{Reply, TARGET, request, sts};
use kmsfs_kms_local::{KeyringParameters, LocalKms, Unlock};
use serde_json::{Value, json};
use std::sync::Arc;

const ROOT: Principal = Principal::Process(Caller { uid: 0, gid: 0, pid: 0 });

fn kms(dir: &tempfile::TempDir) -> Arc<LocalKms> {
    let (account_id, region) = ("111122223333".into(), "eu-central-1".into());
    let parameters = KeyringParameters { store_id: [1; 16], account_id, region };
    LocalKms::create(&dir.path().join("keyring"), &parameters, &Unlock::KeyFile(SecretKey::random())).unwrap()
}

/// Status and body.
fn call(kms: &LocalKms, operation: &str, body: &Value, who: &Principal) -> (u16, Vec<u8>) {
    let reply = match request(&format!("{TARGET}{operation}"), body.to_string().as_bytes()) {
        Ok(call) => Reply::new(&kms.call(&call, who)),
        Err(refusal) => Reply::refusal(&refusal),
    };
    (reply.status, reply.body.to_vec())
}

#[track_caller]
fn answered(kms: &LocalKms, operation: &str, body: &Value) -> Value {
    let (status, body) = call(kms, operation, body, &ROOT);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

#[track_caller]
fn refused(kms: &LocalKms, operation: &str, body: &Value, expected: &str) {
    let (status, body) = call(kms, operation, body, &ROOT);
    assert_eq!((status, String::from_utf8(body).unwrap().as_str()), (400, expected));
}

#[test]
fn a_key_is_made_used_and_taken_away_in_aws_json() {
    let dir = tempfile::tempdir().unwrap();
    let kms = kms(&dir);
    let made = answered(&kms, "CreateKey", &json!({"Description": "invoices"}))["KeyMetadata"].clone();
    let (id, arn) = (made["KeyId"].as_str().unwrap(), made["Arn"].as_str().unwrap());
    assert!(made["CreationDate"].is_f64(), "{made}");
    assert_eq!(made["CurrentKeyMaterialId"].as_str().map(str::len), Some(64));
    let (status, body) = call(&kms, "CreateAlias", &json!({"AliasName": "alias/x", "TargetKeyId": id}), &ROOT);
    assert_eq!((status, body.as_slice()), (200, &b""[..]), "there is nothing to say");

    let context = json!({"Purpose": "Test"});
    let encrypt = json!({"KeyId": "alias/x", "Plaintext": "YSBzZWNyZXQ=", "EncryptionContext": context});
    let blob = answered(&kms, "Encrypt", &encrypt)["CiphertextBlob"].clone();
    let opened = answered(&kms, "Decrypt", &json!({"CiphertextBlob": blob, "EncryptionContext": context}));
    let expected = json!({"KeyId": arn, "Plaintext": "YSBzZWNyZXQ=", "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        "KeyMaterialId": made["CurrentKeyMaterialId"]});
    assert_eq!(opened, expected);
    // AWS says no more.
    refused(&kms, "Decrypt", &json!({"CiphertextBlob": blob}), r#"{"__type":"InvalidCiphertextException"}"#);

    assert_eq!(call(&kms, "DisableKey", &json!({"KeyId": id}), &ROOT).0, 200);
    let disabled = format!(r#"{{"__type":"DisabledException","message":"{arn} is disabled."}}"#);
    refused(&kms, "GenerateDataKey", &json!({"KeyId": id, "KeySpec": "AES_256"}), &disabled);
    let deletion = answered(&kms, "ScheduleKeyDeletion", &json!({"KeyId": id, "PendingWindowInDays": 7}));
    assert!(deletion["DeletionDate"].as_f64().unwrap() > made["CreationDate"].as_f64().unwrap() + 6.9 * 86400.0);
    let unknown = "11111111-2222-3333-4444-555555555555";
    let text = format!("Key 'arn:aws:kms:eu-central-1:111122223333:key/{unknown}' does not exist");
    let expected = format!(r#"{{"__type":"NotFoundException","message":"{text}"}}"#);
    refused(&kms, "DescribeKey", &json!({"KeyId": unknown}), &expected);
}

#[test]
fn lists_have_the_pages_of_aws() {
    let dir = tempfile::tempdir().unwrap();
    let kms = kms(&dir);
    let keys: Vec<_> = (0..3).map(|_| answered(&kms, "CreateKey", &json!({}))["KeyMetadata"]["Arn"].clone()).collect();
    let first = answered(&kms, "ListKeys", &json!({"Limit": 2}));
    assert_eq!((&first["Truncated"], first["Keys"].as_array().map(Vec::len)), (&true.into(), Some(2)));
    let rest = answered(&kms, "ListKeys", &json!({"Limit": 2, "Marker": first["NextMarker"]}));
    assert_eq!(
        (&rest["Truncated"], &rest["Keys"][0]["KeyArn"], rest.get("NextMarker")),
        (&false.into(), &keys[2], None)
    );
    // Where nothing is said AWS has 50 tags, 50 aliases and 100 keys on a page.
    for n in 0..51 {
        call(&kms, "CreateAlias", &json!({"AliasName": format!("alias/{n}"), "TargetKeyId": keys[0]}), &ROOT);
    }
    let aliases = answered(&kms, "ListAliases", &json!({}));
    assert_eq!((&aliases["Truncated"], aliases["Aliases"].as_array().map(Vec::len)), (&true.into(), Some(50)));
    assert!(aliases["Aliases"][0]["CreationDate"].is_f64());
}

#[test]
fn a_keyring_that_is_away_is_a_failure_of_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let kms = kms(&dir);
    std::fs::remove_dir_all(dir.path().join("keyring")).unwrap();
    let (status, body) = call(&kms, "CreateKey", &json!({}), &ROOT);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, body["__type"].as_str()), (500, Some("KMSInternalException")));
}

#[test]
fn whoever_signs_is_told_who_he_is_as_the_audit_trail_names_him() {
    let dir = tempfile::tempdir().unwrap();
    let kms = kms(&dir);
    let access_key = AccessKeyId::parse("AKIAIOSFODNN7EXAMPLE").unwrap();
    let signed = |uid: u32| SignedRequest { access_key, uid, gid: uid, source: None, user_agent: None };
    let identity = |uid: u32| sts::CallerIdentity::of(&Principal::Request(signed(uid)), &*kms);
    let (account, arn) = ("111122223333".to_owned(), "arn:aws:iam::111122223333:user/uid:4000001".to_owned());
    let expected = sts::CallerIdentity { account: account.clone(), arn, user_id: "4000001".into() };
    assert_eq!(identity(4_000_001), expected);
    let arn = "arn:aws:iam::111122223333:root".to_owned();
    assert_eq!(identity(0), sts::CallerIdentity { account: account.clone(), arn, user_id: account });
}
