use super::{Call, CrashPoint, FaultPlan, SECTOR, SimulatedDisk};
use kmsfs_store::backend::{Access, Backend, Dir, File, Need, NewNode, Rename, probe};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

const PLAIN: NewNode = NewNode { mode: 0o755, umask: 0, owner: None };

fn os(name: &str) -> &OsStr {
    OsStr::new(name)
}

fn errno<T>(result: io::Result<T>) -> i32 {
    result.err().expect("an error").raw_os_error().expect("an errno")
}

fn create(dir: &Arc<dyn Dir>, name: &str, content: &[u8]) -> Arc<dyn File> {
    let file = dir.create_file(os(name), &PLAIN).unwrap();
    file.write_at(content, 0).unwrap();
    file
}

fn content(dir: &dyn Dir, name: &str) -> Vec<u8> {
    let file = dir.open_file(os(name), Access::Read).unwrap();
    let mut buf = vec![0; file.metadata().unwrap().len as usize];
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), buf.len());
    buf
}

/// Everything on a disk, as text: `dir/ dir/name=bytes`, sectors of one byte written once with their count.
fn listing(disk: &SimulatedDisk) -> String {
    let mut found = Vec::new();
    list(&*disk.root().unwrap(), "", &mut found);
    found.sort();
    found.join(" ")
}

fn list(dir: &dyn Dir, path: &str, found: &mut Vec<String>) {
    let mut names = Vec::new();
    dir.read(0, &mut |entry| {
        names.push((entry.name.to_str().unwrap().to_owned(), entry.kind));
        true
    })
    .unwrap();
    for (name, kind) in names {
        if kind == libc::S_IFDIR {
            found.push(format!("{path}{name}/"));
            list(&*dir.open_dir(os(&name)).unwrap(), &format!("{path}{name}/"), found);
        } else {
            found.push(format!("{path}{name}={}", brief(&content(dir, &name))));
        }
    }
}

fn brief(bytes: &[u8]) -> String {
    bytes.chunk_by(|a, b| a == b).map(shorten).collect()
}

fn shorten(run: &[u8]) -> String {
    let byte = if run[0] == 0 { '.' } else { char::from(run[0]) };
    if run.len() < SECTOR { byte.to_string().repeat(run.len()) } else { format!("[{byte}{}]", run.len() / SECTOR) }
}

/// All that a power cut now may leave.
fn outcomes(disk: &SimulatedDisk) -> BTreeSet<String> {
    let cuts = disk.crash_point().power_cuts(1 << 12, 0);
    assert!(cuts.is_complete());
    cuts.map(|disk| listing(&disk)).collect()
}

fn expect(disk: &SimulatedDisk, wanted: &[&str]) {
    assert_eq!(outcomes(disk), wanted.iter().map(|&one| one.to_owned()).collect());
}

#[test]
fn a_name_and_its_content_survive_separately() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    let file = create(&root, "a", b"text");
    expect(&disk, &["", "a=", "a=....", "a=text"]);
    file.sync().unwrap();
    expect(&disk, &["", "a=text"]);
    root.sync().unwrap();
    expect(&disk, &["a=text"]);
}

#[test]
fn a_write_tears_at_sectors() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    let file = create(&root, "a", &[b'o'; 3 * SECTOR]);
    disk.sync_all().unwrap();
    file.write_at(&[b'n'; 2 * SECTOR], 0).unwrap();
    expect(&disk, &["a=[o3]", "a=[n1][o2]", "a=[o1][n1][o1]", "a=[n2][o1]"]);
}

#[test]
fn a_sector_keeps_any_value_written_since_the_last_sync() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    let file = create(&root, "a", b"0");
    disk.sync_all().unwrap();
    for value in [b"1", b"2", b"1"] {
        file.write_at(value, 0).unwrap();
    }
    expect(&disk, &["a=0", "a=1", "a=2"]);
    file.sync_data().unwrap();
    expect(&disk, &["a=1"]);
}

#[test]
fn lengths_are_cells_and_what_lies_past_them_is_gone() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    let file = create(&root, "a", &[b'o'; 2 * SECTOR]);
    disk.sync_all().unwrap();
    file.set_len(SECTOR as u64).unwrap();
    // The second sector is kept or zeroed, and is there only if the length is.
    expect(&disk, &["a=[o2]", "a=[o1][.1]", "a=[o1]"]);
    for cut in disk.crash_point().power_cuts(100, 0) {
        let root = cut.root().unwrap();
        let file = root.open_file(os("a"), Access::ReadWrite).unwrap();
        if file.metadata().unwrap().len == SECTOR as u64 {
            file.set_len(2 * SECTOR as u64).unwrap();
            assert_eq!(listing(&cut), "a=[o1][.1]");
        }
    }
}

