//! Processes that each mind their own files, all at once: none of them sees that there are others.

use crate::harness::Store;

/// Each writes, renames, unlinks and reads files of its own, and knows what is in them.
const PROGRAM: &str = r"
import os, random, sys, time, traceback
root, processes, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])

def child(number):
    chance, have, own = random.Random(number), {}, f'{root}/{number}'
    os.mkdir(own)
    if number % 3:
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[number % len(os.sched_getaffinity(0))]})
    directory = os.open(own, os.O_RDONLY)
    end, rounds = time.time() + seconds, 0
    while time.time() < end or rounds < 100:
        rounds += 1
        act, name = chance.random(), f'{own}/f{chance.randrange(40)}'
        some = chance.choice(list(have)) if have else None
        if act < .4 or not have:
            content = chance.randbytes(chance.choice([1, 100, 4096, 5000, 70000, 300000]))
            fd = os.open(name, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o644)
            os.write(fd, content)
            if chance.random() < .2: os.fsync(fd)
            if chance.random() < .2:
                assert os.lseek(fd, 0, os.SEEK_DATA) == 0 and os.lseek(fd, 0, os.SEEK_HOLE) == len(content)
            if chance.random() < .2:
                content = content[:len(content) // 2]
                os.ftruncate(fd, len(content))
            os.close(fd)
            have[name] = content
        elif act < .65:
            read = open(some, 'rb').read()
            assert read == have[some], (some, len(read), len(have[some]))
        elif act < .75:
            fd = os.open(some, os.O_RDWR)
            at, more = chance.randrange(len(have[some]) + 1), chance.randbytes(chance.randrange(1, 9000))
            os.pwrite(fd, more, at)
            os.close(fd)
            content = bytearray(have[some])
            content[at:at + len(more)] = more
            have[some] = bytes(content)
        elif act < .87:
            to = f'{own}/g{chance.randrange(40)}'
            os.rename(some, to)
            have[to] = have.pop(some)
        elif act < .9:
            os.setxattr(some, 'user.name', b'value')
            os.utime(some)
            os.chmod(some, 0o600)
        elif act < .93:
            os.fsync(directory)
        elif act < .97:
            os.unlink(some)
            have.pop(some)
        else:
            assert sorted(os.listdir(own)) == sorted(os.path.basename(name) for name in have)
    for name, content in have.items(): assert open(name, 'rb').read() == content

running = []
for number in range(processes):
    pid = os.fork()
    if pid == 0:
        try:
            child(number)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    running.append(pid)
sys.exit(sum(os.waitpid(pid, 0)[1] != 0 for pid in running))
";

#[test]
fn files_that_others_close_meanwhile_are_never_a_bad_file_descriptor() {
    let store = Store::on_tmpfs();
    let mount = store.mount_with("threads=4");
    mount.bucket("bucket");
    std::fs::write(store.path("program.py"), PROGRAM).unwrap();
    store.sh("python3 program.py $MNT/bucket 6 6");
    mount.unmount();
    let log = store.log();
    assert!(!log.contains("Bad file descriptor") && !log.contains("ERROR"), "{log}");
}

/// A program asks where data is in what it has just written, so the daemon has the kernel write it, which a checkpoint
/// that is just running delays.
const SEEKING: &str = r"
import os, signal, sys
root, processes, checkpoints = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def child(number):
    fd = os.open(f'{root}/bucket/{number}', os.O_RDWR | os.O_CREAT, 0o600)
    for at in range(1 << 30):
        os.pwrite(fd, b'y' * 65536, at % 4 * 65536)
        assert os.lseek(fd, 0, os.SEEK_DATA) == 0

running = []
for number in range(processes):
    pid = os.fork()
    if pid == 0:
        try: child(number)
        finally: os._exit(1)
    running.append(pid)
for _ in range(checkpoints): os.setxattr(root, 'user.x-kmsfs-sync', b'1')
for pid in running:
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    os.kill(pid, signal.SIGKILL)
for pid in running: os.waitpid(pid, 0)
";

#[test]
fn checkpoints_and_programs_that_ask_for_data_and_holes_do_not_wait_for_each_other() {
    let store = Store::on_tmpfs();
    let mount = store.mount();
    mount.bucket("bucket");
    std::fs::write(store.path("seeking.py"), SEEKING).unwrap();
    // More of them than the daemon has threads that wait.
    store.sh("timeout 300 python3 seeking.py $MNT 40 30");
    mount.unmount();
}
