//! What opens a keyring: slots, the ways to give what opens them, backups, and what is refused.

mod backups;
mod documented;
mod processes;
mod refused;
mod rotating;
mod sources;
mod terminal;

use crate::harness::{Answer, Store, kmsfs, write_secret};
use serde_json::Value;
use std::fs;
use std::process::{Child, Stdio};

/// `kmsfs keyring` on a store of the harness, in its directory.
fn keyring(store: &Store, words: &str) -> Answer {
    store.try_sh(&format!("kmsfs keyring --store $STORE {words}"))
}

/// `kmsfs WORD --store STORE --key-file KEY WORDS`, which says nothing.
fn start(store: &Store, word: &str, key: &str, words: &[&str]) -> Child {
    let mut command = kmsfs();
    command.arg(word).arg("--store").arg(store.store()).arg("--key-file").arg(store.path(key)).args(words);
    command.current_dir(store.dir()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Its standard output; it has to succeed.
#[track_caller]
fn done(store: &Store, words: &str) -> String {
    let answer = keyring(store, words);
    assert_eq!(answer.code, 0, "{words}: {answer:?}");
    answer.out
}

/// Number and kind of each slot.
fn slots(store: &Store) -> Vec<(u64, String)> {
    let listed: Value = serde_json::from_str(&done(store, "list-slots --json")).unwrap();
    let slots = listed["Slots"].as_array().unwrap().iter();
    slots.map(|slot| (slot["Number"].as_u64().unwrap(), slot["Kind"].as_str().unwrap().to_owned())).collect()
}

fn numbers(store: &Store) -> Vec<u64> {
    slots(store).into_iter().map(|(number, _)| number).collect()
}

#[test]
fn slots_of_each_kind_open_and_are_removed_and_changed() {
    let store = Store::on_tmpfs();
    write_secret(&store.path("pass"), "correct horse\n");
    let added = done(&store, "--key-file $KEY add-slot --new-passphrase-file pass --name me");
    assert!(added.starts_with("Added slot 1: passphrase, Argon2id with ") && added.contains(" MiB, "), "{added}");
    let recovery = done(&store, "--passphrase-file pass add-slot --new-recovery-key 2> told");
    assert_eq!((recovery.trim().len(), recovery.lines().count()), (47, 1));
    let told = store.sh("cat told");
    assert!(told.starts_with("Added slot 2: recovery-key\n") && told.contains("shown this once"), "{told}");
    assert!(!told.contains(recovery.trim()), "it goes where standard output goes");
    write_secret(&store.path("paper"), &recovery.to_lowercase().replace('-', " "));
    assert_eq!(done(&store, "check-recovery-key paper"), "The recovery key is right: it opens slot 2, recovery-key\n");
    done(&store, "--recovery-key-file - add-slot --new-key-file second < paper");
    assert_eq!(store.sh("stat -c '%a %s' second"), "600 32\n");
    let kinds = ["key-file", "passphrase", "recovery-key", "key-file"].map(str::to_owned);
    assert_eq!(slots(&store), (0..).zip(kinds).collect::<Vec<_>>());

    let removed = done(&store, "--key-file second remove-slot 0");
    assert!(removed.starts_with("Removed slot 0. These remain:\nSLOT  KIND "), "{removed}");
    assert_eq!(keyring(&store, "--key-file $KEY remove-slot 1").code, 3, "the first key file opens nothing any more");
    assert_eq!(done(&store, "--key-file second change --new-key-file third"), "Changed slot 3: key-file\n");
    assert_eq!(keyring(&store, "--key-file second remove-slot 1").code, 3);
    write_secret(&store.path("pass"), "battery staple\n");
    done(&store, "--key-file third change --slot 1 --new-passphrase-file pass");
    assert!(done(&store, "list-slots").contains("  me\n"), "its name stays");
    done(&store, "--passphrase-file pass remove-slot 3");
    done(&store, "--passphrase-file pass remove-slot 2");
    let last = keyring(&store, "--passphrase-file pass remove-slot 1");
    last.expect_failure(1, "slot 1 is the last one: without it nothing can be read again");
    assert_eq!(numbers(&store), [1]);
}

#[test]
fn nothing_of_a_slot_that_went_is_left_in_the_keyring() {
    let store = Store::on_tmpfs();
    let before = fs::read_to_string(store.store().join("keyring/slots.json")).unwrap();
    let wrapped = before.split("\"root_key\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    done(&store, "--key-file $KEY add-slot --new-key-file second");
    done(&store, "--key-file second remove-slot 0");
    store.sh("kmsfs kms --store $STORE --key-file second create-key");
    for entry in fs::read_dir(store.store().join("keyring")).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(&wrapped));
    }
}

#[test]
fn lists_and_messages_show_nothing_secret() {
    let store = Store::on_tmpfs();
    write_secret(&store.path("pass"), "correct horse\n");
    let mut said = done(&store, "--key-file $KEY add-slot --new-passphrase-file pass");
    said += &done(&store, "list-slots");
    said += &done(&store, "list-slots --json");
    let file = fs::read_to_string(store.store().join("keyring/slots.json")).unwrap();
    let secrets = file.split('"').filter(|word| word.len() >= 32 && word.bytes().all(|b| b.is_ascii_hexdigit()));
    let secrets: Vec<_> = secrets.collect();
    assert_eq!(secrets.len(), 10, "four keys a slot, sealed or public; a salt, and what authenticates them");
    assert!(!said.contains("horse") && secrets.iter().all(|secret| !said.contains(secret)), "{said}");
}

#[test]
fn a_mount_does_not_need_the_slots_again() {
    let store = Store::on_tmpfs();
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    fs::write(bucket.join("object"), "before").unwrap();
    done(&store, "--key-file $KEY add-slot --new-key-file second");
    done(&store, "--key-file second remove-slot 0 --keep-root-key");
    fs::write(bucket.join("other"), "after").unwrap();
    mount.set_default("bucket", crate::harness::KMS, false);
    fs::write(bucket.join("kms"), "a key made by the mount").unwrap();
    let slots_json = store.store().join("keyring/slots.json");
    fs::rename(&slots_json, store.path("away")).unwrap();
    fs::write(bucket.join("third"), "without it").unwrap();
    assert_eq!(fs::read_to_string(bucket.join("object")).unwrap(), "before");
    fs::rename(store.path("away"), &slots_json).unwrap();
    mount.unmount();
    store.try_mount("").err().expect("its key file is gone").expect_failure(3, "wrong key file");
    store.sh("mv second key");
    let mount = store.mount();
    let texts = ["object", "other", "kms", "third"].map(|name| fs::read_to_string(mount.path("bucket").join(name)));
    assert_eq!(texts.map(Result::unwrap), ["before", "after", "a key made by the mount", "without it"]);
}

#[test]
fn a_key_file_that_opens_nothing_is_not_left_behind() {
    let store = Store::on_tmpfs();
    let refused = keyring(&store, "--key-file $KEY add-slot --new-key-file second --name \"$(printf 'a\\nb')\"");
    refused.expect_failure(1, "a slot's name has 1 to 64 characters, none of them a control character");
    assert!(!store.path("second").exists());
    assert_eq!(numbers(&store), [0]);
}

#[test]
fn wrong_usage_is_told_as_everywhere() {
    let store = Store::on_tmpfs();
    for words in [
        "",
        "add-slot --new-key-file a --new-recovery-key",
        "--key-file a --credential b list-slots",
        "remove-slot",
        "remove-slot first",
        "add-slot --passphrase word",
    ] {
        assert_eq!(keyring(&store, words).code, 2, "{words}");
    }
    let none = keyring(&store, "--key-file $KEY remove-slot 7");
    none.expect_failure(1, "there is no slot 7: there are 0");
}
