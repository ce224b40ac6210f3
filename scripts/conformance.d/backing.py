"""Checks of a kmsfs mount whatever lies below the store.

usage: backing.py checks|make|verify|fill|again|sync|synced DIRECTORY

Prints a line for each check, `ok NAME` or `FAILED NAME: WHY`; exits with 1 if one failed.
"""
import ctypes
import ctypes.util
import errno
import fcntl
import hashlib
import mmap
import os
import random
import stat
import sys
import time

libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def write(path, content, mode=0o644):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view):]
    finally:
        os.close(fd)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def refused(number, act):
    try:
        act()
    except OSError as error:
        assert error.errno == number, f"{errno.errorcode[error.errno]} instead of {errno.errorcode[number]}"
        return
    raise AssertionError(f"no {errno.errorcode[number]}")


def renameat2(old, new, flags):
    if libc.renameat2(-100, old.encode(), -100, new.encode(), flags):
        raise OSError(ctypes.get_errno(), "renameat2")


@check
def lengths(d):
    for length in (0, 1, 4095, 4096, 4097, 65536, 262143, 262144, 262145, 786433, 3_000_001):
        content = random.Random(length).randbytes(length)
        write(f"{d}/length", content)
        assert os.stat(f"{d}/length").st_size == length and read(f"{d}/length") == content, length


@check
def overwriting_and_appending(d):
    content = bytearray(random.Random(1).randbytes(500_000))
    write(f"{d}/o", content)
    with open(f"{d}/o", "r+b") as file:
        for n in range(50):
            at, piece = n * 9_000, bytes([n]) * 5_000
            file.seek(at)
            file.write(piece)
            content[at:at + 5_000] = piece
    with open(f"{d}/o", "ab") as file:
        file.write(b"end")
    assert read(f"{d}/o") == content + b"end"


@check
def truncating(d):
    write(f"{d}/t", b"x" * 300_000)
    os.truncate(f"{d}/t", 5_000)
    os.truncate(f"{d}/t", 400_000)
    assert read(f"{d}/t") == b"x" * 5_000 + bytes(395_000)


@check
def holes(d):
    fd = os.open(f"{d}/h", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"a" * 4096, 1 << 20)
    assert os.lseek(fd, 0, os.SEEK_DATA) == 1 << 20 and os.lseek(fd, 1 << 20, os.SEEK_HOLE) == (1 << 20) + 4096
    os.close(fd)
    assert read(f"{d}/h") == bytes(1 << 20) + b"a" * 4096


