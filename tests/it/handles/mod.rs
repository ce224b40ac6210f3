//! File handles (name_to_handle_at, what an NFS server gives out): they open what they are of for as long as it exists,
//! whatever the kernel and the daemon have forgotten, and never anything else.

use crate::harness::{Disk, Mount, Store, kms_with, wait_until};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/handles");

/// What a script prints that is run in a directory, with `handles` for the tool beside this file.
#[track_caller]
fn run(store: &Store, dir: &Path, script: &str) -> String {
    store.sh(&format!("handles() {{ python3 {PYTHON}/handles.py \"$@\"; }}\ncd {}\n{script}", dir.display()))
}

/// Waits until the kernel knows no inode but the root.
fn forget(store: &Store) {
    let known = || {
        let status: Value = serde_json::from_str(&store.sh("kmsfs status $MNT --json")).unwrap();
        status["Caches"]["KnownInodes"].as_u64().unwrap()
    };
    assert!(wait_until(|| {
        store.sh("sync; echo 2 > /proc/sys/vm/drop_caches");
        known() == 0
    }));
}

/// A daemon killed without warning, and another one.
fn kill(store: &Store, mount: Mount) -> Mount {
    mount.kill9();
    store.sh("umount -l $MNT");
    store.mount()
}

const MAKE: &str = r"
    mkdir -p a/deep/er b c/gone
    for name in file moved linked deleted replaced exchanged other unlinked; do echo -n $name >a/deep/$name; done
    echo -n root >root
    ln a/deep/linked c/link; ln a/deep/unlinked c/unlinked
    ln -s over/there a/deep/symlink; ln -s gone a/deep/symlink-gone
    mkfifo a/deep/fifo; mknod a/deep/device c 4 7
    handles take $FILE root a/deep/{file,moved,linked,deleted,replaced,exchanged,other,unlinked} \
        a/deep/{symlink,symlink-gone,fifo,device} a a/deep a/deep/er c c/gone
    mv a/deep/moved b/somewhere; rm a/deep/linked; rm a/deep/deleted a/deep/symlink-gone; rmdir c/gone
    echo -n new >a/new; mv a/new a/deep/replaced; rm a/deep/unlinked c/unlinked
    handles exchange a/deep/exchanged a/deep/other
    mv a/deep b/elsewhere
";

/// The same handles opened on ext4 and in a mount, in the same states.
#[test]
fn handles_open_what_they_do_on_ext4_after_forgetting_a_new_mount_and_a_kill() {
    let disk = Disk::with_blocks(4096, 64);
    let store = Store::new();
    let mut mount = store.mount();
    let bucket = mount.bucket("bucket");
    let plain = disk.path().join("plain");
    fs::create_dir(&plain).unwrap();
    let make = |dir: &PathBuf, file: &str| {
        run(&store, dir, &format!("FILE=$STORE.{file}\n{MAKE}"));
    };
    let show = |dir: &PathBuf, file: &str| run(&store, dir, &format!("handles show $STORE.{file}"));
    make(&plain, "plain");
    make(&bucket, "ours");
    let expected = show(&plain, "plain");
    for gone in ["deleted", "replaced", "unlinked", "symlink-gone", "c/gone"] {
        assert!(expected.lines().any(|line| line.ends_with("\"ESTALE\"") && line.contains(gone)), "{gone}\n{expected}");
    }
    assert_eq!(expected.matches("ESTALE").count(), 5, "{expected}");
    let check = |when: &str| assert_eq!(show(&bucket, "ours"), expected, "{when}");
    check("at once");
    forget(&store);
    check("once the kernel had forgotten them");
    mount.remount();
    check("after a new mount");
    // Those that were asked for by number are there, and what was not asked for is forgotten.
    forget(&store);
    check("and again");
    let mount = kill(&store, mount);
    check("after a kill");
    mount.unmount();
    let mount = store.mount_with("ro");
    check("in a mount that is read-only");
    mount.unmount();
    disk.sh("umount mnt && mount -o loop image mnt");
    assert_eq!(show(&plain, "plain"), expected);
}

