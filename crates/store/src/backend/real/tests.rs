use super::super::{Access, Backend, Dir, NewNode, Rename, XattrFlags};
use super::RealBackend;
use crate::Time;
use crate::local::recovery::birth;
use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Arc;

const PLAIN: NewNode = NewNode { mode: 0o644, umask: 0o022, owner: None };

fn os(name: &str) -> &OsStr {
    OsStr::new(name)
}

fn temporary() -> (tempfile::TempDir, Arc<dyn Dir>) {
    let place = tempfile::tempdir().unwrap();
    let root = RealBackend::open(place.path()).unwrap().root().unwrap();
    (place, root)
}

fn errno<T>(result: std::io::Result<T>) -> i32 {
    result.err().expect("an error").raw_os_error().expect("an errno")
}

fn names(dir: &dyn Dir, cursor: u64, limit: usize) -> (Vec<String>, u64) {
    let (mut found, mut last) = (Vec::new(), cursor);
    dir.read(cursor, &mut |entry| {
        found.push(entry.name.to_str().unwrap().to_owned());
        last = entry.cursor;
        found.len() < limit
    })
    .unwrap();
    (found, last)
}

#[test]
fn a_generation_is_the_inodes_whatever_it_is_called() {
    let (place, root) = temporary();
    let generation = |name: &str| root.generation(os(name));
    root.create_file(os("file"), &PLAIN).unwrap();
    root.make_dir(os("dir"), &PLAIN).unwrap();
    root.make_node(os("fifo"), libc::S_IFIFO, 0, &PLAIN).unwrap();
    symlink("nowhere", place.path().join("symlink")).unwrap();
    let before: Vec<_> = ["file", "dir", "fifo", "symlink"].map(generation).into();
    assert!(before.iter().all(Option::is_some), "{before:?}");
    for name in ["file", "dir", "fifo", "symlink"] {
        root.rename(os(name), root.as_ref(), os(&format!("{name}.moved")), Rename::Replace).unwrap();
    }
    root.link(os("file.moved"), root.as_ref(), os("link")).unwrap();
    let after: Vec<_> = ["file.moved", "dir.moved", "fifo.moved", "symlink.moved"].map(generation).into();
    assert_eq!((before[0], before), (generation("link"), after));
    for name in ["nothing", "..", "dir.moved/"] {
        assert_eq!(generation(name), None, "{name}");
    }
}

#[test]
fn files_are_written_and_read_at_offsets() {
    let (_place, root) = temporary();
    let file = root.create_file(os("a"), &PLAIN).unwrap();
    file.write_at(b"hello", 10).unwrap();
    let mut buf = [7; 20];
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 15);
    assert_eq!(&buf[..15], b"\0\0\0\0\0\0\0\0\0\0hello");
    assert_eq!(file.read_at(&mut buf, 15).unwrap(), 0);
    file.set_len(12).unwrap();
    file.sync().unwrap();
    file.sync_data().unwrap();
    assert_eq!(root.stat(os("a")).unwrap().len, 12);
    assert_eq!(errno(root.create_file(os("a"), &PLAIN)), libc::EEXIST);
}

#[test]
fn only_regular_files_are_opened_and_a_fifo_does_not_block() {
    let (place, root) = temporary();
    root.make_node(os("fifo"), libc::S_IFIFO, 0, &PLAIN).unwrap();
    root.make_node(os("socket"), libc::S_IFSOCK, 0, &PLAIN).unwrap();
    root.make_dir(os("dir"), &PLAIN).unwrap();
    std::fs::write(place.path().join("target"), "x").unwrap();
    symlink("target", place.path().join("link")).unwrap();
    for access in [Access::Read, Access::ReadWrite] {
        for name in ["fifo", "socket", "dir", "link"] {
            assert_eq!(errno(root.open_file(os(name), access)), libc::EINVAL, "{name} {access:?}");
        }
        assert_eq!(errno(root.open_file(os("none"), access)), libc::ENOENT);
    }
}

