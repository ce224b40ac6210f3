//! Requests that nobody waits for any more, and others that come after them.

use super::client::{plain_get, plain_put};
use super::{Client, bucket_name, key};
use crate::harness::{KMS, Store, configuration};
use kmsfs_gateway::wire::{Request, Response, receive, send};
use kmsfs_gateway::{Body, Locks, Worker, serve};
use kmsfs_s3::answer::Owner;
use kmsfs_s3::operation::{
    CopyObject, CopySource, CreateBucket, DeleteBucket, DeleteObject, HeadBucket, PutBucketTagging, PutObjectTagging,
};
use kmsfs_s3::{Code, Operation, Tags};
use kmsfs_sse::Algorithm;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// While it is there, nobody has any lock of the set.
struct Held(File);

impl Held {
    fn all(locks: &Locks) -> Self {
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&locks.descriptor()));
        let held = Self(File::options().read(true).write(true).open(path).unwrap());
        held.set(nix::libc::F_WRLCK);
        held
    }

    fn set(&self, kind: i32) {
        let range = nix::libc::flock {
            l_type: kind as i16,
            l_whence: nix::libc::SEEK_SET as i16,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        nix::fcntl::fcntl(&self.0, nix::fcntl::FcntlArg::F_OFD_SETLK(&range)).unwrap();
    }

    fn release(self) {
        self.set(nix::libc::F_UNLCK);
    }
}

fn put(of: &str, content: &str) -> Request {
    let body = Body { length: content.len() as u64, md5: None, checksum: None };
    Request::Put { put: Box::new(plain_put("bucket", of, content.len())), content: content.into(), body }
}

fn perform(operation: impl Into<Operation>) -> Request {
    Request::Perform(Box::new(operation.into()))
}

fn tags(value: &str) -> Tags {
    Tags::new(vec![("n".into(), value.into())], Tags::MAX_ON_OBJECT).unwrap()
}

fn copy(from: &str, to: &str) -> CopyObject {
    CopyObject {
        bucket: bucket_name("bucket"),
        key: key(to),
        source: CopySource { bucket: bucket_name("bucket"), key: key(from), null_version: false },
        source_conditions: kmsfs_s3::Preconditions::default(),
        condition: None,
        encryption: kmsfs_sse::Request::default(),
        metadata: None,
        tags: None,
        storage_class: None,
        checksum: None,
    }
}

#[test]
fn what_was_withdrawn_does_not_take_the_place_of_what_came_after_it() {
    let store = Store::new();
    let mount = store.mount();
    let locks = Locks::new().unwrap();
    let client = Client::with_locks(&store, &locks);
    client.create_bucket("bucket").unwrap();
    for of in ["replaced", "kept", "tagged", "source"] {
        client.put("bucket", of, "first").unwrap();
    }
    client.create_bucket("empty").unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let worker = {
        let owner = Owner { id: "0".repeat(64), display_name: "root".into() };
        let shared = Locks::of(locks.descriptor().try_clone_to_owned().unwrap());
        Worker::open(&store.mountpoint(), shared, owner).unwrap()
    };
    let serving = std::thread::spawn(move || serve(&worker, &theirs, Duration::MAX).unwrap());
    let ask = |number, request: &Request| send(&ours, number, request, None).unwrap();

    // One upload is finished late, beside what is done by one request.
    ask(1, &Request::Begin(Box::new(plain_put("bucket", "dir/late", 0).into())));
    let (_, begun, _) = receive(&ours).unwrap().unwrap();
    let Response::Begun { upload, .. } = begun else { panic!("{begun:?}") };
    let held = Held::all(&locks);
    let given_up = [
        put("replaced", "withdrawn"),
        put("deep/new", "withdrawn"),
        put("marker/", ""),
        perform(DeleteObject { bucket: bucket_name("bucket"), key: key("kept"), null_version: false, if_match: None }),
        perform(PutObjectTagging {
            bucket: bucket_name("bucket"),
            key: key("tagged"),
            null_version: false,
            tags: tags("withdrawn"),
        }),
        perform(PutBucketTagging { bucket: bucket_name("bucket"), tags: tags("withdrawn") }),
        perform(copy("source", "copied")),
        perform(DeleteBucket { bucket: bucket_name("empty") }),
        perform(CreateBucket { bucket: bucket_name("made"), idempotent: true, tags: Tags::default() }),
        Request::Finish { upload, body: Body { length: 0, md5: None, checksum: None } },
    ];
    for (number, request) in (10..).zip(&given_up) {
        ask(number, request);
    }
    for number in (10..).take(given_up.len()) {
        ask(100 + number, &Request::Withdraw { number });
    }
    // What is before it has been received when this is responded to; what was withdrawn before it began is too, maybe.
    ask(2, &perform(HeadBucket { bucket: bucket_name("bucket") }));
    let mut responses = Vec::new();
    while !responses.iter().any(|(number, _)| *number == 2) {
        let (number, response, _) = receive(&ours).unwrap().unwrap();
        responses.push((number, response));
    }
    ask(3, &put("replaced", "second"));
    held.release();
    while responses.len() < given_up.len() + 2 {
        let (number, response, _) = receive(&ours).unwrap().unwrap();
        responses.push((number, response));
    }
    for (number, response) in responses {
        match response {
            Response::Refused(error) => assert_eq!((number >= 10, error.code()), (true, &Code::RequestTimeout)),
            response => assert!(number < 10 && matches!(response, Response::Done(_)), "{number}: {response:?}"),
        }
    }
    let mut names = crate::harness::names_in(&mount.path("bucket"));
    names.sort();
    assert_eq!(names, ["kept", "replaced", "source", "tagged"], "nothing is left of the others");
    assert_eq!(fs::read(mount.path("bucket/replaced")).unwrap(), b"second");
    assert_eq!(client.get_as(plain_get("bucket", "tagged")).unwrap().0.tag_count, 0);
    assert!(mount.path("empty").exists() && !mount.path("made").exists());
    // Over the same connection all goes on.
    ask(4, &put("replaced", "third"));
    assert!(matches!(receive(&ours).unwrap().unwrap(), (4, Response::Done(_), _)));
    drop(ours);
    serving.join().unwrap();
}

