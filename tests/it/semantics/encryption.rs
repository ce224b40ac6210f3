use super::mounted::{MountedStore, errno, rules, run, write_synced};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::Write;

const KMS: &str = r#"{"SSEAlgorithm":"aws:kms"}"#;
const AES256: &str = r#"{"SSEAlgorithm":"AES256"}"#;

#[test]
fn an_object_is_aes256_where_nothing_says_otherwise() {
    let w = MountedStore::with_buckets(&["bucket"]);
    fs::write(w.at("bucket/object"), "x").unwrap();
    assert_eq!(w.algorithm("bucket/object"), "AES256");
    assert_eq!(w.key_arn("bucket/object"), None);
}

#[test]
fn a_configuration_copied_in_is_the_default() {
    let w = MountedStore::with_buckets(&["bucket"]);
    let article = "{\n    \"Rules\": [\n        {\n            \"ApplyServerSideEncryptionByDefault\": {\n                \
                   \"SSEAlgorithm\": \"aws:kms\"\n            }\n        }\n    ]\n}\n";
    w.copy_in(article, "bucket/.encryption.json").unwrap();
    assert_eq!(fs::read_to_string(w.at("bucket/.encryption.json")).unwrap(), article);
    fs::write(w.at("bucket/bond.json"), "{}").unwrap();
    assert_eq!(w.algorithm("bucket/bond.json"), "aws:kms");
    let arn = w.key_arn("bucket/bond.json").unwrap();
    assert!(arn.starts_with("arn:aws:kms:us-east-1:000000000000:key/"), "{arn}");
    let described = w.kms(&["describe-key", "--key-id", "alias/aws/s3"]);
    assert_eq!(described["KeyMetadata"]["Arn"], arn.as_str());
    assert_eq!(described["KeyMetadata"]["KeyManager"], "AWS");
}

#[test]
fn the_nearest_configuration_holds() {
    let w = MountedStore::with_buckets(&["bucket", "other"]);
    fs::create_dir_all(w.at("bucket/plain/deep")).unwrap();
    fs::create_dir_all(w.at("bucket/inherits/deep")).unwrap();
    w.set_default("bucket", KMS, None);
    w.set_default("bucket/plain", AES256, None);
    for (path, algorithm) in [
        ("bucket/a", "aws:kms"),
        ("bucket/inherits/deep/a", "aws:kms"),
        ("bucket/plain/a", "AES256"),
        ("bucket/plain/deep/a", "AES256"),
        ("other/a", "AES256"),
    ] {
        fs::write(w.at(path), "x").unwrap();
        assert_eq!(w.algorithm(path), algorithm, "{path}");
    }
}

#[test]
fn a_default_never_touches_existing_objects() {
    let w = MountedStore::with_buckets(&["bucket"]);
    fs::create_dir(w.at("bucket/kms")).unwrap();
    w.set_default("bucket/kms", KMS, None);
    fs::write(w.at("bucket/plain"), "x").unwrap();
    fs::write(w.at("bucket/kms/secret"), "x").unwrap();
    fs::rename(w.at("bucket/plain"), w.at("bucket/kms/plain")).unwrap();
    fs::rename(w.at("bucket/kms/secret"), w.at("bucket/secret")).unwrap();
    fs::remove_file(w.at("bucket/kms/.encryption.json")).unwrap();
    fs::write(w.at("bucket/kms/new"), "x").unwrap();
    for (path, algorithm) in
        [("bucket/kms/plain", "AES256"), ("bucket/secret", "aws:kms"), ("bucket/kms/new", "AES256")]
    {
        assert_eq!(w.algorithm(path), algorithm, "{path}");
        assert_eq!(fs::read(w.at(path)).unwrap(), b"x");
    }
}

