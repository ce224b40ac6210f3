//! Where clients find the server, and what its administrator asks it.

use super::client::{Client, Connection};
use super::{Served, access_key};
use crate::harness::wait_until;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// All that a server answers over a socket in the file system, until it ends the connection.
fn over_unix(path: &std::path::Path, request: &str) -> String {
    let mut socket = UnixStream::connect(path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

/// What is told at an address of its own.
fn metrics(address: &str) -> String {
    let mut connection = Connection::open(address);
    connection.send(b"GET /metrics HTTP/1.1\r\nhost: h\r\n\r\n");
    connection.reply("GET").expect(200).text()
}

#[test]
fn what_has_been_done_is_told_in_numbers_to_this_machine_alone() {
    let served = Served::with("--metrics 127.0.0.1:0");
    let address = served.server.metrics_address();
    let root = served.client("root");
    root.put("/private", b"").expect(200);
    root.put("/private/secret-name", b"content").expect(200);
    assert_eq!(root.get("/private/secret-name").expect(200).body, b"content");
    root.get("/private/none").expect(404);
    root.get("/private?no-such-thing").expect(501);
    root.call(
        "kms",
        &[("x-amz-target", "TrentService.ListKeys"), ("content-type", "application/x-amz-json-1.1")],
        "{}",
    )
    .expect(200);
    let lines = [
        "requests_total{service=\"s3\",operation=\"CreateBucket\",status=\"200\"} 1",
        "requests_total{service=\"s3\",operation=\"PutObject\",status=\"200\"} 1",
        "requests_total{service=\"s3\",operation=\"GetObject\",status=\"200\"} 1",
        "requests_total{service=\"s3\",operation=\"GetObject\",status=\"404\"} 1",
        "requests_total{service=\"s3\",operation=\"unknown\",status=\"501\"} 1",
        "requests_total{service=\"kms\",operation=\"ListKeys\",status=\"200\"} 1",
        "request_duration_seconds_count{service=\"s3\",operation=\"GetObject\"} 2",
        "requests_in_flight 0",
    ];
    let is_there = |text: &str, line: &str| text.lines().any(|known| known == format!("kmsfs_http_{line}"));
    let told = || metrics(&address);
    assert!(wait_until(|| lines.iter().all(|line| is_there(&told(), line))), "{}", told());
    let text = told();
    assert!(!text.contains("secret-name") && !text.contains("private"), "{text}");
    let mut other = Connection::open(&address);
    other.send(b"GET /bucket/secret-name HTTP/1.1\r\nhost: h\r\n\r\n");
    other.reply("GET").expect(404);
    served.server.end();
    let refused = served.store.try_sh("kmsfs serve --key-file $KEY --listen 127.0.0.1:0 --metrics 0.0.0.0:0 $MNT");
    refused.expect_failure(2, "0.0.0.0:0 can be reached from elsewhere: --metrics is for this machine");
}

#[test]
fn an_access_log_that_was_moved_away_is_made_anew_on_sighup() {
    let dir = tempfile::tempdir().unwrap();
    let (log, old) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
    let served = Served::with(&format!("--access-log {}", log.display()));
    let root = served.client("root");
    root.put("/first", b"").expect(200);
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    assert!(wait_until(|| read(&log).contains("/first")));
    std::fs::rename(&log, &old).unwrap();
    root.put("/second", b"").expect(200);
    assert!(wait_until(|| read(&old).contains("/second")));
    served.server.signal(rustix::process::Signal::HUP);
    assert!(wait_until(|| log.exists()), "{}", served.server.said());
    assert!(wait_until(|| served.server.said().contains("from now on")), "{}", served.server.said());
    root.put("/third", b"").expect(200);
    assert!(wait_until(|| read(&log).contains("/third")));
    assert!(!read(&old).contains("/third"));
    served.server.end();
}

#[test]
fn a_socket_in_the_file_system_is_one_more_way_in() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s3.sock");
    let served = Served::with(&format!("--unix {}", socket.display()));
    let root = served.client("root");
    root.put("/bucket", b"").expect(200);
    root.put("/bucket/x", b"content").expect(200);
    let closing = |signed: super::client::Signed| signed.with("connection", "close").head();
    let answer = over_unix(&socket, &closing(root.sign("GET", "/bucket/x", &[], b"")));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\ncontent"), "{answer}");
    let mut wrong = root.sign("GET", "/bucket/x", &[], b"");
    wrong.target = "/bucket/y".into();
    let answer = over_unix(&socket, &closing(wrong));
    assert!(answer.contains("<Code>SignatureDoesNotMatch</Code>"), "{answer}");
    served.server.end();
    // A socket that nobody listens at any more is no obstacle.
    assert!(socket.exists());
    let server = super::Server::start(&served.store, &format!("--unix {}", socket.display()));
    let client = Client::new(&server.address, &access_key(&served.store, "root"));
    assert!(over_unix(&socket, &closing(client.sign("GET", "/bucket/x", &[], b""))).ends_with("content"));
}

#[test]
fn a_bucket_has_a_host_below_each_name_of_the_server() {
    let served = Served::with("--domain s3.example.com --domain files.example");
    let root = served.client("root");
    root.put("/bucket", b"").expect(200);
    let at = |host: &str| Client { address: host.to_owned(), key: root.key.clone() };
    let put = at("bucket.s3.example.com").sign("PUT", "/a/b", &[], b"content");
    put.send(&served.server.address).expect(200);
    assert_eq!(fs::read(served.mount.path("bucket/a/b")).unwrap(), b"content");
    for host in ["bucket.s3.example.com:9000", "bucket.files.example", "bucket.localhost:1"] {
        let got = at(host).sign("GET", "/a/b", &[], b"").send(&served.server.address);
        assert_eq!(got.expect(200).body, b"content", "{host}");
    }
    for host in ["s3.example.com", "localhost", "another.example"] {
        let got = at(host).sign("GET", "/bucket/a/b", &[], b"").send(&served.server.address);
        assert_eq!(got.expect(200).body, b"content", "{host}");
    }
    for host in ["no-bucket.s3.example.com", "..s3.example.com", "-.files.example"] {
        let got = at(host).sign("GET", "/a/b", &[], b"").send(&served.server.address);
        assert!((400..=404).contains(&got.status), "{host}: {}", got.text());
    }
}

#[test]
fn whether_it_is_well_is_told_to_this_machine_and_is_no_bucket() {
    let served = Served::new();
    let ask = |method: &str, more: &str| {
        let mut connection = Connection::open(&served.server.address);
        connection.send(format!("{method} /healthz HTTP/1.1\r\nhost: h\r\n{more}\r\n").as_bytes());
        connection.reply(method)
    };
    assert_eq!(ask("GET", "").expect(200).body, b"ok\n");
    ask("HEAD", "").expect(200);
    ask("PUT", "content-length: 0\r\n").expect(403);
    // Whoever signs asks for the bucket of that name.
    let root = served.client("root");
    root.get("/healthz").expect_error(404, "NoSuchBucket");
    root.put("/healthz", b"").expect(200);
    root.get("/healthz").expect(200);
    assert_eq!(ask("GET", "").expect(200).body, b"ok\n");
}