/// More requests than a worker does at once wait for what they cannot have; the worker learns what is withdrawn
/// meanwhile.
#[test]
fn what_is_withdrawn_while_a_worker_has_no_thread_to_spare_does_not_come() {
    let store = Store::new();
    let mount = store.mount();
    let locks = Locks::new().unwrap();
    Client::with_locks(&store, &locks).create_bucket("bucket").unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let unread = theirs.try_clone().unwrap();
    let owner = Owner { id: "0".repeat(64), display_name: "root".into() };
    let shared = Locks::of(locks.descriptor().try_clone_to_owned().unwrap());
    let worker = Worker::open(&store.mountpoint(), shared, owner).unwrap();
    let serving = std::thread::spawn(move || serve(&worker, &theirs, Duration::MAX).unwrap());
    let ask = |number, request: &Request| send(&ours, number, request, None).unwrap();
    let held = Held::all(&locks);
    for number in 0..40 {
        ask(number, &put(&number.to_string(), "withdrawn"));
    }
    for number in 0..40 {
        ask(100 + number, &Request::Withdraw { number });
    }
    // All before the last one is known when that has been read.
    ask(200, &Request::Withdraw { number: 300 });
    assert!(crate::harness::wait_until(|| rustix::io::ioctl_fionread(&unread).unwrap() == 0));
    held.release();
    for _ in 0..40 {
        let (number, response, _) = receive(&ours).unwrap().unwrap();
        assert!(matches!(&response, Response::Refused(error) if error.code() == &Code::RequestTimeout), "{number}");
    }
    assert_eq!(crate::harness::names_in(&mount.path("bucket")), Vec::<std::ffi::OsString>::new());
    drop((ours, unread));
    serving.join().unwrap();
}

#[test]
fn an_object_has_the_default_of_when_it_was_begun() {
    let store = Store::new();
    let _mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    let upload = client.begin(plain_put("bucket", "k", 7), b"content").unwrap();
    client.set_default("bucket", &configuration(KMS, false)).unwrap();
    assert_eq!(client.finish(upload, 7, None).unwrap().encryption.algorithm, Algorithm::Aes256);
    let upload = client.begin(plain_put("bucket", "other", 7), b"content").unwrap();
    client
        .set_default("bucket", r#"{"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}"#)
        .unwrap();
    assert_eq!(client.finish(upload, 7, None).unwrap().encryption.algorithm, Algorithm::AwsKms);
}
