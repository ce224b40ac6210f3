//! What of keys is in the memory of the process that serves a mount, and for how long.

mod search;
mod secrets;

use crate::harness::{KMS, Mount, Store, errno, kms_with, noise, wait_until, write_secret};
use kmsfs_crypto::{KeyPair, SecretKey, envelope, key_file, passphrase};
use kmsfs_format::header::Header;
use kmsfs_format::sidecar::{Record, Sidecar};
use kmsfs_kms::{Caller, Kms};
use kmsfs_kms_local::{LocalKms, Unlock};
use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;
use search::{Found, Needles, count, is_found};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

const OBJECTS: [&str; 4] = ["single/a", "single/b", "bucket-key/a", "double/a"];
const LEN: usize = 300_000;
const CALLER: Caller = Caller { uid: 0, gid: 0, pid: 1 };

/// All of an object in a store that is not mounted. The names are the object's with what it is.
fn secrets_of(needles: &mut Needles, store: &Store, kms: &LocalKms, object: &str) {
    let header = fs::read(store.store().join("buckets").join(object)).unwrap();
    let header = Header::read(&header).unwrap();
    let place = header.sidecar;
    let segment = File::open(store.store().join(format!("sidecars/{:08x}", place.segment))).unwrap();
    let mut record = vec![0; place.bytes()];
    segment.read_exact_at(&mut record, place.offset()).unwrap();
    let sidecar = Sidecar::decode(&Record::read(&record).unwrap().body).unwrap();
    let (wrapped, first_epoch) = (&sidecar.newest().wrapped, sidecar.newest().first_epoch);

    let mut data_keys = Vec::new();
    for blob in [Some(&wrapped.ciphertext_blob), wrapped.inner_blob.as_ref()].into_iter().flatten() {
        let mut key = kms.decrypt(&wrapped.key_arn, blob, &wrapped.context, &CALLER.into()).unwrap();
        if let Some(under_bucket_key) = &wrapped.under_bucket_key {
            secrets::key(needles, &format!("{object}: bucket key"), &bytes(key.duplicate()));
            let bound = 4 + u32::from_le_bytes(*under_bucket_key.first_chunk().unwrap()) as usize;
            let (bound, envelope) = under_bucket_key.split_at(bound);
            key = envelope::unwrap(&key, envelope, bound).unwrap();
        }
        data_keys.push(bytes(key));
        secrets::key(needles, &format!("{object}: data key"), data_keys.last().unwrap());
    }
    let suite = (header.suite as u16).to_le_bytes();
    let mut derive = |from: &[u8], purpose: &str, epoch: u16| {
        let purpose = format!("kmsfs {purpose}");
        let info = [purpose.as_bytes(), &suite, &4096_u32.to_le_bytes(), &epoch.to_le_bytes()];
        secrets::derived(needles, &format!("{object}: {purpose}"), &header.object_id.0, from, &info)
    };
    let whole = data_keys.concat();
    derive(&whole, "seal", first_epoch);
    derive(&whole, "sidecar", first_epoch);
    let mut ciphers = vec![("chunk", derive(&data_keys[0], "chunk", header.seal.epoch))];
    ciphers.push(("nonce", derive(&whole, "nonce", header.seal.epoch)));
    if let Some(inner) = data_keys.get(1) {
        ciphers.push(("inner chunk", derive(inner, "inner chunk", header.seal.epoch)));
    }
    for (purpose, key) in ciphers {
        secrets::aes(needles, &format!("{object}: kmsfs {purpose}"), &key);
    }
}

fn bytes(key: SecretKey) -> secrets::Key {
    key.into_plaintext()[..].try_into().unwrap()
}

fn open_kms(store: &Store) -> std::sync::Arc<LocalKms> {
    LocalKms::open(&store.store().join("keyring"), &Unlock::KeyFile(key_file::read(&store.path("key")).unwrap()))
        .unwrap()
}

/// Reads and writes in a thread for each file, none of it from the kernel's pages.
fn use_them(files: &[File]) {
    std::thread::scope(|scope| {
        for (seed, file) in files.iter().enumerate() {
            scope.spawn(move || {
                for round in 0..5 {
                    let at = noise(seed as u64 * 100 + round, 2);
                    let at = u64::from(u16::from_le_bytes([at[0], at[1]]));
                    file.write_all_at(&noise(round, 100_000), at).unwrap();
                    file.write_all_at(b"a little", at / 2).unwrap();
                    file.sync_all().unwrap();
                    fadvise(file, 0, None, Advice::DontNeed).unwrap();
                    file.read_exact_at(&mut vec![0; LEN], 0).unwrap();
                }
            });
        }
    });
}

