//! Where recovery and loading are lenient, and that nobody without a key can make them so: each decision is made on
//! something authentic, and whoever writes the store cannot turn an error into an answer.
//!
//! | lenient about | because |
//! | --- | --- |
//! | records of the log that are applied, and its torn end | its header: epoch, clean |
//! | an object file that is longer than its seal says | its header: a crash |
//! | an object of which something is missing at its end | its birth, in an epoch that the header says crashed |
//! | an object without header, or without sidecar | the same, for this inode |
//! | a commit that is taken back | its mark, and that every mark counts those before it |
//!
//! Where the log is damaged, or was changed, nothing is excused but that a file is longer than its seal says.

use super::*;
use kmsfs_store::backend::XattrFlags;
use kmsfs_testing::disk::SimulatedDisk;

const BORN: &str = "user.kmsfs.born";

/// A store that was killed: `a` was synced, `b` was closed, `d` was synced, `c` was made.
fn killed() -> Victim {
    let victim = Victim::new(&[]);
    let store = open(&victim.disk, &victim.keys);
    let dir = bucket(&store);
    let a = create(&store, &dir, "a");
    a.write(0, &pattern(1, 5 * CHUNK)).unwrap();
    a.fsync().unwrap();
    let b = create(&store, &dir, "b");
    b.write(0, &pattern(2, 5 * CHUNK)).unwrap();
    b.commit().unwrap();
    let d = create(&store, &dir, "d");
    d.fsync().unwrap();
    let _c = create(&store, &dir, "c");
    let disk: SimulatedDisk = victim.disk.crash_point().kill();
    Victim { disk, keys: victim.keys }
}

fn blank(file: &dyn backend::File) {
    file.set_len(0).unwrap();
    file.set_len(CHUNK as u64).unwrap();
}

fn is_empty_now(victim: &Victim, name: &str) -> bool {
    victim.mounted(|store| store.was_never_committed(&bucket(store), OsStr::new(name)))
}

/// An error answer stays one: EIO, and not "never committed".
fn stays_an_error(victim: &Victim, name: &str) -> Result<(), String> {
    if is_empty_now(victim, name) {
        return Err(format!("{name} counts as never committed"));
    }
    match victim.read(name) {
        Err(Error::Corrupt(_)) => Ok(()),
        other => Err(format!("{name} reads {:?}", other.map(|bytes| bytes.len()))),
    }
}

/// What was synced before a crash is strict after it, though it was made in the epoch that crashed.
pub fn settled_is_strict(_seed: u64) -> Result<(), String> {
    let victim = killed();
    victim.mounted(|_| ());
    let damaged = victim.copy();
    flip(damaged.object("a").as_ref(), 4 * CHUNK as u64, 1);
    match damaged.read("a") {
        Err(Error::Corrupt(_)) => {}
        other => return Err(format!("a damaged chunk reads {:?}", other.map(|bytes| bytes.len()))),
    }
    blank(victim.object("a").as_ref());
    stays_an_error(&victim, "a")
}

/// What was synced is strict after a crash, though its header went before recovery could find it by that.
pub fn remains_are_settled(_seed: u64) -> Result<(), String> {
    for other in [false, true] {
        let victim = killed();
        let a = victim.object("a");
        blank(a.as_ref());
        if other {
            // Whose header it has now does not matter.
            a.write_at(&bytes(victim.object("b").as_ref(), 0, CHUNK), 0).unwrap();
        }
        stays_an_error(&victim, "a")?;
        // Nor later, when the log does not say so any more.
        blank(victim.object("a").as_ref());
        stays_an_error(&victim, "a")?;
    }
    Ok(())
}

/// The birth of an object in the span of a crash is nobody else's.
pub fn births_are_of_their_inodes(_seed: u64) -> Result<(), String> {
    let victim = killed();
    victim.mounted(|_| ());
    let birth = victim.object("c").get_xattr(OsStr::new(BORN)).map_err(|error| format!("c has no birth: {error}"))?;
    let a = victim.object("a");
    a.set_xattr(OsStr::new(BORN), &birth, XattrFlags::Any).unwrap();
    blank(a.as_ref());
    stays_an_error(&victim, "a")
}

