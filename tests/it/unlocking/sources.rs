//! The ways to give what opens a keyring.

use super::{done, keyring};
use crate::harness::{Store, write_secret};
use std::fs;

/// A store that a passphrase opens, too.
fn with_passphrase() -> Store {
    let store = Store::on_tmpfs();
    write_secret(&store.path("pass"), "correct horse\n");
    done(&store, "--key-file $KEY add-slot --new-passphrase-file pass");
    store
}

#[test]
fn a_command_gives_the_passphrase() {
    let store = with_passphrase();
    done(&store, "--passphrase-command 'head -n 9 pass' add-slot --new-passphrase-command 'echo other; echo more'");
    let list = "kmsfs kms --store $STORE --passphrase-command 'echo other' list-keys";
    assert!(store.sh(list).contains("\"Keys\": []"));
    keyring(&store, "--passphrase-command 'echo wrong' remove-slot 1")
        .expect_failure(3, "wrong key file or passphrase");
    let cases = [
        ("exit 7", "passphrase command: it ended with exit status: 7"),
        ("true", "passphrase command: the passphrase is empty: its first line of output"),
        ("timeout 0.1 sleep 60", "it ended with exit status 124, as timeout(1) does when time is over"),
        ("no-such-program", "it ended with exit status: 127"),
    ];
    for (command, text) in cases {
        keyring(&store, &format!("--passphrase-command '{command}' remove-slot 1")).expect_failure(1, text);
    }
    // Neither what it was started with nor what it hears holds a secret.
    let seen = "--passphrase-command 'env > seen; tr \"\\0\" \" \" < /proc/$$/cmdline >> seen; cat pass' remove-slot 2";
    done(&store, seen);
    assert!(!store.sh("cat seen").contains("correct horse"));
}

#[test]
fn a_credential_of_systemd_opens_a_mount_in_a_unit() {
    let store = with_passphrase();
    store.sh("mkdir credentials && cp pass credentials/kmsfs && cp $KEY credentials/disk");
    let mount = "kmsfs mount -o log_file=log";
    let with = "CREDENTIALS_DIRECTORY=$PWD/credentials";
    for how in ["", "--credential kmsfs", "--credential disk", "-o credential=disk"] {
        store.sh(&format!("{with} {mount} {how} $STORE $MNT; mountpoint -q $MNT; umount $MNT"));
        store.wait_until_closed();
    }
    let refused = |script: &str, code, text: &str| store.try_sh(script).expect_failure(code, text);
    refused(&format!("{mount} --credential kmsfs $STORE $MNT"), 1, "CREDENTIALS_DIRECTORY is not set");
    refused(
        &format!("{with} {mount} --credential none $STORE $MNT"),
        1,
        "/credentials/none: No such file or directory",
    );
    refused(&format!("{with} {mount} --credential ../key $STORE $MNT"), 1, "without a slash");
    store.sh("head -c 32 /dev/urandom > credentials/disk");
    refused(&format!("{with} {mount} --credential disk $STORE $MNT"), 3, "wrong key file");
    store.sh(&format!("{with} kmsfs keyring --store $STORE add-slot --new-credential disk --name unit"));
    store.sh(&format!("{with} {mount} --credential disk $STORE $MNT; umount $MNT"));
    store.wait_until_closed();
    assert_eq!(super::slots(&store)[2], (2, "key-file".to_owned()));
}

#[test]
fn mount8_takes_them_as_options() {
    let store = with_passphrase();
    store.sh("kmsfs keyring --store $STORE --key-file $KEY add-slot --new-recovery-key > paper; chmod 600 paper");
    for option in ["passphrase_command=cat $PWD/pass", "recovery_key_file=$PWD/paper", "passphrase-file=$PWD/pass"] {
        let script =
            format!("mount -t kmsfs $STORE $MNT -o \"log_file=$PWD/log,{option}\"; mountpoint -q $MNT; umount $MNT");
        let answer = store.try_sh_private(&script);
        assert_eq!(answer.code, 0, "{option}: {answer:?}");
        store.wait_until_closed();
    }
}

#[test]
fn a_recovery_key_that_is_mistyped_is_told_from_a_wrong_one() {
    let store = Store::on_tmpfs();
    store.sh("kmsfs keyring --store $STORE --key-file $KEY add-slot --new-recovery-key > paper; chmod 600 paper");
    let paper = fs::read_to_string(store.path("paper")).unwrap();
    let other = if paper.as_bytes()[6] == b'Z' { "Y" } else { "Z" };
    let typed = [
        (format!("{}{other}{}", &paper[..6], &paper[7..]), "recovery key: group 2 has a typing error"),
        (paper[..40].to_owned(), "recovery key: it has 34 letters where a recovery key has 40"),
        (format!("{}0{}", &paper[..6], &paper[7..]), "recovery key: group 2 has a sign that no recovery key has"),
    ];
    for (typed, text) in typed {
        fs::write(store.path("typed"), typed).unwrap();
        keyring(&store, "check-recovery-key < typed").expect_failure(3, text);
    }
    store.sh("kmsfs init --key-file other.key other");
    store.sh(
        "kmsfs keyring --store other --key-file other.key add-slot --new-recovery-key > foreign; chmod 600 foreign",
    );
    let text = "wrong recovery key, typed as it was printed: no slot of ";
    keyring(&store, "check-recovery-key foreign").expect_failure(3, text);
    keyring(&store, "--recovery-key-file foreign remove-slot 0").expect_failure(3, text);
}

#[test]
fn the_daemon_shows_no_secret_to_those_who_look_at_it() {
    let store = with_passphrase();
    let script = "kmsfs mount -o log_file=log --passphrase-command 'cat pass' $STORE $MNT
        for pid in $(pgrep -f \"^kmsfs mount .*$STORE\"); do cat /proc/$pid/environ /proc/$pid/cmdline; done > seen
        umount $MNT";
    store.sh(script);
    store.wait_until_closed();
    let seen = fs::read(store.path("seen")).unwrap();
    let contains = |needle: &[u8]| seen.windows(needle.len()).any(|bytes| bytes == needle);
    assert!(contains(b"kmsfs\0mount\0") && contains(b"PATH="), "{}", String::from_utf8_lossy(&seen));
    assert!(!contains(b"correct horse") && !contains(&fs::read(store.path("key")).unwrap()));
}
