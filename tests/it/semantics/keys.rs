use super::mounted::{MountedStore, errno, rules};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};

const UNKNOWN: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";

fn kms_with(key: &str) -> String {
    format!(r#"{{"SSEAlgorithm":"aws:kms","KMSMasterKeyID":"{key}"}}"#)
}

#[test]
fn a_key_has_four_names_and_is_shown_by_its_arn() {
    let w = MountedStore::with_buckets(&["bucket"]);
    let arn = w.create_key("alias/customer");
    let id = arn.rsplit_once('/').unwrap().1;
    let alias_arn = "arn:aws:kms:us-east-1:000000000000:alias/customer";
    for name in [id, &arn, "alias/customer", alias_arn] {
        w.set_default("bucket", &kms_with(name), None);
        fs::write(w.at("bucket/object"), "x").unwrap();
        assert_eq!(w.key_arn("bucket/object").unwrap(), arn, "{name}");
        fs::remove_file(w.at("bucket/object")).unwrap();
    }
}

#[test]
fn a_default_may_name_a_key_that_does_not_exist() {
    let w = MountedStore::with_buckets(&["bucket"]);
    w.set_default("bucket", &kms_with("alias/later"), None);
    assert_eq!(errno(fs::write(w.at("bucket/object"), "x")), Errno::NOKEY);
    let arn = w.create_key("alias/later");
    w.eventually(|| fs::write(w.at("bucket/object"), "x").is_ok());
    assert_eq!(w.key_arn("bucket/object").unwrap(), arn);
}

#[test]
fn a_bucket_key_is_shared_and_shown() {
    let mut w = MountedStore::with_buckets(&["bucket"]);
    w.set_default("bucket", r#"{"SSEAlgorithm":"aws:kms"}"#, Some(true));
    for i in 0..20 {
        let path = format!("bucket/{i}");
        fs::write(w.at(&path), &path).unwrap();
        assert_eq!(w.header(&path, "-bucket-key-enabled").unwrap(), "true");
    }
    w.remount();
    for i in 0..20 {
        let path = format!("bucket/{i}");
        assert_eq!(fs::read_to_string(w.at(&path)).unwrap(), path);
    }
}

#[test]
fn a_refused_key_leaves_nothing_behind() {
    let w = MountedStore::with_buckets(&["bucket"]);
    let disabled = w.create_key("alias/disabled");
    w.kms(&["disable-key", "--key-id", &disabled]);
    let unknown_arn = format!("arn:aws:kms:us-east-1:000000000000:key/{UNKNOWN}");
    for (key, expected, message) in [
        (disabled.as_str(), Errno::ACCESS, format!("KMS.DisabledException: {disabled} is disabled.")),
        (UNKNOWN, Errno::NOKEY, format!("KMS.NotFoundException: Key '{unknown_arn}' does not exist")),
        (&unknown_arn, Errno::NOKEY, format!("KMS.NotFoundException: Key '{unknown_arn}' does not exist")),
        ("fake-key-id", Errno::INVAL, "KMS.NotFoundException: Invalid keyId 'fake-key-id'".to_owned()),
    ] {
        for bucket_key in [false, true] {
            w.set_default("bucket", &kms_with(key), Some(bucket_key));
            // Until the mount knows of it the object can be made, and is then in the way.
            w.eventually(|| {
                let refused = fs::write(w.at("bucket/object"), "x").is_err();
                let _ = fs::remove_file(w.at("bucket/object"));
                refused
            });
            assert_eq!(errno(fs::write(w.at("bucket/object"), "x")), expected, "{key}");
            w.expect_log(&message);
            let names: Vec<_> = fs::read_dir(w.at("bucket")).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(names, [".encryption.json"], "{key}");
        }
    }
}

#[test]
fn a_disabled_key_refuses_opens_until_it_is_enabled() {
    let w = MountedStore::with_buckets(&["bucket"]);
    let arn = w.create_key("alias/customer");
    for bucket_key in [false, true] {
        w.set_default("bucket", &kms_with("alias/customer"), Some(bucket_key));
        fs::write(w.at("bucket/object"), "content").unwrap();
        assert_eq!(fs::read(w.at("bucket/object")).unwrap(), b"content");
        w.kms(&["disable-key", "--key-id", &arn]);
        w.eventually(|| File::open(w.at("bucket/object")).is_err());
        assert_eq!(errno(File::open(w.at("bucket/object"))), Errno::ACCESS);
        assert_eq!(errno(OpenOptions::new().append(true).open(w.at("bucket/object"))), Errno::ACCESS);
        w.expect_log(&format!("KMS.DisabledException: {arn} is disabled."));
        w.kms(&["enable-key", "--key-id", &arn]);
        w.eventually(|| File::open(w.at("bucket/object")).is_ok());
        assert_eq!(fs::read(w.at("bucket/object")).unwrap(), b"content");
    }
}

#[test]
fn a_configuration_is_always_readable() {
    let mut w = MountedStore::with_buckets(&["bucket"]);
    let arn = w.create_key("alias/customer");
    let content = w.set_default("bucket", &kms_with("alias/customer"), None);
    w.kms(&["disable-key", "--key-id", &arn]);
    w.remount();
    assert_eq!(w.algorithm("bucket/.encryption.json"), "AES256");
    assert_eq!(fs::read_to_string(w.at("bucket/.encryption.json")).unwrap(), content);
    w.copy_in(&rules(r#"{"SSEAlgorithm":"AES256"}"#, None), "bucket/.encryption.json").unwrap();
    fs::write(w.at("bucket/object"), "x").unwrap();
}

#[test]
fn an_unreadable_object_can_be_replaced() {
    let w = MountedStore::with_buckets(&["bucket"]);
    let arn = w.create_key("alias/customer");
    w.set_default("bucket", &kms_with("alias/customer"), None);
    for name in ["one", "two"] {
        fs::write(w.at("bucket").join(name), "content").unwrap();
    }
    w.set_default("bucket", r#"{"SSEAlgorithm":"AES256"}"#, None);
    w.kms(&["disable-key", "--key-id", &arn]);
    w.eventually(|| File::open(w.at("bucket/one")).is_err());
    assert_eq!(fs::metadata(w.at("bucket/one")).unwrap().len(), 7);
    fs::rename(w.at("bucket/one"), w.at("bucket/renamed")).unwrap();
    fs::remove_file(w.at("bucket/renamed")).unwrap();
    fs::write(w.at("bucket/two"), "new").unwrap();
    assert_eq!(fs::read(w.at("bucket/two")).unwrap(), b"new");
    assert_eq!(w.algorithm("bucket/two"), "AES256");
}
