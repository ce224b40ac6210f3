"""A file that some read all the time while it is changed, in every way there is: once a change has ended, nobody sees what
was there before. Each case answers how often somebody did."""

import ctypes
import mmap
import os
import platform
import random
import signal
import struct

from harness import CREATE, case, libc, long, opened, raw

PAGE = 4096
PAGES = 16
ROUNDS = 50
# Where only a reader in between makes the difference.
MANY = 600

# io_setup, io_submit, io_getevents; io_uring's are the same everywhere.
AIO = {"x86_64": (206, 209, 208), "aarch64": (0, 2, 4)}[platform.machine()]
RING_SETUP, RING_ENTER = 425, 426


def called(*arguments):
    answer = libc.syscall(*(long(a) if isinstance(a, int) else a for a in arguments))
    if answer < 0:
        raise OSError(ctypes.get_errno(), "a system call failed")
    return answer


class Buffer:
    """Memory for direct I/O."""

    def __init__(self, pages=1):
        self.memory = mmap.mmap(-1, pages * PAGE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))

    def filled(self, content):
        self.memory[:] = content * (len(self.memory) // len(content))
        return self


class Aio:
    def __init__(self, depth=64):
        self.context = ctypes.c_ulong(0)
        called(AIO[0], depth, ctypes.byref(self.context))
        self.events = (ctypes.c_char * (32 * depth))()

    def write(self, fd, *writes):
        """Each is an address, a length and an offset. Submits them together, and waits for all."""
        blocks = [
            ctypes.create_string_buffer(struct.pack("<QIiHhIQQqQII", 0, 0, 0, 1, 0, fd, address, len, at, 0, 0, 0), 64)
            for address, len, at in writes
        ]
        places = (ctypes.c_void_p * len(blocks))(*map(ctypes.addressof, blocks))
        assert called(AIO[1], self.context, len(blocks), places) == len(blocks)
        called(AIO[2], self.context, len(blocks), len(blocks), self.events, None)
        for at, (_, length, _) in enumerate(writes):
            assert struct.unpack_from("<q", self.events, 32 * at + 16)[0] == length


class Ring:
    def __init__(self):
        params = ctypes.create_string_buffer(120)
        self.fd = called(RING_SETUP, 4, params)
        sizes, sq, cq = (struct.unpack_from(f, params, at) for f, at in (("2I", 0), ("7I", 40), ("6I", 80)))
        self.tail, self.mask, self.array, self.cqes = sq[1], sq[2], sq[6], cq[5]
        self.head, self.cmask = cq[0], cq[2]
        length = max(self.array + 4 * sizes[0], self.cqes + 16 * sizes[1])
        self.rings = mmap.mmap(self.fd, length, mmap.MAP_SHARED, offset=0)
        self.entries = mmap.mmap(self.fd, 64 * sizes[0], mmap.MAP_SHARED, offset=0x10000000)

    def at(self, place):
        return struct.unpack_from("I", self.rings, place)[0]

    def write(self, fd, address, length, offset):
        slot = self.at(self.tail) & self.at(self.mask)
        entry = struct.pack("BBHiQQI", 23, 0, 0, fd, offset, address, length)
        self.entries[64 * slot : 64 * slot + 64] = entry.ljust(64, b"\0")
        struct.pack_into("I", self.rings, self.array + 4 * slot, slot)
        struct.pack_into("I", self.rings, self.tail, self.at(self.tail) + 1)
        called(RING_ENTER, self.fd, 1, 1, 1, None, 0)
        head = self.at(self.head)
        assert struct.unpack_from("i", self.rings, self.cqes + 16 * (head & self.at(self.cmask)) + 8)[0] == length
        struct.pack_into("I", self.rings, self.head, head + 1)


def reading(fd):
    while True:
        os.pread(fd, PAGE * PAGES, 0)


def touching(fd):
    mapped = mmap.mmap(fd, PAGE * PAGES, prot=mmap.PROT_READ)
    while True:
        sum(mapped[at] for at in range(0, PAGE * PAGES, PAGE))


def number(n):
    return struct.pack("<I", n)


def stale(change, rounds=ROUNDS, by=(reading, touching)):
    """Fills one page after another with a number that is new: by `change(page, content)`, which may say what the page is
    full of instead. Answers how many of them read(2) or a mapping shows as anything else."""
    fd = opened("shared")
    os.pwrite(fd, bytes(PAGE * PAGES), 0)
    os.fsync(fd)
    children = []
    count = 0
    try:
        for reader in by:
            pid = os.fork()
            if pid == 0:
                try:
                    reader(os.open("shared", os.O_RDONLY))
                finally:
                    os._exit(1)
            children.append(pid)
        mapped = mmap.mmap(fd, PAGE * PAGES, prot=mmap.PROT_READ)
        chosen = random.Random(7)
        for n in range(1, rounds + 1):
            page, content = chosen.randrange(PAGES), number(n)
            at = page * PAGE
            expected = change(page, content) or content
            whole = expected * (PAGE // len(expected))
            count += os.pread(fd, PAGE, at) != whole or mapped[at : at + PAGE] != whole
        for pid in children:
            assert os.waitpid(pid, os.WNOHANG) == (0, 0), "a reader has ended"
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return count


def direct(name="shared"):
    return opened(name, CREATE | os.O_DIRECT)


@case
def after_write():
    fd = opened("shared")
    return stale(lambda page, content: os.pwrite(fd, content * (PAGE // 4), page * PAGE) and None)


@case
def after_a_direct_write():
    fd, buffer = direct(), Buffer()
    return stale(lambda page, content: os.pwritev(fd, [buffer.filled(content).memory], page * PAGE) and None, MANY)


@case
def after_a_direct_write_that_was_submitted():
    fd, buffer, aio = direct(), Buffer(), Aio()
    return stale(lambda page, content: aio.write(fd, (buffer.filled(content).address, PAGE, page * PAGE)), MANY)


@case
def after_as_many_direct_writes_at_once_as_the_kernel_asks_for():
    fd, buffer, aio = direct(), Buffer(), Aio(256)
    return stale(
        lambda page, content: aio.write(fd, *([(buffer.filled(content).address, PAGE, page * PAGE)] * 256)), ROUNDS // 10
    )


@case
def after_a_direct_write_to_all_pages_that_was_submitted():
    fd, buffer, aio = direct(), Buffer(PAGES), Aio()
    return stale(lambda page, content: aio.write(fd, (buffer.filled(content).address, PAGE * PAGES, 0)))


@case
def after_a_direct_write_by_io_uring():
    fd, buffer, ring = direct(), Buffer(), Ring()
    return stale(lambda page, content: ring.write(fd, buffer.filled(content).address, PAGE, page * PAGE), MANY)


@case
def after_a_direct_write_that_was_submitted_and_makes_the_file_longer():
    fd, buffer, aio = direct(), Buffer(), Aio()

    def change(page, content):
        os.ftruncate(fd, page * PAGE)
        aio.write(fd, (buffer.filled(content).address, PAGE, page * PAGE))

    return stale(change, by=(reading, reading))


@case
def after_a_copy():
    source, fd = opened("source"), opened("shared")

    def change(page, content):
        os.pwrite(source, content * (PAGE // 4), 0)
        assert os.copy_file_range(source, fd, PAGE, 0, page * PAGE) == PAGE

    return stale(change)


def emptied(mode):
    fd = opened("shared")

    def change(page, content):
        os.pwrite(fd, content * (PAGE // 4), page * PAGE)
        assert raw(libc.fallocate, fd, mode, long(page * PAGE), long(PAGE)) == 0
        return b"\0"

    return stale(change)


@case
def after_a_hole_was_punched():
    return emptied(3)


@case
def after_a_range_was_zeroed():
    return emptied(16)


@case
def after_the_file_was_cut():
    fd = opened("shared")

    def change(page, content):
        os.pwrite(fd, content * (PAGE // 4), page * PAGE)
        os.ftruncate(fd, page * PAGE)
        os.ftruncate(fd, PAGES * PAGE)
        return b"\0"

    return stale(change, by=(reading, reading))
