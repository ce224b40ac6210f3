//! Bodies that lie, end early or wait: nothing of them is ever an object.

use super::Served;
use super::client::Connection;
use crate::harness::wait_until;
use std::fs;
use std::net::Shutdown;

/// What is in the bucket's directory, hidden files too.
fn names(served: &Served) -> Vec<String> {
    let entries = fs::read_dir(served.mount.path("bucket")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_body_that_is_not_the_one_that_was_announced_is_no_object() {
    let served = Served::new();
    let root = served.client("root");
    root.put("/bucket", b"").expect(200);
    let mut other = root.sign("PUT", "/bucket/x", &[], b"content");
    other.body = b"contest".to_vec();
    other.send(&root.address).expect_error(400, "XAmzContentSHA256Mismatch");

    let md5 = root.sign("PUT", "/bucket/x", &[("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")], b"content");
    md5.send(&root.address).expect_error(400, "BadDigest");
    let crc = root.sign("PUT", "/bucket/x", &[("x-amz-checksum-crc32", "AAAAAA==")], b"content");
    crc.send(&root.address).expect_error(400, "BadDigest");
    assert_eq!(names(&served), Vec::<String>::new());
    // The one that is right.
    let right = root.sign("PUT", "/bucket/x", &[("x-amz-checksum-crc32", "y/Q5Jg==")], b"123456789");
    right.send(&root.address).expect(200);
    assert_eq!(names(&served), ["x"]);
}

#[test]
fn a_body_that_is_cut_off_is_no_object_and_leaves_nothing() {
    let served = Served::new();
    let root = served.client("root");
    root.put("/bucket", b"").expect(200);
    root.put("/bucket/old", b"old content").expect(200);
    for target in ["/bucket/new", "/bucket/old"] {
        let body = vec![7; 1_000_000];
        let signed = root.sign("PUT", target, &[], &body);
        let mut connection = Connection::open(&root.address);
        connection.send(signed.head().as_bytes());
        connection.send(&body[..700_000]);
        // It has begun.
        assert!(
            wait_until(|| names(&served).iter().any(|name| name.starts_with(".kmsfs-put."))),
            "{:?}",
            names(&served)
        );
        connection.0.get_ref().shutdown(Shutdown::Both).unwrap();
        assert!(wait_until(|| names(&served) == ["old"]), "{:?}", names(&served));
    }
    assert_eq!(fs::read(served.mount.path("bucket/old")).unwrap(), b"old content");
}

#[test]
fn chunks_are_decoded_and_their_trailer_is_compared() {
    const UNSIGNED: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
    let served = Served::new();
    let root = served.client("root");
    root.put("/bucket", b"").expect(200);
    let put = |crc: &str| {
        let headers = [
            ("content-encoding", "aws-chunked"),
            ("x-amz-decoded-content-length", "9"),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
        ];
        let body = format!("9\r\n123456789\r\n0\r\nx-amz-checksum-crc32:{crc}\r\n\r\n");
        root.sign_text("PUT", "/bucket/x", &headers, UNSIGNED, body.as_bytes())
    };
    put("AAAAAA==").send(&root.address).expect_error(400, "BadDigest");
    assert_eq!(names(&served), Vec::<String>::new());
    put("y/Q5Jg==").send(&root.address).expect(200);
    assert_eq!(fs::read(served.mount.path("bucket/x")).unwrap(), b"123456789");
    assert_eq!(root.head("/bucket/x").expect(200).find("content-encoding"), None);

    // The same in chunks of HTTP's own, as SDKs send it by TLS.
    let mut chunked = put("y/Q5Jg==");
    let body = std::mem::take(&mut chunked.body);
    chunked.set("transfer-encoding", "chunked");
    for piece in body.chunks(7) {
        chunked.body.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        chunked.body.extend_from_slice(piece);
        chunked.body.extend_from_slice(b"\r\n");
    }
    chunked.body.extend_from_slice(b"0\r\n\r\n");
    chunked.send(&root.address).expect(200);
    assert_eq!(fs::read(served.mount.path("bucket/x")).unwrap(), b"123456789");
}

#[test]
fn who_waits_to_be_told_to_go_on_is_told_after_the_signature_was_verified() {
    let served = Served::new();
    let root = served.client("root");
    root.put("/bucket", b"").expect(200);
    let signed = root.sign("PUT", "/bucket/x", &[], b"content").with("expect", "100-continue");
    let mut connection = Connection::open(&root.address);
    connection.send(signed.head().as_bytes());
    assert_eq!(connection.reply_head().0, 100);
    connection.send(b"content");
    connection.reply("PUT").expect(200);

    let mut wrong = signed;
    wrong.target = "/bucket/y".into();
    let mut connection = Connection::open(&root.address);
    connection.send(wrong.head().as_bytes());
    assert_eq!(connection.reply_head().0, 403, "it is not asked for its body");
    let none = root.sign("PUT", "/no-bucket/x", &[], b"content").with("expect", "100-continue");
    let mut connection = Connection::open(&root.address);
    connection.send(none.head().as_bytes());
    assert_eq!(connection.reply_head().0, 404, "nor where there is nothing to put it in");
}
