//! Values of extended attributes, and targets of symlinks, that somebody moves without a key.

use super::check::LOOK;
use super::*;
use kmsfs_kms::{Waits, WouldWait, waits};
use kmsfs_store::backend::XattrFlags;
use kmsfs_store::check::{CheckOptions, Severity};
use kmsfs_store::{CAPABILITY, Target};
use std::sync::mpsc::channel;
use std::thread;

/// What a capability is kept under, and a directory's id.
const KEPT: &str = "user.kmsfs.capability";
const ID: &str = "user.kmsfs.directory";

/// Files, directories and a bucket, with what they have: the name that users see and the stored one.
const VALUES: [(&str, &str, &str); 11] = [
    ("bucket/a", "user.x", "user.x"),
    ("bucket/a", "user.y", "user.y"),
    ("bucket/a", CAPABILITY, KEPT),
    ("bucket/b", "user.x", "user.x"),
    ("bucket/b", CAPABILITY, KEPT),
    ("bucket/d", "user.x", "user.x"),
    ("bucket/d", "user.y", "user.y"),
    ("bucket/e", "user.x", "user.x"),
    ("bucket", "user.x", "user.x"),
    ("other", "user.x", "user.x"),
    ("bucket/d/c", "user.x", "user.x"),
];

fn at<T>(store: &Arc<Store>, path: &str, act: impl FnOnce(Target<'_>) -> T) -> T {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let open = |dir: Arc<Dir>, name: &str| store.open_dir(&dir, OsStr::new(name));
    let above = above.split('/').filter(|name| !name.is_empty());
    let dir = above.fold(store.root().clone(), |dir, name| open(dir, name).unwrap());
    match open(dir.clone(), name) {
        Ok(dir) => act(Target::Dir(&dir)),
        Err(_) => act(Target::Name(&dir, OsStr::new(name))),
    }
}

/// What is seen there, by name and, of a file, by its object.
fn value(victim: &Victim, path: &str, attribute: &str) -> Result<Vec<u8>, Error> {
    victim.mounted(|store| {
        at(store, path, |target| {
            let closed = store.get_xattr(target, OsStr::new(attribute));
            if let Target::Name(dir, name) = target {
                let object = store.open_object(dir, name, &CALLER).unwrap();
                assert_eq!(store.get_xattr(Target::Object(&object), OsStr::new(attribute)), closed);
                store.release(&object);
            }
            closed
        })
    })
}

fn raw(victim: &Victim, path: &str, stored: &str) -> Vec<u8> {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    victim.dir(&format!("buckets/{above}")).get_xattr(Some(OsStr::new(name)), OsStr::new(stored)).unwrap()
}

fn put_raw(victim: &Victim, path: &str, stored: &str, value: &[u8]) {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let dir = victim.dir(&format!("buckets/{above}"));
    dir.set_xattr(Some(OsStr::new(name)), OsStr::new(stored), value, XattrFlags::Any).unwrap();
}

fn victim() -> Victim {
    let victim = Victim::new(&[("a", b"content of a"), ("b", b"content of b")]);
    victim.mounted(|store| {
        let dir = bucket(store);
        for name in ["d", "e"] {
            store.make_dir(&dir, OsStr::new(name), &NewNode { mode: 0o755, ..NODE }).unwrap();
        }
        let below = store.open_dir(&dir, OsStr::new("d")).unwrap();
        let object = create(store, &below, "c");
        object.commit().unwrap();
        store.release(&object);
        for (path, attribute, _) in VALUES {
            let set = format!("{attribute} of {path}");
            at(store, path, |at| store.set_xattr(at, OsStr::new(attribute), set.as_bytes(), XattrFlags::Any)).unwrap();
        }
    });
    victim
}

#[track_caller]
fn assert_refused(victim: &Victim, path: &str, attribute: &str) {
    let Err(Error::Corrupt(finding)) = value(victim, path, attribute) else {
        panic!("{attribute} of {path} is read");
    };
    assert!(finding.starts_with(path) && finding.contains(attribute), "{finding}");
}

/// One value of two files that were exchanged, as it is read.
pub fn exchanged() -> Result<String, Error> {
    let victim = victim();
    put_raw(&victim, "bucket/a", "user.x", &raw(&victim, "bucket/b", "user.x"));
    value(&victim, "bucket/a", "user.x").map(|value| String::from_utf8(value).unwrap())
}

#[test]
fn any_two_values_that_are_exchanged_are_refused_and_fsck_names_them() {
    let victim = victim();
    for (path, attribute, _) in VALUES {
        assert_eq!(value(&victim, path, attribute).unwrap(), format!("{attribute} of {path}").into_bytes());
    }
    assert_eq!(victim.check(LOOK).findings, []);
    for (n, a) in VALUES.iter().enumerate() {
        for b in &VALUES[n + 1..] {
            let damaged = victim.copy();
            put_raw(&damaged, a.0, a.2, &raw(&victim, b.0, b.2));
            put_raw(&damaged, b.0, b.2, &raw(&victim, a.0, a.2));
            for (path, attribute, _) in [a, b] {
                assert_refused(&damaged, path, attribute);
            }
            let found = damaged.check(LOOK).findings;
            let mut expected = [a, b].map(|(path, attribute, _)| {
                (*path, format!("attribute {attribute} is not what was set: set or remove it in a mount"))
            });
            let mut told: Vec<_> = found.iter().map(|found| (found.place.as_str(), found.what.clone())).collect();
            told.sort();
            expected.sort();
            assert_eq!(told, expected);
            assert!(found.iter().all(|found| found.severity == Severity::Error));
        }
    }
}

#[test]
fn a_value_that_somebody_made_flipped_or_cut_is_refused_and_can_be_set_anew() {
    let victim = victim();
    for (path, attribute, stored) in VALUES {
        let good = raw(&victim, path, stored);
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for bad in [flipped, good[..good.len() - 1].to_vec(), b"plain".to_vec(), Vec::new()] {
            let damaged = victim.copy();
            put_raw(&damaged, path, stored, &bad);
            assert_refused(&damaged, path, attribute);
            damaged.mounted(|store| {
                at(store, path, |at| store.set_xattr(at, OsStr::new(attribute), b"new", XattrFlags::Any)).unwrap();
            });
            assert_eq!(value(&damaged, path, attribute).unwrap(), b"new");
        }
    }
}

#[test]
fn a_directorys_values_are_worth_nothing_without_its_id_and_go_with_it_together_only() {
    let victim = victim();
    let damaged = victim.copy();
    damaged.dir("buckets/bucket").remove_xattr(Some(OsStr::new("d")), OsStr::new(ID)).unwrap();
    assert_refused(&damaged, "bucket/d", "user.x");
    let damaged = victim.copy();
    put_raw(&damaged, "bucket/d", ID, &raw(&victim, "bucket/e", ID));
    for attribute in ["user.x", "user.y"] {
        assert_refused(&damaged, "bucket/d", attribute);
    }
    // As docs/THREAT_MODEL.md says: what exchanging the directories' names would do too.
    put_raw(&damaged, "bucket/d", "user.x", &raw(&victim, "bucket/e", "user.x"));
    assert_eq!(value(&damaged, "bucket/d", "user.x").unwrap(), b"user.x of bucket/e");
    assert_refused(&damaged, "bucket/d", "user.y");
}

#[test]
fn a_header_with_another_objects_id_gives_its_values_to_no_content() {
    let victim = victim();
    let block = bytes(victim.object("b").as_ref(), 0, ENTRIES_AT);
    victim.object("a").write_at(&block, 0).unwrap();
    put_raw(&victim, "bucket/a", "user.x", &raw(&victim, "bucket/b", "user.x"));
    assert!(matches!(victim.read("a"), Err(Error::Corrupt(_))));
}

#[test]
fn values_stay_with_a_file_through_renames_links_new_keys_and_truncation() {
    let victim = victim();
    victim.mounted(|store| {
        let dir = bucket(store);
        store.link(&dir, OsStr::new("a"), &dir, OsStr::new("link")).unwrap();
        store.rename(&dir, OsStr::new("a"), &dir, OsStr::new("moved"), Rename::Replace).unwrap();
        store.rename(&dir, OsStr::new("d"), &dir, OsStr::new("directory"), Rename::Replace).unwrap();
        let object = open_object(store, &dir, "moved");
        store.rewrap(&object, &aws_kms(&"x".repeat(700)), "moved", &CALLER).unwrap();
        store.release(&object);
        let object = store.open_truncated(&dir, OsStr::new("moved"), &aes256(), "moved", &CALLER).unwrap();
        store.release(&object);
    });
    for name in ["link", "moved"] {
        assert_eq!(value(&victim, &format!("bucket/{name}"), "user.x").unwrap(), b"user.x of bucket/a");
    }
    assert_eq!(value(&victim, "bucket/directory", "user.x").unwrap(), b"user.x of bucket/d");
    assert_eq!(victim.check(LOOK).findings, []);
}

#[test]
fn values_stay_with_a_damaged_file_that_is_written_anew_by_a_program_or_a_repair() {
    let victim = victim();
    // Its seal is damaged, its id is not.
    flip(victim.object("a").as_ref(), 50, 3);
    flip(victim.object("b").as_ref(), 50, 3);
    victim.mounted(|store| {
        let object = store.open_truncated(&bucket(store), OsStr::new("a"), &aes256(), "a", &CALLER).unwrap();
        store.release(&object);
    });
    assert!(
        victim.check(CheckOptions { scrub: true, repair: true }).findings.iter().all(|found| found.repaired.is_some())
    );
    for name in ["a", "b"] {
        let path = format!("bucket/{name}");
        assert_eq!(value(&victim, &path, "user.x").unwrap(), format!("user.x of {path}").into_bytes());
    }
    assert_eq!(victim.check(LOOK).findings, []);
}

/// An event loop begins it, and a thread that may wait for the checkpoint does it from the beginning.
#[test]
fn values_stay_with_a_damaged_file_that_is_written_anew_at_the_second_attempt() {
    let victim = victim();
    flip(victim.object("a").as_ref(), 50, 3);
    victim.mounted(|store| {
        let dir = bucket(store);
        let open = || store.open_truncated(&dir, OsStr::new("a"), &aes256(), "a", &CALLER);
        let other = open_object(store, &dir, "b");
        other.write(0, b"something to sync").unwrap();
        let (reached, has_reached) = channel();
        let (go_on, may_go_on) = channel::<()>();
        victim.disk.during_sync(move |_| {
            let _ = reached.send(());
            let _ = may_go_on.recv();
        });
        thread::scope(|scope| {
            let checkpoint = scope.spawn(|| store.checkpoint());
            has_reached.recv().unwrap();
            let begun = waits::within(Waits::Nothing, open);
            drop(go_on);
            assert_eq!(begun.err(), Some(Error::WouldWait(WouldWait(Waits::Disk))));
            checkpoint.join().unwrap().unwrap();
        });
        victim.disk.unwatch();
        store.release(&open().unwrap());
        store.release(&other);
    });
    for (path, attribute, _) in VALUES.iter().filter(|(path, ..)| *path == "bucket/a") {
        assert_eq!(value(&victim, path, attribute).unwrap(), format!("{attribute} of {path}").into_bytes());
    }
}

#[test]
fn symlinks_are_bound_to_their_bucket_and_within_it_they_are_their_targets() {
    let victim = Victim::new(&[]);
    let links = [("bucket", "one"), ("bucket", "two"), ("other", "three")];
    victim.mounted(|store| {
        for (bucket, name) in links {
            let dir = store.open_dir(store.root(), OsStr::new(bucket)).unwrap();
            store.make_symlink(&dir, OsStr::new(name), format!("to {name}").as_bytes(), &NODE).unwrap();
        }
    });
    let target = |victim: &Victim, bucket: &str, name: &str| {
        victim.mounted(|store| {
            let dir = store.open_dir(store.root(), OsStr::new(bucket)).unwrap();
            store.read_link(&dir, OsStr::new(name))
        })
    };
    let exchange = |a: (&str, &str), b: (&str, &str)| {
        let damaged = victim.copy();
        let text = |(bucket, name)| victim.dir(&format!("buckets/{bucket}")).read_link(OsStr::new(name)).unwrap();
        for ((bucket, name), new) in [(a, text(b)), (b, text(a))] {
            let dir = damaged.dir(&format!("buckets/{bucket}"));
            dir.unlink(OsStr::new(name)).unwrap();
            dir.make_symlink(OsStr::new(name), &new, &NODE).unwrap();
        }
        [target(&damaged, a.0, a.1), target(&damaged, b.0, b.1)]
    };
    for found in exchange(links[0], links[2]) {
        assert!(matches!(found, Err(Error::Corrupt(_))), "{found:?}");
    }
    // As docs/THREAT_MODEL.md says: it is what exchanging the names is.
    let texts = exchange(links[0], links[1]);
    let renamed = victim.copy();
    let dir = renamed.dir("buckets/bucket");
    dir.rename(OsStr::new("one"), dir.as_ref(), OsStr::new("two"), Rename::Exchange).unwrap();
    assert_eq!(texts, [target(&renamed, "bucket", "one"), target(&renamed, "bucket", "two")]);
    // A value is no target, and a target no value.
    let value = raw(&self::victim(), "bucket/a", "user.x");
    let text = format!("1{}", base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, value));
    renamed.dir("buckets/bucket").make_symlink(OsStr::new("value"), text.as_bytes(), &NODE).unwrap();
    assert!(matches!(target(&renamed, "bucket", "value"), Err(Error::Corrupt(_))));
}
