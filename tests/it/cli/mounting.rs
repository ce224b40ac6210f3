use super::{KMSFS, Place, run};
use crate::harness::{STATE, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::{Child, Command, Stdio};

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

#[test]
fn mount_returns_when_the_mount_answers_and_shows_the_store_as_its_source() {
    let place = Place::with_store();
    let mounted = place.mount(&[]);
    assert_eq!((mounted.code, mounted.out.as_str(), mounted.err.as_str()), (0, "", ""), "{mounted:?}");
    let (kind, source, options) = place.mounted().unwrap();
    assert_eq!((kind.as_str(), source), ("fuse.kmsfs", place.shown("store")));
    assert!(options.starts_with("rw,"), "{options}");
    fs::create_dir(place.path("mnt/bucket")).unwrap();
    fs::write(place.path("mnt/bucket/object"), b"content").unwrap();
    place.unmount();
    // At once: the first process may still be writing its log home.
    assert_eq!(place.mount(&[]).code, 0);
    assert_eq!(fs::read(place.path("mnt/bucket/object")).unwrap(), b"content");
    // A process that another test is just starting may have a copy of what has been read.
    assert!(wait_until(|| run("fusermount3", ["-u", &place.shown("mnt")]).code == 0));
    place.wait_for_daemon();
    assert!(place.log().contains("unmounted"), "{}", place.log());
}

#[test]
fn the_daemon_leaves_its_callers_session_and_cannot_be_looked_into() {
    let place = Place::with_store();
    assert_eq!(place.mount(&[]).code, 0);
    let [pid] = place.daemons()[..] else { panic!("{:?}", place.daemons()) };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // After the name: state, parent, process group, session, terminal.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!((fields[3], fields[4]), (pid.to_string().as_str(), "0"));
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some("/"));
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    // Of a process that is not dumpable, /proc belongs to root whoever runs it; and its memory is locked.
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap().trim();
    assert_ne!(locked, "0 kB");
    place.unmount();
    place.wait_for_daemon();
}

#[test]
fn signals_unmount_cleanly() {
    let place = Place::with_store();
    for end in [Signal::TERM, Signal::INT] {
        assert_eq!(place.mount(&[]).code, 0);
        let [pid] = place.daemons()[..] else { panic!("{:?}", place.daemons()) };
        signal(pid, end);
        place.wait_for_daemon();
        assert_eq!(place.mounted(), None);
    }
    assert_eq!(place.log().matches("] unmounted").count(), 2, "{}", place.log());
}

/// `kmsfs mount [more] …` on a terminal of its own, which stays as long as the command runs.
fn mount_on_a_terminal(place: &Place, more: &str) -> Child {
    let (key, log, store, mnt) = (place.shown("key"), place.log_option(), place.shown("store"), place.shown("mnt"));
    let command = format!("exec {KMSFS} mount {more} --key-file {key} -o {log} {store} {mnt}");
    let mut script = Command::new("script");
    script.env(STATE, "none");
    script.args(["-qec", &command, "/dev/null"]).stdin(Stdio::null()).stdout(Stdio::null());
    script.spawn().unwrap()
}

#[test]
fn a_hangup_ends_the_mount_on_a_terminal_and_not_the_one_in_the_background() {
    let place = Place::with_store();
    let is_mounted = || place.log().lines().last().is_some_and(|line| line.contains("] mounted "));

    let mut foreground = mount_on_a_terminal(&place, "--foreground");
    assert!(wait_until(is_mounted), "{}", place.log());
    let [pid] = place.daemons()[..] else { panic!("{:?}", place.daemons()) };
    signal(pid, Signal::HUP);
    place.wait_for_daemon();
    assert!(foreground.wait().unwrap().success());
    assert_eq!(place.mounted(), None);

    assert!(mount_on_a_terminal(&place, "").wait().unwrap().success());
    assert!(wait_until(is_mounted), "{}", place.log());
    let [pid] = place.daemons()[..] else { panic!("{:?}", place.daemons()) };
    signal(pid, Signal::HUP);
    assert!(wait_until(|| place.log().contains("signal 1: writing to the log files")), "{}", place.log());
    assert!(place.mounted().is_some());
    place.unmount();
    place.wait_for_daemon();
}

#[test]
fn a_second_mount_is_refused_and_told_who_has_the_store() {
    let place = Place::with_store();
    assert_eq!(place.mount(&[]).code, 0);
    let here = place.mount(&[]);
    let text = format!("kmsfs: {} is already mounted: {} is mounted there\n", place.shown("mnt"), place.shown("store"));
    assert_eq!((here.code, here.err), (1, text));
    fs::create_dir(place.path("elsewhere")).unwrap();
    let words = [
        "mount",
        "-o",
        &place.log_option(),
        "--key-file",
        &place.shown("key"),
        &place.shown("store"),
        &place.shown("elsewhere"),
    ];
    let [pid] = place.daemons()[..] else { panic!("{:?}", place.daemons()) };
    let elsewhere = run(KMSFS, words);
    assert_eq!(elsewhere.code, 4, "{elsewhere:?}");
    assert!(elsewhere.err.contains(&pid.to_string()), "{}", elsewhere.err);
    place.unmount();
    place.wait_for_daemon();
}

