//! Requests that are none, or try to be two: refused, and nobody else is worse off.

use super::Served;
use super::client::Connection;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

#[test]
fn two_lengths_are_never_two_requests() {
    let served = Served::new();
    let root = served.client("root");
    root.put("/bucket", b"").expect(200);
    let smuggled = b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n";
    for first in
        ["transfer-encoding: chunked\r\ncontent-length: 5\r\n", "content-length: 5\r\ntransfer-encoding: chunked\r\n"]
    {
        let mut connection = Connection::open(&root.address);
        let head = format!("PUT /bucket/x HTTP/1.1\r\nhost: h\r\n{first}\r\n0\r\n\r\n");
        connection.send(&[head.as_bytes(), smuggled].concat());
        let reply = connection.reply("PUT").expect_error(400, "InvalidRequest");
        assert!(reply.text().contains("Content-Length or Transfer-Encoding, and not both"), "{}", reply.text());
        assert!(connection.is_ended(), "what came behind it is no request: {first}");
    }
    // The same behind a request that is right, over a connection that is kept.
    let mut connection = Connection::open(&root.address);
    let right = root.sign("PUT", "/bucket/right", &[], b"content");
    connection.send(&[right.head().as_bytes(), b"content"].concat());
    connection.reply("PUT").expect(200);
    let both = "transfer-encoding: chunked\r\ncontent-length: 5\r\n";
    connection.send(format!("PUT /bucket/x HTTP/1.1\r\nhost: h\r\n{both}\r\n0\r\n\r\n").as_bytes());
    connection.reply("PUT").expect_error(400, "InvalidRequest");
    assert!(connection.is_ended());
    // The same sent together with the one before it, which is answered.
    let mut connection = Connection::open(&root.address);
    let list = root.sign("GET", "/", &[], b"").head();
    connection.send(format!("{list}PUT /bucket/x HTTP/1.1\r\nhost: h\r\n{both}\r\n0\r\n\r\n").as_bytes());
    connection.reply("GET").expect(200);
    connection.reply("PUT").expect_error(400, "InvalidRequest");
    assert!(connection.is_ended());
    let alike = |lines: &str| {
        let mut connection = Connection::open(&root.address);
        connection.send(format!("PUT /bucket/x HTTP/1.1\r\nhost: h\r\n{lines}\r\n0\r\n\r\n").as_bytes());
        let status = connection.reply("PUT").status;
        assert!(status >= 400, "{lines}: {status}");
    };
    for lines in [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5, 5\r\n",
        "content-length: +5\r\n",
        "content-length: -5\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: gzip\r\n",
        "transfer-encoding : chunked\r\n",
        "x: a\r\n folded\r\n",
        "x\r\n",
    ] {
        alike(lines);
    }
    assert!(!served.mount.path("bucket/x").exists());
}