#[test]
fn a_rename_is_whole_and_an_unlink_may_be_undone() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    create(&root, "a", b"old");
    create(&root, "t", b"new");
    create(&root, "u", b"u");
    disk.sync_all().unwrap();
    root.rename(os("t"), &*root, os("a"), Rename::Replace).unwrap();
    root.unlink(os("u")).unwrap();
    expect(&disk, &["a=old t=new u=u", "a=new u=u", "a=old t=new", "a=new"]);
    root.sync().unwrap();
    expect(&disk, &["a=new"]);
}

#[test]
fn an_exchange_is_whole() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    create(&root, "a", b"1");
    create(&root, "b", b"2");
    disk.sync_all().unwrap();
    root.rename(os("a"), &*root, os("b"), Rename::Exchange).unwrap();
    expect(&disk, &["a=1 b=2", "a=2 b=1"]);
}

#[test]
fn a_change_is_lost_with_the_earlier_one_of_its_name() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    create(&root, "a", b"").sync().unwrap();
    root.rename(os("a"), &*root, os("b"), Rename::Replace).unwrap();
    root.unlink(os("b")).unwrap();
    create(&root, "c", b"");
    expect(&disk, &["", "a=", "b=", "c=", "a= c=", "b= c="]);
}

#[test]
fn syncing_one_directory_makes_a_rename_between_two_durable_and_what_it_needs() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    for name in ["d", "e"] {
        root.make_dir(os(name), &PLAIN).unwrap();
    }
    root.sync().unwrap();
    let (d, e) = (root.open_dir(os("d")).unwrap(), root.open_dir(os("e")).unwrap());
    create(&d, "a", b"");
    create(&d, "other", b"");
    d.rename(os("a"), &*e, os("b"), Rename::Replace).unwrap();
    e.sync().unwrap();
    expect(&disk, &["d/ e/ e/b=", "d/ d/other= e/ e/b="]);
}

#[test]
fn syncing_a_directory_says_nothing_of_its_own_name() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    root.make_dir(os("d"), &PLAIN).unwrap();
    let d = root.open_dir(os("d")).unwrap();
    create(&d, "a", b"").sync().unwrap();
    d.sync().unwrap();
    expect(&disk, &["", "d/ d/a="]);
}

#[test]
fn names_that_nobody_removed_do_not_vanish() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    create(&root, "a", b"");
    disk.sync_all().unwrap();
    root.link(os("a"), &*root, os("b")).unwrap();
    root.unlink(os("a")).unwrap();
    expect(&disk, &["a=", "a= b=", "b="]);
    root.make_dir(os("d"), &PLAIN).unwrap();
    root.rename(os("b"), &*root.open_dir(os("d")).unwrap(), os("c"), Rename::Replace).unwrap();
    disk.crash_point().power_cuts(1000, 0).for_each(|disk| assert_ne!(listing(&disk).replace("d/", "").trim(), ""));
    let hard_links = disk.crash_point().power_cuts(1000, 0).filter(|disk| listing(disk) == "a= b= d/");
    assert_eq!(hard_links.last().unwrap().root().unwrap().stat(os("a")).unwrap().nlink, 2);
}

#[test]
fn a_directory_is_not_removed_while_what_was_moved_out_of_it_is_not() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    root.make_dir(os("d"), &PLAIN).unwrap();
    let d = root.open_dir(os("d")).unwrap();
    create(&d, "a", b"");
    disk.sync_all().unwrap();
    d.rename(os("a"), &*root, os("a"), Rename::Replace).unwrap();
    root.remove_dir(os("d")).unwrap();
    expect(&disk, &["d/ d/a=", "a= d/", "a="]);
}

#[test]
fn a_sync_covers_what_was_done_before_it_began() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    let file = create(&root, "a", b"1");
    root.sync().unwrap();
    let (late, here) = (file.clone(), root.clone());
    disk.during_sync(move |_| {
        late.write_at(b"2", 0).unwrap();
        let _ = here.create_file(os("late"), &PLAIN);
    });
    file.sync().unwrap();
    root.sync().unwrap();
    disk.unwatch();
    expect(&disk, &["a=1 late=", "a=2 late="]);
}

