//! Backups of a keyring.

use super::{done, keyring, numbers};
use crate::harness::{KMS, Store};
use std::fs;

#[test]
fn a_lost_keyring_comes_back_and_all_objects_are_read_again() {
    let store = Store::on_tmpfs();
    let key = store.create_key("alias/mine");
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    fs::write(bucket.join("plain"), "under AES256").unwrap();
    mount.set_default("bucket", KMS, false);
    fs::write(bucket.join("kms"), "under aws/s3").unwrap();
    store.sh(&format!("kmsfs put --server-side-encryption aws:kms --ssekms-key-id {key} $KEY $MNT/bucket/mine"));
    // While it is mounted, and without a key.
    let said = done(&store, "backup saved");
    assert!(said.starts_with("Wrote the backup saved, ") && said.contains("sealed"), "{said}");
    assert_eq!(store.sh("stat -c %a saved; ls | grep -c saved"), "600\n1\n");
    mount.unmount();
    store.sh("mv $STORE/keyring lost");
    store.try_mount("").err().expect("there is no keyring").expect_failure(1, "there is none: it has no slots.json");
    let restored = done(&store, "--key-file $KEY restore saved");
    assert!(restored.starts_with("Restored generation ") && !restored.contains("What was there"), "{restored}");
    assert_eq!(
        store.sh("stat -c %a $STORE/keyring $STORE/keyring/slots.json $STORE/keyring/keyring"),
        "700\n600\n600\n"
    );
    let mount = store.mount();
    let bucket = mount.path("bucket");
    assert_eq!(fs::read_to_string(bucket.join("plain")).unwrap(), "under AES256");
    assert_eq!(fs::read_to_string(bucket.join("kms")).unwrap(), "under aws/s3");
    assert_eq!(fs::read(bucket.join("mine")).unwrap(), fs::read(store.path("key")).unwrap());
}

#[test]
fn what_is_newer_stays_unless_it_is_forced_and_is_kept_then() {
    let store = Store::on_tmpfs();
    done(&store, "backup saved");
    let key = store.create_key("alias/later");
    let refused = keyring(&store, "--key-file $KEY restore saved");
    refused
        .expect_failure(1, "backup saved: what is there is newer: generation 4, the backup has 2; --force goes back");
    assert!(store.sh("kmsfs kms --store $STORE --key-file $KEY list-keys").contains(&key));
    let said = done(&store, "--key-file $KEY restore --force saved");
    assert!(said.contains("/keyring/replaced.0: delete it when you do not need it"), "{said}");
    assert!(!store.sh("kmsfs kms --store $STORE --key-file $KEY list-keys").contains(&key));
    store.sh("cp $STORE/keyring/replaced.0/* $STORE/keyring/");
    assert!(store.sh("kmsfs kms --store $STORE --key-file $KEY list-keys").contains(&key));
}

#[test]
fn a_removed_slot_comes_back_only_by_force() {
    let store = Store::on_tmpfs();
    done(&store, "--key-file $KEY add-slot --new-key-file second");
    done(&store, "backup saved");
    done(&store, "--key-file $KEY remove-slot 1");
    let refused = keyring(&store, "--key-file second restore saved");
    refused.expect_failure(
        1,
        "the slots were changed since: a slot that was removed would open it again; --force goes back",
    );
    assert_eq!(numbers(&store), [0]);
}

#[test]
fn what_is_no_good_backup_of_this_store_is_refused_and_changes_nothing() {
    let store = Store::on_tmpfs();
    done(&store, "backup saved");
    let before = store.sh("sha256sum $STORE/keyring/*");
    let again = keyring(&store, "backup saved");
    again.expect_failure(1, "backup saved: it exists already: name another file");
    store.sh("kmsfs init --key-file $KEY other; kmsfs keyring --store other backup foreign
         head -c 100 saved > short; cp saved newer; printf '\\3' | dd of=newer bs=1 seek=8 conv=notrunc status=none
         head -c 32 /dev/urandom > wrong; chmod 600 wrong");
    let cases = [
        ("--key-file $KEY restore --force foreign", 1, "backup foreign: it is of another store: "),
        ("--key-file $KEY restore --force short", 1, "backup short: it is damaged: use another backup"),
        (
            "--key-file $KEY restore --force newer",
            1,
            "it has version 3 and this kmsfs reads version 2: use a newer kmsfs",
        ),
        ("--key-file $KEY restore --force key", 1, "backup key: it is no backup of a keyring"),
        ("--key-file $KEY restore --force none", 1, "backup none: No such file or directory"),
        (
            "--key-file wrong restore --force saved",
            3,
            "wrong key file or passphrase: it does not open the keyring saved",
        ),
    ];
    for (words, code, text) in cases {
        keyring(&store, words).expect_failure(code, text);
        assert_eq!(store.sh("sha256sum $STORE/keyring/*"), before, "{words}");
    }
    store.sh("echo damage > $STORE/keyring/keyring; chmod 600 $STORE/keyring/keyring");
    keyring(&store, "backup damaged").expect_failure(1, "it is damaged, or not of this slots.json");
    assert!(!store.path("damaged").exists());
}
