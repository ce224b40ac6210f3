//! Values that earlier versions bound to the bucket and a name alone are bound to what carries them.

use super::*;
use kmsfs_crypto::{MetadataCipher, StoreKey};
use kmsfs_kms::{Caller, EncryptionContext};
use kmsfs_store::backend::XattrFlags;
use kmsfs_store::check::{CheckOptions, Severity, check};
use kmsfs_store::prelude::*;
use kmsfs_store::{CAPABILITY, Target};

const KEPT: &str = "user.kmsfs.capability";
/// Name below the bucket `plain`, attribute, stored attribute.
const VALUES: [(&str, &str, &str); 4] = [
    ("object", "user.a", "user.a"),
    ("object", CAPABILITY, KEPT),
    ("dir", "user.a", "user.a"),
    ("large", "user.b", "user.b"),
];

fn context(of: &[(&str, &str)]) -> EncryptionContext {
    of.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect()
}

fn json(dir: &dyn Dir, name: &str) -> serde_json::Value {
    let file = dir.open_file(OsStr::new(name), Access::Read).unwrap();
    let mut bytes = vec![0; file.metadata().unwrap().len as usize];
    file.read_at(&mut bytes, 0).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn blob(json: &serde_json::Value, member: &str) -> Vec<u8> {
    hex::decode(json[member].as_str().unwrap()).unwrap()
}

fn put(disk: &SimulatedDisk, name: &str, stored: &str, value: &[u8]) {
    let dir = disk.root().unwrap().open_dir(OsStr::new("buckets")).unwrap().open_dir(OsStr::new("plain")).unwrap();
    dir.set_xattr(Some(OsStr::new(name)), OsStr::new(stored), value, XattrFlags::Any).unwrap();
}

/// As versions up to 3 sealed it.
fn old_form(disk: &SimulatedDisk, ring: &Ring, attribute: &str, value: &[u8]) -> Vec<u8> {
    let meta = json(disk.root().unwrap().open_dir(OsStr::new("meta")).unwrap().as_ref(), "plain");
    let bound = context(&[("aws:s3:arn", "arn:aws:s3:::plain"), ("kmsfs:purpose", "metadata")]);
    let key = ServiceKey::decrypt(&*ring.kms, &blob(&meta, "metadata_key"), &bound).unwrap();
    MetadataCipher::new(key).seal(attribute.as_bytes(), value)
}

/// What store.json of version 3 was, with this store's key.
fn put_back_to_3(disk: &SimulatedDisk, ring: &Ring) {
    let mut json = description(disk);
    let store = json["store_id"].as_str().unwrap();
    let bound = context(&[("kmsfs:purpose", "store"), ("kmsfs:store", store)]);
    let key = StoreKey::new(ServiceKey::decrypt(&*ring.kms, &blob(&json, "store_key"), &bound).unwrap());
    let features: [String; 0] = [];
    let signed = (3, features, &json["store_id"], &json["account_id"], &json["region"], &json["store_key"]);
    let mac = key.mac_key("kmsfs store.json").tag(&[&serde_json::to_vec(&signed).unwrap()]);
    json["format_version"] = 3.into();
    json["mac"] = hex::encode(mac).into();
    put_back(disk, &serde_json::to_vec(&json).unwrap());
}

/// A store of an earlier version with values, and its keyring.
fn old_store(version: u16) -> (SimulatedDisk, Ring) {
    let (disk, mut ring) = (golden_disk("store-v1"), Ring::of("store-v1"));
    if version == 3 {
        ring.open(&disk, false).unwrap().close().unwrap();
        put_back_to_3(&disk, &ring);
        ring = Ring::of("store-v1");
        ServiceKey::raise_store_format(&*ring.kms, 3).unwrap();
    }
    for (name, attribute, stored) in VALUES {
        put(&disk, name, stored, &old_form(&disk, &ring, attribute, name.as_bytes()));
    }
    disk.sync_all().unwrap();
    (disk, ring)
}

fn get(store: &Arc<Store>, name: &str, attribute: &str) -> store::Result<Vec<u8>> {
    let dir = store.open_dir(store.root(), OsStr::new("plain")).unwrap();
    match store.open_dir(&dir, OsStr::new(name)) {
        Ok(below) => store.get_xattr(Target::Dir(&below), OsStr::new(attribute)),
        Err(_) => store.get_xattr(Target::Name(&dir, OsStr::new(name)), OsStr::new(attribute)),
    }
}

fn expect_values(store: &Arc<Store>) {
    for (name, attribute, _) in VALUES {
        assert_eq!(get(store, name, attribute).unwrap(), name.as_bytes(), "{attribute} of {name}");
    }
}

#[test]
fn values_are_bound_when_a_store_is_raised_and_the_old_form_is_refused_afterwards() {
    for version in [1, 3] {
        let (disk, ring) = old_store(version);
        disk.watch(|_| panic!("reading changes something"));
        let store = ring.open(&disk, true).unwrap();
        expect_values(&store);
        drop(store);
        disk.unwatch();
        let store = ring.open(&disk, false).unwrap();
        expect_values(&store);
        // Nothing is left of it in the mount that raised it either.
        put(&disk, "large", "user.a", &old_form(&disk, &ring, "user.a", b"planted"));
        assert!(matches!(get(&store, "large", "user.a"), Err(store::Error::Corrupt(_))));
        store.close().unwrap();
        assert_eq!((ring.format(), &description(&disk)["format_version"]), (4, &4.into()));
        for (name, attribute, stored) in VALUES {
            put(&disk, name, stored, &old_form(&disk, &ring, attribute, name.as_bytes()));
        }
        for read_only in [true, false] {
            let store = ring.open(&disk, read_only).unwrap();
            for (name, attribute, _) in VALUES {
                assert!(matches!(get(&store, name, attribute), Err(store::Error::Corrupt(_))), "{attribute} of {name}");
            }
            drop(store);
        }
    }
}

#[test]
fn fsck_names_each_value_that_is_not_bound_yet() {
    let (disk, ring) = old_store(3);
    let unbound = || {
        let store = ring.open(&disk, true).unwrap();
        let root = Caller { uid: 0, gid: 0, pid: 0 };
        let report = check(&store, CheckOptions::default(), &root, &mut |_| true).unwrap();
        store.close().unwrap();
        let findings = report.findings.into_iter();
        let mut unbound: Vec<_> = findings.filter(|finding| finding.what.contains("is not bound to it yet")).collect();
        assert!(unbound.iter().all(|finding| finding.severity == Severity::Note));
        unbound.sort_by(|a, b| a.place.cmp(&b.place));
        unbound.into_iter().map(|finding| (finding.place, finding.what)).collect::<Vec<_>>()
    };
    let before = unbound();
    // `object` has another name, of which the disk has made a copy: that is what is said of it.
    let expected: Vec<_> = VALUES.into_iter().filter(|(name, ..)| *name != "object").collect();
    assert_eq!(before.len(), expected.len(), "{before:?}");
    for (name, attribute, _) in expected {
        let names_it = |(place, what): &(String, String)| {
            place.ends_with(name) && what.starts_with(&format!("attribute {attribute} "))
        };
        assert!(before.iter().any(names_it), "{attribute} of {name}: {before:?}");
    }
    ring.open(&disk, false).unwrap().close().unwrap();
    assert_eq!(unbound(), []);
}

#[test]
fn a_power_cut_anywhere_while_values_are_bound_loses_none() {
    for version in [1, 3] {
        let (disk, ring) = old_store(version);
        cut_anywhere("store-v1", &disk, &ring, VALUES.len(), expect_values);
    }
}

#[test]
fn a_store_of_version_4_that_is_put_back_to_version_3_is_refused() {
    let (disk, ring) = old_store(3);
    ring.open(&disk, false).unwrap().close().unwrap();
    put_back_to_3(&disk, &ring);
    for read_only in [false, true] {
        let Err(store::Error::Unusable(why)) = ring.open(&disk, read_only) else { panic!("it opens") };
        assert!(why.contains("format version 3") && why.contains("raised to 4"), "{why}");
    }
}
