import ctypes
import fcntl
import mmap
import os
import struct
import time

from harness import CREATE, case, libc, long, opened, raw, tried


def ioctl(number):
    return fcntl.ioctl(os.open("file", os.O_RDWR), number, bytearray(64))


@case
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


@case
def unaligned_direct_writes_work():
    fd = opened("direct", CREATE | os.O_DIRECT)
    return os.pwrite(fd, b"abc", 1), open("direct", "rb").read()


@case
def birth_time_is_not_told():
    answer = ctypes.create_string_buffer(256)
    libc.statx(-100, b"file", 0, 0xFFF, answer)
    return struct.unpack_from("I", answer)[0] & 0x800


@case
def what_is_written_too_far_fails_by_the_time_of_fsync():
    fd = opened("far")
    return tried(lambda: os.pwrite(fd, b"x", 2**50), lambda: os.fsync(fd), lambda: os.ftruncate(fd, 0))


@case
def truncating_to_the_same_length():
    before = os.stat("file").st_mtime_ns
    time.sleep(0.02)
    os.truncate("file", os.stat("file").st_size)
    return os.stat("file").st_mtime_ns > before


@case
def writing_to_a_fifo_moves_no_time():
    os.mkfifo("fifo")
    before = os.stat("fifo").st_mtime_ns
    time.sleep(0.02)
    os.write(os.open("fifo", os.O_RDWR), b"x")
    return os.stat("fifo").st_mtime_ns > before


@case
def what_a_mapping_has_beyond_the_end_shows_when_the_file_grows():
    fd = opened("grown")
    os.pwrite(fd, b"a" * 8192, 0)
    mapping = mmap.mmap(fd, 8192)
    os.ftruncate(fd, 5000)
    mapping[6000] = 65
    os.ftruncate(fd, 8192)
    return os.pread(fd, 1, 6000)
