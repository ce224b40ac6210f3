//! What the serving process has given up once the file system is mounted.

#[cfg(target_arch = "x86_64")]
mod attacks;
#[cfg(target_arch = "x86_64")]
mod debugger;
mod helpers;

use crate::harness::{Disk, Store, wait_until};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// What a thread may do, as /proc/PID/status has it.
struct Privileges {
    effective: u64,
    permitted: u64,
    no_new_privs: u64,
    /// 2 under a filter of system calls.
    seccomp: u64,
}

/// Of every thread of the process.
fn privileges(pid: u32) -> Vec<Privileges> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let field = |status: &str, name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    tasks
        .map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap())
        .map(|status| Privileges {
            effective: field(&status, "CapEff:"),
            permitted: field(&status, "CapPrm:"),
            no_new_privs: field(&status, "NoNewPrivs:"),
            seccomp: field(&status, "Seccomp:"),
        })
        .collect()
}

#[test]
fn every_thread_keeps_only_the_capabilities_and_system_calls_that_serving_takes() {
    let store = Store::new();
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    fs::write(bucket.join("f"), b"x").unwrap();
    fs::File::open(bucket.join("f")).unwrap().sync_all().unwrap();
    // chown, dac_override, dac_read_search, fowner, fsetid, ipc_lock, sys_admin, mknod, setfcap.
    let kept: u64 = [0, 1, 2, 3, 4, 14, 21, 27, 31].iter().map(|bit| 1_u64 << bit).sum();
    let threads = privileges(mount.pid());
    assert!(threads.len() > 3);
    for thread in threads {
        for set in [thread.effective, thread.permitted] {
            assert_eq!(set & !kept, 0, "{set:x} is more than {kept:x}");
        }
        assert_eq!((thread.no_new_privs, thread.seccomp), (1, 2));
    }
}

#[test]
fn a_path_that_is_not_the_mounts_own_cannot_be_opened_any_more() {
    // Beside the store, and among the devices.
    for elsewhere in [tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap()] {
        cannot_be_opened(&elsewhere.path().join("moved"));
    }
}

fn cannot_be_opened(moved: &Path) {
    let (store, moved) = (Store::new(), moved.display());
    let mount = store.mount();
    mount.bucket("bucket");
    // The keyring is looked at again and again; put elsewhere, it is out of reach though the name is there.
    store.sh(&format!("cp -a store/keyring {moved} && mv store/keyring store/aside && ln -s {moved} store/keyring"));
    store.sh(&format!("touch {moved}/keyring"));
    assert!(wait_until(|| store.log().contains("the keyring cannot be read")), "{}", store.log());
    // Nothing lies there in the process's own tree of files.
    assert!(store.log().contains("No such file"), "{}", store.log());
    store.sh("rm store/keyring && mv store/aside store/keyring && touch store/keyring/keyring");
    assert!(wait_until(|| store.log().contains("the keyring can be read again")), "{}", store.log());
}

#[test]
fn without_the_sandbox_nothing_is_given_up() {
    let store = Store::new();
    let mount = store.mount_with("nosandbox");
    let mine = privileges(std::process::id());
    let kept =
        |thread: &Privileges| (thread.effective, thread.no_new_privs, thread.seccomp) == (mine[0].effective, 0, 0);
    assert!(privileges(mount.pid()).iter().all(kept));
}

#[test]
fn the_process_that_unmounts_has_no_key_and_no_path_in_its_arguments_and_ends_with_the_mount() {
    let store = Store::new();
    let mount = store.mount();
    let helper = child_of(mount.pid(), "__keep_mount");
    let arguments = fs::read(format!("/proc/{helper}/cmdline")).unwrap();
    assert_eq!(arguments, b"/proc/self/exe\0__keep_mount\0");
    drop(mount);
    assert!(wait_until(|| !fs::exists(format!("/proc/{helper}")).unwrap()));
}

