//! An ordinary user's store, with modes that deny things to that user; and what is said where it is not that user's.

use crate::harness::{Answer, NOBODY, Store};

/// `change` is made in a mount that is killed, while what was written is in the redo log only. Then `after` is what the
/// user does; what that says.
#[track_caller]
fn after_a_crash(change: &str, after: &str) -> Answer {
    let store = Store::new();
    let answer = store.sh_mounting_as(
        NOBODY,
        &format!(
            "kmsfs init --key-file $KEY $STORE >/dev/null; up; mkdir $MNT/bucket $MNT/bucket/closed
             echo one > $MNT/bucket/draft; kmsfs sync $MNT; echo two >> $MNT/bucket/draft; sync $MNT/bucket/draft
             {change}; crash
             fsck() {{ kmsfs fsck --key-file $KEY $* $STORE; }}
             {after}"
        ),
    );
    assert_eq!(answer.code, 0, "{change}: {answer:?}");
    answer
}

/// Before anything was mounted again, and after.
const LOOKS: [&str; 3] = ["fsck --scrub", "fsck --repair", "up; down; fsck --scrub"];

#[test]
fn directories_that_their_user_closed_are_searched_after_a_crash_and_by_fsck() {
    for mode in ["0", "300", "400"] {
        for look in LOOKS {
            let said = after_a_crash(
                &format!(
                    "setfattr -n user.note -v kept $MNT/bucket/closed; mkdir $MNT/bucket/closed/below
                     mv $MNT/bucket/draft $MNT/bucket/closed/below/final; sync -f $MNT
                     chmod {mode} $MNT/bucket/closed/below $MNT/bucket/closed"
                ),
                &format!(
                    "{look}; stat -c 'mode %a' $STORE/buckets/bucket/closed; ls -A $STORE
                     up; chmod 700 $MNT/bucket/closed; stat -c 'mode %a' $MNT/bucket/closed/below
                     chmod 700 $MNT/bucket/closed/below; cat $MNT/bucket/closed/below/final
                     getfattr --absolute-names -n user.note $MNT/bucket/closed; down"
                ),
            );
            assert!(!said.out.contains("ERROR") && !said.out.contains("mode-"), "{mode}, {look}: {said:?}");
            assert!(said.out.contains(" 2 directories, 1 object,"), "{mode}, {look}: {said:?}");
            assert_eq!(said.out.matches(&format!("mode {mode}\n")).count(), 2, "{mode}, {look}: {said:?}");
            assert!(said.out.contains("one\ntwo\n") && said.out.contains("\"kept\""), "{mode}, {look}: {said:?}");
        }
    }
}

#[test]
fn a_file_that_its_user_closed_is_no_error_and_its_changes_come_home() {
    for look in LOOKS {
        let said = after_a_crash(
            "setfattr -n user.note -v kept $MNT/bucket/draft; chmod 0 $MNT/bucket/draft",
            &format!(
                "{look}; stat -c 'mode %a' $STORE/buckets/bucket/draft; up; chmod 600 $MNT/bucket/draft
                 cat $MNT/bucket/draft; getfattr --absolute-names -n user.note $MNT/bucket/draft; down"
            ),
        );
        assert!(said.out.contains(" 1 object,") && !said.out.contains("ERROR"), "{look}: {said:?}");
        assert!(said.out.contains("mode 0\n") && said.out.contains("one\ntwo\n"), "{look}: {said:?}");
        assert!(said.out.contains("\"kept\""), "{look}: {said:?}");
    }
}

#[test]
fn somebody_elses_store_is_said_to_be_so() {
    let store = Store::new();
    store.open_to_all();
    store.sh("head -c 32 /dev/urandom > own; chmod 600 own; chown 65534 own");
    let text =
        "/store: Permission denied: it belongs to uid 0, and this is run by uid 65534: run it as the store's owner";
    store.sh_as(NOBODY, "kmsfs fsck --key-file own $STORE").expect_failure(8, text);
}