#[test]
fn names_never_lead_out_of_their_directory() {
    let (place, root) = temporary();
    std::fs::create_dir(place.path().join("inner")).unwrap();
    symlink("inner", place.path().join("link")).unwrap();
    for name in ["..", ".", "inner/..", "/etc", "a\0b"] {
        assert_eq!(errno(root.stat(os(name))), libc::EINVAL, "{name:?}");
        assert_eq!(errno(root.open_dir(os(name))), libc::EINVAL, "{name:?}");
        assert_eq!(errno(root.get_xattr(Some(os(name)), os("user.a"))), libc::EINVAL, "{name:?}");
        assert_eq!(errno(root.rename(os("inner"), &*root, os(name), Rename::Replace)), libc::EINVAL, "{name:?}");
    }
    assert_eq!(errno(root.stat(os(""))), libc::ENOENT);
    assert_eq!(errno(root.open_dir(os("link"))), libc::ENOTDIR);
    assert_eq!(errno(root.set_mode(Some(os("link")), 0o600)), libc::EOPNOTSUPP);
    root.set_times(Some(os("link")), None, Some(Time(1_000_000_001))).unwrap();
    assert_eq!(root.stat(os("link")).unwrap().mtime, Time(1_000_000_001));
    assert_ne!(root.stat(os("inner")).unwrap().mtime, Time(1_000_000_001));
}

#[test]
fn the_umask_applies_to_one_creation_and_set_id_bits_stay() {
    let (place, root) = temporary();
    let make = |mode, umask| NewNode { mode, umask, owner: None };
    root.create_file(os("file"), &make(0o6777, 0o027)).unwrap();
    root.make_dir(os("dir"), &make(0o3777, 0o077)).unwrap();
    root.make_node(os("fifo"), libc::S_IFIFO, 0, &make(0o666, 0o002)).unwrap();
    let mode = |name: &str| std::fs::metadata(place.path().join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("file"), mode("dir"), mode("fifo")), (0o6750, 0o3700, 0o664));
}

#[test]
fn a_default_acl_overrides_the_umask() {
    let (_place, root) = temporary();
    root.make_dir(os("dir"), &NewNode { mode: 0o755, umask: 0, owner: None }).unwrap();
    // version 2; user::rwx, group::rwx, other::r-x, each tag 16 bits, permissions 16 bits, id 32 bits
    let mut acl = vec![2, 0, 0, 0];
    for (tag, permissions) in [(1_u8, 7_u8), (4, 7), (0x20, 5)] {
        acl.extend_from_slice(&[tag, 0, permissions, 0, 0xff, 0xff, 0xff, 0xff]);
    }
    let dir = root.open_dir(os("dir")).unwrap();
    if dir.set_xattr(None, os("system.posix_acl_default"), &acl, XattrFlags::Any).is_err() {
        return; // a file system without ACLs: nothing to show
    }
    dir.create_file(os("a"), &NewNode { mode: 0o666, umask: 0o077, owner: None }).unwrap();
    assert_eq!(dir.stat(os("a")).unwrap().mode & 0o777, 0o664);
}

#[test]
fn the_owner_is_set_and_a_set_gid_directory_gives_its_group() {
    if !rustix::process::geteuid().is_root() {
        return; // only root gives files away
    }
    let (place, root) = temporary();
    root.make_dir(os("dir"), &NewNode { mode: 0o2777, umask: 0, owner: Some((0, 4321)) }).unwrap();
    let dir = root.open_dir(os("dir")).unwrap();
    let node = NewNode { mode: 0o4755, umask: 0, owner: Some((1234, 1234)) };
    dir.create_file(os("file"), &node).unwrap();
    dir.make_dir(os("sub"), &NewNode { mode: 0o755, ..node }).unwrap();
    dir.make_symlink(os("link"), b"nowhere", &node).unwrap();
    let found = |name: &str| {
        let stat = std::fs::symlink_metadata(place.path().join("dir").join(name)).unwrap();
        (stat.uid(), stat.gid(), stat.mode() & 0o7777)
    };
    assert_eq!(found("file"), (1234, 4321, 0o4755));
    assert_eq!(found("sub"), (1234, 4321, 0o2755));
    assert_eq!((found("link").0, found("link").1), (1234, 4321));
    root.create_file(os("plain"), &node).unwrap();
    assert_eq!(root.stat(os("plain")).unwrap().gid, 1234);
}

