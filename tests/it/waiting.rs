//! What waits for the KMS, or for a checkpoint, keeps nobody else: on mounts with one event loop, which the test's own
//! process serves over a KMS and a disk that answer when the test lets them.

use crate::harness::{Served, WATCHER, errno, header, kms_with, wait_until, xattr};
use kmsfs_fs::{Fs, FsOptions};
use kmsfs_kms::{Code, Error};
use kmsfs_sse::KeyService;
use kmsfs_store::{Parameters, Store, StoreOptions, Target};
use kmsfs_testing::disk::SimulatedDisk;
use kmsfs_testing::kms::{Call, Moody, OneKey};
use parking_lot::{Mutex, RwLock};
use rustix::fs::{CWD, FallocateFlags, FileType, Mode, SeekFrom, XattrFlags, fallocate, mknodat, seek, statvfs};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

/// Far longer than anything takes that does not wait for ever.
const LONG: Duration = Duration::from_secs(30);
const CHUNK: usize = 4096;

/// A store on a simulated disk, whose KMS is a fake.
struct World {
    disk: SimulatedDisk,
    kms: Arc<Moody>,
    keys: Arc<KeyService>,
}

impl World {
    fn new() -> Self {
        let (disk, kms, service) = (SimulatedDisk::new(), Moody::new(), Arc::new(OneKey::new()));
        let parameters =
            Parameters { store_id: [1; 16], account_id: "000000000000".into(), region: "us-east-1".into() };
        kmsfs_store::create(&disk, &parameters, &*service).unwrap();
        Self { disk, keys: Arc::new(KeyService::new(kms.clone(), service)), kms }
    }

    fn open(&self, options: StoreOptions) -> Arc<Fs> {
        let store = Store::open(Arc::new(self.disk.clone()), self.keys.clone(), options).unwrap();
        let options =
            FsOptions { read_only: false, keep_owners: true, noatime: false, open_dirs: 16, most_inodes: None };
        Fs::new(store, options)
    }

    /// With these files of two chunks, closed cleanly, and opened again: nothing is in memory. A bucket `plain` is
    /// under AES256, all others are under keys of their names.
    fn with(files: &[&str]) -> (Self, Arc<Fs>) {
        let (world, fs) = Self::made(files);
        fs.store().close().unwrap();
        drop(fs);
        let fs = world.open(StoreOptions::default());
        (world, fs)
    }

    /// The same after every process was killed: nothing is in memory, and the files' lengths are in doubt.
    fn killed_with(files: &[&str]) -> (Self, Arc<Fs>) {
        let (Self { disk, kms, keys }, _fs) = Self::made(files);
        let world = Self { disk: disk.crash_point().kill(), kms, keys };
        let fs = world.open(StoreOptions::default());
        (world, fs)
    }