/// In /dev there is nothing but what `more` makes.
fn mount_with_devices(more: &str, how: &str) -> Answer {
    let store = Store::new();
    let script = format!(
        "mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3; mknod /dev/urandom c 1 9; chmod 444 /dev/urandom
         {more}
         {how} kmsfs mount --key-file $KEY -o log_file=$PWD/log $STORE $MNT"
    );
    store.try_sh_private(&script)
}

const WITHOUT_MOUNTING: &str = "setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin";

#[test]
fn a_machine_without_fuse_is_told_what_it_lacks() {
    let text = "/dev/fuse is not there: load the kernel's module (modprobe fuse), or give the container the device \
                (docker and podman: --device /dev/fuse)";
    mount_with_devices("", "").expect_failure(1, text);
    // A node of a module that is not loaded.
    mount_with_devices("mknod /dev/fuse c 10 199", "").expect_failure(1, text);
}

#[test]
fn a_container_that_may_not_open_the_device_or_not_mount_is_told_so() {
    // A mount without devices refuses as a control group of devices does, but for the number.
    let closed = "mkdir /dev/closed; mount -t tmpfs -o nodev none /dev/closed; mknod -m 666 /dev/closed/fuse c 10 229
                  ln -s closed/fuse /dev/fuse";
    mount_with_devices(closed, "").expect_failure(1, "/dev/fuse may not be opened by this user");
    let open = "mknod -m 666 /dev/fuse c 10 229";
    let refused = mount_with_devices(open, WITHOUT_MOUNTING);
    refused
        .expect_failure(1, "this container may not mount: give it the right (docker and podman: --cap-add SYS_ADMIN");
}

#[test]
fn who_may_not_mount_and_has_no_fusermount3_is_told_so() {
    let without = "mknod -m 666 /dev/fuse c 10 229
                   programs=$(readlink -f /usr/bin)
                   mkdir /dev/layer; mount -t tmpfs none /dev/layer; mkdir /dev/layer/upper /dev/layer/work
                   mknod /dev/layer/upper/fusermount3 c 0 0; mknod /dev/layer/upper/fusermount c 0 0
                   mount -t overlay -o lowerdir=$programs,upperdir=/dev/layer/upper,workdir=/dev/layer/work none $programs";
    let text = "fusermount3 is not there, which mounts for those who may not (package fuse3)";
    mount_with_devices(without, WITHOUT_MOUNTING).expect_failure(1, text);
}

/// Keys are looked at again and again, so that no limit of inotify(7) matters: all instances that the user may have are
/// in use.
#[test]
fn keys_that_are_taken_away_are_noticed_where_nothing_more_can_be_watched() {
    const USER: u32 = 61_240;
    let store = Store::new();
    let answer = store.sh_mounting_as(
        USER,
        r#"kmsfs init --key-file $KEY $STORE >/dev/null; kms() { kmsfs kms --store $STORE --key-file $KEY "$@"; }
           python3 -c '
import ctypes, errno, os, resource, time
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
libc = ctypes.CDLL(None, use_errno=True)
made = 0
while libc.inotify_init() >= 0: made += 1
assert made and ctypes.get_errno() == errno.EMFILE
open("used-up", "w").close()
time.sleep(600)' & holder=$!; trap 'kill $holder; fusermount3 -uz "$MNT" 2>/dev/null || true' EXIT
           until test -e used-up; do kill -0 $holder; sleep 0.02; done
           up; key=$(kms create-key | sed -n 's/.*"KeyId": "\(.*\)".*/\1/p'); mkdir $MNT/bucket
           echo secret > content; kmsfs put --server-side-encryption aws:kms --ssekms-key-id $key content $MNT/bucket/object >/dev/null
           exec 5< $MNT/bucket/object; cat $MNT/bucket/object
           kms disable-key --key-id $key
           for n in $(seq 1000); do python3 -c 'import os; os.pread(5, 1, 0)' 2>refused || break; sleep 0.02; done
           cat refused; exec 5<&-; down"#,
    );
    assert!(answer.code == 0 && answer.out.starts_with("secret\n"), "{answer:?}");
    assert!(answer.out.contains("Permission denied") || answer.out.contains("PermissionError"), "{answer:?}");
}