#[test]
fn reading_a_directory_goes_on_at_a_cursor_while_names_come_and_go() {
    let (_place, root) = temporary();
    let wanted: Vec<String> = (0..1000).map(|n| format!("name-{n}")).collect();
    for name in &wanted {
        root.create_file(os(name), &PLAIN).unwrap();
    }
    let (mut found, mut cursor) = names(&*root, 0, 300);
    for name in &found {
        root.unlink(os(name)).unwrap();
    }
    root.create_file(os("late"), &PLAIN).unwrap();
    loop {
        let (more, next) = names(&*root, cursor, 300);
        if more.is_empty() {
            break;
        }
        found.extend(more);
        cursor = next;
    }
    found.retain(|name| name != "late");
    found.sort();
    let mut wanted = wanted;
    wanted.sort();
    assert_eq!(found, wanted);
    root.sync().unwrap();
}

#[test]
fn attributes_of_names_files_and_directories() {
    let (_place, root) = temporary();
    let file = root.create_file(os("a"), &PLAIN).unwrap();
    root.set_xattr(Some(os("a")), os("user.one"), b"1", XattrFlags::Create).unwrap();
    assert_eq!(file.get_xattr(os("user.one")).unwrap(), b"1");
    assert_eq!(errno(file.set_xattr(os("user.one"), b"2", XattrFlags::Create)), libc::EEXIST);
    assert_eq!(errno(file.set_xattr(os("user.two"), b"2", XattrFlags::Replace)), libc::ENODATA);
    let large = vec![9; 2000];
    file.set_xattr(os("user.large"), &large, XattrFlags::Any).unwrap();
    assert_eq!(root.get_xattr(Some(os("a")), os("user.large")).unwrap(), large);
    file.remove_xattr(os("user.large")).unwrap();
    assert_eq!(root.list_xattr(Some(os("a"))).unwrap(), b"user.one\0");
    root.set_xattr(None, os("user.dir"), b"d", XattrFlags::Any).unwrap();
    assert_eq!(root.get_xattr(None, os("user.dir")).unwrap(), b"d");
    root.remove_xattr(None, os("user.dir")).unwrap();
    assert_eq!(errno(root.get_xattr(None, os("user.dir"))), libc::ENODATA);
}

#[test]
fn a_lock_keeps_a_second_opener_out_until_it_is_dropped() {
    let (_place, root) = temporary();
    let first = root.create_file(os("lock"), &PLAIN).unwrap();
    let second = root.open_file(os("lock"), Access::ReadWrite).unwrap();
    first.try_lock(true).unwrap();
    assert_eq!(errno(second.try_lock(true)), libc::EWOULDBLOCK);
    assert_eq!(errno(second.try_lock(false)), libc::EWOULDBLOCK);
    drop(first);
    second.try_lock(false).unwrap();
}

#[test]
fn space_and_clock_are_the_file_systems() {
    let (place, root) = temporary();
    let backend = RealBackend::open(place.path()).unwrap();
    let space = backend.space().unwrap();
    assert!(space.blocks_available <= space.blocks_free && space.blocks_free <= space.blocks);
    let before = backend.now();
    let made = root.create_file(os("a"), &PLAIN).unwrap().metadata().unwrap().ctime;
    assert!(before <= made, "{before:?} {made:?}");
    backend.sync_all().unwrap();
}

#[test]
fn an_owner_without_privileges_opens_for_writing_whatever_the_mode_is() {
    if !rustix::process::geteuid().is_root() {
        return; // a stranger's file is needed too
    }
    let (place, root) = temporary();
    let file = |name, owner| {
        root.create_file(os(name), &NewNode { mode: 0o400, umask: 0, owner: Some(owner) }).unwrap();
    };
    file("own", (1234, 1234));
    file("strange", (4321, 1234));
    std::os::unix::fs::chown(place.path(), Some(1234), Some(1234)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(1234)).unwrap();
            root.open_file(os("own"), Access::ReadWrite).unwrap().write_at(b"new", 0).unwrap();
            assert_eq!(errno(root.open_file(os("strange"), Access::ReadWrite)), libc::EACCES);
        });
    });
    assert_eq!(root.stat(os("own")).unwrap().mode & 0o7777, 0o400);
    assert_eq!(root.stat(os("own")).unwrap().len, 3);
}

