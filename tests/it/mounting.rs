//! Mounting and unmounting: what mount(8), fstab, signals and ordinary users do, and what is refused with a clear word.

use crate::harness::{Disk, OpenDevice, Store, is_mounted, names_in, noise, wait_until};
use std::fs;

#[test]
fn mount8_mounts_either_type() {
    let store = Store::new();
    for kind in ["kmsfs", "fuse.kmsfs"] {
        let shown = store.sh_private(&format!(
            "mount -t {kind} $STORE $MNT -o key-file=$KEY,log_file=$PWD/log
             grep \" $MNT \" /proc/mounts; findmnt -no SOURCE,FSTYPE $MNT
             mkdir $MNT/{kind} && echo content > $MNT/{kind}/object && umount $MNT; ls -A $MNT"
        ));
        let source = store.store().display();
        let line = format!("{source} {} fuse.kmsfs rw,", store.mountpoint().display());
        assert!(shown.starts_with(&line), "{shown}");
        assert!(shown.trim_end().ends_with(" fuse.kmsfs"), "{shown}");
        store.wait_until_closed();
    }
    let mount = store.mount();
    assert_eq!(names_in(&mount.path("")), ["fuse.kmsfs", "kmsfs"]);
}

#[test]
fn fstab_lines_of_either_type_work() {
    let store = Store::new();
    for kind in ["kmsfs", "fuse.kmsfs"] {
        store.sh_private(&format!(
            "echo \"$STORE $MNT {kind} key-file=$KEY,log_file=$PWD/log,noauto,users,suid,dev,exec,nofail,_netdev,x-systemd.automount,comment=mine 0 0\" > fstab
             mount -T fstab $MNT
             mkdir -p $MNT/bucket; echo {kind} > $MNT/bucket/object
             mount -T fstab -o remount,ro $MNT; ! touch $MNT/bucket/refused
             mount -T fstab -o remount,rw $MNT; touch $MNT/bucket/accepted; rm $MNT/bucket/accepted
             umount $MNT"
        ));
        store.wait_until_closed();
    }
    let mount = store.mount();
    assert_eq!(names_in(&mount.path("bucket")), ["object"]);
    assert_eq!(fs::read_to_string(mount.path("bucket/object")).unwrap(), "fuse.kmsfs\n");
}

#[test]
fn mount8_options_are_taken_or_refused_by_name() {
    let store = Store::new();
    store.sh_private(
        "mount -v -n -t kmsfs -r $STORE $MNT -o key-file=$KEY,log_file=$PWD/log,nosuid,nodev,noexec,noatime,allow_other
         grep \" $MNT fuse.kmsfs ro,nosuid,nodev,noexec,noatime,\" /proc/mounts | grep allow_other
         ! mkdir $MNT/bucket; umount $MNT
         mount -f -t kmsfs $STORE $MNT -o key-file=$KEY; ! grep \" $MNT \" /proc/mounts
         ! mount -t kmsfs $STORE $MNT -o key-file=$KEY,cipher=none 2> said; grep \"unknown mount option 'cipher=none'\" said
         mount -s -t kmsfs $STORE $MNT -o key-file=$KEY,log_file=$PWD/log,cipher=none; umount $MNT
         ! mount -t kmsfs $STORE.absent $MNT -o key-file=$KEY 2> said; grep 'does not exist' said",
    );
    store.wait_until_closed();
    store
        .try_sh("kmsfs mount --key-file $KEY -o ro,cipher=none $STORE $MNT")
        .expect_failure(2, "unknown mount option 'cipher=none'");
    store.try_sh("kmsfs mount --key-file $KEY --frobnicate $STORE $MNT").expect_failure(2, "--frobnicate");
    store.try_sh("kmsfs mount --key-file $KEY $STORE").expect_failure(2, "MOUNTPOINT");
    store.try_sh("kmsfs mount --key-file $KEY -o threads=0 $STORE $MNT").expect_failure(2, "threads=0");
}

#[test]
fn a_mount_in_the_background_answers_when_the_command_returns() {
    let store = Store::new();
    for unmount in ["umount", "fusermount3 -u", "umount -l"] {
        store.sh(&format!(
            "kmsfs mount --key-file $KEY -o log_file=log $STORE $MNT; mkdir -p $MNT/bucket; echo x >> $MNT/bucket/object; {unmount} $MNT"
        ));
        store.wait_until_closed();
        assert!(!is_mounted(&store.mountpoint()), "{unmount}");
    }
    let mount = store.mount();
    assert_eq!(fs::read_to_string(mount.path("bucket/object")).unwrap(), "x\nx\nx\n");
    assert!(store.log().lines().filter(|line| line.contains("unmounted ")).count() >= 3, "{}", store.log());
}

#[test]
fn signals_unmount_cleanly() {
    let store = Store::new();
    for signal in ["TERM", "INT"] {
        let mut mount = store.mount();
        store.sh("mkdir -p $MNT/bucket; seq 1000 >> $MNT/bucket/object");
        store.sh(&format!("kill -{signal} {}", mount.pid()));
        assert!(mount.wait().success(), "{}", store.log());
        assert!(!is_mounted(&store.mountpoint()), "{signal}");
    }
    let _mount = store.mount();
    assert_eq!(store.sh("wc -l < $MNT/bucket/object"), "2000\n");
}

