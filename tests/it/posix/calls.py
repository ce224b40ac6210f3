"""System calls whose answers are compared between a mount and ext4: each line that is printed is one case.

usage: calls.py DIRECTORY GROUP
"""

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long
long = ctypes.c_long
GROUPS = {}
CREATE = os.O_RDWR | os.O_CREAT
USER = 1234
SECOND = 10**9


def case(group):
    def add(f):
        GROUPS.setdefault(group, []).append(f)
        return f

    return add


def code(number):
    return errno.errorcode.get(number, number)


def tried(*calls):
    """Each call's answer or errno."""
    answers = []
    for call in calls:
        try:
            answers.append(call())
        except OSError as e:
            answers.append(code(e.errno))
    return answers


def opened(path, flags=CREATE, mode=0o644, **where):
    return os.open(path, flags, mode, **where)


def made(path, content=b"", mode=0o644):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    os.write(fd, content)
    os.close(fd)
    return path


def raw(call, *arguments):
    """0 or the errno of a libc call."""
    return code(ctypes.get_errno()) if call(*arguments) else 0


def as_user(f):
    """Answer of a call by an ordinary user, whose one supplementary group is 777."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([777])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
        try:
            answer = repr(f())
        except OSError as e:
            answer = code(e.errno)
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return answer


# ---- open

@case("open")
def what_open_refuses():
    return tried(
        lambda: opened("file", os.O_CREAT | os.O_EXCL),
        lambda: os.open("link", os.O_NOFOLLOW),
        lambda: opened("link", os.O_CREAT | os.O_EXCL),
        lambda: os.open("file", os.O_DIRECTORY),
        lambda: os.open(".", os.O_RDWR),
        lambda: opened("dir"),
        lambda: os.open("file/", os.O_RDONLY),
        lambda: opened("new/"),
        lambda: os.open("missing", os.O_RDWR),
        lambda: os.open("", os.O_RDONLY),
        lambda: os.open("file", 3) and os.read(os.open("file", 3), 1),
    )


@case("open")
def a_dangling_symlink_is_created_through():
    os.symlink("target", "dangling")
    os.close(opened("dangling"))
    return os.path.exists("target")


@case("open")
def o_append_appends_whatever_the_offset():
    a, b = (opened("appended", os.O_WRONLY | os.O_CREAT | os.O_APPEND) for _ in range(2))
    os.write(a, b"aa"), os.write(b, b"bb"), os.pwrite(a, b"cc", 0), os.write(b, b"dd")
    return open("appended", "rb").read()


@case("open")
def o_direct_reads_and_writes():
    fd = opened("direct", CREATE | os.O_DIRECT)
    page = mmap.mmap(-1, 8192)
    page.write(b"a" * 8192)
    return os.pwritev(fd, [page], 0), os.preadv(fd, [page], 4096), os.stat("direct").st_size


@case("open")
def o_direct_and_the_page_cache_see_the_same():
    fd, cached = opened("mixed", CREATE | os.O_DIRECT), opened("mixed")
    page = mmap.mmap(-1, 4096)
    os.pwrite(cached, b"c" * 8192, 0)
    os.preadv(fd, [page], 4096)
    seen = page[:3]
    page[:3] = b"new"
    os.pwritev(fd, [page], 0)
    return seen, os.pread(cached, 4, 0)


@case("open")
def o_path_refers_and_no_more():
    fd = os.open("file", os.O_PATH)
    return tried(
        lambda: os.read(fd, 1),
        lambda: os.fstat(fd).st_size,
        lambda: os.fchmod(fd, 0o600),
        lambda: os.write(os.open(f"/proc/self/fd/{fd}", os.O_RDWR), b"xy"),
        lambda: os.readlink("", dir_fd=os.open("link", os.O_PATH | os.O_NOFOLLOW)),
    )


@case("open")
def o_sync_and_o_dsync_write():
    answer = []
    for flag in (os.O_SYNC, os.O_DSYNC):
        fd = opened("synced", CREATE | flag)
        answer.append(os.write(fd, b"x" * 5000))
    return answer


@case("open")
def o_trunc_works_even_without_writing():
    made("cut", b"content")
    os.close(os.open("cut", os.O_RDONLY | os.O_TRUNC))
    return os.stat("cut").st_size


@case("open")
def o_noatime_is_the_owners():
    os.chmod("file", 0o666)
    return tried(lambda: os.open("file", os.O_NOATIME) > 0) + [as_user(lambda: os.open("file", os.O_NOATIME))]


@case("open")
def preadv2_and_pwritev2_take_flags():
    fd = opened("vectors")
    os.pwrite(fd, b"z" * 10000, 0)
    some = bytearray(100)
    return tried(
        lambda: os.preadv(fd, [some, bytearray(7)], 0),
        lambda: os.preadv(fd, [some], 0, os.RWF_HIPRI),
        lambda: os.pwritev(fd, [some, b"more"], 5, os.RWF_DSYNC),
        lambda: os.pwritev(fd, [some], 5, os.RWF_SYNC),
        lambda: os.pwritev(fd, [some], 5, 0x10),  # RWF_APPEND
        lambda: os.preadv(fd, [some], 0, 0x40000000),
        lambda: os.fstat(fd).st_size,
    )


@case("open")
def programs_are_run_and_not_written_meanwhile():
    made("script", b"#!/bin/sh\necho hi\n", 0o755)
    shutil.copy("/bin/sleep", "sleep")
    running = subprocess.Popen(["./sleep", "2"])
    time.sleep(0.2)
    busy = tried(lambda: os.open("sleep", os.O_WRONLY))
    running.kill()
    running.wait()
    writer = os.open("sleep", os.O_WRONLY)
    return subprocess.run("./script", capture_output=True).stdout, busy, tried(lambda: subprocess.run(["./sleep", "0"])), writer > 0


# ---- content

@case("content")
def lengths_end_where_the_file_system_does():
    fd = opened("long")
    return tried(
        lambda: os.ftruncate(fd, 2**40),
        lambda: os.fstat(fd).st_size,
        lambda: os.ftruncate(fd, 2**43),
        lambda: os.ftruncate(fd, 2**44),
        lambda: os.ftruncate(fd, 2**50),
        lambda: os.ftruncate(fd, 2**63 - 1),
        lambda: os.fstat(fd).st_size,
        lambda: raw(libc.fallocate, fd, 0, long(2**50), long(1)),
        lambda: raw(libc.fallocate, fd, 0, long(2**63 - 10), long(100)),
        lambda: os.pwrite(fd, b"x", 2**43 - 1),
        lambda: os.pread(fd, 2, 2**43 - 1),
        lambda: os.pwrite(fd, b"", 2**50),
        lambda: os.truncate("file", -1),
        lambda: os.truncate("dir", 1),
        lambda: os.ftruncate(os.open("file", os.O_RDONLY), 1),
    )


@case("content")
def fallocate_reserves_zeroes_and_punches():
    fd = opened("allocated")
    os.pwrite(fd, b"y" * 100000, 0)
    answers = []
    ranges = [(0, 0, 200000), (1, 0, 400000), (3, 4096, 8192), (2, 0, 4096), (16, 5000, 5000), (17, 190000, 100000)]
    ranges += [(16, 199000, 5000), (0x40, 0, 4096), (4, 0, 4096), (0, 0, 0), (0, -1, 5), (3, 10**9, 10), (3, 10, 7)]
    for mode, offset, length in ranges:
        answers.append((mode, raw(libc.fallocate, fd, mode, long(offset), long(length)), os.fstat(fd).st_size))
    content = os.pread(fd, 300000, 0)
    answers.append((len(content), content[4096:12288].count(0), content.count(b"y"), content[:20]))
    answers += [raw(libc.fallocate, os.open(name, os.O_RDONLY), 0, long(0), long(10)) for name in ("file", "dir")]
    return answers


def places(fd, *pairs):
    return tried(*(lambda offset=offset, whence=whence: os.lseek(fd, offset, whence) for offset, whence in pairs))


@case("content")
def holes_and_data_are_found_before_anything_is_written_out():
    fd = opened("sparse")
    os.ftruncate(fd, 1 << 20)
    os.pwrite(fd, b"d" * 4096, 512 * 1024)
    data, hole = os.SEEK_DATA, os.SEEK_HOLE
    found = places(
        fd, (0, data), (0, hole), (512 * 1024, hole), (512 * 1024 + 5, data), (512 * 1024 + 4096, data),
        (600 * 1024, hole), (1 << 20, data), (1 << 20, hole), (2 << 20, hole), (-1, data),
    )
    os.pwrite(fd, b"d" * 4096, 4096)
    return found + places(fd, (0, data), (8192, data), (0, os.SEEK_END))


@case("content")
def data_is_found_that_was_written_through_a_mapping():
    fd = opened("mapped")
    os.ftruncate(fd, 2 << 20)
    mapping = mmap.mmap(fd, 2 << 20)
    mapping[900 * 1024] = 1
    return places(fd, (0, os.SEEK_DATA), (900 * 1024, os.SEEK_HOLE))


@case("content")
def data_beyond_the_old_end_is_found():
    fd = opened("grown")
    os.pwrite(fd, b"q" * 10, 100 * 4096)
    return places(fd, (0, os.SEEK_DATA), (100 * 4096, os.SEEK_HOLE), (0, os.SEEK_HOLE), (100 * 4096 + 10, os.SEEK_DATA))


@case("content")
def copy_file_range_copies_what_was_just_written():
    source, target = opened("source"), opened("target")
    os.ftruncate(source, 1 << 20)
    os.pwrite(source, b"m" * 4096, 512 * 1024)
    answers = tried(
        lambda: os.copy_file_range(source, target, 1 << 20, 0, 0),
        lambda: os.fstat(target).st_size,
        lambda: os.fstat(target).st_blocks < 100,
        lambda: os.pread(target, 3, 512 * 1024),
        lambda: os.copy_file_range(source, target, 100, 1 << 20, 0),
        lambda: os.copy_file_range(source, source, 4096, 512 * 1024, 600 * 1024),
        lambda: os.copy_file_range(source, source, 4096, 512 * 1024, 512 * 1024 + 10),
        lambda: os.copy_file_range(source, os.open("target", os.O_WRONLY | os.O_APPEND), 10, 0, 0),
        lambda: os.copy_file_range(source, os.open("target", os.O_RDONLY), 10, 0, 0),
        lambda: os.copy_file_range(source, os.open("dir", os.O_RDONLY), 10, 0, 0),
    )
    os.pwrite(source, b"dirty", 10)
    os.pwrite(target, b"dirty too", 100)
    return answers + tried(lambda: os.copy_file_range(source, target, 20, 8, 0), lambda: os.pread(target, 110, 0))


@case("content")
def mappings_and_calls_see_the_same():
    fd = opened("both")
    os.ftruncate(fd, 10000)
    shared, private = mmap.mmap(fd, 10000), mmap.mmap(fd, 10000, mmap.MAP_PRIVATE)
    shared[5000:5005] = b"hello"
    os.pwrite(fd, b"world", 6000)
    private[0:3] = b"abc"
    answer = [os.pread(fd, 5, 5000), shared[6000:6005], os.pread(fd, 3, 0)]
    shared.flush()
    os.unlink("both")
    shared[1:3] = b"zz"
    return answer + [os.pread(fd, 3, 0)]


@case("content")
def rlimit_fsize_holds():
    os.chmod(".", 0o777)

    def write():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
        fd = opened("limited")
        return tried(
            lambda: os.pwrite(fd, b"x" * 9000, 0),
            lambda: os.pwrite(fd, b"x" * 9000, 9000),
            lambda: os.pwrite(fd, b"x", 10000),
            lambda: os.ftruncate(fd, 20000),
        )

    return as_user(write)


@case("content")
def syncs_and_hints_are_taken():
    fd = opened("synced")
    os.write(fd, b"x" * 10000)
    return tried(
        lambda: os.fsync(fd),
        lambda: os.fdatasync(fd),
        lambda: raw(libc.syncfs, fd),
        lambda: raw(libc.sync_file_range, fd, long(0), long(0), 7),
        lambda: os.fsync(os.open("dir", os.O_RDONLY)),
        lambda: [os.posix_fadvise(fd, 0, 0, advice) for advice in range(6)],
        lambda: raw(libc.readahead, fd, long(0), 4096),
    )


# ---- names

def rename2(source, target, flags):
    return raw(libc.renameat2, -100, source.encode(), -100, target.encode(), flags)


@case("names")
def rename_in_every_combination():
    for name in ("f1", "f2"):
        made(name)
    for name in ("d1", "d2"):
        os.mkdir(name)
    made("d2/x")
    moves = "f1 f2 1;f1 f9 1;f9 f2 2;f9 nope 2;f9 d1 2;d1 d2 2;f9 d2 3;d1 f2 4;d1 d1/x/y 0;d2 d2/sub 0;d1 d2 0;d2 d1 0;"
    moves += ". q 0;d2/. q 0;d2/.. q 0;f2 f2 0;f2 f2 1;f2 f2 2;d2 f2 0;f2 d2 0;missing missing 0;f2 q/ 0;f2 f9 0"
    return [(move, rename2(*move.split()[:2], int(move.split()[2]))) for move in moves.split(";")]


@case("names")
def renaming_one_hard_link_onto_another_does_nothing():
    made("h1")
    os.link("h1", "h2")
    os.rename("h1", "h2")
    return os.path.exists("h1"), os.stat("h2").st_nlink


@case("names")
def links():
    os.link("link", "link2", follow_symlinks=False)
    fd = opened("gone")
    os.unlink("gone")
    by_fd = os.open("file", os.O_PATH)
    return [os.readlink("link2")] + tried(
        lambda: os.link("dir", "dir2"),
        lambda: os.link("file", "link"),
        lambda: os.link(f"/proc/self/fd/{by_fd}", "by-fd", follow_symlinks=True),
        lambda: os.stat("file").st_nlink,
        lambda: os.link(f"/proc/self/fd/{fd}", "again", follow_symlinks=True),
    )


@case("names")
def an_unlinked_file_does_everything():
    fd = opened("unlinked")
    os.write(fd, b"abc")
    os.unlink("unlinked")
    return tried(
        lambda: os.fstat(fd).st_nlink,
        lambda: os.pread(fd, 3, 0),
        lambda: os.ftruncate(fd, 100000),
        lambda: os.fstat(fd).st_size,
        lambda: os.fchmod(fd, 0o600),
        lambda: os.fsync(fd),
        lambda: os.setxattr(fd, "user.a", b"b"),
        lambda: os.listxattr(fd),
        lambda: os.utime(fd, ns=(1, 2)),
        lambda: os.fchown(fd, 5, 6),
        lambda: (os.fstat(fd).st_mtime_ns, os.fstat(fd).st_uid, oct(os.fstat(fd).st_mode)),
        lambda: os.read(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY), 3),
    )


@case("names")
def a_removed_directory_that_is_open_is_empty():
    os.mkdir("removed")
    fd = os.open("removed", os.O_RDONLY)
    os.rmdir("removed")
    return tried(
        lambda: os.fstat(fd).st_nlink,
        lambda: os.listdir(fd),
        lambda: opened("x", dir_fd=fd),
        lambda: os.mkdir("y", dir_fd=fd),
        lambda: os.symlink("a", "y", dir_fd=fd),
        lambda: os.link("file", "y", dst_dir_fd=fd),
        lambda: os.rename("file", "y", dst_dir_fd=fd),
        lambda: os.fsync(fd),
        lambda: os.fchmod(fd, 0o700),
        lambda: os.utime(fd, ns=(1, 1)),
        lambda: oct(os.fstat(fd).st_mode),
    )


@case("names")
def what_rmdir_and_unlink_refuse():
    os.makedirs("full/sub")
    return tried(
        lambda: os.rmdir("full"),
        lambda: os.rmdir("full/."),
        lambda: os.rmdir("full/sub/.."),
        lambda: os.unlink("full"),
        lambda: os.unlink("file/"),
        lambda: os.rmdir("file"),
        lambda: os.rmdir("missing"),
        lambda: os.rename("full", "full/sub/x"),
    )


@case("names")
def directories_count_their_links():
    os.makedirs("counted/a")
    os.mkdir("counted/b")
    os.rename("counted/b", "moved")
    return os.stat("counted").st_nlink, os.stat("moved").st_nlink


@case("names")
def symlinks_have_up_to_4095_bytes():
    return tried(
        lambda: os.symlink("s" * 4095, "longest"),
        lambda: (len(os.readlink("longest")), os.lstat("longest").st_size),
        lambda: os.symlink("s" * 4096, "too-long"),
        lambda: os.symlink("", "empty"),
        lambda: os.readlink("file"),
    )


@case("names")
def nodes_of_every_kind():
    answers = []
    kinds = (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, 0)
    for kind in kinds:
        name = f"node-{kind:o}"
        answers += tried(
            lambda: os.mknod(name, kind | 0o640, os.makedev(1, 3)),
            lambda: (oct(os.lstat(name).st_mode), os.lstat(name).st_rdev),
        )
    os.mknod("large", stat.S_IFCHR | 0o640, os.makedev(4000, 1000000))
    answers.append(os.lstat("large").st_rdev == os.makedev(4000, 1000000))
    answers.append(os.read(os.open(f"node-{stat.S_IFCHR:o}", os.O_RDONLY), 1))
    return answers


@case("names")
def fifos_and_sockets_connect():
    os.mkfifo("fifo")
    writer = threading.Thread(target=lambda: open("fifo", "w").write("hi"))
    writer.start()
    heard = open("fifo").read()
    writer.join()
    server, client = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    server.bind("socket")
    server.listen()
    client.connect("socket")
    return heard, stat.S_ISSOCK(os.stat("socket").st_mode)


@case("names")
def names_have_up_to_255_bytes_of_any_kind():
    long_name = "n" * 256
    return tried(
        lambda: made("n" * 255),
        lambda: made(bytes(range(1, 47))),
        lambda: made(bytes(range(48, 256))),
        lambda: sorted(name for name in os.listdir(b".") if len(name) > 40),
        lambda: made(long_name),
        lambda: os.mkdir(long_name),
        lambda: os.stat(long_name),
        lambda: os.rename("file", long_name),
        lambda: os.symlink("file", long_name),
        lambda: os.link("file", long_name),
        lambda: os.mkfifo(long_name),
        lambda: os.unlink(long_name),
    )


@case("names")
def trees_deeper_than_any_path():
    fd = os.open(".", os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=fd)
        fd = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
    os.write(opened("leaf", dir_fd=fd), b"deep")
    size = os.stat("leaf", dir_fd=fd).st_size
    found = subprocess.run("find . -name leaf | wc -l; rm -r dddd*", shell=True, capture_output=True, text=True)
    return size, found.stdout, found.returncode


# ---- directories

class Reader:
    def __init__(self, path):
        self.dir = ctypes.c_void_p(libc.opendir(path.encode()))

    def next(self):
        entry = libc.readdir(self.dir)
        return ctypes.string_at(entry + 19) if entry else None

    def rest(self):
        return list(iter(self.next, None))

    def tell(self):
        return libc.telldir(self.dir)

    def seek(self, position):
        libc.seekdir(self.dir, long(position))


@case("directories")
def positions_stay_right_while_entries_go_and_come():
    os.mkdir("many")
    for n in range(500):
        made(f"many/{n}")
    reader = Reader("many")
    names, positions = [], []
    while True:
        position, name = reader.tell(), reader.next()
        if name is None:
            break
        names.append(name)
        positions.append(position)
    found = []
    for n in (0, 1, 2, 3, 250, 501, 100):
        reader.seek(positions[n])
        found.append(reader.next() == names[n])
    for n in range(0, 500, 2):
        os.unlink(f"many/{n}")
    for n in range(1000, 1200):
        made(f"many/{n}")
    reader.seek(positions[250])
    rest = reader.rest()
    stayed = [name for name in names[250:] if name in (b".", b"..") or int(name) % 2]
    once = len(rest) == len(set(rest)) and set(stayed) <= set(rest)
    libc.rewinddir(reader.dir)
    return len(names), found, once, len(reader.rest())


@case("directories")
def a_directory_is_emptied_while_it_is_read():
    os.mkdir("emptied")
    for n in range(3000):
        made(f"emptied/{n}")
    reader = Reader("emptied")
    count = 0
    while (name := reader.next()) is not None:
        if name not in (b".", b".."):
            os.unlink(b"emptied/" + name)
            count += 1
    return count, os.rmdir("emptied")


@case("directories")
def entries_tell_their_kind_and_number():
    os.mkfifo("dir/fifo")
    os.symlink("x", "dir/link")
    os.mkdir("dir/sub")
    kinds = sorted((e.name, e.is_symlink(), e.is_dir(follow_symlinks=False), e.is_file()) for e in os.scandir("dir"))
    same = all(e.inode() == os.lstat(e.path).st_ino for e in os.scandir("dir"))
    return kinds, same, os.stat("dir/..").st_ino == os.stat(".").st_ino


# ---- owners and permissions

def set_id(mode, act):
    """What is left of a mode after a user's file was changed."""
    made("set-id", b"x" * 10)
    os.chown("set-id", USER, USER)
    os.chmod("set-id", mode)
    act()
    return oct(os.stat("set-id").st_mode & 0o7777)


