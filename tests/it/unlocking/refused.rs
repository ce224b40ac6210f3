//! Keyrings that are refused, by each command that opens one, with the reason and what to do.

use super::keyring;
use crate::harness::Store;

/// Each command that opens the keyring says so, and does so again once `undo` has run.
#[track_caller]
fn expect_refusal(store: &Store, change: &str, text: &str, undo: &str) {
    store.sh(change);
    store.try_mount("").err().expect("it is refused").expect_failure(1, text);
    store.try_sh("kmsfs kms --store $STORE --key-file $KEY list-keys").expect_failure(1, text);
    keyring(store, "--key-file $KEY add-slot --new-key-file new").expect_failure(1, text);
    assert!(!store.path("new").exists(), "{change}");
    store.sh(undo);
    store.sh("kmsfs kms --store $STORE --key-file $KEY list-keys");
}

#[test]
fn wrong_permissions_are_refused() {
    let store = Store::on_tmpfs();
    store.create_key("alias/x");
    for name in ["slots.json", "keyring", "shred"] {
        let file = format!("$STORE/keyring/{name}");
        let text = format!("{name} is open to others (mode 0640): chmod 600 it");
        expect_refusal(&store, &format!("chmod 640 {file}"), &text, &format!("chmod 600 {file}"));
        let text = format!("{name} belongs to uid 1234, who is neither root nor the caller (uid 0): chown it");
        expect_refusal(&store, &format!("chown 1234 {file}"), &text, &format!("chown 0 {file}"));
        let (away, back) = (format!("mv {file} away; ln -s $PWD/away {file}"), format!("mv away {file}"));
        expect_refusal(
            &store,
            &away,
            &format!("{name} is a symbolic link: name the file itself, or put it there"),
            &back,
        );
    }
    let text = "its directory can be changed by others (mode 0770): chmod 700 it";
    expect_refusal(&store, "chmod 770 $STORE/keyring", text, "chmod 700 $STORE/keyring");
}

#[test]
fn a_lock_that_others_can_take_is_refused_by_those_who_change() {
    let store = Store::on_tmpfs();
    store.create_key("alias/x");
    store.sh("chmod 666 $STORE/keyring/lock");
    let text = "lock is open to others (mode 0666): chmod 600 it";
    keyring(&store, "--key-file $KEY add-slot --new-key-file new").expect_failure(1, text);
    store.try_sh("kmsfs kms --store $STORE --key-file $KEY create-key").expect_failure(254, text);
    store.sh("rm $STORE/keyring/lock; ln -s $PWD/elsewhere $STORE/keyring/lock");
    keyring(&store, "--key-file $KEY remove-slot 0").expect_failure(1, "lock is a symbolic link");
    assert!(!store.path("elsewhere").exists());
}

#[test]
fn damaged_older_newer_and_foreign_keyrings_are_refused() {
    let store = Store::on_tmpfs();
    store.create_key("alias/x");
    store.sh("cp -a $STORE/keyring good");
    let undo = "rm -rf $STORE/keyring; cp -a good $STORE/keyring";
    let damaged = "it is damaged, or not of this slots.json: put back keyring.previous, which lacks the last change, or \
                   a backup, and say so once with --accept-rollback";
    let put = |name: &str, how: &str| format!("{how} > part; chmod 600 part; mv part $STORE/keyring/{name}");
    let good = |name: &str| format!("good/{name}");
    expect_refusal(&store, &put("keyring", &format!("head -c 200 {}", good("keyring"))), damaged, undo);
    expect_refusal(&store, &put("keyring", "true"), damaged, undo);
    let newer = "{ printf 'KMSFSKEY\\3\\0'; tail -c +11 good/keyring; }";
    let text = "it has version 3 and this kmsfs reads version 2: use a newer kmsfs";
    expect_refusal(&store, &put("keyring", newer), text, undo);
    let cut = format!("head -c 50 {}", good("slots.json"));
    expect_refusal(&store, &put("slots.json", &cut), "slots.json is damaged: ", undo);
    let newer = "sed 's/{\"version\":2/{\"version\":3/' good/slots.json";
    let text = "slots.json has version 3 and this kmsfs reads version 2: use a newer kmsfs";
    expect_refusal(&store, &put("slots.json", newer), text, undo);
    let text = "there is none: it has no slots.json";
    expect_refusal(&store, "rm $STORE/keyring/slots.json", text, undo);
    // Another store's, whole and in part.
    store.sh("kmsfs init --key-file $KEY other");
    let foreign = "rm -rf $STORE/keyring; cp -a other/keyring $STORE/keyring";
    expect_refusal(&store, foreign, "it belongs to another store: ", undo);
    expect_refusal(&store, "cp -a other/keyring/keyring $STORE/keyring/keyring", damaged, undo);
    expect_refusal(&store, "cp -a other/keyring/slots.json $STORE/keyring/slots.json", damaged, undo);
}