    fn made(files: &[&str]) -> (Self, Arc<Fs>) {
        let world = Self::new();
        let fs = world.open(StoreOptions::default());
        {
            let served = Served::new(&fs, 1, true);
            for file in files {
                let (bucket, _) = file.split_once('/').unwrap();
                if !served.at(bucket).exists() {
                    fs::create_dir(served.at(bucket)).unwrap();
                    let configuration = format!(
                        r#"{{"Rules":[{{"ApplyServerSideEncryptionByDefault":{}}}]}}"#,
                        if bucket == "plain" { r#"{"SSEAlgorithm":"AES256"}"#.into() } else { kms_with(bucket) }
                    );
                    fs::write(served.at(bucket).join(".encryption.json"), configuration).unwrap();
                }
                fs::create_dir_all(served.at(file).parent().unwrap()).unwrap();
                fs::write(served.at(file), [b'a'; 2 * CHUNK]).unwrap();
            }
        }
        (world, fs)
    }
}

/// Calls of the KMS that do not return, for as long as the lock is held; and on which threads they were.
#[derive(Clone, Default)]
struct Held {
    until: Arc<RwLock<()>>,
    threads: Arc<Mutex<BTreeSet<String>>>,
    asking: Arc<AtomicUsize>,
}

impl Held {
    /// Those about these keys.
    fn calls(kms: &Moody, is_held: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Self {
        let held = Self::default();
        let of = held.clone();
        kms.answer(move |call| {
            let thread = thread::current().name().unwrap_or_default().to_owned();
            if thread != WATCHER {
                of.asking.fetch_add(1, Ordering::SeqCst);
                of.threads.lock().insert(thread);
            }
            if is_held(call) {
                drop(of.until.read());
            }
            Ok(())
        });
        held
    }

    /// Until so many have begun.
    #[track_caller]
    fn wait_for(&self, count: usize) {
        let asking = || self.asking.load(Ordering::SeqCst);
        assert!(wait_until(|| asking() >= count), "{} of {count} ask, on {:?}", asking(), self.threads.lock());
    }

    #[track_caller]
    fn assert_event_loops_asked_nothing(&self) {
        assert_eq!(*self.threads.lock(), BTreeSet::from(["kmsfs-ask".to_owned()]));
    }
}

/// Does something on another thread, which must not take for ever.
#[track_caller]
fn goes_on<'scope>(scope: &'scope Scope<'scope, '_>, what: &str, act: impl FnOnce() + Send + 'scope) {
    let (done, is_done) = channel();
    scope.spawn(move || {
        act();
        let _ = done.send(());
    });
    assert!(is_done.recv_timeout(LONG).is_ok(), "{what}");
}

/// A program's thread that waits in a system call.
struct Program<'scope> {
    thread: ScopedJoinHandle<'scope, io::Result<()>>,
    id: Arc<AtomicI32>,
}

impl<'scope> Program<'scope> {
    fn new(scope: &'scope Scope<'scope, '_>, act: impl FnOnce() -> io::Result<()> + Send + 'scope) -> Program<'scope> {
        let id = Arc::new(AtomicI32::new(0));
        let of = id.clone();
        let thread = scope.spawn(move || {
            of.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::SeqCst);
            act()
        });
        Self { thread, id }
    }

    /// Sleeps, in whatever call it has begun.
    fn waits(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/self/task/{}/stat", self.id.load(Ordering::SeqCst)));
        let state = stat.ok().and_then(|stat| stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()));
        matches!(state, Some('S' | 'D'))
    }
}

#[track_caller]
fn wait_until_all_wait(programs: &[Program<'_>]) {
    assert!(wait_until(|| programs.iter().all(Program::waits)));
}

#[track_caller]
fn end_well(programs: Vec<Program<'_>>) {
    for (n, program) in programs.into_iter().enumerate() {
        let ended = program.thread.join().unwrap();
        assert!(ended.is_ok(), "{n}: {ended:?}");
    }
}

fn set(path: &std::path::Path, name: &str, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::setxattr(path, name, value, XattrFlags::empty())?)
}

fn direct(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(path)
}

