//! Content of objects that the kernel itself moves from the mount into a connection.

use super::Served;
use super::client::{Client, Connection};
use crate::harness::{configuration, kms_with, wait_until};
use std::fs::{self, File};
use std::io::Read;

/// More than is handed to the kernel with one call, and no whole number of pages.
const SIZE: usize = (20 << 20) + 1;

fn content() -> Vec<u8> {
    (0..SIZE as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// The line and headers of a signed GET.
fn get(client: &Client, target: &str, headers: &[(&str, &str)]) -> String {
    client.sign("GET", target, headers, b"").head()
}

#[test]
fn answers_of_one_connection_follow_each_other_byte_by_byte() {
    let served = Served::new();
    let content = content();
    fs::create_dir(served.mount.path("bucket")).unwrap();
    fs::write(served.mount.path("bucket/large"), &content).unwrap();
    fs::write(served.mount.path("bucket/small"), b"small").unwrap();
    let root = served.client("root");
    let mut connection = Connection::open(&root.address);
    // All at once: each answer is the one that is due.
    let range = get(&root, "/bucket/large", &[("range", "bytes=5000001-9999999")]);
    let (large, small) = (get(&root, "/bucket/large", &[]), get(&root, "/bucket/small", &[]));
    connection.send([&small, &large, &range, &small, &large].map(String::as_bytes).concat().as_slice());
    for expected in [b"small", &content[..], &content[5_000_001..10_000_000], b"small", &content] {
        assert!(connection.reply("GET").body == expected);
    }
}

#[test]
fn who_reads_slowly_is_sent_all_of_it() {
    let served = Served::new();
    let content = content();
    fs::create_dir(served.mount.path("bucket")).unwrap();
    fs::write(served.mount.path("bucket/large"), &content).unwrap();
    let root = served.client("root");
    let mut connection = Connection::open(&root.address);
    connection.send(get(&root, "/bucket/large", &[]).as_bytes());
    assert_eq!(connection.reply_head().0, 200);
    let mut received = Vec::with_capacity(SIZE);
    let mut piece = [0; 3001];
    while received.len() < SIZE {
        // The kernel has room for less than all of it, on both sides together.
        let len = piece.len().min(SIZE - received.len());
        connection.0.read_exact(&mut piece[..len]).unwrap();
        received.extend_from_slice(&piece[..len]);
    }
    assert!(received == content);
}

#[test]
fn an_object_that_becomes_shorter_meanwhile_is_cut_off() {
    let served = Served::new();
    let content = content();
    fs::create_dir(served.mount.path("bucket")).unwrap();
    let path = served.mount.path("bucket/large");
    fs::write(&path, &content).unwrap();
    let root = served.client("root");
    let mut connection = Connection::open(&root.address);
    connection.send(get(&root, "/bucket/large", &[]).as_bytes());
    let (status, headers) = connection.reply_head();
    assert_eq!(status, 200);
    assert!(headers.contains(&("content-length".to_owned(), SIZE.to_string())));
    // What the kernel has taken already may come still.
    File::options().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
    let mut received = Vec::new();
    let _ = connection.0.read_to_end(&mut received);
    assert!((1 << 20..SIZE).contains(&received.len()), "{}", received.len());
    assert!(received == content[..received.len()]);
    // And it is of this connection alone.
    assert!(root.get("/bucket/large").expect(200).body == content[..1 << 20]);
}

/// Pages in the cache are there for whoever has the file open, and sendfile(2) would put them there.
#[test]
fn what_a_key_that_distinguishes_users_protects_is_sent_past_the_kernels_cache() {
    let served = Served::new();
    let (store, mount) = (&served.store, &served.mount);
    let content = content();
    let arn = store.create_key("alias/theirs");
    fs::create_dir(mount.path("bucket")).unwrap();
    fs::write(mount.path("bucket/.encryption.json"), configuration(&kms_with("alias/theirs"), false)).unwrap();
    fs::write(mount.path("bucket/large"), &content).unwrap();
    let root = served.client("root");
    let cached_after_get = || {
        store.sh("sync $MNT/bucket/large; dd if=$MNT/bucket/large iflag=nocache count=0 status=none");
        assert!(root.get("/bucket/large").expect(200).body == content);
        store.sh("fincore --bytes --noheadings --output RES $MNT/bucket/large").trim().parse::<usize>().unwrap()
    };
    assert!(cached_after_get() >= SIZE);
    let statement = |who: &str, what: &str| {
        format!(
            r#"{{"Effect": "Allow", "Principal": {{"AWS": "arn:aws:iam::000000000000:{who}"}}, "Action": "kms:{what}",
            "Resource": "*"}}"#
        )
    };
    let statements = [statement("user/root", "*"), statement("user/nobody", "Decrypt")].join(", ");
    let policy = format!(r#"{{"Version": "2012-10-17", "Statement": [{statements}]}}"#);
    fs::write(store.path("policy.json"), policy).unwrap();
    store.kms(&format!("put-key-policy --key-id {arn} --policy-name default --policy file://policy.json"));
    // The mount knows of the policy within a second.
    assert!(wait_until(|| cached_after_get() == 0));
}

/// How the kernel caches a file is decided by whoever opens it first, and holds as long as anybody has it open.
#[test]
fn what_somebody_has_open_past_the_kernels_cache_is_sent_past_it() {
    let served = Served::new();
    let (store, mount) = (&served.store, &served.mount);
    let content = content();
    let arn = store.create_key("alias/theirs");
    fs::create_dir(mount.path("bucket")).unwrap();
    fs::write(mount.path("bucket/.encryption.json"), configuration(&kms_with("alias/theirs"), false)).unwrap();
    fs::write(mount.path("bucket/large"), &content).unwrap();
    let root = served.client("root");
    let cached_after_get = || {
        store.sh("sync $MNT/bucket/large; dd if=$MNT/bucket/large iflag=nocache count=0 status=none");
        assert!(root.get("/bucket/large").expect(200).body == content);
        store.sh("fincore --bytes --noheadings --output RES $MNT/bucket/large").trim().parse::<usize>().unwrap()
    };
    let default = store.kms(&format!("get-key-policy --key-id {arn} --policy-name default"));
    let default = default["Policy"].as_str().expect("a policy").to_owned();
    let statement = |who: &str, what: &str| {
        format!(
            r#"{{"Effect": "Allow", "Principal": {{"AWS": "arn:aws:iam::000000000000:{who}"}}, "Action": "kms:{what}",
            "Resource": "*"}}"#
        )
    };
    let statements = [statement("user/root", "*"), statement("user/nobody", "Decrypt")].join(", ");
    let put = |policy: &str| {
        fs::write(store.path("policy.json"), policy).unwrap();
        store.kms(&format!("put-key-policy --key-id {arn} --policy-name default --policy file://policy.json"));
    };
    put(&format!(r#"{{"Version": "2012-10-17", "Statement": [{statements}]}}"#));
    assert!(wait_until(|| cached_after_get() == 0));
    let open = File::open(mount.path("bucket/large")).unwrap();
    put(&default);
    let head = || store.sh("getfattr --only-values -n user.x-kmsfs-head $MNT/bucket/large");
    assert!(wait_until(|| head().contains(r#""KeyDistinguishesUsers":false"#)), "{}", head());
    assert_eq!(cached_after_get(), 0);
    drop(open);
    // The last one to close it is behind the answer.
    assert!(wait_until(|| cached_after_get() >= SIZE));
}
