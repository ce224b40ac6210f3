import ctypes
import fcntl
import mmap
import os
import subprocess
import threading

from harness import case, libc, long, made, tried


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


@case
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


@case
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


@case
def entries_tell_their_kind_and_number():
    os.mkfifo("dir/fifo")
    os.symlink("x", "dir/link")
    os.mkdir("dir/sub")
    kinds = sorted((e.name, e.is_symlink(), e.is_dir(follow_symlinks=False), e.is_file()) for e in os.scandir("dir"))
    same = all(e.inode() == os.lstat(e.path).st_ino for e in os.scandir("dir"))
    return kinds, same, os.stat("dir/..").st_ino == os.stat(".").st_ino


@case
def a_directory_is_filled_while_it_is_emptied():
    os.mkdir("busy")
    for n in range(1000):
        made(f"busy/{n}")
    over, failed = threading.Event(), []

    def create():
        n = 0
        while not over.is_set():
            failed.extend(answer for answer in tried(lambda: made(f"busy/new-{n}")) if not isinstance(answer, str))
            n += 1

    creator = threading.Thread(target=create)
    creator.start()
    for _ in range(3):
        for name in os.listdir("busy"):
            os.unlink(f"busy/{name}")
    over.set()
    creator.join()
    left = os.listdir("busy")
    removed = subprocess.run(["rm", "-r", "busy"]).returncode
    return failed, [name for name in left if not name.startswith("new-")], removed, os.path.exists("busy")


@case
def three_remove_one_tree():
    for d in range(20):
        os.makedirs(f"tree/{d}")
        for n in range(30):
            made(f"tree/{d}/{n}")
    removing = [subprocess.Popen(["rm", "-rf", "tree"], stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [line for process in removing for line in process.communicate()[1].splitlines()]
    # Whoever comes second to a directory may find it not empty yet, or gone.
    return os.path.exists("tree"), [line for line in said if "not empty" not in line and "No such" not in line]


@case
def directories_are_read_by_readdir_alone():
    fd = os.open("dir", os.O_RDONLY)
    return tried(
        lambda: os.read(fd, 1),
        lambda: os.pwrite(fd, b"x", 0),
        lambda: os.open("dir", os.O_WRONLY),
        lambda: os.ftruncate(fd, 0),
        lambda: mmap.mmap(fd, 1, mmap.MAP_SHARED, mmap.PROT_READ),
        lambda: os.fdatasync(fd),
        lambda: fcntl.flock(fd, fcntl.LOCK_EX),
    )
