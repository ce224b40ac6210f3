//! The simulated disk behaves as a real directory does: the same calls to both, the same results and errors.

use super::SimulatedDisk;
use kmsfs_store::backend::{Access, Backend, Dir, File, Metadata, NewNode, RealBackend, Rename, XattrFlags};
use kmsfs_store::{Ino, Time};
use proptest::prelude::*;
use std::ffi::{OsStr, OsString};
use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// Directories and files are numbered as they were opened, modulo how many there are.
#[derive(Debug, Clone)]
enum Op {
    OpenDir(usize, Name),
    CloseDir(usize),
    OpenFile(usize, Name, Access),
    CloseFile(usize),
    Create(usize, Name, NewNode),
    MakeDir(usize, Name, NewNode),
    MakeNode(usize, Name, u32, NewNode),
    MakeSymlink(usize, Name, Name),
    ReadLink(usize, Name),
    Link(usize, Name, usize, Name),
    Rename(usize, Name, usize, Name, Rename),
    Unlink(usize, Name),
    RemoveDir(usize, Name),
    List(usize),
    Stat(usize, Option<Name>),
    SetMode(usize, Option<Name>, u32),
    SetOwner(usize, Option<Name>, Option<u32>, Option<u32>),
    SetTimes(usize, Option<Name>, Option<Time>, Option<Time>),
    SetXattr(usize, Option<Name>, Name, Vec<u8>, XattrFlags),
    GetXattr(usize, Option<Name>, Name),
    ListXattr(usize, Option<Name>),
    RemoveXattr(usize, Option<Name>, Name),
    SyncDir(usize),
    Write(usize, u64, Vec<u8>),
    Read(usize, u64, usize),
    SetLen(usize, u64),
    Allocate(usize, u64, u64),
    Punch(usize, u64, u64),
    StatFile(usize),
    SetFileMode(usize, u32),
    SetFileOwner(usize, Option<u32>, Option<u32>),
    SetFileTimes(usize, Option<Time>, Option<Time>),
    SetFileXattr(usize, Name, Vec<u8>, XattrFlags),
    GetFileXattr(usize, Name),
    Lock(usize, bool),
    SyncFile(usize, bool),
}

type Name = &'static str;

struct World {
    dirs: Vec<Arc<dyn Dir>>,
    files: Vec<Arc<dyn File>>,
}

impl World {
    fn new(backend: &dyn Backend) -> Self {
        Self { dirs: vec![backend.root().unwrap()], files: Vec::new() }
    }

    fn dir(&self, n: usize) -> Arc<dyn Dir> {
        self.dirs[n % self.dirs.len()].clone()
    }

    /// What a call answered, as text.
    fn apply(&mut self, op: &Op) -> String {
        match op.clone() {
            Op::OpenDir(dir, name) => {
                let opened = self.dir(dir).open_dir(os(name)).map(|dir| self.dirs.push(dir));
                answer(opened)
            }
            Op::CloseDir(dir) => {
                let dir = dir % self.dirs.len();
                if dir > 0 {
                    self.dirs.remove(dir);
                }
                String::new()
            }
            Op::OpenFile(dir, name, access) => {
                let opened = self.dir(dir).open_file(os(name), access).map(|file| self.files.push(file));
                answer(opened)
            }
            Op::Create(dir, name, node) => {
                let made = self.dir(dir).create_file(os(name), &node).map(|file| self.files.push(file));
                answer(made)
            }
            Op::MakeDir(dir, name, node) => answer(self.dir(dir).make_dir(os(name), &node)),
            Op::MakeNode(dir, name, kind, node) => answer(self.dir(dir).make_node(os(name), kind, 0, &node)),
            Op::MakeSymlink(dir, name, target) => {
                let node = NewNode { mode: 0o777, umask: 0, owner: None };
                answer(self.dir(dir).make_symlink(os(name), target.as_bytes(), &node))
            }
            Op::ReadLink(dir, name) => answer(self.dir(dir).read_link(os(name))),
            Op::Link(from, name, to, to_name) => answer(self.dir(from).link(os(name), &*self.dir(to), os(to_name))),
            Op::Rename(from, name, to, to_name, how) => {
                answer(self.dir(from).rename(os(name), &*self.dir(to), os(to_name), how))
            }
            Op::Unlink(dir, name) => answer(self.dir(dir).unlink(os(name))),
            Op::RemoveDir(dir, name) => answer(self.dir(dir).remove_dir(os(name))),
            Op::List(dir) => self.list(dir),
            Op::SyncDir(dir) => answer(self.dir(dir).sync()),
            op => self.apply_attributes(op),
        }
    }

