//! What was last seen of a store is kept outside it: one that was put back, or another copy, is refused.

use crate::harness::{Answer, STATE, Store, files_below, kms_with, wait_until};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The option for a state directory of the test's own.
fn state(store: &Store) -> String {
    format!("state={}", store.path("state").display())
}

/// What is kept of the one store.
fn record(store: &Store, name: &str) -> PathBuf {
    let [dir] = &fs::read_dir(store.path("state")).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>()[..]
    else {
        panic!("not one store's")
    };
    dir.join(name)
}

/// A mount that writes a file.
fn use_once(store: &Store, file: &str) {
    let mount = store.mount_with(&state(store));
    let bucket = mount.path("bucket");
    fs::create_dir_all(&bucket).unwrap();
    fs::write(bucket.join(file), file).unwrap();
    mount.unmount();
}

fn put(store: &Store, from: &str, to: &str) {
    store.sh(&format!("rm -rf {to}; cp -a {from} {to}"));
}

type Everything = Vec<(PathBuf, Vec<u8>, i64, u32)>;

fn everything(dir: &Path) -> Everything {
    let of = |path: PathBuf| {
        let metadata = fs::metadata(&path).unwrap();
        (path.clone(), fs::read(path).unwrap(), metadata.mtime_nsec(), metadata.mode())
    };
    files_below(dir).into_iter().map(of).collect()
}

#[track_caller]
fn is_refused(answer: &Answer) {
    assert_eq!(answer.code, 5, "{answer:?}");
    assert!(answer.err.contains("was put back to an earlier state"), "{answer:?}");
    assert!(answer.err.contains("--accept-rollback"), "{answer:?}");
}

#[test]
fn a_store_that_was_put_back_is_refused_and_left_alone_until_it_is_accepted() {
    let store = Store::on_tmpfs();
    use_once(&store, "first");
    put(&store, "store", "earlier");
    use_once(&store, "second");
    put(&store, "store", "later");
    put(&store, "earlier", "store");
    let before = (everything(store.store()), everything(&store.path("state")));
    is_refused(&store.try_mount(&state(&store)).err().expect("it mounts"));
    is_refused(&store.try_mount(&format!("ro,{}", state(&store))).err().expect("it mounts read-only"));
    is_refused(&store.try_sh("kmsfs mount --state state --key-file $KEY -o log_file=$PWD/log $STORE $MNT"));
    is_refused(&store.try_sh_private("mount -t kmsfs $STORE $MNT -o key-file=$KEY,log_file=$PWD/log,state=$PWD/state"));
    let checked = store.try_sh("kmsfs fsck --state state --key-file $KEY $STORE");
    assert_eq!(checked.code, 4, "{checked:?}");
    assert!(checked.out.contains("ERROR: store: the store was put back to an earlier state: on 20"), "{checked:?}");
    let repaired = store.try_sh("kmsfs fsck --repair --state state --key-file $KEY $STORE");
    assert!(repaired.code == 8 && repaired.err.contains("--accept-rollback"), "{repaired:?}");
    assert!(before == (everything(store.store()), everything(&store.path("state"))), "something was changed");

    put(&store, "later", "store");
    use_once(&store, "third");
    put(&store, "earlier", "store");
    let taken = store.sh("kmsfs fsck --accept-rollback --state state --key-file $KEY $STORE");
    assert!(taken.ends_with("0 errors left, 0 findings mended\n"), "{taken}");
    use_once(&store, "other");
    put(&store, "later", "store");
    let refused = store.try_mount(&state(&store)).err().expect("the other way is gone on with");
    assert!(
        refused.code == 5 && refused.err.contains("another copy of the store has gone on by itself"),
        "{refused:?}"
    );
    store.sh(
        "kmsfs mount --accept-rollback --state state --key-file $KEY -o log_file=$PWD/log $STORE $MNT; umount $MNT",
    );
    assert!(store.log().contains("accepted as it is: another copy of the store"), "{}", store.log());
}

/// The process behind a mount may open nothing any more, and goes on telling.
#[test]
fn a_mount_tells_what_is_seen_while_it_is_used_and_when_it_ends() {
    let store = Store::on_tmpfs();
    let mount = store.mount_with(&state(&store));
    let bucket = mount.bucket("bucket");
    fs::write(bucket.join("file"), "content").unwrap();
    store.sh("kmsfs sync $MNT");
    put(&store, "store", "earlier");
    mount.unmount();
    put(&store, "earlier", "store");
    is_refused(&store.try_mount(&state(&store)).err().expect("it mounts"));
}

