//! Requests that are none, or try to be two: refused, and nobody else is worse off.

use super::Served;
use super::client::Connection;

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

/// As many connections as say nothing are in nobody's way.
#[test]
fn connections_that_say_nothing_are_in_nobodys_way() {
    let served = Served::new();
    let root = served.client("root");
    let mut idle: Vec<_> = (0..300).map(|_| Connection::open(&root.address)).collect();
    for connection in &mut idle {
        connection.send(b"PUT /bucket/x HTTP/1.1\r\nhost:");
    }
    root.put("/bucket", b"").expect(200);
    root.get("/bucket").expect(200);
}
