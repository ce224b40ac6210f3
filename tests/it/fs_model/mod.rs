//! Random operations on the file system without FUSE, compared with a reference in memory after each.

mod found;
mod model;
mod model_and_fs;

use kmsfs_store::backend::{RealBackend, Rename, XattrFlags};
use kmsfs_testing::disk::SimulatedDisk;
use model::{BUCKETS, CONFIGURATION};
use model_and_fs::ModelAndFs;
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;

/// Names within a bucket: few, so that operations meet.
const NAMES: [&str; 4] = ["a", "b", "c", CONFIGURATION];

/// A bucket, directories below it, and a name there.
#[derive(Clone)]
struct Path(Vec<&'static str>);

impl Path {
    fn parent(&self) -> &[&'static str] {
        &self.0[..self.0.len() - 1]
    }

    fn name(&self) -> &'static str {
        self.0[self.0.len() - 1]
    }
}

/// As `p(["bucket", "a"])`, so that a failure found can be pasted.
impl std::fmt::Debug for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p(&{:?})", self.0)
    }
}

#[derive(Debug, Clone)]
enum Request {
    Aes256,
    AwsKms,
    Key(&'static str),
    BucketKey(bool),
}

/// Handles are numbers modulo those that are open; offsets and lengths are bytes.
#[derive(Debug, Clone)]
enum Op {
    Create(Path, u32),
    Mknod(Path, u32),
    Mkdir(Path, u32),
    /// A FIFO, socket or device: `S_IFMT` part, device, permissions.
    Special(Path, u32, u64, u32),
    Symlink(Path, usize),
    Open(Path, bool),
    Release(usize),
    Flush(usize),
    Fsync(usize),
    /// Offset, length, by somebody who may not keep set-id bits.
    Write(usize, usize, usize, bool),
    Truncate(usize, usize, bool),
    TruncateName(Path, usize, bool),
    /// Offset, length, `FALLOC_FL_*`.
    Fallocate(usize, usize, usize, i32),
    /// Handle and offset, handle and offset, length.
    Copy(usize, usize, usize, usize, usize),
    Rename(Path, Path, Rename),
    Link(Path, Path),
    Unlink(Path),
    Rmdir(Path),
    SetMode(Path, u32),
    SetOwner(Path, u32, u32),
    /// Access and modification time, each perhaps left alone.
    SetTimes(Path, Option<i64>, Option<i64>),
    /// chown(2) to nobody else.
    SetNothing(Path),
    SetXattr(Path, &'static str, usize, XattrFlags),
    RemoveXattr(Path, &'static str),
    /// Of a directory; which of `CONFIGURATIONS`.
    Configure(Path, usize),
    Request(Path, Request),
    FsyncDir(Path),
    CommitAll,
    Forget,
    Check,
    Reopen,
}

fn path() -> impl Strategy<Value = Path> {
    let bucket = prop_oneof![9 => Just(BUCKETS[0]), 1 => Just(BUCKETS[1])];
    let dir = prop::sample::select(&NAMES[..2]);
    let name = prop_oneof![9 => prop::sample::select(&NAMES[..3]), 1 => Just(CONFIGURATION)];
    (bucket, vec(dir, 0..3), name).prop_map(|(bucket, dirs, name)| {
        let mut path = vec![bucket];
        path.extend(dirs);
        path.push(name);
        Path(path)
    })
}

/// A bucket or a path in it.
fn dir_path() -> impl Strategy<Value = Path> {
    prop_oneof![1 => Just(Path(vec![BUCKETS[0]])), 3 => path()]
}

/// On chunks' borders, beside them, or anywhere; beyond the header's chunks too.
fn place() -> impl Strategy<Value = usize> {
    let chunk = prop_oneof![4 => 0_usize..4, 1 => 62_usize..68, 1 => 190_usize..196];
    prop_oneof![
        (chunk, 0_usize..3).prop_map(|(chunk, beside)| (chunk * 4096 + beside).saturating_sub(1)),
        0_usize..20_000,
    ]
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0_usize..200, 4 => 4000_usize..4200, 2 => 0_usize..20_000, 1 => 0_usize..300_000]
}

fn mode() -> impl Strategy<Value = u32> {
    prop::sample::select(&[0o644, 0o600, 0o755, 0o4755, 0o2755, 0o2644, 0o1700, 0o000][..])
}

fn special() -> impl Strategy<Value = (u32, u64)> {
    let device = libc::makedev(4000, 1_000_000);
    let block = (libc::S_IFBLK, device);
    prop::sample::select(vec![(libc::S_IFIFO, 0), (libc::S_IFSOCK, 0), (libc::S_IFCHR, libc::makedev(1, 3)), block])
}

/// Nanoseconds since 1970, to both sides of it.
fn time() -> impl Strategy<Value = i64> {
    -2_000_000_000_000_000_000_i64..2_000_000_000_000_000_000
}

fn how() -> impl Strategy<Value = Rename> {
    prop_oneof![3 => Just(Rename::Replace), 1 => Just(Rename::NoReplace), 1 => Just(Rename::Exchange)]
}

fn fallocate_mode() -> impl Strategy<Value = i32> {
    const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
    prop::sample::select(
        &[0, KEEP, KEEP | libc::FALLOC_FL_PUNCH_HOLE, libc::FALLOC_FL_ZERO_RANGE, KEEP | libc::FALLOC_FL_ZERO_RANGE][..],
    )
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        Just(Request::Aes256),
        Just(Request::AwsKms),
        Just(Request::Key("one")),
        Just(Request::Key("two")),
        any::<bool>().prop_map(Request::BucketKey),
    ]
}

fn xattr() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["user.one", "user.two"][..])
}