#[test]
fn of_two_copies_that_both_went_on_the_second_is_refused() {
    let store = Store::on_tmpfs();
    use_once(&store, "first");
    put(&store, "store", "copy");
    use_once(&store, "second");
    put(&store, "store", "original");
    put(&store, "copy", "store");
    for _ in 0..4 {
        // Elsewhere, where nobody knows of the other.
        let mount = store.mount();
        fs::write(mount.path("bucket/elsewhere"), "content").unwrap();
        mount.unmount();
    }
    let refused = store.try_mount(&state(&store)).err().expect("both are taken");
    assert!(refused.code == 5 && refused.err.contains("another copy of the store"), "{refused:?}");
    put(&store, "original", "store");
    use_once(&store, "third");
}

#[test]
fn a_killed_mount_is_never_taken_for_one_that_was_put_back() {
    let store = Store::on_tmpfs();
    let option = state(&store);
    use_once(&store, "first");
    for round in 0..12 {
        let mount = store.mount_with(&option);
        fs::write(mount.path("bucket/file"), round.to_string()).unwrap();
        if round % 3 == 0 {
            store.sh("kmsfs sync $MNT");
        }
        mount.kill9();
        // Killed while it opens the store, at another moment each time.
        for moment in 1..6 {
            let seconds = f64::from(round * 5 + moment) / 400.0;
            store.try_sh(&format!(
                "timeout -s KILL {seconds} kmsfs mount --foreground --key-file $KEY -o {option},log_file=$PWD/log $STORE $MNT
                 umount -l $MNT 2>/dev/null || true"
            ));
            store.wait_until_closed();
        }
    }
    let checked = store.sh("kmsfs fsck --state state --key-file $KEY $STORE");
    assert!(checked.contains("0 errors left"), "{checked}");
    use_once(&store, "last");
}

#[test]
fn a_changed_record_is_refused_a_lost_one_is_a_first_sight_and_a_new_store_is_another() {
    let store = Store::on_tmpfs();
    use_once(&store, "first");
    let path = record(&store, "store");
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.len(), metadata.mode() & 0o7777), (512, 0o600));
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o7777, 0o700);
    let right = fs::read(&path).unwrap();
    let (mut flipped, zeros) = (right.clone(), vec![0; 512]);
    flipped[12] ^= 1;
    for wrong in [&flipped, &zeros, &right[..100].to_vec(), &Vec::new()] {
        fs::write(&path, wrong).unwrap();
        let refused = store.try_mount(&state(&store)).err().expect("it mounts");
        assert!(
            refused.code == 5 && refused.err.contains("what was last seen of the store was changed"),
            "{refused:?}"
        );
    }
    store.sh(&format!("chmod 644 {}", path.display()));
    let refused = store.try_mount(&state(&store)).err().expect("it mounts");
    assert!(refused.code == 1 && refused.err.contains("is open to others (mode 0644)"), "{refused:?}");
    fs::remove_file(&path).unwrap();
    use_once(&store, "second");
    store.sh("rm -r store; kmsfs init --key-file $KEY $STORE");
    use_once(&store, "third");
    assert_eq!(fs::read_dir(store.path("state")).unwrap().count(), 2);
}

