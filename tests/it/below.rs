//! What lies below a store: one file system, and one that keeps what a store relies on.

use crate::harness::{Disk, Mount, Store, names_in};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;

fn errno<T>(done: io::Result<T>) -> i32 {
    done.err().expect("an error").raw_os_error().expect("an errno")
}

const REASON: &str = "another file system begins here (a mount point, a btrfs subvolume, a layer of an overlay)";

/// Inode numbers of a second disk repeat the first one's: files showed other files' content and were overwritten.
#[test]
fn a_disk_that_is_mounted_on_a_bucket_below_is_refused() {
    let disk = Disk::with_blocks(4096, 64);
    let store = Store::at(&disk.path().join("store"));
    let mount = store.mount();
    for bucket in ["one", "two"] {
        fs::write(mount.bucket(bucket).join("file"), bucket).unwrap();
    }
    mount.unmount();
    // The copy has the numbers that the original has on its own disk.
    let second = Disk::with_blocks(4096, 64);
    let below = store.store().join("buckets/two");
    store.sh(&format!("cp -a {}/. {}/", below.display(), second.path().display()));
    let bind = format!("mount --bind {} {}", second.path().display(), below.display());
    store.sh(&bind);

    let mount = store.mount();
    assert_eq!(fs::read(mount.path("one/file")).unwrap(), b"one");
    assert_eq!(errno(fs::read(mount.path("two/file"))), libc::EIO);
    assert_eq!(errno(fs::read_dir(mount.path("two"))), libc::EIO);
    // It is listed, so that whoever copies the tree is told.
    assert_eq!(names_in(&store.mountpoint()), ["one", "two"]);
    let listing = store.try_sh("ls -la $MNT");
    listing.expect_failure(1, "two': Input/output error");
    assert_eq!(errno(fs::write(mount.path("two/new"), "x")), libc::EIO);
    assert_eq!(errno(fs::rename(mount.path("two"), mount.path("three"))), libc::EIO);
    assert_eq!(errno(fs::remove_dir(mount.path("two"))), libc::EIO);
    store.expect_log(&format!("two: {REASON}"));
    mount.unmount();
    let fsck = store.try_sh("kmsfs fsck --key-file $KEY $STORE 2>&1");
    assert!(fsck.code != 0 && fsck.out.contains(&format!("two: {REASON}")), "{fsck:?}");

    store.sh(&format!("umount {}", below.display()));
    let mount = store.mount();
    assert_eq!(fs::read(mount.path("two/file")).unwrap(), b"two");
    mount.unmount();
    assert_eq!(store.try_sh("kmsfs fsck --key-file $KEY $STORE").code, 0);
}

/// A single file may be a mount point too, and one that appears while the store is mounted.
#[test]
fn a_file_that_is_mounted_on_an_object_below_is_refused() {
    let other = Disk::with_blocks(4096, 16);
    let store = Store::new();
    let mount = store.mount();
    fs::write(mount.bucket("bucket").join("file"), "content").unwrap();
    mount.unmount();
    let below = store.store().join("buckets/bucket/file");
    store.sh(&format!("cp {} {}/file", below.display(), other.path().display()));
    store.sh(&format!("mount --bind {}/file {}", other.path().display(), below.display()));
    let mount = store.mount();
    assert_eq!(errno(fs::read(mount.path("bucket/file"))), libc::EIO);
    assert_eq!(errno(fs::remove_file(mount.path("bucket/file"))), libc::EIO);
    store.expect_log(&format!("bucket/file: {REASON}"));
    mount.unmount();
    let fsck = store.try_sh("kmsfs fsck --key-file $KEY $STORE 2>&1");
    assert!(fsck.code != 0 && fsck.out.contains(&format!("bucket/file: {REASON}")), "{fsck:?}");
    store.sh(&format!("umount {}", below.display()));
    let mount = store.mount();
    assert_eq!(fs::read(mount.path("bucket/file")).unwrap(), b"content");
}