fn flags() -> impl Strategy<Value = XattrFlags> {
    prop_oneof![2 => Just(XattrFlags::Any), 1 => Just(XattrFlags::Create), 1 => Just(XattrFlags::Replace)]
}

fn names() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (path(), mode()).prop_map(|(path, mode)| Op::Create(path, mode)),
        1 => (path(), mode()).prop_map(|(path, mode)| Op::Mknod(path, mode)),
        // mkdir(2) takes no set-id bits; chmod(2) gives them to directories, below.
        5 => path().prop_map(|path| Op::Mkdir(path, 0o755)),
        1 => (path(), special(), mode())
            .prop_map(|(path, (kind, device), mode)| Op::Special(path, kind, device, mode & 0o777)),
        2 => (path(), prop_oneof![1_usize..100, 3000_usize..4096]).prop_map(|(path, len)| Op::Symlink(path, len)),
        8 => (path(), path(), how()).prop_map(|(from, to, how)| Op::Rename(from, to, how)),
        3 => (path(), path()).prop_map(|(from, to)| Op::Link(from, to)),
        3 => path().prop_map(Op::Unlink),
        1 => path().prop_map(Op::Rmdir),
    ]
}

fn content() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (path(), prop::bool::weighted(0.3)).prop_map(|(path, truncate)| Op::Open(path, truncate)),
        2 => (0_usize..6).prop_map(Op::Release),
        2 => (0_usize..6).prop_map(Op::Flush),
        1 => (0_usize..6).prop_map(Op::Fsync),
        8 => (0_usize..6, place(), length(), any::<bool>()).prop_map(|(n, at, len, user)| Op::Write(n, at, len, user)),
        3 => (0_usize..6, place(), any::<bool>()).prop_map(|(n, len, user)| Op::Truncate(n, len, user)),
        1 => (path(), place(), any::<bool>()).prop_map(|(path, len, user)| Op::TruncateName(path, len, user)),
        3 => (0_usize..6, place(), length(), fallocate_mode())
            .prop_map(|(n, at, len, mode)| Op::Fallocate(n, at, len.max(1), mode)),
        2 => (0_usize..6, place(), 0_usize..6, place(), length())
            .prop_map(|(from, at, to, to_at, len)| Op::Copy(from, at, to, to_at, len)),
    ]
}

fn attributes() -> impl Strategy<Value = Op> {
    prop_oneof![
        (path(), mode()).prop_map(|(path, mode)| Op::SetMode(path, mode)),
        (path(), 0_u32..3, 0_u32..3).prop_map(|(path, uid, gid)| Op::SetOwner(path, uid, gid)),
        (path(), prop::option::of(time()), prop::option::of(time()))
            .prop_map(|(path, atime, mtime)| Op::SetTimes(path, atime, mtime)),
        path().prop_map(Op::SetNothing),
        (dir_path(), xattr(), 0_usize..300, flags())
            .prop_map(|(path, name, len, flags)| Op::SetXattr(path, name, len, flags)),
        (dir_path(), xattr()).prop_map(|(path, name)| Op::RemoveXattr(path, name)),
        (dir_path(), 0_usize..6).prop_map(|(path, which)| Op::Configure(path, which)),
        (path(), request()).prop_map(|(path, request)| Op::Request(path, request)),
    ]
}

fn whole() -> impl Strategy<Value = Op> {
    prop_oneof![
        dir_path().prop_map(Op::FsyncDir),
        Just(Op::CommitAll),
        Just(Op::Forget),
        Just(Op::Check),
        Just(Op::Reopen)
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![10 => names(), 12 => content(), 5 => attributes(), 2 => whole()]
}

proptest! {
    #![proptest_config(ProptestConfig {
        // 64 unless PROPTEST_CASES asks for more.
        cases: ProptestConfig::default().cases / 4,
        max_shrink_iters: 4000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_operations_do_on_a_real_directory_what_they_do_in_memory(ops in vec(op(), 1..150)) {
        on_a_real_directory(&ops);
    }

    #[test]
    fn random_operations_do_on_a_simulated_disk_what_they_do_in_memory(ops in vec(op(), 1..150)) {
        ModelAndFs::new(Arc::new(SimulatedDisk::new())).run(&ops);
    }
}

fn on_a_real_directory(ops: &[Op]) {
    // On a disk: unlike tmpfs its file system uses inode numbers again at once.
    let dir = tempfile::tempdir().unwrap();
    ModelAndFs::new(RealBackend::open(dir.path()).unwrap()).run(ops);
}

/// For the cases found.
fn p(path: &[&'static str]) -> Path {
    Path(path.to_vec())
}