def append():
    fd = os.open("set-id", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"y")
    os.close(fd)


def through_a_mapping():
    fd = os.open("set-id", os.O_RDWR)
    mapping = mmap.mmap(fd, 10)
    mapping[0] = 1
    mapping.flush()


def copied():
    fd = os.open("set-id", os.O_RDWR)
    os.copy_file_range(fd, fd, 4, 0, 20)


@case("owners")
def set_id_bits_go_where_they_have_to():
    acts = {
        "write": append,
        "truncate": lambda: os.truncate("set-id", 5),
        "O_TRUNC": lambda: os.close(os.open("set-id", os.O_WRONLY | os.O_TRUNC)),
        "chown": lambda: os.chown("set-id", USER, 777),
        "chown to nobody else": lambda: os.chown("set-id", -1, -1),
        "mmap": through_a_mapping,
        "fallocate": lambda: libc.fallocate(os.open("set-id", os.O_RDWR), 0, long(0), long(100)),
        "copy_file_range": copied,
    }
    answers = []
    for mode in (0o6755, 0o6766, 0o2664, 0o2777):
        for name, act in acts.items():
            answers.append((name, oct(mode), set_id(mode, lambda: as_user(act)), set_id(mode, act)))
    answers.append(set_id(0o755, lambda: (os.chown("set-id", USER, 4321), as_user(lambda: os.chmod("set-id", 0o2755)))))
    return answers


