//! Buckets, their default encryption and their tags.

use super::{Client, bucket_name};
use crate::harness::{KMS, NOBODY, Store, configuration, kms_with};
use kmsfs_gateway::Locks;
use kmsfs_s3::answer::EncryptionConfiguration;
use kmsfs_s3::operation::{
    CreateBucket, DeleteBucket, DeleteBucketEncryption, DeleteBucketTagging, GetBucketEncryption, GetBucketTagging,
    HeadBucket, ListBuckets, PutBucketTagging,
};
use kmsfs_s3::{Answer, Code, Operation, Tags};
use kmsfs_sse::{Algorithm, Configuration};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// Where only owners may remove what is in a directory, as in /tmp, others can remove a bucket's default and not the
/// bucket.
#[test]
fn a_bucket_that_cannot_be_deleted_keeps_its_default() {
    let store = Store::new();
    store.open_to_all();
    let mount = store.mount_with("allow_other");
    let locks = Locks::new().unwrap();
    let (root, nobody) = (Client::with_locks(&store, &locks), Client::of_user(&store, NOBODY, &locks));
    root.create_bucket("bucket").unwrap();
    root.set_default("bucket", &configuration(KMS, false)).unwrap();
    store.sh("chmod 1777 $MNT; chmod 777 $MNT/bucket");
    let before = fs::read(mount.path("bucket/.encryption.json")).unwrap();
    assert_eq!(code(&nobody, DeleteBucket { bucket: bucket_name("bucket") }), Code::AccessDenied);
    assert_eq!(fs::read(mount.path("bucket/.encryption.json")).unwrap(), before);
    assert_eq!(store.sh("ls -A $MNT"), "bucket\n", "nothing is left of the attempt");
    root.perform(DeleteBucket { bucket: bucket_name("bucket") }).unwrap();
    assert_eq!(store.sh("ls -A $MNT"), "");
}

/// Clients put objects while the bucket is deleted, again and again.
#[test]
fn no_object_is_made_under_another_default_while_its_bucket_is_deleted() {
    let store = Store::new();
    let mount = store.mount();
    let locks = Locks::new().unwrap();
    let clients = [Client::with_locks(&store, &locks), Client::with_locks(&store, &locks)];
    let client = &clients[0];
    for _ in 0..20 {
        client.create_bucket("bucket").unwrap();
        client.set_default("bucket", &configuration(KMS, false)).unwrap();
        let deleted = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !deleted.load(Ordering::Relaxed) {
                    if clients[1].put("bucket", "k", "x").is_ok() {
                        let (object, _) = clients[1].get("bucket", "k").unwrap();
                        assert_eq!(object.encryption.algorithm, Algorithm::AwsKms);
                        clients[1].delete("bucket", "k").unwrap();
                    }
                }
            });
            while let Err(error) = client.perform(DeleteBucket { bucket: bucket_name("bucket") }) {
                assert_eq!(error.code(), &Code::BucketNotEmpty);
                assert!(mount.path("bucket/.encryption.json").is_file());
            }
            deleted.store(true, Ordering::Relaxed);
        });
    }
    assert_eq!(store.sh("ls -A $MNT"), "");
}

#[test]
fn a_bucket_whose_deletion_was_cut_off_has_its_default_again() {
    let store = Store::new();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    // As it is just before the bucket would be removed: the default has gone.
    let put = Configuration::parse(configuration(KMS, true).as_bytes()).unwrap();
    let origin = serde_json::json!({"Created": 1_700_000_000, "Away": put.to_json().to_string()}).to_string();
    kmsfs_client::attributes::set(&mount.path("bucket"), "user.s3.metadata", origin.as_bytes()).unwrap();
    // A worker that runs makes nothing without it.
    assert_eq!(client.put("bucket", "k", "x").map(drop).unwrap_err().code(), &Code::ServiceUnavailable);
    assert_eq!(store.sh("ls -A $MNT/bucket"), "");
    drop(Client::new(&store));
    let file = fs::read(mount.path("bucket/.encryption.json")).unwrap();
    assert_eq!(Configuration::parse(&file).unwrap(), put);
    client.perform(DeleteBucketEncryption { bucket: bucket_name("bucket") }).unwrap();
    drop(Client::new(&store));
    assert!(!mount.path("bucket/.encryption.json").exists(), "it is back once, and can be deleted");
    client.set_default("bucket", &configuration(KMS, false)).unwrap();
    client.perform(DeleteBucket { bucket: bucket_name("bucket") }).unwrap();
    assert_eq!(store.sh("ls -A $MNT"), "");
}