#[test]
fn what_cannot_get_its_owner_is_not_left_behind() {
    if !rustix::process::geteuid().is_root() {
        return; // see above
    }
    let (place, root) = temporary();
    std::os::unix::fs::chown(place.path(), Some(1234), Some(1234)).unwrap();
    let node = NewNode { owner: Some((4321, 4321)), ..PLAIN };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(1234)).unwrap();
            assert_eq!(errno(root.create_file(os("a"), &node)), libc::EPERM);
            assert_eq!(errno(root.make_dir(os("a"), &node)), libc::EPERM);
            assert_eq!(errno(root.make_symlink(os("a"), b"x", &node)), libc::EPERM);
            assert_eq!(errno(root.make_node(os("a"), libc::S_IFIFO, 0, &node)), libc::EPERM);
        });
    });
    assert_eq!(names(&*root, 0, 9).0, [""; 0]);
}

#[test]
fn what_is_read_ahead_is_the_first_regular_files_and_stays_as_it_was() {
    let (place, root) = temporary();
    root.make_node(os("fifo"), libc::S_IFIFO, 0, &PLAIN).unwrap();
    root.make_dir(os("dir"), &PLAIN).unwrap();
    symlink("file-0", place.path().join("link")).unwrap();
    for n in 0..300 {
        root.create_file(os(&format!("file-{n}")), &PLAIN).unwrap().write_at(&[7; 5000], 0).unwrap();
    }
    let all = |limit| names(root.as_ref(), 0, limit).0;
    let files: Vec<_> = all(400).into_iter().filter(|name| name.starts_with("file-")).collect();
    let before: Vec<_> = files.iter().map(|name| root.stat(os(name)).unwrap()).collect();
    let first: Vec<_> = before.iter().take(70).map(|metadata| metadata.ino).collect();
    assert_eq!(root.read_ahead(4096, 70), first);
    assert_eq!(root.read_ahead(4096, 1000).len(), 300);
    let after: Vec<_> = files.iter().map(|name| root.stat(os(name)).unwrap()).collect();
    assert_eq!(after, before, "no time has moved");
}

/// Runs it as an ordinary user who owns everything in `place`; not at all where this is no root.
fn as_owner(place: &std::path::Path, act: impl FnOnce() + Send) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let chown = std::process::Command::new("chown").args(["-R", "1234:1234"]).arg(place).status().unwrap();
    assert!(chown.success());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            rustix::thread::set_thread_gid(rustix::process::Gid::from_raw(1234)).unwrap();
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(1234)).unwrap();
            act();
        });
    });
}

#[test]
fn a_directory_is_reached_by_its_owner_whatever_its_mode_which_stays() {
    for mode in [0, 0o200, 0o300, 0o400, 0o2040] {
        let (place, root) = temporary();
        root.make_dir(os("closed"), &PLAIN).unwrap();
        let closed = root.open_dir(os("closed")).unwrap();
        closed.make_dir(os("dir"), &PLAIN).unwrap();
        closed.create_file(os("file"), &PLAIN).unwrap();
        closed.make_symlink(os("link"), b"target", &PLAIN).unwrap();
        closed.set_xattr(None, os("user.note"), b"kept", XattrFlags::Any).unwrap();
        as_owner(place.path(), || {
            root.set_mode(Some(os("closed")), mode).unwrap();
            let stays = || assert_eq!(closed.metadata().unwrap().mode & 0o7777, mode);
            assert_eq!(names(&*closed, 0, 9).0.len(), 3);
            closed.open_dir(os("dir")).unwrap();
            closed.open_file(os("file"), Access::Read).unwrap();
            closed.stat(os("file")).unwrap();
            stays();
            assert_eq!(closed.read_link(os("link")).unwrap(), b"target");
            assert_eq!(closed.get_xattr(None, os("user.note")).unwrap(), b"kept");
            closed.rename(os("link"), &*closed, os("moved"), Rename::NoReplace).unwrap();
            closed.unlink(os("moved")).unwrap();
            closed.remove_dir(os("dir")).unwrap();
            closed.create_file(os("new"), &PLAIN).unwrap();
            closed.make_dir(os("new dir"), &PLAIN).unwrap();
            closed.make_node(os("new fifo"), libc::S_IFIFO, 0, &PLAIN).unwrap();
            closed.make_symlink(os("new link"), b"target", &PLAIN).unwrap();
            let mut there = names(&*closed, 0, 9).0;
            there.sort();
            assert_eq!(there, ["file", "new", "new dir", "new fifo", "new link"]);
            closed.sync().unwrap();
            stays();
            assert_eq!(names(&*root, 0, 9).0, ["closed"], "no record is left");
        });
    }
}

