"""Set-id bits and file capabilities: every way to make a file and every way to change one, by everybody, in every mode."""

import mmap
import os
import socket
import stat

from harness import USER, case, code, libc, long, made, raw

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service, effective
KEEP, PUNCH, ZERO = 1, 3, 16

# Who: uid, gid, supplementary groups; the file's owner and group. Group 777 is the file's own or the directory's.
CALLERS = {
    "owner in the group": ((USER, USER, [777]), (USER, 777)),
    "owner outside the group": ((USER, USER, []), (USER, 777)),
    "somebody else in the group": ((USER, USER, [777]), (55, 777)),
    "somebody else": ((USER, USER, []), (55, 777)),
    "root": ((0, 0, []), (55, 777)),
}
# Everybody may write, so that it is content that is judged and not access. True: with a capability.
MODES = [(0o6777, False), (0o2757, False), (0o2747, False), (0o4757, False), (0o757, True), (0o6777, True)]


def run(who, act):
    """What `act` answers to that caller, in a process of its own."""
    uid, gid, groups = who
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        with os.fdopen(writer, "w") as pipe:
            pipe.write(repr(act()))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return answer


def tried(act, name):
    try:
        act(name)
        return 0
    except OSError as e:
        return code(e.errno)


def opened(name, flags=os.O_RDWR):
    return os.open(name, flags)


def closing(act, flags=os.O_RDWR):
    def opens_and_closes(name):
        fd = opened(name, flags)
        try:
            act(fd)
        finally:
            os.close(fd)

    return opens_and_closes


def direct(fd):
    with mmap.mmap(-1, 4096) as page:
        os.pwritev(fd, [page], 0)


def mapped(fd):
    with mmap.mmap(fd, 10) as mapping:
        mapping[0] = 1
        mapping.flush()


def allocated(mode, offset=0, length=100):
    def fallocate(fd):
        answer = raw(libc.fallocate, fd, mode, long(offset), long(length))
        if answer:
            raise OSError(0, answer)

    return closing(fallocate)


def spliced(fd):
    reader, writer = os.pipe()
    os.write(writer, b"spliced")
    os.splice(reader, fd, 7)


def sent(fd):
    source = opened("source", os.O_RDONLY)
    os.sendfile(fd, source, 0, 5)


def unchanged(name):
    try:
        os.chown(name, -1, -1)
    except PermissionError:
        pass  # ext4 refuses this, where somebody else asks for nothing.


CHANGES = {
    "nothing": closing(lambda fd: None),
    "write": closing(lambda fd: os.write(fd, b"x")),
    "write nothing": closing(lambda fd: os.write(fd, b"")),
    "append": closing(lambda fd: os.write(fd, b"x"), os.O_WRONLY | os.O_APPEND),
    "pwritev": closing(lambda fd: os.pwritev(fd, [b"x", b"y"], 5)),
    "O_SYNC": closing(lambda fd: os.write(fd, b"x"), os.O_RDWR | os.O_SYNC),
    "O_DIRECT": closing(direct, os.O_RDWR | os.O_DIRECT),
    "mapping": closing(mapped),
    "splice": closing(spliced),
    "sendfile": closing(sent),
    "copy_file_range": closing(lambda fd: os.copy_file_range(opened("source", os.O_RDONLY), fd, 4)),
    "copy_file_range of nothing": closing(lambda fd: os.copy_file_range(opened("source", os.O_RDONLY), fd, 4, 9999)),
    "truncate": lambda name: os.truncate(name, 5),
    "truncate to longer": lambda name: os.truncate(name, 50000),
    "truncate to the same": lambda name: os.truncate(name, 10000),
    "ftruncate": closing(lambda fd: os.ftruncate(fd, 5)),
    "O_TRUNC": lambda name: os.close(opened(name, os.O_WRONLY | os.O_TRUNC)),
    "O_TRUNC for reading": lambda name: os.close(opened(name, os.O_RDONLY | os.O_TRUNC)),
    "O_TRUNC and O_CREAT": lambda name: os.close(os.open(name, os.O_WRONLY | os.O_TRUNC | os.O_CREAT, 0o6777)),
    "fallocate": allocated(0),
    "fallocate to longer": allocated(0, 9000, 9000),
    "fallocate, same length": allocated(KEEP),
    "punch": allocated(PUNCH),
    "punch of whole blocks": allocated(PUNCH, 4096, 4096),
    "zero": allocated(ZERO),
    "zero to longer": allocated(ZERO, 9000, 9000),
    "zero, same length": allocated(ZERO | KEEP),
    "an attribute": lambda name: os.setxattr(name, "user.a", b"x"),
    "times": os.utime,
    "times given": lambda name: os.utime(name, (1, 1)),
    "chown to the same": unchanged,
    "chown to the group": lambda name: os.chown(name, -1, 777),
    "chmod": lambda name: os.chmod(name, 0o6777),
    "link": lambda name: os.link(name, name + ".link"),
    "rename": lambda name: os.rename(name, name + ".moved") or os.rename(name + ".moved", name),
}


def capability(name):
    try:
        return os.getxattr(name, "security.capability") == CAPABILITY
    except OSError as e:
        return code(e.errno)


