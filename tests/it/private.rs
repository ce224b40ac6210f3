//! Secrets and logs, each as its user finds it: what others could have read, changed or planted is refused.

use crate::harness::Store;
use std::fs;

/// A slot that is gone again.
macro_rules! add_slot {
    ($new:literal) => {
        concat!(
            "CREDENTIALS_DIRECTORY=$PWD kmsfs keyring --store $STORE --key-file $KEY add-slot ",
            $new,
            " && kmsfs keyring --store $STORE --key-file $KEY remove-slot --keep-root-key \
             $(kmsfs keyring --store $STORE list-slots | tail -n 1 | cut -d' ' -f1)"
        )
    };
}

/// A command that opens a file, its path in the harness's directory, and what makes it.
struct Use {
    file: &'static str,
    make: &'static str,
    command: &'static str,
}

/// A use that may have what a group can read.
const LOG: &str = "log";

const USES: &[Use] = &[
    Use { file: "other.key", make: OTHER_KEY, command: "kmsfs kms --store $STORE --key-file other.key list-keys" },
    Use { file: "other.key", make: OTHER_KEY, command: "KMSFS_KEY_FILE=other.key kmsfs kms --store $STORE list-keys" },
    Use { file: "new.key", make: NEW_KEY, command: "kmsfs init --key-file new.key new && rm -r new" },
    Use { file: "new.key", make: NEW_KEY, command: add_slot!("--new-key-file new.key") },
    Use { file: "word", make: WORD, command: "kmsfs kms --store $STORE --passphrase-file word list-keys" },
    Use { file: "word", make: WORD, command: add_slot!("--new-passphrase-file word") },
    Use { file: "paper", make: PAPER, command: "kmsfs kms --store $STORE --recovery-key-file paper list-keys" },
    Use { file: "paper", make: PAPER, command: "kmsfs keyring --store $STORE check-recovery-key paper" },
    Use {
        file: "word",
        make: WORD,
        command: "CREDENTIALS_DIRECTORY=$PWD kmsfs kms --store $STORE --credential word list-keys",
    },
    Use { file: "word", make: WORD, command: add_slot!("--new-credential word") },
    Use { file: "store/keyring/slots.json", make: "", command: LIST_KEYS },
    Use { file: "store/keyring/keyring", make: "", command: LIST_KEYS },
    Use { file: "store/keyring/shred", make: "", command: LIST_KEYS },
    Use { file: "store/keyring/lock", make: "", command: CREATE_KEY },
    Use { file: "audit", make: AUDIT, command: "kmsfs kms --store $STORE --key-file $KEY --audit-log audit list-keys" },
    Use {
        file: "audit.head",
        make: AUDIT,
        command: "kmsfs kms --store $STORE --key-file $KEY --audit-log audit list-keys",
    },
    Use {
        file: LOG,
        make: "rm -f log; (umask 077; : > log)",
        command: "kmsfs mount --key-file $KEY -o log_file=log $STORE $MNT && fusermount3 -u $MNT",
    },
];

const LIST_KEYS: &str = "kmsfs kms --store $STORE --key-file $KEY list-keys";
const CREATE_KEY: &str = "kmsfs kms --store $STORE --key-file $KEY create-key";
const OTHER_KEY: &str =
    "[ -e other.key ] || kmsfs keyring --store $STORE --key-file $KEY add-slot --new-key-file other.key";
const NEW_KEY: &str = "[ -e new.key ] || (umask 077; head -c 32 /dev/urandom > new.key)";
const WORD: &str = "[ -e word ] || { (umask 077; echo correct horse > word); kmsfs keyring --store $STORE --key-file $KEY \
                    add-slot --new-passphrase-file word; }";
const PAPER: &str = "[ -e paper ] || (umask 077; kmsfs keyring --store $STORE --key-file $KEY add-slot --new-recovery-key \
                     > paper)";
const AUDIT: &str = "kmsfs kms --store $STORE --key-file $KEY --audit-log audit list-keys";

