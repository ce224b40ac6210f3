//! Two users on one mount, one of whom is denied: over a KMS that the test commands, served by the test's own process.

use super::judged::{ANN, BOB, MoodyFs};
use crate::harness::{Served, wait_until};
use kmsfs_kms::Caller;
use kmsfs_store::backend::RealBackend;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

/// A mount of a bucket under a KMS that the test commands.
struct Bucket {
    served: Served,
    moody: MoodyFs,
    _store: TempDir,
}

impl Bucket {
    fn new(writeback_cache: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let moody = MoodyFs::over(RealBackend::open(dir.path()).unwrap(), false);
        Self { served: Served::new(&moody.fs, 2, writeback_cache), moody, _store: dir }
    }

    /// Whoever comes may make files in the bucket.
    fn open_to_all(&self) {
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        std::fs::set_permissions(self.served.at("bucket"), everybody).unwrap();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.served.at("bucket").join(name)
    }
}

/// Opens a file, and does what it is told, a line each, answering each with a line.
const PROGRAM: &str = "import ctypes, errno, mmap, os, struct, sys, threading, time\n\
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
    WAYS\
    print('open', flush=True)\n\
    for line in sys.stdin: print(eval(line), flush=True)\n";

/// Every way from a descriptor to content: each answers the first 100 bytes of the second page, or raises OSError.
/// `io_uring` is by its system calls; a mapping's fault is a signal, so that a child touches it.
const WAYS: &str = r"
libc = ctypes.CDLL(None, use_errno=True)
def called(number):
    if number < 0: raise OSError(ctypes.get_errno(), 'it failed')
    return number
def through_pipe(move):
    r, w = os.pipe()
    try:
        move(w); os.close(w); w = -1
        return os.read(r, 100)
    finally:
        os.close(r)
        if w >= 0: os.close(w)
def to_memory(move):
    to = os.memfd_create('to')
    try:
        move(to)
        return os.pread(to, 100, 0)
    finally: os.close(to)
def readv():
    os.lseek(fd, 4096, os.SEEK_SET)
    into = bytearray(100); os.readv(fd, [into]); return bytes(into)
def preadv2(flags):
    into = bytearray(100); os.preadv(fd, [into], 4096, flags); return bytes(into)
def plain_read():
    os.lseek(fd, 4096, os.SEEK_SET); return os.read(fd, 100)
