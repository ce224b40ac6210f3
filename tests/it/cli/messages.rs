//! What a person is told when something goes wrong: what it was, why, and what to do. Each case provokes one.

use crate::harness::{NOBODY, Store};
use rustix::process::{Pid, Signal, kill_process};

/// Command line, exit code, and what is said, where STORE, MNT, KEY and DIR stand for paths and `…` for anything.
const CASES: &[(&str, i32, &str)] = &[
    // Nothing that could be meant.
    ("kmsfs frobnicate", 2, "error: unrecognized subcommand 'frobnicate'…"),
    ("kmsfs mount --nonsense $STORE $MNT", 2, "error: unexpected argument '--nonsense' found…"),
    // Stores.
    (
        "kmsfs init --key-file $KEY $STORE",
        1,
        "kmsfs: store STORE: there is a store already: kmsfs mount STORE MOUNTPOINT mounts it",
    ),
    ("kmsfs init --key-file $KEY mnt/../full", 1, "kmsfs: store mnt/../full: the directory is not empty"),
    ("kmsfs init --key-file $KEY none/store", 1, "kmsfs: store none/store: No such file or directory"),
    (
        "kmsfs init --region MOON x",
        2,
        "error: invalid value 'MOON' for '--region <REGION>': a region is a name such as us-east-1…",
    ),
    ("kmsfs init --account-id 1 x", 2, "error: invalid value '1' for '--account-id <N>': an account id is 12 digits…"),
    ("kmsfs mount --key-file $KEY none $MNT", 1, "kmsfs: store none does not exist"),
    ("kmsfs mount --key-file $KEY key $MNT", 1, "kmsfs: key is not a kmsfs store: it is not a directory"),
    ("kmsfs mount -o log_file=log --key-file $KEY full $MNT", 1, "kmsfs: DIR/full: not a kmsfs store…"),
    (
        "kmsfs mount --key-file $KEY $MNT $STORE",
        2,
        "kmsfs: STORE is a store, and MNT is none: the store comes first, as in kmsfs mount STORE MNT",
    ),
    ("kmsfs mount --key-file $KEY $STORE none", 1, "kmsfs: mount point none does not exist"),
    ("kmsfs mount --key-file $KEY $STORE key", 1, "kmsfs: mount point key is not a directory"),
    (
        "kmsfs mount --key-file $KEY $STORE $STORE/log",
        1,
        "kmsfs: the store STORE and the mount point STORE/log overlap",
    ),
    ("kmsfs mount --key-file $KEY $STORE", 2, "kmsfs: no mount point was named: kmsfs mount STORE MOUNTPOINT"),
    ("kmsfs mount -o nonsense $STORE $MNT", 2, "kmsfs: unknown mount option 'nonsense'"),
    ("kmsfs mount -o cache=1 $STORE $MNT", 2, "kmsfs: mount option 'cache=1': must be a number of MiB, 4 or more"),
    ("kmsfs mount -o remount,ro $STORE $MNT", 1, "kmsfs: cannot remount MNT: no kmsfs store is mounted there"),
    // What opens a keyring.
    ("kmsfs mount --key-file none $STORE $MNT", 1, "kmsfs: key file DIR/none: No such file or directory"),
    (
        "kmsfs fsck --key-file other $STORE",
        8,
        "kmsfs: wrong key file or passphrase: it does not open the keyring STORE/keyring",
    ),
    ("kmsfs fsck --key-file short $STORE", 8, "kmsfs: wrong key file short: …"),
    ("kmsfs fsck --key-file open $STORE", 8, "kmsfs: key file open: …chmod 600…"),
    ("kmsfs fsck --passphrase-file empty $STORE", 8, "kmsfs: passphrase file empty: the passphrase is empty"),
    ("kmsfs fsck --passphrase-command false $STORE", 8, "kmsfs: passphrase command: it ended with exit status: 1"),
    (
        "kmsfs fsck --credential none $STORE",
        8,
        "kmsfs: credential none: there are none: CREDENTIALS_DIRECTORY is not set; is LoadCredential= in the unit?",
    ),
    (
        "setsid -w kmsfs fsck $STORE",
        8,
        "kmsfs: no key was given: use --key-file, …, set KMSFS_KEY_FILE, …, or run it on a terminal to type a passphrase",
    ),
    (
        "kmsfs fsck --key-file $KEY --keyring none $STORE",
        8,
        "kmsfs: keyring none: there is none: it has no slots.json; one that is elsewhere is named with --keyring, one that is lost comes back from a backup",
    ),
    // Mounts that there are not.
    ("kmsfs status $MNT", 1, "kmsfs: MNT is not a mount of a kmsfs store"),
    ("kmsfs status $STORE", 1, "kmsfs: the store STORE is not mounted: kmsfs mount mounts it"),
    ("kmsfs umount none", 1, "kmsfs: none: No such file or directory"),
    ("kmsfs sync $MNT", 1, "kmsfs: MNT is not a mount of a kmsfs store"),
    ("kmsfs scrub $MNT", 1, "kmsfs: MNT is not in a kmsfs mount"),
    ("kmsfs reencrypt key", 1, "kmsfs: key is not in a kmsfs mount"),
    ("kmsfs ls key", 1, "kmsfs: key is not in a kmsfs mount"),
    ("kmsfs stat key", 1, "kmsfs: key is not in a kmsfs mount"),
    ("kmsfs put key x", 1, "kmsfs: x is not in a kmsfs mount"),
    ("kmsfs serve --key-file $KEY none", 1, "kmsfs: none: No such file or directory"),
    // Keys.
    (
        "kmsfs kms --store $STORE --key-file $KEY describe-key --key-id alias/none",
        254,
        "\nAn error occurred (NotFoundException) when calling the DescribeKey operation: Alias arn:aws:kms:us-east-1:000000000000:alias/none is not found.",
    ),
    (
        "kmsfs kms --store $STORE --key-file $KEY describe-key",
        252,
        "error: the following required arguments were not provided:…--key-id <KEY_ID>…",
    ),
    (
        "kmsfs keyring --store $STORE --key-file $KEY remove-slot 7",
        1,
        "kmsfs: keyring STORE/keyring: there is no slot 7…",
    ),
    ("kmsfs keyring --store $STORE --key-file $KEY remove-slot 0", 1, "kmsfs: keyring STORE/keyring: …last…"),
];

