//! PutObject, GetObject, HeadObject and DeleteObject beside programs.

use super::client::{plain_get, plain_put};
use super::{Client, bucket_name, key};
use crate::harness::{KMS, Store, configuration, kms_with, names_in, noise, xattr};
use kmsfs_gateway::wire::{Request, Response};
use kmsfs_s3::operation::{DeleteObject, GetObject, PutObject};
use kmsfs_s3::{
    Checksum, ChecksumAlgorithm, Code, ETag, EtagMatch, Metadata, Preconditions, Range, StorageClass, Tags,
    WriteCondition,
};
use kmsfs_sse::{Algorithm, Request as Encryption};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const HELLO_MD5: &str = "5d41402abc4b2a76b9719d911017c592";

#[test]
fn what_a_client_puts_is_a_file_and_what_a_program_writes_is_an_object() {
    let store = Store::new();
    let mut mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    let put = client.put("bucket", "dir/hello.txt", "hello").unwrap();
    assert_eq!((put.etag.as_str(), put.encryption.algorithm), (HELLO_MD5, Algorithm::Aes256));
    let path = mount.path("bucket/dir/hello.txt");
    assert_eq!(fs::read(&path).unwrap(), b"hello");
    assert_eq!(xattr(&path, "user.etag").unwrap(), HELLO_MD5);
    assert_eq!(names_in(&mount.path("bucket/dir")), ["hello.txt"], "nothing temporary is left");

    fs::write(mount.path("bucket/program"), "from a program").unwrap();
    let (object, content) = client.get("bucket", "program").unwrap();
    assert_eq!((content.as_slice(), object.size), (&b"from a program"[..], 14));
    assert!(object.etag.as_str().ends_with("-1"), "no MD5: {}", object.etag);
    assert_eq!(object.metadata, Metadata::default());

    fs::write(&path, "hallo").unwrap();
    let head = client.head("bucket", "dir/hello.txt").unwrap();
    assert!(head.etag != ETag::new(HELLO_MD5) && head.etag.as_str().ends_with("-1"), "{}", head.etag);
    assert_eq!(head.metadata.content_type.as_deref(), Some("binary/octet-stream"), "it is the same file");
    let listed = client.list_as(super::client::plain_list("bucket")).unwrap();
    assert_eq!(listed.objects[0].etag, head.etag);

    drop(client);
    mount.remount();
    let client = Client::new(&store);
    assert_eq!(client.get("bucket", "dir/hello.txt").unwrap().1, b"hallo");
    assert_eq!(client.head("bucket", "dir/hello.txt").unwrap().etag, head.etag);
    client.delete("bucket", "dir/hello.txt").unwrap();
    assert!(!path.exists());
    assert_eq!(client.head("bucket", "dir/hello.txt").unwrap_err().code(), &Code::NoSuchKey);
    client.delete("bucket", "dir/hello.txt").unwrap();
}

#[test]
fn what_is_kept_with_an_object_comes_back_and_holds_for_its_content() {
    let store = Store::new();
    let mut mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    let metadata = Metadata {
        content_type: Some("text/plain".into()),
        cache_control: Some("no-cache".into()),
        user: [("mtime".to_owned(), "1.5 ä".to_owned())].into(),
        ..Metadata::default()
    };
    let tags = Tags::new(vec![("project".into(), "bond".into())], 10).unwrap();
    let checksum = Checksum::of_bytes(ChecksumAlgorithm::Crc32, vec![0x36, 0x10, 0xa6, 0x86]);
    let put = PutObject {
        metadata: metadata.clone(),
        tags,
        storage_class: StorageClass::StandardIa,
        ..plain_put("bucket", "k", 5)
    };
    let upload = client.begin(put, b"hello").unwrap();
    let written = client.finish(upload, 5, Some(checksum.clone())).unwrap();
    assert_eq!(written.checksum, Some(checksum.clone()));
    // Nothing in the store says it in the clear.
    let below = store.sh("getfattr -d -m - $STORE/buckets/bucket/k 2>/dev/null; true");
    assert!(!below.contains("bond") && !below.contains("no-cache"), "{below}");

    drop(client);
    mount.remount();
    let client = Client::new(&store);
    let head = client.head("bucket", "k").unwrap();
    assert_eq!((&head.metadata, head.tag_count), (&metadata, 1));
    assert_eq!((head.storage_class, head.checksum), (StorageClass::StandardIa, Some(checksum)));
    let listed = client.list_as(super::client::plain_list("bucket")).unwrap();
    assert_eq!(listed.objects[0].checksum.map(|(algorithm, _)| algorithm), Some(ChecksumAlgorithm::Crc32));

    fs::write(mount.path("bucket/k"), "hallo").unwrap();
    let head = client.head("bucket", "k").unwrap();
    assert_eq!((&head.metadata, head.checksum), (&metadata, None), "of other bytes");
    // A program that replaces the file leaves nothing of it.
    fs::write(mount.path("bucket/new"), "hullo").unwrap();
    fs::rename(mount.path("bucket/new"), mount.path("bucket/k")).unwrap();
    assert_eq!(client.head("bucket", "k").unwrap().metadata, Metadata::default());
}