@check
def mappings(d):
    write(f"{d}/m", b"x" * 100_000)
    with open(f"{d}/m", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[50_000:50_005] = b"hello"
        mapped.flush()
    assert read(f"{d}/m")[49_999:50_006] == b"xhellox"


@check
def syncing(d):
    fd = os.open(f"{d}/s", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"synced")
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)
    directory = os.open(d, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


@check
def inode_numbers_last(d):
    write(f"{d}/i", b"1")
    before = os.stat(f"{d}/i").st_ino
    os.rename(f"{d}/i", f"{d}/i2")
    assert os.stat(f"{d}/i2").st_ino == before
    listed = {entry.name: entry.inode() for entry in os.scandir(d)}
    assert listed["i2"] == before


@check
def renaming_over(d):
    write(f"{d}/r1", b"new")
    write(f"{d}/r2", b"old")
    kept = os.open(f"{d}/r2", os.O_RDONLY)
    os.rename(f"{d}/r1", f"{d}/r2")
    assert read(f"{d}/r2") == b"new" and os.read(kept, 9) == b"old" and not os.path.exists(f"{d}/r1")
    os.close(kept)


@check
def renaming_without_replacing(d):
    write(f"{d}/n1", b"1")
    write(f"{d}/n2", b"2")
    refused(errno.EEXIST, lambda: renameat2(f"{d}/n1", f"{d}/n2", 1))
    renameat2(f"{d}/n1", f"{d}/n3", 1)
    assert read(f"{d}/n2") == b"2" and read(f"{d}/n3") == b"1"


@check
def exchanging(d):
    write(f"{d}/x1", b"1")
    write(f"{d}/x2", b"2")
    renameat2(f"{d}/x1", f"{d}/x2", 2)
    assert read(f"{d}/x1") == b"2" and read(f"{d}/x2") == b"1"


@check
def hard_links(d):
    write(f"{d}/l1", b"one")
    os.link(f"{d}/l1", f"{d}/l2")
    a, b = os.stat(f"{d}/l1"), os.stat(f"{d}/l2")
    assert (a.st_ino, a.st_nlink) == (b.st_ino, 2)
    write(f"{d}/l2", b"both")
    assert read(f"{d}/l1") == b"both"
    os.unlink(f"{d}/l1")
    assert read(f"{d}/l2") == b"both" and os.stat(f"{d}/l2").st_nlink == 1


@check
def unlinked_and_open(d):
    fd = os.open(f"{d}/u", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"kept")
    os.unlink(f"{d}/u")
    os.fsync(fd)
    os.pwrite(fd, b"K", 0)
    assert os.pread(fd, 9, 0) == b"Kept" and os.fstat(fd).st_nlink == 0
    os.close(fd)


@check
def spellings(d):
    names = ["name", "Name", "NAME", "\u00e9", "e\u0301", "straße", "strasse"]
    for name in names:
        write(f"{d}/sp-{name}", name.encode())
    for name in names:
        assert read(f"{d}/sp-{name}") == name.encode(), name
    path = os.fsencode(d) + b"/sp-\xff\xfe\n\\"
    write(path, b"bytes")
    assert read(path) == b"bytes"


def name_of(length):
    @check
    def named(d):
        path = f"{d}/" + "n" * length
        write(path, b"name")
        assert read(path) == b"name" and "n" * length in os.listdir(d)
        os.unlink(path)
    named.__name__ = f"name_of_{length}_bytes"


for each in (1, 2, 14, 63, 143, 144, 175, 200, 254, 255):
    name_of(each)


@check
def names_that_are_too_long(d):
    refused(errno.ENAMETOOLONG, lambda: write(f"{d}/" + "n" * 256, b""))


def link_of(length):
    @check
    def linked(d):
        target = "t" * length
        os.symlink(target, f"{d}/link-{length}")
        assert os.readlink(f"{d}/link-{length}") == target and os.lstat(f"{d}/link-{length}").st_size == length
    linked.__name__ = f"symlink_of_{length}_bytes"


for each in (1, 59, 60, 255, 738, 739, 1023, 1024, 2047, 3041, 3042, 3043, 4094, 4095):
    link_of(each)


@check
def modes(d):
    write(f"{d}/mode", b"")
    for mode in (0o600, 0o640, 0o4755, 0o2755, 0o6777, 0):
        os.chmod(f"{d}/mode", mode)
        assert stat.S_IMODE(os.stat(f"{d}/mode").st_mode) == mode, oct(mode)
    os.mkdir(f"{d}/modes")
    os.chmod(f"{d}/modes", 0o3775)
    assert stat.S_IMODE(os.stat(f"{d}/modes").st_mode) == 0o3775


@check
def owners(d):
    write(f"{d}/owner", b"")
    os.chown(f"{d}/owner", 1234, 5678)
    found = os.stat(f"{d}/owner")
    assert (found.st_uid, found.st_gid) == (1234, 5678)


@check
def times(d):
    write(f"{d}/time", b"")
    for nanoseconds in (1_000_000_000_000_000_000, 1, 1_900_000_000_000_000_000):
        whole = nanoseconds // 10**9 * 10**9
        os.utime(f"{d}/time", ns=(whole, whole))
        assert os.stat(f"{d}/time").st_mtime_ns == whole, nanoseconds


@check
def changes_move_the_time(d):
    write(f"{d}/ctime", b"")
    os.utime(f"{d}/ctime", ns=(10**18, 10**18))
    write(f"{d}/ctime", b"changed")
    assert abs(os.stat(f"{d}/ctime").st_mtime - time.time()) < 60


@check
def user_attributes(d):
    write(f"{d}/attribute", b"")
    try:
        os.setxattr(f"{d}/attribute", "user.name", b"value")
    except OSError as error:
        # Not every file system has them, and kmsfs has none to give then.
        assert error.errno == errno.EOPNOTSUPP, error
        return
    assert os.getxattr(f"{d}/attribute", "user.name") == b"value" and os.listxattr(f"{d}/attribute") == ["user.name"]
    os.removexattr(f"{d}/attribute", "user.name")
    assert os.listxattr(f"{d}/attribute") == []


@check
def special_files(d):
    os.mkfifo(f"{d}/fifo")
    os.mknod(f"{d}/device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    assert stat.S_ISFIFO(os.stat(f"{d}/fifo").st_mode)
    found = os.stat(f"{d}/device")
    assert stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(1, 3)


@check
def many_names(d):
    os.mkdir(f"{d}/many")
    for n in range(2_000):
        write(f"{d}/many/name-{n}", b"")
    assert sorted(os.listdir(f"{d}/many")) == sorted(f"name-{n}" for n in range(2_000))
    assert os.stat(f"{d}/many").st_nlink >= 1


@check
def removing_while_listing(d):
    for entry in os.scandir(f"{d}/many"):
        os.unlink(entry.path)
    assert os.listdir(f"{d}/many") == []
    os.rmdir(f"{d}/many")


@check
def deep_directories(d):
    path = d
    for n in range(100):
        path = f"{path}/deep-{n}"
        os.mkdir(path)
    write(f"{path}/file", b"deep")
    os.rename(f"{d}/deep-0", f"{d}/moved")
    assert read(path.replace(f"{d}/deep-0", f"{d}/moved") + "/file") == b"deep"


@check
def directories_that_are_not_empty(d):
    os.mkdir(f"{d}/full")
    write(f"{d}/full/file", b"")
    refused(errno.ENOTEMPTY, lambda: os.rmdir(f"{d}/full"))
    os.unlink(f"{d}/full/file")
    os.rmdir(f"{d}/full")


@check
def exclusive_creation(d):
    write(f"{d}/there", b"")
    refused(errno.EEXIST, lambda: os.open(f"{d}/there", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    refused(errno.ENOENT, lambda: os.open(f"{d}/not-there", os.O_RDONLY))
    refused(errno.ENOTDIR, lambda: os.open(f"{d}/there/below", os.O_RDONLY))


@check
def locks_of_programs(d):
    one, two = (os.open(f"{d}/locked", os.O_RDWR | os.O_CREAT) for _ in range(2))
    fcntl.flock(one, fcntl.LOCK_EX)
    refused(errno.EWOULDBLOCK, lambda: fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB))
    os.close(one)
    fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(two)


@check
def reserving(d):
    fd = os.open(f"{d}/reserved", os.O_RDWR | os.O_CREAT)
    try:
        os.posix_fallocate(fd, 0, 1 << 20)
        assert os.fstat(fd).st_size == 1 << 20
    except OSError as error:
        assert error.errno == errno.EOPNOTSUPP, error
    os.close(fd)


@check
def copying_within(d):
    write(f"{d}/from", random.Random(3).randbytes(300_000))
    source, target = os.open(f"{d}/from", os.O_RDONLY), os.open(f"{d}/to", os.O_WRONLY | os.O_CREAT)
    left = 300_000
    while left:
        left -= os.copy_file_range(source, target, left)
    os.close(source)
    os.close(target)
    assert read(f"{d}/to") == read(f"{d}/from")


@check
def the_space_is_told(d):
    found = os.statvfs(d)
    assert found.f_blocks > 0 and found.f_bavail <= found.f_blocks and found.f_namemax == 255


def tree():
    source = random.Random(42)
    return {f"file-{n}": source.randbytes(source.choice([0, 10, 4096, 70_000, 400_000])) for n in range(40)}


def make(d):
    for name, content in tree().items():
        write(f"{d}/{name}", content)
    os.link(f"{d}/file-0", f"{d}/linked")
    os.symlink("file-1", f"{d}/symbolic")


def verify(d):
    for name, content in tree().items():
        found = read(f"{d}/{name}")
        assert found == content, f"{name}: {hashlib.sha256(found).hexdigest()} of {len(found)} bytes"
    assert os.stat(f"{d}/linked").st_ino == os.stat(f"{d}/file-0").st_ino and os.readlink(f"{d}/symbolic") == "file-1"


def fill(d):
    """Writes until it is told that the disk is full."""
    block, told = random.Random(7).randbytes(1 << 20), False
    for n in range(2_000):
        fd = os.open(f"{d}/fill-{n % 4}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(fd, block)
            os.fsync(fd)
        except OSError as error:
            assert error.errno in (errno.ENOSPC, errno.EDQUOT), error
            told = True
        try:
            os.close(fd)
        except OSError as error:
            assert error.errno in (errno.ENOSPC, errno.EDQUOT), error
        if told:
            return
    raise AssertionError("two GiB were taken by a small disk")


def again(d):
    write(f"{d}/again", b"room" * 100_000)
    assert read(f"{d}/again") == b"room" * 100_000


SYNCED = {f"synced-{n}": bytes([65 + n]) * (n * 30_000 + 1) for n in range(8)}


def sync(d):
    """Written twice, so that the second goes through the log, and synced."""
    for name, content in SYNCED.items():
        for each in (content[::-1] + b"before", content):
            fd = os.open(f"{d}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.write(fd, each)
            os.fsync(fd)
            os.close(fd)


def synced(d):
    for name, content in SYNCED.items():
        assert read(f"{d}/{name}") == content, name


def main():
    what, directory = sys.argv[1:]
    functions = CHECKS if what == "checks" else [globals()[what]]
    failed = 0
    for function in functions:
        try:
            function(directory)
            print("ok", function.__name__)
        except Exception as error:
            failed += 1
            why = errno.errorcode.get(error.errno, error) if isinstance(error, OSError) else error
            print(f"FAILED {function.__name__}: {type(error).__name__} {why}"[:160])
    sys.exit(failed > 0)


main()
