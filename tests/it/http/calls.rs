//! KMS and STS at the same URL.

use super::Served;
use super::client::{AccessKey, Client, Reply};
use crate::harness::json;

fn kms(client: &Client, operation: &str, body: &str) -> Reply {
    let target = format!("TrentService.{operation}");
    let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
    client.call("kms", &headers, body)
}

#[test]
fn a_key_that_is_made_over_http_is_one_of_the_keyring_and_encrypts_objects() {
    let served = Served::new();
    let root = served.client("root");
    let made = kms(&root, "CreateKey", r#"{"Description": "over HTTP"}"#).expect(200);
    assert_eq!(made.header("content-type"), "application/x-amz-json-1.1");
    let arn = json(&made.text())["KeyMetadata"]["Arn"].as_str().unwrap().to_owned();
    let described = served.store.kms(&format!("describe-key --key-id {arn}"));
    assert_eq!(described["KeyMetadata"]["Description"], "over HTTP");

    root.put("/bucket", b"").expect(200);
    let sse = [("x-amz-server-side-encryption", "aws:kms"), ("x-amz-server-side-encryption-aws-kms-key-id", &arn)];
    let put = root.sign("PUT", "/bucket/x", &sse, b"secret").send(&root.address).expect(200);
    assert_eq!(put.header("x-amz-server-side-encryption-aws-kms-key-id"), arn);
    kms(&root, "DisableKey", &format!(r#"{{"KeyId": "{arn}"}}"#)).expect(200);
    let disabled = || root.get("/bucket/x").status == 400;
    assert!(crate::harness::wait_until(disabled));
    root.get("/bucket/x").expect_error(400, "KMS.DisabledException");
    served.server.end();
}

#[test]
fn calls_are_made_as_the_user_who_signed_them_and_for_nobody_else() {
    let served = Served::new();
    let (root, nobody) = (served.client("root"), served.client("nobody"));
    let made = json(&kms(&root, "CreateKey", "{}").expect(200).text());
    let body = format!(r#"{{"KeyId": "{}"}}"#, made["KeyMetadata"]["KeyId"].as_str().unwrap());
    let exception = |reply: Reply| json(&reply.expect(400).text())["__type"].as_str().unwrap().to_owned();
    assert_eq!(exception(kms(&nobody, "DisableKey", &body)), "AccessDeniedException");
    kms(&root, "DescribeKey", &body).expect(200);
    assert_eq!(exception(kms(&root, "NoSuchCall", "{}")), "UnknownOperationException");
    assert_eq!(exception(kms(&root, "DescribeKey", "{")), "SerializationException");
    let stranger = served.server.client(&AccessKey { secret: "x".into(), ..root.key.clone() });
    assert_eq!(exception(kms(&stranger, "DescribeKey", "{")), "InvalidSignatureException", "nothing more is told");
    assert_eq!(exception(kms(&stranger, "CreateKey", "{}")), "InvalidSignatureException");

    let ask = "Action=GetCallerIdentity&Version=2011-06-15";
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let who = |client: &Client| client.call("sts", &form, ask).expect(200).element("Arn");
    assert_eq!(who(&root), "arn:aws:iam::000000000000:root");
    assert_eq!(who(&nobody), "arn:aws:iam::000000000000:user/nobody");
    stranger.call("sts", &form, ask).expect(403);
}

#[test]
fn custom_key_stores_are_shown_connected_and_renamed_over_http_and_made_on_the_machine_alone() {
    let served = Served::new();
    let (root, nobody) = (served.client("root"), served.client("nobody"));
    let made = served.store.kms(
        "create-custom-key-store --custom-key-store-name hsm --provider exec:/usr/bin/kms-provider \
         --key-arns arn:aws:kms:eu-central-1:111122223333:",
    );
    let id = made["CustomKeyStoreId"].as_str().unwrap();
    let body = format!(r#"{{"CustomKeyStoreId": "{id}"}}"#);
    kms(&root, "ConnectCustomKeyStore", &body).expect(200);
    let described = || {
        let described = json(&kms(&root, "DescribeCustomKeyStores", "{}").expect(200).text());
        assert_eq!(described["Truncated"], false);
        described["CustomKeyStores"][0].clone()
    };
    assert_eq!(
        (&described()["ConnectionState"], &described()["CustomKeyStoreName"]),
        (&"CONNECTED".into(), &"hsm".into())
    );
    assert!(described()["CreationDate"].is_f64());
    let exception = |reply: Reply| json(&reply.expect(400).text())["__type"].as_str().unwrap().to_owned();
    assert_eq!(exception(kms(&root, "DeleteCustomKeyStore", &body)), "CustomKeyStoreInvalidStateException");
    assert_eq!(exception(kms(&nobody, "DisconnectCustomKeyStore", &body)), "AccessDeniedException");
    kms(&root, "DisconnectCustomKeyStore", &body).expect(200);
    let rename = format!(r#"{{"CustomKeyStoreId": "{id}", "NewCustomKeyStoreName": "hsm-2"}}"#);
    kms(&root, "UpdateCustomKeyStore", &rename).expect(200);
    assert_eq!(
        (&described()["ConnectionState"], &described()["CustomKeyStoreName"]),
        (&"DISCONNECTED".into(), &"hsm-2".into())
    );
    let program = r#"{"CustomKeyStoreName": "n", "Provider": "exec:/bin/sh", "KeyArns": ["arn:aws:kms:x:1:"]}"#;
    assert_eq!(exception(kms(&root, "CreateCustomKeyStore", program)), "UnsupportedOperationException");
    kms(&root, "DeleteCustomKeyStore", &body).expect(200);
    assert_eq!(exception(kms(&root, "ConnectCustomKeyStore", &body)), "CustomKeyStoreNotFoundException");
    served.server.end();
}
