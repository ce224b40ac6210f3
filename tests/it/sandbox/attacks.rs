//! What a serving thread is made to do by a debugger, and may not.

use super::child_of;
use super::debugger::{Bytes, Debugger, Number};
use crate::harness::{Store, wait_until};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::Errno;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

const AT_FDCWD: u64 = (libc::AT_FDCWD as i64).cast_unsigned();
const REFUSED: Result<u64, Errno> = Err(Errno::PERM);

fn c_string(path: &Path) -> Vec<u8> {
    [path.as_os_str().as_bytes(), b"\0"].concat()
}

/// open(2), by its path.
fn open(thread: &mut Debugger, path: &Path) -> Result<u64, Errno> {
    let path = c_string(path);
    thread.call(libc::SYS_openat, &[Number(AT_FDCWD), Bytes(&path), Number(libc::O_RDONLY as u64)])
}

/// The numbers of its descriptors of which this is true, told their path below /proc.
fn descriptors(pid: u32, is_it: impl Fn(&Path) -> bool) -> Vec<u64> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| is_it(path))
        .map(|path| path.file_name().unwrap().to_str().unwrap().parse().unwrap())
        .collect()
}

#[test]
fn a_device_can_be_made_in_the_store_and_not_be_opened() {
    const ZERO: u64 = 0x105; // character device 1:5
    let store = Store::new();
    let mount = store.mount_with("dev");
    let bucket = mount.bucket("bucket");
    let below = store.store().join("buckets/bucket/zero");
    let mut thread = Debugger::attach(mount.pid());
    let path = c_string(&below);
    let mode = u64::from(libc::S_IFCHR | 0o600);
    let made = thread.call(libc::SYS_mknodat, &[Number(AT_FDCWD), Bytes(&path), Number(mode), Number(ZERO)]);
    assert_eq!(made, Ok(0));
    assert_eq!(open(&mut thread, &below), Err(Errno::ACCESS), "by its path");
    // From each directory that it has open too.
    let directories = descriptors(mount.pid(), |descriptor| fs::metadata(descriptor).is_ok_and(|found| found.is_dir()));
    assert!(!directories.is_empty());
    let mut found = 0;
    for directory in directories {
        for name in ["buckets/bucket/zero", "bucket/zero", "zero"] {
            let name = c_string(Path::new(name));
            let opened = thread.call(libc::SYS_openat, &[Number(directory), Bytes(&name), Number(0)]);
            assert!(matches!(opened, Err(Errno::ACCESS | Errno::NOENT | Errno::NOTDIR | Errno::BADF)), "{opened:?}");
            found += usize::from(opened == Err(Errno::ACCESS));
        }
    }
    assert!(found > 0, "no directory of the store is open");
    drop(thread);
    // Users of the mount have their devices all the same.
    mknodat(CWD, bucket.join("null"), FileType::CharacterDevice, Mode::from(0o666), 0x103).unwrap();
    fs::write(bucket.join("null"), b"gone").unwrap();
}

