//! Nothing is done for whoever has not signed for it.

use super::Served;
use super::client::{AccessKey, Connection};

#[test]
fn a_request_that_is_not_signed_right_does_nothing() {
    let served = Served::new();
    let root = served.client("root");
    root.put("/bucket", b"").expect(200);

    let mut wrong = root.sign("PUT", "/bucket/x", &[], b"content");
    let (rest, signature) = wrong.header("authorization").rsplit_once("Signature=").unwrap();
    let other = if signature.starts_with('0') { "1" } else { "0" };
    let authorization = format!("{rest}Signature={other}{}", &signature[1..]);
    wrong.set("authorization", &authorization);
    let refused = wrong.send(&root.address).expect_error(403, "SignatureDoesNotMatch");
    assert_eq!(refused.element("AWSAccessKeyId"), root.key.id);

    let other_key = AccessKey { secret: "x".repeat(40), ..root.key.clone() };
    served.server.client(&other_key).put("/bucket/x", b"content").expect_error(403, "SignatureDoesNotMatch");
    let unknown = AccessKey { id: "AKIAIOSFODNN7EXAMPLE".into(), ..root.key.clone() };
    served.server.client(&unknown).put("/bucket/x", b"content").expect_error(403, "InvalidAccessKeyId");

    // Signed for another key, another bucket, another method, and with a header more.
    let mut moved = root.sign("PUT", "/bucket/y", &[], b"content");
    moved.target = "/bucket/x".into();
    moved.send(&root.address).expect_error(403, "SignatureDoesNotMatch");
    let mut more = root.sign("PUT", "/bucket/x", &[], b"content");
    more.set("x-amz-meta-a", "b");
    more.send(&root.address).expect_error(403, "AccessDenied");

    let mut anonymous = Connection::open(&root.address);
    anonymous.send(b"GET /bucket/x HTTP/1.1\r\nhost: h\r\n\r\n");
    anonymous.reply("GET").expect_error(403, "AccessDenied");
    assert!(!served.mount.path("bucket/x").exists());
}

#[test]
fn an_access_key_that_is_inactive_or_deleted_opens_nothing_any_more() {
    let served = Served::new();
    let root = served.client("root");
    root.put("/bucket", b"").expect(200);
    let iam = |call: &str| served.store.sh(&format!("kmsfs iam --store $STORE --key-file $KEY {call}"));
    let id = &root.key.id;
    iam(&format!("update-access-key --access-key-id {id} --status Inactive"));
    let refused = || root.get("/bucket").status == 403;
    assert!(crate::harness::wait_until(refused));
    iam(&format!("update-access-key --access-key-id {id} --status Active"));
    assert!(crate::harness::wait_until(|| !refused()));
    iam(&format!("delete-access-key --access-key-id {id}"));
    assert!(crate::harness::wait_until(refused));
    root.get("/bucket").expect_error(403, "InvalidAccessKeyId");
}
