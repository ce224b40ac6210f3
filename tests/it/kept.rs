//! What a user sets stays until a user changes it: nothing that the daemon does later takes it away.

use crate::harness::{NOBODY, Store};

/// `cap_net_raw` and effective, as setcap(8) sets it; what `getcap` then shows behind the name.
const SET: &str = "setcap cap_net_raw+ep";
const SHOWN: &str = "cap_net_raw=ep";

#[test]
fn a_file_capability_outlives_everything_but_a_change_of_content() {
    let store = Store::new();
    let mut mount = store.mount();
    mount.bucket("bucket");
    let has = |name: &str, when: &str| {
        let shown = store.sh(&format!("getcap $MNT/bucket/{name}"));
        assert!(shown.ends_with(&format!("{SHOWN}\n")), "{name}, {when}: {shown:?}");
    };
    // Content that was written and not committed yet, content in the log, and content at home.
    store.sh(&format!(
        "cp /bin/true source; {SET} source; cp -a source $MNT/bucket/copied
         cp source $MNT/bucket/logged; kmsfs sync $MNT; cat source 1<>$MNT/bucket/logged; {SET} $MNT/bucket/logged
         cp source $MNT/bucket/home; kmsfs sync $MNT; {SET} $MNT/bucket/home
         cp source $MNT/bucket/cut; fallocate -l 1M $MNT/bucket/cut; kmsfs sync $MNT
         truncate -s 5000 $MNT/bucket/cut; fallocate -p -o 0 -l 4096 $MNT/bucket/cut; {SET} $MNT/bucket/cut"
    ));
    let names = ["copied", "logged", "home", "cut"];
    for name in &names {
        has(name, "at once");
    }
    store.sh("kmsfs sync $MNT");
    for name in &names {
        has(name, "after a checkpoint");
    }
    store.sh("kmsfs reencrypt --recursive --new-data-key $MNT/bucket; kmsfs sync $MNT");
    for name in &names {
        has(name, "under a new data key");
    }
    mount.remount();
    for name in &names {
        has(name, "after a new mount");
    }
    store.sh(&format!("cat source 1<>$MNT/bucket/logged; {SET} $MNT/bucket/logged; sync $MNT/bucket/logged"));
    mount.kill9();
    store.sh("umount -l $MNT");
    let mut mount = store.mount();
    for name in &names {
        has(name, "after a crash");
    }
    assert_eq!(store.sh("cmp source $MNT/bucket/logged; getfattr -dm - $MNT/bucket/logged | grep -c =").trim(), "1");
    store.sh("echo x >>$MNT/bucket/home; setcap -r $MNT/bucket/logged; cp source $MNT/bucket/copied; truncate -s 1 $MNT/bucket/cut");
    for when in ["at once", "after a new mount"] {
        assert_eq!(store.sh("getcap $MNT/bucket/*"), "", "{when}");
        mount.remount();
    }
}

#[test]
fn what_a_capability_is_kept_under_is_not_for_users() {
    let store = Store::new();
    let mount = store.mount();
    mount.bucket("bucket");
    store.sh(&format!("cp /bin/true $MNT/bucket/file; {SET} $MNT/bucket/file; cp /bin/true $MNT/bucket/other"));
    let names = "getfattr -m - $MNT/bucket/file | grep -v '^#'";
    assert_eq!(store.sh(names).trim(), "security.capability");
    for refused in [
        "getfattr -n user.kmsfs.capability $MNT/bucket/file",
        "setfattr -n user.kmsfs.capability -v x $MNT/bucket/other",
        "setfattr -x user.kmsfs.capability $MNT/bucket/file",
    ] {
        assert_ne!(store.try_sh(refused).code, 0, "{refused}");
    }
    assert_eq!(store.sh(names).trim(), "security.capability");
    mount.unmount();
    // Whoever writes the store can take it away, or put another's there, and not make one.
    store.sh("setfattr -n user.kmsfs.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= $STORE/buckets/bucket/other");
    let _mount = store.mount();
    assert!(store.try_sh("getcap $MNT/bucket/other").err.contains("Input/output error"));
    assert!(store.sh("getcap $MNT/bucket/file").contains(SHOWN));
}

/// Without CAP_FSETID the kernel takes set-id bits from whatever the daemon writes into.
#[test]
fn set_id_bits_outlive_what_an_ordinary_users_daemon_writes() {
    let store = Store::new();
    let answer = store.sh_mounting_as(
        NOBODY,
        r"modes() { stat -c %a mnt/bucket/* | tr '\n' ' '; }
           kmsfs init --key-file key store >/dev/null; up; mkdir mnt/bucket
           seq 9999 >mnt/bucket/copied; chmod 6755 mnt/bucket/copied
           seq 9999 >mnt/bucket/logged; kmsfs sync mnt; seq 9999 1<>mnt/bucket/logged; chmod 2755 mnt/bucket/logged
           seq 9999 >mnt/bucket/taken; kmsfs sync mnt; seq 9999 1<>mnt/bucket/taken; chmod 4755 mnt/bucket/taken; chmod 755 mnt/bucket/taken
           seq 9999 >mnt/bucket/written; chmod 6755 mnt/bucket/written; echo x >>mnt/bucket/written
           modes; kmsfs sync mnt; modes; down; up; modes; cmp mnt/bucket/copied <(seq 9999)
           down",
    );
    assert_eq!((answer.code, answer.out.trim()), (0, "6755 2755 755 755 ".repeat(3).trim()), "{answer:?}");
}
