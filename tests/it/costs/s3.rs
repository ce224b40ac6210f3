use super::requests::{TIMES, requests, since};
use super::{compare, stated};
use crate::http::Served;
use std::fs;

/// Each request comes over a connection of its own, to a worker that is there.
#[test]
fn no_request_of_s3_takes_more_of_the_mount_than_the_document_says() {
    let served = Served::new();
    let root = served.client("root");
    root.put("/bucket", b"").expect(200);
    root.put("/bucket/warm", b"content").expect(200);
    let key = |n: usize| format!("/bucket/object-{n:02}");
    let mut measured = Vec::new();
    let mut measure = |operation, act: &dyn Fn(usize)| {
        let before = requests(&served.store);
        (0..TIMES).for_each(act);
        let mut added = since(&requests(&served.store), &before);
        // A time is flushed where a tick of the kernel's clock fell in between.
        added.remove("SetAttr");
        measured.push((operation, added.values().sum::<u64>(), format!("{added:?}")));
    };
    measure("PUT 4 KiB", &|n| drop(root.put(&key(n), &[7; 4096]).expect(200)));
    measure("PUT 4 KiB in place of another", &|n| drop(root.put(&key(n), &[8; 4096]).expect(200)));
    measure("HEAD", &|n| drop(root.head(&key(n)).expect(200)));
    measure("GET 4 KiB", &|n| assert_eq!(root.get(&key(n)).expect(200).body, [8; 4096]));
    let list = format!("/bucket?list-type=2&max-keys={TIMES}&prefix=object-");
    measure("list a bucket, each key", &|n| {
        if n == 0 {
            assert_eq!(root.get(&list).expect(200).text().matches("<Key>").count(), TIMES);
        }
    });
    measure("DELETE", &|n| drop(root.delete(&key(n)).expect(204)));
    compare(&stated("What a request of S3 costs the mount", 1), &measured);
    assert_eq!(fs::read_dir(served.mount.path("bucket")).unwrap().count(), 1);
}