#[test]
fn nothing_outside_its_own_tree_is_there() {
    let store = Store::new();
    let mount = store.mount();
    mount.bucket("bucket");
    let mut thread = Debugger::attach(mount.pid());
    for path in ["/etc/shadow", "/etc/passwd", "/usr", "/dev/null", "/dev/mem", "/sys", "/proc/sys/kernel/core_pattern"]
    {
        assert_eq!(open(&mut thread, path.as_ref()), Err(Errno::NOENT), "{path}");
    }
    // Out of the tree by what leads out of directories, its own and others'.
    let mut out: Vec<String> =
        ["/../../../etc/shadow", "/proc/self/root/etc/shadow", "/proc/self/cwd/etc/shadow"].map(Into::into).into();
    out.push(format!("{}/../../../../../../etc/shadow", store.store().display()));
    for path in out {
        assert_eq!(open(&mut thread, path.as_ref()), Err(Errno::NOENT), "{path}");
    }
    for directory in descriptors(mount.pid(), |descriptor| fs::metadata(descriptor).is_ok_and(|found| found.is_dir())) {
        let path = c_string(Path::new("../../../../../../../../etc/shadow"));
        let opened = thread.call(libc::SYS_openat, &[Number(directory), Bytes(&path), Number(0)]);
        assert!(matches!(opened, Err(Errno::NOENT)), "{opened:?}");
    }
    for other in [1, std::process::id(), child_of(mount.pid(), "__keep_mount")] {
        for file in ["root/etc/shadow", "cwd/etc/shadow", "mem", "environ", "maps", "cmdline"] {
            let opened = open(&mut thread, format!("/proc/{other}/{file}").as_ref());
            assert!(matches!(opened, Err(Errno::ACCESS | Errno::PERM)), "/proc/{other}/{file}: {opened:?}");
        }
    }
    // Nor can the tree be written to, beside the store.
    let path = c_string(Path::new("/new"));
    let created = libc::O_CREAT as u64 | libc::O_WRONLY as u64;
    let opened = thread.call(libc::SYS_openat, &[Number(AT_FDCWD), Bytes(&path), Number(created), Number(0o600)]);
    assert!(matches!(opened, Err(Errno::ACCESS | Errno::ROFS)), "{opened:?}");
}

#[test]
fn no_socket_is_made_and_none_that_is_open_reaches_somebody_else() {
    let store = Store::new();
    let mount = store.mount();
    // Where only root may connect, and in the namespace of sockets without a file.
    let _root_only = UnixListener::bind(store.path("root-only")).unwrap();
    let datagrams = UnixDatagram::bind(store.path("datagrams")).unwrap();
    datagrams.set_nonblocking(true).unwrap();
    let mut thread = Debugger::attach(mount.pid());
    for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_NETLINK, libc::AF_PACKET, libc::AF_VSOCK] {
        let made = thread.call(
            libc::SYS_socket,
            &[Number(u64::from(family.cast_unsigned())), Number(libc::SOCK_RAW as u64), Number(0)],
        );
        assert_eq!(made, REFUSED, "{family}");
    }
    let family = u16::try_from(libc::AF_UNIX).unwrap().to_ne_bytes();
    let address = [&family[..], &c_string(&store.path("root-only"))].concat();
    let other = [&family[..], &c_string(&store.path("datagrams"))].concat();
    let sockets = descriptors(mount.pid(), |descriptor| {
        fs::read_link(descriptor).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    });
    assert!(!sockets.is_empty());
    for socket in sockets {
        let length = Number(address.len() as u64);
        assert_eq!(thread.call(libc::SYS_connect, &[Number(socket), Bytes(&address), length]), REFUSED);
        let (bytes, length) = (Bytes(b"x"), Number(other.len() as u64));
        let sent = thread.call(
            libc::SYS_sendto,
            &[Number(socket), bytes, Number(1), Number(libc::MSG_DONTWAIT as u64), Bytes(&other), length],
        );
        assert_eq!(sent, REFUSED);
        assert_eq!(thread.call(libc::SYS_sendmsg, &[Number(socket), Bytes(&[0; 56]), Number(0)]), REFUSED);
    }
    assert!(datagrams.recv(&mut [0; 8]).is_err());
}

