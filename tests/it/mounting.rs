//! Who may mount a store and use the mount, and on which disks. (What the command line says is tested in `cli`.)

use crate::harness::{Disk, KMS, NOBODY, Store, configuration, is_mounted, noise, wait_until};
use std::fs;

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
    store.try_sh("kmsfs init --key-file $KEY $STORE").expect_failure(1, "there is a store already");
    store.sh("echo the first one goes on > $MNT/bucket/object");
}

#[test]
fn a_store_of_a_newer_format_is_left_alone() {
    let store = Store::new();
    store.sh("sed -i.good 's/\"format_version\": [0-9]*/\"format_version\": 999/' $STORE/store.json");
    store.try_sh("kmsfs mount --key-file $KEY $STORE $MNT").expect_failure(1, "format version 999");
    assert!(!is_mounted(&store.mountpoint()));
    store.sh("mv $STORE/store.json.good $STORE/store.json");
    store.mount().unmount();
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
fn an_ordinary_user_mounts_through_fusermount3() {
    let store = Store::new();
    let answer = store.sh_mounting_as(
        NOBODY,
        r#"kmsfs init --key-file key store > /dev/null; up
           grep " $PWD/mnt fuse.kmsfs rw,nosuid,nodev," /proc/mounts | grep -o "user_id=65534"
           mkdir mnt/bucket; seq 1000 > mnt/bucket/object; stat -c %u mnt/bucket/object; cmp <(seq 1000) mnt/bucket/object
           down; kmsfs mount --key-file key -o ro,log_file=$PWD/log store mnt; wc -l < mnt/bucket/object
           if touch mnt/bucket/refused; then echo it can be written; fi; fusermount3 -u mnt"#,
    );
    assert!(answer.code == 0, "{answer:?}");
    assert_eq!(answer.out, "user_id=65534\n65534\n1000\n", "{answer:?}");
    // Everything is the user's own and nobody else's.
    let modes = store.sh("stat -c '%a %u' theirs/store theirs/key theirs/store/store.json");
    assert_eq!(modes, "700 65534\n600 65534\n600 65534\n");
}

/// Wherever the keyring is that is there now, the key that is made at its first use is in it.
#[test]
fn a_store_that_was_moved_makes_its_default_key_at_first_use() {
    const USE: &str = r#"
        key() { getfattr --only-values -n user.x-amz-server-side-encryption-aws-kms-key-id $MNT/bucket/file; }
        described() {
            kmsfs kms --key-file $KEY --store new/store "$@" describe-key --key-id alias/aws/s3 | grep -o 'arn:[^"]*:key/[^"]*'
        }
        mkdir $MNT/bucket; echo "$DEFAULT" >$MNT/bucket/.encryption.json; echo -n secret >$MNT/bucket/file"#;
    for keyring in ["", "ring"] {
        for is_mounted in [false, true] {
            let store = Store::new();
            let option =
                |dir: &str| if keyring.is_empty() { String::new() } else { format!("--keyring {dir}/{keyring}") };
            let (old, new) = (option("old"), option("new"));
            let up = |dir: &str, keyring: &str| {
                format!("kmsfs mount --key-file $KEY {keyring} -o log_file=$PWD/log {dir}/store $MNT")
            };
            let moved = if is_mounted {
                format!("{}; mv old new", up("old", &old))
            } else {
                format!("mv old new; {}", up("new", &new))
            };
            let looked_at = format!(r#"test "$(key)" = "$(described {new})"; cat $MNT/bucket/file; umount $MNT"#);
            let shown = store.sh(&format!(
                "DEFAULT='{}'; mkdir old; kmsfs init --key-file $KEY {old} old/store >init; {moved}; {USE}
                 {looked_at}; flock new/store/lock true; {}; {looked_at}; flock new/store/lock true",
                configuration(KMS, false),
                up("new", &new)
            ));
            assert_eq!(shown, "secretsecret", "{keyring:?} {is_mounted}");
            let misplaced = store.try_sh(&up("new", if keyring.is_empty() { "--keyring new/ring" } else { "" }));
            misplaced.expect_failure(1, "one that is elsewhere is named with --keyring");
        }
    }
}

#[test]
fn other_users_come_in_only_where_they_are_allowed() {
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
fn what_is_there_can_be_overwritten_on_a_full_disk() {
    // More than the redo log has room for, which cannot grow.
    let disk = Disk::with_blocks(4096, 32);
    let store = Store::at(&disk.path().join("store"));
    let mut mount = store.mount();
    let object = mount.bucket("bucket").join("object");
    fs::write(&object, noise(1, 3_000_000)).unwrap();
    store.sh("sync -f $MNT/bucket/object");
    store.try_sh("dd if=/dev/zero of=$MNT/bucket/large bs=1M count=64 conv=fsync").expect_failure(1, "No space left");
    for (round, block) in ["1M", "64k", "5000"].iter().enumerate() {
        let content = noise(2 + round as u64, 3_000_000);
        fs::write(store.path("new"), &content).unwrap();
        store.sh(&format!("dd if=new of=$MNT/bucket/object bs={block} conv=notrunc,fsync status=none"));
        mount.kill9();
        mount = store.mount();
        assert!(fs::read(&object).unwrap() == content, "{block}");
        // Checkpoints that left it uncommitted do not make damage of it.
        fs::read(object.with_file_name("large")).unwrap();
    }
    mount.unmount();
    store.sh("kmsfs fsck --scrub --key-file $KEY $STORE");
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

#[test]
fn overlayfs_takes_a_directory_of_the_mount_as_its_upper_one() {
    let store = Store::new();
    let mount = store.mount();
    mount.bucket("bucket");
    store.sh(r#"mkdir -p lower/dir merged $MNT/bucket/{upper,work}
           for name in gone changed renamed dir/inside; do echo below >lower/$name; done
           mount -t overlay overlay -o lowerdir=$PWD/lower,upperdir=$MNT/bucket/upper,workdir=$MNT/bucket/work merged
           trap "umount $PWD/merged" EXIT
           ( cd merged; rm gone; echo above >>changed; mv renamed anew; rm -r dir; mkdir dir; echo new >dir/new )
           test "$(cd merged; find | sort | tr '\n' ' ')" = ". ./anew ./changed ./dir ./dir/new "
           test "$(cat merged/changed merged/anew)" = $'below\nabove\nbelow'
           test -c $MNT/bucket/upper/gone; test -c $MNT/bucket/upper/renamed"#);
}