    fn apply_attributes(&mut self, op: Op) -> String {
        match op {
            Op::Stat(dir, None) => stat(self.dir(dir).metadata()),
            Op::Stat(dir, Some(name)) => stat(self.dir(dir).stat(os(name))),
            Op::SetMode(dir, name, mode) => answer(self.dir(dir).set_mode(name.map(os), mode)),
            Op::SetOwner(dir, name, uid, gid) => answer(self.dir(dir).set_owner(name.map(os), uid, gid)),
            Op::SetTimes(dir, name, atime, mtime) => {
                let dir = self.dir(dir);
                let done = dir.set_times(name.map(os), atime, mtime);
                let stat = name.map_or_else(|| dir.metadata(), |name| dir.stat(os(name)));
                answer(done) + &times(stat, atime, mtime)
            }
            Op::SetXattr(dir, name, attribute, value, flags) => {
                answer(self.dir(dir).set_xattr(name.map(os), os(attribute), &value, flags))
            }
            Op::GetXattr(dir, name, attribute) => answer(self.dir(dir).get_xattr(name.map(os), os(attribute))),
            Op::ListXattr(dir, name) => answer(self.dir(dir).list_xattr(name.map(os)).map(sorted)),
            Op::RemoveXattr(dir, name, attribute) => answer(self.dir(dir).remove_xattr(name.map(os), os(attribute))),
            op => self.apply_to_file(op),
        }
    }

    fn apply_to_file(&mut self, op: Op) -> String {
        let (Op::CloseFile(n)
        | Op::Write(n, ..)
        | Op::Read(n, ..)
        | Op::SetLen(n, _)
        | Op::Allocate(n, ..)
        | Op::Punch(n, ..)
        | Op::StatFile(n)
        | Op::SetFileMode(n, _)
        | Op::SetFileOwner(n, ..)
        | Op::SetFileTimes(n, ..)
        | Op::SetFileXattr(n, ..)
        | Op::GetFileXattr(n, _)
        | Op::Lock(n, _)
        | Op::SyncFile(n, _)) = op
        else {
            unreachable!("the other operations are of directories")
        };
        let Some(n) = n.checked_rem(self.files.len()) else { return String::new() };
        let file = self.files[n].clone();
        match op {
            Op::CloseFile(_) => {
                self.files.remove(n);
                String::new()
            }
            Op::Write(_, offset, data) => answer(file.write_at(&data, offset)),
            Op::Read(_, offset, len) => {
                let mut buf = vec![0xee; len];
                answer(file.read_at(&mut buf, offset)) + &format!("{buf:?}")
            }
            Op::SetLen(_, len) => answer(file.set_len(len)),
            Op::Allocate(_, offset, len) => answer(file.allocate(offset, len)),
            Op::Punch(_, offset, len) => answer(file.punch(offset, len)),
            Op::SetFileMode(_, mode) => answer(file.set_mode(mode)),
            Op::SetFileOwner(_, uid, gid) => answer(file.set_owner(uid, gid)),
            Op::SetFileTimes(_, atime, mtime) => {
                let done = file.set_times(atime, mtime);
                answer(done) + &times(file.metadata(), atime, mtime)
            }
            Op::SetFileXattr(_, attribute, value, flags) => answer(file.set_xattr(os(attribute), &value, flags)),
            Op::GetFileXattr(_, attribute) => answer(file.get_xattr(os(attribute))),
            Op::Lock(_, exclusive) => answer(file.try_lock(exclusive)),
            Op::SyncFile(_, data_only) => answer(if data_only { file.sync_data() } else { file.sync() }),
            _ => stat(file.metadata()),
        }
    }

