//! The audit trail of mounts and command lines: what it says, what happens when it cannot be written, what cannot be
//! done to it unseen.

use crate::harness::{Answer, Disk, KMS, Mount, Store, kms_with, wait_until};
use crate::readme::{assert_answers, blocks_of, commands};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const ANN: u32 = 4_000_001;
const EVE: u32 = 4_000_002;

impl Store {
    fn trail(&self) -> PathBuf {
        self.path("audit.log")
    }

    fn mount_audited(&self, options: &str) -> Mount {
        self.mount_with(&format!("audit_log={}{options}", self.trail().display()))
    }

    fn records(&self) -> Vec<Value> {
        records(&self.trail())
    }

    /// Of calls through the mount: name, user, error, the key's ARN in `resources`.
    fn calls(&self) -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let calls =
            self.records().into_iter().filter(|record| record["userIdentity"]["invokedBy"] == "s3.amazonaws.com");
        calls
            .map(|record| {
                (text(&record["eventName"]), text(&record["userIdentity"]["principalId"]), text(&record["errorCode"]))
            })
            .collect()
    }

    fn verify(&self) -> Answer {
        self.try_sh("kmsfs kms --store $STORE --key-file $KEY verify-audit-log audit.log")
    }
}

fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn call(name: &str, uid: u32, error: &str) -> (String, String, String) {
    (name.into(), uid.to_string(), error.into())
}