/// What appends nothing to the redo log and asks no KMS. Returns what is to be closed later, since that appends.
fn use_what_waits_for_nothing(served: &Served) -> Vec<File> {
    let at = |name: &str| served.at("plain").join(name);
    let old = File::open(at("old")).unwrap();
    let mut bytes = [0; 10];
    old.read_exact_at(&mut bytes, CHUNK as u64).unwrap();
    assert_eq!(bytes, [b'a'; 10]);
    assert_eq!(seek(&old, SeekFrom::Data(0)).unwrap(), 0);
    assert_eq!(seek(&old, SeekFrom::Hole(0)).unwrap(), 2 * CHUNK as u64);
    assert_eq!(fs::metadata(at("old")).unwrap().len(), 2 * CHUNK as u64);
    assert_eq!(xattr(&at("old"), "user.etag").unwrap().len(), 32);
    assert_eq!(header(&at("old"), "").unwrap(), "AES256");
    assert!(fs::read_dir(at("")).unwrap().any(|entry| entry.unwrap().file_name() == "old"));
    let new = File::create_new(at("new")).unwrap();
    new.write_all_at(b"new", 0).unwrap();
    fallocate(&new, FallocateFlags::KEEP_SIZE, 0, 1 << 20).unwrap();
    let straight = OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_DIRECT).open(at("straight"));
    straight.as_ref().unwrap().write_all_at(&[b'b'; CHUNK], 0).unwrap();
    fs::set_permissions(at("new"), PermissionsExt::from_mode(0o640)).unwrap();
    set(&at("new"), "user.mime_type", b"text/plain").unwrap();
    assert_eq!(xattr(&at("new"), "user.mime_type").unwrap(), "text/plain");
    rustix::fs::removexattr(at("new"), "user.mime_type").unwrap();
    fs::rename(at("new"), at("renamed")).unwrap();
    fs::hard_link(at("renamed"), at("linked")).unwrap();
    fs::remove_file(at("linked")).unwrap();
    symlink("renamed", at("symlink")).unwrap();
    assert_eq!(fs::read_link(at("symlink")).unwrap().to_str(), Some("renamed"));
    fs::create_dir(at("directory")).unwrap();
    fs::rename(at("directory"), at("moved")).unwrap();
    fs::remove_dir(at("moved")).unwrap();
    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    for name in ["fifo", "symlink", "renamed", "straight"] {
        fs::remove_file(at(name)).unwrap();
    }
    assert!(statvfs(at("")).unwrap().f_blocks > 0);
    vec![new, straight.unwrap()]
}

/// What appends to the redo log, syncs and makes a checkpoint, and asks no KMS. `busy` is open, under a KMS key.
fn use_what_needs_the_disk(served: &Served, busy: &File) {
    let at = |name: &str| served.at("plain").join(name);
    busy.write_all_at(b"written", CHUNK as u64).unwrap();
    busy.sync_all().unwrap();
    let mut read = [0; 7];
    busy.read_exact_at(&mut read, CHUNK as u64).unwrap();
    assert_eq!(&read, b"written");
    busy.set_len(3 * CHUNK as u64).unwrap();
    for name in ["one", "two"] {
        fs::write(at(name), "one or two").unwrap();
    }
    fs::rename(at("one"), at("two")).unwrap();
    OpenOptions::new().write(true).open(at("two")).unwrap().set_len(3).unwrap();
    rustix::fs::utimensat(CWD, at("two"), &now(), rustix::fs::AtFlags::empty()).unwrap();
    let (from, to) = (File::open(at("old")).unwrap(), File::create(at("two")).unwrap());
    let copied = rustix::fs::copy_file_range(&from, None, &to, None, 2 * CHUNK).unwrap();
    assert_eq!(copied, 2 * CHUNK);
    mknodat(CWD, at("node"), FileType::RegularFile, Mode::RUSR, 0).unwrap();
    fs::write(
        at(".encryption.json"),
        r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"}}]}"#,
    )
    .unwrap();
    fs::remove_file(at("node")).unwrap();
    fs::remove_file(at("two")).unwrap();
    set(&served.at(""), "user.x-kmsfs-sync", b"1").unwrap();
}

fn now() -> rustix::fs::Timestamps {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    rustix::fs::Timestamps { last_access: now, last_modification: now }
}

