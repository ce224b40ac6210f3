//! Several processes at once in one mount.

use crate::harness::{Store, names_in};
use std::fs;

/// Runs the script in several processes, each with its number in `$n`, and waits for all.
fn in_parallel(store: &Store, processes: usize, script: &str) {
    store.sh(&format!(
        "cd $MNT/bucket; pids=; for n in $(seq {processes}); do ( {script}\n ) & pids=\"$pids $!\"; done
         for pid in $pids; do wait $pid; done"
    ));
}

#[test]
fn appends_do_not_tear_each_other() {
    let store = Store::new();
    let mut mount = store.mount();
    let bucket = mount.bucket("bucket");
    in_parallel(
        &store,
        4,
        r#"for i in $(seq 500); do echo "process $n line $i, with some more text on it" >> log; done"#,
    );
    let check = || {
        let text = fs::read_to_string(bucket.join("log")).unwrap();
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        let mut expected: Vec<_> = (1..=4)
            .flat_map(|n| (1..=500).map(move |i| format!("process {n} line {i}, with some more text on it")))
            .collect();
        expected.sort_unstable();
        assert_eq!(lines, expected);
    };
    check();
    mount.remount();
    check();
}

#[test]
fn writers_of_one_file_keep_to_their_places() {
    let store = Store::new();
    let mut mount = store.mount();
    mount.bucket("bucket");
    // 1,000 bytes each in turn, so that every chunk is written by several.
    store.sh("for n in 1 2 3 4; do head -c 200000 /dev/zero | tr '\\0' $n > part$n; done
              python3 -c '
import sys
parts = [open(f\"part{n}\", \"rb\").read() for n in (1, 2, 3, 4)]
out = open(\"expected\", \"wb\")
for at in range(0, 200000, 1000):
    for part in parts: out.write(part[at:at + 1000])
'");
    in_parallel(
        &store,
        4,
        "python3 -c '
import os, sys
n = int(sys.argv[1]); f = os.open(\"f\", os.O_RDWR | os.O_CREAT)
for at in range(200):
    os.pwrite(f, str(n).encode() * 1000, at * 4000 + (n - 1) * 1000)
    if at % 50 == 0: os.fsync(f)
' $n",
    );
    store.sh("cmp expected $MNT/bucket/f");
    mount.remount();
    store.sh("cmp expected $MNT/bucket/f");
}

#[test]
fn names_are_made_and_removed_side_by_side() {
    let store = Store::new();
    let mut mount = store.mount();
    let bucket = mount.bucket("bucket");
    in_parallel(
        &store,
        4,
        r"for i in $(seq 100); do
               echo $n > own.$n.$i; mv own.$n.$i done.$n.$i; ln done.$n.$i link.$n.$i; rm done.$n.$i
               mkdir -p dir/$((i % 7)); echo $n > dir/$((i % 7))/$n.$i; rm dir/$((i % 7))/$n.$i
               echo $n > fought-over; mv fought-over winner 2>/dev/null || true; cat winner > /dev/null || true
           done",
    );
    mount.remount();
    let links = names_in(&bucket).iter().filter(|name| name.to_string_lossy().starts_with("link.")).count();
    assert_eq!(links, 400);
    assert!(["1\n", "2\n", "3\n", "4\n", ""].contains(&fs::read_to_string(bucket.join("winner")).unwrap().as_str()));
    store.sh("cd $MNT/bucket; for n in 1 2 3 4; do for i in $(seq 100); do test $(cat link.$n.$i) = $n; done; done; find dir -type f | wc -l | grep -qx 0");
}

#[test]
fn exactly_one_process_makes_a_name_or_takes_a_lock() {
    let store = Store::new();
    let mount = store.mount();
    mount.bucket("bucket");
    // mkdir is the classical lock; the counter is read and written under it, and under flock(1).
    in_parallel(
        &store,
        4,
        r"for i in $(seq 25); do
               until mkdir lock 2>/dev/null; do :; done
               count=$(cat count 2>/dev/null || echo 0); echo $((count + 1)) > count; rmdir lock
               flock held bash -c 'count=$(cat count2 2>/dev/null || echo 0); echo $((count + 1)) > count2'
           done",
    );
    assert_eq!(store.sh("cat $MNT/bucket/count $MNT/bucket/count2"), "100\n100\n");
}