#[test]
fn what_is_too_long_or_no_http_is_refused_and_others_are_served() {
    let served = Served::new();
    let root = served.client("root");
    root.put("/bucket", b"").expect(200);
    let long = format!("GET / HTTP/1.1\r\nhost: h\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\nhost: h\r\n{}\r\n", "x: y\r\n".repeat(500));
    for request in
        [long.as_str(), &many, "\r\n\r\n\0\0\0\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "G\tET / HTTP/1.1\r\n\r\n"]
    {
        let mut connection = Connection::open(&root.address);
        connection.send(request.as_bytes());
        let (status, _) = connection.reply_head();
        assert!((400..500).contains(&status), "{status}");
    }
    for target in
        ["/bucket/%zz", "/bucket/../../etc/passwd", "/bucket/%2e%2e/x", "/bucket/a//b", "/bucket/.encryption.json"]
    {
        let status = root.get(target).status;
        assert!((400..500).contains(&status), "{target}: {status}");
    }
    root.get("/bucket?no-such-thing").expect_error(501, "NotImplemented");
    root.sign("PUT", "/bucket/x?no-such-thing", &[], b"x").send(&root.address).expect_error(501, "NotImplemented");
    root.get("/").expect(200);
    served.server.end();
}

/// Where the client of [`connections_that_say_nothing_are_in_nobodys_way`] is told the server's address.
const SILENT: &str = "KMSFS_TEST_SILENT";

/// As many as there may be, up to 10,000: a half of the descriptors is for connections.
#[test]
fn connections_that_say_nothing_are_in_nobodys_way() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let most = limit.map_or(u64::MAX, |limit| (limit.saturating_sub(256) / 2).saturating_sub(16)).min(10_000);
    let nofile = (most + 16) * 2 + 256;
    let served = Served::by(&["prlimit", &format!("--nofile={nofile}:{nofile}")], "");
    let root = served.client("root");
    // In a process of its own, which may have that many descriptors.
    let mut silent = Command::new("prlimit")
        .arg(format!("--nofile={nofile}:{nofile}"))
        .arg(std::env::current_exe().unwrap())
        .args(["http::bad_input::a_client_that_says_nothing", "--exact", "--nocapture"])
        .env(SILENT, format!("{} {most}", root.address))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(silent.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(said.any(|line| line == "open"));
    root.put("/bucket", b"").expect(200);
    root.put("/bucket/x", b"content").expect(200);
    assert_eq!(root.get("/bucket/x").expect(200).body, b"content");
    // They are there all the while: none had to give way.
    drop(silent.stdin.take());
    said.for_each(drop);
    assert!(silent.wait().unwrap().success());
    served.server.end();
}

/// No test by itself: holds that many connections, half of which have begun a head, until its standard input ends.
#[test]
fn a_client_that_says_nothing() {
    let Ok(told) = std::env::var(SILENT) else { return };
    let (address, count) = told.split_once(' ').unwrap();
    let mut silent: Vec<_> = (0..count.parse().unwrap()).map(|_| Connection::open(address)).collect();
    for connection in silent.iter_mut().step_by(2) {
        connection.send(b"PUT /bucket/x HTTP/1.1\r\nhost:");
    }
    println!("\nopen");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    // The one that was opened last has not waited for long.
    let last = silent.last_mut().unwrap();
    last.send(b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(last.reply("GET").status, 200);
}

/// Each of the operations of S3 that are not done, with what a client sends.
#[test]
fn what_is_not_done_does_nothing_whatever_comes_with_it() {
    let served = Served::new();
    let root = served.client("root");
    root.put("/bucket", b"").expect(200);
    root.put("/bucket/key", b"content").expect(200);
    let document = b"<AccelerateConfiguration><Status>Enabled</Status></AccelerateConfiguration>";
    for (method, target) in [
        ("PUT", "/bucket?accelerate"),
        ("PUT", "/bucket?acl"),
        ("PUT", "/bucket?cors"),
        ("PUT", "/bucket?lifecycle"),
        ("PUT", "/bucket?logging"),
        ("PUT", "/bucket?notification"),
        ("PUT", "/bucket?object-lock"),
        ("PUT", "/bucket?policy"),
        ("PUT", "/bucket?replication"),
        ("PUT", "/bucket?requestPayment"),
        ("PUT", "/bucket?versioning"),
        ("PUT", "/bucket?website"),
        ("POST", "/bucket?metadataTable"),
        ("POST", "/bucket"),
        ("DELETE", "/bucket?lifecycle"),
        ("DELETE", "/bucket?website"),
        ("PUT", "/bucket/key?acl"),
        ("PUT", "/bucket/key?legal-hold"),
        ("PUT", "/bucket/key?retention"),
        ("PUT", "/bucket/key?renameObject"),
        ("PUT", "/bucket/new?anything"),
        ("POST", "/bucket/key?restore"),
        ("POST", "/bucket/key?select&select-type=2"),
        ("GET", "/bucket/key?torrent"),
        ("DELETE", "/bucket/key?anything"),
    ] {
        let body: &[u8] = if matches!(method, "PUT" | "POST") { document } else { b"" };
        root.sign(method, target, &[], body).send(&root.address).expect_error(501, "NotImplemented");
    }
    assert_eq!(crate::harness::names_in(&served.mount.path("bucket")), ["key"]);
    assert_eq!(root.get("/bucket/key").expect(200).body, b"content");
}
