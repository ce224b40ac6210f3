//! `.encryption.json` as a shell's user meets it: refusals are said by cp, nothing changes, the nearest one holds.

use crate::harness::{KMS, Store, configuration, header, kms_with, names_in};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

fn algorithm_of_a_new_file(dir: &Path) -> String {
    let probe = dir.join("probe");
    fs::write(&probe, "x").unwrap();
    let algorithm = header(&probe, "").unwrap();
    fs::remove_file(&probe).unwrap();
    algorithm
}

#[test]
fn a_malformed_one_is_refused_and_the_one_before_holds() {
    let store = Store::new();
    let mut mount = store.mount();
    let bucket = mount.bucket("bucket");
    mount.set_default("bucket", KMS, false);
    let before = configuration(KMS, false);
    let rule = r#"{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"}}"#;
    let cases = [
        ("not JSON", "hello".to_owned()),
        ("no rule", r#"{"Rules":[]}"#.to_owned()),
        ("no rules", "{}".to_owned()),
        ("two rules", format!(r#"{{"Rules":[{rule},{rule}]}}"#)),
        ("unknown algorithm", configuration(r#"{"SSEAlgorithm":"ROT13"}"#, false)),
        ("AES256 with a key", configuration(r#"{"SSEAlgorithm":"AES256","KMSMasterKeyID":"alias/x"}"#, false)),
        ("wrong type", r#"{"Rules":"none"}"#.to_owned()),
        ("over 64 KiB", format!("{}{}", " ".repeat(65_536), configuration(KMS, false))),
    ];
    for (what, content) in &cases {
        fs::write(store.path("bad.json"), content).unwrap();
        store.try_sh("cp bad.json $MNT/bucket/.encryption.json").expect_failure(1, "Invalid argument");
        store
            .try_sh("cp bad.json $MNT/bucket/n && mv $MNT/bucket/n $MNT/bucket/.encryption.json")
            .expect_failure(1, "");
        store.try_sh("dd if=bad.json of=$MNT/bucket/.encryption.json conv=fsync").expect_failure(1, "Invalid argument");
        store.try_sh("rsync bad.json $MNT/bucket/.encryption.json").expect_failure(23, "Operation not permitted");
        assert_eq!(fs::read_to_string(bucket.join(".encryption.json")).unwrap(), before, "{what}");
        assert_eq!(algorithm_of_a_new_file(&bucket), "aws:kms", "{what}");
        store.sh("rm -f $MNT/bucket/n");
    }
    // One line says where and why, also after so many.
    assert!(
        store.log().lines().any(|line| line.contains("bucket/.encryption.json") && line.contains("not JSON")),
        "{}",
        store.log()
    );
    mount.remount();
    assert_eq!(fs::read_to_string(bucket.join(".encryption.json")).unwrap(), before);
    assert_eq!(names_in(&bucket), [".encryption.json"]);
}

/// Programs that do not look at what close(2) says end with 0: bash's echo and Python's write among them.
#[test]
fn where_the_first_one_is_malformed_nothing_is_created_until_it_is_valid_or_removed() {
    let store = Store::new();
    let mut mount = store.mount();
    let bucket = mount.bucket("bucket");
    store.sh("echo hello > bad.json; mkdir -p $MNT/bucket/a/b $MNT/bucket/beside; echo before > $MNT/bucket/a/before");
    for put in [
        "cp bad.json $MNT/bucket/a/.encryption.json || true",
        "bash -c 'echo hello > $MNT/bucket/a/.encryption.json'",
        "touch $MNT/bucket/a/.encryption.json",
        r#"python3 -c 'open("'$MNT'/bucket/a/.encryption.json", "w").write("hello")' 2>/dev/null || true"#,
    ] {
        store.sh(put);
        for _ in 0..2 {
            assert_eq!(fs::read(bucket.join("a/.encryption.json")).unwrap(), b"", "{put}");
            store.try_sh("echo x > $MNT/bucket/a/new").expect_failure(1, "Operation not permitted");
            let text = "cp: cannot create regular file";
            store.try_sh("cp bad.json $MNT/bucket/a/b/new").expect_failure(1, text);
            let text = "nothing can be created below it until a valid one is put there or it is removed";
            store.try_sh("echo x | kmsfs put - $MNT/bucket/a/new").expect_failure(254, text);
            let shown = store.sh("kmsfs stat $MNT/bucket/a/b");
            assert!(shown.contains(r#""Source": "bucket/a/.encryption.json""#), "{put}: {shown}");
            assert!(shown.contains(r#""Refused": "MalformedXML: the encryption configuration is"#), "{put}: {shown}");
            assert!(!shown.contains("AES256\""), "{put}: {shown}");
            // What was there is read and written, and others are not concerned.
            store.sh("echo more >> $MNT/bucket/a/before; mkdir $MNT/bucket/a/c; rmdir $MNT/bucket/a/c");
            assert_eq!(algorithm_of_a_new_file(&bucket.join("beside")), "AES256");
            mount.remount();
        }
        store.sh("rm $MNT/bucket/a/.encryption.json");
        assert_eq!(algorithm_of_a_new_file(&bucket.join("a/b")), "AES256");
        store.sh(put);
        mount.set_default("bucket/a", KMS, false);
        assert_eq!(algorithm_of_a_new_file(&bucket.join("a/b")), "aws:kms");
        store.sh("rm $MNT/bucket/a/.encryption.json");
    }
    store
        .expect_log("bucket/a/.encryption.json: MalformedXML: the encryption configuration is refused: it is not JSON");
    assert_eq!(names_in(&bucket.join("a")), ["b", "before"]);
}

#[test]
fn an_empty_one_stops_nobody_if_its_owner_may_put_none_or_it_is_being_written() {
    let store = Store::new();
    store.open_to_all();
    let mount = store.mount_with("allow_other");
    let bucket = mount.bucket("bucket");
    store.sh("chmod 1777 $MNT/bucket");
    assert_eq!(store.sh_as(4001, "touch $MNT/bucket/.encryption.json").code, 0);
    assert_eq!(algorithm_of_a_new_file(&bucket), "AES256");
    store.sh("rm $MNT/bucket/.encryption.json");
    let written = format!("{{ echo x > during; printf '%s' '{}'; }} > .encryption.json", configuration(KMS, false));
    store.sh(&format!("cd $MNT/bucket; {written}; echo x > after"));
    assert_eq!(["during", "after"].map(|name| header(&bucket.join(name), "").unwrap()), ["AES256", "aws:kms"]);
}

#[test]
fn while_one_is_made_others_create_as_before() {
    let store = Store::new();
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    let (path, text) = (bucket.join(".encryption.json"), configuration(KMS, false));
    let done = AtomicBool::new(false);
    let made = std::thread::scope(|scope| {
        let creating = scope.spawn(|| {
            let mut made = 0;
            while !done.load(Ordering::SeqCst) {
                fs::write(bucket.join(format!("{made}")), "x").unwrap();
                made += 1;
            }
            made
        });
        for _ in 0..60 {
            fs::write(&path, &text).unwrap();
            fs::remove_file(&path).unwrap();
        }
        done.store(true, Ordering::SeqCst);
        creating.join().unwrap()
    });
    assert!(made > 0);
}

/// EINVAL of rename(2) is a directory moved into itself, and what mv(1) says of it.
#[test]
fn mv_says_that_it_is_not_permitted_and_nothing_of_directories_moved_into_themselves() {
    let store = Store::new();
    let mount = store.mount();
    mount.bucket("bucket");
    store.sh("echo hello > $MNT/bucket/bad; mkdir $MNT/bucket/d");
    for (refused, said) in [
        ("mv $MNT/bucket/bad $MNT/bucket/.encryption.json", "Operation not permitted"),
        ("mv -T $MNT/bucket/d $MNT/bucket/.encryption.json", "Operation not permitted"),
        // Buckets are not renamed: mv(1) copies.
        ("mv $MNT/bucket $MNT/No_Bucket", "cannot create directory"),
        ("mv $MNT/bucket/d $MNT/bucket/d/d", "to a subdirectory of itself"),
        ("ln $MNT/bucket/bad $MNT/bucket/.encryption.json", "Invalid argument"),
        ("mkdir $MNT/No_Bucket", "Invalid argument"),
    ] {
        store.try_sh(refused).expect_failure(1, said);
    }
    store.expect_log("No_Bucket: InvalidBucketName");
}

#[test]
fn what_is_shown_of_one_can_be_put_back_as_it_is() {
    let store = Store::new();
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    store.sh("mkdir $MNT/bucket/a $MNT/bucket/b");
    mount.set_default("bucket/a", &kms_with("alias/aws/s3"), true);
    store.sh("kmsfs stat $MNT/bucket/a > shown; cp shown $MNT/bucket/b/.encryption.json");
    assert_eq!(algorithm_of_a_new_file(&bucket.join("b")), "aws:kms");
    store.sh("kmsfs stat $MNT/bucket > shown; cp shown $MNT/bucket/b/.encryption.json");
    assert_eq!(algorithm_of_a_new_file(&bucket.join("b")), "AES256");
}

#[test]
fn one_of_exactly_64_kib_is_taken() {
    let store = Store::new();
    let mut mount = store.mount();
    let bucket = mount.bucket("bucket");
    let text = configuration(KMS, false);
    fs::write(store.path("big.json"), format!("{}{text}", " ".repeat(65_536 - text.len()))).unwrap();
    store.sh("cp big.json $MNT/bucket/.encryption.json");
    mount.remount();
    assert_eq!(algorithm_of_a_new_file(&bucket), "aws:kms");
    store.sh("cmp big.json $MNT/bucket/.encryption.json");
}

#[test]
fn the_nearest_one_holds_until_it_is_removed() {
    let store = Store::new();
    let mut mount = store.mount();
    let bucket = mount.bucket("bucket");
    store.sh("mkdir -p $MNT/bucket/a/b/c");
    mount.set_default("bucket", KMS, false);
    mount.set_default("bucket/a/b", r#"{"SSEAlgorithm":"AES256"}"#, false);
    for _ in 0..2 {
        let algorithms = ["", "a", "a/b", "a/b/c"].map(|dir| algorithm_of_a_new_file(&bucket.join(dir)));
        assert_eq!(algorithms, ["aws:kms", "aws:kms", "AES256", "AES256"]);
        mount.remount();
    }
    let shown = store.sh("kmsfs stat $MNT/bucket/a/b/c");
    assert!(shown.contains("a/b/.encryption.json"), "{shown}");
    // The directory with its configuration goes elsewhere, and so does what holds.
    store.sh("mv $MNT/bucket/a/b $MNT/bucket/b");
    assert_eq!(["a", "b/c"].map(|dir| algorithm_of_a_new_file(&bucket.join(dir))), ["aws:kms", "AES256"]);
    store.sh("rm $MNT/bucket/b/.encryption.json");
    assert_eq!(algorithm_of_a_new_file(&bucket.join("b/c")), "aws:kms");
    store.sh("rm $MNT/bucket/.encryption.json");
    assert_eq!(algorithm_of_a_new_file(&bucket.join("b/c")), "AES256");
}

#[test]
fn a_redirection_is_not_judged_before_something_is_written() {
    let store = Store::new();
    let mut mount = store.mount();
    let bucket = mount.bucket("bucket");
    mount.set_default("bucket", KMS, false);
    // The shell empties the file, then the program writes into it slowly.
    store.sh(
        r#"cd $MNT/bucket; { sleep 0.2; echo x > during; printf '{"Rules":['; sleep 0.2; } > .encryption.json || true"#,
    );
    assert_eq!(header(&bucket.join("during"), "").unwrap(), "aws:kms");
    assert_eq!(fs::read_to_string(bucket.join(".encryption.json")).unwrap(), configuration(KMS, false));
    let aes = configuration(r#"{"SSEAlgorithm":"AES256"}"#, false);
    store.sh(&format!("cd $MNT/bucket; {{ sleep 0.2; echo '{aes}'; sleep 0.2; }} > .encryption.json"));
    assert_eq!(algorithm_of_a_new_file(&bucket), "AES256");
    mount.remount();
    assert_eq!(algorithm_of_a_new_file(&bucket), "AES256");
}

#[test]
fn one_that_names_an_unknown_key_is_taken_and_refuses_what_needs_it() {
    let store = Store::new();
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    mount.set_default("bucket", &kms_with("alias/nobody"), false);
    store.try_sh("cp /etc/hostname $MNT/bucket/").expect_failure(1, "Required key not available");
    assert_eq!(names_in(&bucket), [".encryption.json"]);
    store.expect_log("alias/nobody");
    // A request of its own, and directories, need it not.
    store.sh("mkdir $MNT/bucket/d; echo x | kmsfs put --server-side-encryption AES256 - $MNT/bucket/object");
}

#[test]
fn one_that_fails_authentication_refuses_creation_below_it() {
    let store = Store::new();
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    store.sh("mkdir $MNT/bucket/d; echo x > $MNT/bucket/d/before");
    mount.set_default("bucket", KMS, false);
    mount.unmount();
    // One byte of its ciphertext.
    store.sh("printf '\\001' | dd of=$STORE/buckets/bucket/.encryption.json bs=1 seek=4100 conv=notrunc status=none");
    let _mount = store.mount();
    store.try_sh("echo x > $MNT/bucket/d/after").expect_failure(1, "Input/output error");
    assert_eq!(names_in(&bucket.join("d")), ["before"]);
    assert_eq!(fs::read_to_string(bucket.join("d/before")).unwrap(), "x\n");
    store.expect_log("bucket/.encryption.json: chunk 0");
    store.sh("rm $MNT/bucket/.encryption.json; echo x > $MNT/bucket/d/after");
}