#[test]
fn a_second_mount_of_a_store_is_refused_and_told_by_whom() {
    let store = Store::new();
    let mount = store.mount();
    store.sh("mkdir mnt2 $MNT/bucket");
    for options in ["", "-o ro", "--foreground"] {
        let answer = store.try_sh(&format!("kmsfs mount {options} --key-file $KEY $STORE mnt2"));
        answer.expect_failure(4, &mount.pid().to_string());
        assert!(!is_mounted(&store.path("mnt2")));
    }
    store.try_sh("kmsfs mount --key-file $KEY $STORE $MNT").expect_failure(1, "already mounted");
    store.try_sh("kmsfs init --key-file $KEY $STORE").expect_failure(1, "not empty");
    store.sh("echo the first one goes on > $MNT/bucket/object");
}

#[test]
fn two_read_only_mounts_share_a_store() {
    let store = Store::new();
    let mount = store.mount();
    fs::write(mount.bucket("bucket").join("object"), "content").unwrap();
    mount.unmount();
    let mount = store.mount_with("ro");
    store.sh("mkdir mnt2; kmsfs mount --key-file $KEY -o ro,log_file=log $STORE mnt2; cmp $MNT/bucket/object mnt2/bucket/object");
    store.try_sh("echo x > $MNT/bucket/object").expect_failure(1, "Read-only file system");
    store.try_sh("mkdir $MNT/other").expect_failure(1, "Read-only file system");
    store.sh("umount mnt2");
    assert_eq!(fs::read_to_string(mount.path("bucket/object")).unwrap(), "content");
}

#[test]
fn what_is_no_store_or_no_mount_point_is_named() {
    let store = Store::new();
    store.sh("mkdir empty; touch file; umask 077; head -c 32 /dev/urandom > other-key; head -c 7 $KEY > short");
    for (words, code, text) in [
        ("--key-file $KEY absent $MNT", 1, "store absent does not exist"),
        ("--key-file $KEY file $MNT", 1, "file is not a kmsfs store"),
        ("--key-file $KEY empty $MNT", 1, "not a kmsfs store"),
        ("--key-file $KEY $STORE absent", 1, "mount point absent does not exist"),
        ("--key-file $KEY $STORE file", 1, "mount point file is not a directory"),
        ("--key-file $KEY $STORE $STORE/keyring", 1, "overlap"),
        ("--key-file absent $STORE $MNT", 1, "absent"),
        ("--key-file other-key $STORE $MNT", 3, "wrong key"),
        ("--key-file short $STORE $MNT", 3, "wrong key"),
        ("--passphrase-file other-key $STORE $MNT", 3, "wrong key"),
        ("--key-file $KEY --keyring empty $STORE $MNT", 1, "keyring"),
    ] {
        store.try_sh(&format!("kmsfs mount {words}")).expect_failure(code, text);
        assert!(!is_mounted(&store.mountpoint()), "{words}");
    }
    assert_eq!(names_in(&store.path("empty")).len(), 0);
    store.sh("sed -i.good 's/\"format_version\": [0-9]*/\"format_version\": 999/' $STORE/store.json");
    store.try_sh("kmsfs mount --key-file $KEY $STORE $MNT").expect_failure(1, "version 999");
    store.sh("mv $STORE/store.json.good $STORE/store.json");
    let _mount = store.mount();
}

