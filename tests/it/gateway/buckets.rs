//! Buckets, their default encryption and their tags.

use super::{Client, bucket_name};
use crate::harness::{KMS, Store, configuration, kms_with};
use kmsfs_s3::answer::EncryptionConfiguration;
use kmsfs_s3::operation::{
    CreateBucket, DeleteBucket, DeleteBucketEncryption, DeleteBucketTagging, GetBucketEncryption, GetBucketTagging,
    HeadBucket, ListBuckets, PutBucketTagging,
};
use kmsfs_s3::{Answer, Code, Operation, Tags};
use kmsfs_sse::Configuration;
use std::fs;

fn names(client: &Client, list: ListBuckets) -> (Vec<String>, bool) {
    let (answer, _) = client.perform(list).unwrap();
    let Answer::Buckets(buckets) = answer else { panic!("{answer:?}") };
    (buckets.buckets.into_iter().map(|bucket| bucket.name).collect(), buckets.truncated)
}

fn code(client: &Client, operation: impl Into<Operation>) -> Code {
    client.perform(operation).unwrap_err().code().clone()
}

#[test]
fn buckets_are_the_directories_at_the_root() {
    let store = Store::new();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("b-one").unwrap();
    fs::create_dir(mount.path("a-mkdir")).unwrap();
    client.create_bucket("c-two").unwrap();
    let all = ListBuckets { prefix: String::new(), after: None, max: 10_000, paginated: false };
    assert_eq!(names(&client, all.clone()), (["a-mkdir", "b-one", "c-two"].map(str::to_owned).to_vec(), false));
    assert_eq!(names(&client, ListBuckets { max: 1, ..all.clone() }), (vec!["a-mkdir".to_owned()], true));
    let rest = ListBuckets { after: Some("a-mkdir".into()), prefix: "b".into(), ..all };
    assert_eq!(names(&client, rest), (vec!["b-one".to_owned()], false));
    let again = |idempotent| CreateBucket { bucket: bucket_name("b-one"), idempotent, tags: Tags::default() };
    assert!(client.perform(again(true)).is_ok());
    assert_eq!(code(&client, again(false)), Code::BucketAlreadyOwnedByYou);
    assert!(client.perform(HeadBucket { bucket: bucket_name("a-mkdir") }).is_ok());
    assert_eq!(code(&client, HeadBucket { bucket: bucket_name("absent") }), Code::NoSuchBucket);
    assert_eq!(client.put("absent", "k", "x").unwrap_err().code(), &Code::NoSuchBucket);
    assert_eq!(client.get("absent", "k").unwrap_err().code(), &Code::NoSuchBucket);
}

#[test]
fn a_bucket_is_deleted_when_it_has_no_objects() {
    let store = Store::new();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    let delete = || DeleteBucket { bucket: bucket_name("bucket") };
    client.set_default("bucket", &configuration(KMS, false)).unwrap();
    fs::create_dir_all(mount.path("bucket/empty/directories")).unwrap();
    client.put("bucket", "empty/k", "x").unwrap();
    assert_eq!(code(&client, delete()), Code::BucketNotEmpty);
    client.delete("bucket", "empty/k").unwrap();
    // Of which S3 knows nothing, and which is somebody's all the same.
    store.sh("mkfifo $MNT/bucket/fifo");
    assert_eq!(code(&client, delete()), Code::BucketNotEmpty);
    assert!(mount.path("bucket/empty/directories").is_dir() && mount.path("bucket/.encryption.json").is_file());
    fs::remove_file(mount.path("bucket/fifo")).unwrap();
    client.perform(delete()).unwrap();
    assert!(!mount.path("bucket").exists());
    assert_eq!(code(&client, delete()), Code::NoSuchBucket);
}

#[test]
fn default_encryption_is_the_file_and_is_echoed_as_it_was_put() {
    let store = Store::new();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    let get = || {
        let (answer, _) = client.perform(GetBucketEncryption { bucket: bucket_name("bucket") }).unwrap();
        let Answer::Encryption(EncryptionConfiguration(configuration)) = answer else { panic!("{answer:?}") };
        configuration
    };
    assert_eq!(get(), Configuration::default());
    let by_alias = configuration(&kms_with("alias/not-made-yet"), true);
    client.set_default("bucket", &by_alias).unwrap();
    assert_eq!(get(), Configuration::parse(by_alias.as_bytes()).unwrap());
    let file = fs::read(mount.path("bucket/.encryption.json")).unwrap();
    assert_eq!(Configuration::parse(&file).unwrap(), get());
    mount.set_default("bucket", KMS, false);
    assert_eq!(get(), Configuration::parse(configuration(KMS, false).as_bytes()).unwrap());
    for _ in 0..2 {
        client.perform(DeleteBucketEncryption { bucket: bucket_name("bucket") }).unwrap();
        assert_eq!(get(), Configuration::default());
    }
    assert!(!mount.path("bucket/.encryption.json").exists());
}

#[test]
fn tags_of_a_bucket_stay() {
    let store = Store::new();
    let mut mount = store.mount();
    let client = Client::new(&store);
    let tags = |value: &str| Tags::new(vec![("project".into(), value.into())], Tags::MAX_ON_BUCKET).unwrap();
    let create = CreateBucket { bucket: bucket_name("bucket"), idempotent: true, tags: tags("bond") };
    client.perform(create).unwrap();
    let get =
        |client: &Client| client.perform(GetBucketTagging { bucket: bucket_name("bucket") }).map(|(tags, _)| tags);
    assert_eq!(get(&client).unwrap(), Answer::Tags(tags("bond")));
    client.perform(PutBucketTagging { bucket: bucket_name("bucket"), tags: tags("moneypenny") }).unwrap();
    drop(client);
    mount.remount();
    let client = Client::new(&store);
    assert_eq!(get(&client).unwrap(), Answer::Tags(tags("moneypenny")));
    client.perform(DeleteBucketTagging { bucket: bucket_name("bucket") }).unwrap();
    assert_eq!(get(&client).unwrap_err().code(), &Code::NoSuchTagSet);
}
