//! What a mount has from whoever starts it: none of it ends the daemon or changes what it does.

use crate::harness::Store;
use std::fs;

/// Mounts in the background out of a shell that has done `before` to itself, and answers the daemon's pid. `after` goes
/// on the same line.
fn mounted_from(store: &Store, before: &str, after: &str) -> String {
    store.sh(&format!("{before} kmsfs mount --key-file $KEY -o log_file=$PWD/log $STORE $MNT {after}"));
    store.sh("mkdir -p $MNT/bucket; tr -d '\\n' < $STORE/lock")
}

fn unmount(store: &Store) {
    store.sh("umount $MNT");
    store.wait_until_closed();
}

fn status(pid: &str, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:"))).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

#[test]
fn a_limit_on_file_sizes_or_processor_time_does_not_end_the_daemon() {
    let store = Store::new();
    let pid = mounted_from(&store, "ulimit -Sf 2000; ulimit -St 60;", "");
    store.sh("head -c 20M /dev/zero > $MNT/bucket/large; sync $MNT/bucket/large; echo keep > $MNT/bucket/keep");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    for limit in ["Max file size", "Max cpu time"] {
        let line = limits.lines().find(|line| line.starts_with(limit)).unwrap();
        assert_eq!(line.matches("unlimited").count(), 2, "{line}");
    }
    unmount(&store);
}

/// Where it cannot be raised, writing beyond it fails and nothing else happens.
#[test]
fn a_limit_that_cannot_be_raised_is_an_error_of_write() {
    let store = Store::new();
    let unprivileged = "ulimit -f 2000; setpriv --bounding-set -sys_resource --inh-caps -sys_resource --";
    mounted_from(&store, unprivileged, "");
    store.try_sh("dd if=/dev/zero of=$MNT/bucket/large bs=1M count=20 conv=fsync").expect_failure(1, "File too large");
    store.sh("echo keep > $MNT/bucket/keep; cat $MNT/bucket/keep");
    unmount(&store);
}

#[test]
fn a_limit_of_files_ends_no_command_that_changes_keys() {
    let store = Store::new();
    let kms = "kmsfs kms --store $STORE --key-file $KEY";
    store.sh(&format!("(ulimit -Sf 0; {kms} create-key && kmsfs init --key-file second.key second)"));
    let unprivileged = "ulimit -f 0; setpriv --bounding-set -sys_resource --inh-caps -sys_resource --";
    let refused = store.try_sh(&format!("({unprivileged} {kms} create-key)"));
    refused.expect_failure(254, "File too large");
    let keys = store.sh(&format!("{kms} list-keys; {kms} create-key >/dev/null; {kms} list-keys"));
    assert_eq!(keys.matches("KeyArn").count(), 3, "{keys}");
}

#[test]
fn descriptors_up_to_the_hard_limit_are_used() {
    let store = Store::new();
    let pid = mounted_from(&store, "ulimit -Sn 64;", "");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[3], words[4], "{line}");
    store.sh("python3 -c '
import os, sys
files = [os.open(f\"{sys.argv[1]}/{n}\", os.O_CREAT | os.O_RDWR) for n in range(200)]
for file in files: os.write(file, b\"x\"); os.fsync(file); os.close(file)
' $MNT/bucket");
    unmount(&store);
}

/// SIGTERM ends the mount cleanly, and helpers that end are seen to.
#[test]
fn signals_that_were_ignored_or_blocked_do_their_work() {
    let store = Store::new();
    let ignoring = "python3 -c '
import os, signal, sys
for ignored in signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGALRM: signal.signal(ignored, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD, signal.SIGUSR2])
os.execvp(sys.argv[1], sys.argv[1:])
'";
    let pid = mounted_from(&store, ignoring, "");
    let bit = |signal: i32| 1 << (signal - 1);
    let ignored = status(&pid, "SigIgn");
    for signal in [libc::SIGTERM, libc::SIGCHLD, libc::SIGUSR1, libc::SIGALRM] {
        assert_eq!(ignored & bit(signal), 0, "signal {signal} is ignored");
    }
    assert_eq!(status(&pid, "SigBlk") & (bit(libc::SIGCHLD) | bit(libc::SIGUSR2)), 0);
    store.sh(&format!("kill -TERM {pid}"));
    store.wait_until_closed();
    store.expect_log("unmounted ");
}

#[test]
fn the_callers_directory_mask_priority_and_oom_score_are_not_the_mounts() {
    let store = Store::new();
    let before = "mkdir here; cd here; umask 0; echo 500 > /proc/self/oom_score_adj; echo 500 > /proc/$$/oom_score_adj; \
                  export KEY=../key; ionice -c 3 nice -n 7 chrt --idle 0";
    let pid = mounted_from(&store, before, "");
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some("/"));
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), "0");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert_eq!(stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16), Some("0"), "nice: {stat}");
    assert!(store.sh(&format!("chrt --pid {pid}")).contains("SCHED_OTHER"));
    assert!(!store.sh(&format!("ionice -p {pid}")).contains("idle"));
    let umask = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(umask.contains("Umask:\t0077"), "{umask}");
    unmount(&store);
}

