"""File handles of what is below the current directory: `handles.py COMMAND [FILE [NAME...]]`, a command being a function below.
FILE keeps handles by name."""
import ctypes, errno, json, os, random, stat, struct, sys, threading


class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]


libc = ctypes.CDLL(None, use_errno=True)
ROOT = os.open(".", os.O_RDONLY)


def handle_of(path):
    handle, mount = Handle(bytes=128), ctypes.c_int()
    if libc.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount), 0) != 0:
        raise OSError(ctypes.get_errno(), path)
    return bytes(handle).hex()


def opened(text, flags):
    handle = Handle.from_buffer_copy(bytes.fromhex(text))
    fd = libc.open_by_handle_at(ROOT, ctypes.byref(handle), flags | os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "open_by_handle_at")
    return fd


def content(text):
    """What is behind a handle, in words."""
    fd = opened(text, os.O_PATH | os.O_NOFOLLOW)
    try:
        found = os.fstat(fd)
        kind = stat.S_IFMT(found.st_mode)
        words = [oct(found.st_mode), found.st_nlink]
        if kind == stat.S_IFLNK:
            return words + [os.readlink("", dir_fd=fd)]
        if kind not in (stat.S_IFREG, stat.S_IFDIR):
            return words + [found.st_rdev]
    finally:
        os.close(fd)
    fd = opened(text, os.O_RDONLY)
    try:
        if kind == stat.S_IFDIR:
            path = os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), os.getcwd())
            return [oct(found.st_mode), path, sorted(os.listdir(fd)), os.stat("..", dir_fd=fd).st_ino == os.stat(path + "/..").st_ino]
        return words + [os.read(fd, 1 << 20).decode()]
    finally:
        os.close(fd)


def outcome(act, *arguments):
    try:
        return act(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]


def take(file, *names):
    with open(file, "w") as out:
        json.dump({name: handle_of(name) for name in names}, out)


def taken(file, names):
    with open(file) as text:
        handles = json.load(text)
    return {name: handles[name] for name in names or handles}


def show(file, *names):
    """What each opens."""
    for name, handle in taken(file, names).items():
        print(name, json.dumps(outcome(content, handle)))


def write(file, *names):
    """To a file, and in a directory."""
    for name, handle in taken(file, names).items():
        fd = opened(handle, os.O_RDONLY)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            made = os.open("made", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640, dir_fd=fd)
            os.write(made, b"made")
            os.mkdir("below", dir_fd=fd)
            os.rename("made", "below/made", src_dir_fd=fd, dst_dir_fd=fd)
        else:
            written = opened(handle, os.O_WRONLY | os.O_APPEND)
            os.write(written, b"+")
            os.fsync(written)
            os.fchmod(written, 0o604)
            os.setxattr(f"/proc/self/fd/{written}", "user.name", name.encode())


def overwrite(file, name):
    """With what is no configuration."""
    fd = opened(taken(file, [name])[name], os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"no configuration")
    print(outcome(os.fsync, fd))


def exchange(one, other):
    RENAME_EXCHANGE = 2
    assert libc.renameat2(-100, one.encode(), -100, other.encode(), RENAME_EXCHANGE) == 0


def reuse(file):
    """Handles of files, of which 1,160 are removed and 40 stay. Prints how many had a number that another one had had."""
    handles, numbers = {}, []
    make_file = lambda name: os.close(os.open(name, os.O_CREAT))
    for n in range(300):
        for kind, make in enumerate((make_file, os.mkdir, os.mkfifo, lambda name: os.symlink(name, name))):
            name = f"{n}.{kind}"
            make(name)
            handles[name] = handle_of(name)
            numbers.append(os.lstat(name).st_ino)
            if n < 290:
                os.rmdir(name) if make is os.mkdir else os.remove(name)
    with open(file, "w") as out:
        json.dump(handles, out)
    print(len(numbers) - len(set(numbers)))


def move():
    """Files and directories move all the time, and are found by their handles."""
    for directory in range(40):
        os.makedirs(f"{directory}/sub")
        for name in range(40):
            os.close(os.open(f"{directory}/{name}", os.O_CREAT))
    os.mkdir("0/dir")
    names = ("file", "dir/below", "still")
    for name in names:
        with open(f"0/{name}", "w") as made:
            made.write(name)
    handles = {name: handle_of(f"0/{name}") for name in names}
    done = threading.Event()

    def moving():
        at = 0
        while not done.is_set():
            to = random.randrange(40)
            if to != at:
                os.rename(f"{at}/file", f"{to}/file")
                os.rename(f"{at}/dir", f"{to}/dir")
                at = to

    mover = threading.Thread(target=moving)
    mover.start()
    try:
        for _ in range(60):
            with open("/proc/sys/vm/drop_caches", "w") as forget:
                forget.write("2")
            for name, handle in handles.items():
                found = content(handle)
                assert found[-1] == name, (name, found)
    finally:
        done.set()
        mover.join()


def forge(file):
    """From the handle of a file ones of numbers that are nobody's or the root's."""
    raw = bytearray.fromhex(taken(file, ["file"])["file"])
    high, low, own = struct.unpack_from("III", raw, 8)
    for number in (0, 1, 2, 3, (high << 32 | low) + 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 2):
        for generation in (0, own, own ^ 1):
            struct.pack_into("III", raw, 8, number >> 32, number & 0xFFFFFFFF, generation)
            found = outcome(content, raw.hex())
            assert found == "ESTALE" or (number, generation) == (1, 0), (number, generation, found)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
