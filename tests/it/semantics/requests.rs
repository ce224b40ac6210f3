use super::mounted::MountedStore;
use std::fs::{self, File};
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn put_is_atomic_and_answers_as_put_object() {
    let w = MountedStore::with_buckets(&["bucket"]);
    let answer = w.put("hello", "bucket/object", &[]).unwrap();
    assert_eq!(answer["ETag"], "\"5d41402abc4b2a76b9719d911017c592\"");
    assert_eq!(answer["ServerSideEncryption"], "AES256");
    assert_eq!(answer.get("SSEKMSKeyId"), None);
    let answer = w.put("hello", "bucket/kms", &["--server-side-encryption", "aws:kms"]).unwrap();
    assert_eq!(answer["ServerSideEncryption"], "aws:kms");
    assert_eq!(answer["SSEKMSKeyId"], w.key_arn("bucket/kms").unwrap());

    let mut old = File::open(w.at("bucket/object")).unwrap();
    let (a, b) = ("a".repeat(1 << 20), "b".repeat(3 << 19));
    w.put(&a, "bucket/object", &[]).unwrap();
    let mut read = String::new();
    old.read_to_string(&mut read).unwrap();
    assert_eq!(read, "hello", "who has the old object open keeps it");

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let seen = fs::read_to_string(w.at("bucket/object")).unwrap();
                assert!(seen == a || seen == b, "{} bytes that nobody put", seen.len());
            }
        });
        for content in [&b, &a, &b, &a, &b] {
            w.put(content, "bucket/object", &[]).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    let names: Vec<_> = fs::read_dir(w.at("bucket")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "nothing temporary is left: {names:?}");
}

#[test]
fn a_request_wins_over_the_default() {
    let w = MountedStore::with_buckets(&["bucket"]);
    let customer = w.create_key("alias/customer");
    w.set_default("bucket", r#"{"SSEAlgorithm":"aws:kms","KMSMasterKeyID":"alias/customer"}"#, None);
    w.put("x", "bucket/default", &[]).unwrap();
    assert_eq!(w.key_arn("bucket/default").unwrap(), customer);
    w.put("x", "bucket/aes", &["--server-side-encryption", "AES256"]).unwrap();
    assert_eq!(w.algorithm("bucket/aes"), "AES256");
    w.put("x", "bucket/managed", &["--server-side-encryption", "aws:kms"]).unwrap();
    let managed = w.kms(&["describe-key", "--key-id", "alias/aws/s3"])["KeyMetadata"]["Arn"].clone();
    assert_eq!(managed, w.key_arn("bucket/managed").unwrap());
    w.put("x", "bucket/through", &["--server-side-encryption", "aws:kms", "--bucket-key-enabled"]).unwrap();
    assert_eq!(w.header("bucket/through", "-bucket-key-enabled").unwrap(), "true");
}

#[test]
fn a_request_that_s3_refuses_changes_nothing() {
    let w = MountedStore::with_buckets(&["bucket"]);
    w.put("before", "bucket/object", &[]).unwrap();
    let needs_kms = "Server Side Encryption with AWS KMS managed key requires HTTP header";
    for (options, message) in [
        (&["--ssekms-key-id", "alias/x"][..], needs_kms),
        (&["--server-side-encryption", "AES256", "--ssekms-key-id", "alias/x"], needs_kms),
        (&["--ssekms-encryption-context", "e30="], needs_kms),
        (
            &["--server-side-encryption", "aws:kms", "--ssekms-encryption-context", "no"],
            "shall be Base64-encoded UTF-8 string holding JSON which represents a string-string map",
        ),
    ] {
        let said = w.put("after", "bucket/object", options).unwrap_err();
        if !said.contains(message) {
            w.expect_log(message);
        }
        assert_eq!(fs::read(w.at("bucket/object")).unwrap(), b"before");
        assert_eq!(fs::read_dir(w.at("bucket")).unwrap().count(), 1);
    }
}

#[test]
fn setting_attributes_rewraps() {
    let w = MountedStore::with_buckets(&["bucket"]);
    let customer = w.create_key("alias/customer");

    File::create(w.at("bucket/empty")).unwrap();
    w.set_header("bucket/empty", "", "aws:kms").unwrap();
    w.set_header("bucket/empty", "-aws-kms-key-id", "alias/customer").unwrap();
    fs::OpenOptions::new().write(true).open(w.at("bucket/empty")).unwrap();
    assert_eq!(w.key_arn("bucket/empty").unwrap(), customer);

    w.put("content", "bucket/full", &[]).unwrap();
    let before = fs::metadata(w.at("bucket/full")).unwrap().modified().unwrap();
    let etag = w.etag("bucket/full");
    let unchanged = || {
        assert_eq!(fs::read(w.at("bucket/full")).unwrap(), b"content");
        assert_eq!(w.etag("bucket/full"), etag);
        assert_eq!(fs::metadata(w.at("bucket/full")).unwrap().modified().unwrap(), before);
    };
    w.set_header("bucket/full", "", "aws:kms").unwrap();
    let managed = w.key_arn("bucket/full").unwrap();
    assert_ne!(managed, customer);
    unchanged();
    w.set_header("bucket/full", "-aws-kms-key-id", &customer).unwrap();
    assert_eq!(w.key_arn("bucket/full").unwrap(), customer);
    unchanged();
    w.set_header("bucket/full", "-bucket-key-enabled", "true").unwrap();
    assert_eq!(w.header("bucket/full", "-bucket-key-enabled").unwrap(), "true");
    unchanged();
}

#[test]
fn a_change_that_needs_a_new_data_key_encrypts_again() {
    let w = MountedStore::with_buckets(&["bucket"]);
    w.put("content", "bucket/object", &["--server-side-encryption", "aws:kms"]).unwrap();
    w.set_header("bucket/object", "", "AES256").unwrap();
    assert_eq!(w.algorithm("bucket/object"), "AES256");
    assert_eq!(fs::read(w.at("bucket/object")).unwrap(), b"content");
    w.set_header("bucket/object", "", "aws:kms").unwrap();
    // {"project":"bond"}
    w.set_header("bucket/object", "-context", "eyJwcm9qZWN0IjoiYm9uZCJ9").unwrap();
    assert_eq!(w.algorithm("bucket/object"), "aws:kms");
    assert_eq!(fs::read(w.at("bucket/object")).unwrap(), b"content");

    let content: Vec<u8> = (0..(17_u32 << 18)).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(w.at("bucket/large"), &content).unwrap();
    w.set_header("bucket/large", "", "aws:kms").unwrap();
    let open = fs::File::open(w.at("bucket/large")).unwrap();
    w.set_header("bucket/large", "", "AES256").unwrap();
    assert_eq!(w.algorithm("bucket/large"), "AES256");
    assert!(fs::read(w.at("bucket/large")).unwrap() == content);
    let mut bytes = [0; 4096];
    std::os::unix::fs::FileExt::read_exact_at(&open, &mut bytes, 16 << 20).unwrap();
    assert_eq!(bytes[..], content[16 << 20..][..4096], "a handle from before goes on");
}
