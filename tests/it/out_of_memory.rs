//! Control groups and processes that may have little memory.

use crate::harness::Store;

/// In place of what the kernel shows: a group above all others, of both versions, that may have 24 MiB.
const SMALL_GROUP: &str = "mount -t tmpfs none /sys/fs/cgroup; mkdir /sys/fs/cgroup/memory
    echo 25165824 | tee /sys/fs/cgroup/memory.max > /sys/fs/cgroup/memory/memory.limit_in_bytes";

#[test]
fn what_is_kept_is_bounded_by_half_of_what_the_control_group_may_have() {
    let store = Store::new();
    let mount = "kmsfs mount --key-file $KEY -o log_file=$PWD/log";
    let answer = store.try_sh_private(&format!("{SMALL_GROUP}; {mount} $STORE $MNT; ls $MNT; umount $MNT"));
    let text = "cache=64 is more than half of the 24 MiB that its control group may have: it is 12 MiB";
    assert!(answer.code == 0 && answer.err.contains(text), "{answer:?}");
    store.wait_until_closed();
    let answer = store.try_sh_private(&format!("{SMALL_GROUP}; {mount},cache=12 $STORE $MNT; umount $MNT"));
    assert!(answer.code == 0 && !answer.err.contains("cache="), "{answer:?}");
    store.wait_until_closed();
    let limited = "ulimit -d 400000; setpriv --bounding-set -sys_resource --inh-caps -sys_resource --";
    let answer = store.try_sh(&format!("{limited} {mount},cache=300 $STORE $MNT; umount $MNT"));
    let text =
        "cache=300 is more than half of the 390 MiB that this process may have (ulimit -v, ulimit -d): it is 195 MiB";
    assert!(answer.code == 0 && answer.err.contains(text), "{answer:?}");
}

/// Memory that cannot be had ends the daemon as a kill does, or fails what wanted it.
#[test]
fn what_was_acknowledged_is_there_after_memory_could_not_be_had() {
    let store = Store::on_tmpfs();
    store.sh(
        r"kmsfs mount --key-file $KEY -o log_file=$PWD/log $STORE $MNT; mkdir $MNT/bucket; pid=$(cat $STORE/lock)
           head -c 3M /dev/urandom > before; dd if=before of=$MNT/bucket/before bs=64k conv=fsync status=none
           prlimit --pid $pid --as=1
           for n in $(seq 40); do
               head -c 2M /dev/urandom > content-$n
               if dd if=content-$n of=$MNT/bucket/$n bs=1M conv=fsync status=none; then echo content-$n >> acknowledged; fi
           done 2>/dev/null
           kill -9 $pid || true; until flock -n $STORE/lock true; do sleep 0.02; done; umount -l $MNT",
    );
    let _mount = store.mount();
    store.sh("cmp before $MNT/bucket/before; touch acknowledged; cat acknowledged | while read file; do cmp $file $MNT/bucket/${file#content-}; done");
    assert!(!store.log().contains("panicked"), "{}", store.log());
}
