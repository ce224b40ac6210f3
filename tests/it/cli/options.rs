//! One set of options and variables for every command.

use crate::harness::Store;

/// What comes after it is said in the environment alone.
const ENVIRONMENT: &str = "export KMSFS_STORE=$STORE KMSFS_KEY_FILE=$KEY\n";

#[test]
fn every_command_knows_store_and_key_by_the_environment() {
    let store = Store::absent();
    store.sh(&format!(
        "{ENVIRONMENT}kmsfs init | grep -q 'key file.*new: keep a copy elsewhere'
         kmsfs mount -o log_file=log $MNT
         mkdir $MNT/bucket; echo content > $MNT/bucket/object
         kmsfs kms create-key > /dev/null; kmsfs kms list-keys | grep -q KeyArn
         kmsfs iam list-access-keys | grep -q AccessKeyMetadata
         kmsfs keyring list-slots | grep -q key-file
         kmsfs keyring add-slot --new-recovery-key > on-paper 2> /dev/null; chmod 600 on-paper
         umount $MNT"
    ));
    store.wait_until_closed();
    store.sh(&format!("{ENVIRONMENT}kmsfs fsck --scrub | grep -q '1 object,'"));
    // Each of the other variables, in place of that of the key file.
    store.sh(
        "export KMSFS_STORE=$STORE
         KMSFS_RECOVERY_KEY_FILE=on-paper kmsfs keyring add-slot --new-passphrase-command 'echo correct horse' > /dev/null
         echo correct horse > pass; chmod 600 pass
         KMSFS_PASSPHRASE_FILE=pass kmsfs kms list-keys | grep -q KeyArn
         KMSFS_PASSPHRASE_COMMAND='cat pass' kmsfs fsck > /dev/null
         KMSFS_CREDENTIAL=pass CREDENTIALS_DIRECTORY=$PWD kmsfs mount -o log_file=log $MNT; umount $MNT",
    );
    store.wait_until_closed();
    store
        .sh("mv $STORE/keyring ring; KMSFS_STORE=$STORE KMSFS_KEYRING=ring KMSFS_KEY_FILE=$KEY kmsfs fsck > /dev/null");
}

#[test]
fn options_stand_before_or_after_the_operation_and_win_over_the_environment() {
    let store = Store::new();
    for line in [
        "kmsfs --store $STORE --key-file=$KEY kms list-keys",
        "kmsfs kms --store $STORE --key-file $KEY list-keys",
        "kmsfs kms list-keys --store $STORE --key-file $KEY",
        "kmsfs --key-file $KEY kms list-keys --limit 3 --store=$STORE",
        "KMSFS_STORE=/nowhere KMSFS_CREDENTIAL=none kmsfs kms list-keys --store $STORE --key-file $KEY",
        "KMSFS_KEY_FILE=none kmsfs kms --key-file $KEY list-keys --store $STORE",
    ] {
        assert!(store.sh(line).contains("\"Keys\": []"), "{line}");
    }
    store.sh("kmsfs --store $STORE mount --key-file $KEY -o log_file=log $MNT; mountpoint -q $MNT; umount $MNT");
    store.wait_until_closed();
    store.sh("KMSFS_KEY_FILE=none KMSFS_KEYRING=none kmsfs mount -o key-file=$KEY,keyring=$STORE/keyring,log_file=log $STORE $MNT");
    store.sh("umount $MNT");
    store.wait_until_closed();
    store.try_sh("kmsfs --store $STORE status $MNT").expect_failure(2, "unexpected argument '--store'");
}

#[test]
fn a_mount_point_stands_for_its_store() {
    let store = Store::new();
    let _mount = store.mount();
    assert!(store.sh("kmsfs kms --store $MNT --key-file $KEY list-keys").contains("\"Keys\": []"));
    assert!(store.sh("kmsfs keyring --store $MNT list-slots").contains("key-file"));
    assert!(store.sh("kmsfs status $STORE").contains("Mountpoint:"));
    store.sh("kmsfs sync $STORE");
    store.sh("mkdir $MNT/bucket");
    store
        .try_sh("kmsfs status $MNT/bucket")
        .expect_failure(1, "is not a mount of a kmsfs store, but lies in the one on ");
}

#[test]
fn what_is_missing_or_said_twice_is_named() {
    let store = Store::new();
    let none = "no store was named: say --store DIR, or set KMSFS_STORE; a mount point will do";
    store.try_sh("kmsfs kms list-keys").expect_failure(252, none);
    store.try_sh("kmsfs iam list-access-keys").expect_failure(252, none);
    store.try_sh("kmsfs keyring list-slots").expect_failure(2, none);
    store.try_sh("kmsfs fsck").expect_failure(16, none);
    store.try_sh("kmsfs mount").expect_failure(2, none);
    store.try_sh("kmsfs init").expect_failure(2, none);
    store.try_sh("kmsfs mount $STORE").expect_failure(2, "no mount point was named: kmsfs mount ");
    store.try_sh("kmsfs fsck --store $STORE $STORE").expect_failure(16, "the store is named twice, by ");
    let two = "KMSFS_KEY_FILE=$KEY KMSFS_CREDENTIAL=none kmsfs kms --store $STORE list-keys";
    store
        .try_sh(two)
        .expect_failure(252, "KMSFS_KEY_FILE and KMSFS_CREDENTIAL are both set: unset one, or say an option");
    let two = "kmsfs kms --key-file $KEY list-keys --passphrase-file pass --store $STORE";
    store.try_sh(two).expect_failure(252, "--key-file and --passphrase-file are both given: say one of them");
}