/// Such a file is what is left of a text that was refused where there was no configuration before.
#[test]
fn a_malformed_default_is_no_obstacle_and_refuses_again_where_a_deletion_is_cut_off() {
    let store = Store::new();
    let mount = store.mount();
    let client = Client::new(&store);
    let malformed = || {
        client.create_bucket("bucket").unwrap();
        // Whether it is said depends on who closes it; the file is there either way.
        store.try_sh("echo '{' > $MNT/bucket/.encryption.json; sync $MNT/bucket/.encryption.json");
        assert!(mount.path("bucket/.encryption.json").exists());
        assert!(client.put("bucket", "k", "x").is_err());
    };
    malformed();
    client.perform(DeleteBucket { bucket: bucket_name("bucket") }).unwrap();
    assert_eq!(store.sh("ls -A $MNT"), "");

    malformed();
    fs::remove_file(mount.path("bucket/.encryption.json")).unwrap();
    let origin = serde_json::json!({"Created": 1_700_000_000, "Away": ""}).to_string();
    kmsfs_client::attributes::set(&mount.path("bucket"), "user.s3.metadata", origin.as_bytes()).unwrap();
    assert_eq!(client.put("bucket", "k", "x").map(drop).unwrap_err().code(), &Code::ServiceUnavailable);
    drop(Client::new(&store));
    assert!(mount.path("bucket/.encryption.json").exists(), "it is back");
    let refused = client.put("bucket", "k", "x").map(drop).unwrap_err();
    assert_ne!(refused.code(), &Code::ServiceUnavailable, "{refused:?}");
    assert!(!mount.path("bucket/k").exists());
    client.set_default("bucket", &configuration(KMS, false)).unwrap();
    client.put("bucket", "k", "x").unwrap();
}

#[test]
fn a_default_that_a_deletion_has_left_away_does_not_come_back_after_another_one() {
    let store = Store::new();
    let mount = store.mount();
    let client = Client::new(&store);
    let away = Configuration::parse(configuration(KMS, true).as_bytes()).unwrap().to_json().to_string();
    let cut_off = || {
        let origin = serde_json::json!({"Created": 1_700_000_000, "Away": away}).to_string();
        kmsfs_client::attributes::set(&mount.path("bucket"), "user.s3.metadata", origin.as_bytes()).unwrap();
    };
    client.create_bucket("bucket").unwrap();
    cut_off();
    let other = configuration(KMS, false);
    client.set_default("bucket", &other).unwrap();
    // The bucket is as any other again, at once.
    client.put("bucket", "k", "x").unwrap();
    client.perform(DeleteBucketEncryption { bucket: bucket_name("bucket") }).unwrap();
    drop(Client::new(&store));
    assert!(!mount.path("bucket/.encryption.json").exists(), "the one before that is back");
    cut_off();
    client.perform(DeleteBucketEncryption { bucket: bucket_name("bucket") }).unwrap();
    drop(Client::new(&store));
    assert!(!mount.path("bucket/.encryption.json").exists(), "what was deleted is back");
    client.put("bucket", "k", "x").unwrap();
}

/// Tags are kept together with what a deletion has left away.
#[test]
fn what_is_kept_with_a_bucket_is_changed_by_one_after_the_other() {
    let store = Store::new();
    let _mount = store.mount();
    let locks = Locks::new().unwrap();
    let clients = [Client::with_locks(&store, &locks), Client::with_locks(&store, &locks)];
    clients[0].create_bucket("bucket").unwrap();
    let deleted = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for value in 0.. {
                let tags = Tags::new(vec![("n".into(), value.to_string())], Tags::MAX_ON_BUCKET).unwrap();
                let put = PutBucketTagging { bucket: bucket_name("bucket"), tags };
                match clients[1].perform(put) {
                    Ok(_) => {}
                    Err(error) => assert_eq!(error.code(), &Code::NoSuchBucket),
                }
                if deleted.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        for _ in 0..20 {
            clients[0].set_default("bucket", &configuration(KMS, false)).unwrap();
            clients[0].put("bucket", "k", "x").unwrap();
            assert_eq!(code(&clients[0], DeleteBucket { bucket: bucket_name("bucket") }), Code::BucketNotEmpty);
            clients[0].delete("bucket", "k").unwrap();
            clients[0].perform(DeleteBucket { bucket: bucket_name("bucket") }).unwrap();
            clients[0].create_bucket("bucket").unwrap();
            // Nothing is left of a deletion.
            clients[0].put("bucket", "k", "x").unwrap();
            clients[0].delete("bucket", "k").unwrap();
        }
        deleted.store(true, Ordering::Relaxed);
    });
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
