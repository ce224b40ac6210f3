//! Keys disabled and enabled while programs have files open: what fails, when, and what is kept.

pub mod judged;
mod users;

use crate::harness::{KMS, Mount, Store, errno, kms_with, wait_until};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const CHUNK: usize = 4096;

/// A bucket whose objects a key protects that can be disabled.
struct ProtectedBucket<'a> {
    store: &'a Store,
    mount: Mount,
    bucket: PathBuf,
    arn: String,
}

impl<'a> ProtectedBucket<'a> {
    fn new(store: &'a Store, options: &str, bucket_key: bool) -> Self {
        let arn = store.create_key("alias/customer");
        let mount = store.mount_with(options);
        let bucket = mount.bucket("bucket");
        mount.set_default("bucket", &kms_with("alias/customer"), bucket_key);
        Self { store, mount, bucket, arn }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.bucket.join(name)
    }

    fn make(&self, name: &str, content: &[u8]) {
        fs::write(self.at(name), content).unwrap();
    }

    fn open(&self, name: &str) -> File {
        OpenOptions::new().read(true).write(true).open(self.at(name)).unwrap()
    }

    fn disable(&self) {
        self.store.disable_key(&self.arn);
    }

    fn enable(&self) {
        self.store.enable_key(&self.arn);
    }

    /// Until that handle is refused, and the kernel has nothing more of the file.
    #[track_caller]
    fn wait_until_refused(&self, file: &File) {
        assert!(wait_until(|| file.read_at(&mut [0; 10], 0).is_err()), "still readable:\n{}", self.store.log());
    }

    #[track_caller]
    fn wait_until_allowed(&self, file: &File) {
        assert!(wait_until(|| file.read_at(&mut [0; 10], 0).is_ok()), "still refused:\n{}", self.store.log());
    }
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| seed.wrapping_add((at / 7) as u8)).collect()
}

#[test]
fn a_reader_in_a_loop_fails_and_goes_on_after_enabling() {
    for (options, bucket_key) in [("", false), ("", true), ("nowriteback", false)] {
        let store = Store::new();
        let protected = ProtectedBucket::new(&store, options, bucket_key);
        let content = pattern(200_000, 1);
        protected.make("object", &content);
        let file = File::open(protected.at("object")).unwrap();
        let mut read = vec![0; content.len()];
        for _ in 0..2 {
            file.read_exact_at(&mut read, 0).unwrap();
            assert_eq!(read, content);
            protected.disable();
            let disabled = Instant::now();
            // The whole file is in the page cache until the kernel is told to drop it.
            protected.wait_until_refused(&file);
            println!("refused {} ms after disable-key had ended", disabled.elapsed().as_millis());
            for at in (0..content.len() as u64).step_by(CHUNK) {
                assert_eq!(errno(file.read_at(&mut [0; 10], at)), Errno::ACCESS, "{at}, {options:?}, {bucket_key}");
            }
            assert_eq!(errno(File::open(protected.at("object"))), Errno::ACCESS);
            assert_eq!(errno(File::create_new(protected.at("new"))), Errno::ACCESS);
            protected.enable();
            protected.wait_until_allowed(&file);
        }
    }
}

#[test]
fn what_was_dirty_is_kept_and_what_comes_later_fails() {
    for options in ["", "nowriteback"] {
        let store = Store::new();
        let mut protected = ProtectedBucket::new(&store, options, false);
        protected.make("object", &pattern(20 * CHUNK, 1));
        let file = protected.open("object");
        let before = pattern(10 * CHUNK + 100, 2);
        file.write_all_at(&before, 5).unwrap();
        let new = File::create_new(protected.at("new")).unwrap();
        new.write_all_at(&before, 0).unwrap();
        protected.disable();
        protected.wait_until_refused(&file);
        // Whole pages, a part of one, beyond the end: the kernel could take the first into its cache.
        for (at, len) in [(0, CHUNK), (CHUNK as u64 + 1, 10), (30 * CHUNK as u64, 2 * CHUNK)] {
            assert_eq!(errno(file.write_at(&vec![b'!'; len], at)), Errno::ACCESS, "{at}, {options:?}");
            assert_eq!(errno(new.write_at(&vec![b'!'; len], at)), Errno::ACCESS, "{at}, {options:?}");
            fs::metadata(protected.at("object")).unwrap();
        }
        assert_eq!(errno(file.set_len(0)), Errno::ACCESS);
        assert_eq!(errno(OpenOptions::new().write(true).open(protected.at("object"))), Errno::ACCESS);
        file.sync_all().unwrap();
        protected.enable();
        protected.wait_until_allowed(&file);
        let mut expected = pattern(20 * CHUNK, 1);
        expected[5..5 + before.len()].copy_from_slice(&before);
        for fresh in [false, true] {
            assert_eq!(fs::read(protected.at("object")).unwrap(), expected, "{options:?}, {fresh}");
            assert_eq!(fs::read(protected.at("new")).unwrap(), before, "{options:?}, {fresh}");
            if !fresh {
                file.write_all_at(b"again", 0).unwrap();
                expected[..5].copy_from_slice(b"again");
            }
        }
        drop((file, new));
        protected.mount.remount();
        assert!(wait_until(|| File::open(protected.at("object")).is_ok()));
        assert_eq!(fs::read(protected.at("object")).unwrap(), expected);
        assert_eq!(fs::read(protected.at("new")).unwrap(), before);
    }
}