@case("owners")
def file_capabilities_go_with_every_change_of_content():
    capability = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service, effective

    def left(act):
        made("capable", b"x" * 10000, 0o755)
        os.setxattr("capable", "security.capability", capability)
        act()
        return tried(lambda: os.getxattr("capable", "security.capability") == capability)

    return [
        left(lambda: os.close(os.open("capable", os.O_RDWR))),
        left(lambda: os.pwrite(os.open("capable", os.O_RDWR), b"y", 5000)),
        left(lambda: os.truncate("capable", 5)),
        left(lambda: os.truncate("capable", 50000)),
        left(lambda: os.close(os.open("capable", os.O_RDWR | os.O_TRUNC))),
        left(lambda: os.chown("capable", 5, 5)),
        left(lambda: os.chmod("capable", 0o700)),
        left(lambda: libc.fallocate(os.open("capable", os.O_RDWR), 3, long(0), long(5000))),
        left(lambda: os.copy_file_range(os.open("file", os.O_RDONLY), os.open("capable", os.O_RDWR), 4)),
        left(lambda: os.utime("capable")),
        left(lambda: os.rename("capable", "capable2") or os.rename("capable2", "capable")),
    ]


@case("owners")
def set_gid_directories_hand_on_their_group():
    os.mkdir("shared")

    def make(number):
        os.close(opened(f"shared/f{number}", CREATE, 0o2755))
        os.mknod(f"shared/n{number}", stat.S_IFREG | 0o2755)
        os.mkdir(f"shared/d{number}")
        os.mkfifo(f"shared/p{number}")
        os.symlink("x", f"shared/l{number}")
        names = [f"shared/{kind}{number}" for kind in "fndpl"]
        return [(oct(os.lstat(name).st_mode), os.lstat(name).st_uid, os.lstat(name).st_gid) for name in names]

    answers = []
    for group in (777, 888):
        os.chown("shared", 0, group)
        os.chmod("shared", 0o2777)
        answers.append(as_user(lambda: make(group)))
    return answers


