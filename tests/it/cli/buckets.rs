//! `kmsfs ls`, `kmsfs version`, and a bucket's default encryption from the command line.

use crate::harness::{Store, json};

const KMS: &str = r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"aws:kms","KMSMasterKeyID":"alias/mine"},"BucketKeyEnabled":true}]}"#;

#[test]
fn a_default_encryption_is_put_shown_put_back_and_deleted() {
    let store = Store::new();
    let _mount = store.mount();
    let arn = store.create_key("alias/mine");
    store.sh("mkdir $MNT/my-bucket");
    let get = "kmsfs get-bucket-encryption $MNT/my-bucket";
    let default = json(&store.sh(get));
    assert_eq!(
        default.to_string(),
        r#"{"ServerSideEncryptionConfiguration":{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"},"BucketKeyEnabled":false}]}}"#
    );
    let put = "kmsfs put-bucket-encryption --server-side-encryption-configuration";
    assert_eq!(store.sh(&format!("{put} '{KMS}' $MNT/my-bucket")), "");
    assert_eq!(json(&store.sh(get))["ServerSideEncryptionConfiguration"].to_string(), KMS);
    store.sh("echo content > $MNT/my-bucket/object");
    assert_eq!(json(&store.sh("kmsfs stat $MNT/my-bucket/object"))["SSEKMSKeyId"], arn.as_str());
    // What is shown is taken.
    store.sh(&format!(
        "{get} > shown; kmsfs delete-bucket-encryption $MNT/my-bucket; ! test -e $MNT/my-bucket/.encryption.json"
    ));
    assert_eq!(json(&store.sh(get)), default);
    store.sh(&format!("kmsfs delete-bucket-encryption $MNT/my-bucket; {put} file://shown $MNT/my-bucket"));
    assert_eq!(json(&store.sh(get))["ServerSideEncryptionConfiguration"].to_string(), KMS);
}

#[test]
fn what_s3_refuses_is_refused_in_its_words_and_changes_nothing() {
    let store = Store::new();
    let _mount = store.mount();
    store.sh("mkdir -p $MNT/my-bucket/directory");
    let put = |configuration: &str| {
        store.try_sh(&format!(
            "kmsfs put-bucket-encryption --server-side-encryption-configuration '{configuration}' $MNT/my-bucket"
        ))
    };
    let said = "An error occurred (MalformedXML) when calling the PutBucketEncryption operation: ";
    put(r#"{"Rules":[]}"#).expect_failure(254, said);
    put("nonsense").expect_failure(254, said);
    let wrong =
        r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256","KMSMasterKeyID":"alias/mine"}}]}"#;
    put(wrong)
        .expect_failure(254, "An error occurred (InvalidArgument) when calling the PutBucketEncryption operation: ");
    put("file://none").expect_failure(252, "Unable to load paramfile file://none: No such file or directory");
    store.sh("! test -e $MNT/my-bucket/.encryption.json");
    let below = "is below a bucket: S3 has a default encryption of buckets alone";
    store.try_sh("kmsfs get-bucket-encryption $MNT/my-bucket/directory").expect_failure(252, below);
    store.try_sh("kmsfs get-bucket-encryption $MNT").expect_failure(252, "is the mount itself: name a bucket");
    store.try_sh("kmsfs get-bucket-encryption $STORE").expect_failure(1, "is not in a kmsfs mount");
    store.try_sh("kmsfs get-bucket-encryption").expect_failure(252, "required arguments were not provided");
}

#[test]
fn names_are_listed_with_their_encryption_and_key() {
    let store = Store::new();
    let _mount = store.mount();
    let arn = store.create_key("alias/mine");
    store.sh("mkdir -p $MNT/my-bucket/directory; echo content > $MNT/my-bucket/directory/plain");
    store.sh("echo x > x; kmsfs put --server-side-encryption aws:kms --ssekms-key-id alias/mine x $MNT/my-bucket/x > /dev/null");
    let list = store.sh("kmsfs ls $MNT/my-bucket");
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 2, "{list}");
    assert_eq!(lines[0][2..], ["-", "-", "directory/"]);
    let id = arn.rsplit('/').next().unwrap();
    assert_eq!((lines[1][0], &lines[1][2..]), ("2", &["aws:kms", id, "x"][..]));
    let all = store.sh("kmsfs ls --recursive --json $MNT");
    let lines: Vec<_> = all.lines().map(json).collect();
    assert_eq!(lines.len(), 2, "{all}");
    let path = |name: &str| store.mountpoint().join(name).display().to_string();
    assert_eq!(lines[0]["Path"], path("my-bucket/directory/plain").as_str());
    assert_eq!((&lines[0]["ServerSideEncryption"], &lines[0]["ContentLength"]), (&"AES256".into(), &8.into()));
    assert_eq!((&lines[1]["Path"], &lines[1]["SSEKMSKeyId"]), (&path("my-bucket/x").into(), &arn.into()));
    store.try_sh("kmsfs ls $STORE").expect_failure(1, "is not in a kmsfs mount");
    store.try_sh("kmsfs ls $MNT/none").expect_failure(1, "/none: No such file or directory");
}

#[test]
fn versions_of_the_program_and_its_formats_are_shown() {
    let store = Store::absent();
    let version = json(&store.sh("kmsfs version --json"));
    assert_eq!(version["Version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["Formats"]["Store"], kmsfs_format::VERSION);
    let shown = store.sh("kmsfs version");
    assert!(shown.starts_with(&format!("kmsfs {}\nFormats:\n", env!("CARGO_PKG_VERSION"))), "{shown}");
    assert!(shown.contains("aws:kms:dsse"), "{shown}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure_and_a_full_disk_is_one() {
    let store = Store::new();
    // Its reader has ended before it begins to write.
    let script = "exec 3> >(true); wait $!; kmsfs fsck --key-file $KEY $STORE >&3";
    let answer = store.try_sh(script);
    assert_eq!((answer.code, answer.err.as_str()), (0, ""));
    let full = store.try_sh("kmsfs version > /dev/full");
    let text = "kmsfs: it is done, but standard output cannot be written: No space left on device\n";
    assert_eq!((full.code, full.err.as_str()), (1, text));
}