#[test]
fn a_kill_leaves_the_page_cache_and_no_handle() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    let file = create(&root, "a", b"text");
    file.try_lock(true).unwrap();
    let gone = create(&root, "gone", b"x");
    root.unlink(os("gone")).unwrap();
    root.sync().unwrap();
    assert_eq!(gone.metadata().unwrap().nlink, 0);
    let killed = disk.crash_point().kill();
    assert_eq!(listing(&killed), "a=text");
    assert_eq!(killed.shared.state.lock().image.inodes.len(), 2);
    killed.root().unwrap().open_file(os("a"), Access::ReadWrite).unwrap().try_lock(true).unwrap();
    expect(&killed, &["a=", "a=....", "a=text"]);
}

#[test]
fn the_watcher_sees_the_disk_after_every_change() {
    let disk = SimulatedDisk::new();
    let points: Arc<Mutex<Vec<CrashPoint>>> = Arc::default();
    let seen = points.clone();
    disk.watch(move |point| seen.lock().push(point.clone()));
    let root = disk.root().unwrap();
    let file = create(&root, "a", b"1");
    file.sync().unwrap();
    root.stat(os("a")).unwrap();
    file.write_at(b"2", 0).unwrap();
    root.rename(os("a"), &*root, os("b"), Rename::Replace).unwrap();
    assert_eq!(errno(root.unlink(os("a"))), libc::ENOENT);
    let seen: Vec<String> = points.lock().iter().map(|point| listing(&point.kill())).collect();
    assert_eq!(seen, ["a=", "a=1", "a=1", "a=2", "b=2"]);
}

#[test]
fn a_sample_has_everything_and_nothing_first_and_is_repeatable() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    let file = create(&root, "a", &vec![b'o'; 40 * SECTOR]);
    disk.sync_all().unwrap();
    file.write_at(&vec![b'n'; 40 * SECTOR], 0).unwrap();
    let sample = |seed| {
        let cuts = disk.crash_point().power_cuts(50, seed);
        assert!(!cuts.is_complete());
        cuts.map(|disk| listing(&disk)).collect::<Vec<_>>()
    };
    let first = sample(1);
    assert_eq!((first.len(), &*first[0], &*first[1]), (50, "a=[n40]", "a=[o40]"));
    assert_eq!(first, sample(1));
    assert_ne!(first, sample(2));
    assert!(first.iter().collect::<BTreeSet<_>>().len() > 30);
}

#[test]
fn cursors_stay_valid_while_names_come_and_go() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    for name in ["a", "b", "c"] {
        create(&root, name, b"");
    }
    let mut cursor = 0;
    root.read(0, &mut |entry| {
        cursor = entry.cursor;
        entry.name != "b"
    })
    .unwrap();
    root.unlink(os("b")).unwrap();
    create(&root, "d", b"");
    let mut rest = Vec::new();
    root.read(cursor, &mut |entry| {
        rest.push(entry.name.to_owned());
        true
    })
    .unwrap();
    assert_eq!(rest, ["c", "d"]);
}

#[test]
fn the_nth_call_of_a_kind_fails_once_or_from_then_on() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    let file = create(&root, "a", b"old");
    disk.fail(FaultPlan::nth(2, libc::EIO).of(&[Call::Sync, Call::SyncData]));
    file.sync().unwrap();
    file.write_at(b"new", 0).unwrap();
    assert_eq!(errno(file.sync_data()), libc::EIO);
    root.sync().unwrap();
    expect(&disk, &["a=old", "a=new"]);
    file.sync().unwrap();
    expect(&disk, &["a=new"]);
    disk.fail(FaultPlan::nth(1, libc::EROFS).from_then_on());
    assert_eq!(errno(root.stat(os("a"))), libc::EROFS);
    assert_eq!(errno(root.unlink(os("a"))), libc::EROFS);
    disk.heal();
    assert_eq!(listing(&disk), "a=new");
}

#[test]
fn a_sync_that_failed_may_have_dropped_what_it_was_to_write() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    let file = create(&root, "a", &[b'o'; 2 * SECTOR]);
    disk.sync_all().unwrap();
    file.write_at(&[b'n'; 3 * SECTOR], 0).unwrap();
    disk.fail(FaultPlan::nth(1, libc::EIO).of(&[Call::Sync]).losing_writes());
    assert_eq!(errno(file.sync()), libc::EIO);
    assert_eq!(listing(&disk), "a=[n3]");
    file.write_at(b"n", 0).unwrap();
    file.sync().unwrap();
    expect(&disk, &["a=[n1][o1][.1]"]);
}

