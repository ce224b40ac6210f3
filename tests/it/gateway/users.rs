//! Workers of several users: the kernel says who may do what.

use super::client::plain_list;
use super::{Client, bucket_name, key};
use crate::harness::{KMS, Mount, NOBODY, Store, configuration};
use kmsfs_gateway::Locks;
use kmsfs_s3::operation::{AbortMultipartUpload, CreateMultipartUpload, HeadBucket, ListBuckets, ListMultipartUploads};
use kmsfs_s3::{Answer, Code, Metadata, StorageClass, Tags};
use std::fs;
use std::os::unix::fs::MetadataExt;

const EVE: u32 = 7777;

/// A mount that is open to all users, and a worker for each of three of them.
struct Shared {
    root: Client,
    nobody: Client,
    eve: Client,
    mount: Mount,
    store: Store,
}

impl Shared {
    fn new() -> Self {
        let store = Store::new();
        store.open_to_all();
        let mount = store.mount_with("allow_other");
        let locks = Locks::new().unwrap();
        let root = Client::with_locks(&store, &locks);
        let (nobody, eve) = (Client::of_user(&store, NOBODY, &locks), Client::of_user(&store, EVE, &locks));
        Self { root, nobody, eve, mount, store }
    }

    /// With `bucket`, in which everybody may write.
    fn with_bucket() -> Self {
        let shared = Self::new();
        shared.root.create_bucket("bucket").unwrap();
        shared.store.sh("chmod 777 $MNT/bucket");
        shared
    }
}

fn create_upload(of: &str) -> CreateMultipartUpload {
    CreateMultipartUpload {
        bucket: bucket_name("bucket"),
        key: key(of),
        encryption: kmsfs_sse::Request::default(),
        metadata: Metadata::default(),
        storage_class: StorageClass::Standard,
        tags: Tags::default(),
        checksum: None,
    }
}

#[test]
fn a_worker_may_do_what_its_user_may() {
    let shared = Shared::new();
    let Shared { root, nobody, eve, mount, store } = &shared;
    for name in ["open", "readable", "private"] {
        root.create_bucket(name).unwrap();
        root.put(name, "k", "root's").unwrap();
    }
    store.sh("chmod 777 $MNT/open; chmod 755 $MNT/readable; chmod 700 $MNT/private; chmod 600 $MNT/readable/k");
    let denied = |done: Result<(), kmsfs_s3::Error>| {
        let error = done.unwrap_err();
        assert_eq!((error.code(), error.status()), (&Code::AccessDenied, 403));
    };
    denied(nobody.create_bucket("new-bucket"));
    denied(nobody.put("readable", "new", "x").map(drop));
    denied(nobody.put("readable", "new/below", "x").map(drop));
    denied(nobody.delete("readable", "k"));
    denied(nobody.get("readable", "k").map(drop));
    denied(nobody.head("readable", "k").map(drop));
    denied(nobody.get("private", "k").map(drop));
    denied(nobody.list_as(plain_list("private")).map(drop));
    denied(nobody.perform(HeadBucket { bucket: bucket_name("private") }).map(drop));
    denied(nobody.set_default("readable", &configuration(KMS, false)));
    let all = ListBuckets { prefix: String::new(), after: None, max: 100, paginated: false };
    let (Answer::Buckets(buckets), _) = nobody.perform(all).unwrap() else { panic!("buckets") };
    assert_eq!(buckets.buckets.iter().map(|bucket| bucket.name.as_str()).collect::<Vec<_>>(), ["open", "readable"]);
    // A name needs no key, and no permission on the file.
    assert_eq!(nobody.keys(&plain_list("readable"), 10), ["k"]);
    // What a user puts is that user's.
    nobody.put("open", "theirs/k", "nobody's").unwrap();
    let file = fs::metadata(mount.path("open/theirs/k")).unwrap();
    assert_eq!((file.uid(), file.gid()), (NOBODY, NOBODY));
    assert_eq!(fs::metadata(mount.path("open/theirs")).unwrap().uid(), NOBODY);
    denied(eve.put("open", "theirs/k", "eve's").map(drop));
    assert_eq!(eve.get("open", "theirs/k").unwrap().1, b"nobody's");
    store.sh("chmod 700 $MNT/open/theirs");
    assert_eq!(eve.keys(&plain_list("open"), 10), ["k"], "what a user may not read is not listed");
    assert_eq!(nobody.keys(&plain_list("open"), 10), ["k", "theirs/k"]);
}