#[test]
fn attributes_of_a_file_that_its_owner_may_not_write_come_and_go_and_its_mode_stays() {
    if !rustix::process::geteuid().is_root() {
        return; // another group's file is needed too
    }
    let (place, root) = temporary();
    let create = |name| root.create_file(os(name), &PLAIN).unwrap();
    let (own, foreign, name) = (create("own"), create("foreign"), os("user.kmsfs.born"));
    as_owner(place.path(), || {
        for mode in [0, 0o040, 0o444, 0o2444, 0o4500] {
            own.set_mode(mode).unwrap();
            let stays = || assert_eq!(own.metadata().unwrap().mode & 0o7777, mode);
            own.set_xattr(name, b"value", XattrFlags::Any).unwrap();
            stays();
            assert_eq!(own.get_xattr(name).unwrap(), b"value");
            birth::settle(own.as_ref()).unwrap();
            stays();
            assert_eq!(errno(own.get_xattr(name)), libc::ENODATA);
            stays();
        }
        assert_eq!(names(&*root, 0, 9).0.len(), 2, "no record is left");
    });
    // The kernel would take the set-gid bit from whoever is not in the group.
    foreign.set_owner(None, Some(4321)).unwrap();
    foreign.set_mode(0o2444).unwrap();
    foreign.set_xattr(name, b"value", XattrFlags::Any).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            rustix::thread::set_thread_gid(rustix::process::Gid::from_raw(1234)).unwrap();
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(1234)).unwrap();
            assert_eq!(errno(birth::settle(foreign.as_ref())), libc::EACCES);
        });
    });
    assert_eq!(foreign.metadata().unwrap().mode & 0o7777, 0o2444);
}

#[test]
fn modes_that_a_killed_process_left_changed_are_put_back() {
    let (place, root) = temporary();
    root.make_dir(os("outer"), &PLAIN).unwrap();
    let outer = root.open_dir(os("outer")).unwrap();
    outer.make_dir(os("in ner"), &PLAIN).unwrap();
    outer.open_dir(os("in ner")).unwrap().create_file(os("file"), &PLAIN).unwrap();
    outer.create_file(os("other"), &PLAIN).unwrap();
    let path = |name: &str| place.path().join(name);
    let ino = |name: &str| std::fs::metadata(path(name)).unwrap().ino();
    let set = |name: &str, mode| std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    let record = |name: &str, was: &str| {
        symlink(format!("{was} {name}"), path(&format!("mode-{}", ino(name)))).unwrap();
    };
    // As they are in the moment in which a file is opened that three modes deny, and one that there was no time for.
    for (name, was, changed) in [("outer", "0", 0o711), ("outer/in ner", "4", 0o750), ("outer/in ner/file", "0", 0o644)]
    {
        record(name, was);
        set(name, changed);
    }
    set("outer/other", 0o640);
    // Records that do not mean what is there: somebody else's number, more than there is, no number, a name that is
    // gone.
    symlink("0 outer/other", path("mode-1")).unwrap();
    record("outer/other", "7");
    symlink("0 outer/gone", path("mode-2")).unwrap();
    symlink("0 outer/other", path("mode-x")).unwrap();
    symlink("0 ../other", path("mode-3")).unwrap();
    let backend = RealBackend::open(place.path()).unwrap();
    as_owner(place.path(), || {
        super::super::Backend::put_modes_back(&*backend).unwrap();
        let mut left = names(&*root, 0, 9).0;
        left.sort();
        assert_eq!(left, ["mode-3", "mode-x", "outer"], "a path that leads out, and what is no record");
    });
    if rustix::process::geteuid().is_root() {
        let mode = |name: &str| std::fs::metadata(path(name)).unwrap().permissions().mode() & 0o7777;
        let modes = ["outer", "outer/in ner", "outer/in ner/file", "outer/other"].map(mode);
        assert_eq!(modes, [0o011, 0o450, 0o044, 0o640]);
    }
}
