//! Lists: in the order of S3's keys, in pages.

use super::Client;
use super::client::plain_list;
use crate::harness::Store;
use kmsfs_s3::operation::ListObjectsV2;
use std::fs;
use std::time::{Duration, SystemTime};

#[test]
fn a_list_is_in_the_order_of_keys_whatever_the_size_of_its_pages() {
    let store = Store::new();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    let mut keys = ["a", "a-", "a0", "b/c", "b/c-", "b/d/e", "b.", "b0", "c/", "c/d", "ä", "z/y/x/w/v", "B"]
        .map(str::to_owned)
        .to_vec();
    for key in &keys {
        client.put("bucket", key, "").unwrap();
    }
    keys.sort();
    // What is not listed.
    fs::create_dir_all(mount.path("bucket/empty/directories")).unwrap();
    fs::write(mount.path("bucket/.kmsfs-put.0123456789abcdef.x"), "on its way").unwrap();
    fs::create_dir_all(mount.path("bucket/.kmsfs-uploads.1000/x")).unwrap();
    fs::write(mount.path("bucket/.kmsfs-uploads.1000/x/y"), "").unwrap();
    mount.set_default("bucket", crate::harness::KMS, false);
    let list = plain_list("bucket");
    for at_once in [1, 2, 3, 5, 1000] {
        assert_eq!(client.keys(&list, at_once), keys, "pages of {at_once}");
    }
    for at_once in [1, 2, 1000] {
        let by_prefix = |prefix: &str, delimiter: &str| {
            let list = ListObjectsV2 { prefix: prefix.into(), delimiter: delimiter.into(), ..list.clone() };
            client.keys(&list, at_once)
        };
        assert_eq!(by_prefix("", "/"), ["B", "a", "a-", "a0", "b.", "b/", "b0", "c/", "z/", "ä"]);
        assert_eq!(by_prefix("b/", "/"), ["b/c", "b/c-", "b/d/"]);
        assert_eq!(by_prefix("c/", "/"), ["c/", "c/d"]);
        assert_eq!(by_prefix("b", ""), ["b.", "b/c", "b/c-", "b/d/e", "b0"]);
        assert_eq!(
            by_prefix("", "-"),
            ["B", "a", "a-", "a0", "b.", "b/c", "b/c-", "b/d/e", "b0", "c/", "c/d", "z/y/x/w/v", "ä"]
        );
        assert_eq!(by_prefix("b/c", "-"), ["b/c", "b/c-"]);
        assert_eq!(by_prefix("z/y/", "/"), ["z/y/x/"]);
        assert_eq!(by_prefix("a/", ""), Vec::<String>::new());
        assert_eq!(by_prefix("b//", ""), Vec::<String>::new());
        assert_eq!(by_prefix("../", ""), Vec::<String>::new());
        assert_eq!(by_prefix("empty/", "/"), Vec::<String>::new());
    }
    let after =
        |start_after: &str| client.keys(&ListObjectsV2 { start_after: start_after.into(), ..list.clone() }, 1000);
    assert_eq!(after("b/c"), keys[keys.iter().position(|key| key == "b/c-").unwrap()..]);
    assert_eq!(after("b/cc"), keys[keys.iter().position(|key| key == "b/d/e").unwrap()..]);
    assert_eq!(after("c"), keys[keys.iter().position(|key| key == "c/").unwrap()..]);
    assert_eq!(after("zzz"), ["ä"]);
    let none = client.list_as(ListObjectsV2 { max_keys: 0, ..list }).unwrap();
    assert!(none.objects.is_empty() && none.next.is_none());
}

#[test]
fn a_list_shows_at_once_what_was_put_and_what_was_deleted() {
    let store = Store::on_tmpfs();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    let mut expected = Vec::new();
    for number in 0..30 {
        let key = format!("{number:02}");
        client.put("bucket", &key, "x").unwrap();
        expected.push(key);
        assert_eq!(client.keys(&plain_list("bucket"), 1000), expected);
        // From whatever key a client begins.
        let behind = ListObjectsV2 { start_after: "!".into(), ..plain_list("bucket") };
        assert_eq!(client.keys(&behind, 1000), expected);
    }
    // Behind the key that a page has ended with, and where a list goes on from it.
    for number in 0..30 {
        let page = ListObjectsV2 { max_keys: 10, ..plain_list("bucket") };
        let end = client.list_as(page).unwrap().next.unwrap();
        let key = format!("{end}-{number:02}");
        client.put("bucket", &key, "x").unwrap();
        let behind = ListObjectsV2 { start_after: end.clone(), ..plain_list("bucket") };
        let goes_on = ListObjectsV2 { continuation: Some(end.clone()), ..plain_list("bucket") };
        for list in [&behind, &goes_on] {
            assert_eq!(client.list_as(list.clone()).unwrap().objects[0].key, key);
        }
        client.delete("bucket", &key).unwrap();
        for list in [&behind, &goes_on] {
            assert_ne!(client.list_as(list.clone()).unwrap().objects[0].key, key);
        }
    }
    fs::write(mount.path("bucket/program"), "x").unwrap();
    expected.push("program".into());
    assert_eq!(client.keys(&plain_list("bucket"), 1000), expected);
    while let Some(key) = expected.pop() {
        client.delete("bucket", &key).unwrap();
        assert_eq!(client.keys(&plain_list("bucket"), 1000), expected);
    }
}

/// All keys, by a client that names the last one that it has seen.
fn keys_behind_each_other(client: &Client, at_once: u32) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    loop {
        let start_after = keys.last().cloned().unwrap_or_default();
        let list = ListObjectsV2 { start_after, max_keys: at_once, ..plain_list("bucket") };
        let page = client.list_as(list).unwrap();
        keys.extend(page.objects.into_iter().map(|object| object.key));
        if page.next.is_none() {
            return keys;
        }
    }
}

#[test]
fn pages_through_many_keys_are_whole_while_others_write() {
    const KEYS: usize = 3000;
    let store = Store::on_tmpfs();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    let mut keys = Vec::new();
    for number in 0..KEYS {
        let key =
            if number % 2 == 0 { format!("flat-{number:05}") } else { format!("deep/{}/{number:05}", number % 7) };
        let path = mount.path("bucket").join(&key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
        keys.push(key);
    }
    keys.sort();
    let (stop, others) = (std::sync::atomic::AtomicBool::new(false), Client::new(&store));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                let key = format!("zz/{}", round % 5);
                others.put("bucket", &key, "x").unwrap();
                others.put("bucket", &format!("zz-{}", round % 5), "x").unwrap();
                others.delete("bucket", &key).unwrap();
            }
        });
        let walk = || [client.keys(&plain_list("bucket"), 100), keys_behind_each_other(&client, 100)];
        let listed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(walk));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for listed in listed.unwrap() {
            assert_eq!(listed.iter().filter(|key| !key.starts_with("zz")).cloned().collect::<Vec<_>>(), keys);
        }
    });
}

#[test]
fn an_upload_that_nobody_finishes_is_removed_after_a_week() {
    let store = Store::new();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    let old = SystemTime::now() - Duration::from_secs(8 * 24 * 60 * 60);
    for (name, time) in [("0123456789abcdef", old), ("fedcba9876543210", SystemTime::now())] {
        let path = mount.path("bucket").join(format!(".kmsfs-put.{name}.k"));
        fs::write(&path, "on its way").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    }
    assert_eq!(client.keys(&plain_list("bucket"), 10), Vec::<String>::new());
    assert_eq!(crate::harness::names_in(&mount.path("bucket")), [".kmsfs-put.fedcba9876543210.k"]);
}
