//! What a check says of a damaged store, and what a repair makes of it.

use super::*;
use kmsfs_store::backend::XattrFlags;
use kmsfs_store::check::{CheckOptions, Finding, Report, Severity, check, keep_log};
use kmsfs_store::{StoreOptions, Target};

pub const LOOK: CheckOptions = CheckOptions { scrub: true, repair: false };
const REPAIR: CheckOptions = CheckOptions { scrub: true, repair: true };

impl Victim {
    pub fn check(&self, options: CheckOptions) -> Report {
        let store =
            open_with(&self.disk, &self.keys, StoreOptions { read_only: !options.repair, ..Default::default() });
        let report = check(&store, options, &CALLER, &mut |_| true).unwrap();
        store.close().unwrap();
        report
    }

    fn lost_and_found(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.dir("lost+found")
            .read(0, &mut |entry| {
                names.push(entry.name.to_str().unwrap().to_owned());
                true
            })
            .unwrap();
        names
    }

    /// Finds exactly this, mends it, and finds nothing more.
    #[track_caller]
    fn assert_mended(&self, place: &str, what: &str) -> String {
        self.disk.watch(|_| panic!("a check wrote"));
        let found = self.check(LOOK);
        self.disk.unwatch();
        let errors = |report: &Report| -> Vec<Finding> {
            report.findings.iter().filter(|found| found.severity == Severity::Error).cloned().collect()
        };
        let [error] = &errors(&found)[..] else { panic!("{found:#?}") };
        assert_eq!((error.place.as_str(), error.what.as_str(), &error.repaired), (place, what, &None));
        let [error] = &errors(&self.check(REPAIR))[..] else { panic!("another finding when it is mended") };
        let repaired = error.repaired.clone().unwrap_or_else(|| panic!("not mended: {error:?}"));
        let after = self.check(LOOK);
        assert_eq!(after.findings, [], "{repaired}");
        repaired
    }
}

fn shown(name: &str) -> String {
    format!("{BUCKET}/{name}")
}

#[test]
fn a_store_in_order_has_no_findings_and_is_counted() {
    let data = pattern(1, 300_000);
    let victim = Victim::new(&[("a", &data), ("b", b"")]);
    let report = victim.check(LOOK);
    let expected = Report { buckets: 2, objects: 2, records: 2, scrubbed: 300_000, ..Report::default() };
    assert_eq!(report, expected);
    assert_eq!(victim.check(CheckOptions::default()), Report { scrubbed: 0, ..expected });
}

#[test]
fn a_damaged_chunk_is_lost_alone_and_the_rest_of_the_object_is_written_anew() {
    let data = pattern(2, 300_000);
    let victim = Victim::new(&[("a", &data)]);
    flip(victim.object("a").as_ref(), ChunkIndex(70).offset(Geometry::Single) + 5, 3);
    let repaired = victim.assert_mended(&shown("a"), "not what was written there: bytes 286720 to 290815");
    assert!(repaired.starts_with("written anew; lost, and zeros now, are bytes 286720 to 290815"), "{repaired}");
    let mut expected = data;
    expected[286_720..290_816].fill(0);
    assert!(victim.read("a").unwrap() == expected);
    assert_eq!(victim.lost_and_found().len(), 1);
}

#[test]
fn a_broken_seal_costs_no_chunk() {
    let data = pattern(3, 20_000);
    let victim = Victim::new(&[("a", &data)]);
    flip(victim.object("a").as_ref(), 40, 1);
    let repaired = victim.assert_mended(&shown("a"), "seal: authentication failed");
    assert!(repaired.starts_with("all of it could be read"), "{repaired}");
    assert!(victim.read("a").unwrap() == data);
}

#[test]
fn without_its_header_block_an_object_is_found_by_its_inode_and_keeps_what_other_pages_describe() {
    let data = pattern(4, 300_000);
    let victim = Victim::new(&[("a", &data)]);
    victim.object("a").write_at(&[0; 4096], 0).unwrap();
    victim.assert_mended(&shown("a"), "this is not an object file");
    let mut expected = data;
    // Entries of zeros are holes.
    expected[..262_144].fill(0);
    assert!(victim.read("a").unwrap() == expected);
}

#[test]
fn a_cut_off_object_keeps_what_is_left() {
    let data = pattern(5, 20_000);
    let victim = Victim::new(&[("a", &data)]);
    victim.object("a").set_len(10_000).unwrap();
    let what = "the object file is shorter (10000 bytes) than its seal says (24096)";
    victim.assert_mended(&shown("a"), what);
    let mut expected = data;
    expected[4096..].fill(0);
    assert!(victim.read("a").unwrap() == expected);
}