#[test]
fn another_users_file_opens_nothing_that_is_put_in_its_place() {
    let shared = Shared::with_bucket();
    let Shared { root, nobody, mount, store, .. } = &shared;
    let mode = |of: &str| fs::metadata(mount.path("bucket").join(of)).unwrap().mode() & 0o777;
    nobody.put("bucket", "new", "nobody's").unwrap();
    for of in ["open", "closed"] {
        root.put("bucket", of, "root's").unwrap();
    }
    store.sh("chmod 666 $MNT/bucket/open; chmod 600 $MNT/bucket/closed");
    for of in ["open", "closed"] {
        nobody.put("bucket", of, "nobody's").unwrap();
        assert_eq!(fs::metadata(mount.path("bucket").join(of)).unwrap().uid(), NOBODY);
        assert_eq!(nobody.get("bucket", of).unwrap().1, b"nobody's");
    }
    assert_eq!((mode("open"), mode("closed")), (mode("new"), mode("new") & 0o700));
}

#[test]
fn a_key_policy_sees_the_user() {
    let shared = Shared::with_bucket();
    let Shared { root, nobody, store, .. } = &shared;
    let arn = store.create_key("alias/roots");
    let policy = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*",
        "Principal": {"AWS": "arn:aws:iam::000000000000:user/root"}}]}"#;
    fs::write(store.path("policy.json"), policy).unwrap();
    store.kms(&format!("put-key-policy --key-id {arn} --policy-name default --policy file://policy.json"));
    root.set_default("bucket", &configuration(&crate::harness::kms_with("alias/roots"), false)).unwrap();
    root.put("bucket", "k", "root's").unwrap();
    // The mount knows of the policy within a second.
    assert!(crate::harness::wait_until(|| nobody.get("bucket", "k").is_err()));
    for refused in [nobody.get("bucket", "k").map(drop), nobody.put("bucket", "mine", "x").map(drop)] {
        let error = refused.unwrap_err();
        assert_eq!((error.code(), error.status()), (&Code::AccessDenied, 403));
        assert!(error.message().contains("is not authorized to perform: kms:"), "{}", error.message());
    }
    assert_eq!(root.get("bucket", "k").unwrap().1, b"root's");
}

#[test]
fn an_upload_in_parts_is_its_users_alone() {
    let shared = Shared::with_bucket();
    let Shared { nobody, eve, mount, .. } = &shared;
    let begin = |client: &Client, of: &str| {
        let (Answer::Upload(upload), _) = client.perform(create_upload(of)).unwrap() else { panic!("an upload") };
        upload.upload_id
    };
    let (theirs, hers) = (begin(nobody, "theirs"), begin(eve, "hers"));
    let list = |client: &Client| {
        let list = ListMultipartUploads {
            bucket: bucket_name("bucket"),
            prefix: String::new(),
            delimiter: String::new(),
            key_marker: String::new(),
            upload_id_marker: None,
            max_uploads: 10,
            url_encoded: false,
        };
        let (Answer::Uploads(uploads), _) = client.perform(list).unwrap() else { panic!("uploads") };
        uploads.uploads.into_iter().map(|upload| upload.upload_id).collect::<Vec<_>>()
    };
    assert_eq!((list(nobody), list(eve)), (vec![theirs.clone()], vec![hers.clone()]));
    let abort = |client: &Client, of: &str, id: &kmsfs_s3::UploadId| {
        client.perform(AbortMultipartUpload { bucket: bucket_name("bucket"), key: key(of), upload_id: id.clone() })
    };
    assert_eq!(abort(eve, "theirs", &theirs).unwrap_err().code(), &Code::NoSuchUpload);
    assert_eq!(list(nobody), std::slice::from_ref(&theirs));
    abort(nobody, "theirs", &theirs).unwrap();
    abort(eve, "hers", &hers).unwrap();
    assert!(crate::harness::names_in(&mount.path("bucket")).is_empty());
}

#[test]
fn an_upload_in_parts_is_not_begun_where_others_can_write() {
    let shared = Shared::with_bucket();
    let Shared { eve, mount, store, .. } = &shared;
    for (owner, mode) in [(NOBODY, "755"), (NOBODY, "777"), (EVE, "777")] {
        let dir = format!("$MNT/bucket/.kmsfs-uploads.{EVE}");
        store.sh(&format!("mkdir {dir}; chmod {mode} {dir}; chown {owner} {dir}"));
        let refused = eve.perform(create_upload("k")).map(drop).unwrap_err();
        assert_eq!(refused.code(), &Code::AccessDenied, "{owner} {mode}");
        store.sh(&format!("rmdir {dir}"));
    }
    assert!(crate::harness::names_in(&mount.path("bucket")).is_empty());
    eve.perform(create_upload("k")).unwrap();
}
