//! What the helper processes answer to somebody who speaks to them as the serving process does.

use crate::harness::{Store, is_mounted, kmsfs, wait_until};
use rustix::io::{read, write};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socketpair,
};
use serde_json::{Value, json};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Stdio};

struct Helper {
    process: Child,
    lifeline: Option<OwnedFd>,
    channels: Vec<OwnedFd>,
}

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

impl Helper {
    fn start(word: &str, about: &Value, channels: usize) -> Self {
        let (lifeline, theirs) = pair();
        let process = kmsfs().arg(word).stdin(Stdio::from(theirs)).spawn().unwrap();
        let (channels, theirs): (Vec<_>, Vec<_>) = (0..channels).map(|_| pair()).unzip();
        let theirs: Vec<_> = theirs.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&theirs)));
        let about = about.to_string();
        sendmsg(&lifeline, &[IoSlice::new(about.as_bytes())], &mut control, SendFlags::empty()).unwrap();
        Self { process, lifeline: Some(lifeline), channels }
    }

    /// The errno, and what comes with it.
    fn ask(&self, channel: usize, verb: u8, what: &[u8]) -> (i32, Vec<u8>) {
        write(&self.channels[channel], &[&[verb], what].concat()).unwrap();
        let mut answer = vec![0; 4096];
        let len = read(&self.channels[channel], &mut answer).unwrap();
        answer.truncate(len);
        let rest = answer.split_off(4);
        (i32::from_le_bytes(answer.try_into().unwrap()), rest)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.lifeline = None;
        assert!(wait_until(|| self.process.try_wait().unwrap().is_some()), "the helper goes on without anybody");
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

#[test]
fn the_keeper_is_bound_once_and_unmounts_that_mount_alone() {
    const BIND: u8 = 1;
    const UNMOUNT: u8 = 2;
    const ASK_ATTRIBUTES: u8 = 6;
    let (mine, other) = (Store::new(), Store::new());
    let (mount, spared) = (mine.mount(), other.mount());
    spared.bucket("bucket");
    mount.bucket("bucket");
    let about = json!({"target": bytes(&mine.mountpoint()), "store": bytes(mine.store()), "confined": true});
    let keeper = Helper::start("__keep_mount", &about, 2);
    let me = std::process::id().to_le_bytes();
    assert_eq!(keeper.ask(0, UNMOUNT, &[]).0, libc::ENODEV, "it is not bound yet");
    assert_eq!(keeper.ask(0, BIND, &me).0, 0);
    assert_eq!(keeper.ask(0, BIND, &me).0, libc::EPERM);
    // What is asked for lies in the mount.
    assert_eq!(keeper.ask(1, ASK_ATTRIBUTES, b"bucket").0, 0);
    for outside in ["..", "../store", "bucket/../..", "/etc"] {
        assert_eq!(keeper.ask(1, ASK_ATTRIBUTES, outside.as_bytes()).0, libc::EXDEV, "{outside}");
    }
    // A name of another mount, as it was once given, is nothing to it.
    let named = format!("{} 0 47 1", hex(bytes(&other.mountpoint())));
    assert_eq!(keeper.ask(0, UNMOUNT, named.as_bytes()).0, 0);
    assert!(!is_mounted(&mine.mountpoint()));
    assert!(is_mounted(&other.mountpoint()));
    // And what is mounted there after it is not its mount.
    mount.ended();
    let again = mine.mount();
    assert_eq!(keeper.ask(0, UNMOUNT, &[]).0, 0);
    assert!(is_mounted(&mine.mountpoint()));
    again.unmount();
    spared.unmount();
}

#[test]
fn the_broker_opens_the_files_that_were_named_and_no_other() {
    const LOG_FILE: u8 = 2;
    const USER: u8 = 3;
    const FILE: u8 = 10;
    let store = Store::new();
    let about = json!({"logs": [bytes(&store.path("log"))], "reads": [bytes(&store.path("key"))], "confined": true});
    let broker = Helper::start("__open_outside", &about, 5);
    assert_eq!(broker.ask(0, LOG_FILE, bytes(&store.path("log"))).0, 0);
    assert!(store.path("log").exists());
    for other in ["/etc/shadow", "/etc/passwd", "log"] {
        assert_eq!(broker.ask(0, LOG_FILE, other.as_bytes()).0, libc::EPERM, "{other}");
        assert_eq!(broker.ask(0, FILE, other.as_bytes()).0, libc::EPERM, "{other}");
    }
    assert_eq!(broker.ask(0, FILE, bytes(&store.path("key"))).0, 0);
    assert_eq!(broker.ask(0, FILE, bytes(&store.path("log"))).0, libc::EPERM);
    let (errno, root) = broker.ask(1, USER, b"0");
    assert_eq!((errno, serde_json::from_slice(&root).unwrap()), (0, json!({"name": "root", "uid": 0, "gid": 0})));
    assert_eq!(broker.ask(2, USER, b"4000000"), (0, b"null".to_vec()));
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