/// What the redo log has for an object that is hidden there would be lost.
#[test]
fn recovery_is_refused_while_a_bucket_is_hidden_by_another_file_system() {
    let disk = Disk::with_blocks(4096, 64);
    let store = Store::at(&disk.path().join("store"));
    let mount = store.mount();
    let file = mount.bucket("bucket").join("file");
    fs::write(&file, "first").unwrap();
    fs::File::open(&file).unwrap().sync_all().unwrap();
    // An overwrite goes to the log.
    fs::write(&file, "second").unwrap();
    fs::File::open(&file).unwrap().sync_all().unwrap();
    mount.kill9();
    store.sh("umount -l $MNT");
    let below = store.store().join("buckets/bucket");
    store.sh(&format!("mount -t tmpfs none {}", below.display()));
    let refused = store.try_mount("").err().expect("a refusal");
    refused.expect_failure(1, &format!("buckets/bucket: {REASON}"));
    store.sh(&format!("umount {}", below.display()));
    let mount = store.mount();
    assert_eq!(fs::read(mount.path("bucket/file")).unwrap(), b"second");
}

/// The parts of a store are on its file system too: a sync of the store reaches no other.
#[test]
fn parts_of_a_store_on_another_file_system_are_refused() {
    for part in ["sidecars", "log", "meta", "buckets"] {
        let store = Store::new();
        let place = store.store().join(part);
        store.sh(&format!("cp -a {0} aside && mount -t tmpfs none {0} && cp -a aside/. {0}/", place.display()));
        let refused = store.try_mount("").err().expect("a refusal");
        refused.expect_failure(1, &format!("{part}: {REASON}"));
    }
}

/// Over a lower layer on another file system files have other devices than their directories.
#[test]
fn an_overlay_over_two_file_systems_is_refused_before_anything_is_made() {
    let lower = Disk::with_blocks(4096, 16);
    let store = Store::new();
    let overlay = store.path("overlay");
    store.sh("mkdir overlay upper && mount -t tmpfs none upper && mkdir upper/data upper/work");
    store.sh(&format!(
        "mount -t overlay none -o xino=off,lowerdir={},upperdir=upper/data,workdir=upper/work overlay",
        lower.path().display()
    ));
    let made = store.try_sh("kmsfs init --key-file other.key overlay/store");
    made.expect_failure(1, "the file system there is not fit for a store: files are on another device");
    assert!(!overlay.join("store").exists() && !store.path("other.key").exists());
}

#[test]
fn a_store_that_was_copied_to_an_overlay_over_two_file_systems_is_not_mounted() {
    let lower = Disk::with_blocks(4096, 16);
    let store = Store::new();
    store.sh("mkdir overlay upper && mount -t tmpfs none upper && mkdir upper/data upper/work");
    store.sh(&format!(
        "mount -t overlay none -o xino=off,lowerdir={},upperdir=upper/data,workdir=upper/work overlay",
        lower.path().display()
    ));
    store.sh("cp -a $STORE overlay/copy");
    let before = tree(&store.path("overlay/copy"));
    let refused = store.try_sh("kmsfs mount --key-file $KEY overlay/copy $MNT");
    refused.expect_failure(1, &format!("store.json: {REASON}"));
    assert_eq!(tree(&store.path("overlay/copy")), before);
}

/// Where a symlink of the file system below takes less than 4,095 bytes, its target lies in a record.
#[test]
fn symlinks_of_every_length_are_taken_whatever_is_below() {
    let disk = Disk::new(64);
    let store = Store::at(&disk.path().join("store"));
    let mut mount = store.mount();
    let bucket = mount.bucket("bucket");
    let target = |length: usize| "t".repeat(length);
    // 739 is the shortest whose ciphertext in base64 is longer than a block of 1 KiB.
    let lengths: Vec<_> = (1..4095).step_by(97).chain([738, 739, 740, 1023, 1024, 3042, 3043, 4094, 4095]).collect();
    for length in &lengths {
        symlink(target(*length), bucket.join(length.to_string())).unwrap();
    }
    mount.remount();
    for length in &lengths {
        let link = bucket.join(length.to_string());
        assert_eq!(fs::read_link(&link).unwrap().as_os_str(), target(*length).as_str(), "{length}");
        assert_eq!(fs::symlink_metadata(&link).unwrap().len(), *length as u64);
    }
    assert_eq!(errno(symlink(target(4096), bucket.join("longer"))), libc::ENAMETOOLONG);
    // What the records took is given back with the links, and nothing of them is left for fsck to find.
    for length in &lengths {
        fs::remove_file(bucket.join(length.to_string())).unwrap();
    }
    mount.unmount();
    let fsck = store.try_sh("kmsfs fsck --key-file $KEY $STORE 2>&1");
    assert!(fsck.code == 0, "{fsck:?}");
}