#[test]
fn an_object_without_a_sidecar_is_moved_away_and_never_deleted() {
    let victim = Victim::new(&[("a", b"lost"), ("b", b"kept")]);
    victim.put_record("a", &[0; 512]);
    let repaired = victim.assert_mended(&shown("a"), "there is no record at the sidecar's place");
    assert!(repaired.starts_with("moved to lost+found/"), "{repaired}");
    assert_eq!(victim.read("a"), Err(Error::Errno(libc::ENOENT)));
    assert_eq!(victim.read("b").unwrap(), b"kept");
    assert!(victim.lost_and_found()[0].ends_with("-a"));
}

#[test]
fn a_damaged_symlink_is_moved_away_and_its_finding_names_it_once() {
    let victim = Victim::new(&[("a", b"content")]);
    let name = OsStr::new("link");
    victim.mounted(|store| _ = store.make_symlink(&bucket(store), name, b"target", &NODE).unwrap());
    let dir = victim.dir("buckets/bucket");
    dir.unlink(name).unwrap();
    dir.make_symlink(name, b"elsewhere", &NODE).unwrap();
    victim.assert_mended(&shown("link"), "the symlink's target is not what was written");
}

/// Copies an object's file inside the store, behind kmsfs's back.
fn copy_file(victim: &Victim, name: &str, copy: &str) {
    let file = victim.object(name);
    let content = bytes(file.as_ref(), 0, file.metadata().unwrap().len as usize);
    victim.dir("buckets/bucket").create_file(OsStr::new(copy), &NODE).unwrap().write_at(&content, 0).unwrap();
}

/// What was put aside had the object's id, so the next check took the object for the copy and put it aside too.
#[test]
fn a_copy_made_in_the_store_is_moved_away_and_the_object_stays() {
    let victim = Victim::new(&[("a", b"one")]);
    copy_file(&victim, "a", "b");
    let report = victim.check(REPAIR);
    let [found] = &report.findings[..] else { panic!("{report:#?}") };
    assert!(found.what.contains("has the object id of another file"), "{found:?}");
    assert!(found.repaired.as_deref().is_some_and(|text| text.starts_with("moved to lost+found/")));
    assert_eq!(victim.read("a").unwrap(), b"one");
    assert_eq!(victim.check(REPAIR).findings, []);
    assert_eq!(victim.read("a").unwrap(), b"one");
}

/// The first of the two that was looked at counted as the object.
#[test]
fn a_copy_that_comes_first_does_not_drive_the_object_away() {
    let victim = Victim::new(&[("b", b"one")]);
    copy_file(&victim, "b", "a");
    for _ in 0..2 {
        let report = victim.check(REPAIR);
        assert_eq!(report.errors_left(), 1, "{report:#?}");
        assert!(
            report.findings.iter().any(|found| found.place == shown("b") && found.what.contains("that one is a copy"))
        );
        assert_eq!(victim.read("b").unwrap(), b"one");
    }
    victim.dir("buckets/bucket").unlink(OsStr::new("a")).unwrap();
    assert_eq!(victim.check(LOOK).findings, []);
    assert_eq!(victim.read("b").unwrap(), b"one");
}

#[test]
fn both_names_of_a_damaged_object_become_the_new_one() {
    let victim = Victim::new(&[("a", b"linked")]);
    victim.mounted(|store| {
        let dir = bucket(store);
        store.link(&dir, OsStr::new("a"), &dir, OsStr::new("b")).unwrap();
    });
    flip(victim.object("a").as_ref(), 40, 0);
    victim.assert_mended(&shown("a"), "seal: authentication failed");
    assert_eq!((victim.read("a").unwrap(), victim.read("b").unwrap()), (b"linked".to_vec(), b"linked".to_vec()));
    let ino = |name| victim.object(name).metadata().unwrap().ino;
    assert_eq!(ino("a"), ino("b"));
}

/// Its birth names the damaged object, and stays with it.
#[test]
fn what_is_written_anew_has_the_attributes_of_the_damaged_object_but_not_its_birth() {
    let victim = Victim::new(&[("a", b"described")]);
    let name = OsStr::new("user.note");
    victim.mounted(|store| {
        let dir = bucket(store);
        store.set_xattr(Target::Name(&dir, OsStr::new("a")), name, b"kept", XattrFlags::Any).unwrap();
    });
    let old = victim.object("a");
    old.set_xattr(OsStr::new("trusted.other"), b"as it is", XattrFlags::Any).unwrap();
    let birth = OsStr::new("user.kmsfs.born");
    let born = old.get_xattr(birth).unwrap();
    flip(old.as_ref(), 40, 0);
    victim.assert_mended(&shown("a"), "seal: authentication failed");
    let new = victim.object("a");
    assert!(new.get_xattr(birth).is_err(), "the new object is another");
    assert_eq!(old.get_xattr(birth).unwrap(), born);
    assert_eq!(new.get_xattr(OsStr::new("trusted.other")).unwrap(), b"as it is");
    let value = victim.mounted(|store| store.get_xattr(Target::Name(&bucket(store), OsStr::new("a")), name));
    assert_eq!(value.unwrap(), b"kept");
}

