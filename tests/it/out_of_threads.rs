//! Users who may have no more processes, which threads are too: RLIMIT_NPROC. A control group's pids.max answers the
//! same.

use crate::harness::Store;

/// Nobody else's, since a limit counts all that a user has.
const USER: u32 = 61_234;

/// Eight programs in one that write, ask where data is and sync, of which each answer may take a thread.
const PROGRAM: &str = r#"
import os, sys, threading
bucket, failures = sys.argv[1], []
def work(n):
    try:
        file = os.open(f"{bucket}/{n}", os.O_CREAT | os.O_RDWR)
        for piece in range(20):
            os.pwrite(file, bytes([n]) * 70_000, piece * 70_000)
            assert os.lseek(file, 0, os.SEEK_DATA) == 0
            if piece % 5 == 4: os.fsync(file)
        os.close(file)
    except BaseException as failure: failures.append(failure)
threads = [threading.Thread(target=work, args=[n]) for n in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not failures, failures
"#;

const CHECK: &str =
    "for n in $(seq 0 7); do head -c 1400000 /dev/zero | tr '\\0' \"\\\\$n\" | cmp - $MNT/bucket/$n; done";

#[test]
fn a_mount_that_cannot_have_its_threads_is_refused_and_leaves_nothing() {
    let store = Store::new();
    std::fs::write(store.path("program.py"), PROGRAM).unwrap();
    let answer = store.sh_mounting_as(
        USER,
        &format!(
            r#"kmsfs init --key-file $KEY $STORE >/dev/null
            for most in $(seq 60); do
                code=0
                (ulimit -u $most; exec kmsfs mount --key-file $KEY -o threads=6,log_file=$PWD/log $STORE $MNT) 2>said || code=$?
                test $code != 0 || break
                while pgrep -U $(id -u) -x 'kmsfs|exe' >/dev/null; do sleep 0.01; done
                echo "$code $(cat said)"; ! grep -q " $MNT " /proc/mounts; flock -n $STORE/lock true || test ! -e $STORE/lock
            done
            echo mounted; grep 'event loops can be made' log
            mkdir $MNT/bucket; python3 ../program.py $MNT/bucket; crash
            up; {CHECK}; down; kmsfs fsck --scrub --key-file $KEY $STORE; cat log"#
        ),
    );
    assert_eq!(answer.code, 0, "{answer:?}");
    let (refusals, rest) = answer.out.split_once("mounted\n").unwrap();
    for refusal in refusals.lines() {
        let is_clear = refusal.starts_with("1 kmsfs: cannot start a process: Resource temporarily unavailable")
            || refusal.starts_with("1 kmsfs: cannot go into the background: Resource temporarily unavailable")
            || (refusal.starts_with("1 kmsfs: only ")
                && refusal.contains(" of 10 threads can be made: Resource temporarily unavailable: raise the limit"));
        assert!(is_clear, "{refusal:?}");
    }
    assert!(refusals.contains("threads can be made"), "{refusals}");
    assert!(rest.contains(" of 6 event loops can be made"), "{rest}");
    assert!(!rest.contains("panicked") && !rest.contains("ERROR"), "{rest}");
}

#[test]
fn a_mount_that_can_have_no_more_threads_goes_on_with_those_it_has() {
    let store = Store::new();
    std::fs::write(store.path("program.py"), PROGRAM).unwrap();
    let answer = store.sh_mounting_as(
        USER + 1,
        &format!(
            r"kmsfs init --key-file $KEY $STORE >/dev/null
            up; prlimit --pid $(cat $STORE/lock) --nproc=0; mkdir $MNT/bucket
            python3 ../program.py $MNT/bucket; kmsfs reencrypt --recursive --new-data-key $MNT/bucket; kmsfs sync $MNT
            {CHECK}; python3 ../program.py $MNT/bucket; kmsfs status $MNT >/dev/null; down
            up; {CHECK}; down; kmsfs fsck --scrub --key-file $KEY $STORE; cat log"
        ),
    );
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(!answer.out.contains("panicked") && !answer.out.contains("ERROR"), "{answer:?}");
}