#[test]
fn what_needs_no_key_goes_on() {
    let store = Store::new();
    let protected = ProtectedBucket::new(&store, "", false);
    protected.make("object", &pattern(9000, 1));
    protected.make("gone", b"x");
    let file = protected.open("object");
    let gone = protected.open("gone");
    protected.disable();
    protected.wait_until_refused(&file);
    protected.wait_until_refused(&gone);
    assert_eq!(fs::metadata(protected.at("object")).unwrap().len(), 9000);
    assert_eq!(file.metadata().unwrap().len(), 9000);
    fs::rename(protected.at("object"), protected.at("renamed")).unwrap();
    fs::hard_link(protected.at("renamed"), protected.at("linked")).unwrap();
    fs::set_permissions(protected.at("renamed"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::remove_file(protected.at("gone")).unwrap();
    assert_eq!(errno(gone.read_at(&mut [0], 0)), Errno::ACCESS);
    assert_eq!(errno(fs::write(protected.at("other"), "x")), Errno::ACCESS);
    // Others' objects too.
    let free = protected.mount.bucket("free");
    protected.mount.set_default("free", KMS, false);
    fs::write(free.join("object"), "free").unwrap();
    assert_eq!(fs::read(free.join("object")).unwrap(), b"free");
    protected.enable();
    protected.wait_until_allowed(&file);
    protected.wait_until_allowed(&gone);
    let mut byte = [0];
    gone.read_exact_at(&mut byte, 0).unwrap();
    assert_eq!(byte, *b"x");
    assert_eq!(fs::read(protected.at("linked")).unwrap(), pattern(9000, 1));
}

#[test]
fn a_keyring_that_is_away_takes_nothing_from_those_who_have_files_open() {
    let store = Store::new();
    let protected = ProtectedBucket::new(&store, "", false);
    protected.make("object", b"content");
    let file = protected.open("object");
    let (keyring, away) = (store.store().join("keyring/keyring"), store.path("away"));
    fs::rename(&keyring, &away).unwrap();
    store.expect_log("the keyring cannot be read");
    assert_eq!(errno(File::open(protected.at("object"))), Errno::IO);
    file.write_all_at(b"CON", 0).unwrap();
    file.sync_all().unwrap();
    fs::rename(&away, &keyring).unwrap();
    store.expect_log("the keyring can be read again");
    protected.disable();
    protected.wait_until_refused(&file);
    protected.enable();
    protected.wait_until_allowed(&file);
    assert_eq!(fs::read(protected.at("object")).unwrap(), b"CONtent");
}

#[test]
fn a_thousand_open_handles_are_refused_and_come_back() {
    let store = Store::on_tmpfs();
    let protected = ProtectedBucket::new(&store, "", true);
    let files: Vec<_> = (0..1000)
        .map(|n| {
            let file = File::create_new(protected.at(&n.to_string())).unwrap();
            drop(file);
            let mut file = protected.open(&n.to_string());
            write!(file, "content {n}").unwrap();
            file
        })
        .collect();
    protected.disable();
    for file in &files {
        protected.wait_until_refused(file);
    }
    protected.enable();
    for (n, file) in files.iter().enumerate() {
        protected.wait_until_allowed(file);
        let mut read = vec![0; format!("content {n}").len()];
        file.read_exact_at(&mut read, 0).unwrap();
        assert_eq!(read, format!("content {n}").as_bytes());
    }
}

/// Maps a file, says so, touches it in a loop until it dies of SIGBUS or a byte is as it should be.
const MAPPED: &str = "import mmap, sys\n\
    f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 0)\n\
    m[10] = 66\n\
    print('mapped', flush=True)\n\
    while True: m[10], m[50_000]\n";

/// The same, but SIGBUS is counted as a refusal and reading is tried again in a child until it goes well.
const TRIES_AGAIN: &str = "import mmap, os, sys, time\n\
    f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 0); m[20] = 67\n\
    print('mapped', flush=True)\n\
    def works():\n\
    \x20   pid = os.fork()\n\
    \x20   if pid == 0:\n\
    \x20       m[20], m[50_000]; os._exit(0)\n\
    \x20   return os.waitpid(pid, 0)[1] == 0\n\
    while works(): time.sleep(0.005)\n\
    print('faults', flush=True)\n\
    while not works(): time.sleep(0.005)\n\
    assert m[20] == 67\n\
    m[21] = 68; m.flush()\n\
    print('works', flush=True)\n";

fn python(script: &str, path: &Path) -> Child {
    let mut command = Command::new("python3");
    command.args(["-c", script]).arg(path).stdout(Stdio::piped()).spawn().unwrap()
}

#[track_caller]
fn expect_line(lines: &mut impl Iterator<Item = std::io::Result<String>>, expected: &str) {
    assert_eq!(lines.next().expect("a line").unwrap(), expected);
}

#[test]
fn a_program_with_the_file_mapped_faults_and_its_stores_are_kept() {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    for options in ["", "nowriteback"] {
        let store = Store::new();
        let mut protected = ProtectedBucket::new(&store, options, false);
        protected.make("object", &vec![b'a'; 100_000]);
        let mut dies = python(MAPPED, &protected.at("object"));
        let mut lives = python(TRIES_AGAIN, &protected.at("object"));
        let mut died = BufReader::new(dies.stdout.take().unwrap()).lines();
        let mut lived = BufReader::new(lives.stdout.take().unwrap()).lines();
        expect_line(&mut died, "mapped");
        expect_line(&mut lived, "mapped");
        protected.disable();
        let killed_by = dies.wait().unwrap().signal();
        assert_eq!(killed_by, Some(libc::SIGBUS), "{options:?}");
        expect_line(&mut lived, "faults");
        protected.enable();
        expect_line(&mut lived, "works");
        assert!(lives.wait().unwrap().success());
        protected.mount.remount();
        assert!(wait_until(|| File::open(protected.at("object")).is_ok()));
        let mut expected = vec![b'a'; 100_000];
        (expected[10], expected[20], expected[21]) = (66, 67, 68);
        assert!(fs::read(protected.at("object")).unwrap() == expected, "{options:?}");
    }
}

/// Appends records until it is stopped; answers how many write(2) took, and how often one was refused.
fn append_until(file: &File, stop: &AtomicBool) -> (u64, u64) {
    let (mut taken, mut refused) = (0, 0);
    while !stop.load(Ordering::SeqCst) {
        match file.write_all_at(&record(taken), taken * RECORD) {
            Ok(()) => taken += 1,
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EACCES));
                refused += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        if taken % 4 == 0 {
            // So that the file does not grow too fast.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    (taken, refused)
}

const RECORD: u64 = 1000;

fn record(number: u64) -> Vec<u8> {
    format!("{number:0width$}", width = RECORD as usize).into_bytes()
}

#[test]
fn a_writer_loses_nothing_while_its_key_comes_and_goes() {
    for options in ["", "nowriteback"] {
        let store = Store::on_tmpfs();
        let mut protected = ProtectedBucket::new(&store, options, true);
        let files: Vec<_> = (0..3).map(|n| File::create_new(protected.at(&n.to_string())).unwrap()).collect();
        let stop = AtomicBool::new(false);
        let counts: Vec<_> = std::thread::scope(|scope| {
            let writers: Vec<_> = files.iter().map(|file| scope.spawn(|| append_until(file, &stop))).collect();
            let reader = File::open(protected.at("0")).unwrap();
            for _ in 0..4 {
                protected.disable();
                protected.wait_until_refused(&reader);
                protected.enable();
                protected.wait_until_allowed(&reader);
            }
            stop.store(true, Ordering::SeqCst);
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        for file in files {
            file.sync_all().unwrap();
        }
        protected.mount.remount();
        assert!(wait_until(|| File::open(protected.at("0")).is_ok()));
        for (n, (taken, refused)) in counts.into_iter().enumerate() {
            assert!(refused > 0, "{options:?}");
            let content = fs::read(protected.at(&n.to_string())).unwrap();
            assert!(content.len() as u64 >= taken * RECORD, "{options:?}");
            for number in 0..taken {
                let at = (number * RECORD) as usize;
                assert!(content[at..at + RECORD as usize] == record(number), "{options:?}: record {number} of {taken}");
            }
        }
    }
}