@case("owners")
def supplementary_groups_count():
    made("group-file", mode=0o640)
    os.chown("group-file", 0, 777)
    os.chmod("group-file", 0o640)
    os.mkdir("group-dir")
    os.chown("group-dir", 0, 777)
    os.chmod("group-dir", 0o770)
    return [
        as_user(lambda: os.open("group-file", os.O_RDONLY) > 0),
        as_user(lambda: os.open("group-file", os.O_WRONLY)),
        as_user(lambda: opened("group-dir/x") > 0),
        os.stat("group-dir/x").st_uid,
        as_user(lambda: os.chown("group-dir/x", -1, 777)),
        as_user(lambda: os.chown("group-dir/x", -1, 999)),
        as_user(lambda: os.chown("group-dir/x", 5, -1)),
        [as_user(lambda: os.access("group-file", how)) for how in (os.R_OK, os.W_OK, os.X_OK)],
    ]


@case("owners")
def sticky_directories_protect_what_is_in_them():
    os.mkdir("sticky")
    os.chmod("sticky", 0o1777)
    made("sticky/theirs")
    os.chown("sticky/theirs", 55, 55)
    os.mkdir("sticky/dir")

    def own():
        os.close(opened("sticky/mine"))
        os.unlink("sticky/mine")

    return [
        as_user(lambda: os.unlink("sticky/theirs")),
        as_user(lambda: os.rename("sticky/theirs", "sticky/other")),
        as_user(lambda: os.rmdir("sticky/dir")),
        as_user(lambda: rename2("sticky/theirs", "sticky/dir", 2)),
        as_user(own),
    ]