#[test]
fn each_use_of_a_key_and_each_refusal_is_a_record_of_who_it_was() {
    let store = Store::new();
    store.open_to_all();
    let arn = store.create_key("alias/shared");
    let deny = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"},
        {"Effect": "Deny", "Principal": {"AWS": format!("arn:aws:iam::000000000000:user/uid:{EVE}")}, "Action": "kms:Decrypt",
         "Resource": "*"}]});
    fs::write(store.path("policy.json"), deny.to_string()).unwrap();
    store.kms(&format!("put-key-policy --key-id {arn} --policy file://policy.json"));
    let mount = store.mount_audited(",allow_other");
    let bucket = mount.bucket("bucket");
    mount.set_default("bucket", &kms_with("alias/shared"), false);
    store.sh(&format!("chmod 777 {}", bucket.display()));
    let name = "odd \"name\"\nwith \u{e9} and \\";
    let object = bucket.join(name);
    fs::write(store.path("name"), name).unwrap();
    store.sh_as(ANN, r#"printf secret > "$MNT/bucket/$(cat name)"; chmod 666 "$MNT/bucket/$(cat name)""#);
    drop(mount);
    let mount = store.mount_audited(",allow_other");
    let refused = store.sh_as(EVE, r#"cat "$MNT/bucket/$(cat name)""#);
    refused.expect_failure(1, "Permission denied");
    assert_eq!(store.sh_as(ANN, r#"cat "$MNT/bucket/$(cat name)""#).out, "secret");
    assert_eq!(fs::read(&object).unwrap(), b"secret");
    drop(mount);
    let calls = store.calls();
    let generated = calls.iter().filter(|(name, ..)| name == "GenerateDataKey").collect::<Vec<_>>();
    assert_eq!(generated, [&call("GenerateDataKey", ANN, "")]);
    let decrypted: Vec<_> = calls.iter().filter(|(name, ..)| name == "Decrypt").cloned().collect();
    assert!(decrypted.contains(&call("Decrypt", EVE, "AccessDeniedException")), "{calls:?}");
    assert!(decrypted.contains(&call("Decrypt", ANN, "")), "{calls:?}");
    assert!(!decrypted.contains(&call("Decrypt", EVE, "")), "{calls:?}");
    let refusal = store.records().into_iter().find(|record| record["errorCode"] == "AccessDeniedException").unwrap();
    assert_eq!(refusal["requestParameters"]["encryptionContext"]["aws:s3:arn"], format!("arn:aws:s3:::bucket/{name}"));
    assert_eq!(refusal["resources"][0]["ARN"], arn.as_str());
    assert_eq!(refusal["userAgent"], "cat");
    assert_eq!(refusal["userIdentity"]["arn"], format!("arn:aws:iam::000000000000:user/uid:{EVE}"));
    assert_eq!(refusal["eventSource"], "kms.amazonaws.com");
    let answer = store.verify();
    assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{answer:?}");
    assert!(answer.out.starts_with(&format!("{} records are authentic\n", store.records().len())), "{}", answer.out);
}

#[test]
fn with_a_bucket_key_there_is_one_record_for_fifty_objects_and_none_for_sse_s3() {
    let store = Store::new();
    store.create_key("alias/bucket");
    let mount = store.mount_audited("");
    let bucket = mount.bucket("bucket");
    mount.set_default("bucket", &kms_with("alias/bucket"), true);
    (0..50).for_each(|number| fs::write(bucket.join(number.to_string()), "x").unwrap());
    let plain = mount.bucket("plain");
    (0..5).for_each(|number| fs::write(plain.join(number.to_string()), "x").unwrap());
    drop(mount);
    assert_eq!(store.calls(), [call("GenerateDataKey", 0, "")]);
    let record = &store.records()[0];
    assert_eq!(record["requestParameters"]["encryptionContext"], json!({"aws:s3:arn": "arn:aws:s3:::bucket"}));
    assert_eq!(record["additionalEventData"]["keyMaterialId"].as_str().unwrap().len(), 64);
    let mount = store.mount_audited("");
    (0..50).for_each(|number| drop(fs::read(mount.path("bucket").join(number.to_string())).unwrap()));
    drop(mount);
    assert_eq!(store.calls(), [call("GenerateDataKey", 0, ""), call("Decrypt", 0, "")]);
}

#[test]
fn what_administrators_do_and_what_kms_does_by_itself_is_recorded_in_the_same_chain() {
    let store = Store::new();
    let arn = store.create_key("alias/mine");
    let mount = store.mount_audited("");
    let bucket = mount.bucket("bucket");
    mount.set_default("bucket", KMS, false);
    fs::write(bucket.join("one"), "x").unwrap();
    store.sh("export KMSFS_AUDIT_LOG=audit.log KMSFS_KEY_FILE=$KEY
         for n in 1 2 3 4; do
             kmsfs kms --store $STORE create-key --description $n >made.$n &
             cat $MNT/bucket/one >/dev/null
         done; wait
         kmsfs kms --store $STORE disable-key --key-id alias/none 2>/dev/null && exit 1
         kmsfs kms --store $STORE encrypt --key-id alias/mine --plaintext c2VjcmV0 --encryption-context a=1 >/dev/null
         kmsfs kms --store $STORE list-keys --limit 0 2>/dev/null && exit 1
         true");
    drop(mount);
    let records = store.records();
    let named = |name: &str| records.iter().filter(|record| record["eventName"] == name).collect::<Vec<_>>();
    assert_eq!(named("CreateKey").len(), 5, "four, and aws/s3");
    let by_itself: Vec<_> =
        named("CreateKey").into_iter().filter(|one| one["eventType"] == "AwsServiceEvent").collect();
    assert_eq!(by_itself.len(), 1);
    let descriptions = |one: &&Value| one["responseElements"]["keyMetadata"]["description"].as_str().map(str::to_owned);
    let mut made: Vec<_> = named("CreateKey").iter().filter_map(descriptions).collect();
    made.sort();
    assert_eq!(made, ["1", "2", "3", "4"]);
    assert_eq!(named("DisableKey")[0]["errorCode"], "NotFoundException");
    assert_eq!(named("DisableKey")[0]["requestParameters"], json!({"keyId": "alias/none"}));
    let encrypt = named("Encrypt")[0];
    assert_eq!(encrypt["requestParameters"], json!({"keyId": "alias/mine", "encryptionContext": {"a": "1"}}));
    assert_eq!(encrypt["resources"][0]["ARN"], arn.as_str());
    assert_eq!(named("ListKeys")[0]["errorCode"], "ValidationException");
    assert!(!fs::read_to_string(store.trail()).unwrap().contains("c2VjcmV0"));
    let answer = store.verify();
    assert_eq!(answer.code, 0, "{answer:?}");
    let sequences: Vec<_> = records.iter().map(|record| record["chain"]["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=records.len() as u64).collect::<Vec<_>>());
}

#[test]
fn names_that_are_no_text_have_records_that_are() {
    let store = Store::new();
    store.create_key("alias/x");
    let mount = store.mount_audited("");
    mount.bucket("bucket");
    mount.set_default("bucket", &kms_with("alias/x"), false);
    store.sh(r#"cd $MNT/bucket; printf x > "$(printf 'a\n"b\\')"; printf x > "$(printf 'c\377')"; printf x > "$(printf 'c\376')""#);
    drop(mount);
    let records = store.records();
    let made = records.iter().filter(|record| record["eventName"] == "GenerateDataKey");
    let arns: Vec<_> = made.map(|one| one["requestParameters"]["encryptionContext"]["aws:s3:arn"].clone()).collect();
    assert_eq!(arns[0], "arn:aws:s3:::bucket/a\n\"b\\");
    // The context has them so.
    assert_eq!(arns[1..], ["arn:aws:s3:::bucket/c\u{fffd}", "arn:aws:s3:::bucket/c\u{fffd}"]);
    assert_eq!(store.verify().code, 0);
}

#[test]
fn a_log_that_is_moved_away_goes_on_in_a_new_file_after_sighup_and_without() {
    let store = Store::new();
    store.create_key("alias/x");
    let mount = store.mount_audited("");
    let bucket = mount.bucket("bucket");
    mount.set_default("bucket", &kms_with("alias/x"), false);
    for (name, hangup) in [("one", true), ("two", false), ("three", true)] {
        fs::write(bucket.join(name), "x").unwrap();
        fs::rename(store.trail(), store.path(&format!("audit.log.{name}"))).unwrap();
        if hangup {
            fs::rename(store.path("log"), store.path(&format!("log.{name}"))).unwrap();
            let pid = rustix::process::Pid::from_raw(mount.pid().cast_signed()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
            store.expect_log("signal 1: writing to the log files of these names from now on");
        }
    }
    fs::write(bucket.join("four"), "x").unwrap();
    let answer = store.try_sh(
        "kmsfs kms --store $STORE --key-file $KEY verify-audit-log audit.log.one audit.log.two audit.log.three audit.log",
    );
    assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{answer:?}");
    assert!(answer.out.starts_with("4 records are authentic\nthe last is number 4 with the hash "), "{}", answer.out);
    let alone = store.verify();
    assert_eq!(alone.code, 0);
    assert!(
        alone.err.contains("audit.log:1: begins with number 4: what comes before is in an older file"),
        "{alone:?}"
    );
    let gap = store.try_sh("kmsfs kms --store $STORE --key-file $KEY verify-audit-log audit.log.one audit.log.three");
    gap.expect_failure(1, "audit.log.three:1: 1 record is missing before this one, number 2");
}

/// The audit log on a file system that gets full: what opens answer, and what is there when there is room again.
fn on_a_full_disk(options: &str, check: impl FnOnce(&Store, &Mount, &dyn Fn() -> bool)) -> Store {
    let disk = Disk::new(8);
    let store = Store::new();
    store.create_key("alias/x");
    let trail = disk.path().join("audit.log");
    let mount = store.mount_with(&format!("audit_log={}{options}", trail.display()));
    let bucket = mount.bucket("bucket");
    mount.set_default("bucket", &kms_with("alias/x"), false);
    fs::write(bucket.join("before"), "x").unwrap();
    disk.sh(
        "dd if=/dev/zero of=mnt/fill bs=64k 2>/dev/null || true; dd if=/dev/zero of=mnt/rest bs=1k 2>/dev/null || true",
    );
    let number = std::cell::Cell::new(0);
    // What the log's last block still takes is taken.
    let create = || {
        number.set(number.get() + 1);
        fs::write(bucket.join(format!("n{}", number.get())), "x").is_ok()
    };
    for _ in 0..2000 {
        create();
    }
    check(&store, &mount, &create);
    disk.sh("rm mnt/fill mnt/rest");
    assert!(wait_until(&create), "it goes on:\n{}", store.log());
    drop(mount);
    fs::copy(&trail, store.trail()).unwrap();
    store
}

#[test]
fn a_full_disk_under_the_log_refuses_the_use_of_keys() {
    let store = on_a_full_disk("", |store, mount, create| {
        assert!(!create(), "it is refused");
        let error = fs::write(mount.path("bucket/refused"), "x").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        store.expect_log("no key is used while the audit log cannot be written: No space left on device");
        assert!(fs::read_dir(mount.path("bucket")).unwrap().count() > 0, "what needs no key goes on");
    });
    assert_eq!(store.verify().code, 0);
}

#[test]
fn a_full_disk_under_the_log_drops_records_where_that_was_asked_for_and_says_how_many() {
    let store = on_a_full_disk(",audit_full=drop", |store, _, create| {
        assert!(create(), "it goes on");
        store.expect_log("the audit log cannot be written, and records are dropped until it can");
    });
    store.expect_log("records were dropped");
    let dropped: u64 = store.records().iter().filter_map(|record| record["chain"]["dropped"].as_u64()).sum();
    assert!(dropped > 0);
    let answer = store.verify();
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.err.contains(&format!("{dropped} records were dropped before this one")), "{answer:?}");
}

#[test]
fn what_was_done_to_the_log_is_said_with_its_line() {
    let store = Store::new();
    store.create_key("alias/x");
    let mount = store.mount_audited("");
    let bucket = mount.bucket("bucket");
    mount.set_default("bucket", &kms_with("alias/x"), false);
    (0..4).for_each(|number| fs::write(bucket.join(number.to_string()), "x").unwrap());
    drop(mount);
    let whole = fs::read_to_string(store.trail()).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let write = |lines: &[&str]| fs::write(store.trail(), lines.join("\n") + "\n").unwrap();
    let changed = lines[1].replace("\"principalId\":\"0\"", "\"principalId\":\"1\"");
    write(&[lines[0], &changed, lines[2], lines[3]]);
    store
        .verify()
        .expect_failure(1, "audit.log:2: this record was changed, or written by somebody without the keyring");
    write(&[lines[0], lines[2], lines[3]]);
    store.verify().expect_failure(1, "audit.log:2: 1 record is missing before this one, number 2");
    write(&lines[..3]);
    store.verify().expect_failure(1, "audit.log:4: 1 record is missing at the end, number 4");
    for foreign in ["xx{\"eventName\":\"Decrypt\"}", "", "May 1 host sshd[1]: hello"] {
        for at in 0..=lines.len() {
            let mut more = lines.clone();
            more.insert(at, foreign);
            write(&more);
            store.verify().expect_failure(1, &format!("audit.log:{}: this is no record of this log", at + 1));
        }
    }
    write(&lines);
    assert_eq!(store.verify().code, 0);
    let other = Store::new();
    fs::copy(store.trail(), other.trail()).unwrap();
    other
        .verify()
        .expect_failure(1, "audit.log:1: this record was changed, or written by somebody without the keyring");
}

#[test]
fn a_log_that_cannot_be_written_is_refused_before_anything_is_mounted_or_done() {
    let store = Store::new();
    fs::write(store.trail(), "").unwrap();
    store.sh("chmod 644 audit.log");
    let refused = store.try_mount(&format!("audit_log={}", store.trail().display())).err().expect("it is refused");
    refused.expect_failure(1, "audit.log is open to others (mode 0644): chmod 600 it");
    let refused = store.try_sh("kmsfs kms --store $STORE --key-file $KEY --audit-log no/where create-key");
    refused.expect_failure(1, "kmsfs: audit log no/where: ");
    assert_eq!(store.kms("list-keys")["Keys"], json!([]));
    let refused = store.try_mount("audit_full=perhaps").err().expect("it is refused");
    refused.expect_failure(2, "mount option 'audit_full=perhaps': must be refuse or drop");
}

#[test]
fn the_commands_of_kms_md_answer_what_it_shows() {
    // A store of its own is made on the way; this one lends its directory.
    let store = Store::on_tmpfs();
    store.sh("rm -r store key");
    let blocks = blocks_of("docs/KMS.md", "console");
    let blocks: Vec<_> = blocks.iter().filter(|block| block.contains("verify-audit-log")).collect();
    assert_eq!(blocks.len(), 1);
    let mut run = 0;
    for (command, expected) in commands(blocks[0]) {
        assert_answers(&command, &store.try_sh(&command), &expected);
        run += 1;
    }
    assert_eq!(run, 6);
}
