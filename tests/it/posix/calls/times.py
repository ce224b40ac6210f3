import mmap
import os
import subprocess
import time

from harness import as_user, case, libc, long, made, opened, raw, rename2, tried


@case
def times_are_kept_to_the_nanosecond():
    answers = []
    times = ((1, 2), (10**18 + 1, 10**18 + 999999999), (-1, -1), (-(10**9) - 5, -5 * 10**8), (4 * 10**18, 4 * 10**18))
    for path in ("file", "dir", "link"):
        for ns in times:
            os.utime(path, ns=ns, follow_symlinks=False)
            status = os.lstat(path)
            answers.append((status.st_atime_ns, status.st_mtime_ns))
    return answers


@case
def utimensat_omits_and_takes_now():
    now, omit = (1 << 30) - 1, (1 << 30) - 2

    def set_times(*four):
        return raw(libc.utimensat, -100, b"file", (long * 4)(*four), 0)

    answers = [set_times(5, 6, 7, 8), set_times(50, 60, 0, omit)]
    answers += [os.stat("file").st_atime_ns, os.stat("file").st_mtime_ns, set_times(0, now, 70, 80)]
    answers += [abs(os.stat("file").st_atime - time.time()) < 5, os.stat("file").st_mtime_ns]
    before = os.stat("file").st_ctime_ns
    answers += [set_times(0, omit, 0, omit), os.stat("file").st_ctime_ns == before, set_times(5, 10**9, 7, 8)]
    os.chmod("file", 0o666)
    answers.append(as_user(lambda: os.utime("file")))
    return answers + [as_user(lambda: os.utime("file", ns=(1, 2)))]


@case
def a_touched_file_is_never_older_than_one_written_before():
    older = 0
    for n in range(300):
        made("written", b"x")
        os.utime("file")
        made("written", b"y")
        os.utime("file")
        older += os.stat("file").st_mtime_ns < os.stat("written").st_mtime_ns
    return older


@case
def what_changes_moves_the_times():
    answers = []

    def change(name, act, path="timed"):
        status, parent = os.stat(path), os.stat(".")
        time.sleep(0.012)
        act()
        after, parent_after = os.stat(path), os.stat(".")
        answers.append((
            name, after.st_ctime_ns > status.st_ctime_ns, after.st_mtime_ns > status.st_mtime_ns,
            parent_after.st_ctime_ns > parent.st_ctime_ns, parent_after.st_mtime_ns > parent.st_mtime_ns,
        ))

    made("timed", b"content")
    fd = opened("timed")
    change("write", lambda: os.pwrite(fd, b"x", 0))
    change("write nothing", lambda: os.pwrite(fd, b"", 0))
    change("truncate", lambda: os.truncate("timed", 100))
    change("chmod", lambda: os.chmod("timed", 0o600))
    change("chown", lambda: os.chown("timed", 1, -1))
    change("chown to nobody else", lambda: os.chown("timed", -1, -1))
    change("link", lambda: os.link("timed", "timed2"))
    change("unlink of another name", lambda: os.unlink("timed2"))
    change("setxattr", lambda: os.setxattr("timed", "user.q", b"1"))
    change("removexattr", lambda: os.removexattr("timed", "user.q"))
    change("rename", lambda: (os.rename("timed", "timed3"), os.rename("timed3", "timed")))
    change("fallocate", lambda: libc.fallocate(fd, 0, long(0), long(1000)))
    change("punch", lambda: libc.fallocate(fd, 3, long(0), long(50)))
    change("read", lambda: os.pread(fd, 10, 0))
    change("append", lambda: open("timed", "a").write("z"))
    change("O_TRUNC", lambda: os.close(os.open("timed", os.O_TRUNC | os.O_RDWR)))
    change("O_TRUNC when empty", lambda: os.close(os.open("timed", os.O_TRUNC | os.O_RDWR)))
    change("copy_file_range", lambda: os.copy_file_range(os.open("file", os.O_RDONLY), fd, 4))
    change("mkdir beside", lambda: os.mkdir("beside"))
    change("create in", lambda: made("beside/x"), "beside")
    change("rename out of", lambda: os.rename("beside/x", "outside"), "beside")
    change("unlink beside", lambda: os.unlink("outside"))
    return answers


@case
def what_else_moves_the_times():
    answers = []

    def change(name, act, *paths):
        before = [os.lstat(path) for path in paths]
        time.sleep(0.012)
        act()
        after = [os.lstat(path) for path in paths]
        answers.append((name, [
            (new.st_ctime_ns > old.st_ctime_ns, new.st_mtime_ns > old.st_mtime_ns) for old, new in zip(before, after)
        ]))

    for name in ("p", "q", "p/d"):
        os.mkdir(name)
    made("p/f", b"1" * 5000)
    made("q/g")
    os.symlink("a", "p/s")
    fd = opened("p/f")
    mapping = mmap.mmap(fd, 1)
    change("exchange", lambda: rename2("p/f", "q/g", 2), "p", "q")
    change("rename of a directory", lambda: os.rename("p/d", "q/d"), "p", "q")
    change("utime", lambda: os.utime("q/g", (1, 1)), "q", "q/g")
    change("utime of a symlink", lambda: os.utime("p/s", (1, 1), follow_symlinks=False), "p", "p/s")
    change("chown of a symlink", lambda: os.lchown("p/s", 3, 3), "p/s")
    change("ACL", lambda: subprocess.run(["setfacl", "-m", "u:5:r", "q/g"]), "q", "q/g")
    change("default ACL", lambda: subprocess.run(["setfacl", "-m", "d:u:5:r", "p"]), "p")
    change("chmod to the same", lambda: os.chmod("q/g", os.stat("q/g").st_mode & 0o7777), "q/g")
    change("rename over", lambda: (made("p/n"), os.rename("p/n", "p/f")), "p")
    change("attribute of a directory", lambda: os.setxattr("q", "user.a", b"1"), "q")
    change("failed unlink", lambda: tried(lambda: os.unlink("q/none")), "q")
    change("failed create", lambda: tried(lambda: os.open("q/g", os.O_CREAT | os.O_EXCL)), "q", "q/g")
    change("mapping", lambda: (mapping.__setitem__(0, 1), mapping.flush()), "q/g")
    change("zeroing", lambda: raw(libc.fallocate, fd, 17, long(0), long(100)), "q/g")
    change("reserving", lambda: raw(libc.fallocate, fd, 1, long(0), long(100000)), "q/g")
    return answers


@case
def a_time_that_was_set_stays_set():
    fd = opened("kept")
    os.write(fd, b"x" * 100000)
    os.utime("kept", ns=(5, 10**18))
    answers = [os.stat("kept").st_mtime_ns]
    os.close(fd)
    answers.append(os.stat("kept").st_mtime_ns)
    fd = os.open("kept", os.O_RDWR)
    os.fsync(fd)
    return answers + [os.fstat(fd).st_mtime_ns]