#[test]
fn dual_layer_encryption_is_two_data_keys_under_one_kms_key() {
    let w = MountedStore::with_buckets(&["bucket"]);
    let customer = w.create_key("alias/customer");
    w.set_default("bucket", r#"{"SSEAlgorithm":"aws:kms:dsse","KMSMasterKeyID":"alias/customer"}"#, None);
    let content = "x".repeat(300_000);
    fs::write(w.at("bucket/object"), &content).unwrap();
    assert_eq!(w.algorithm("bucket/object"), "aws:kms:dsse");
    assert_eq!(w.key_arn("bucket/object").unwrap(), customer);
    assert_eq!(w.header("bucket/object", "-bucket-key-enabled").unwrap(), "false");
    // Another KMS key wraps the same two data keys.
    let (etag, other) = (w.etag("bucket/object"), w.create_key("alias/other"));
    w.set_header("bucket/object", "-aws-kms-key-id", "alias/other").unwrap();
    assert_eq!((w.algorithm("bucket/object").as_str(), w.etag("bucket/object")), ("aws:kms:dsse", etag));
    assert_eq!(w.key_arn("bucket/object").unwrap(), other);
    assert_eq!(fs::read_to_string(w.at("bucket/object")).unwrap(), content);
    w.kms(&["disable-key", "--key-id", &other]);
    w.eventually(|| fs::read(w.at("bucket/object")).is_err());
    assert_eq!(errno(fs::read(w.at("bucket/object"))), Errno::ACCESS);
    w.kms(&["enable-key", "--key-id", &other]);
    w.eventually(|| fs::read(w.at("bucket/object")).is_ok());
}

#[test]
fn a_malformed_configuration_changes_nothing() {
    let w = MountedStore::with_buckets(&["bucket"]);
    let before = w.set_default("bucket", KMS, None);
    let rule = r#"{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"}}"#;
    for (content, reason) in [
        ("SSEAlgorithm=AES256".to_owned(), "MalformedXML: the encryption configuration is refused: it is not JSON"),
        (r#"{"Rules":[]}"#.to_owned(), "\"Rules\" holds 0 rules"),
        (format!(r#"{{"Rules":[{rule},{rule}]}}"#), "\"Rules\" holds 2 rules"),
        (rules(r#"{"SSEAlgorithm":"rot13"}"#, None), "unknown SSEAlgorithm \"rot13\""),
        (
            rules(r#"{"SSEAlgorithm":"AES256","KMSMasterKeyID":"alias/x"}"#, None),
            "InvalidArgument: a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms",
        ),
        (rules(AES256, None) + &" ".repeat(64 * 1024), "at most 65536 are allowed"),
    ] {
        // cp reports what close(2) answers.
        let said = w.copy_in(&content, "bucket/.encryption.json").unwrap_err();
        assert!(said.contains("Invalid argument"), "{said}");
        w.expect_log(reason);
        assert_eq!(errno(write_synced(&w.at("bucket/.encryption.json"), &content)), Errno::INVAL, "{reason}");
        fs::write(w.at("bucket/new"), &content).unwrap();
        assert_eq!(errno(fs::rename(w.at("bucket/new"), w.at("bucket/.encryption.json"))), Errno::PERM, "{reason}");
        assert_eq!(fs::read_to_string(w.at("bucket/.encryption.json")).unwrap(), before);
        fs::write(w.at("bucket/object"), "x").unwrap();
        assert_eq!(w.algorithm("bucket/object"), "aws:kms");
        fs::remove_file(w.at("bucket/object")).unwrap();
        fs::remove_file(w.at("bucket/new")).unwrap();
    }
    fs::write(w.at("bucket/new"), "no").unwrap();
    fs::remove_file(w.at("bucket/.encryption.json")).unwrap();
    assert_eq!(errno(fs::hard_link(w.at("bucket/new"), w.at("bucket/.encryption.json"))), Errno::INVAL);
}

#[test]
fn an_empty_configuration_is_not_judged() {
    let w = MountedStore::with_buckets(&["bucket"]);
    w.set_default("bucket", KMS, None);
    let mut redirected = File::create(w.at("bucket/.encryption.json")).unwrap();
    fs::write(w.at("bucket/meanwhile"), "x").unwrap();
    assert_eq!(w.algorithm("bucket/meanwhile"), "aws:kms");
    redirected.write_all(rules(AES256, None).as_bytes()).unwrap();
    redirected.sync_all().unwrap();
    fs::write(w.at("bucket/afterwards"), "x").unwrap();
    assert_eq!(w.algorithm("bucket/afterwards"), "AES256");
}

#[test]
fn renaming_makes_and_unmakes_a_configuration() {
    let w = MountedStore::with_buckets(&["bucket"]);
    let content = rules(KMS, None);
    fs::write(w.at("bucket/saved"), &content).unwrap();
    fs::rename(w.at("bucket/saved"), w.at("bucket/.encryption.json")).unwrap();
    fs::write(w.at("bucket/with"), "x").unwrap();
    fs::rename(w.at("bucket/.encryption.json"), w.at("bucket/saved")).unwrap();
    fs::write(w.at("bucket/without"), "x").unwrap();
    assert_eq!(w.algorithm("bucket/with"), "aws:kms");
    assert_eq!(w.algorithm("bucket/without"), "AES256");
    assert_eq!(fs::read_to_string(w.at("bucket/saved")).unwrap(), content);
}

#[test]
fn a_configuration_is_a_regular_file() {
    let w = MountedStore::with_buckets(&["bucket"]);
    let path = w.at("bucket/.encryption.json");
    assert_eq!(errno(fs::create_dir(&path)), Errno::INVAL);
    assert_eq!(errno(std::os::unix::fs::symlink("x", &path)), Errno::INVAL);
    assert_eq!(errno(w.make_fifo("bucket/.encryption.json")), Errno::INVAL);
    fs::create_dir(w.at("bucket/dir")).unwrap();
    assert_eq!(errno(fs::rename(w.at("bucket/dir"), &path)), Errno::PERM);
    assert!(!path.exists());
}

#[test]
fn attributes_answer_what_head_object_does() {
    let w = MountedStore::with_buckets(&["bucket"]);
    fs::write(w.at("bucket/plain"), "x").unwrap();
    assert_eq!(w.algorithm("bucket/plain"), "AES256");
    assert_eq!(w.key_arn("bucket/plain"), None);
    assert_eq!(w.header("bucket/plain", "-bucket-key-enabled").unwrap(), "false");
    w.set_default("bucket", KMS, Some(true));
    fs::write(w.at("bucket/kms"), "x").unwrap();
    assert_eq!(w.algorithm("bucket/kms"), "aws:kms");
    assert!(w.key_arn("bucket/kms").unwrap().starts_with("arn:aws:kms:"));
    assert_eq!(w.header("bucket/kms", "-bucket-key-enabled").unwrap(), "true");
    assert_eq!(errno(w.header("bucket/kms", "-context")), Errno::NODATA);
    assert!(!w.etag("bucket/kms").is_empty());
}

#[test]
fn attributes_are_not_listed_and_not_copied() {
    let w = MountedStore::with_buckets(&["bucket", "plain"]);
    w.set_default("bucket", KMS, None);
    fs::write(w.at("bucket/object"), "x").unwrap();
    w.set_xattr("bucket/object", "user.colour", "blue").unwrap();
    assert_eq!(w.list_xattrs("bucket/object"), ["user.colour"]);
    run("cp", &["-a".as_ref(), w.at("bucket/object").as_path(), &w.at("plain/object")]).unwrap();
    assert_eq!(w.get_xattr("plain/object", "user.colour").unwrap(), "blue");
    assert_eq!(w.algorithm("plain/object"), "AES256");
}

#[test]
fn stat_shows_objects_and_directories() {
    let w = MountedStore::with_buckets(&["bucket", "plain"]);
    w.set_default("bucket", KMS, Some(true));
    fs::create_dir(w.at("bucket/dir")).unwrap();
    fs::write(w.at("bucket/dir/object"), "12345").unwrap();
    let object = w.stat("bucket/dir/object");
    assert_eq!(object["ContentLength"], 5);
    assert_eq!(object["ServerSideEncryption"], "aws:kms");
    assert_eq!(object["SSEKMSKeyId"], w.key_arn("bucket/dir/object").unwrap());
    assert_eq!(object["BucketKeyEnabled"], true);
    assert_eq!(object["ETag"], format!("\"{}\"", w.etag("bucket/dir/object")));
    assert!(object["LastModified"].is_string());

    let directory = w.stat("bucket/dir").to_string();
    assert!(directory.contains(&rules(KMS, Some(true))), "{directory}");
    assert!(directory.contains("bucket/.encryption.json"), "{directory}");
    let directory = w.stat("plain").to_string();
    assert!(directory.contains(&rules(AES256, Some(false))), "{directory}");
}

#[test]
fn etags_follow_content() {
    let w = MountedStore::with_buckets(&["bucket"]);
    let md5_of_hello = "5d41402abc4b2a76b9719d911017c592";
    w.put("hello", "bucket/put", &[]).unwrap();
    assert_eq!(w.etag("bucket/put"), md5_of_hello);
    fs::OpenOptions::new().append(true).open(w.at("bucket/put")).unwrap().write_all(b"!").unwrap();
    let appended = w.etag("bucket/put");
    assert_ne!(appended, md5_of_hello);
    assert_eq!(w.etag("bucket/put"), appended);
    fs::write(w.at("bucket/put"), "hello").unwrap();
    assert_ne!(w.etag("bucket/put"), md5_of_hello, "only what was put has an MD5");
    w.put("", "bucket/empty", &[]).unwrap();
    assert_eq!(w.etag("bucket/empty"), "d41d8cd98f00b204e9800998ecf8427e");
    // Zeros, of which none is in memory in one piece.
    w.put(&"\0".repeat(10_000_000), "bucket/large", &[]).unwrap();
    assert_eq!(w.etag("bucket/large"), "311175294563b07db7ea80dee2e5b3c6");
    w.put("hello", "bucket/kms", &["--server-side-encryption", "aws:kms"]).unwrap();
    assert_ne!(w.etag("bucket/kms"), md5_of_hello);
}

#[test]
fn the_etag_cannot_be_set() {
    let w = MountedStore::with_buckets(&["bucket"]);
    fs::write(w.at("bucket/object"), "x").unwrap();
    let before = w.etag("bucket/object");
    assert_eq!(errno(w.set_xattr("bucket/object", "user.etag", "0")), Errno::PERM);
    let md5 = "5d41402abc4b2a76b9719d911017c592";
    assert_eq!(errno(w.set_xattr("bucket/object", "user.x-kmsfs-content-md5", md5)), Errno::OPNOTSUPP);
    assert_eq!(w.etag("bucket/object"), before);
}