#[test]
fn the_space_of_a_sidecar_without_an_object_is_collected_and_used_again() {
    let victim = Victim::new(&[("a", b"gone"), ("b", b"here")]);
    let place = victim.place("a");
    victim.dir("buckets/bucket").unlink(OsStr::new("a")).unwrap();
    let found = victim.check(LOOK);
    let [orphan] = &found.findings[..] else { panic!("{found:#?}") };
    assert_eq!((orphan.severity, orphan.place.as_str()), (Severity::Note, "sidecars/00000000, unit 0"));
    assert_eq!(victim.check(REPAIR).findings[0].repaired.as_deref(), Some("its space is free"));
    assert_eq!(victim.check(LOOK).findings, []);
    victim.mounted(|store| {
        let object = create(store, &bucket(store), "c");
        object.commit().unwrap();
        store.release(&object);
    });
    assert_eq!(victim.place("c"), place);
}

#[test]
fn while_an_object_cannot_be_told_no_sidecar_is_collected() {
    let victim = Victim::new(&[("a", b"gone"), ("b", b"here")]);
    victim.dir("buckets/bucket").unlink(OsStr::new("a")).unwrap();
    let stray = victim.dir("buckets/bucket").create_file(OsStr::new("stray"), &NODE).unwrap();
    stray.write_at(b"no object", 0).unwrap();
    drop(stray);
    let report = victim.check(REPAIR);
    let orphan = report.findings.iter().find(|found| found.severity == Severity::Note).unwrap();
    assert!(orphan.what.ends_with("kept: not every object could be read"), "{orphan:?}");
    assert_eq!(orphan.repaired, None);
}

#[test]
fn what_was_put_aside_keeps_its_sidecar() {
    let victim = Victim::new(&[("a", b"damaged")]);
    flip(victim.object("a").as_ref(), 40, 1);
    victim.check(REPAIR);
    let again = victim.check(REPAIR);
    assert_eq!((again.findings, again.records), (vec![], 2));
}

#[test]
fn a_sidecar_that_remembers_another_inode_learns_the_present_one() {
    let victim = Victim::new(&[("a", b"restored")]);
    let dir = victim.dir("buckets/bucket");
    let file = victim.object("a");
    let content = bytes(file.as_ref(), 0, file.metadata().unwrap().len as usize);
    dir.rename(OsStr::new("a"), victim.dir("").as_ref(), OsStr::new("elsewhere"), Rename::Replace).unwrap();
    dir.create_file(OsStr::new("a"), &NODE).unwrap().write_at(&content, 0).unwrap();
    drop(file);
    let found = victim.check(LOOK);
    assert_eq!(found.findings[0].what, "its sidecar remembers another inode: it was copied or restored");
    assert_eq!(found.errors_left(), 0);
    assert_eq!(victim.check(REPAIR).findings[0].repaired.as_deref(), Some("the sidecar remembers this one"));
    assert_eq!(victim.check(LOOK).findings, []);
    assert_eq!(victim.read("a").unwrap(), b"restored");
}

#[test]
fn a_damaged_log_is_kept_and_the_store_goes_on_with_what_comes_before() {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let dir = bucket(&store);
    let object = create(&store, &dir, "a");
    object.write(0, &pattern(1, 9000)).unwrap();
    object.fsync().unwrap();
    for seed in 2..5 {
        object.write(0, &pattern(seed, 9000)).unwrap();
        object.fsync().unwrap();
    }
    let victim = Victim { disk: disk.crash_point().kill(), keys };
    // The first record: later ones say that it was durable.
    flip(victim.file("log/redo").as_ref(), 4096 + 40, 2);
    let store = open(&victim.disk, &victim.keys);
    assert!(store.read_only());
    assert!(store.damage().is_some_and(|what| what.starts_with("the redo log is damaged at byte 4096")));
    store.close().unwrap();
    let kept = keep_log(&victim.disk).unwrap();
    let number: i64 = kept.strip_prefix("lost+found/redo-").expect("the log's name").parse().unwrap();
    victim.disk.set_clock(number);
    let another = keep_log(&victim.disk).unwrap();
    assert_eq!(another, format!("lost+found/redo-{}", number + 1), "a clock that was set back is in nobody's way");
    let cut = open_with(&victim.disk, &victim.keys, StoreOptions { cut_damaged_log: true, ..Default::default() });
    assert!(!cut.read_only());
    check(&cut, REPAIR, &CALLER, &mut |_| true).unwrap();
    cut.close().unwrap();
    assert_eq!(victim.check(LOOK).errors_left(), 0);
}

#[test]
fn an_interrupted_check_says_so() {
    let victim = Victim::new(&[("a", b"1"), ("b", b"2")]);
    let store = open_with(&victim.disk, &victim.keys, StoreOptions { read_only: true, ..Default::default() });
    let mut seen = 0;
    let stopped = check(&store, LOOK, &CALLER, &mut |progress| {
        seen = progress.seen;
        progress.seen < 2
    });
    assert_eq!((stopped, seen), (Err(Error::Errno(libc::EINTR)), 2));
    store.close().unwrap();
}