    /// Names in the order of sorting, after making sure that reading them one by one finds the same. Inodes are told by
    /// the place of their first name.
    fn list(&self, dir: usize) -> String {
        let dir = self.dir(dir);
        let mut found = match entries(&*dir, 0, usize::MAX) {
            Ok((found, _)) => found,
            failed => return answer(failed),
        };
        let (mut singly, mut cursor) = (Vec::new(), 0);
        loop {
            let (one, next) = entries(&*dir, cursor, 1).expect("a directory that was read just now");
            if one.is_empty() {
                break;
            }
            singly.extend(one);
            cursor = next;
        }
        assert_eq!(found, singly);
        found.sort();
        let first = |ino: Ino| found.iter().position(|(_, other, _)| *other == ino);
        format!("{:?}", found.iter().map(|(name, ino, kind)| (name, first(*ino), kind)).collect::<Vec<_>>())
    }
}

/// All but inode number, times, space, and a directory's length and count of links: real file systems differ in these.
fn stat(found: io::Result<Metadata>) -> String {
    answer(found.map(|Metadata { mode, nlink, uid, gid, rdev, len, .. }| {
        let (nlink, len) = if mode & libc::S_IFMT == libc::S_IFDIR { (nlink.min(1), 0) } else { (nlink, len) };
        (mode, nlink, uid, gid, rdev, len)
    }))
}

type Found = (OsString, Ino, u32);

/// At most `limit` entries after a cursor, and the last one's.
fn entries(dir: &dyn Dir, mut cursor: u64, limit: usize) -> io::Result<(Vec<Found>, u64)> {
    let mut found = Vec::new();
    dir.read(cursor, &mut |entry| {
        cursor = entry.cursor;
        found.push((entry.name.to_owned(), entry.ino, entry.kind));
        found.len() < limit
    })?;
    Ok((found, cursor))
}

fn os(name: &str) -> &OsStr {
    OsStr::new(name)
}

fn answer<T: Debug>(result: io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => io::Error::from_raw_os_error(error.raw_os_error().expect("an errno")).to_string(),
    }
}

/// The times that were set.
fn times(found: io::Result<Metadata>, atime: Option<Time>, mtime: Option<Time>) -> String {
    answer(found.map(|found| (atime.map(|_| found.atime), mtime.map(|_| found.mtime))))
}

fn sorted(list: Vec<u8>) -> Vec<Vec<u8>> {
    let mut names: Vec<_> = list.split_inclusive(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    // What a security module adds is not ours.
    names.retain(|name| !name.starts_with(b"security.") || name == b"security.kmsfs\0");
    names.sort();
    names
}

// ---- sequences of calls

fn name() -> impl Strategy<Value = Name> {
    prop_oneof![
        20 => prop::sample::select(vec!["a", "b", "c", "d"]),
        1 => prop::sample::select(vec!["", ".", "..", "a/b", "n\0ul"]),
        1 => Just(LONG),
    ]
}

/// One byte longer than a name can be.
const LONG: Name = match std::str::from_utf8(&[b'n'; 256]) {
    Ok(name) => name,
    Err(_) => unreachable!(),
};

fn place() -> impl Strategy<Value = Option<Name>> {
    prop::option::weighted(0.8, name())
}

fn attribute() -> impl Strategy<Value = Name> {
    let mut names = vec!["user.a", "user.a", "user.b", "user.", "unknown", "system.unknown"];
    if is_root() {
        names.push("trusted.a");
    }
    prop::sample::select(names)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What only root may do is tried by root only, as the simulated disk knows no other user.
fn mode() -> impl Strategy<Value = u32> {
    let set_ids = if is_root() { 0o7_u32 } else { 0 };
    (0..=set_ids, 0..=0o77_u32).prop_map(|(special, low)| special << 9 | 0o700 | low)
}

fn id() -> impl Strategy<Value = Option<u32>> {
    let own = rustix::process::geteuid().as_raw();
    prop::sample::select(if is_root() { vec![None, Some(own), Some(1234)] } else { vec![None, Some(own)] })
}

fn node() -> impl Strategy<Value = NewNode> {
    let owner = prop::sample::select(if is_root() { vec![None, Some((0, 0)), Some((1234, 4321))] } else { vec![None] });
    (mode(), 0..=0o77_u32, owner).prop_map(|(mode, umask, owner)| NewNode { mode, umask, owner })
}

fn time() -> impl Strategy<Value = Option<Time>> {
    prop::option::of((-1_000_000_000_000_000_000..4_000_000_000_000_000_000_i64).prop_map(Time))
}

fn flags() -> impl Strategy<Value = XattrFlags> {
    prop::sample::select(vec![XattrFlags::Any, XattrFlags::Create, XattrFlags::Replace])
}

fn access() -> impl Strategy<Value = Access> {
    prop::sample::select(vec![Access::ReadWrite, Access::ReadWrite, Access::Read])
}

fn how() -> impl Strategy<Value = Rename> {
    prop::sample::select(vec![Rename::Replace, Rename::Replace, Rename::NoReplace, Rename::Exchange, Rename::Whiteout])
}

fn kind() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![libc::S_IFIFO, libc::S_IFSOCK])
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1_u8..255, 0..1500)
}

