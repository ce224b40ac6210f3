//! Stores that earlier versions made, kept in the repository: every version reads them.
//!
//! `store-v1` was made with `kmsfs init --region eu-central-1 --account-id 123456789012 --key-file` and filled through
//! a mount with what is asserted here. `store-v1-killed` is the same after the daemon was killed over an overwrite and
//! an append, both with fsync: they are in its redo log only. `store-v2-dual`, made in the same way, has objects with
//! two layers. `store-v3-killed` is as `store-v1-killed`, by a kmsfs that authenticated store.json and configurations,
//! but neither the redo log nor what a user attribute is on; its attributes are beside it, since git keeps none.

use super::harness::Store;
use std::fs;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");

fn large() -> Vec<u8> {
    let mut numbers: String = (1..=60_000).map(|n| n.to_string() + "\n").collect();
    numbers.truncate(300_000);
    numbers.into_bytes()
}

/// A copy of a golden store in the place of a new one. (git keeps no modes and no hard links.)
fn golden(name: &str) -> Store {
    let store = Store::new();
    store.sh(&format!(
        "rm -rf $STORE $KEY; cp -a {DATA}/{name} $STORE; cp {DATA}/store-v1.key $KEY; chmod 600 $KEY; chmod 700 $STORE; \
         chmod -R go= $STORE/keyring; \
         if [ -e $STORE/buckets/plain ]; then ln -f $STORE/buckets/plain/object $STORE/buckets/plain/dir/hard; fi"
    ));
    store
}

fn expect_common(store: &Store) {
    assert_eq!(store.sh("cat $MNT/secret/object $MNT/shared/object"), "under aws/s3\nunder a bucket key\n");
    assert_eq!(store.sh("head -c 5 $MNT/plain/sparse; tail -c 3 $MNT/plain/sparse"), "startend");
    assert_eq!(store.sh("stat -c %s $MNT/plain/sparse; tr -d '\\0' < $MNT/plain/sparse"), "800003\nstartend");
    assert_eq!(store.sh("readlink $MNT/plain/link"), "../elsewhere\n");
    assert_eq!(store.sh("cmp $MNT/plain/object $MNT/plain/dir/hard; echo $?"), "0\n");
    let shown = store.sh("kmsfs stat $MNT/secret/object; kmsfs stat $MNT/shared/object; kmsfs stat $MNT/plain/object");
    assert_eq!(shown.matches("\"SSEKMSKeyId\": \"arn:aws:kms:eu-central-1:123456789012:key/").count(), 2, "{shown}");
    assert_eq!(shown.matches("\"BucketKeyEnabled\": true").count(), 1, "{shown}");
    assert_eq!(shown.matches("\"ServerSideEncryption\": \"AES256\"").count(), 1, "{shown}");
    let keys = store.sh("kmsfs kms --store $STORE --key-file $KEY list-aliases");
    assert!(keys.contains("alias/aws/s3") && keys.contains("alias/golden"), "{keys}");
}

#[test]
fn a_store_of_version_1_is_read_and_written() {
    let store = golden("store-v1");
    let mut mount = store.mount();
    expect_common(&store);
    assert_eq!(store.sh("cat $MNT/plain/object"), "a golden object\n");
    assert!(fs::read(mount.path("plain/large")).unwrap() == large());
    store.sh("echo new > $MNT/shared/new; echo more >> $MNT/plain/object");
    mount.remount();
    assert_eq!(store.sh("cat $MNT/shared/new $MNT/plain/object"), "new\na golden object\nmore\n");
}

/// What is in those that were killed.
fn expect_killed(store: &Store) {
    let mut changed = large();
    changed[100_000..100_006].copy_from_slice(b"GOLDEN");
    expect_common(store);
    assert_eq!(store.sh("cat $MNT/plain/object"), "a golden object\nappended\n");
    assert!(fs::read(store.mountpoint().join("plain/large")).unwrap() == changed);
}

/// It is as expected before anything is written, when recovery has written, and later.
fn recovers(store: &Store, expect: &dyn Fn()) {
    let mount = store.mount_with("ro");
    expect();
    mount.unmount();
    let mut mount = store.mount();
    expect();
    mount.remount();
    expect();
}

#[test]
fn a_killed_store_of_version_1_is_recovered() {
    let store = golden("store-v1-killed");
    recovers(&store, &|| expect_killed(&store));
}

#[test]
fn a_killed_store_of_version_3_is_recovered_and_raised() {
    let store = golden("store-v3-killed");
    store.sh(&format!("cd $STORE && setfattr --restore={DATA}/store-v3-killed.attributes"));
    let expect = || {
        expect_killed(&store);
        let values = "getfattr --absolute-names --only-values -n user.color $MNT/plain/object $MNT/plain/dir/hard $MNT/plain/dir";
        assert_eq!(store.sh(values), "goldengoldendirectory");
    };
    recovers(&store, &expect);
    let version = store.sh("grep -o '\"format_version\": [0-9]*' $STORE/store.json");
    assert_eq!(version, "\"format_version\": 4\n");
}

#[test]
fn a_store_of_version_2_with_two_layers_is_read_and_written() {
    let store = golden("store-v2-dual");
    let mut mount = store.mount();
    let expect = || {
        assert_eq!(store.sh("cd $MNT/dual; stat -c %s object large sparse"), "11\n300000\n700003\n");
        assert_eq!(store.sh("cat $MNT/dual/object; tr -d '\\0' < $MNT/dual/sparse"), "two layers\nstartend");
        assert!(fs::read(store.mountpoint().join("dual/large")).unwrap() == large());
        let shown = store.sh("for name in object large sparse; do kmsfs stat $MNT/dual/$name; done");
        assert_eq!(shown.matches("\"ServerSideEncryption\": \"aws:kms:dsse\"").count(), 3, "{shown}");
    };
    expect();
    store.sh("echo more >> $MNT/dual/large; echo new > $MNT/dual/new");
    mount.remount();
    assert_eq!(store.sh("tail -c 5 $MNT/dual/large; cat $MNT/dual/new"), "more\nnew\n");
    store.sh("truncate -s 300000 $MNT/dual/large");
    mount.remount();
    expect();
}