/// Each of an object's marks in the log becomes a record of another kind, with a right checksum. Answers how many there
/// were.
fn pass_over_marks(victim: &Victim, name: &str, kind: u8) -> usize {
    const MARK: u8 = 5;
    let id = bytes(victim.object(name).as_ref(), 16, 16);
    let log = victim.file("log/redo");
    let mut found = 0;
    let mut at = 4096;
    loop {
        let header = bytes(log.as_ref(), at, 72);
        if &header[..4] != b"KLR1" {
            return found;
        }
        let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap()) as usize;
        let hint = usize::from(u16::from_le_bytes(header[10..12].try_into().unwrap()));
        let len = (72 + hint + number(64)).next_multiple_of(8);
        if header[8] == MARK && header[40..56] == id {
            let mut record = bytes(log.as_ref(), at, len);
            record[8] = kind;
            let crc = crc32fast::hash(&record[8..]);
            record[4..8].copy_from_slice(&crc.to_le_bytes());
            log.write_at(&record, at).unwrap();
            found += 1;
        }
        at += len as u64;
    }
}

/// What says that an object was synced cannot be passed over: neither is the log taken for whole then, nor does it
/// excuse anything when it is cut where it was changed.
pub fn marks_are_counted(_seed: u64) -> Result<(), String> {
    // As bytes of the object, as bytes of a segment, as dead.
    for kind in [1, 2, 4] {
        let victim = killed();
        let marks = pass_over_marks(&victim, "a", kind);
        assert!(marks > 0, "a was synced");
        blank(victim.object("a").as_ref());
        let backend: Arc<dyn Backend> = Arc::new(victim.disk.clone());
        let keys = victim.keys.clone();
        let store = Store::open(backend.clone(), keys.clone(), options()).unwrap();
        let (damage, empty) =
            (store.damage().map(ToString::to_string), store.was_never_committed(&bucket(&store), OsStr::new("a")));
        let _ = store.close();
        if !damage.as_ref().is_some_and(|what| what.contains("the redo log was changed")) || empty {
            return Err(format!("kind {kind}: damage {damage:?}, a counts as never committed: {empty}"));
        }
        Store::open(backend, keys, StoreOptions { cut_damaged_log: true, ..options() }).unwrap().close().unwrap();
        stays_an_error(&victim, "a")?;
    }
    Ok(())
}

#[test]
fn a_mark_that_became_another_record_is_missed() {
    marks_are_counted(0).unwrap();
}

#[test]
fn what_was_synced_before_a_crash_is_strict_after_it() {
    settled_is_strict(0).unwrap();
    births_are_of_their_inodes(0).unwrap();
    remains_are_settled(0).unwrap();
}

#[test]
fn what_a_crash_left_of_an_object_that_was_never_synced_is_read() {
    let victim = killed();
    assert_eq!(victim.read("a").unwrap(), pattern(1, 5 * CHUNK));
    assert!(is_empty_now(&victim, "c"));
    // As a power cut would have left it: its last two chunks did not reach the disk.
    let cut = victim.copy();
    cut.object("b").set_len(4 * CHUNK as u64).unwrap();
    assert_eq!(cut.read("b").unwrap(), pattern(2, 5 * CHUNK)[..3 * CHUNK]);
    // It is settled by having been read: from now on it is strict.
    cut.object("b").set_len(3 * CHUNK as u64).unwrap();
    stays_an_error(&cut, "b").unwrap();
    // Read whole, it is strict as well.
    assert_eq!(victim.read("b").unwrap(), pattern(2, 5 * CHUNK));
    victim.object("b").set_len(4 * CHUNK as u64).unwrap();
    stays_an_error(&victim, "b").unwrap();
}

/// The clock of the mount after the crash is an hour, or ten years, before or behind that of the files.
#[test]
fn a_clock_that_jumps_changes_nothing_about_what_a_crash_left() {
    const HOUR: i64 = 3_600_000_000_000;
    const YEARS: i64 = 10 * 365 * 24 * HOUR;
    for jump in [-YEARS, -HOUR, HOUR, YEARS] {
        let victim = Victim::new(&[("log", &pattern(3, CHUNK))]);
        let store = open(&victim.disk, &victim.keys);
        let dir = bucket(&store);
        let log = open_object(&store, &dir, "log");
        // Written straight home and not committed: the file is longer than its seal says.
        log.write(CHUNK as u64, &pattern(4, 3 * CHUNK)).unwrap();
        let new = create(&store, &dir, "new");
        new.write(0, &pattern(5, 2 * CHUNK)).unwrap();
        new.commit().unwrap();
        let _made = create(&store, &dir, "made");
        let killed = Victim { disk: victim.disk.crash_point().kill(), keys: victim.keys.clone() };
        let now = store.now().0;
        killed.disk.set_clock(now + jump);
        assert_eq!(killed.read("log").unwrap(), pattern(3, CHUNK), "{jump}");
        assert_eq!(killed.read("new").unwrap(), pattern(5, 2 * CHUNK), "{jump}");
        assert!(is_empty_now(&killed, "made"), "{jump}");
        // Once more, and with what is written then.
        killed.disk.set_clock(now - jump);
        killed.mounted(|store| open_object(store, &bucket(store), "log").write(0, b"x").unwrap());
        killed.disk.set_clock(now);
        assert_eq!(killed.read("log").unwrap()[1..], pattern(3, CHUNK)[1..], "{jump}");
    }
}