/// The process that `parent` started with this word.
fn child_of(parent: u32, word: &str) -> u32 {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    let is_it = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(word));
    children.split_whitespace().map(|pid| pid.parse().unwrap()).find(is_it).expect("a helper")
}

#[test]
fn no_helper_has_the_secret_that_is_read_after_it_was_started() {
    let store = Store::new();
    // The command that gives the passphrase sees the helper already.
    store.sh(
        "kmsfs keyring --store $STORE --key-file $KEY add-slot --new-passphrase-command 'echo correct horse' >said
         cat >ask <<'END'
grep -lz __keep_mount $(printf '/proc/%s/cmdline ' $(cat /proc/$PPID/task/$PPID/children)) >seen
echo correct horse
END
         kmsfs mount --passphrase-command \"exec bash ask\" -o log_file=$PWD/log $STORE $MNT
         umount $MNT; test -s seen",
    );
}

#[test]
fn when_the_daemon_is_gone_whoever_waits_in_the_mount_is_let_go_also_while_a_device_stays_open() {
    let store = Store::new();
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    // What keeps the connection open in life is a thread of the daemon that waits for the daemon.
    let daemon = pidfd_open(Pid::from_raw(mount.pid().cast_signed()).unwrap(), PidfdFlags::empty()).unwrap();
    let devices: Vec<_> = fs::read_dir(format!("/proc/{}/fd", mount.pid()))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| fs::read_link(path).is_ok_and(|target| target == Path::new("/dev/fuse")))
        .map(|path| path.file_name().unwrap().to_str().unwrap().parse().unwrap())
        .map(|number| pidfd_getfd(&daemon, number, PidfdGetfdFlags::empty()).unwrap())
        .collect();
    assert!(!devices.is_empty());
    mount.kill9();
    let (told, tells) = std::sync::mpsc::channel();
    std::thread::spawn(move || told.send(fs::metadata(bucket.join("nothing")).map(drop)));
    let answer = tells.recv_timeout(Duration::from_secs(60)).expect("nobody answers, and nobody says so");
    assert!(matches!(answer.unwrap_err().raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED)));
    drop(devices);
}

#[test]
fn the_stores_file_system_is_in_use_exactly_as_long_as_the_store_is_open() {
    let disk = Disk::new(32);
    let store = Store::at(&disk.path().join("store"));
    let mount = store.mount();
    mount.bucket("bucket");
    // The serving process has it by a mount of its own, which nobody sees.
    assert_eq!(unmount(disk.path(), UnmountFlags::empty()), Err(rustix::io::Errno::BUSY));
    mount.unmount();
    unmount(disk.path(), UnmountFlags::empty()).unwrap();
}

/// The directory of an audit log often is the one that the mount point lies in: what the process has of it must not
/// keep the mount in use after umount(8), for then it would serve nobody for ever, with the keys in memory.
#[test]
fn a_log_beside_the_mount_point_keeps_neither_the_mount_nor_others_in_use() {
    for elsewhere in [false, true] {
        let disk = Disk::new(16);
        let store = if elsewhere { Store::at(&disk.path().join("store")) } else { Store::new() };
        store.sh("mkdir other && mount -t tmpfs none other");
        // The log file lies there as well.
        let mount = store.mount_with(&format!("audit_log={}", store.path("beside.log").display()));
        fs::write(mount.bucket("bucket").join("f"), b"x").unwrap();
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", mount.pid())).unwrap();
        for name in ["mnt", "other"] {
            let place = format!(" {} ", store.path(name).display());
            assert!(!mounts.contains(&place), "{name} is in the process's own tree:\n{mounts}");
        }
        assert_eq!(fs::read(mount.path("bucket/f")).unwrap(), b"x");
        mount.unmount();
        let mount = store.mount();
        assert_eq!(fs::read(mount.path("bucket/f")).unwrap(), b"x");
    }
}