@case("owners")
def acls_are_enforced_and_inherited():
    def acl(path):
        return subprocess.run(["getfacl", "-cn", path], capture_output=True, text=True).stdout.split()

    def set_acl(*arguments):
        subprocess.run(["setfacl", *arguments], check=True)

    os.mkdir("acl")
    set_acl("-m", "d:u:1234:rwx,d:g:777:r,d:o::-", "acl")
    os.close(opened("acl/file", mode=0o666))
    os.mkdir("acl/dir")
    os.mkfifo("acl/fifo")
    os.mkdir("acl/dir/below")
    answers = [acl(f"acl/{name}") for name in ("file", "dir", "fifo", "dir/below")]
    os.umask(0o077)
    os.close(opened("acl/masked", mode=0o666))
    os.close(opened("masked", mode=0o666))
    os.umask(0o022)
    answers += [acl("acl/masked"), oct(os.stat("masked").st_mode), oct(os.stat("acl/file").st_mode)]
    made("private")
    os.chmod("private", 0o600)
    answers.append(as_user(lambda: os.open("private", os.O_RDONLY)))
    set_acl("-m", "u:1234:r", "private")
    answers += [as_user(lambda: os.open("private", os.O_RDONLY) > 0), as_user(lambda: os.open("private", os.O_RDWR))]
    os.chmod("private", 0o700)
    answers.append(acl("private"))
    set_acl("-b", "private")
    answers += [acl("private"), as_user(lambda: os.open("private", os.O_RDONLY))]
    return answers + [sorted(os.listxattr("acl/file")), sorted(os.listxattr("acl"))]


