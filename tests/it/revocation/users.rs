//! Two users on one mount, one of whom is denied: over a KMS that the test commands, served by the test's own process.

use super::judged::{ANN, BOB, World};
use crate::harness::wait_until;
use kmsfs::fuse::{self, MountOptions, Place};
use kmsfs::kms::Caller;
use kmsfs::store::backend::RealBackend;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tempfile::TempDir;

/// A mount of a world's file system in this process.
struct Served {
    world: World,
    dir: TempDir,
    place: fuse::Place,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Served {
    fn new(writeback_cache: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("store")).unwrap();
        let world = World::over(RealBackend::open(&dir.path().join("store")).unwrap(), false);
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mountpoint = dir.path().join("mnt");
        std::fs::create_dir(&mountpoint).unwrap();
        let options = MountOptions {
            mountpoint,
            source: "test".into(),
            read_only: false,
            allow_other: true,
            writeback_cache,
            threads: 2,
            suid: false,
            dev: false,
            exec: true,
            noatime: false,
            sync: false,
            dirsync: false,
        };
        let root = options.mountpoint.clone();
        let ask = Box::new(move |path: &Path| drop(std::fs::metadata(root.join(path))));
        let mounted = fuse::mount(world.fs.clone(), &options, ask, || Ok(())).unwrap();
        let place = Place::at(&options.mountpoint).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let (fs, stop) = (world.fs.clone(), ended.clone());
        let served = thread::spawn(move || mounted.run().unwrap());
        let watched = thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                fs.watch_keys();
                thread::sleep(Duration::from_millis(20));
            }
        });
        Self { world, dir, place, ended, threads: vec![served, watched] }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join("mnt/bucket").join(name)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        self.place.unmount(false).unwrap();
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        self.world.fs.stop_draining();
    }
}

/// Opens a file, and does what it is told, a line each, answering each with a line.
const PROGRAM: &str = "import errno, mmap, os, sys, time\n\
    fd = os.open(sys.argv[1], os.O_RDWR)\n\
    def attempt(act):\n\
    \x20   try: return act()\n\
    \x20   except OSError as e: return errno.errorcode[e.errno]\n\
    def until(what, seconds):\n\
    \x20   end = time.time() + seconds\n\
    \x20   while time.time() < end:\n\
    \x20       if attempt(lambda: os.pread(fd, 100, 4096)) == what: return 'as expected'\n\
    \x20   return 'not in time'\n\
    def others(what, seconds):\n\
    \x20   end = time.time() + seconds; count = 0\n\
    \x20   while time.time() < end: count += attempt(lambda: os.pread(fd, 100, 4096)) != what\n\
    \x20   return count\n\
    GOOD = b'a' * 100\n\
    print('open', flush=True)\n\
    for line in sys.stdin: print(eval(line), flush=True)\n";

struct Program {
    child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn new(served: &Served, name: &str, caller: &Caller) -> Self {
        let (uid, gid) = (caller.uid.to_string(), caller.gid.to_string());
        let mut child = Command::new("setpriv")
            .args(["--reuid", &uid, "--regid", &gid, "--clear-groups", "--", "python3", "-c", PROGRAM])
            .arg(served.at(name))
            // Not one that a user has for himself.
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
        let mut program = Self { child, to, from };
        assert_eq!(program.answer(), "open");
        program
    }

    fn tell(&mut self, what: &str) {
        writeln!(self.to, "{what}").unwrap();
    }

    fn answer(&mut self) -> String {
        self.from.next().expect("an answer").unwrap()
    }

    fn ask(&mut self, what: &str) -> String {
        self.tell(what);
        self.answer()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_user_who_is_denied_reads_nothing_that_others_have_in_the_cache() {
    for writeback_cache in [true, false] {
        let served = Served::new(writeback_cache);
        served.world.make("object", &vec![b'a'; 200_000]);
        let mut ann = Program::new(&served, "object", &ANN);
        let mut bob = Program::new(&served, "object", &BOB);
        assert_eq!(ann.ask("os.pread(fd, 1 << 20, 0) == b'a' * 200_000"), "True");
        served.world.rules.deny(&ANN);
        bob.tell("others(GOOD, 2)");
        if writeback_cache {
            assert_eq!(ann.ask("until('EACCES', 30)"), "as expected");
            assert_eq!(ann.ask("others('EACCES', 1)"), "0");
            assert_eq!(bob.answer(), "0");
        } else {
            // Here a page is there for both while Bob reads it.
            assert_eq!(bob.answer(), "0");
            assert_eq!(ann.ask("until('EACCES', 30)"), "as expected");
            assert!(wait_until(|| ann.ask("others('EACCES', 0.5)") == "0"));
        }
        assert!(wait_until(|| ann.ask("attempt(lambda: os.pwrite(fd, b'x' * 4096, 0))") == "EACCES"));
        assert_eq!(bob.ask("attempt(lambda: os.pwrite(fd, b'x' * 4096, 0))"), "4096");
        assert_eq!(bob.ask("attempt(lambda: os.fsync(fd))"), "None");
        served.world.rules.allow_all();
        assert_eq!(ann.ask("until(GOOD, 30)"), "as expected");
        assert_eq!(ann.ask("os.pread(fd, 3, 4094)"), "b'xxa'");
    }
}