#[test]
fn every_secret_and_every_log_is_opened_by_the_same_rules() {
    let store = Store::on_tmpfs();
    for one in USES {
        let Use { file, make, command } = one;
        store.sh(make);
        let run = |what: &str| {
            let answer = store.try_sh(command);
            store.wait_until_closed();
            (answer, format!("{command}: {what}"))
        };
        let accepted = |what: &str| {
            let (answer, story) = run(what);
            assert_eq!(answer.code, 0, "{story}: {answer:?}");
        };
        let refused = |what: &str, why: &str| {
            let (answer, story) = run(what);
            assert_ne!(answer.code, 0, "{story}");
            assert!(answer.err.contains(why), "{story}: {answer:?}");
        };
        accepted("as it is");
        // A group may read a log file, and nothing else.
        let modes = if *file == LOG { ["604", "620", "602"] } else { ["604", "640", "602"] };
        for mode in modes {
            store.sh(&format!("chmod {mode} {file}"));
            refused(mode, &format!("is open to others (mode 0{mode}): chmod 600 it"));
        }
        store.sh(&format!("chmod 600 {file}; chown 1234 {file}"));
        refused("a stranger's", "belongs to uid 1234, who is neither root nor the caller (uid 0): chown it");
        store.sh(&format!("chown 0 {file}; mv {file} away; ln -s $PWD/away {file}"));
        refused("a link", "is a symbolic link: name the file itself, or put it there");
        store.sh(&format!("rm {file}; ln -s $PWD/victim {file}"));
        refused("a link to what is not there", "");
        assert!(!store.path("victim").exists(), "{command}");
        store.sh(&format!("rm {file}; mkfifo -m 600 {file}"));
        refused("a pipe that was planted", "is not a regular file");
        store.sh(&format!("rm {file}; mv away {file}; chmod 777 $(dirname $PWD/{file})"));
        refused("a place that everybody may write to", "(mode 0777): chmod ");
        store.sh(&format!("chmod 700 $(dirname $PWD/{file})"));
        accepted("as it was");
    }
}

#[test]
fn a_passphrase_comes_through_a_pipe_of_the_shell() {
    let store = Store::on_tmpfs();
    store.sh("bash -c 'kmsfs keyring --store $STORE --key-file $KEY add-slot --new-passphrase-file <(echo word)'");
    store.sh("bash -c 'kmsfs kms --store $STORE --passphrase-file <(sleep 0.2; echo word) list-keys'");
    store.sh("echo word | kmsfs kms --store $STORE --passphrase-file /dev/stdin list-keys");
}

#[test]
fn init_makes_a_directory_that_others_could_read_its_owners_alone() {
    let store = Store::on_tmpfs();
    store.sh("mkdir -m 755 new ring; mkdir -m 777 other");
    let made = store.sh("kmsfs init --key-file $KEY --keyring ring new");
    for name in ["new", "ring"] {
        let text = format!("\n{name} had mode 0755 and has 0700 now: it is its owner's alone\n");
        assert!(made.contains(&text), "{made}");
    }
    assert_eq!(store.sh("stat -c %a new ring"), "700\n700\n");
    store.sh("kmsfs init --key-file $KEY other; stat -c %a other | grep -x 700");
    // What init does not make is as it was.
    store.sh("mkdir -m 755 third; chown 1234 third");
    let refused = store.try_sh("kmsfs init --key-file $KEY third");
    refused.expect_failure(1, "third: it belongs to uid 1234, who is neither root nor the caller (uid 0): chown it");
    store.sh("mkdir -m 755 fourth; mkdir -m 777 open; mkdir -m 700 open/fifth");
    store.try_sh("kmsfs init --key-file $KEY --keyring open/fifth fourth").expect_failure(1, "chmod o-w ");
    assert_eq!(store.sh("stat -c %a third fourth; ls third fourth"), "755\n755\nfourth:\n\nthird:\n");
}

#[test]
fn the_root_of_a_new_file_system_is_told_from_a_directory_in_use() {
    let store = Store::on_tmpfs();
    fs::create_dir_all(store.path("disk/lost+found")).unwrap();
    let text = "disk: it is the root of a file system, which keeps lost+found there: name a directory in it, such as ";
    store.try_sh("kmsfs init --key-file $KEY disk").expect_failure(1, text);
    store.sh("kmsfs init --key-file $KEY disk/store");
}