@case("owners")
def extended_attributes_of_every_namespace():
    answers = []
    os.mkfifo("fifo")
    for path in ("file", "dir", "link", "fifo"):
        for name in ("user.a", "trusted.a", "security.a", "system.a", "foo.a", "user."):
            answers += tried(
                lambda: os.setxattr(path, name, b"v", follow_symlinks=False),
                lambda: os.getxattr(path, name, follow_symlinks=False),
            )
        answers.append(sorted(os.listxattr(path, follow_symlinks=False)))
    return answers + tried(
        lambda: os.setxattr("file", "user.a", b"w", os.XATTR_CREATE),
        lambda: os.setxattr("file", "user.b", b"w", os.XATTR_REPLACE),
        lambda: os.removexattr("file", "user.b"),
        lambda: os.getxattr("file", "user.b"),
        lambda: os.setxattr("file", "user." + "n" * 250, b"v"),
        lambda: os.setxattr("file", "user." + "n" * 251, b"v"),
        lambda: os.setxattr("file", "user.large", b"v" * 2000),
        lambda: os.setxattr("file", "user.large", b"v" * 65536),
        lambda: os.setxattr("file", "user.large", b"v" * 65537),
        lambda: os.setxattr("file", "user.empty", b""),
        lambda: os.getxattr("file", "user.empty"),
        lambda: os.getxattr("file", "user.large") == b"v" * 2000,
    ) + [as_user(lambda: os.setxattr("file", "trusted.b", b"v")), as_user(lambda: sorted(os.listxattr("file")))]