/// Objects in buckets that are encrypted like that by default, open and used; and what is to be looked for of them.
fn in_use(store: &Store, buckets: &[(&str, String, bool)], objects: &[&str]) -> (Needles, Mount, Vec<File>) {
    let mount = store.mount();
    for (bucket, by_default, bucket_key) in buckets {
        mount.bucket(bucket);
        mount.set_default(bucket, by_default, *bucket_key);
    }
    for object in objects {
        fs::write(mount.path(object), noise(1, LEN)).unwrap();
    }
    mount.unmount();
    let (mut needles, kms) = (Needles::default(), open_kms(store));
    for object in objects {
        secrets_of(&mut needles, store, &kms, object);
    }
    let mount = store.mount_with("threads=4");
    let open = |object: &&str| OpenOptions::new().read(true).write(true).open(mount.path(object)).unwrap();
    let files: Vec<File> = objects.iter().map(open).collect();
    use_them(&files);
    (needles, mount, files)
}

/// In all memory of the process that serves it.
fn in_daemon(needles: &Needles, mount: &Mount) -> Found {
    needles.in_process(mount.pid())
}

#[test]
fn nothing_of_a_disabled_keys_data_keys_is_left_in_the_daemons_memory() {
    let store = Store::new();
    let arn = store.create_key("alias/customer");
    let double = r#"{"SSEAlgorithm":"aws:kms:dsse","KMSMasterKeyID":"alias/customer"}"#.to_owned();
    let customer = || kms_with("alias/customer");
    let buckets = [("single", customer(), false), ("bucket-key", customer(), true), ("double", double, false)];
    let (needles, mount, files) = in_use(&store, &buckets, &OBJECTS);
    // What is in use is found, so that this can fail.
    let found = in_daemon(&needles, &mount);
    for object in OBJECTS {
        for what in ["data key", "kmsfs seal", "kmsfs chunk, round key 9", "kmsfs nonce, round key 14"] {
            assert!(is_found(&found, &format!("{object}: {what}")), "{object}: {what} is not found among {found:#?}");
        }
    }
    assert!(is_found(&found, "double/a: kmsfs inner chunk, round key 5"), "{found:#?}");
    assert!(is_found(&found, "bucket-key/a: bucket key"), "{found:#?}");

    store.disable_key(&arn);
    for file in &files {
        let refused = || file.read_at(&mut [0; 10], 0).is_err();
        assert!(wait_until(refused), "still readable:\n{}", store.log());
        assert_eq!(errno(file.read_at(&mut [0; 10], 0)), Errno::ACCESS);
    }
    let mut left = Found::new();
    let gone = wait_until(|| {
        left = in_daemon(&needles, &mount);
        left.is_empty()
    });
    assert!(gone, "left in memory: {left:#?}");
}

/// In how many places that may be which has this name: every key in one, and an expanded key begins with the key.
fn copies(name: &str) -> usize {
    let halves = 2;
    // The implementation of the inner layer keeps the schedule for decryption too, which has the same first and last.
    let schedules = if name.contains("inner") { 2 } else { 1 };
    match name.split_once(": ").expect("an object's").1 {
        "data key" if name.starts_with("double") => 2 * halves,
        "data key" | "kmsfs seal" | "kmsfs sidecar" | "kmsfs chunk" | "kmsfs nonce" => halves,
        "kmsfs inner chunk" => halves + 1,
        what if what.ends_with("inverted") || what.ends_with("GCM's hash key") => 1,
        what if what.ends_with("round key 14") => schedules,
        what if what.contains(", round key ") => 1,
        // Of HKDF and HMAC, whose states live for one call.
        _ => 0,
    }
}

