//! KMS keys as a mount uses them.

use crate::harness::{KMS, Store, errno, header, kms_with, names_in, set_header, wait_until};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::Write;

const UNKNOWN: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";

#[test]
fn the_aws_managed_key_is_made_at_its_first_use_and_once() {
    let store = Store::new();
    let mut mount = store.mount();
    assert_eq!(store.kms("list-keys")["Keys"].as_array().unwrap().len(), 0);
    for bucket in ["one", "two"] {
        mount.bucket(bucket);
        mount.set_default(bucket, KMS, false);
        assert_eq!(store.kms("list-keys")["Keys"].as_array().unwrap().len(), usize::from(bucket == "two"));
        fs::write(mount.path(bucket).join("object"), "content").unwrap();
    }
    let arn = |mount: &crate::harness::Mount, bucket: &str| {
        header(&mount.path(bucket).join("object"), "-aws-kms-key-id").unwrap()
    };
    assert_eq!(arn(&mount, "one"), arn(&mount, "two"));
    let before = arn(&mount, "one");
    mount.remount();
    fs::write(mount.path("one/object"), "content").unwrap();
    assert_eq!(arn(&mount, "one"), before);
    let keys = store.kms("list-keys");
    assert_eq!(keys["Keys"].as_array().unwrap().len(), 1);
    assert_eq!(keys["Keys"][0]["KeyArn"], before.as_str());
}

#[test]
fn keys_made_and_aliased_while_mounted_are_used_by_any_of_their_names() {
    let store = Store::new();
    let mut mount = store.mount();
    let bucket = mount.bucket("bucket");
    let arn = store.create_key("alias/customer");
    let id = arn.rsplit('/').next().unwrap();
    let names = [id, &arn, "alias/customer", "arn:aws:kms:us-east-1:000000000000:alias/customer"];
    for (number, name) in names.iter().enumerate() {
        let object = bucket.join(number.to_string());
        // The mount may take a moment to see the new key.
        assert!(wait_until(|| {
            mount.set_default("bucket", &kms_with(name), false);
            fs::write(&object, name).is_ok()
        }));
        assert_eq!(header(&object, "-aws-kms-key-id").unwrap(), arn, "{name}");
    }
    mount.remount();
    for (number, name) in names.iter().enumerate() {
        assert_eq!(fs::read_to_string(bucket.join(number.to_string())).unwrap(), *name);
    }
}

#[test]
fn a_refused_key_is_told_by_errno_and_log_and_leaves_nothing() {
    let store = Store::new();
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    let disabled = store.create_key("alias/disabled");
    store.disable_key(&disabled);
    let unknown = format!("arn:aws:kms:us-east-1:000000000000:key/{UNKNOWN}");
    let cases = [
        ("alias/disabled", Errno::ACCESS, format!("KMS.DisabledException: {disabled} is disabled.")),
        (UNKNOWN, Errno::NOKEY, format!("KMS.NotFoundException: Key '{unknown}' does not exist")),
        ("not a key", Errno::INVAL, "KMS.NotFoundException: Invalid keyId 'not a key'".to_owned()),
    ];
    for (key, expected, message) in cases {
        mount.set_default("bucket", &kms_with(key), false);
        // A mount sees within a second what the command line changed.
        assert!(wait_until(|| {
            let refused = File::create_new(bucket.join("object")).is_err();
            refused || fs::remove_file(bucket.join("object")).is_err()
        }));
        assert_eq!(errno(fs::write(bucket.join("object"), "x")), expected, "{key}");
        assert_eq!(errno(fs::write(bucket.join("other"), "x")), expected, "{key}");
        store.expect_log(&message);
        assert_eq!(names_in(&bucket), [".encryption.json"], "{key}");
        let said = store.try_sh(&format!(
            "echo x | kmsfs put --server-side-encryption aws:kms --ssekms-key-id '{key}' - $MNT/bucket/put"
        ));
        assert_eq!((said.code, names_in(&bucket)), (254, vec![".encryption.json".into()]), "{said:?}");
    }
    // The store too: no object file and no temporary one.
    assert_eq!(names_in(&store.store().join("buckets/bucket")), [".encryption.json"]);
}