# ---- locks

def lock(kind, start=0, length=0):
    return struct.pack("hhqqi", kind, 0, start, length, 0)


@case("locks")
def flock_and_fcntl_exclude_each_their_own():
    a, b = opened("locked"), opened("locked")
    fcntl.flock(a, fcntl.LOCK_EX)
    answers = tried(lambda: fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB), lambda: fcntl.flock(a, fcntl.LOCK_UN))
    fcntl.lockf(a, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
    other = "import fcntl, os, errno\nf = os.open('locked', os.O_RDWR)\n"
    other += "for n, at in ((10, 5), (5, 100)):\n try: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, n, at); print('got')\n"
    other += " except OSError as e: print(errno.errorcode[e.errno])"
    answers.append(subprocess.run([sys.executable, "-c", other], capture_output=True, text=True).stdout)
    c, d = opened("owned"), opened("owned")
    set_ofd = 37
    return answers + tried(
        lambda: fcntl.fcntl(c, set_ofd, lock(fcntl.F_WRLCK)) and None,
        lambda: fcntl.fcntl(d, set_ofd, lock(fcntl.F_WRLCK)),
        lambda: fcntl.fcntl(c, set_ofd, lock(fcntl.F_UNLCK)) and None,
        lambda: fcntl.fcntl(d, set_ofd, lock(fcntl.F_WRLCK)) and None,
    )


@case("locks")
def locks_end_with_their_process():
    code = "import fcntl, os\nf = os.open('ended', os.O_RDWR | os.O_CREAT)\nfcntl.lockf(f, fcntl.LOCK_EX)\nfcntl.flock(f, fcntl.LOCK_EX)"
    subprocess.run([sys.executable, "-c", code], check=True)
    fd = opened("ended")
    return tried(lambda: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB), lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB))