#[test]
fn a_directory_that_was_named_has_to_be_usable_and_the_usual_one_need_not_be() {
    let store = Store::new();
    store.sh("touch file");
    for how in ["--state file", "--state /proc/kmsfs", "-o state=$PWD/file"] {
        let refused = store.try_sh(&format!("kmsfs mount {how} --key-file $KEY -o log_file=$PWD/log $STORE $MNT"));
        assert_eq!(refused.code, 1, "{how}: {refused:?}");
        assert!(refused.err.contains("what was last seen of the store cannot be kept in"), "{how}: {refused:?}");
        assert!(refused.err.contains("--state none goes without"), "{how}: {refused:?}");
    }
    let refused = store.try_sh(&format!("{STATE}=$PWD/file kmsfs fsck --key-file $KEY $STORE"));
    assert_eq!(refused.code, 8, "{refused:?}");
    // The process behind a mount is in another directory.
    for (variable, option) in [("mine", ""), ("none", "--state mine")] {
        store.sh(&format!(
            "rm -rf mine; export {STATE}={variable}
             kmsfs mount {option} --key-file $KEY -o log_file=$PWD/log $STORE $MNT; umount $MNT; test -f mine/*/store"
        ));
        store.wait_until_closed();
    }
    let usual = format!("unset {STATE}; kmsfs mount --key-file $KEY -o log_file=$PWD/log $STORE $MNT; umount $MNT");
    let answer = store.try_sh_private(&format!("mount -t tmpfs -o ro none /var/lib; {usual}"));
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(store.log().contains("a rollback of the store goes unnoticed"), "{}", store.log());
    store.wait_until_closed();
    let answer =
        store.try_sh_private(&format!("mount -t tmpfs none /var/lib; {usual}; stat -c %a /var/lib/kmsfs/*/store"));
    assert_eq!((answer.code, answer.out.trim()), (0, "600"), "{answer:?}");
}

#[test]
fn a_user_who_is_not_root_has_a_directory_of_his_own() {
    let store = Store::new();
    let answer = store.sh_mounting_as(
        65534,
        &format!(
            "unset {STATE}; export HOME=$PWD; kmsfs init --key-file $KEY $STORE >/dev/null; up; down
             stat -c %a .local/state/kmsfs/*/store; XDG_STATE_HOME=$PWD/xdg up; down; stat -c %a xdg/kmsfs/*/store"
        ),
    );
    assert_eq!((answer.code, answer.out.as_str()), (0, "600\n600\n"), "{answer:?}");
}

fn kms(store: &Store, words: &str) -> Answer {
    store.try_sh(&format!("kmsfs kms --state state --store $STORE --key-file $KEY {words}"))
}

/// A key, and the keyring with it enabled, in `enabled`; then it is disabled.
fn disabled_key(store: &Store) -> String {
    let made = kms(store, "create-key");
    let made: serde_json::Value = serde_json::from_str(&made.out).unwrap();
    let key = made["KeyMetadata"]["Arn"].as_str().unwrap().to_owned();
    put(store, "store/keyring", "enabled");
    assert_eq!(kms(store, &format!("disable-key --key-id {key}")).code, 0);
    key
}

#[test]
fn a_keyring_that_was_put_back_is_refused_by_every_command_until_it_is_accepted_or_restored() {
    let store = Store::on_tmpfs();
    use_once(&store, "first");
    store.sh("kmsfs keyring --store $STORE backup backup");
    let key = disabled_key(&store);
    put(&store, "store/keyring", "disabled");
    put(&store, "enabled", "store/keyring");
    is_refused(&store.try_mount(&state(&store)).err().expect("it mounts"));
    is_refused(&kms(&store, "list-keys"));
    is_refused(&store.try_sh("kmsfs keyring --state state --store $STORE --key-file $KEY change-root-key"));
    let checked = store.try_sh("kmsfs fsck --state state --key-file $KEY $STORE");
    assert_eq!(checked.code, 4, "{checked:?}");
    assert!(checked.out.contains("ERROR: keyring: it was put back to an earlier state: on 20"), "{checked:?}");
    // What is put back knowingly.
    assert_eq!(kms(&store, "--help").code, 0);
    let taken = store.try_sh("kmsfs kms --accept-rollback --state state --store $STORE --key-file $KEY list-keys");
    assert!(taken.code == 0 && taken.out.contains(&key), "{taken:?}");
    use_once(&store, "second");
    put(&store, "disabled", "store/keyring");
    store.sh("kmsfs keyring --state state --store $STORE --key-file $KEY restore --force backup");
    assert!(!kms(&store, "list-keys").out.contains(&key));
    use_once(&store, "third");
}

#[test]
fn a_keyring_that_is_put_back_under_a_mount_enables_no_key_there() {
    let store = Store::on_tmpfs();
    let made = store.create_key("alias/key");
    let mount = store.mount_with(&state(&store));
    mount.bucket("bucket");
    mount.set_default("bucket", &kms_with(&made), false);
    let file = mount.path("bucket/file");
    fs::write(&file, "content").unwrap();
    put(&store, "store/keyring", "enabled");
    assert_eq!(kms(&store, &format!("disable-key --key-id {made}")).code, 0);
    let is_closed = || fs::read(&file).is_err_and(|error| error.raw_os_error() == Some(libc::EACCES));
    assert!(wait_until(is_closed), "{}", store.log());
    store.sh("cp -a enabled/keyring store/keyring/put && mv store/keyring/put store/keyring/keyring");
    assert!(wait_until(|| store.log().contains("it was put back to an earlier state: generation")), "{}", store.log());
    for _ in 0..20 {
        assert!(is_closed(), "the key is enabled again");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    // Through its own command it comes back, as a newer one.
    store.sh("kmsfs keyring --store $STORE backup backup");
    let restored = "kmsfs keyring --state state --store $STORE --key-file $KEY restore --force backup";
    store.sh(restored);
    assert!(wait_until(|| fs::read(&file).is_ok_and(|content| content == b"content")), "{}", store.log());
    mount.unmount();
    use_once(&store, "second");
}
