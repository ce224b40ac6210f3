//! The root key changes, and key material is destroyed for good.

use super::{done, keyring, numbers, start};
use crate::harness::{Mount, Store, kms_with};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Until it is so; a mount looks at its keyring five times a second.
#[track_caller]
fn soon(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A mount with a bucket under a key of its own, and an object in it.
fn mounted(store: &Store) -> Mount {
    let key = store.create_key("alias/x");
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    mount.set_default("bucket", &kms_with(&key), false);
    fs::write(bucket.join("object"), "content").unwrap();
    mount
}

#[test]
fn a_mount_follows_when_the_root_key_changes() {
    let store = Store::on_tmpfs();
    let mount = mounted(&store);
    done(&store, "--key-file $KEY add-slot --new-key-file second");
    let removed = done(&store, "--key-file second remove-slot 1");
    assert!(removed.starts_with("Removed slot 1. These remain:"), "{removed}");
    let changed = done(&store, "--key-file $KEY change-root-key");
    assert!(changed.starts_with("Changed the root key. These slots give the new one:\nSLOT  KIND "), "{changed}");
    // What the mount does next with keys, and what is done elsewhere.
    let later = store.create_key("alias/later");
    store.sh(&format!("kmsfs put --server-side-encryption aws:kms --ssekms-key-id {later} $KEY $MNT/bucket/later"));
    fs::write(mount.path("bucket").join("other"), "after").unwrap();
    assert_eq!(fs::read_to_string(mount.path("bucket").join("object")).unwrap(), "content");
    store.kms(&format!("disable-key --key-id {later}"));
    soon("the mount sees a key that is disabled", || fs::read(mount.path("bucket").join("later")).is_err());
    mount.unmount();
    let mount = store.mount();
    assert_eq!(fs::read_to_string(mount.path("bucket").join("other")).unwrap(), "after");
    assert_eq!(numbers(&store), [0]);
}

#[test]
fn a_mount_whose_slot_went_is_out_until_it_is_mounted_anew() {
    let store = Store::on_tmpfs();
    let mount = mounted(&store);
    done(&store, "--key-file $KEY add-slot --new-key-file second");
    done(&store, "--key-file second remove-slot 0");
    soon("nothing new is made", || fs::write(mount.path("bucket").join("new"), "x").is_err());
    assert!(store.log().contains("the slot that unlocked it was removed or changed, and the root key since"));
    mount.unmount();
    store.sh("mv second $KEY");
    let mount = store.mount();
    assert_eq!(fs::read_to_string(mount.path("bucket").join("object")).unwrap(), "content");
}

/// The golden keyring, opened by a key file and a passphrase.
#[test]
fn slots_of_an_older_kmsfs_are_named_until_they_were_used_once() {
    let store = Store::on_tmpfs();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/store-v1");
    let key = golden.with_file_name("store-v1.key");
    store.sh(&format!(
        "rm -rf $STORE; cp -r {} $STORE; cp {} $KEY; chmod -R go= $STORE $KEY; printf 'correct horse' > pass
         chmod 600 pass",
        golden.display(),
        key.display()
    ));
    let slots = fs::read_to_string(store.store().join("keyring/slots.json")).unwrap();
    assert!(slots.starts_with(r#"{"version":1,"#));
    // Two slots as the older one wrote them: the second is not unlocked through.
    let second = slots.replacen(r#""slots":["#, r#""slots":[{"kind":"key-file","root_key":"00"},"#, 1);
    let list = &second[second.find('[').unwrap()..=second.rfind(']').unwrap()];
    let crc = crc32fast::hash(list.as_bytes());
    let file = format!(r#"{{"version":1,"slots":{list},"crc32":{crc}}}"#);
    fs::write(store.store().join("keyring/slots.json"), file).unwrap();
    let refused = keyring(&store, "--key-file $KEY change-root-key");
    let text = "the root key cannot change for slot 0, which an older kmsfs made: unlock with it once, or drop what is \
                left out with --force";
    refused.expect_failure(1, text);
    done(&store, "--key-file $KEY add-slot --new-key-file second");
    keyring(&store, "--key-file second remove-slot 1").expect_failure(1, text);
    done(&store, "--key-file second remove-slot 1 --force");
    assert_eq!(numbers(&store), [2]);
    store.sh("mv second $KEY");
    let mount = store.mount();
    assert!(fs::read_dir(mount.path("")).unwrap().count() > 0);
}

#[test]
fn an_audit_log_is_one_chain_before_and_after() {
    let store = Store::on_tmpfs();
    let kms = "kmsfs kms --store $STORE --key-file $KEY";
    store.sh(&format!("{kms} --audit-log audit.log create-key"));
    done(&store, "--key-file $KEY change-root-key");
    store.sh(&format!("{kms} --audit-log audit.log create-key"));
    assert!(store.sh(&format!("{kms} verify-audit-log audit.log")).starts_with("2 records are authentic\n"));
}

#[test]
fn a_process_that_is_killed_while_it_changes_the_root_key_leaves_a_keyring_that_every_slot_opens() {
    let store = Store::on_tmpfs();
    let mount = mounted(&store);
    done(&store, "--key-file $KEY add-slot --new-key-file second");
    let (mut moment, mut ended) = (Duration::ZERO, 0);
    while ended < 3 {
        let mut child = start(&store, "keyring", "second", &["change-root-key"]);
        std::thread::sleep(moment);
        moment += Duration::from_millis(2);
        child.kill().unwrap();
        ended += usize::from(child.wait().unwrap().success());
        for key in ["key", "second"] {
            store.sh(&format!(
                "kmsfs kms --store $STORE --key-file {key} generate-data-key --key-id alias/x \
                               --key-spec AES_256"
            ));
        }
        fs::write(mount.path("bucket").join("object"), "content").unwrap();
    }
    assert!(!store.store().join("keyring/keyring.next").exists());
}