#[test]
fn disabling_refuses_reading_and_writing_until_enabling() {
    let store = Store::new();
    let mut mount = store.mount();
    let bucket = mount.bucket("bucket");
    let arn = store.create_key("alias/customer");
    mount.set_default("bucket", &kms_with("alias/customer"), false);
    fs::write(bucket.join("object"), "content").unwrap();
    store.disable_key(&arn);
    assert!(wait_until(|| File::open(bucket.join("object")).is_err()));
    for fresh in [false, true] {
        if fresh {
            mount.remount();
        }
        assert_eq!(errno(File::open(bucket.join("object"))), Errno::ACCESS);
        assert_eq!(errno(OpenOptions::new().append(true).open(bucket.join("object"))), Errno::ACCESS);
        assert_eq!(errno(File::create_new(bucket.join("new"))), Errno::ACCESS);
        // What needs no key goes on.
        assert_eq!(fs::metadata(bucket.join("object")).unwrap().len(), 7);
        fs::rename(bucket.join("object"), bucket.join("renamed")).unwrap();
        fs::rename(bucket.join("renamed"), bucket.join("object")).unwrap();
    }
    store.expect_log(&format!("{arn} is disabled."));
    store.enable_key(&arn);
    assert!(wait_until(|| File::open(bucket.join("object")).is_ok()));
    assert_eq!(fs::read_to_string(bucket.join("object")).unwrap(), "content");
    OpenOptions::new().append(true).open(bucket.join("object")).unwrap().write_all(b", more").unwrap();
    mount.remount();
    assert_eq!(fs::read_to_string(bucket.join("object")).unwrap(), "content, more");
}

#[test]
fn what_was_written_before_disabling_is_not_lost() {
    let store = Store::new();
    let mut mount = store.mount();
    let bucket = mount.bucket("bucket");
    let arn = store.create_key("alias/customer");
    mount.set_default("bucket", &kms_with("alias/customer"), false);
    fs::write(bucket.join("object"), "x".repeat(300_000)).unwrap();
    store.disable_key(&arn);
    mount.remount();
    store.enable_key(&arn);
    assert!(wait_until(|| File::open(bucket.join("object")).is_ok()));
    assert_eq!(fs::read_to_string(bucket.join("object")).unwrap(), "x".repeat(300_000));
}

#[test]
fn an_object_changes_its_key_and_keeps_its_content() {
    let store = Store::new();
    let mut mount = store.mount();
    let bucket = mount.bucket("bucket");
    let arn = store.create_key("alias/customer");
    let object = bucket.join("object");
    fs::write(&object, "content").unwrap();
    assert_eq!(header(&object, "").unwrap(), "AES256");
    set_header(&object, "", "aws:kms").unwrap();
    assert_eq!(header(&object, "").unwrap(), "aws:kms");
    assert!(wait_until(|| set_header(&object, "-aws-kms-key-id", "alias/customer").is_ok()));
    for _ in 0..2 {
        assert_eq!(header(&object, "-aws-kms-key-id").unwrap(), arn);
        assert_eq!(fs::read_to_string(&object).unwrap(), "content");
        mount.remount();
    }
    store.disable_key(&arn);
    assert!(wait_until(|| File::open(&object).is_err()));
}

#[test]
fn a_store_with_its_keyring_elsewhere_needs_both() {
    let store = Store::made_with("--keyring ring");
    let keyring = format!("keyring={}", store.path("ring").display());
    let mount = store.mount_with(&keyring);
    let bucket = mount.bucket("bucket");
    fs::write(bucket.join("object"), "content").unwrap();
    mount.unmount();
    assert!(store.try_mount("").is_err());
    assert_eq!(store.sh("find $STORE -name '*keyring*' | wc -l"), "0\n");
    let _mount = store.mount_with(&keyring);
    assert_eq!(fs::read_to_string(bucket.join("object")).unwrap(), "content");
}
