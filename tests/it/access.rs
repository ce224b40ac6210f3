//! Who may use a key: two users on one mount, groups, grants, and the same calls on the command line.

use crate::harness::{Mount, Store, kms_with, wait_until};
use std::fs;

/// Users without names, so without entries in the user database of any machine.
const ALICE: u32 = 60001;
const BOB: u32 = 60002;
/// A group without a name.
const STAFF: u32 = 60010;

fn arn(principal: &str) -> String {
    format!("arn:aws:iam::000000000000:{principal}")
}

fn allow(principal: &str, action: &str) -> String {
    let arn = arn(principal);
    format!(r#"{{"Effect": "Allow", "Principal": {{"AWS": "{arn}"}}, "Action": "{action}", "Resource": "*"}}"#)
}

fn put_policy(store: &Store, key: &str, statements: &[String]) {
    let policy = format!(r#"{{"Version": "2012-10-17", "Statement": [{}]}}"#, statements.join(", "));
    fs::write(store.path("policy.json"), policy).unwrap();
    store.kms(&format!("put-key-policy --key-id {key} --policy-name default --policy file://policy.json"));
}

/// A bucket that all may write to, whose objects are encrypted under a key of its own; the key's ARN.
fn bucket_with_key(store: &Store, mount: &Mount, bucket_key: bool) -> String {
    let key = store.create_key("alias/mine");
    let bucket = mount.bucket("bucket");
    mount.set_default("bucket", &kms_with("alias/mine"), bucket_key);
    assert!(wait_until(|| fs::write(bucket.join("object"), "content").is_ok()));
    store.sh("chmod 1777 $MNT/bucket; chmod 644 $MNT/bucket/object");
    key
}

fn reads(store: &Store, uid: u32) -> bool {
    let answer = store.sh_as(uid, "cat $MNT/bucket/object");
    if answer.code != 0 {
        answer.expect_failure(1, "Permission denied");
    }
    answer.code == 0
}

fn refusal(uid: u32, action: &str, key: &str) -> String {
    let user = arn(&format!("user/uid:{uid}"));
    format!(
        "AccessDenied: User: {user} is not authorized to perform: kms:{action} on resource: {key} \
         because no resource-based policy allows the kms:{action} action"
    )
}

#[test]
fn of_two_users_who_may_read_a_file_the_policy_lets_one() {
    for bucket_key in [false, true] {
        let store = Store::new();
        store.open_to_all();
        let mount = store.mount_with("allow_other");
        let key = bucket_with_key(&store, &mount, bucket_key);
        assert!(reads(&store, ALICE) && reads(&store, BOB), "by default whoever POSIX lets");
        for (one, other) in [(ALICE, BOB), (BOB, ALICE)] {
            put_policy(&store, &key, &[allow("root", "kms:*"), allow(&format!("user/uid:{one}"), "kms:Decrypt")]);
            assert!(wait_until(|| reads(&store, one) && !reads(&store, other)));
            // The first time it may have been the handle that was refused.
            assert!(!reads(&store, other));
            store.expect_log(&refusal(other, "Decrypt", &key));
            assert!(reads(&store, one), "and it stays so");
            assert_eq!(store.sh("cat $MNT/bucket/object"), "content");
        }
    }
}

#[test]
fn creating_takes_generate_data_key() {
    let store = Store::new();
    store.open_to_all();
    let mount = store.mount_with("allow_other");
    let key = bucket_with_key(&store, &mount, false);
    let alice = format!("user/uid:{ALICE}");
    store.sh_as(ALICE, "echo mine > $MNT/bucket/first");
    put_policy(&store, &key, &[allow("root", "kms:*"), allow(&alice, "kms:Decrypt")]);
    let create = || store.sh_as(ALICE, "echo mine > $MNT/bucket/second");
    assert!(wait_until(|| {
        let answer = create();
        let _ = fs::remove_file(mount.path("bucket/second"));
        answer.code != 0
    }));
    create().expect_failure(1, "Permission denied");
    store.expect_log(&refusal(ALICE, "GenerateDataKey", &key));
    assert!(!mount.path("bucket/second").exists(), "nothing is left behind");
    assert_eq!(store.sh_as(ALICE, "cat $MNT/bucket/first").out, "mine\n");
    put_policy(&store, &key, &[allow("root", "kms:*"), allow(&alice, "kms:GenerateDataKey*")]);
    assert!(wait_until(|| create().code == 0));
}

#[test]
fn a_group_is_a_role_and_one_deny_is_enough() {
    let store = Store::new();
    store.open_to_all();
    let mount = store.mount_with("allow_other");
    let key = bucket_with_key(&store, &mount, false);
    let as_member = |uid: u32| {
        let words = format!("setpriv --reuid {uid} --regid {uid} --groups {STAFF} -- cat $MNT/bucket/object");
        store.try_sh(&words).code == 0
    };
    let staff = format!("role/gid:{STAFF}");
    put_policy(&store, &key, &[allow("root", "kms:*"), allow(&staff, "kms:Decrypt")]);
    assert!(wait_until(|| !reads(&store, ALICE)));
    assert!(as_member(ALICE) && as_member(BOB) && !reads(&store, BOB));
    let deny = allow(&format!("user/uid:{BOB}"), "kms:Decrypt").replace("Allow", "Deny");
    put_policy(&store, &key, &[allow("root", "kms:*"), allow(&staff, "kms:Decrypt"), deny]);
    assert!(wait_until(|| !as_member(BOB)));
    assert!(!as_member(BOB));
    assert!(as_member(ALICE));
    store.expect_log("with an explicit deny in a resource-based policy");
}

/// What `unshare --map-auto` and a map of groups of its own come to: the user is the same, the groups are gone.
#[test]
fn a_deny_on_a_group_is_not_shed_with_the_group() {
    let store = Store::new();
    store.open_to_all();
    let mount = store.mount_with("allow_other");
    let key = bucket_with_key(&store, &mount, false);
    let read = |gid: u32| {
        store.try_sh(&format!("setpriv --reuid daemon --regid {gid} --clear-groups -- cat $MNT/bucket/object")).code
            == 0
    };
    assert!(read(STAFF), "daemon is a user of every machine, in a group of that name");
    let everyone = allow("root", "kms:Decrypt").replace(&format!(r#"{{"AWS": "{}"}}"#, arn("root")), r#""*""#);
    put_policy(&store, &key, &[allow("root", "kms:*"), everyone.clone(), allow("role/daemon", "kms:Decrypt")]);
    assert!(wait_until(|| read(STAFF)));
    let deny = allow("role/daemon", "kms:Decrypt").replace("Allow", "Deny");
    put_policy(&store, &key, &[allow("root", "kms:*"), everyone, deny]);
    assert!(wait_until(|| !read(STAFF)));
    assert!(!read(STAFF));
    store.expect_log("with an explicit deny in a resource-based policy");
    assert!(reads(&store, ALICE));
    // An Allow is for the groups that the process has.
    put_policy(&store, &key, &[allow("root", "kms:*"), allow("role/daemon", "kms:Decrypt")]);
    assert!(wait_until(|| !reads(&store, ALICE)));
    assert!(!read(STAFF));
    assert!(store.try_sh("setpriv --reuid daemon --regid daemon --clear-groups -- cat $MNT/bucket/object").code == 0);
}

/// The kernel keeps pages for whoever has the file open, and splice(2) asks nobody else.
#[test]
fn what_a_key_that_distinguishes_users_protects_is_not_kept_in_the_kernels_cache() {
    let store = Store::new();
    store.open_to_all();
    let mount = store.mount_with("allow_other");
    let key = bucket_with_key(&store, &mount, false);
    let reads_of_two = || {
        let count = || {
            let text = store.sh("kmsfs status --json $MNT");
            let status: serde_json::Value = serde_json::from_str(&text).unwrap();
            status["Operations"]["Read"]["Calls"].as_u64().unwrap_or(0)
        };
        let before = count();
        assert_eq!(store.sh("cat $MNT/bucket/object"), "content");
        let once = count() - before;
        assert_eq!(store.sh("cat $MNT/bucket/object"), "content");
        (once, count() - before - once)
    };
    assert_eq!(reads_of_two().1, 0, "by default it is for everybody");
    put_policy(&store, &key, &[allow("root", "kms:*"), allow(&format!("user/uid:{ALICE}"), "kms:Decrypt")]);
    assert!(wait_until(|| !reads(&store, BOB)));
    assert!(wait_until(|| matches!(reads_of_two(), (1.., 1..))));
}

#[test]
fn a_policy_can_let_one_directory_of_a_bucket() {
    let store = Store::new();
    store.open_to_all();
    let mount = store.mount_with("allow_other");
    let key = bucket_with_key(&store, &mount, false);
    store.sh("mkdir -m 755 $MNT/bucket/open; echo x > $MNT/bucket/open/object; chmod 644 $MNT/bucket/open/object");
    let condition =
        r#""Condition": {"StringLike": {"kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::bucket/open/*"}}"#;
    let statement = allow(&format!("user/uid:{ALICE}"), "kms:Decrypt").replacen('{', &format!("{{{condition}, "), 1);
    put_policy(&store, &key, &[allow("root", "kms:*"), statement]);
    assert!(wait_until(|| !reads(&store, ALICE)));
    assert_eq!(store.sh_as(ALICE, "cat $MNT/bucket/open/object").out, "x\n");
}

#[test]
fn a_grant_lets_its_grantee_until_it_is_revoked_or_retired() {
    let store = Store::new();
    store.open_to_all();
    let mount = store.mount_with("allow_other");
    let key = bucket_with_key(&store, &mount, false);
    put_policy(&store, &key, &[allow("root", "kms:*")]);
    assert!(wait_until(|| !reads(&store, ALICE)));
    let grantee = arn(&format!("user/uid:{ALICE}"));
    let make = "--constraints EncryptionContextEquals={aws:s3:arn=arn:aws:s3:::bucket/object} --name one";
    let create =
        format!("create-grant --key-id {key} --grantee-principal {grantee} --operations Decrypt DescribeKey {make}");
    let granted = store.kms(&create);
    assert!(wait_until(|| reads(&store, ALICE)));
    assert!(!reads(&store, BOB));
    let listed = store.kms(&format!("list-grants --key-id {key}"));
    let grant = &listed["Grants"][0];
    assert_eq!((&grant["GrantId"], &grant["KeyId"]), (&granted["GrantId"], &key.as_str().into()));
    assert_eq!((&grant["GranteePrincipal"], &grant["Name"]), (&grantee.as_str().into(), &"one".into()));
    assert_eq!(grant["Operations"], serde_json::json!(["Decrypt", "DescribeKey"]));
    let bound = serde_json::json!({"EncryptionContextEquals": {"aws:s3:arn": "arn:aws:s3:::bucket/object"}});
    assert_eq!(grant["Constraints"], bound);
    let id = |granted: &serde_json::Value| granted["GrantId"].as_str().unwrap().to_owned();
    store.kms(&format!("revoke-grant --key-id {key} --grant-id {}", id(&granted)));
    assert!(wait_until(|| !reads(&store, ALICE)));
    let again = store.kms(&create);
    assert!(wait_until(|| reads(&store, ALICE)));
    store.kms(&format!("retire-grant --grant-token {}", again["GrantToken"].as_str().unwrap()));
    assert!(wait_until(|| !reads(&store, ALICE)));
}

#[test]
fn the_command_line_asks_the_policy_too_and_answers_as_aws() {
    let store = Store::new();
    let key = store.create_key("alias/mine");
    let call = |words: &str| store.try_sh(&format!("kmsfs kms --store $STORE --key-file $KEY {words}"));
    let error = |code: &str, operation: &str, text: &str| {
        format!("\nAn error occurred ({code}) when calling the {operation} operation: {text}\n")
    };
    let policy = store.kms(&format!("get-key-policy --key-id {key} --policy-name default"));
    assert_eq!(policy["PolicyName"], "default");
    assert!(policy["Policy"].as_str().unwrap().contains("kmsfs-default-1"));
    assert_eq!(store.kms(&format!("list-key-policies --key-id {key}"))["PolicyNames"], serde_json::json!(["default"]));
    let only_alice = format!(r#"{{"Statement": {}}}"#, allow("user/uid:60001", "kms:*"));
    fs::write(store.path("policy.json"), &only_alice).unwrap();
    let put = format!("put-key-policy --key-id {key} --policy file://policy.json");
    let answer = call(&put);
    let text = "The new key policy will not allow you to update the key policy in the future.";
    assert_eq!((answer.code, answer.err), (254, error("MalformedPolicyDocumentException", "PutKeyPolicy", text)));
    assert_eq!(call("create-key --policy file://policy.json").code, 254);
    assert_eq!(call("create-key --policy file://missing.json").code, 252);
    assert_eq!(call(&format!("retire-grant --key-id {key}")).code, 252);
    assert_eq!(call(&format!("{put} --bypass-policy-lockout-safety-check")).code, 0);
    let denied = |action: &str| {
        let text = format!(
            "User: {} is not authorized to perform: kms:{action} on resource: {key} because no resource-based policy \
             allows the kms:{action} action",
            arn("root")
        );
        error("AccessDeniedException", action, &text)
    };
    for (words, action) in [
        ("describe-key", "DescribeKey"),
        ("disable-key", "DisableKey"),
        ("enable-key", "EnableKey"),
        ("get-key-policy", "GetKeyPolicy"),
        ("list-grants", "ListGrants"),
    ] {
        let answer = call(&format!("{words} --key-id {key}"));
        assert_eq!((answer.code, answer.err), (254, denied(action)));
    }
    let answer = call(&format!("create-alias --alias-name alias/more --target-key-id {key}"));
    assert_eq!((answer.code, answer.err), (254, denied("CreateAlias")));
    let mine = format!(r#"{{"Statement": {}}}"#, allow("root", "kms:*"));
    fs::write(store.path("policy.json"), &mine).unwrap();
    let made = store.kms("create-key --policy file://policy.json");
    let id = made["KeyMetadata"]["KeyId"].as_str().unwrap();
    assert_eq!(store.kms(&format!("get-key-policy --key-id {id}"))["Policy"], mine.as_str());
}