/// What is made on the way to a cipher or a MAC is nowhere while files are open and used, but in the middle of a
/// request.
#[test]
fn between_requests_keys_are_where_they_are_kept_and_nowhere_else() {
    let store = Store::new();
    let buckets =
        [("single", KMS.to_owned(), false), ("double", r#"{"SSEAlgorithm":"aws:kms:dsse"}"#.to_owned(), false)];
    let (needles, mount, _files) = in_use(&store, &buckets, &["single/a", "double/a"]);
    let too_many = |found: &Found| -> Vec<String> {
        found.keys().map(|(name, _)| name).filter(|name| count(found, name) > copies(name)).cloned().collect()
    };
    let mut found = Found::new();
    let tidy = wait_until(|| {
        found = in_daemon(&needles, &mount);
        too_many(&found).is_empty()
    });
    assert!(tidy, "{:#?} of {found:#?}", too_many(&found));
}

/// The keys of the keyring as whoever unlocks it gets them; docs/FORMAT.md has slots.json.
fn root_key(slots: &Path, secret: &SecretKey, kind: &[u8]) -> secrets::Key {
    let slots: Value = serde_json::from_slice(&fs::read(slots).unwrap()).unwrap();
    let slot = &slots["slots"][0];
    let text = |name: &str| hex::decode(slot[name].as_str().unwrap()).unwrap();
    let bound_to = [b"kmsfs slot ", kind, b" private key"].concat();
    let private = envelope::unwrap(secret, &text("private_key"), &bound_to).unwrap();
    bytes(KeyPair::of(private).open(&text("root_key"), b"kmsfs slot root key").unwrap())
}

#[test]
fn what_unlocks_the_keyring_is_gone_once_it_is_mounted_and_the_root_key_is_there_once() {
    let store = Store::new();
    let key = key_file::read(&store.path("key")).unwrap();
    let mut needles = Needles::default();
    secrets::key(&mut needles, "root key", &root_key(&store.store().join("keyring/slots.json"), &key, b"key-file"));
    secrets::key(&mut needles, "key file", &bytes(key));
    let mount = store.mount();
    let bucket = mount.bucket("bucket");
    fs::write(bucket.join("object"), noise(1, LEN)).unwrap();
    let mut found = Found::new();
    let tidy = wait_until(|| {
        found = in_daemon(&needles, &mount);
        // Its two halves.
        found.keys().all(|(name, _)| name == "root key") && count(&found, "root key") == 2
    });
    assert!(tidy, "{found:#?}");
}

#[test]
fn nothing_of_a_passphrase_is_left_once_it_is_mounted() {
    const PASSPHRASE: &str = "a passphrase that is long enough to be looked for";
    let store = Store::new();
    write_secret(&store.path("pass"), PASSPHRASE);
    store.sh("kmsfs keyring --store $STORE --key-file $KEY change --new-passphrase-file pass");
    let slots: Value = serde_json::from_slice(&fs::read(store.store().join("keyring/slots.json")).unwrap()).unwrap();
    let slot = &slots["slots"][0];
    let number = |name: &str| u32::try_from(slot[name].as_u64().unwrap()).unwrap();
    let [memory_kib, passes, lanes] = ["memory_kib", "passes", "lanes"].map(number);
    let salt = hex::decode(slot["salt"].as_str().unwrap()).unwrap().try_into().unwrap();
    let cost = passphrase::Cost { memory_kib, passes, lanes };
    let stretched = passphrase::stretch(PASSPHRASE.as_bytes(), &salt, cost).unwrap();
    let mut needles = Needles::default();
    needles.add("passphrase", PASSPHRASE.as_bytes());
    secrets::key(&mut needles, "stretched passphrase", &bytes(stretched));
    store.sh("kmsfs mount --passphrase-file pass $STORE $MNT");
    let pid = store.sh("cat $STORE/lock").trim().parse().unwrap();
    let found = needles.in_process(pid);
    store.sh("umount $MNT");
    assert!(found.is_empty(), "{found:#?}");
}

/// Address and length.
fn place<T>(boxed: &T) -> (usize, usize) {
    (std::ptr::from_ref(boxed).addr(), size_of::<T>())
}

/// The forms that are looked for are those that the libraries have in memory, on a processor with instructions for AES
/// and SHA.
#[test]
fn what_is_looked_for_is_what_libraries_make_of_keys() {
    use aes::cipher::KeyInit;
    use hmac::Mac;
    if !std::fs::read_to_string("/proc/cpuinfo").unwrap().split_whitespace().any(|word| word == "aes") {
        eprintln!("NOT RUN: this processor has no instructions for AES, and libraries lay round keys out otherwise");
        return;
    }
    let key: secrets::Key = noise(7, 32).try_into().unwrap();
    let mut needles = Needles::default();
    secrets::key(&mut needles, "key", &key);
    secrets::aes(&mut needles, "key", &key);
    let memory = File::open("/proc/self/mem").unwrap();
    let within = |address: usize, len: usize| {
        let mut names = std::collections::BTreeSet::new();
        let range = address as u64..(address + len) as u64;
        needles.in_range(&memory, range, |name| _ = names.insert(name.to_owned()));
        names
    };
    let mac = Box::new(hmac::Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap());
    let (at, len) = place(&*mac);
    let found = within(at, len);
    assert!(found.contains("key, padded, hashed") && found.contains("key, padded outside, hashed"), "{found:?}");
    drop(mac.finalize());

    let cipher = Box::new(aes::Aes256::new(&key.into()));
    let (at, len) = place(&*cipher);
    let found = within(at, len);
    for round in 2..14 {
        assert!(found.contains(&format!("key, round key {round}")), "{found:?}");
        assert!(found.contains(&format!("key, round key {round} inverted")), "{found:?}");
    }

    let key = ring::aead::UnboundKey::new(&ring::aead::AES_256_GCM, &key).unwrap();
    let cipher = Box::new(ring::aead::LessSafeKey::new(key));
    let (at, len) = place(&*cipher);
    let found = within(at, len);
    assert!((2..15).all(|round| found.contains(&format!("key, round key {round}"))), "{found:?}");
    assert!(found.contains("key, GCM's hash key"), "{found:?}");
}