#[test]
fn ranges_and_conditions_are_decided_before_a_byte_is_read() {
    let store = Store::new();
    let _mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    let content = noise(1, 300_000);
    let etag = client.put("bucket", "k", &content).unwrap().etag;
    let range = |range| GetObject { range: Some(range), ..plain_get("bucket", "k") };
    let (object, part) = client.get_as(range(Range::From { first: 70_000, last: Some(70_009) })).unwrap();
    assert_eq!((object.range, object.size), (Some((70_000, 70_010)), 300_000));
    assert_eq!(part, content[70_000..70_010]);
    assert_eq!(client.get_as(range(Range::Suffix(5))).unwrap().1, content[299_995..]);
    let refused = client.get_as(range(Range::From { first: 300_000, last: None })).unwrap_err();
    assert_eq!((refused.code(), refused.status()), (&Code::InvalidRange, 416));
    let with = |conditions| client.get_as(GetObject { conditions, ..plain_get("bucket", "k") });
    let none = Preconditions::default();
    let tag = |tag: &ETag| Some(EtagMatch::OneOf(vec![tag.clone()]));
    assert!(with(Preconditions { if_match: tag(&etag), ..none.clone() }).is_ok());
    let refused = with(Preconditions { if_match: tag(&ETag::new("x")), ..none.clone() }).unwrap_err();
    assert_eq!(refused.status(), 412);
    let refused = with(Preconditions { if_none_match: tag(&etag), ..none }).unwrap_err();
    assert_eq!(refused.status(), 304);
    let part = |number| client.get_as(GetObject { part_number: Some(number), ..plain_get("bucket", "k") });
    assert_eq!(part(1).unwrap().1, content, "what was sent at once is its own part 1");
    assert_eq!(part(2).unwrap_err().code(), &Code::InvalidPartNumber);
}

#[test]
fn nothing_is_seen_of_an_upload_that_does_not_come_to_its_end() {
    let store = Store::new();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    client.put("bucket", "k", "old").unwrap();
    let upload = client.begin(plain_put("bucket", "k", 3), b"new").unwrap();
    let within = client.begin(plain_put("bucket", "made/for/it", 3), b"new").unwrap();
    assert_eq!(client.get("bucket", "k").unwrap().1, b"old");
    assert_eq!(client.keys(&super::client::plain_list("bucket"), 10), ["k"]);
    for upload in [upload, within] {
        assert_eq!(client.ask(&Request::Abandon { upload }).unwrap().0, Response::Abandoned);
    }
    assert_eq!(names_in(&mount.path("bucket")), ["k"]);
    // Less came than was said.
    let short = client.begin(plain_put("bucket", "k", 4), b"new").unwrap();
    assert_eq!(client.finish(short, 3, None).unwrap_err().code(), &Code::IncompleteBody);
    assert_eq!(names_in(&mount.path("bucket")), ["k"]);
    // The process that speaks HTTP has gone.
    client.begin(plain_put("bucket", "other/k", 3), b"new").unwrap();
    drop(client);
    assert_eq!(names_in(&mount.path("bucket")), ["k"]);
    assert_eq!(fs::read(mount.path("bucket/k")).unwrap(), b"old");
}