#[test]
fn standard_descriptors_that_are_closed_do_not_become_files_of_the_store() {
    let store = Store::new();
    let pid = mounted_from(&store, "", "<&- >&- 2>&-");
    for descriptor in 0..3 {
        let target = fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).unwrap();
        assert_eq!(target.to_str(), Some("/dev/null"), "descriptor {descriptor}");
    }
    store.sh("echo content > $MNT/bucket/file; cat $MNT/bucket/file");
    unmount(&store);
}

#[test]
fn variables_that_bring_other_code_or_another_heap_are_left_out() {
    let store = Store::new();
    let variables = "LD_PRELOAD=libm.so.6 LD_LIBRARY_PATH=/tmp MALLOC_ARENA_MAX=8 RUST_MIN_STACK=4096 \
                     GLIBC_TUNABLES=glibc.malloc.check=3 GCONV_PATH=/tmp LOCPATH=/tmp RES_OPTIONS=debug RUST_BACKTRACE=full \
                     RUST_LOG=trace KEPT=1";
    let pid = mounted_from(&store, variables, "");
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let names: Vec<_> = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let has = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
    for name in ["LD_", "MALLOC_", "RUST_MIN_STACK", "GLIBC_TUNABLES", "GCONV_PATH", "LOCPATH", "RES_OPTIONS"] {
        assert!(!has(name), "{name}: {names:?}");
    }
    assert!(has("KEPT=") && has("RUST_LOG=") && has("RUST_BACKTRACE="));
    unmount(&store);
}

#[test]
fn a_stack_that_is_too_small_is_told() {
    let store = Store::new();
    let small = "ulimit -s 512; setpriv --bounding-set -sys_resource --inh-caps -sys_resource --";
    let answer = store.try_sh(&format!("{small} kmsfs mount --key-file $KEY $STORE $MNT"));
    answer.expect_failure(1, "kmsfs: the stack may have only 512 KiB: raise the limit (ulimit -s 1024, or more)");
}

/// What a shell does to itself before it mounts. None is so small that nothing at all could be mounted.
const INHERITED: &[&str] = &[
    "ulimit -n 64",
    "ulimit -f 30000",
    "ulimit -v 600000",
    "ulimit -d 400000",
    "ulimit -s 1024",
    "ulimit -m 1000",
    "ulimit -l 0",
    "ulimit -u 1",
    "ulimit -t 60",
    "ulimit -c unlimited",
    "ulimit -i 0",
    "ulimit -r 0; ulimit -e 0; ulimit -R 1000",
    "ulimit -q 0; ulimit -x 0",
    "trap '' HUP INT QUIT TERM USR1 USR2 PIPE ALRM CHLD TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS",
    "umask 777; cd /proc",
    "renice -n 19 $$ >/dev/null; chrt --idle --pid 0 $$; echo 1000 > /proc/$$/oom_score_adj; ionice -c 3 -p $$",
    "exec <&- >&-",
];

/// Limits stay as they are.
const UNPRIVILEGED: &str = "setpriv --bounding-set -sys_resource --inh-caps -sys_resource --";

const BLOCKING: &str = "python3 -c 'import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); os.execvp(sys.argv[1], sys.argv[1:])'";

/// Clocks of the machine's own uptime that are ten years on, so that the kills before came from the future.
const TEN_YEARS_UP: &str = "unshare --time --boottime 300000000 --monotonic 300000000";

/// Between kill and mount: the clock as the store's files show it.
const CLOCKS: &[(&str, &str)] =
    &[("1 hour ago", ""), ("1 hour", ""), ("10 years ago", "-path '*/log/*'"), ("10 years", "! -path '*/log/*'")];

/// What is compared.
const ALL: &str = "content-*";
const NEWEST: &str = "$(ls -t content-* 2>/dev/null | head -n 6)";

/// Each mount finds what the one before was killed with.
#[test]
fn what_was_acknowledged_outlives_kills_under_everything_that_is_inherited() {
    let store = Store::on_tmpfs();
    let mut lives = 0;
    let mut live = |before: &str, mounting: &str, which: &str| {
        store.sh(&format!(
            "compare() {{ for file in {which}; do test ! -e $file || cmp $file $MNT/bucket/${{file#content-}}; done; }}
             dir=$PWD; ( {before}; {mounting} kmsfs mount --key-file $KEY -o cache=16,log_file=$dir/log $STORE $MNT )
             mkdir -p $MNT/bucket; compare
             for n in 1 2 3; do head -c $((n * 300000)) /dev/urandom > content-{lives}-$n
                 dd if=content-{lives}-$n of=$MNT/bucket/{lives}-$n bs=64k conv=fsync status=none; done
             kill -9 $(cat $STORE/lock); until flock -n $STORE/lock true; do sleep 0.02; done; umount -l $MNT"
        ));
        lives += 1;
    };
    for before in INHERITED {
        live(before, UNPRIVILEGED, NEWEST);
    }
    live("true", BLOCKING, NEWEST);
    for (clock, which) in CLOCKS {
        store.sh(&format!("find $STORE {which} -exec touch -h -d '{clock}' {{}} +"));
        live("true", TEN_YEARS_UP, ALL);
    }
    live("true", "", ALL);
    store.sh("kmsfs fsck --scrub --key-file $KEY $STORE");
    let log = store.log();
    assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
}
