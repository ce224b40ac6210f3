//! `-o metrics=`: what a mount tells Prometheus, and by whom.

use crate::harness::{Store, wait_until};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Status line and body of the answer.
fn get(socket: &Path, path: &str) -> (String, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

fn metrics_process(store: &Store) -> Option<String> {
    let found = store.sh("ps -eo pid,args");
    let daemon = store.store().display().to_string();
    assert!(found.contains(&daemon), "{found}");
    found
        .lines()
        .find(|line| line.ends_with(" __tell_metrics"))
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
}

#[test]
fn a_mount_tells_prometheus_how_it_is() {
    let store = Store::new();
    let socket = store.path("metrics");
    let _mount = store.mount_with(&format!("metrics={}", socket.display()));
    store.sh("mkdir $MNT/my-bucket; head -c 10000 /dev/zero > $MNT/my-bucket/secret-name; cat $MNT/my-bucket/secret-name > /dev/null; sync -f $MNT");
    store.try_sh("mkdir $MNT/Capitals").expect_failure(1, "");
    let (status, text) = get(&socket, "/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    let value = |name: &str| {
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        line.unwrap_or_else(|| panic!("{name}\n{text}")).rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!((value("kmsfs_written_bytes_total") - 10_000.0).abs() < f64::EPSILON, "{text}");
    assert!(value("kmsfs_operations_total{operation=\"mk_dir\"}") >= 2.0, "{text}");
    assert!(value("kmsfs_errors_total{operation=\"mk_dir\"}") >= 1.0, "{text}");
    let counted = value("kmsfs_operation_duration_seconds_count{operation=\"mk_dir\"}");
    assert!((counted - value("kmsfs_operations_total{operation=\"mk_dir\"}")).abs() < f64::EPSILON, "{text}");
    assert!(value("kmsfs_kms_calls_total{call=\"generate_data_key\"}") >= 0.0);
    assert!(value("kmsfs_available_bytes") > 0.0 && value("kmsfs_read_only") < 1.0, "{text}");
    // Each line is a comment, or a name, labels and a number.
    for line in text.lines().filter(|line| !line.starts_with("# ")) {
        let (name, number) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("kmsfs_") && number.parse::<f64>().is_ok(), "{line}");
    }
    assert!(!text.contains("secret-name") && !text.contains("Capitals") && !text.contains("my-bucket"), "{text}");
    assert_eq!(get(&socket, "/healthz"), ("HTTP/1.1 200 OK".into(), "ok\n".into()));
    assert_eq!(get(&socket, "/etc/passwd").0, "HTTP/1.1 404 Not Found");
}

#[test]
fn what_tells_of_a_mount_ends_with_it() {
    let store = Store::new();
    let socket = store.path("metrics");
    let mount = store.mount_with(&format!("metrics={}", socket.display()));
    let pid = metrics_process(&store).expect("a process of its own");
    // It has no privilege to speak of, and nothing open but sockets.
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!((field("CapEff:").as_str(), field("Seccomp:").as_str()), ("0000000000000004", "2"));
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let target = fs::read_link(entry.unwrap().path()).unwrap();
        let target = target.to_string_lossy();
        assert!(!target.starts_with('/') || target == "/dev/null", "{target}");
    }
    drop(mount);
    let process = format!("/proc/{pid}");
    assert!(wait_until(|| !Path::new(&process).exists() || UnixStream::connect(&socket).is_err()));
    // The socket that was left is replaced by the next one.
    let _mount = store.mount_with(&format!("metrics={}", socket.display()));
    assert_eq!(get(&socket, "/healthz").0, "HTTP/1.1 200 OK");
}

#[test]
fn an_address_that_is_taken_or_of_others_is_said_before_anything_is_mounted() {
    let store = Store::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let refused = store.try_mount(&format!("metrics={address}")).err().expect("it is refused");
    refused.expect_failure(1, &format!("metrics on {address}: Address already in use"));
    store.try_sh("kmsfs mount -o metrics=9100 $STORE $MNT").expect_failure(2, "must be an address and port");
    let others = store.try_sh("kmsfs mount -o metrics=0.0.0.0:0 $STORE $MNT");
    others.expect_failure(2, "can be reached from elsewhere: must be a loopback address");
}

#[test]
fn a_client_that_says_nothing_keeps_nobody_waiting() {
    let store = Store::new();
    let socket = store.path("metrics");
    let _mount = store.mount_with(&format!("metrics={}", socket.display()));
    // One after the other, it would be sent away before the next has an answer.
    let waits_still_while_another_is_answered = || {
        let mut silent = UnixStream::connect(&socket).unwrap();
        silent.write_all(b"GET /metrics").unwrap();
        assert_eq!(get(&socket, "/healthz").1, "ok\n");
        silent.set_nonblocking(true).unwrap();
        silent.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    assert!(wait_until(waits_still_while_another_is_answered));
}
