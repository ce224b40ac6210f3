//! Keys as paths: markers, prefixes that come and go, and what cannot be a path.

use super::client::{plain_list, plain_put};
use super::{Client, bucket_name};
use crate::harness::{Store, names_in};
use kmsfs_s3::operation::{DeleteObjects, ListObjectsV2, ObjectToDelete};
use kmsfs_s3::{Answer, Code};
use std::fs;
use std::os::unix::fs::symlink;
use std::thread;

#[test]
fn a_key_that_would_be_object_and_prefix_is_refused_with_the_reason() {
    let store = Store::new();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    client.put("bucket", "a", "x").unwrap();
    client.put("bucket", "dir/k", "x").unwrap();
    for (key, why) in
        [("a/b", "is an object"), ("a/b/c", "is an object"), ("a/", "is an object"), ("dir", "objects below")]
    {
        let error = client.put("bucket", key, "").unwrap_err();
        assert_eq!((error.code(), error.status()), (&Code::InvalidRequest, 400), "{key}");
        assert!(error.message().contains(why), "{key}: {}", error.message());
    }
    for key in ["a/b", "a/", "dir", "dir/", "nothing"] {
        assert_eq!(client.get("bucket", key).unwrap_err().code(), &Code::NoSuchKey, "{key}");
        client.delete("bucket", key).unwrap();
    }
    assert_eq!(client.keys(&plain_list("bucket"), 10), ["a", "dir/k"]);
    assert_eq!(names_in(&mount.path("bucket")), ["a", "dir"]);
}

#[test]
fn prefixes_go_with_their_last_object_if_s3_made_them() {
    let store = Store::new();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    fs::create_dir(mount.path("bucket/program")).unwrap();
    for key in ["s3/a/b/k", "s3/other", "program/s3/k"] {
        client.put("bucket", key, "x").unwrap();
    }
    client.delete("bucket", "s3/a/b/k").unwrap();
    assert_eq!(names_in(&mount.path("bucket/s3")), ["other"]);
    client.delete("bucket", "program/s3/k").unwrap();
    assert!(mount.path("bucket/program").is_dir() && names_in(&mount.path("bucket/program")).is_empty());
    // And what was a prefix can be an object.
    client.delete("bucket", "s3/other").unwrap();
    client.put("bucket", "s3", "x").unwrap();
    assert_eq!(client.keys(&plain_list("bucket"), 10), ["s3"]);
}

#[test]
fn a_marker_is_a_directory_that_is_an_object() {
    let store = Store::new();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    let written = client.put("bucket", "dir/", "").unwrap();
    assert_eq!(written.etag.as_str(), "d41d8cd98f00b204e9800998ecf8427e");
    assert!(mount.path("bucket/dir").is_dir());
    let (object, content) = client.get("bucket", "dir/").unwrap();
    assert_eq!((object.size, object.etag, content), (0, written.etag.clone(), Vec::new()));
    let listed = client.list_as(plain_list("bucket")).unwrap();
    assert_eq!((listed.objects[0].key.as_str(), listed.objects[0].size), ("dir/", 0));
    assert_eq!((&listed.objects[0].etag, listed.objects[0].modified), (&written.etag, written.modified));
    let refused = client.begin(plain_put("bucket", "full/", 1), b"x").unwrap_err();
    assert_eq!(refused.code(), &Code::InvalidRequest);

    client.put("bucket", "dir/k", "x").unwrap();
    client.delete("bucket", "dir/k").unwrap();
    assert_eq!(client.keys(&plain_list("bucket"), 10), ["dir/"], "a marker is no prefix that goes");
    client.put("bucket", "dir/k", "x").unwrap();
    client.delete("bucket", "dir/").unwrap();
    assert_eq!(client.keys(&plain_list("bucket"), 10), ["dir/k"]);
    client.delete("bucket", "dir/k").unwrap();
    assert!(!mount.path("bucket/dir").exists(), "it is S3's, and nothing is in it");
    // A directory that a program made is no object until a client makes it one.
    fs::create_dir(mount.path("bucket/mkdir")).unwrap();
    assert_eq!(client.head("bucket", "mkdir/").unwrap_err().code(), &Code::NoSuchKey);
    client.put("bucket", "mkdir/", "").unwrap();
    client.delete("bucket", "mkdir/").unwrap();
    assert!(mount.path("bucket/mkdir").is_dir());
    assert_eq!(client.head("bucket", "mkdir/").unwrap_err().code(), &Code::NoSuchKey);
}

