//! Programs cannot tell a mount from ext4: calls with every flag and corner do the same in both, and answer the same.
//! `calls/` has a case a function; what differs is listed here with its reason, and in docs/SEMANTICS.md.

use crate::harness::{Disk, Store};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs a group of cases on ext4 and in mounts of stores on the same ext4, with and without writeback caching.
#[track_caller]
fn same(group: &str) {
    let disk = Disk::with_blocks(4096, 256);
    let plain = disk.path().join("plain");
    fs::create_dir(&plain).unwrap();
    let expected = answers(&plain, group);
    assert!(!expected.is_empty());
    for options in ["allow_other,suid,dev", "allow_other,suid,dev,nowriteback"] {
        let store = Store::at(&disk.path().join(options.replace(',', "-")));
        store.open_to_all();
        let mount = store.mount_with(options);
        let found = answers(&mount.bucket("bucket"), group);
        for (name, answer) in &expected {
            assert_eq!(&found[name], answer, "{name}, with {options}");
        }
        mount.unmount();
    }
}

fn answers(dir: &Path, group: &str) -> BTreeMap<String, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/posix/calls");
    let run = Command::new("timeout").args(["600", "python3", script]).arg(dir).arg(group).output().unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "{}\n{text}", String::from_utf8_lossy(&run.stderr));
    text.lines().map(|line| line.split_once(": ").unwrap()).map(|(name, answer)| (name.into(), answer.into())).collect()
}

#[test]
fn open_takes_every_flag() {
    same("opening");
}

#[test]
fn content_is_where_it_was_put() {
    same("content");
}

#[test]
fn what_was_there_before_a_change_is_seen_by_nobody_after_it() {
    same("coherence");
}

#[test]
fn names_are_made_moved_and_removed() {
    same("names");
}

#[test]
fn directories_are_read_while_they_change() {
    same("directories");
}

#[test]
fn owners_modes_and_attributes_are_enforced() {
    same("owners");
}

#[test]
fn rights_that_a_file_gives_go_with_its_content_and_are_made_by_nobody_who_has_them_not() {
    same("privileges");
}

#[test]
fn locks_and_notifications_work() {
    same("locks");
}

#[test]
fn times_move_when_they_have_to() {
    same("times");
}

#[test]
fn everyday_programs_do_what_they_do_on_ext4() {
    same("programs");
}

#[test]
fn the_file_system_tells_of_itself() {
    same("system");
}

/// With the kernel's reasons, the FUSE library's, or our own: docs/SEMANTICS.md has them.
#[test]
fn what_differs_is_what_the_document_lists() {
    let disk = Disk::with_blocks(4096, 256);
    for writeback in [true, false] {
        let store = Store::at(&disk.path().join(writeback.to_string()));
        let mount = store.mount_with(if writeback { "writeback" } else { "nowriteback" });
        let found = answers(&mount.bucket("bucket"), "differences");
        let too_far = if writeback { "[1, 'EFBIG', None]" } else { "['EFBIG', None, None]" };
        let expected = [
            ("not_provided", "['ENOTSUP', 'ENOTSUP', 'ENOTSUP', 'ENOTSUP', 'ENOTTY', 'ENOTSUP']"),
            ("unaligned_direct_writes_work", "(3, b'\\x00abc')"),
            ("birth_time_is_not_told", "0"),
            ("what_is_written_too_far_fails_by_the_time_of_fsync", too_far),
            ("writing_to_a_fifo_moves_no_time", "False"),
            ("what_a_mapping_has_beyond_the_end_shows_when_the_file_grows", "b'A'"),
            ("truncating_to_the_same_length", if writeback { "False" } else { "True" }),
        ];
        for (name, answer) in expected {
            assert_eq!(found[name], answer, "{name}, writeback: {writeback}");
        }
        assert_eq!(found.len(), expected.len());
        mount.unmount();
    }
}

/// The first read after a modification, or after a day, moves it; no other does. (What the kernel answers from its own
/// cache is not seen, so the mounts are fresh.)
#[test]
fn reading_moves_the_access_time_as_relatime_has_it() {
    let disk = Disk::with_blocks(4096, 256);
    let store = Store::at(&disk.path().join("store"));
    let mount = store.mount();
    mount.bucket("bucket");
    store.sh("cd $MNT/bucket; for f in read noatime; do echo text >$f; touch -a -d 2001-01-01 $f; done");
    mount.unmount();
    let accessed = |name: &str| store.sh(&format!("stat -c %x:%z $MNT/bucket/{name}"));
    let mount = store.mount_with("noatime");
    let before = accessed("read");
    store.sh("cat $MNT/bucket/read");
    assert_eq!(accessed("read"), before, "the mount is noatime");
    mount.unmount();
    let mount = store.mount();
    assert_eq!(accessed("read"), before);
    store.sh("cat $MNT/bucket/read");
    let after = accessed("read");
    assert_ne!(after, before);
    let change = |times: &str| times.rsplit_once(':').unwrap().1.to_owned();
    assert_eq!(change(&after), change(&before), "the change time is not the reader's to move");
    store.sh("python3 -c 'import os, sys; os.read(os.open(sys.argv[1], os.O_NOATIME), 9)' $MNT/bucket/noatime");
    assert!(accessed("noatime").starts_with("2001-01-01"));
    mount.unmount();
    let _mount = store.mount();
    store.sh("cat $MNT/bucket/read");
    assert_eq!(accessed("read"), after, "nothing has changed since");
}

/// SEEK_DATA waits for the kernel to write what it has, and the only event loop has to take that meanwhile.
#[test]
fn seeking_while_others_write_never_hangs() {
    let store = Store::new();
    let mount = store.mount_with("threads=1");
    mount.bucket("bucket");
    let script = r"
import mmap, os, random, sys, threading
def work(seed):
    choose = random.Random(seed)
    fd = os.open(sys.argv[1] + str(seed % 2), os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 1 << 22)
    mapping = mmap.mmap(fd, 1 << 22)
    for n in range(1500):
        at = choose.randrange(1 << 22)
        try:
            [lambda: os.pwrite(fd, b'x' * 5000, at), lambda: os.lseek(fd, at, os.SEEK_DATA), lambda: os.pread(fd, 5000, at),
             lambda: os.lseek(fd, at, os.SEEK_HOLE), lambda: mapping.__setitem__(at, 1), lambda: os.fdatasync(fd)][n % 6]()
        except OSError as e:
            assert e.errno == 6, e
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]";
    fs::write(store.path("script.py"), script).unwrap();
    store.sh("python3 script.py $MNT/bucket/file");
}
