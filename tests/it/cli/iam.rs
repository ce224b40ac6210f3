//! `kmsfs iam` as people who know `aws iam` call it: answers, messages, exit codes, and where secrets go.

use super::*;
use crate::readme::{assert_answers, blocks_of, commands};
use serde_json::{Value, json};

impl Place {
    fn iam(&self, words: &[&str]) -> Answer {
        let (store, key) = (self.shown("store"), self.shown("key"));
        run(KMSFS, ["iam", "--store", &store, "--key-file", &key].iter().chain(words))
    }

    /// What it answers, as JSON; null for nothing.
    #[track_caller]
    fn told(&self, words: &[&str]) -> Value {
        let answer = self.iam(words);
        assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{words:?}");
        if answer.out.is_empty() { Value::Null } else { serde_json::from_str(&answer.out).unwrap() }
    }

    #[track_caller]
    fn denied(&self, words: &[&str], error: &str) {
        let answer = self.iam(words);
        let expected = format!("\nAn error occurred {error}\n");
        assert_eq!((answer.code, answer.out.as_str(), answer.err.as_str()), (254, "", expected.as_str()), "{words:?}");
    }
}

/// The name of the user who runs the tests.
fn myself() -> String {
    nix::unistd::User::from_uid(nix::unistd::Uid::effective()).unwrap().expect("a user with a name").name
}

fn member<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{value} has no {name}"))
}

#[test]
fn an_access_key_is_made_listed_put_to_rest_and_deleted() {
    let place = Place::with_store();
    let me = myself();
    let made = place.told(&["create-access-key", "--user-name", &me])["AccessKey"].clone();
    let (id, secret) = (member(&made, "AccessKeyId"), member(&made, "SecretAccessKey"));
    assert_eq!((id.len(), &id[..4], secret.len()), (20, "AKIA", 40));
    let (date, zone) = member(&made, "CreateDate").split_at(19);
    assert_eq!((date.as_bytes()[10], zone), (b'T', "+00:00"));
    let mut listed = json!({"UserName": me, "AccessKeyId": id, "Status": "Active", "CreateDate": made["CreateDate"]});
    assert_eq!(made["UserName"], me.as_str());
    for words in [&["list-access-keys"][..], &["list-access-keys", "--user-name", &me]] {
        assert_eq!(place.told(words), json!({"AccessKeyMetadata": [listed]}), "{words:?}");
    }
    let update = ["update-access-key", "--user-name", &me, "--access-key-id", id, "--status", "Inactive"];
    assert_eq!(place.told(&update), Value::Null);
    listed["Status"] = "Inactive".into();
    assert_eq!(place.told(&["list-access-keys"]), json!({"AccessKeyMetadata": [listed]}));
    // The spelling without -name too.
    let other = place.told(&["create-access-key", "--user", &me])["AccessKey"].clone();
    assert_ne!((member(&other, "AccessKeyId"), member(&other, "SecretAccessKey")), (id, secret));
    place.denied(
        &["create-access-key", "--user-name", &me],
        "(LimitExceeded) when calling the CreateAccessKey operation: Cannot exceed quota for AccessKeysPerUser: 2",
    );
    assert_eq!(place.told(&["delete-access-key", "--access-key-id", id]), Value::Null);
    let left = place.told(&["list-access-keys", "--user", &me]);
    assert_eq!(left["AccessKeyMetadata"].as_array().unwrap().len(), 1);
    let gone = format!("operation: The Access Key with id {id} cannot be found.");
    place.denied(
        &["delete-access-key", "--access-key-id", id],
        &format!("(NoSuchEntity) when calling the DeleteAccessKey {gone}"),
    );
    place.denied(
        &["update-access-key", "--access-key-id", id, "--status", "Active"],
        &format!("(NoSuchEntity) when calling the UpdateAccessKey {gone}"),
    );
}

