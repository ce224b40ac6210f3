//! Neither content nor keys are found where they must not be.

use crate::harness::{KMS, NOBODY, Store, files_below, kms_with};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

/// Long enough never to be there by chance, short enough for an extended attribute.
const SECRET: &str = "the quick brown fox that nobody may ever see";

#[test]
fn no_file_of_the_store_and_no_log_line_holds_plaintext_or_keys() {
    let store = Store::new();
    // Messages of every level, of every crate.
    let mount = store.mounting().variable("RUST_LOG", "trace").start();
    let bucket = mount.bucket("bucket");
    store.create_key("alias/customer");
    for (dir, by_default, bucket_key) in [
        ("plain", r#"{"SSEAlgorithm":"AES256"}"#.to_owned(), false),
        ("managed", KMS.to_owned(), false),
        ("customer", kms_with("alias/customer"), false),
        ("shared", kms_with("alias/customer"), true),
    ] {
        let path = bucket.join(dir);
        fs::create_dir(&path).unwrap();
        mount.set_default(&format!("bucket/{dir}"), &by_default, bucket_key);
        fs::write(path.join("small"), SECRET).unwrap();
        fs::write(path.join("large"), SECRET.repeat(30_000)).unwrap();
        symlink(SECRET, path.join("symlink")).unwrap();
        symlink(SECRET.repeat(80), path.join("long-symlink")).unwrap();
        assert_eq!(fs::read_link(path.join("symlink")).unwrap().to_str(), Some(SECRET));
        store.sh(&format!(
            "cd $MNT/bucket/{dir}; setfattr -n user.note -v '{SECRET}' small; getfattr -n user.note small; echo '{SECRET}' >> large; sync -f ."
        ));
        // A failure's log line names the object, not what it was about to hold.
        let _ = store.try_sh(&format!("echo '{SECRET}' > $MNT/bucket/{dir}/.encryption.json"));
    }
    // While it is mounted, after the daemon was killed, and after a clean end: the redo log holds different things.
    assert_clean(&store);
    mount.kill9();
    assert_clean(&store);
    let mount = store.mount_with("log_level=trace");
    store.sh(&format!(
        "cd $MNT/bucket/plain; ln -s '{SECRET}' another; readlink another; setfattr -n user.more -v '{SECRET}' small
         getfattr -d small; echo '{SECRET}' > another-file; cat another-file large > /dev/null; sync -f ."
    ));
    assert_clean(&store);
    mount.unmount();
    assert_clean(&store);
    let _mount = store.mount();
    store.sh(&format!("grep -q '{SECRET}' $MNT/bucket/*/small $MNT/bucket/*/large"));
}

fn assert_clean(store: &Store) {
    let key = fs::read(store.path("key")).unwrap();
    assert_eq!(key.len(), 32);
    let hex = hex::encode(&key);
    let needles =
        [&SECRET.as_bytes()[4..24], &key[..16], &key[16..], &hex.as_bytes()[..32], hex[..32].to_uppercase().as_bytes()]
            .map(<[u8]>::to_vec);
    let mut places: Vec<PathBuf> = files_below(store.store());
    places.extend([store.path("log"), store.path("daemon.said")]);
    assert!(places.len() > 10, "{places:?}");
    for place in places {
        let bytes = fs::read(&place).unwrap();
        for needle in &needles {
            assert!(!contains(&bytes, needle), "{} holds {}", place.display(), String::from_utf8_lossy(needle));
        }
    }
    // Symlink targets and attributes are no files.
    let shown = store.sh("find $STORE -printf '%p %l\\n'; getfattr -R -h -d -m - -e text $STORE 2>/dev/null");
    assert!(!shown.contains(&SECRET[4..24]), "{shown}");
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn store_and_key_file_are_for_their_owner_alone() {
    let store = Store::new();
    store.sh("umask 0; kmsfs init --key-file wide.key wide");
    for path in ["wide", "wide/store.json", "wide/keyring", "wide/sidecars", "wide/log", "wide.key"] {
        let mode = fs::metadata(store.path(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{path}: {mode:o}");
    }
    assert_eq!(fs::metadata(store.path("wide.key")).unwrap().len(), 32);
}

#[test]
fn the_daemons_memory_reaches_no_core_and_no_other_process() {
    let store = Store::new();
    // The daemon runs as an ordinary user, and so do those who want to look into it.
    let answer = store.sh_mounting_as(
        NOBODY,
        r#"ulimit -S -c $(ulimit -H -c)
           kmsfs init --key-file key store; up
           pid=$(cat store/lock); kill -0 $pid
           grep 'Max core file size' /proc/$pid/limits | tr -s ' '
           for file in mem environ maps auxv; do
               if head -c 1 /proc/$pid/$file > /dev/null 2>&1; then echo "$file is readable"; fi
           done
           stat -c 'owned by %u' /proc/$pid/mem
           tr '\0' ' ' < /proc/$pid/cmdline; echo
           down"#,
    );
    assert!(answer.code == 0, "{answer:?}");
    let lines: Vec<&str> = answer.out.lines().filter(|line| !line.contains("Made") && !line.starts_with(' ')).collect();
    assert!(lines.iter().any(|line| line.starts_with("Max core file size 0 0 ")), "{answer:?}");
    assert!(lines.contains(&"owned by 0"), "dumpable: {answer:?}");
    assert!(!answer.out.contains("is readable"), "{answer:?}");
}
