//! `kmsfs scrub` and `kmsfs sync`, on a mount that is in use.

use super::*;
use std::os::unix::fs::{FileExt, PermissionsExt};

impl Place {
    fn scrub(&self, more: &[&str]) -> Answer {
        let mut words = vec!["scrub", "--rate", "0"];
        words.extend(more);
        let mnt = self.shown("mnt");
        words.push(&mnt);
        run(KMSFS, words)
    }
}

fn filled() -> Place {
    let place = Place::with_store();
    assert_eq!(place.mount(&["-o", "allow_other"]).code, 0);
    let bucket = place.path("mnt/my-bucket");
    fs::create_dir_all(bucket.join("sub")).unwrap();
    for (name, len) in [("a", 10_000), ("sub/b", 300_000), ("z\n\x1b[31m", 100)] {
        fs::write(bucket.join(name), vec![7; len]).unwrap();
    }
    fs::hard_link(bucket.join("a"), bucket.join("again")).unwrap();
    let sparse = fs::File::create(bucket.join("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    sparse.write_all_at(b"end", (1 << 40) - 3).unwrap();
    drop(sparse);
    assert_eq!(run(KMSFS, ["sync", &place.shown("mnt")]).code, 0);
    place
}

#[test]
fn a_scrub_reads_every_object_once_and_no_hole() {
    let place = filled();
    let answer = place.scrub(&["--json"]);
    assert_eq!((answer.code, answer.err.as_str()), (0, ""));
    let json: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(json["Objects"], 4);
    assert_eq!(json["Damaged"], serde_json::json!([]));
    let bytes = json["Bytes"].as_u64().unwrap();
    assert!((310_103..320_000).contains(&bytes), "{bytes}");
}

#[test]
fn damage_beneath_what_the_kernel_has_cached_is_found_and_named_without_driving_the_terminal() {
    let place = filled();
    let read = || fs::read(place.path("mnt/my-bucket/sub/b")).unwrap();
    assert_eq!(read(), vec![7; 300_000]);
    let store = |name: &str| fs::File::options().write(true).open(place.path("store/buckets/my-bucket").join(name));
    store("sub/b").unwrap().write_all_at(b"damage", 100_000).unwrap();
    store("z\n\x1b[31m").unwrap().write_all_at(b"damage", 4096).unwrap();
    let answer = place.scrub(&[]);
    assert_eq!(answer.code, 1);
    let mnt = place.shown("mnt");
    assert!(
        answer.out.contains(&format!("DAMAGED: {mnt}/my-bucket/sub/b: 1 of its chunks cannot be read")),
        "{answer:?}"
    );
    assert!(answer.out.contains(&format!("DAMAGED: {mnt}/my-bucket/z\\n\\x1b[31m: 1 of its chunks")), "{answer:?}");
    assert!(answer.out.ends_with("2 damaged\n"), "{answer:?}");
    assert!(!(answer.out + &answer.err).contains('\x1b'));
}

#[test]
fn a_scrub_goes_on_where_an_earlier_one_was() {
    let place = filled();
    let state = place.shown("state");
    let hex = |path: PathBuf| hex::encode(path.to_str().unwrap());
    let earlier = serde_json::json!({
        "root": hex(place.path("mnt")), "done": hex(place.path("mnt/my-bucket/sparse")),
        "objects": 2, "bytes": 10_003, "unreadable": 0, "damaged": [],
    });
    fs::write(&state, earlier.to_string()).unwrap();
    let answer = place.scrub(&["--json", "--state", &state]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let json: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!((&json["Objects"], &json["Bytes"]), (&4.into(), &310_103.into()));
    assert!(!place.path("state").exists());
    fs::write(&state, earlier.to_string().replace("root\":\"", "root\":\"00")).unwrap();
    let refused = place.scrub(&["--state", &state]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("is the state of a scrub of another path: remove it"), "{refused:?}");
}

#[test]
fn what_cannot_be_read_with_the_present_keys_is_counted_and_not_called_damaged() {
    let place = filled();
    let (store, key) = (place.shown("store"), place.shown("key"));
    let kms = |words: &[&str]| {
        let answer = run(KMSFS, ["kms", "--store", &store, "--key-file", &key].iter().chain(words));
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.out
    };
    let made: serde_json::Value = serde_json::from_str(&kms(&["create-key"])).unwrap();
    let id = made["KeyMetadata"]["KeyId"].as_str().unwrap();
    let file = place.path("mnt/my-bucket/a");
    for (name, value) in [("", "aws:kms"), ("-aws-kms-key-id", id)] {
        let name = format!("user.x-amz-server-side-encryption{name}");
        rustix::fs::setxattr(&file, name, value.as_bytes(), rustix::fs::XattrFlags::empty()).unwrap();
    }
    kms(&["disable-key", "--key-id", id]);
    let summary = || {
        let answer = place.scrub(&["--json"]);
        (answer.code, serde_json::from_str::<serde_json::Value>(&answer.out).unwrap()["Unreadable"].clone())
    };
    assert!(wait_until(|| summary() == (0, 1.into())), "{:?}", summary());
}

#[test]
fn after_a_sync_a_copy_of_the_store_has_everything() {
    let place = filled();
    let big = place.path("mnt/my-bucket/big");
    fs::write(&big, vec![9; 3_000_000]).unwrap();
    let file = fs::File::options().write(true).open(&big).unwrap();
    // Still in the kernel's cache.
    file.write_all_at(&[8; 5000], 1_000_000).unwrap();
    assert_eq!(run(KMSFS, ["sync", &place.shown("mnt")]), Answer { code: 0, out: String::new(), err: String::new() });
    let copy = Place::with_store();
    fs::remove_dir_all(copy.path("store")).unwrap();
    fs::copy(place.path("key"), copy.path("key")).unwrap();
    fs::set_permissions(copy.path("key"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(run("cp", ["-a", &place.shown("store"), &copy.shown("store")]).code, 0);
    assert_eq!(copy.mount(&[]).code, 0);
    let mut expected = vec![9; 3_000_000];
    expected[1_000_000..1_005_000].fill(8);
    assert!(fs::read(copy.path("mnt/my-bucket/big")).unwrap() == expected);
    drop(file);
}

#[test]
fn only_root_and_whoever_mounted_may_sync_and_nothing_else_is_a_mount() {
    let place = filled();
    fs::set_permissions(place.store.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    let mnt = place.shown("mnt");
    let refused = run("setpriv", ["--reuid", "65534", "--regid", "65534", "--clear-groups", KMSFS, "sync", &mnt]);
    assert_eq!((refused.code, refused.err), (1, format!("kmsfs: {mnt}: Operation not permitted\n")));
    let store = place.shown("store");
    let keyring = format!("{store}/keyring");
    let text = format!("kmsfs: {keyring} is not a mount of a kmsfs store\n");
    assert_eq!(run(KMSFS, ["sync", &keyring]), Answer { code: 1, out: String::new(), err: text });
    let text = format!("kmsfs: {store} is not in a kmsfs mount\n");
    assert_eq!(run(KMSFS, ["scrub", &store]), Answer { code: 1, out: String::new(), err: text });
}