#[test]
fn while_the_kms_is_asked_every_other_operation_goes_on() {
    let files = [
        "keyed/opened",
        "keyed/etag",
        "keyed/header",
        "keyed/cut",
        "keyed/locked",
        "keyed/busy",
        "keyed/moved",
        "keyed/below/x",
        "plain/old",
    ];
    let (world, fs) = World::with(&files);
    let served = Served::new(&fs, 1, true);
    let at = |name: &str| served.at("keyed").join(name);
    for dir in ["made", "node"] {
        fs::create_dir(at(dir)).unwrap();
    }
    let busy = OpenOptions::new().read(true).write(true).open(at("busy")).unwrap();
    let locked = File::open(at("locked")).unwrap();
    let dir = fs.store().open_dir(fs.store().root(), "keyed".as_ref()).unwrap();
    let ino = fs.store().stat(Target::Name(&dir, "locked".as_ref())).unwrap().ino;
    fs.store().attached(ino).unwrap().lock().unwrap();
    let held = Held::calls(&world.kms, |_| true);
    thread::scope(|scope| {
        let until = held.until.write();
        let opened = Program::new(scope, || File::open(at("opened")).map(drop));
        let waiting = [
            Program::new(scope, || fs::write(at("made/new"), "new")),
            Program::new(scope, || Ok(mknodat(CWD, at("node/new"), FileType::RegularFile, Mode::RUSR, 0)?)),
            Program::new(scope, || Ok(xattr(&at("etag"), "user.etag").map(drop)?)),
            Program::new(scope, || set(&at("header"), "user.x-amz-server-side-encryption-aws-kms-key-id", b"other")),
            Program::new(scope, || fs::write(at("cut"), "anew")),
            Program::new(scope, || locked.read_exact_at(&mut [0; 10], 0)),
        ];
        held.wait_for(1 + waiting.len());
        goes_on(scope, "what needs no KMS waits for it", || {
            drop(use_what_waits_for_nothing(&served));
            use_what_needs_the_disk(&served, &busy);
            assert_eq!(fs::read_dir(at("")).unwrap().count(), files.len() + 2);
            for file in ["opened", "etag", "busy", "below/x"] {
                fs::metadata(at(file)).unwrap();
            }
            fs::rename(at("moved"), at("below/x")).unwrap();
            fs::remove_file(at("opened")).unwrap();
        });
        assert!(!opened.thread.is_finished() && waiting.iter().all(|program| !program.thread.is_finished()));
        drop(until);
        assert_eq!(errno(opened.thread.join().unwrap()), Errno::NOENT, "it was removed meanwhile");
        end_well(waiting.into());
    });
    held.assert_event_loops_asked_nothing();
    assert_eq!(fs::read(at("made/new")).unwrap(), b"new");
    assert_eq!(fs::metadata(at("node/new")).unwrap().len(), 0);
    assert_eq!(fs::read(at("cut")).unwrap(), b"anew");
    let arn = header(&at("header"), "-aws-kms-key-id").unwrap();
    assert_eq!(arn, kmsfs_testing::kms::arn("other"));
}

#[test]
fn many_who_wait_for_one_key_leave_others_to_be_asked_for() {
    let mut files = vec!["held/one", "free/other", "free/busy", "plain/old"];
    let many: Vec<String> = (0..40).map(|n| format!("held/{n}")).collect();
    files.extend(many.iter().map(String::as_str));
    let (world, fs) = World::with(&files);
    let served = Served::new(&fs, 1, true);
    let busy = OpenOptions::new().read(true).write(true).open(served.at("free/busy")).unwrap();
    let held = Held::calls(&world.kms, |call| call.key.ends_with("held"));
    thread::scope(|scope| {
        let until = held.until.write();
        let open = |file: &str| {
            let path = served.at(file);
            Program::new(scope, move || File::open(path).map(drop))
        };
        let mut waiting: Vec<_> = (0..64).map(|_| open("held/one")).collect();
        wait_until_all_wait(&waiting);
        goes_on(scope, "all threads wait for one inode", || {
            assert_eq!(fs::read(served.at("free/other")).unwrap(), [b'a'; 2 * CHUNK]);
        });
        waiting.extend(many.iter().map(|file| open(file)));
        wait_until_all_wait(&waiting);
        goes_on(scope, "what needs no KMS waits for those who do", || {
            drop(use_what_waits_for_nothing(&served));
            use_what_needs_the_disk(&served, &busy);
        });
        assert!(waiting.iter().all(|program| !program.thread.is_finished()));
        drop(until);
        end_well(waiting);
    });
    held.assert_event_loops_asked_nothing();
}