#[test]
fn symlinks_and_special_files_are_no_objects_and_lead_nowhere() {
    let store = Store::new();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    client.create_bucket("other").unwrap();
    client.put("other", "k", "secret").unwrap();
    fs::create_dir(mount.path("bucket/dir")).unwrap();
    symlink("../other/k", mount.path("bucket/link")).unwrap();
    symlink("../other", mount.path("bucket/linked")).unwrap();
    symlink("/etc/passwd", mount.path("bucket/dir/passwd")).unwrap();
    store.sh("mkfifo $MNT/bucket/fifo");
    for key in ["link", "linked/k", "dir/passwd", "fifo"] {
        assert_eq!(client.get("bucket", key).unwrap_err().code(), &Code::NoSuchKey, "{key}");
        client.delete("bucket", key).unwrap();
    }
    assert_eq!(client.put("bucket", "linked/new", "x").unwrap_err().code(), &Code::InvalidRequest);
    assert_eq!(client.keys(&plain_list("bucket"), 10), Vec::<String>::new());
    let by_prefix = ListObjectsV2 { prefix: "linked/".into(), ..plain_list("bucket") };
    assert_eq!(client.keys(&by_prefix, 10), Vec::<String>::new());
    // A PUT takes a symlink's name, as rename(2) does.
    client.put("bucket", "link", "mine").unwrap();
    assert_eq!(client.get("other", "k").unwrap().1, b"secret");
    assert!(mount.path("bucket/link").symlink_metadata().unwrap().is_file());
}

#[test]
fn a_marker_is_not_deleted_through_a_symlink() {
    let store = Store::new();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    client.create_bucket("other").unwrap();
    client.put("other", "dir/", "").unwrap();
    symlink("../other/dir", mount.path("bucket/link")).unwrap();
    client.delete("bucket", "link/").unwrap();
    assert_eq!(client.keys(&plain_list("other"), 10), ["dir/"]);
    assert!(mount.path("bucket/link").is_symlink());
}

#[test]
fn objects_come_and_go_in_one_prefix_without_harm() {
    const ROUNDS: usize = 60;
    let store = Store::on_tmpfs();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    thread::scope(|scope| {
        for name in 0..4 {
            let own = Client::new(&store);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let (key, content) = (format!("a/b/{name}"), format!("{name} {round}"));
                    own.put("bucket", &key, &content).unwrap();
                    assert_eq!(own.get("bucket", &key).unwrap().1, content.as_bytes());
                    own.delete("bucket", &key).unwrap();
                    assert_eq!(own.get("bucket", &key).unwrap_err().code(), &Code::NoSuchKey);
                }
            });
        }
    });
    assert!(names_in(&mount.path("bucket")).is_empty());
}

#[test]
fn many_are_deleted_each_with_its_own_outcome() {
    let store = Store::new();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    for key in ["a", "b/c", "b/d/e"] {
        client.put("bucket", key, "x").unwrap();
    }
    let object = |key: &str, version: Option<&str>| ObjectToDelete {
        key: key.into(),
        version: version.map(str::to_owned),
        etag: None,
    };
    let objects = vec![
        object("a", None),
        object("absent", None),
        object("../x", None),
        object("b/c", Some("null")),
        object("b/d/e", Some("1")),
    ];
    let (answer, _) = client.perform(DeleteObjects { bucket: bucket_name("bucket"), quiet: false, objects }).unwrap();
    let Answer::Deleted(outcomes) = answer else { panic!("{answer:?}") };
    let codes: Vec<_> =
        outcomes.iter().map(|outcome| outcome.as_ref().err().map(|error| error.code().clone())).collect();
    assert_eq!(codes, [None, None, Some(Code::InvalidArgument), None, Some(Code::NoSuchVersion)]);
    assert_eq!(client.keys(&plain_list("bucket"), 10), ["b/d/e"]);
    assert_eq!(names_in(&mount.path("bucket/b")), ["d"]);
}
