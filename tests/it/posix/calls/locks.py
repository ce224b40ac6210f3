import fcntl
import os
import struct
import subprocess
import sys

from harness import case, libc, made, opened, tried


def lock(kind, start=0, length=0):
    return struct.pack("hhqqi", kind, 0, start, length, 0)


@case
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


@case
def locks_end_with_their_process():
    code = "import fcntl, os\nf = os.open('ended', os.O_RDWR | os.O_CREAT)\nfcntl.lockf(f, fcntl.LOCK_EX)\nfcntl.flock(f, fcntl.LOCK_EX)"
    subprocess.run([sys.executable, "-c", code], check=True)
    fd = opened("ended")
    return tried(lambda: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB), lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB))


@case
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


@case
def locks_are_shared_and_raised():
    a, b, reader = opened("locked"), opened("locked"), os.open("locked", os.O_RDONLY)
    now = fcntl.LOCK_NB
    return tried(
        lambda: fcntl.flock(a, fcntl.LOCK_SH),
        lambda: fcntl.flock(b, fcntl.LOCK_SH | now),
        lambda: fcntl.flock(a, fcntl.LOCK_EX | now),
        lambda: fcntl.flock(b, fcntl.LOCK_UN),
        lambda: fcntl.flock(a, fcntl.LOCK_EX | now),
        lambda: fcntl.lockf(reader, fcntl.LOCK_EX | now),
        lambda: fcntl.lockf(reader, fcntl.LOCK_SH | now),
        lambda: subprocess.run("flock -n locked true; echo $?", shell=True, capture_output=True).stdout,
    )


@case
def a_deadlock_is_found():
    program = """
import fcntl, os, sys, time
f, first = os.open('deadlock', os.O_RDWR | os.O_CREAT), int(sys.argv[1])
fcntl.lockf(f, fcntl.LOCK_EX, 1, first)
print('locked', flush=True)
sys.stdin.readline()
try: fcntl.lockf(f, fcntl.LOCK_EX, 1, 1 - first); print('got')
except OSError as e: print(e.errno)
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([sys.executable, "-c", program, str(n)], **pipes) for n in (0, 1)]
    for process in both:
        process.stdout.readline()
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    return sorted(process.communicate()[0] for process in both)


@case
def leases_are_given():
    made("leased")
    fd = os.open("leased", os.O_RDONLY)
    return tried(
        lambda: fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK),
        lambda: fcntl.fcntl(fd, fcntl.F_GETLEASE),
        lambda: fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK),
    )
