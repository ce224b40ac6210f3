//! Requests by io_uring: what a mount says where it cannot have that, and what it does where it can. The other tests
//! run over rings by `scripts/conformance rings`, which switches them on.

use crate::harness::{NOBODY, Store, by_io_uring, is_mounted, json};
use std::fs;

#[test]
fn where_they_cannot_be_had_a_mount_says_why_and_is_served_over_dev_fuse() {
    let Some(reason) = kmsfs_fuse::why_not_by_rings() else {
        eprintln!("not run: FUSE over io_uring is switched on here");
        return;
    };
    let parameter = "/sys/module/fuse/parameters/enable_uring";
    let is_off = fs::read_to_string(parameter).is_ok_and(|value| value.trim() == "N");
    let command = format!("echo Y > {parameter}");
    assert!(reason.contains(&command) || !is_off || reason.contains("with faults"), "{reason}");
    let store = Store::new();
    let said = store.sh("kmsfs mount --key-file $KEY -o io_uring,log_file=log $STORE $MNT 2>&1");
    assert_eq!(said, format!("kmsfs: requests come over /dev/fuse: {reason}\n"));
    assert!(is_mounted(&store.mountpoint()));
    store.expect_log("requests come by /dev/fuse");
    let status = json(&store.sh("kmsfs status --json $MNT; mkdir $MNT/bucket; echo content > $MNT/bucket/object"));
    assert_eq!(status["Transport"], "/dev/fuse");
    store.sh("grep content $MNT/bucket/object; umount $MNT");
}

#[test]
fn a_mount_says_what_carries_its_requests() {
    let store = Store::new();
    let _mount = store.mount();
    let carrier = if by_io_uring() { "io_uring" } else { "/dev/fuse" };
    store.expect_log(&format!("requests come by {carrier}"));
    assert_eq!(json(&store.sh("kmsfs status --json $MNT"))["Transport"], carrier);
}

#[test]
fn an_ordinary_user_has_them_unless_too_little_memory_may_be_locked() {
    let store = Store::new();
    let _any = store.mount();
    let has_connections = fs::read_dir("/sys/fs/fuse/connections").is_ok_and(|all| all.count() > 0);
    if !by_io_uring() || !has_connections {
        eprintln!("not run: it takes io_uring switched on, as scripts/conformance rings does it");
        return;
    }
    let answer = store.sh_mounting_as(
        NOBODY,
        r#"kmsfs init --key-file key store > /dev/null
           try() { kmsfs mount --key-file key -o io_uring,log_file=$PWD/log store mnt; kmsfs status mnt | grep Transport: | tr -s ' '
                   mkdir -p mnt/bucket; seq 1000 > mnt/bucket/object; cmp <(seq 1000) mnt/bucket/object; down; }
           ulimit -l 8192; try
           ulimit -l 16; try; grep -o "rings of io_uring cannot be made" log"#,
    );
    let expected = "Transport: io_uring\nTransport: /dev/fuse\nrings of io_uring cannot be made\n";
    assert_eq!((answer.code, answer.out.as_str()), (0, expected), "{answer:?}");
}

#[test]
fn mounts_that_come_and_go_leave_nothing() {
    let store = Store::new();
    for round in 0..if by_io_uring() { 20 } else { 2 } {
        let mount = store.mount();
        if round == 0 {
            mount.bucket("bucket");
        }
        let object = mount.path("bucket/object");
        fs::write(&object, format!("{round}")).unwrap();
        assert_eq!(fs::read_to_string(&object).unwrap(), format!("{round}"));
        mount.unmount();
    }
}