target = None
def copied():
    global target
    if target is None:
        target = os.open(sys.argv[1] + '.copy.' + str(os.getuid()), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.copy_file_range(fd, target, 100, 4096, 0)
    return os.pread(target, 100, 0)
def mapped(flags):
    m = mmap.mmap(fd, 8192, flags, mmap.PROT_READ)
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(w, m[4096:4196]); os._exit(0)
    status = os.waitpid(pid, 0)[1]; os.close(w); m.close()
    content = os.read(r, 100); os.close(r)
    if status: raise OSError(errno.EACCES, 'SIGBUS')
    return content
def again(): 
    other = os.open('/proc/self/fd/%d' % fd, os.O_RDONLY)
    try: return os.pread(other, 100, 4096)
    finally: os.close(other)
def ahead():
    called(libc.readahead(fd, ctypes.c_long(0), ctypes.c_size_t(65536)))
    os.posix_fadvise(fd, 0, 65536, os.POSIX_FADV_WILLNEED)
    return through_pipe(lambda w: os.splice(fd, w, 100, offset_src=4096))
def ring():
    params = ctypes.create_string_buffer(120)
    ring = called(libc.syscall(425, 1, params))
    try:
        (entries, cq_entries, *_) = struct.unpack_from('2I', params)
        head, tail, mask, n, flags, dropped, array = struct.unpack_from('7I', params, 40)
        chead, ctail, cmask, cn, overflow, cqes = struct.unpack_from('6I', params, 80)
        both = mmap.mmap(ring, max(array + 4 * entries, cqes + 16 * cq_entries), mmap.MAP_SHARED, offset=0)
        sqes = mmap.mmap(ring, 64 * entries, mmap.MAP_SHARED, offset=0x10000000)
        into = ctypes.create_string_buffer(100)
        sqes[0:64] = struct.pack('BBHiQQI', 22, 0, 0, fd, 4096, ctypes.addressof(into), 100).ljust(64, b'\0')
        both[array:array + 4] = struct.pack('I', 0)
        both[tail:tail + 4] = struct.pack('I', 1)
        called(libc.syscall(426, ring, 1, 1, 1, None, 0))
        result = struct.unpack_from('i', both, cqes + 8)[0]
        sqes.close(); both.close()
        if result < 0: raise OSError(-result, 'it failed')
        return into.raw[:result]
    finally: os.close(ring)
WAYS = {
    'read': plain_read, 'pread': lambda: os.pread(fd, 100, 4096), 'readv': readv,
    'preadv2': lambda: preadv2(0), 'preadv2 without waiting': lambda: preadv2(os.RWF_NOWAIT),
    'splice': lambda: through_pipe(lambda w: os.splice(fd, w, 100, offset_src=4096)),
    'sendfile': lambda: to_memory(lambda to: os.sendfile(to, fd, 4096, 100)),
    'copy_file_range': copied, 'copy_file_range elsewhere': lambda: to_memory(lambda to: os.copy_file_range(fd, to, 100, 4096, 0)),
    'a shared mapping': lambda: mapped(mmap.MAP_SHARED), 'a private mapping': lambda: mapped(mmap.MAP_PRIVATE),
    'opened again': again, 'readahead': ahead, 'io_uring': ring,
}
def successes(way, times):
    return sum(attempt(WAYS[way]) == GOOD for _ in range(times))
def reading():
    global reads
    while not stopped.is_set(): reads += os.pread(fd, 100, 4096) == GOOD
stopped = threading.Event(); reads = 0
def begin(): threading.Thread(target=reading).start()
def end(): stopped.set(); return reads > 0
";

struct Program {
    child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn new(served: &Bucket, name: &str, caller: &Caller) -> Self {
        let (uid, gid) = (caller.uid.to_string(), caller.gid.to_string());
        let mut child = Command::new("setpriv")
            .args(["--reuid", &uid, "--regid", &gid, "--clear-groups", "--", "python3", "-c"])
            .arg(PROGRAM.replace("WAYS", WAYS))
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
        let served = Bucket::new(writeback_cache);
        served.moody.kms.seem_for_everybody();
        served.moody.make("object", &vec![b'a'; 200_000]);
        let mut ann = Program::new(&served, "object", &ANN);
        let mut bob = Program::new(&served, "object", &BOB);
        assert_eq!(ann.ask("os.pread(fd, 1 << 20, 0) == b'a' * 200_000"), "True");
        served.moody.kms.deny(&ANN);
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
        served.moody.kms.allow_all();
        assert_eq!(ann.ask("until(GOOD, 30)"), "as expected");
        assert_eq!(ann.ask("os.pread(fd, 3, 4094)"), "b'xxa'");
    }
}

/// Attempts of each way, while another user reads the same page without a pause.
const ATTEMPTS: u32 = 300;

#[test]
fn a_user_who_is_denied_gets_nothing_through_an_open_handle_in_any_way() {
    for writeback_cache in [true, false] {
        let served = Bucket::new(writeback_cache);
        served.moody.make("object", &vec![b'a'; 200_000]);
        served.open_to_all();
        let mut ann = Program::new(&served, "object", &ANN);
        let mut bob = Program::new(&served, "object", &BOB);
        let ways = ann.ask("'|'.join(WAYS)");
        let ways: Vec<_> = ways.split('|').collect();
        assert!(ways.len() >= 14, "{ways:?}");
        // Without waiting there is nothing unless it is in the cache, and a file elsewhere may be too far.
        let never = ["preadv2 without waiting", "copy_file_range elsewhere"];
        for way in ways.iter().filter(|way| !never.contains(way)) {
            assert_eq!(ann.ask(&format!("successes('{way}', 3)")), "3", "{way}, {writeback_cache}");
        }
        assert_eq!(bob.ask("begin()"), "None");
        served.moody.kms.deny(&ANN);
        assert_eq!(ann.ask("until('EACCES', 60)"), "as expected");
        // What was in the cache goes within a second.
        assert!(wait_until(|| ann.ask("successes('splice', 10)") == "0"));
        for way in &ways {
            assert_eq!(ann.ask(&format!("successes('{way}', {ATTEMPTS})")), "0", "{way}, {writeback_cache}");
        }
        assert_eq!(bob.ask("end()"), "True", "he has gone on meanwhile");
        served.moody.kms.allow_all();
        assert_eq!(ann.ask("until(GOOD, 60)"), "as expected");
        for way in ways.iter().filter(|way| !never.contains(way)) {
            assert!(wait_until(|| ann.ask(&format!("successes('{way}', 1)")) == "1"), "{way}, {writeback_cache}");
        }
    }
}