#[test]
fn the_mount_of_a_killed_daemon_is_replaced_with_a_word_about_it() {
    let place = Place::with_store();
    assert_eq!(place.mount(&[]).code, 0);
    fs::create_dir(place.path("mnt/bucket")).unwrap();
    let [pid] = place.daemons()[..] else { panic!("{:?}", place.daemons()) };
    signal(pid, Signal::KILL);
    place.wait_for_daemon();
    let target = place.path("mnt");
    assert!(wait_until(|| fs::metadata(&target).is_err_and(|e| e.raw_os_error() == Some(107))));
    let again = place.mount(&[]);
    assert_eq!(again.code, 0, "{again:?}");
    let text = format!("kmsfs: {}: replaced the mount that an ended kmsfs process left behind\n", place.shown("mnt"));
    assert_eq!(again.err, text);
    assert!(place.path("mnt/bucket").is_dir());
    let here = fs::read_to_string("/proc/self/mounts").unwrap();
    assert_eq!(here.lines().filter(|line| line.contains(&place.shown("mnt"))).count(), 1);
    place.unmount();
    place.wait_for_daemon();
}

#[test]
fn hidden_files_are_warned_about() {
    let place = Place::with_store();
    fs::write(place.path("mnt/file"), b"x").unwrap();
    let mounted = place.mount(&[]);
    let text =
        format!("kmsfs: {} is not empty: its files are hidden while kmsfs is mounted there\n", place.shown("mnt"));
    assert_eq!((mounted.code, mounted.err), (0, text));
    place.unmount();
    place.wait_for_daemon();
    assert_eq!(fs::read(place.path("mnt/file")).unwrap(), b"x");
}

#[test]
fn a_read_only_mount_takes_no_changes() {
    let place = Place::with_store();
    assert_eq!(place.mount(&[]).code, 0);
    fs::create_dir(place.path("mnt/bucket")).unwrap();
    place.unmount();
    assert_eq!(place.mount(&["-o", "ro"]).code, 0);
    let refused = fs::create_dir(place.path("mnt/another")).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let remounted = run(KMSFS, ["mount", "-o", "remount,rw", &place.shown("store"), &place.shown("mnt")]);
    assert_eq!(remounted.code, 1, "{remounted:?}");
    assert!(remounted.err.contains("it was mounted read-only"), "{}", remounted.err);
    assert!(place.path("mnt/bucket").is_dir());
    place.unmount();
    place.wait_for_daemon();
}

/// As automount(8) and systemd do: the kernel lets their process group in, and makes everybody else wait until they say
/// that it is mounted.
const AUTOMOUNTER: &str = r#"
import ctypes, fcntl, os, struct, subprocess, sys
place, command = os.fsencode(sys.argv[1]), sys.argv[2:]
READY, VERSION = 0x9360, 5
libc = ctypes.CDLL(None, use_errno=True)
reads, writes = os.pipe()
options = b"fd=%d,pgrp=%d,minproto=%d,maxproto=%d,direct" % (writes, os.getpgrp(), VERSION, VERSION)
if libc.mount(b"test", place, b"autofs", 0, options) < 0:
    sys.exit(f"autofs: {os.strerror(ctypes.get_errno())}")
try:
    trigger = os.open(place, os.O_RDONLY)
    visitor = subprocess.Popen(["ls", place], start_new_session=True)
    packet = os.read(reads, 512)
    token = struct.unpack_from("=iiI", packet)[2]
    subprocess.run(command, check=True, timeout=200)
    fcntl.ioctl(trigger, READY, token)
    os.close(trigger)
    assert visitor.wait(timeout=200) == 0
    os.mkdir(place + b"/bucket")
    subprocess.run(["umount", place], check=True, timeout=200)
finally:
    subprocess.run(["umount", "-l", place])
"#;

#[test]
fn an_automounters_process_group_mounts_and_nobody_waits() {
    let place = Place::with_store();
    let (mnt, store, key) = (place.shown("mnt"), place.shown("store"), place.shown("key"));
    let log = format!("log_file={}", place.shown("log"));
    // A group of its own, as a child of whom the kernel would let everybody in.
    let mounted = run(
        "setsid",
        ["--wait", "python3", "-c", AUTOMOUNTER, &mnt, KMSFS, "mount", "--key-file", &key, "-o", &log, &store, &mnt],
    );
    assert_eq!(mounted.code, 0, "{mounted:?}\n{}", place.log());
    place.wait_for_daemon();
}