#[test]
fn encryption_is_as_asked_for_and_a_disabled_key_refuses_in_the_words_of_kms() {
    let store = Store::new();
    let mount = store.mount();
    let client = Client::new(&store);
    let arn = store.create_key("alias/bond");
    client.create_bucket("bucket").unwrap();
    let encryption =
        Encryption { algorithm: Some(Algorithm::AwsKms), key_id: Some("alias/bond".into()), ..Encryption::default() };
    let put = PutObject { encryption: encryption.clone(), ..plain_put("bucket", "k", 5) };
    let written = client.put_as(put.clone(), b"hello").unwrap();
    assert_eq!(written.encryption.key_arn.as_ref(), Some(&arn));
    assert_ne!(written.etag.as_str(), HELLO_MD5);
    client.set_default("bucket", &configuration(KMS, true)).unwrap();
    let by_default = client.put("bucket", "by-default", "hello").unwrap().encryption;
    assert!(by_default.algorithm == Algorithm::AwsKms && by_default.bucket_key);
    assert_ne!(by_default.key_arn.as_ref(), Some(&arn));
    let written = client.put_as(put.clone(), b"hello").unwrap();

    store.disable_key(&arn);
    let message = format!("{arn} is disabled.");
    let disabled = Code::Kms("DisabledException".into());
    // The key is asked for anew within a second.
    assert!(crate::harness::wait_until(|| client.head("bucket", "k").is_err()));
    for refused in [
        client.head("bucket", "k").map(drop),
        client.get("bucket", "k").map(drop),
        client.put_as(put, b"hello").map(drop),
    ] {
        let error = refused.unwrap_err();
        assert_eq!((error.code(), error.status(), error.message()), (&disabled, 400, message.as_str()));
    }
    // A list needs no key.
    let listed = client.list_as(super::client::plain_list("bucket")).unwrap();
    assert_eq!(listed.objects.iter().find(|object| object.key == "k").unwrap().etag, written.etag);
    client.put("bucket", "by-default", "others go on").unwrap();
    client.delete("bucket", "k").unwrap();

    let unknown = "1234abcd-12ab-34cd-56ef-1234567890ab";
    client.set_default("bucket", &configuration(&kms_with(unknown), false)).unwrap();
    let error = client.put("bucket", "new/k", "x").unwrap_err();
    assert_eq!(error.code(), &Code::Kms("NotFoundException".into()));
    assert!(error.message().contains(unknown) && error.message().ends_with("does not exist"), "{}", error.message());
    assert_eq!(client.keys(&super::client::plain_list("bucket"), 10), ["by-default"]);
    assert!(!mount.path("bucket/new").exists(), "what was made for it is gone");
}

#[test]
fn conditional_writes_of_many_clients_succeed_once() {
    const CLIENTS: usize = 4;
    let store = Store::new();
    let _mount = store.mount();
    let locks = kmsfs_gateway::Locks::new().unwrap();
    let clients: Vec<_> = (0..CLIENTS).map(|_| Client::with_locks(&store, &locks)).collect();
    clients[0].create_bucket("bucket").unwrap();
    let conditional = |client: &Client, condition, content: &str| {
        let put = PutObject { condition: Some(condition), ..plain_put("bucket", "k", content.len()) };
        client.put_as(put, content.as_bytes())
    };
    let count = AtomicUsize::new(0);
    let won = |condition: &WriteCondition| {
        // No two of the same content, whose ETag would be the same.
        let content = || count.fetch_add(1, Ordering::Relaxed).to_string();
        let attempt = |client| conditional(client, condition.clone(), &content());
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = clients.iter().map(|client| scope.spawn(move || attempt(client))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert!(lost.into_iter().all(|lost| lost.unwrap_err().code() == &Code::PreconditionFailed));
        let [won] = &won[..] else { panic!("{} of them won", won.len()) };
        won.as_ref().unwrap().etag.clone()
    };
    let mut etag = won(&WriteCondition::Absent);
    for _ in 0..5 {
        etag = won(&WriteCondition::Is(etag));
        assert_eq!(clients[0].head("bucket", "k").unwrap().etag, etag);
    }
    let absent = conditional(&clients[0], WriteCondition::Is(etag.clone()), "x").map(|_| ());
    assert!(absent.is_ok());
    let delete = |tag: &ETag| {
        let if_match = Some(EtagMatch::OneOf(vec![tag.clone()]));
        clients[1].perform(DeleteObject { bucket: bucket_name("bucket"), key: key("k"), null_version: false, if_match })
    };
    assert_eq!(delete(&etag).unwrap_err().code(), &Code::PreconditionFailed);
    delete(&clients[1].head("bucket", "k").unwrap().etag).unwrap();
    assert_eq!(delete(&etag).unwrap_err().code(), &Code::NoSuchKey);
    let gone = conditional(&clients[0], WriteCondition::Is(etag), "x").unwrap_err();
    assert_eq!(gone.code(), &Code::NoSuchKey);
}

#[test]
fn a_put_keeps_the_permissions_of_the_file_that_it_replaces() {
    let store = Store::new();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    let path = mount.path("bucket/k");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    client.put("bucket", "k", "new").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read(&path).unwrap(), b"new");
}