#[test]
fn what_is_done_through_a_handle_is_done_to_the_file() {
    let store = Store::new();
    let mut mount = store.mount();
    let bucket = mount.bucket("bucket");
    run(&store, &bucket, "mkdir -p a/b/c; echo -n content >a/b/file; handles take $STORE.handles a/b/c a/b/file");
    mount.remount();
    run(&store, &bucket, "handles write $STORE.handles");
    let shown =
        "cat a/b/file a/b/c/below/made; stat -c %a a/b/file; getfattr --only-values -n user.name a/b/file; ls a/b/c";
    let expected = "content+made604\na/b/filebelow\n";
    assert_eq!(run(&store, &bucket, shown), expected);
    // Directories above are found again by the name that they have by then.
    forget(&store);
    run(&store, &bucket, "mv a/b moved; handles write $STORE.handles a/b/file");
    assert_eq!(run(&store, &bucket, "cat moved/file"), "content++");
    mount.remount();
    assert_eq!(run(&store, &bucket, "cd moved; cat file c/below/made"), "content++made");
}

/// The file system below gives numbers to new files at once.
#[test]
fn a_handle_does_not_open_the_file_that_has_its_number_now() {
    let disk = Disk::with_blocks(4096, 64);
    let store = Store::at(&disk.path().join("store"));
    let mut mount = store.mount();
    let bucket = mount.bucket("bucket");
    let took = run(&store, &bucket, "handles reuse $STORE.handles");
    let reused: usize = took.trim().parse().unwrap();
    assert!(reused > 100, "the file system below gave only {reused} numbers out again: nothing is shown");
    let check = |when: &str| {
        let shown = run(&store, &bucket, "handles show $STORE.handles");
        assert_eq!(shown.lines().count(), 1200);
        for (n, line) in shown.lines().enumerate() {
            assert_eq!(line.ends_with("\"ESTALE\""), n < 4 * 290, "{when}: {line}");
        }
    };
    check("at once");
    forget(&store);
    check("once the kernel had forgotten them");
    mount.remount();
    check("after a new mount");
    let _mount = kill(&store, mount);
    check("after a kill");
}

#[test]
fn a_handle_opens_a_file_only_for_whom_its_name_does() {
    let store = Store::new();
    let mut mount = store.mount();
    let key = store.create_key("alias/handles");
    let bucket = mount.bucket("bucket");
    mount.set_default("bucket", &kms_with("alias/handles"), false);
    run(&store, &bucket, "mkdir a; echo -n secret >a/file; handles take $STORE.handles a/file .encryption.json");
    mount.remount();
    store.disable_key(&key);
    let shown = || run(&store, &bucket, "handles show $STORE.handles");
    // A mount takes up within a second what was changed in the keyring.
    assert!(wait_until(|| shown().starts_with("a/file \"EACCES\"\n")), "{}", shown());
    forget(&store);
    assert!(shown().starts_with("a/file \"EACCES\"\n"), "{}", shown());
    store.enable_key(&key);
    let opens = wait_until(|| shown().starts_with("a/file [\"0o100644\", 1, \"secret\"]\n"));
    assert!(opens, "{}\n{:?}\n{}", shown(), store.kms(&format!("describe-key --key-id {key}")), store.log());
    // A configuration is one under its number too: what is none is refused.
    mount.remount();
    assert_eq!(run(&store, &bucket, "handles overwrite $STORE.handles .encryption.json"), "EINVAL\n");
}

/// While somebody moves files and directories from where a walk has not been to where it has been.
#[test]
fn what_moves_while_it_is_searched_for_is_found() {
    let store = Store::on_tmpfs();
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    run(&store, &bucket, "handles move");
}

/// Of numbers that are nobody's, of the root's, and with another generation.
#[test]
fn a_forged_handle_opens_nothing() {
    let store = Store::new();
    let mut mount = store.mount();
    let bucket = mount.bucket("bucket");
    run(&store, &bucket, "echo -n file >file; handles take $STORE.handles file .. .");
    mount.remount();
    run(&store, &bucket, "handles forge $STORE.handles");
    let expected = "file [\"0o100644\", 1, \"file\"]\n.. [\"0o40755\", \"..\", [\"bucket\"], true]\n. [\"0o40755\", \".\", [\"file\"], true]\n";
    assert_eq!(run(&store, &bucket, "handles show $STORE.handles"), expected);
}
