//! The article's walk-through: a bucket's default, an object, a PUT that asks, a customer key, and the key disabled.

use crate::harness::{Store, names_in, wait_until};
use serde_json::{Value, json};
use std::fs;

const CONFIGURATION: &str = r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"aws:kms"}}]}"#;
const BOND: &str = "{\n  \"name\": \"Bond, James Bond\",\n  \"number\": 7\n}\n";

fn article_store() -> Store {
    let store = Store::made_with("--region us-west-2 --account-id 123456789123");
    fs::write(store.path("sse-config-kms.json"), CONFIGURATION).unwrap();
    fs::write(store.path("bond.json"), BOND).unwrap();
    store
}

fn stat(store: &Store, path: &str) -> Value {
    serde_json::from_str(&store.sh(&format!("kmsfs stat $MNT/{path}"))).unwrap()
}

#[test]
fn a_bucket_with_a_default_encrypts_what_is_copied_in() {
    let store = article_store();
    let mut mount = store.mount();
    store.sh("mkdir $MNT/secret && cp sse-config-kms.json $MNT/secret/.encryption.json");
    store.sh("cp bond.json $MNT/secret/ && cmp bond.json $MNT/secret/bond.json");
    let answer = stat(&store, "secret/bond.json");
    assert_eq!(answer["ServerSideEncryption"], "aws:kms");
    assert_eq!(answer["ContentLength"], BOND.len());
    let arn = answer["SSEKMSKeyId"].as_str().unwrap();
    assert!(arn.starts_with("arn:aws:kms:us-west-2:123456789123:key/"), "{arn}");
    let key = store.kms("describe-key --key-id alias/aws/s3");
    assert_eq!((&key["KeyMetadata"]["Arn"], &key["KeyMetadata"]["KeyManager"]), (&json!(arn), &json!("AWS")));
    let etag = answer["ETag"].as_str().unwrap();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "{etag}");

    mount.remount();
    assert_eq!(stat(&store, "secret/bond.json"), answer);
    store.sh("cmp bond.json $MNT/secret/bond.json; cmp sse-config-kms.json $MNT/secret/.encryption.json");
}

#[test]
fn a_put_asks_for_what_the_bucket_does_not_say() {
    let store = article_store();
    let _mount = store.mount();
    store.sh("mkdir $MNT/plain && cp bond.json $MNT/plain/copied.json");
    assert_eq!(stat(&store, "plain/copied.json")["ServerSideEncryption"], "AES256");
    assert_eq!(stat(&store, "plain/copied.json").get("SSEKMSKeyId"), None);

    let put = |options: &str| -> Value {
        serde_json::from_str(&store.sh(&format!("kmsfs put {options} bond.json $MNT/plain/bond.json"))).unwrap()
    };
    let answer = put("--server-side-encryption aws:kms");
    assert_eq!(answer["ServerSideEncryption"], "aws:kms");
    assert_eq!(answer["SSEKMSKeyId"], stat(&store, "plain/bond.json")["SSEKMSKeyId"]);
    assert_eq!(answer["ETag"], stat(&store, "plain/bond.json")["ETag"]);

    let customer = store.create_key("alias/customer");
    let answer = put("--server-side-encryption aws:kms --ssekms-key-id alias/customer");
    assert_eq!(answer["SSEKMSKeyId"], customer.as_str());
    assert_eq!(stat(&store, "plain/bond.json")["SSEKMSKeyId"], customer.as_str());

    let answer = put("--server-side-encryption AES256");
    let md5 = store.sh("md5sum < bond.json");
    assert_eq!(answer["ETag"], format!("\"{}\"", md5.split_whitespace().next().unwrap()));
    store.sh("cmp bond.json $MNT/plain/bond.json");
    store.sh("kmsfs put - $MNT/plain/piped < bond.json; cmp bond.json $MNT/plain/piped");
}

#[test]
fn a_disabled_customer_key_closes_its_objects_until_it_is_enabled() {
    let store = article_store();
    let mount = store.mount();
    let customer = store.create_key("alias/customer");
    let key_id = customer.rsplit('/').next().unwrap();
    let configuration = CONFIGURATION.replace("\"aws:kms\"", &format!("\"aws:kms\",\"KMSMasterKeyID\":\"{key_id}\""));
    fs::write(store.path("sse-config-customer.json"), configuration).unwrap();
    store.sh("mkdir $MNT/theirs $MNT/ours && cp sse-config-customer.json $MNT/theirs/.encryption.json");
    store.sh("cp bond.json $MNT/theirs/ && cp bond.json $MNT/ours/");
    assert_eq!(stat(&store, "theirs/bond.json")["SSEKMSKeyId"], customer.as_str());

    store.disable_key(&customer);
    assert!(wait_until(|| store.try_sh("cat $MNT/theirs/bond.json").code != 0));
    store.try_sh("cat $MNT/theirs/bond.json").expect_failure(1, "Permission denied");
    store.try_sh("cp bond.json $MNT/theirs/new.json").expect_failure(1, "Permission denied");
    store.expect_log(&format!("{customer} is disabled."));
    assert_eq!(names_in(&mount.path("theirs")), [".encryption.json", "bond.json"]);
    store.sh("cmp bond.json $MNT/ours/bond.json");

    store.enable_key(&customer);
    assert!(wait_until(|| store.try_sh("cmp bond.json $MNT/theirs/bond.json").code == 0));
}

#[test]
fn without_sidecars_or_keyring_nothing_is_readable() {
    let store = article_store();
    let mount = store.mount();
    store.sh("mkdir $MNT/secret && cp sse-config-kms.json $MNT/secret/.encryption.json && cp bond.json $MNT/secret/");
    mount.unmount();

    store.sh("mv store/sidecars aside && mkdir store/sidecars");
    let mount = store.mount_with("ro");
    store.try_sh("cat $MNT/secret/bond.json").expect_failure(1, "Input/output error");
    mount.unmount();
    store.sh("rmdir store/sidecars && mv aside store/sidecars");

    store.sh("mv store/keyring aside");
    assert!(store.try_mount("").is_err());
    store.sh("mv aside store/keyring");

    let _mount = store.mount();
    store.sh("cmp bond.json $MNT/secret/bond.json");
}
