//! CopyObject, tags, and another key for an object that is there.

use super::client::plain_put;
use super::{Client, bucket_name, key};
use crate::harness::{Store, header, kms_with, noise, xattr};
use kmsfs_s3::answer::Written;
use kmsfs_s3::operation::{
    CopyObject, CopySource, DeleteObjectTagging, GetObjectTagging, PutObject, PutObjectTagging, UpdateObjectEncryption,
};
use kmsfs_s3::{
    Answer, Checksum, ChecksumAlgorithm, Code, ETag, Error, EtagMatch, Metadata, Preconditions, StorageClass, Tags,
};
use kmsfs_sse::{Algorithm, Request as Encryption};
use std::fs;

fn copy(from: &str, to: &str) -> CopyObject {
    CopyObject {
        bucket: bucket_name("bucket"),
        key: key(to),
        source: CopySource { bucket: bucket_name("bucket"), key: key(from), null_version: false },
        source_conditions: Preconditions::default(),
        encryption: Encryption::default(),
        metadata: None,
        tags: None,
        storage_class: None,
        checksum: None,
        condition: None,
    }
}

fn copied(client: &Client, of: CopyObject) -> Result<Written, Error> {
    let (answer, _) = client.perform(of)?;
    let Answer::Written(written) = answer else { panic!("{answer:?}") };
    Ok(written)
}

fn kms(key: &str) -> Encryption {
    Encryption { algorithm: Some(Algorithm::AwsKms), key_id: Some(key.into()), ..Encryption::default() }
}

#[test]
fn a_copy_has_the_sources_content_and_what_the_request_says_of_the_rest() {
    let store = Store::new();
    let mount = store.mount();
    let client = Client::new(&store);
    let arn = store.create_key("alias/bond");
    client.create_bucket("bucket").unwrap();
    let content = noise(1, 3_000_000);
    let crc = Checksum::of_bytes(ChecksumAlgorithm::Crc32, crc32fast::hash(&content).to_be_bytes().to_vec());
    let metadata = Metadata { content_type: Some("text/plain".into()), ..Metadata::default() };
    let tags = Tags::new(vec![("a".into(), "b".into())], 10).unwrap();
    let put = PutObject { metadata: metadata.clone(), tags, ..plain_put("bucket", "source", content.len()) };
    let upload = client.begin(put, &content).unwrap();
    let source = client.finish(upload, content.len(), Some(crc.clone())).unwrap();

    let same = copied(&client, copy("source", "dir/copy")).unwrap();
    assert_eq!((&same.etag, same.checksum.as_ref()), (&source.etag, Some(&crc)), "an MD5, as the source's");
    let head = client.head("bucket", "dir/copy").unwrap();
    assert_eq!((&head.metadata, head.tag_count, &head.etag), (&metadata, 1, &source.etag));
    assert!(client.get("bucket", "dir/copy").unwrap().1 == content);

    let other = Metadata { content_type: Some("text/css".into()), ..Metadata::default() };
    let replaced = CopyObject {
        encryption: kms("alias/bond"),
        metadata: Some(other.clone()),
        tags: Some(Tags::default()),
        checksum: Some(ChecksumAlgorithm::Sha256),
        ..copy("source", "kms")
    };
    let replaced = copied(&client, replaced).unwrap();
    assert_eq!(replaced.encryption.key_arn.as_ref(), Some(&arn));
    assert_eq!(replaced.checksum.map(|sum| sum.algorithm), Some(ChecksumAlgorithm::Sha256));
    assert_ne!(replaced.etag, source.etag);
    let (object, read) = client.get("bucket", "kms").unwrap();
    assert_eq!((object.metadata, object.tag_count), (other, 0));
    assert!(read == content);
    // Back to AES256, of which the ETag is an MD5 again.
    assert_eq!(copied(&client, copy("kms", "back")).unwrap().etag, source.etag);
    // Of a file that a program wrote nothing is known: it is found out.
    fs::write(mount.path("bucket/program"), &content).unwrap();
    let of_program = copied(&client, copy("program", "from-program")).unwrap();
    assert_eq!((of_program.etag, of_program.checksum), (source.etag.clone(), None));

    let wrong = Preconditions { if_match: Some(EtagMatch::OneOf(vec![ETag::new("x")])), ..Preconditions::default() };
    let refused = copied(&client, CopyObject { source_conditions: wrong, ..copy("source", "new") }).unwrap_err();
    assert_eq!(refused.code(), &Code::PreconditionFailed);
    assert_eq!(copied(&client, copy("absent", "new")).unwrap_err().code(), &Code::NoSuchKey);
    assert!(!mount.path("bucket/new").exists());
}