/// Changes bytes of the log's header and makes its checksum right.
fn forge_header(victim: &Victim, change: impl FnOnce(&mut [u8])) {
    let log = victim.file("log/redo");
    let mut sector = bytes(log.as_ref(), 0, 512);
    change(&mut sector);
    let crc = crc32fast::hash(&sector[..508]);
    sector[508..].copy_from_slice(&crc.to_le_bytes());
    log.write_at(&sector, 0).unwrap();
}

/// Whether the store does not open at all.
fn is_refused(victim: &Victim) -> Result<(), String> {
    let backend: Arc<dyn Backend> = Arc::new(victim.disk.clone());
    match Store::open(backend, victim.keys.clone(), options()) {
        Err(Error::Unusable(why)) if why.contains("log/redo") => Ok(()),
        Err(error) => Err(format!("it answers {error}")),
        Ok(store) => {
            store.close().unwrap();
            Err("it opens".into())
        }
    }
}

/// The attack: the evidence of a crash made up, and an object replaced by nothing.
#[test]
fn a_cleared_clean_flag_and_a_zeroed_object_file_stay_an_error() {
    let victim = Victim::new(&[("a", &pattern(1, 9000))]);
    blank(victim.object("a").as_ref());
    stays_an_error(&victim, "a").unwrap();
    forge_header(&victim, |sector| sector[10] = 0);
    is_refused(&victim).unwrap();
}

/// What is forged, how, and what has to come of it.
type Forgery<'a> = (&'a str, &'a dyn Fn(&Victim), &'a dyn Fn(&Victim) -> Result<(), String>);

#[test]
fn every_lenient_decision_rests_on_what_is_authentic() {
    let whole = Victim::new(&[("a", &pattern(1, 9000)), ("b", &pattern(2, 9000))]);
    let strict: &dyn Fn(&Victim) -> Result<(), String> = &|victim| stays_an_error(victim, "a");
    let birth = {
        // Of an object in another store that did crash: its id, its epoch, and a MAC that is not this store's.
        let other = killed();
        other.object("c").get_xattr(OsStr::new(BORN)).unwrap()
    };
    let header: [Forgery<'_>; 4] = [
        ("clean", &|victim| forge_header(victim, |sector| sector[10] = 0), &is_refused),
        ("an epoch of before", &|victim| forge_header(victim, |sector| sector[16] -= 1), &is_refused),
        ("nothing is settled", &|victim| forge_header(victim, |sector| sector[24..32].fill(0)), &is_refused),
        (
            "a range of epochs that crashed",
            &|victim| {
                forge_header(victim, |sector| {
                    sector[12] = 1;
                    sector[48..64].copy_from_slice(&[0; 16]);
                    sector[56..64].fill(0xff);
                });
            },
            &is_refused,
        ),
    ];
    let objects: [Forgery<'_>; 6] = [
        ("nothing, without a crash", &|victim| blank(victim.object("a").as_ref()), strict),
        ("shorter", &|victim| victim.object("a").set_len(2 * CHUNK as u64).unwrap(), strict),
        ("longer", &|victim| victim.object("a").set_len(9 * CHUNK as u64).unwrap(), strict),
        ("no sidecar", &|victim| victim.put_record("a", &vec![0; victim.record("a").len()]), strict),
        (
            "a birth by another store",
            &|victim| {
                let a = victim.object("a");
                a.set_xattr(OsStr::new(BORN), &birth, XattrFlags::Any).unwrap();
                blank(a.as_ref());
            },
            strict,
        ),
        (
            "its own birth, in an epoch that did not crash",
            &|victim| {
                assert!(victim.object("a").get_xattr(OsStr::new(BORN)).is_ok(), "it has one still");
                blank(victim.object("a").as_ref());
            },
            strict,
        ),
    ];
    for (what, forge, judge) in header.into_iter().chain(objects) {
        let victim = whole.copy();
        forge(&victim);
        assert_eq!(judge(&victim), Ok(()), "{what}");
        // And in a store that did crash, with an object that was durable before that.
        let crashed = whole.copy();
        let store = open(&crashed.disk, &crashed.keys);
        let crashed = Victim { disk: crashed.disk.crash_point().kill(), keys: crashed.keys };
        drop(store);
        crashed.mounted(|_| ());
        if what != "longer" && what != "clean" && !what.contains("range") {
            forge(&crashed);
            assert_eq!(judge(&crashed), Ok(()), "{what}, after a crash");
        }
    }
}