fn on_names() -> impl Strategy<Value = Op> {
    let n = || 0..8_usize;
    prop_oneof![
        3 => (n(), name()).prop_map(|(d, a)| Op::OpenDir(d, a)),
        1 => n().prop_map(Op::CloseDir),
        2 => (n(), name(), access()).prop_map(|(d, a, how)| Op::OpenFile(d, a, how)),
        4 => (n(), name(), node()).prop_map(|(d, a, node)| Op::Create(d, a, node)),
        4 => (n(), name(), node()).prop_map(|(d, a, node)| Op::MakeDir(d, a, node)),
        1 => (n(), name(), kind(), node()).prop_map(|(d, a, kind, node)| Op::MakeNode(d, a, kind, node)),
        1 => (n(), name(), name()).prop_map(|(d, a, b)| Op::MakeSymlink(d, a, if b == LONG { "a" } else { trim(b) })),
        1 => (n(), name()).prop_map(|(d, a)| Op::ReadLink(d, a)),
        2 => (n(), name(), n(), name()).prop_map(|(d, a, e, b)| Op::Link(d, a, e, b)),
        8 => (n(), name(), n(), name(), how()).prop_map(|(d, a, e, b, how)| Op::Rename(d, a, e, b, how)),
        2 => (n(), name()).prop_map(|(d, a)| Op::Unlink(d, a)),
        2 => (n(), name()).prop_map(|(d, a)| Op::RemoveDir(d, a)),
        2 => n().prop_map(Op::List),
        1 => n().prop_map(Op::SyncDir),
    ]
}

/// A target without the NUL that no system call could carry.
fn trim(target: Name) -> Name {
    target.split('\0').next().unwrap_or_default()
}

fn on_attributes() -> impl Strategy<Value = Op> {
    let n = || 0..8_usize;
    prop_oneof![
        4 => (n(), place()).prop_map(|(d, a)| Op::Stat(d, a)),
        2 => (n(), place(), mode()).prop_map(|(d, a, mode)| Op::SetMode(d, a, mode)),
        2 => (n(), place(), id(), id()).prop_map(|(d, a, uid, gid)| Op::SetOwner(d, a, uid, gid)),
        1 => (n(), place(), time(), time()).prop_map(|(d, a, atime, mtime)| Op::SetTimes(d, a, atime, mtime)),
        2 => (n(), place(), attribute(), prop::collection::vec(any::<u8>(), 0..600), flags())
            .prop_map(|(d, a, x, value, flags)| Op::SetXattr(d, a, x, value, flags)),
        2 => (n(), place(), attribute()).prop_map(|(d, a, x)| Op::GetXattr(d, a, x)),
        1 => (n(), place()).prop_map(|(d, a)| Op::ListXattr(d, a)),
        1 => (n(), place(), attribute()).prop_map(|(d, a, x)| Op::RemoveXattr(d, a, x)),
    ]
}