@case("locks")
def inotify_hears_of_everything():
    fd = libc.inotify_init()
    libc.inotify_add_watch(fd, b".", 0xFFF)
    made("watched", b"x")
    os.rename("watched", "renamed")
    os.unlink("renamed")
    heard, masks = os.read(fd, 8192), []
    while heard:
        _, mask, _, length = struct.unpack_from("iIII", heard)
        masks.append(mask)
        heard = heard[16 + length:]
    return [hex(mask) for mask in masks]


# ---- times

@case("times")
def times_are_kept_to_the_nanosecond():
    answers = []
    times = ((1, 2), (10**18 + 1, 10**18 + 999999999), (-1, -1), (-(10**9) - 5, -5 * 10**8), (4 * 10**18, 4 * 10**18))
    for path in ("file", "dir", "link"):
        for ns in times:
            os.utime(path, ns=ns, follow_symlinks=False)
            status = os.lstat(path)
            answers.append((status.st_atime_ns, status.st_mtime_ns))
    return answers


@case("times")
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


@case("times")
def a_touched_file_is_never_older_than_one_written_before():
    older = 0
    for n in range(300):
        made("written", b"x")
        os.utime("file")
        made("written", b"y")
        os.utime("file")
        older += os.stat("file").st_mtime_ns < os.stat("written").st_mtime_ns
    return older


@case("times")
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


# ---- the file system

@case("system")
def statvfs_tells_of_the_file_system():
    v = os.statvfs(".")
    return v.f_namemax, v.f_bsize, v.f_frsize, v.f_bavail > 0, v.f_files > 0, os.stat("file").st_blksize


@case("system")
def sizes_and_blocks_agree():
    made("blocks", b"x" * 1000000)
    fd = opened("blocks")
    os.fsync(fd)
    status = os.stat("blocks")
    return status.st_size, status.st_blocks * 512 >= status.st_size


# ---- what docs/SEMANTICS.md lists as different

def ioctl(number):
    return fcntl.ioctl(os.open("file", os.O_RDWR), number, bytearray(64))


@case("differences")
def not_provided():
    fd = opened("some")
    os.pwrite(fd, b"z" * 10000, 0)
    return tried(
        lambda: os.open(".", os.O_TMPFILE | os.O_RDWR),
        lambda: os.preadv(fd, [bytearray(9)], 0, os.RWF_NOWAIT),
        lambda: raw(libc.fallocate, fd, 8, long(0), long(4096)),
        lambda: raw(libc.fallocate, fd, 0x20, long(0), long(4096)),
        lambda: ioctl(0x80086601),  # FS_IOC_GETFLAGS
        lambda: ioctl(0xC020660B),  # FS_IOC_FIEMAP
    )


@case("differences")
def unaligned_direct_writes_work():
    fd = opened("direct", CREATE | os.O_DIRECT)
    return os.pwrite(fd, b"abc", 1), open("direct", "rb").read()


@case("differences")
def birth_time_is_not_told():
    answer = ctypes.create_string_buffer(256)
    libc.statx(-100, b"file", 0, 0xFFF, answer)
    return struct.unpack_from("I", answer)[0] & 0x800


@case("differences")
def what_is_written_too_far_fails_by_the_time_of_fsync():
    fd = opened("far")
    return tried(lambda: os.pwrite(fd, b"x", 2**50), lambda: os.fsync(fd), lambda: os.ftruncate(fd, 0))


@case("differences")
def truncating_to_the_same_length():
    before = os.stat("file").st_mtime_ns
    time.sleep(0.02)
    os.truncate("file", os.stat("file").st_size)
    return os.stat("file").st_mtime_ns > before


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    os.umask(0o022)
    for function in GROUPS[sys.argv[2]]:
        name = function.__name__
        os.mkdir(name)
        os.chdir(name)
        made("file", b"some content")
        os.symlink("file", "link")
        os.mkdir("dir")
        try:
            answer = function()
        except Exception as e:  # as an answer, to be compared
            answer = repr(e)
        os.chdir("..")
        print(f"{name}: {answer}", flush=True)