#[test]
fn while_a_checkpoint_runs_everything_goes_on_that_does_not_append() {
    let mut files = vec!["plain/old", "keyed/closed"];
    let many: Vec<String> = (0..40).map(|n| format!("plain/{n}")).collect();
    files.extend(many.iter().map(String::as_str));
    let (world, fs) = World::with(&files);
    let served = Served::new(&fs, 1, true);
    let open: Vec<_> = many.iter().map(|file| direct(&served.at(file)).unwrap()).collect();
    open[0].write_all_at(&[b'x'; CHUNK], 0).unwrap();
    let (told, begun) = channel();
    let until = Arc::new(RwLock::new(()));
    let of = until.clone();
    world.disk.during_sync(move |_| {
        let _ = told.send(thread::current().name().map(ToOwned::to_owned));
        drop(of.read());
    });
    thread::scope(|scope| {
        let until = until.write();
        let mut waiting = vec![Program::new(scope, || Ok(xattr(&served.at(""), "user.x-kmsfs-sync").map(drop)?))];
        assert_eq!(begun.recv_timeout(LONG).unwrap().as_deref(), Some("kmsfs-sync"));
        assert!(fs.store().appends_wait());
        waiting.extend(open.iter().map(|file| {
            Program::new(scope, || {
                file.write_all_at(&[b'y'; CHUNK], 0)?;
                file.sync_all()
            })
        }));
        wait_until_all_wait(&waiting);
        let (keep, kept) = channel();
        let served = &served;
        goes_on(scope, "what appends nothing waits for a checkpoint", move || {
            keep.send(use_what_waits_for_nothing(served)).unwrap();
            assert_eq!(fs::read(served.at("keyed/closed")).unwrap(), [b'a'; 2 * CHUNK]);
        });
        assert!(waiting.iter().all(|program| !program.thread.is_finished()));
        drop(until);
        end_well(waiting);
        drop(kept.recv().unwrap());
    });
    world.disk.unwatch();
    drop(open);
    for file in &many {
        assert_eq!(fs::read(served.at(file)).unwrap()[..CHUNK], [b'y'; CHUNK]);
    }
}

#[test]
fn after_a_crash_no_event_loop_asks_for_a_length() {
    let files = ["keyed/mode", "keyed/linked", "keyed/listed", "keyed/below/x", "plain/old"];
    let (world, fs) = World::killed_with(&files);
    let served = Served::new(&fs, 1, true);
    let at = |name: &str| served.at("keyed").join(name);
    // While there is no answer their lengths stay in doubt, and the kernel knows their names.
    world.kms.fail(Some(Error::new(Code::KmsInternal, "out of order")));
    for name in ["mode", "linked"] {
        fs::metadata(at(name)).unwrap();
    }
    world.kms.fail(None);
    let held = Held::calls(&world.kms, |_| true);
    thread::scope(|scope| {
        let until = held.until.write();
        let waiting = [
            Program::new(scope, || fs::set_permissions(at("mode"), PermissionsExt::from_mode(0o600))),
            Program::new(scope, || fs::hard_link(at("linked"), at("below/link"))),
        ];
        held.wait_for(waiting.len());
        let (tell, told) = channel();
        let (served, dir) = (&served, at(""));
        goes_on(scope, "what asks no KMS waits for it", move || {
            let listed = fs::read_dir(dir).unwrap().map(Result::unwrap);
            tell.send(listed.map(|entry| (entry.file_name(), entry.ino())).collect::<Vec<_>>()).unwrap();
            drop(use_what_waits_for_nothing(served));
        });
        drop(until);
        end_well(waiting.into());
        // By numbers that are the files' own.
        let listed = told.recv().unwrap();
        assert_eq!(listed.len(), 5, "{listed:?}");
        for (name, ino) in listed {
            assert_eq!(fs::metadata(served.at("keyed").join(&name)).unwrap().ino(), ino, "{}", name.display());
        }
    });
    held.assert_event_loops_asked_nothing();
    for name in ["mode", "linked", "listed", "below/link"] {
        assert_eq!(fs::metadata(at(name)).unwrap().len(), 2 * CHUNK as u64, "{name}");
    }
}

