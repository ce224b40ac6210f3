//! Many processes at once, and some that are killed.

use super::{done, numbers, start};
use crate::harness::Store;
use std::fs;
use std::time::Duration;

#[test]
fn slots_and_keys_changed_by_many_at_once_beside_a_mount_are_all_there() {
    const EACH: usize = 6;
    let store = Store::on_tmpfs();
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    // To be removed meanwhile.
    (0..EACH).for_each(|n| drop(done(&store, &format!("--key-file $KEY add-slot --new-key-file old{n}"))));
    let mut children = Vec::new();
    for n in 0..EACH {
        children.push(start(&store, "keyring", "key", &["add-slot", "--new-key-file", &format!("new{n}")]));
        children.push(start(&store, "keyring", "key", &["remove-slot", &(n + 1).to_string()]));
        children.push(start(&store, "kms", "key", &["create-key"]));
        fs::write(bucket.join(n.to_string()), "content").unwrap();
    }
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    assert_eq!(numbers(&store).len(), 1 + EACH);
    for n in 0..EACH {
        let key = |name: &str| store.try_sh(&format!("kmsfs kms --store $STORE --key-file {name}{n} list-keys"));
        assert_eq!(key("new").out.matches("KeyArn").count(), EACH);
        assert_eq!(key("old").code, 3);
        assert_eq!(fs::read_to_string(bucket.join(n.to_string())).unwrap(), "content");
    }
}

#[test]
fn a_process_that_is_killed_while_it_changes_a_slot_leaves_one_secret_or_the_other() {
    let store = Store::on_tmpfs();
    store.sh("head -c 32 /dev/urandom > a; cp $KEY b; chmod 600 a b");
    // `b` opens; ever later moments, until some have come to their end.
    let (mut moment, mut ended, mut exchanged) = (Duration::ZERO, 0, 0);
    while ended < 3 {
        let mut child = start(&store, "keyring", "b", &["change", "--new-key-file", "a"]);
        std::thread::sleep(moment);
        moment += Duration::from_micros(100);
        child.kill().unwrap();
        ended += usize::from(child.wait().unwrap().success());
        let opens =
            |name: &str| store.try_sh(&format!("kmsfs kms --store $STORE --key-file {name} list-keys")).code == 0;
        let (a, b) = (opens("a"), opens("b"));
        assert!(a != b, "one of the two opens it, after {moment:?}: {a} {b}");
        assert_eq!(numbers(&store), [0]);
        if a {
            store.sh("mv a c; mv b a; mv c b");
            exchanged += 1;
        }
    }
    assert!(exchanged >= 3);
    assert!(!store.store().join("keyring/slots.json.new").exists());
}

#[test]
fn a_process_that_is_killed_while_it_restores_leaves_a_keyring_that_opens() {
    let store = Store::on_tmpfs();
    done(&store, "backup before");
    let key = store.create_key("alias/x");
    done(&store, "backup after");
    let (mut moment, mut ended, mut file) = (Duration::ZERO, 0, "before");
    while ended < 3 {
        let mut child = start(&store, "keyring", "key", &["restore", "--force", file]);
        std::thread::sleep(moment);
        moment += Duration::from_micros(200);
        child.kill().unwrap();
        ended += usize::from(child.wait().unwrap().success());
        let listed = store.sh("kmsfs kms --store $STORE --key-file $KEY list-keys");
        if listed.contains(&key) == (file == "after") {
            file = if file == "after" { "before" } else { "after" };
        }
    }
    done(&store, "--key-file $KEY restore --force after");
    assert!(store.sh("kmsfs kms --store $STORE --key-file $KEY list-keys").contains(&key));
}
