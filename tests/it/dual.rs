//! `aws:kms:dsse` in a mount: objects with two layers of encryption, used by programs that know nothing of them.

use crate::harness::Store;
use std::fs;

const DSSE: &str = r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"aws:kms:dsse"}}]}"#;

/// A bucket whose default is two layers.
fn bucket(store: &Store) {
    store.sh(&format!("mkdir $MNT/bucket; echo '{DSSE}' > $MNT/bucket/.encryption.json"));
}

/// Two files of the same content, one with two layers and one outside the mount, after the same treatment.
fn same_after(script: &str) {
    let store = Store::new();
    let mut mount = store.mount();
    bucket(&store);
    store.sh(&format!("for dir in $MNT/bucket $PWD; do (cd $dir; {script}); done"));
    let same = "cmp $MNT/bucket/file $PWD/file; stat -c %s $MNT/bucket/file $PWD/file | uniq | wc -l; \
                getfattr --only-values -n user.x-amz-server-side-encryption $MNT/bucket/file";
    assert_eq!(store.sh(same), "1\naws:kms:dsse");
    mount.remount();
    // Of files that nobody has open the length comes from the backing file and its header.
    assert_eq!(store.sh(same), "1\naws:kms:dsse");
    mount.unmount();
    let checked = store.sh("kmsfs fsck --scrub --key-file $KEY $STORE");
    assert!(checked.contains("0 errors left, 0 findings mended"), "{checked}");
}

#[test]
fn appends_truncations_and_holes_are_what_they_are_elsewhere() {
    same_after(
        "seq 100000 > file; seq 3000 >> file; truncate -s 700001 file; truncate -s 900k file; echo end >> file; \
         fallocate -p -o 100000 -l 300000 file; dd if=/dev/zero of=file bs=1000 seek=2000 count=3 conv=notrunc 2>/dev/null; \
         truncate -s 3M file; seq 9 >> file",
    );
}

#[test]
fn every_length_around_the_places_of_tables_is_shown() {
    let store = Store::new();
    let mut mount = store.mount();
    bucket(&store);
    let lengths: Vec<u64> = [0, 1, 32, 33, 96, 97, 160, 161]
        .iter()
        .flat_map(|chunks| [(chunks * 4096_u64).saturating_sub(1), chunks * 4096, chunks * 4096 + 1])
        .collect();
    for length in &lengths {
        fs::write(mount.path(&format!("bucket/{length}")), vec![7; *length as usize]).unwrap();
    }
    mount.remount();
    for length in &lengths {
        let path = mount.path(&format!("bucket/{length}"));
        assert_eq!(fs::metadata(&path).unwrap().len(), *length);
        assert!(fs::read(&path).unwrap() == vec![7; *length as usize]);
    }
}

#[test]
fn mappings_and_copies_within_the_mount_work() {
    let script = "import mmap, os\n\
        with open('file', 'wb') as f: f.write(bytes(range(256)) * 2000)\n\
        with open('file', 'r+b') as f:\n\
        \x20   m = mmap.mmap(f.fileno(), 0)\n\
        \x20   m[131070:131080] = b'0123456789'; m[400000:400003] = b'end'; m.flush(); m.close()\n\
        a = os.open('file', os.O_RDONLY); b = os.open('copy', os.O_RDWR | os.O_CREAT)\n\
        n = os.copy_file_range(a, b, 300000, 5000, 123456)\n\
        while n < 300000: n += os.copy_file_range(a, b, 300000 - n, 5000 + n, 123456 + n)\n\
        os.rename('copy', 'file')";
    same_after(&format!("cat > $STORE.py <<'PY'\n{script}\nPY\npython3 $STORE.py"));
}

#[test]
fn sqlite_works_on_two_layers() {
    let store = Store::new();
    let mut mount = store.mount();
    bucket(&store);
    let sql =
        |text: &str| store.sh(&format!("sqlite3 -bail -cmd '.timeout 60000' $MNT/bucket/db <<'SQL'\n{text}\nSQL"));
    for journal in ["delete", "wal"] {
        sql(&format!(
            "PRAGMA journal_mode={journal}; DROP TABLE IF EXISTS t; CREATE TABLE t(id INTEGER PRIMARY KEY, x);"
        ));
        sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) \
             INSERT INTO t(x) SELECT randomblob(3000) FROM n;");
        sql("BEGIN; DELETE FROM t WHERE id % 3 = 0; ROLLBACK; DELETE FROM t WHERE id % 2 = 0; VACUUM;");
        assert_eq!(sql("PRAGMA integrity_check; SELECT count(*), sum(length(x)) FROM t;"), "ok\n200|600000\n");
    }
    mount.remount();
    assert_eq!(sql("PRAGMA integrity_check; SELECT count(*) FROM t;"), "ok\n200\n");
}