#[test]
fn a_failing_write_leaves_nothing_or_its_first_sectors() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    let file = create(&root, "a", &[b'o'; 3 * SECTOR]);
    disk.fail(FaultPlan::nth(1, libc::EIO).of(&[Call::Write]));
    assert_eq!(errno(file.write_at(&[b'n'; 2 * SECTOR], 100)), libc::EIO);
    assert_eq!(listing(&disk), "a=[o3]");
    disk.fail(FaultPlan::nth(1, libc::EIO).of(&[Call::Write]).after_sectors(1));
    assert_eq!(errno(file.write_at(&[b'n'; 2 * SECTOR], 0)), libc::EIO);
    assert_eq!(listing(&disk), "a=[n1][o2]");
}

#[test]
fn a_full_disk_takes_what_fits_and_overwriting_goes_on() {
    let disk = SimulatedDisk::new();
    disk.set_capacity(Some(4 * SECTOR as u64));
    let root = disk.root().unwrap();
    let file = create(&root, "a", &[b'1'; 3 * SECTOR]);
    assert_eq!(errno(file.write_at(&[b'2'; 3 * SECTOR], 2 * SECTOR as u64)), libc::ENOSPC);
    assert_eq!(listing(&disk), "a=[12][22]");
    file.write_at(&[b'3'; 4 * SECTOR], 0).unwrap();
    assert_eq!(disk.space().unwrap().blocks_free, 0);
    let other = root.create_file(os("b"), &PLAIN).unwrap();
    assert_eq!(errno(other.allocate(0, 1)), libc::ENOSPC);
    root.unlink(os("a")).unwrap();
    assert_eq!(errno(other.write_at(b"x", 0)), libc::ENOSPC);
    drop(file);
    other.allocate(0, 2 * SECTOR as u64).unwrap();
    assert_eq!((disk.space().unwrap().blocks_free, other.metadata().unwrap().len), (2, 0));
    other.write_at(&[b'4'; 4 * SECTOR], 0).unwrap();
}

#[test]
fn calls_are_counted_by_kind() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    let before = disk.calls();
    let file = create(&root, "a", b"text");
    file.write_at(b"more", 4).unwrap();
    assert_eq!(errno(root.stat(os("none"))), libc::ENOENT);
    let made = disk.calls().since(&before);
    assert_eq!(made.iter().collect::<Vec<_>>(), [(Call::Create, 1), (Call::Stat, 1), (Call::Write, 2)]);
    assert_eq!((made.total(), made.of(Call::Sync)), (4, 0));
}

#[test]
fn time_goes_on_with_every_change() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    let file = create(&root, "a", b"1");
    let first = file.metadata().unwrap();
    disk.advance(5);
    file.set_mode(0o600).unwrap();
    let second = file.metadata().unwrap();
    assert!(second.ctime > first.ctime && second.mtime == first.mtime && second.ctime == disk.now());
}

#[test]
fn a_directory_counts_those_in_it_wherever_they_come_from() {
    let disk = SimulatedDisk::new();
    let root = disk.root().unwrap();
    for name in ["a", "b"] {
        root.make_dir(os(name), &PLAIN).unwrap();
    }
    let a = root.open_dir(os("a")).unwrap();
    root.rename(os("b"), &*a, os("c"), Rename::Replace).unwrap();
    let links = |disk: &SimulatedDisk| {
        let root = disk.root().unwrap();
        let a = root.open_dir(os("a")).unwrap();
        [root.metadata().unwrap().nlink, a.metadata().unwrap().nlink, a.stat(os("c")).unwrap().nlink]
    };
    assert_eq!(links(&disk), [3, 3, 2]);
    let everything = disk.crash_point().power_cuts(1, 0).next().unwrap();
    assert_eq!(links(&everything), [3, 3, 2]);
    a.remove_dir(os("c")).unwrap();
    assert_eq!(a.metadata().unwrap().nlink, 2);
}

#[test]
fn it_is_fit_for_a_store_and_a_keyring() {
    let root = SimulatedDisk::new().root().unwrap();
    for need in [Need::Store, Need::Keyring] {
        assert_eq!(probe(root.as_ref(), need).unwrap(), None);
    }
    let mut left = Vec::new();
    root.read(0, &mut |entry| {
        left.push(entry.name.to_owned());
        true
    })
    .unwrap();
    assert_eq!(left, Vec::<std::ffi::OsString>::new());
}
