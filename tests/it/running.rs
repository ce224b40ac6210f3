//! Running it for long: readiness, idleness, remounting, read-only stores, and what a mount tells of itself.

use crate::harness::{Store, is_mounted, wait_until};
use serde_json::Value;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

#[test]
fn systemd_hears_when_the_mount_answers_and_when_it_ends() {
    let store = Store::new();
    let socket = UnixDatagram::bind(store.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let hear = || {
        let mut message = [0; 1000];
        let len = socket.recv(&mut message).unwrap();
        String::from_utf8(message[..len].to_vec()).unwrap()
    };
    store.sh("NOTIFY_SOCKET=$PWD/notify kmsfs mount --key-file $KEY -o log_file=log $STORE $MNT");
    assert!(is_mounted(&store.mountpoint()));
    let ready = hear();
    assert!(ready.starts_with("READY=1\n"), "{ready}");
    let pid = ready.lines().find_map(|line| line.strip_prefix("MAINPID=")).unwrap();
    let status: Value = serde_json::from_str(&store.sh("kmsfs status $MNT --json")).unwrap();
    assert_eq!(status["ProcessId"].to_string(), pid);
    store.sh("umount $MNT");
    let stopping = hear();
    assert!(stopping.starts_with("STOPPING=1\n"), "{stopping}");
    store.wait_until_closed();
}

#[test]
fn an_unused_mount_is_unmounted_and_a_used_one_is_not() {
    let store = Store::new();
    store.sh("kmsfs mount --key-file $KEY -o log_file=log,idle_timeout=1 $STORE $MNT && mkdir $MNT/bucket");
    let open = File::create(store.mountpoint().join("bucket/file")).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert!(is_mounted(&store.mountpoint()), "a file is open");
    drop(open);
    assert!(wait_until(|| !is_mounted(&store.mountpoint())));
    store.wait_until_closed();
    store.expect_log("unused for 1 s: unmounted");
    let mount = store.mount();
    assert!(mount.path("bucket/file").exists());
    // A current directory is use, too.
    mount.unmount();
    store.sh(
        "kmsfs mount --key-file $KEY -o log_file=log,idle_timeout=1 $STORE $MNT && cd $MNT/bucket && sleep 3 && ls",
    );
    assert!(wait_until(|| !is_mounted(&store.mountpoint())));
    store.wait_until_closed();
}

#[test]
fn a_mount_can_be_remounted_read_only_and_back() {
    let store = Store::new();
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    fs::write(bucket.join("file"), "before").unwrap();
    store.sh("kmsfs mount -o remount,ro $STORE $MNT");
    let before = tree(&store);
    assert_eq!(store.try_sh("echo x >$MNT/bucket/file").code, 1);
    assert_eq!(fs::read_to_string(bucket.join("file")).unwrap(), "before");
    store.sh("sleep 6");
    assert_eq!(tree(&store), before, "nothing is written to the store while the mount is read-only");
    store.sh("kmsfs mount -o remount,rw $STORE $MNT && echo after >$MNT/bucket/file");
    // With a file open for writing it is refused, as on any file system.
    store.sh(
        "exec 3>>$MNT/bucket/file; if kmsfs mount -o remount,ro $STORE $MNT 2>said; then exit 9; fi; grep -q busy said",
    );
    assert_eq!(fs::read_to_string(bucket.join("file")).unwrap(), "after\n");
}

/// Also after a crash, when the log has to be laid over what is there.
#[test]
fn a_read_only_mount_writes_no_byte_to_the_store() {
    let store = Store::new();
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    for n in 0..20 {
        fs::write(bucket.join(n.to_string()), vec![n; 10_000]).unwrap();
    }
    store.sh(
        "cd $MNT/bucket; ln -s 1 link; setfattr -n user.note -v x 1; sync 1; echo more >>1; sync 1; echo logged >>2",
    );
    mount.kill9();
    store.sh("umount $MNT");
    let before = tree(&store);
    let mount = store.mount_with("ro");
    store.sh("cd $MNT; cat bucket/*; ls -lR; getfattr -d bucket/1; readlink bucket/link; kmsfs stat bucket/1; kmsfs status .");
    let refused = "cd $MNT; for c in 'mkdir new' 'touch bucket/new' 'rm bucket/1' 'chmod 600 bucket/1' 'mv bucket/1 bucket/x' \
                   'setfattr -n user.a -v b bucket/1' 'truncate -s 0 bucket/1' 'ln bucket/1 bucket/y'; do \
                   if $c 2>../said; then echo \"$c worked\"; exit 9; fi; grep -q 'Read-only file system' ../said; done";
    store.sh(refused);
    mount.unmount();
    assert_eq!(tree(&store), before);
    // Directly in the daemon, past the kernel's own check: the store itself refuses.
    let mount = store.mount_with("ro");
    let status: Value = serde_json::from_str(&store.sh("kmsfs status $MNT --json")).unwrap();
    assert_eq!(status["ReadOnly"], true);
    mount.unmount();
    assert_eq!(tree(&store), before);
}

/// Names, metadata, change times and content of everything in the store.
fn tree(store: &Store) -> String {
    store.sh(
        r"cd $STORE; find . -printf '%y %m %n %U %G %s %b %T@ %C@ %p\n' | sort; find . -type f | sort | xargs sha256sum",
    )
}

#[test]
fn status_tells_what_a_mount_does() {
    let store = Store::new();
    let mount = store.mount_with("nowriteback,allow_other");
    let bucket = mount.bucket("bucket");
    mount.set_default("bucket", crate::harness::KMS, false);
    fs::write(bucket.join("file"), vec![7; 10_000]).unwrap();
    let open = File::open(bucket.join("file")).unwrap();
    open.sync_all().unwrap();
    assert!(fs::read(bucket.join("missing")).is_err());
    let status: Value = serde_json::from_str(&store.sh("kmsfs status $MNT --json")).unwrap();
    assert_eq!((&status["OpenHandles"], &status["OpenObjects"]), (&1.into(), &1.into()), "{status}");
    assert!(status["BytesWritten"].as_u64() >= Some(10_000), "{status}");
    assert!(status["Operations"]["Write"]["Calls"].as_u64() >= Some(1), "{status}");
    assert!(status["KmsCalls"]["GenerateDataKey"].as_u64() >= Some(1), "{status}");
    assert!(status["RedoLog"]["Syncs"].as_u64() >= Some(1), "{status}");
    assert!(status["Caches"]["KnownInodes"].as_u64() >= Some(2), "{status}");
    assert_eq!((&status["Errors"], &status["ReadOnly"]), (&0.into(), &false.into()), "{status}");
    assert_eq!(status["Store"], store.store().to_str().unwrap());
    drop(open);
    let text = store.sh("kmsfs status $MNT");
    assert!(text.contains("Operations:\n") && text.contains("GenerateDataKey"), "{text}");
    // It is not among the attributes, and not everybody's.
    assert!(!store.sh("getfattr -d -m - $MNT").contains("status"));
    store.open_to_all();
    store.sh_as(1234, "kmsfs status $MNT").expect_failure(1, "Operation not permitted");
    store.try_sh("kmsfs status /").expect_failure(1, "/ is not a mount of a kmsfs store");
}

#[test]
fn the_kernel_is_made_to_forget_files_beyond_a_bound() {
    let store = Store::new();
    let mount = store.mount_with("inodes=1000");
    let bucket = mount.bucket("bucket");
    let place = |n: usize| bucket.join(format!("file-{n}"));
    (0..3000).for_each(|n| fs::write(place(n), n.to_string()).unwrap());
    let open: Vec<_> = (0..10).map(|n| File::open(place(n)).unwrap()).collect();
    let known = || {
        let status: Value = serde_json::from_str(&store.sh("kmsfs status $MNT --json")).unwrap();
        status["Caches"]["KnownInodes"].as_u64().unwrap()
    };
    // Directories, and the log that is read meanwhile, come on top.
    assert!(wait_until(|| known() <= 1000), "{}", known());
    for (n, file) in open.iter().enumerate() {
        assert_eq!(std::io::read_to_string(file).unwrap(), n.to_string());
        let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        assert_eq!(link, place(n), "what is open keeps its name");
    }
    (0..3000).for_each(|n| assert_eq!(fs::read_to_string(place(n)).unwrap(), n.to_string()));
    assert!(wait_until(|| known() <= 1000), "{}", known());
}