#[test]
fn a_file_is_asked_for_two_layers_by_attribute_request_and_default() {
    let store = Store::new();
    let mut mount = store.mount();
    mount.bucket("plain");
    let algorithm =
        |name: &str| store.sh(&format!("getfattr --only-values -n user.x-amz-server-side-encryption $MNT/{name}"));
    store.sh("seq 60000 > source");
    store.sh("touch $MNT/plain/empty; setfattr -n user.x-amz-server-side-encryption -v aws:kms:dsse $MNT/plain/empty");
    store.sh("cat source >> $MNT/plain/empty");
    store
        .sh("cp source $MNT/plain/full; setfattr -n user.x-amz-server-side-encryption -v aws:kms:dsse $MNT/plain/full");
    store.sh("kmsfs put --server-side-encryption aws:kms:dsse source $MNT/plain/put");
    store.sh("cp source $MNT/plain/re; ln $MNT/plain/re $MNT/plain/hard");
    store.sh("kmsfs reencrypt --server-side-encryption aws:kms:dsse $MNT/plain/re");
    let check = || {
        for name in ["plain/empty", "plain/full", "plain/put", "plain/re", "plain/hard"] {
            assert_eq!(algorithm(name), "aws:kms:dsse", "{name}");
            store.sh(&format!("cmp source $MNT/{name}"));
        }
    };
    check();
    let shown = store.sh("kmsfs stat $MNT/plain/put");
    assert!(
        shown.contains("\"ServerSideEncryption\": \"aws:kms:dsse\"") && shown.contains("\"SSEKMSKeyId\": \"arn:"),
        "{shown}"
    );
    assert!(!shown.contains("BucketKeyEnabled\": true"), "{shown}");
    mount.remount();
    check();
    // And back.
    store.sh("setfattr -n user.x-amz-server-side-encryption -v AES256 $MNT/plain/re");
    assert_eq!(algorithm("plain/hard"), "AES256");
    store.sh("cmp source $MNT/plain/hard; echo more >> $MNT/plain/re");
    mount.remount();
    assert_eq!(store.sh("tail -n 1 $MNT/plain/hard"), "more\n");
}

#[test]
fn a_bucket_key_is_refused_and_a_large_object_says_what_to_do() {
    let store = Store::new();
    let mount = store.mount();
    mount.bucket("bucket");
    store.sh("echo x > source");
    let log = || fs::read_to_string(store.path("log")).unwrap_or_default();
    let refused = store.sh(
        "kmsfs put --server-side-encryption aws:kms:dsse --bucket-key-enabled source $MNT/bucket/no 2>&1 && echo done || echo refused",
    );
    assert!(refused.ends_with("refused\n"), "{refused}");
    assert!((refused + &log()).contains("S3 Bucket Keys are not supported for aws:kms:dsse"));
    let failed = store.sh("head -c 17M /dev/zero | tr '\\0' x > $MNT/bucket/large; \
         setfattr -n user.x-amz-server-side-encryption -v aws:kms:dsse $MNT/bucket/large 2>&1 && echo done || true");
    assert!(failed.contains("Operation not supported"), "{failed}");
    assert!(log().contains("copy it to a new name where that encryption is the default"), "{}", log());
    assert_eq!(store.sh("tr -d x < $MNT/bucket/large | wc -c; stat -c %s $MNT/bucket/large"), "0\n17825792\n");
}

#[test]
fn a_store_says_that_it_has_two_layers_before_it_has_any() {
    let store = Store::new();
    let mount = store.mount();
    let text = || fs::read_to_string(store.path("store/store.json")).unwrap();
    let before = text();
    assert!(before.contains("\"format_version\": 4,") && !before.contains("features"), "{before}");
    bucket(&store);
    assert_eq!(text(), before, "a configuration alone changes nothing");
    store.sh("echo x > $MNT/bucket/object");
    let after = text();
    assert!(after.contains("\"format_version\": 4,") && after.contains("\"dual-layer-encryption\""), "{after}");
    mount.unmount();
    let unknown = after.replace("dual-layer", "triple-layer");
    fs::write(store.path("store/store.json"), unknown).unwrap();
    let said = store.sh("kmsfs fsck --key-file $KEY $STORE 2>&1 || true");
    assert!(said.contains("a feature that this kmsfs does not know, \"triple-layer-encryption\""), "{said}");
}

#[test]
fn a_repair_saves_what_both_layers_vouch_for() {
    let store = Store::new();
    let mount = store.mount();
    bucket(&store);
    store.sh("seq 60000 > source; cp source $MNT/bucket/header; cp source $MNT/bucket/chunk");
    mount.unmount();
    // A byte of the seal, and one of chunk 40, which is in block 42: behind 32 chunks and a page.
    store.sh("printf X | dd of=$STORE/buckets/bucket/header bs=1 seek=60 conv=notrunc 2>/dev/null; \
         printf X | dd of=$STORE/buckets/bucket/chunk bs=1 seek=$((42 * 4096 + 9)) conv=notrunc 2>/dev/null");
    let checked = store.sh("kmsfs fsck --scrub --repair --key-file $KEY $STORE || true");
    assert!(checked.contains("all of it could be read and was written anew"), "{checked}");
    assert!(checked.contains("lost, and zeros now, are bytes 163840 to 167935"), "{checked}");
    let _mount = store.mount();
    store.sh("cmp source $MNT/bucket/header");
    let differ = store
        .sh("(cmp -l source $MNT/bucket/chunk || true) | wc -l; stat -c %s source $MNT/bucket/chunk | uniq | wc -l");
    assert_eq!(differ, "4096\n1\n");
    let algorithm = "getfattr --only-values -n user.x-amz-server-side-encryption $MNT/bucket/";
    assert_eq!(store.sh(&format!("{algorithm}header; {algorithm}chunk")), "aws:kms:dsseaws:kms:dsse");
}