#[test]
fn each_message_says_what_was_wrong() {
    let store = Store::new();
    store.sh(
        "mkdir full; touch full/file; head -c 32 /dev/urandom > other; head -c 31 /dev/urandom > short; touch empty
        cp $KEY open; chmod 600 other short empty; chmod 644 open",
    );
    let mut wrong = Vec::new();
    for (line, code, expected) in CASES {
        let answer = store.try_sh(line);
        let said = shown(&store, &answer.err);
        if answer.code != *code || !matches(&said, expected) || !answer.out.is_empty() {
            wrong.push(format!(
                "$ {line}\nexpected {code} {expected:?}\nanswered {} {said:?} {:?}",
                answer.code, answer.out
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn what_is_said_about_a_mount_that_is_there() {
    let store = Store::new();
    let mount = store.mount();
    store.sh("mkdir elsewhere $MNT/my-bucket; echo x > $MNT/my-bucket/object");
    let mut wrong = Vec::new();
    for (line, code, expected) in [
        ("kmsfs mount --key-file $KEY $STORE $MNT", 1, "kmsfs: MNT is already mounted: STORE is mounted there"),
        (
            "kmsfs mount -o log_file=log --key-file $KEY $STORE elsewhere",
            4,
            "kmsfs: STORE: the store is in use by process …, mounted on MNT",
        ),
        ("kmsfs fsck --key-file $KEY $STORE", 8, "kmsfs: STORE: the store is in use by process …, mounted on MNT"),
        ("kmsfs stat $MNT", 1, "kmsfs: MNT is the mount itself: buckets, the directories in it, have encryption"),
        ("kmsfs stat $MNT/none", 1, "kmsfs: MNT/none: No such file or directory"),
        ("kmsfs reencrypt $MNT/my-bucket", 2, "kmsfs: MNT/my-bucket is a directory: say --recursive for what is in it"),
        ("kmsfs put key $MNT/object", 1, "kmsfs: …MNT/object…"),
        (
            "kmsfs status $MNT/my-bucket",
            1,
            "kmsfs: MNT/my-bucket is not a mount of a kmsfs store, but lies in the one on MNT",
        ),
        (
            "kmsfs serve --key-file $KEY --mount elsewhere $MNT",
            2,
            "kmsfs: MNT is mounted already: --mount is for a store",
        ),
        (
            "kmsfs mount -o remount,allow_other $STORE $MNT",
            1,
            "kmsfs: cannot remount MNT: 'allow_other' cannot be changed: unmount it and mount it again",
        ),
    ] {
        let answer = store.try_sh(line);
        let said = shown(&store, &answer.err);
        if answer.code != code || !matches(&said, expected) {
            wrong.push(format!("$ {line}\nexpected {code} {expected:?}\nanswered {} {said:?}", answer.code));
        }
    }
    store.open_to_all();
    let answer = store.sh_as(NOBODY, "kmsfs umount $MNT");
    let said = shown(&store, &answer.err);
    if answer.code != 1 || !said.starts_with("kmsfs: MNT: ") {
        wrong.push(format!("another user's umount: {answer:?}"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    drop(mount);
}

#[test]
fn a_killed_daemon_is_said_to_be_gone_with_the_cure() {
    let store = Store::new();
    store.sh("kmsfs mount --key-file $KEY -o log_file=log $STORE $MNT");
    let status = store.sh("kmsfs status --json $MNT");
    let pid = crate::harness::json(&status)["ProcessId"].as_i64().unwrap();
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    store.wait_until_closed();
    let expected = "kmsfs: MNT: the kmsfs process behind this mount has ended: kmsfs umount MNT takes the mount away\n";
    assert!(crate::harness::wait_until(|| shown(&store, &store.try_sh("kmsfs status $MNT").err) == expected));
    store.sh("kmsfs umount $MNT");
}

fn shown(store: &Store, said: &str) -> String {
    let path = |path: &std::path::Path| path.display().to_string();
    let said = said.replace(&path(store.store()), "STORE").replace(&path(&store.mountpoint()), "MNT");
    said.replace(&path(&store.path("key")), "KEY").replace(&path(store.dir()), "DIR")
}

/// Whether all of it is there, in this order.
fn matches(said: &str, expected: &str) -> bool {
    let said = said.trim_end_matches('\n');
    let parts: Vec<&str> = expected.split('…').collect();
    let Some(mut rest) = said.strip_prefix(parts[0]) else { return false };
    for part in &parts[1..] {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    parts.len() > 1 || rest.is_empty()
}