#[test]
fn while_a_configuration_is_made_the_content_the_rest_goes_on() {
    let (world, fs) = World::with(&["plain/dir/x", "other/old"]);
    let served = Served::new(&fs, 1, true);
    let text = r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"}}]}"#;
    let open = || {
        let mut file = OpenOptions::new().write(true).open(served.at("plain/.encryption.json")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    };
    let (one, other) = (open(), open());
    let (told, begun) = channel();
    let until = Arc::new(RwLock::new(()));
    let of = until.clone();
    world.disk.during_sync(move |_| {
        let _ = told.send(());
        drop(of.read());
    });
    thread::scope(|scope| {
        let until = until.write();
        let mut closing = vec![Program::new(scope, move || one.sync_all())];
        begun.recv_timeout(LONG).unwrap();
        closing.push(Program::new(scope, move || {
            drop(other);
            Ok(())
        }));
        closing.push(Program::new(scope, || fs::rename(served.at("plain/dir"), served.at("plain/moved"))));
        wait_until_all_wait(&closing);
        let at = |name: &str| served.at("other").join(name);
        let (old, new) = (at("old"), at("new"));
        goes_on(scope, "what needs no disk waits for who closes a configuration", move || {
            assert_eq!(fs::read(old).unwrap(), [b'a'; 2 * CHUNK]);
            fs::write(&new, "new").unwrap();
            fs::remove_file(new).unwrap();
        });
        assert!(closing.iter().all(|program| !program.thread.is_finished()));
        drop(until);
        end_well(closing);
    });
    world.disk.unwatch();
    assert!(served.at("plain/moved/x").exists());
}

#[test]
fn no_event_loop_makes_room_in_a_full_log() {
    let (world, fs) = World::with(&["plain/0", "plain/1", "plain/2"]);
    fs.store().close().unwrap();
    let fs = world.open(StoreOptions { log_bound: 16 * CHUNK as u64, ..StoreOptions::default() });
    let served = Served::new(&fs, 1, true);
    let threads = Arc::new(Mutex::new(BTreeSet::new()));
    let of = threads.clone();
    world.disk.during_sync(move |_| {
        of.lock().insert(thread::current().name().map(ToOwned::to_owned));
    });
    thread::scope(|scope| {
        for n in 0..3 {
            let file = direct(&served.at(&format!("plain/{n}"))).unwrap();
            scope.spawn(move || {
                for _ in 0..100 {
                    file.write_all_at(&[b'x'; 2 * CHUNK], 0).unwrap();
                }
            });
        }
    });
    world.disk.unwatch();
    assert!(fs.store().log_usage().checkpoints >= 10, "{:?}", fs.store().log_usage());
    assert_eq!(*threads.lock(), BTreeSet::from([Some("kmsfs-sync".to_owned())]));
}

#[test]
fn a_mount_that_is_aborted_ends_while_the_kms_is_asked() {
    let (world, fs) = World::with(&["keyed/opened"]);
    let mut served = Served::new(&fs, 1, true);
    let path = served.at("keyed/opened");
    let held = Held::calls(&world.kms, |_| true);
    thread::scope(|scope| {
        let until = held.until.write();
        let opened = Program::new(scope, || File::open(&path).map(drop));
        held.wait_for(1);
        served.abort();
        assert_eq!(errno(opened.thread.join().unwrap()), Errno::CONNABORTED);
        goes_on(scope, "closing the store waits for the KMS", || fs.store().close().unwrap());
        drop(until);
    });
    held.assert_event_loops_asked_nothing();
}