/// Until the disk is full; the errno that says so. What was written before is told apart from what was refused.
fn fill(mount: &Mount) -> i32 {
    for n in 0.. {
        let file = fs::File::create(mount.path("bucket").join(format!("fill-{n}"))).unwrap();
        let written = file.set_len(0).and_then(|()| (&file).write_all(&noise(1 << 20))).and_then(|()| file.sync_all());
        match written {
            Ok(()) => assert!(n < 500, "a small disk took 500 MiB"),
            Err(error) => return error.raw_os_error().unwrap(),
        }
    }
    unreachable!("there is no end to the numbers")
}

/// What no file system makes smaller.
fn noise(len: usize) -> Vec<u8> {
    let mut noise = vec![0; len];
    fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut noise)).unwrap();
    noise
}

/// The redo log could not go home for want of room, so the store could not be mounted, and nothing be removed.
fn a_full_store_is_mounted_and_emptied(disk: &Disk, full: i32) {
    let store = Store::at(&disk.path().join("store"));
    let mount = store.mount();
    let kept = noise(300_000);
    fs::write(mount.bucket("bucket").join("kept"), &kept).unwrap();
    assert_eq!(fill(&mount), full);
    // Killed, so that the log has what no checkpoint wrote home; then unmounted in order.
    mount.kill9();
    store.sh("umount -l $MNT");
    for _ in 0..2 {
        let mount = store.mount();
        assert_eq!(fs::read(mount.path("bucket/kept")).unwrap(), kept);
        mount.unmount();
    }
    let mount = store.mount();
    // Overwriting, cutting and removing take no room that is not there.
    fs::OpenOptions::new().write(true).open(mount.path("bucket/fill-0")).unwrap().set_len(1000).unwrap();
    fs::remove_file(mount.path("bucket/fill-1")).unwrap();
    store.sh("rm $MNT/bucket/fill-* && kmsfs sync $MNT");
    fs::write(mount.path("bucket/new"), &kept).unwrap();
    fs::File::open(mount.path("bucket/new")).unwrap().sync_all().unwrap();
    mount.unmount();
    let mount = store.mount();
    assert_eq!(fs::read(mount.path("bucket/new")).unwrap(), kept);
    mount.unmount();
    let fsck = store.try_sh("kmsfs fsck --scrub --key-file $KEY $STORE 2>&1");
    assert!(fsck.code == 0, "{fsck:?}");
}

/// ext3 reserves no space: tables that are new in the log have none at home until they are written.
#[test]
fn a_full_ext3_is_mounted_and_emptied() {
    a_full_store_is_mounted_and_emptied(&Disk::made_by("mkfs.ext3 -q -m 0", 40), libc::ENOSPC);
}

/// btrfs never writes in place: overwriting takes room too.
#[test]
fn a_full_btrfs_is_mounted_and_emptied() {
    a_full_store_is_mounted_and_emptied(&Disk::made_by("mkfs.btrfs -q", 200), libc::ENOSPC);
}

/// EDQUOT, on a disk that has much room.
#[test]
fn a_full_btrfs_quota_is_mounted_and_emptied() {
    let disk = Disk::made_by("mkfs.btrfs -q", 300);
    disk.sh("btrfs -q quota enable mnt; btrfs -q subvolume create mnt/store; btrfs -q qgroup limit 80M mnt/store");
    a_full_store_is_mounted_and_emptied(&disk, libc::EDQUOT);
}

fn tree(top: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(top).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