fn on_files() -> impl Strategy<Value = Op> {
    let (n, offset) = (|| 0..8_usize, || 0..10_000_u64);
    prop_oneof![
        1 => n().prop_map(Op::CloseFile),
        4 => (n(), offset(), bytes()).prop_map(|(f, offset, data)| Op::Write(f, offset, data)),
        4 => (n(), offset(), 0..9000_usize).prop_map(|(f, offset, len)| Op::Read(f, offset, len)),
        2 => (n(), offset()).prop_map(|(f, len)| Op::SetLen(f, len)),
        1 => (n(), offset(), offset()).prop_map(|(f, offset, len)| Op::Allocate(f, offset, len)),
        2 => (n(), offset(), offset()).prop_map(|(f, offset, len)| Op::Punch(f, offset, len)),
        2 => n().prop_map(Op::StatFile),
        1 => (n(), mode()).prop_map(|(f, mode)| Op::SetFileMode(f, mode)),
        1 => (n(), id(), id()).prop_map(|(f, uid, gid)| Op::SetFileOwner(f, uid, gid)),
        1 => (n(), time(), time()).prop_map(|(f, atime, mtime)| Op::SetFileTimes(f, atime, mtime)),
        1 => (n(), attribute(), bytes(), flags()).prop_map(|(f, x, value, flags)| Op::SetFileXattr(f, x, value, flags)),
        1 => (n(), attribute()).prop_map(|(f, x)| Op::GetFileXattr(f, x)),
        2 => (n(), any::<bool>()).prop_map(|(f, exclusive)| Op::Lock(f, exclusive)),
        1 => (n(), any::<bool>()).prop_map(|(f, data_only)| Op::SyncFile(f, data_only)),
    ]
}

fn compare(ops: &[Op]) -> Result<(), TestCaseError> {
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut real = World::new(&*RealBackend::open(place.path()).unwrap());
    let mut simulated = World::new(&SimulatedDisk::new());
    for (n, op) in ops.iter().enumerate() {
        let (wanted, found) = (real.apply(op), simulated.apply(op));
        prop_assert_eq!(found, wanted, "simulated and real, call {}: {:?}", n, op);
    }
    Ok(())
}

proptest! {
    #[test]
    fn random_calls_answer_alike(
        ops in prop::collection::vec(prop_oneof![4 => on_names(), 2 => on_attributes(), 2 => on_files()], 1..120)
    ) {
        compare(&ops)?;
    }
}

#[test]
fn renames_of_directories_into_and_over_one_another_answer_alike() {
    const NODE: NewNode = NewNode { mode: 0o755, umask: 0, owner: None };
    let mut ops = vec![Op::MakeDir(0, "a", NODE), Op::OpenDir(0, "a"), Op::MakeDir(1, "b", NODE), Op::OpenDir(1, "b")];
    ops.extend([Op::MakeDir(2, "c", NODE), Op::MakeDir(0, "d", NODE), Op::OpenDir(0, "d"), Op::Create(0, "c", NODE)]);
    for how in [Rename::Replace, Rename::NoReplace, Rename::Exchange, Rename::Whiteout] {
        for (from, name) in [(0, "a"), (0, "d"), (0, "c"), (1, "b"), (2, "c"), (2, "none")] {
            for (to, to_name) in [(0, "a"), (0, "none"), (1, "b"), (1, "c"), (2, "a"), (3, "x")] {
                // And back, so that the next finds the same places.
                ops.push(Op::Rename(from, name, to, to_name, how));
                ops.push(Op::Rename(to, to_name, from, name, Rename::NoReplace));
                ops.extend((0..4).flat_map(|dir| [Op::List(dir), Op::Stat(dir, None)]));
            }
        }
    }
    compare(&ops).unwrap();
}

#[test]
fn an_open_directory_that_was_removed_answers_alike() {
    const NODE: NewNode = NewNode { mode: 0o755, umask: 0, owner: None };
    let mut ops = vec![Op::MakeDir(0, "d", NODE), Op::OpenDir(0, "d"), Op::Create(0, "a", NODE)];
    ops.extend([
        Op::MakeDir(0, "b", NODE),
        Op::RemoveDir(0, "d"),
        Op::List(1),
        Op::Stat(1, None),
        Op::Stat(1, Some("x")),
    ]);
    ops.extend([Op::Create(1, "x", NODE), Op::MakeDir(1, "x", NODE), Op::MakeSymlink(1, "x", "y"), Op::SyncDir(1)]);
    ops.extend([Op::Link(0, "a", 1, "x"), Op::Rename(0, "a", 1, "x", Rename::Replace), Op::Unlink(1, "x")]);
    ops.extend([Op::Rename(0, "b", 1, "x", Rename::NoReplace), Op::SetMode(1, None, 0o700), Op::OpenDir(1, "x")]);
    compare(&ops).unwrap();
}