#[test]
fn a_passphrase_opens_a_store_that_it_made() {
    let store = Store::new();
    store.sh("umask 077; echo 'open sesame' > pass; echo 'open barley' > wrong; kmsfs init --passphrase-file pass second
              ! kmsfs mount --passphrase-file wrong second $MNT; kmsfs mount --passphrase-file pass -o log_file=log second $MNT
              mkdir $MNT/bucket; echo x > $MNT/bucket/object; umount $MNT");
    store.try_sh("kmsfs mount --passphrase-file wrong second $MNT").expect_failure(3, "wrong key");
    store.try_sh("kmsfs mount --key-file $KEY second $MNT").expect_failure(3, "wrong key");
}

#[test]
fn a_mount_point_that_is_not_empty_is_warned_about() {
    let store = Store::new();
    store.sh("touch $MNT/hidden");
    let mount = store.mount();
    assert_eq!(names_in(&mount.path("")).len(), 0);
    let said = fs::read_to_string(store.path("daemon.said")).unwrap();
    assert!(said.contains("is not empty: its files are hidden"), "{said}");
    mount.unmount();
    assert_eq!(names_in(&store.mountpoint()), ["hidden"]);
}

#[test]
fn an_ordinary_user_mounts_through_fusermount3() {
    const NOBODY: u32 = 65534;
    let store = Store::new();
    store.open_to_all();
    store.sh("mkdir theirs theirs/mnt; chown -R 65534:65534 theirs");
    let _device = OpenDevice::new();
    let answer = store.sh_as(
        NOBODY,
        r#"cd theirs
           kmsfs init --key-file key store > /dev/null; kmsfs mount --key-file key -o log_file=$PWD/log store mnt
           trap 'fusermount3 -u -z mnt 2>/dev/null || true' EXIT
           grep " $PWD/mnt fuse.kmsfs rw,nosuid,nodev," /proc/mounts | grep -o "user_id=65534"
           mkdir mnt/bucket; seq 1000 > mnt/bucket/object; stat -c %u mnt/bucket/object; cmp <(seq 1000) mnt/bucket/object
           fusermount3 -u mnt; kmsfs mount --key-file key -o ro,log_file=$PWD/log store mnt; wc -l < mnt/bucket/object
           ! touch mnt/bucket/refused; fusermount3 -u mnt"#,
    );
    assert!(answer.code == 0, "{answer:?}");
    assert_eq!(answer.out, "user_id=65534\n65534\n1000\n", "{answer:?}");
    // Everything is the user's own and nobody else's.
    let modes = store.sh("stat -c '%a %u' theirs/store theirs/key theirs/store/store.json");
    assert_eq!(modes, "700 65534\n600 65534\n600 65534\n");
}

#[test]
fn other_users_come_in_only_where_they_are_allowed() {
    const NOBODY: u32 = 65534;
    let store = Store::new();
    store.open_to_all();
    let mount = store.mount();
    mount.bucket("bucket");
    store.sh("echo x > $MNT/bucket/object");
    store.sh_as(NOBODY, "ls $MNT").expect_failure(2, "Permission denied");
    mount.unmount();
    let _mount = store.mount_with("allow_other");
    store.sh("mkdir -m 1777 $MNT/bucket/tmp; echo private > $MNT/bucket/private; chmod 600 $MNT/bucket/private");
    let answer =
        store.sh_as(NOBODY, "cat $MNT/bucket/object; echo y > $MNT/bucket/tmp/mine; stat -c %u $MNT/bucket/tmp/mine");
    assert_eq!((answer.code, answer.out.as_str()), (0, "x\n65534\n"), "{answer:?}");
    store.sh_as(NOBODY, "cat $MNT/bucket/private").expect_failure(1, "Permission denied");
    store.sh_as(NOBODY, "touch $MNT/bucket/new").expect_failure(1, "Permission denied");
    store.sh_as(NOBODY, "chmod 777 $MNT/bucket/object").expect_failure(1, "Operation not permitted");
    store.sh_as(NOBODY, "mkdir $MNT/another-bucket").expect_failure(1, "Permission denied");
}

#[test]
fn a_full_disk_is_told_and_costs_nothing_that_was_there() {
    let disk = Disk::new(32);
    let store = Store::at(&disk.path().join("store"));
    let mut mount = store.mount();
    let bucket = mount.bucket("bucket");
    let content = noise(1, 3_000_000);
    fs::write(bucket.join("before"), &content).unwrap();
    fs::write(bucket.join("overwritten"), &content).unwrap();
    // Too large to fit: the error comes from write, or from close or fsync at the latest.
    let answer = store.try_sh("dd if=/dev/zero of=$MNT/bucket/large bs=1M count=64 conv=fsync");
    answer.expect_failure(1, "No space left on device");
    store
        .try_sh("for i in $(seq 3000); do head -c 20000 /dev/zero | tr '\\0' x > $MNT/bucket/small-$i; done")
        .expect_failure(1, "No space left on device");
    assert!(fs::read(bucket.join("before")).unwrap() == content);
    // The log's space was there all along.
    store.sh("dd if=/dev/urandom of=patch bs=1000 count=1 status=none; dd if=patch of=$MNT/bucket/overwritten bs=1000 seek=5 conv=notrunc,fsync status=none");
    mount.remount();
    assert!(fs::read(bucket.join("before")).unwrap() == content);
    let mut overwritten = content.clone();
    overwritten[5000..6000].copy_from_slice(&fs::read(store.path("patch")).unwrap());
    assert!(fs::read(bucket.join("overwritten")).unwrap() == overwritten);
    store.sh("rm -f $MNT/bucket/large $MNT/bucket/small-*");
    assert!(wait_until(|| fs::write(bucket.join("after"), &content).is_ok()), "space does not come back");
    mount.remount();
    assert!(fs::read(bucket.join("after")).unwrap() == content);
}

#[test]
fn a_read_only_backing_directory_can_be_read() {
    let disk = Disk::new(32);
    let store = Store::at(&disk.path().join("store"));
    let mount = store.mount();
    fs::write(mount.bucket("bucket").join("object"), "content").unwrap();
    mount.unmount();
    disk.sh("mount -o remount,ro mnt");
    store.try_sh("kmsfs mount --key-file $KEY $STORE $MNT").expect_failure(1, "Read-only file system");
    let mount = store.mount_with("ro");
    assert_eq!(fs::read_to_string(mount.path("bucket/object")).unwrap(), "content");
    store.try_sh("echo x > $MNT/bucket/object").expect_failure(1, "Read-only file system");
}