#[test]
fn an_object_is_copied_onto_itself_to_change_what_is_said_of_it() {
    let store = Store::new();
    let _mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    client.put("bucket", "k", "hello").unwrap();
    let refused = copied(&client, copy("k", "k")).unwrap_err();
    assert_eq!(refused.code(), &Code::InvalidRequest);
    assert!(refused.message().contains("copy an object to itself"), "{}", refused.message());
    let class = CopyObject { storage_class: Some(StorageClass::StandardIa), ..copy("k", "k") };
    copied(&client, class).unwrap();
    assert_eq!(client.head("bucket", "k").unwrap().storage_class, StorageClass::StandardIa);
    let encrypted = CopyObject { encryption: kms("alias/aws/s3"), ..copy("k", "k") };
    assert_eq!(copied(&client, encrypted).unwrap().encryption.algorithm, Algorithm::AwsKms);
    assert_eq!(client.get("bucket", "k").unwrap().1, b"hello");
}

#[test]
fn tags_are_replaced_without_the_objects_key() {
    let store = Store::new();
    let mut mount = store.mount();
    let client = Client::new(&store);
    let arn = store.create_key("alias/bond");
    client.create_bucket("bucket").unwrap();
    let put = PutObject { encryption: kms("alias/bond"), ..plain_put("bucket", "k", 5) };
    let etag = client.put_as(put, b"hello").unwrap().etag;
    client.put("bucket", "dir/", "").unwrap();
    store.disable_key(&arn);
    assert!(crate::harness::wait_until(|| client.head("bucket", "k").is_err()));
    let tags = Tags::new(vec![("project".into(), "bond".into())], 10).unwrap();
    let get = |client: &Client, of: &str| {
        let get = GetObjectTagging { bucket: bucket_name("bucket"), key: key(of), null_version: false };
        client.perform(get).map(|(tags, _)| tags)
    };
    for of in ["k", "dir/"] {
        let (bucket, key) = (bucket_name("bucket"), key(of));
        client.perform(PutObjectTagging { bucket, key, null_version: false, tags: tags.clone() }).unwrap();
        assert_eq!(get(&client, of).unwrap(), Answer::Tags(tags.clone()));
    }
    store.enable_key(&arn);
    drop(client);
    mount.remount();
    let client = Client::new(&store);
    let head = client.head("bucket", "k").unwrap();
    assert_eq!((head.tag_count, head.etag), (1, etag));
    for of in ["k", "dir/"] {
        assert_eq!(get(&client, of).unwrap(), Answer::Tags(tags.clone()));
        let delete = DeleteObjectTagging { bucket: bucket_name("bucket"), key: key(of), null_version: false };
        client.perform(delete).unwrap();
        assert_eq!(get(&client, of).unwrap(), Answer::Tags(Tags::default()));
    }
    assert_eq!(get(&client, "absent").unwrap_err().code(), &Code::NoSuchKey);
}

#[test]
fn another_key_leaves_content_etag_and_time_alone() {
    let store = Store::new();
    let mount = store.mount();
    let client = Client::new(&store);
    let (one, two) = (store.create_key("alias/one"), store.create_key("alias/two"));
    client.create_bucket("bucket").unwrap();
    client.set_default("bucket", &crate::harness::configuration(&kms_with("alias/one"), false)).unwrap();
    client.put("bucket", "k", "hello").unwrap();
    let (before, path) = (client.head("bucket", "k").unwrap(), mount.path("bucket/k"));
    assert_eq!(before.encryption.key_arn.as_ref(), Some(&one));
    let mtime = fs::metadata(&path).unwrap().modified().unwrap();
    let update = |key_arn: &str, bucket_key| UpdateObjectEncryption {
        bucket: bucket_name("bucket"),
        key: key("k"),
        null_version: false,
        key_arn: key_arn.into(),
        bucket_key,
    };
    client.perform(update(&two, true)).unwrap();
    let after = client.head("bucket", "k").unwrap();
    assert_eq!(after.encryption.key_arn.as_ref(), Some(&two));
    assert!(after.encryption.bucket_key);
    assert_eq!((after.etag, after.modified), (before.etag, before.modified));
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), mtime);
    assert_eq!(header(&path, "-aws-kms-key-id").unwrap(), two);
    assert_eq!(xattr(&path, "user.etag").unwrap(), client.head("bucket", "k").unwrap().etag.as_str());
    store.disable_key(&one);
    assert!(crate::harness::wait_until(|| client.put("bucket", "other", "x").is_err()));
    let refused = client.perform(update(&one, false)).unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (&Code::Kms("DisabledException".into()), format!("{one} is disabled.").as_str())
    );
    assert_eq!(client.get("bucket", "k").unwrap().1, b"hello");
}
