//! Workers and mounts that are killed while an upload is completed: before each of the steps that change something. The
//! object is whole then, or the upload is there with all its parts; completing it once more makes the object.

use super::Client;
use super::client::plain_list;
use super::uploads::{begin, complete, list_parts, send, written};
use crate::harness::{Store, noise};
use kmsfs_gateway::Locks;
use kmsfs_s3::Code;
use kmsfs_s3::operation::CompletedPart;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// The calls that change something; the name of a call that is not made at all costs one round.
const CALLS: [&str; 7] = ["copy_file_range", "ftruncate", "setxattr", "fchmod", "fsync", "renameat2", "unlinkat"];

/// strace(1), which kills a process that is about to make its nth call of that name.
struct Killer(Child);

impl Killer {
    /// Waits until it watches all threads.
    fn of(pid: u32, call: &str, nth: u32) -> Self {
        let mut tracer = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-p", &pid.to_string()])
            .args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:signal=KILL:when={nth}")])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut lines = BufReader::new(tracer.stderr.take().expect("a pipe"));
        while !said.contains("attached") {
            said.clear();
            assert!(lines.read_line(&mut said).unwrap() > 0, "strace ends without a word");
        }
        // What it has to say still is read, so that it does not end for that.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self(tracer)
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How what is uploaded lies before it is completed: what was sent of which part, and the parts that are named.
struct Shape {
    name: &'static str,
    sent: &'static [(u32, u64)],
    named: &'static [u32],
}

const SHAPES: [Shape; 3] = [
    Shape { name: "in its place", sent: &[(1, 1)], named: &[1] },
    Shape { name: "in a file of its own", sent: &[(1, 9), (1, 1)], named: &[1] },
    Shape { name: "elsewhere in the file", sent: &[(1, 9), (2, 1)], named: &[2] },
];

fn content_of(seed: u64) -> Vec<u8> {
    noise(seed, 20_000)
}

#[test]
fn an_upload_whose_completion_was_killed_is_an_object_or_can_be_completed() {
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("NOT RUN: strace is not installed");
        return;
    }
    let store = Store::on_tmpfs();
    let mut mount = Some(store.mount());
    let locks = Locks::new().unwrap();
    Client::new(&store).create_bucket("bucket").unwrap();
    let mut kills = 0;
    for shape in &SHAPES {
        for call in CALLS {
            for nth in 1.. {
                let of = format!("{}/{call}/{nth}/object", shape.name);
                let client = Client::of_user(&store, 0, &locks);
                let id = begin(&client, &of, None).unwrap();
                let sent: Vec<CompletedPart> =
                    shape.sent.iter().map(|(part, seed)| send(&client, &of, &id, *part, &content_of(*seed))).collect();
                let named: Vec<_> =
                    sent.into_iter().rev().filter(|part| shape.named.contains(&part.number)).take(1).collect();
                let killer = Killer::of(client.pid(), call, nth);
                let answer = client.perform_if_it_lives(complete(&of, &id, &named));
                drop((client, killer));
                let killed = answer.is_none();
                if killed {
                    kills += 1;
                    if kills % 3 == 0 {
                        // The mount dies at the same moment.
                        mount.take().unwrap().kill9();
                        mount = Some(store.mount());
                    }
                } else {
                    answer.unwrap().unwrap();
                }
                let client = Client::new(&store);
                match client.get("bucket", &of) {
                    Ok((_, read)) => assert!(read == content_of(1), "{of}"),
                    Err(error) => {
                        assert_eq!(error.code(), &Code::NoSuchKey, "{of}");
                        assert!(killed, "{of}");
                        let parts = list_parts(&client, &of, &id, 0, 1000).unwrap().parts;
                        let named = &named[0];
                        assert!(parts.iter().any(|part| (part.number, &part.etag) == (named.number, &named.etag)));
                    }
                }
                let done = written(&client, complete(&of, &id, &named));
                let done = done.unwrap_or_else(|error| panic!("{of}: {error}"));
                let (object, read) = client.get("bucket", &of).unwrap();
                assert!(read == content_of(1) && object.etag == done.etag, "{of}");
                assert_eq!(list_parts(&client, &of, &id, 0, 1).unwrap_err().code(), &Code::NoSuchUpload, "{of}");
                if !killed {
                    break;
                }
            }
        }
    }
    assert!(kills > 20, "{kills}");
    println!("{kills} kills");
    let bucket = store.mountpoint().join("bucket");
    assert!(!bucket.join(".kmsfs-uploads.0").exists());
    let client = Client::new(&store);
    assert_eq!(client.keys(&plain_list("bucket"), 1000).len(), kills + SHAPES.len() * CALLS.len());
}