@case
def changing_content_takes_rights_away():
    made("source", b"content of the source")
    os.chmod(".", 0o777)
    answers = []
    for caller, (who, owner) in CALLERS.items():
        # Of a file that has both, root's write takes set-id bits along with the capability: docs/SEMANTICS.md.
        modes = MODES[:-1] if caller == "root" else MODES
        names = [(f"{way}, {mode:o}, {capable}", way, mode, capable) for way in CHANGES for mode, capable in modes]
        if caller.startswith("somebody else"):
            # On ext4 this takes a stranger's capability away, as long as there are no set-id bits.
            names = [name for name in names if name[1:] != ("chown to the same", 0o757, True)]
        for name, _, mode, capable in names:
            made(name, b"x" * 10000)
            os.chown(name, *owner)
            os.chmod(name, mode)
            if capable:
                os.setxattr(name, "security.capability", CAPABILITY)
        errors = run(who, lambda: [tried(CHANGES[way], name) for name, way, _, _ in names])
        answers.append((caller, errors))
        for name, _, _, capable in names:
            left = oct(os.stat(name).st_mode & 0o7777)
            answers.append((caller, name, left, capability(name) if capable else None))
            os.unlink(name)
            if os.path.exists(name + ".link"):
                os.unlink(name + ".link")
    return answers


# The kernel asks for no attributes in between: it executes by what it knows.
@case
def what_somebody_else_wrote_runs_with_nobody_elses_rights():
    def overwrite(name):
        with open("/proc/self/exe", "rb") as program:
            content = program.read()
        fd = opened(name, os.O_WRONLY)
        os.write(fd, content)
        os.close(fd)

    def truncate(name):
        with open("/proc/self/exe", "rb") as program:
            content = program.read()
        fd = opened(name, os.O_WRONLY | os.O_TRUNC)
        os.write(fd, content)
        os.close(fd)

    def direct_and_by_pieces(name):
        with open("/proc/self/exe", "rb") as program, mmap.mmap(-1, 1 << 20) as pages:
            fd = opened(name, os.O_RDWR | os.O_DIRECT)
            while length := program.readinto(pages):
                os.writev(fd, [memoryview(pages)[: (length + 4095) // 4096 * 4096]])
            os.close(fd)

    def runs(act, name):
        def result():
            act(name)
            reader, writer = os.pipe()
            os.set_inheritable(writer, True)
            if os.fork() == 0:
                script = f"import os; os.write({writer}, repr((os.geteuid(), os.getegid())).encode())"
                os.execv(name, [name, "-Ic", script])
            os.close(writer)
            with os.fdopen(reader) as pipe:
                return pipe.read()

        return result

    answers = []
    for act in (overwrite, truncate, direct_and_by_pieces):
        for caller, (who, owner) in CALLERS.items():
            name = made(f"program of {caller}, {act.__name__}", b"x")
            os.chown(name, *owner)
            os.chmod(name, 0o6777)
            answers.append((act.__name__, caller, run(who, runs(act, "./" + name))))
    return answers


def bound(name):
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(name)


WAYS = {
    "open": lambda name, mode: os.close(os.open(name, os.O_WRONLY | os.O_CREAT, mode)),
    "O_EXCL": lambda name, mode: os.close(os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)),
    "O_TRUNC": lambda name, mode: os.close(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode)),
    "mknod": lambda name, mode: os.mknod(name, stat.S_IFREG | mode),
    "FIFO": lambda name, mode: os.mkfifo(name, mode),
    "socket": lambda name, mode: bound(name),
    "directory": lambda name, mode: os.mkdir(name, mode),
    "symlink": lambda name, mode: os.symlink("x", name),
}


@case
def making_files_gives_no_rights_that_the_maker_has_not():
    answers = []
    for directory_mode in (0o2777, 0o777):
        for umask in (0, 0o022):
            for caller, (who, _) in CALLERS.items():
                directory = f"{directory_mode:o} {umask:o} {caller}"
                os.mkdir(directory)
                os.chown(directory, 55, 777)
                os.chmod(directory, directory_mode)
                names = [(f"{directory}/{way} {mode:o}", way, mode) for way in WAYS for mode in (0o6777, 0o2755, 0o2745, 0o4755)]

                def make():
                    os.umask(umask)
                    return [tried(lambda name: WAYS[way](name, mode), name) for name, way, mode in names]

                answers.append(run(who, make))
                found = [(os.path.basename(name), os.lstat(name)) for name, _, _ in names]
                answers += [(directory, name, oct(s.st_mode), s.st_uid, s.st_gid) for name, s in found]
    return answers


# A configuration is written into memory first, and becomes the content when it was judged.
@case
def a_configuration_is_content_like_any_other():
    valid = b'{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"}}]}'
    name = ".encryption.json"
    acts = {
        "write": closing(lambda fd: os.write(fd, valid)),
        "O_TRUNC": closing(lambda fd: os.write(fd, valid), os.O_WRONLY | os.O_TRUNC),
        "truncate": lambda name: os.truncate(name, len(valid)),
    }
    answers = []
    for way, act in acts.items():
        for caller, (who, owner) in CALLERS.items():
            for mode in (0o6777, 0o2747):
                made(name, valid)
                os.chown(name, *owner)
                os.chmod(name, mode)
                # Only its directory's owner may put a configuration, beside root.
                os.chown(".", owner[0], -1)
                errors = run(who, lambda: tried(act, name))
                answers.append((way, caller, errors, oct(os.stat(name).st_mode)))
                os.chown(".", 0, -1)
                os.unlink(name)
    return answers