#[test]
fn what_is_wrong_with_a_call_of_iam_is_told_as_aws_tells_it() {
    let place = Place::with_store();
    let unknown = "operation: The user with name nobody-has-this-name cannot be found.";
    for (words, name) in [("create-access-key", "CreateAccessKey"), ("list-access-keys", "ListAccessKeys")] {
        place.denied(
            &[words, "--user-name", "nobody-has-this-name"],
            &format!("(NoSuchEntity) when calling the {name} {unknown}"),
        );
    }
    for words in [
        &["create-access-key"][..],
        &["delete-access-key"],
        &["update-access-key", "--access-key-id", "AKIAIOSFODNN7EXAMPLE", "--status", "Expired"],
        &["get-access-key-last-used"],
    ] {
        let answer = place.iam(words);
        assert_eq!((answer.code, answer.out.as_str()), (252, ""), "{words:?}: {}", answer.err);
    }
    fs::write(place.path("key"), [7; 32]).unwrap();
    assert_eq!(place.iam(&["list-access-keys"]).code, 3);
}

#[test]
fn the_secret_of_an_access_key_is_on_standard_output_once_and_nowhere_else() {
    let place = Place::with_store();
    let (me, log) = (myself(), place.shown("audit.log"));
    let (store, key) = (place.shown("store"), place.shown("key"));
    let audited = |words: &[&str]| {
        let all = ["iam", "--store", &store, "--key-file", &key, "--audit-log", &log];
        run(KMSFS, all.iter().chain(words))
    };
    let made: Value = serde_json::from_str(&audited(&["create-access-key", "--user-name", &me]).out).unwrap();
    let (id, secret) = (member(&made["AccessKey"], "AccessKeyId"), member(&made["AccessKey"], "SecretAccessKey"));
    assert_eq!(audited(&["delete-access-key", "--access-key-id", "AKIAIOSFODNN7EXAMPLE"]).code, 254);
    assert_eq!(audited(&["list-access-keys"]).code, 0);
    let text = fs::read_to_string(place.path("audit.log")).unwrap();
    assert!(!text.contains(secret), "{text}");
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 3);
    for record in &records {
        assert_eq!((member(record, "eventSource"), member(record, "awsRegion")), ("iam.amazonaws.com", "us-east-1"));
    }
    let created = &records[0];
    assert_eq!((member(created, "eventName"), &created["readOnly"]), ("CreateAccessKey", &Value::Bool(false)));
    assert_eq!(created["requestParameters"], json!({"userName": me}));
    let told = json!({"accessKey": {"userName": me, "accessKeyId": id, "status": "Active",
        "createDate": made["AccessKey"]["CreateDate"]}});
    assert_eq!(created["responseElements"], told);
    assert_eq!((member(&records[1], "errorCode"), &records[1]["responseElements"]), ("NoSuchEntity", &Value::Null));
    assert_eq!((member(&records[2], "eventName"), &records[2]["readOnly"]), ("ListAccessKeys", &Value::Bool(true)));
    let verified = run(KMSFS, ["kms", "--store", &store, "--key-file", &key, "verify-audit-log", &log]);
    assert!(verified.out.starts_with("3 records are authentic\n"), "{verified:?}");
    // Nor is it in a file of the store, in this form.
    let found = run("grep", ["-rlF", secret, &store]);
    assert_eq!((found.code, found.out.as_str()), (1, ""));
}

#[test]
fn the_commands_of_kms_md_answer_what_it_shows() {
    // A store of its own is made on the way; this one lends its directory.
    let store = Store::new();
    store.sh("rm -r store key");
    let blocks = blocks_of("docs/KMS.md", "console");
    let blocks: Vec<_> = blocks.iter().filter(|block| block.contains("kmsfs iam ")).collect();
    assert_eq!(blocks.len(), 1);
    for (command, expected) in commands(blocks[0]) {
        let answer = store.try_sh(&command);
        assert_answers(&command, &answer, &expected);
        assert_eq!(answer.code == 0, !expected.contains("An error occurred"), "$ {command}: {answer:?}");
    }
}
