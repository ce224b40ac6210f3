//! Uploads in parts, over HTTP: their completion takes long, or the server is killed meanwhile.

use super::client::{Client, Connection, Reply};
use super::processes::family;
use super::{Served, Server, access_key};
use crate::harness::noise;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::time::Duration;

/// Begins an upload of one part, and returns what completes it.
fn upload(client: &Client, target: &str, content: &[u8]) -> (String, String) {
    let begun = client.sign("POST", &format!("{target}?uploads="), &[], b"").send(&client.address).expect(200);
    let id = begun.element("UploadId");
    let part = client.put(&format!("{target}?partNumber=1&uploadId={id}"), content).expect(200);
    let document = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.header("etag").replace('"', "&quot;")
    );
    (format!("{target}?uploadId={id}"), document)
}

fn complete(client: &Client, (target, document): &(String, String)) -> Reply {
    client.sign("POST", target, &[], document.as_bytes()).send(&client.address)
}

#[test]
fn a_client_that_waits_for_an_object_hears_of_it() {
    let served = Served::new();
    let root = served.client("root");
    root.put("/bucket", b"").expect(200);
    let right = upload(&root, "/bucket/right", b"content");
    let mut wrong = upload(&root, "/bucket/wrong", b"content");
    wrong.1 = wrong.1.replace("&quot;", "0");
    complete(&root, &wrong).expect_error(400, "InvalidPart");

    // As long as the worker does not do anything.
    let worker = family(served.server.pid())["__serve_user"]["Pid"].parse().unwrap();
    let signal = |signal| kill_process(Pid::from_raw(worker).unwrap(), signal).unwrap();
    signal(Signal::STOP);
    let mut connections = [&right, &wrong].map(|(target, document)| {
        let signed = root.sign("POST", target, &[], document.as_bytes());
        let mut connection = Connection::open(&root.address);
        connection.send(&[signed.head().as_bytes(), document.as_bytes()].concat());
        connection
    });
    let heads = connections.each_mut().map(Connection::reply_head);
    signal(Signal::CONT);
    let texts = connections.each_mut().map(|connection| String::from_utf8(connection.chunks()).unwrap());
    for ((status, headers), text) in heads.iter().zip(&texts) {
        assert_eq!(*status, 200, "{text}");
        assert!(headers.contains(&("content-type".into(), "application/xml".into())), "{headers:?}");
        assert!(text.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"), "{text}");
        assert_eq!(text.matches("<?xml").count(), 1, "{text}");
    }
    assert!(texts[0].ends_with("</CompleteMultipartUploadResult>"), "{}", texts[0]);
    assert!(texts[1].contains("<Error><Code>InvalidPart</Code>"), "{}", texts[1]);
    assert_eq!(fs::read(served.mount.path("bucket/right")).unwrap(), b"content");
    assert!(!served.mount.path("bucket/wrong").exists());
    // The connection goes on.
    let next = root.sign("GET", "/bucket/right", &[], b"");
    connections[1].send(next.head().as_bytes());
    assert_eq!(connections[1].reply("GET").expect(200).body, b"content");
}

#[test]
fn a_server_that_is_killed_leaves_an_upload_or_its_object() {
    let served = Served::new();
    let key = access_key(&served.store, "root");
    let mut server = Server::start(&served.store, "");
    server.client(&key).put("/bucket", b"").expect(200);
    let content = noise(1, 300_000);
    for round in 0..8 {
        let target = format!("/bucket/object-{round}");
        let client = server.client(&key);
        let upload = upload(&client, &target, &content);
        let signed = client.sign("POST", &upload.0, &[], upload.1.as_bytes());
        let mut connection = Connection::open(&client.address);
        connection.send(&[signed.head().as_bytes(), upload.1.as_bytes()].concat());
        // At another moment each time, from before it has begun to behind its end.
        std::thread::sleep(Duration::from_millis(round * round));
        server.signal(Signal::KILL);
        server = Server::start(&served.store, "");
        let client = server.client(&key);
        let found = client.get(&target);
        if found.status == 200 {
            assert!(found.body == content, "round {round}");
        } else {
            found.expect_error(404, "NoSuchKey");
        }
        let done = complete(&client, &upload).expect(200);
        assert_eq!(complete(&client, &upload).expect(200).element("ETag"), done.element("ETag"));
        assert!(fs::read(served.mount.path(&target[1..])).unwrap() == content, "round {round}");
    }
    assert!(!served.mount.path("bucket/.kmsfs-uploads.0").exists());
}