#[test]
fn calls_by_any_number_that_reach_beyond_serving_are_refused() {
    let store = Store::new();
    let mount = store.mount();
    let mut thread = Debugger::attach(mount.pid());
    let refused = |thread: &mut Debugger, what: &str, number: i64, arguments: &[u64]| {
        let arguments: Vec<_> = arguments.iter().map(|value| Number(*value)).collect();
        assert_eq!(thread.call(number, &arguments), REFUSED, "{what}");
    };
    let signalling = libc::SIGCHLD as u64;
    for (name, flag) in [
        ("user", libc::CLONE_NEWUSER),
        ("mount", libc::CLONE_NEWNS),
        ("pid", libc::CLONE_NEWPID),
        ("net", libc::CLONE_NEWNET),
        ("uts", libc::CLONE_NEWUTS),
        ("ipc", libc::CLONE_NEWIPC),
        ("cgroup", libc::CLONE_NEWCGROUP),
    ] {
        let flag = u64::from(flag.cast_unsigned());
        refused(&mut thread, name, libc::SYS_unshare, &[flag]);
        refused(&mut thread, name, libc::SYS_clone, &[flag | signalling]);
        let as_a_thread = (libc::CLONE_THREAD | libc::CLONE_VM | libc::CLONE_SIGHAND) as u64;
        refused(&mut thread, name, libc::SYS_clone, &[flag | as_a_thread]);
        refused(&mut thread, name, libc::SYS_setns, &[0, flag]);
    }
    refused(&mut thread, "a process", libc::SYS_clone, &[signalling]);
    refused(&mut thread, "fork", libc::SYS_fork, &[]);
    refused(&mut thread, "vfork", libc::SYS_vfork, &[]);
    // So that the C library calls clone(2), whose flags can be seen.
    assert_eq!(thread.call(libc::SYS_clone3, &[Bytes(&[0; 88]), Number(88)]), Err(Errno::NOSYS));
    for (name, number) in [
        ("execve", libc::SYS_execve),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("process_vm_readv", libc::SYS_process_vm_readv),
        ("process_vm_writev", libc::SYS_process_vm_writev),
        ("pidfd_open", libc::SYS_pidfd_open),
        ("pidfd_getfd", libc::SYS_pidfd_getfd),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("keyctl", libc::SYS_keyctl),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("fanotify_init", libc::SYS_fanotify_init),
        ("bpf", libc::SYS_bpf),
        ("kcmp", libc::SYS_kcmp),
        ("ptrace", libc::SYS_ptrace),
        ("mount", libc::SYS_mount),
        ("umount2", libc::SYS_umount2),
        ("open_tree", libc::SYS_open_tree),
        ("fsopen", libc::SYS_fsopen),
        ("move_mount", libc::SYS_move_mount),
        ("mount_setattr", libc::SYS_mount_setattr),
        ("pivot_root", libc::SYS_pivot_root),
        ("chroot", libc::SYS_chroot),
        ("seccomp", libc::SYS_seccomp),
        ("personality", libc::SYS_personality),
        ("shmget", libc::SYS_shmget),
        ("mq_open", libc::SYS_mq_open),
    ] {
        refused(&mut thread, name, number, &[]);
    }
    let me = u64::from(std::process::id());
    refused(&mut thread, "kill", libc::SYS_kill, &[me, 0]);
    refused(&mut thread, "tgkill", libc::SYS_tgkill, &[me, me, 0]);
    refused(&mut thread, "another's limits", libc::SYS_prlimit64, &[me, 0, 0, 0]);
    refused(&mut thread, "a terminal's input", libc::SYS_ioctl, &[0, libc::TIOCSTI]);
    refused(&mut thread, "being dumpable", libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as u64, 1]);
    let code = (libc::PROT_READ | libc::PROT_EXEC) as u64;
    let anonymous = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
    refused(&mut thread, "new code", libc::SYS_mmap, &[0, 4096, code, anonymous, u64::MAX, 0]);
    // x86's other numbers, at which a filter by number does not look.
    for number in [libc::SYS_getpid, libc::SYS_unshare, 520 /* execve */] {
        refused(&mut thread, "x32", 0x4000_0000 | number, &[]);
    }
    // And what threads do is done.
    assert_eq!(thread.call(libc::SYS_getpid, &[]), Ok(mount.pid().into()));
    assert_eq!(thread.call(libc::SYS_unshare, &[Number(libc::CLONE_FS as u64)]), Ok(0));
}

#[test]
fn a_call_of_a_32_bit_program_ends_the_process() {
    const GETPID: i64 = 20;
    let store = Store::new();
    let mount = store.mount();
    let mut thread = Debugger::attach(mount.pid());
    if let Some(answer) = thread.call_as_32_bits(GETPID) {
        panic!("it was answered: {answer:?}");
    }
    drop(thread);
    assert!(wait_until(|| fs::metadata(mount.path("")).is_err()));
}
