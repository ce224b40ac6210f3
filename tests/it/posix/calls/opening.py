import mmap
import os
import shutil
import subprocess
import time

from harness import CREATE, as_user, case, made, opened, tried


@case
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


@case
def a_dangling_symlink_is_created_through():
    os.symlink("target", "dangling")
    os.close(opened("dangling"))
    return os.path.exists("target")


@case
def o_append_appends_whatever_the_offset():
    a, b = (opened("appended", os.O_WRONLY | os.O_CREAT | os.O_APPEND) for _ in range(2))
    os.write(a, b"aa"), os.write(b, b"bb"), os.pwrite(a, b"cc", 0), os.write(b, b"dd")
    return open("appended", "rb").read()


@case
def o_direct_reads_and_writes():
    fd = opened("direct", CREATE | os.O_DIRECT)
    page = mmap.mmap(-1, 8192)
    page.write(b"a" * 8192)
    return os.pwritev(fd, [page], 0), os.preadv(fd, [page], 4096), os.stat("direct").st_size


@case
def o_direct_and_the_page_cache_see_the_same():
    fd, cached = opened("mixed", CREATE | os.O_DIRECT), opened("mixed")
    page = mmap.mmap(-1, 4096)
    os.pwrite(cached, b"c" * 8192, 0)
    os.preadv(fd, [page], 4096)
    seen = page[:3]
    page[:3] = b"new"
    os.pwritev(fd, [page], 0)
    return seen, os.pread(cached, 4, 0)


@case
def o_path_refers_and_no_more():
    fd = os.open("file", os.O_PATH)
    return tried(
        lambda: os.read(fd, 1),
        lambda: os.fstat(fd).st_size,
        lambda: os.fchmod(fd, 0o600),
        lambda: os.write(os.open(f"/proc/self/fd/{fd}", os.O_RDWR), b"xy"),
        lambda: os.readlink("", dir_fd=os.open("link", os.O_PATH | os.O_NOFOLLOW)),
    )


@case
def o_sync_and_o_dsync_write():
    answer = []
    for flag in (os.O_SYNC, os.O_DSYNC):
        fd = opened("synced", CREATE | flag)
        answer.append(os.write(fd, b"x" * 5000))
    return answer


@case
def o_trunc_works_even_without_writing():
    made("cut", b"content")
    os.close(os.open("cut", os.O_RDONLY | os.O_TRUNC))
    return os.stat("cut").st_size


@case
def o_noatime_is_the_owners():
    os.chmod("file", 0o666)
    return tried(lambda: os.open("file", os.O_NOATIME) > 0) + [as_user(lambda: os.open("file", os.O_NOATIME))]


@case
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


@case
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
