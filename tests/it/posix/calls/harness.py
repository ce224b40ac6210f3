"""What the cases are made with."""

import ctypes
import errno
import os

libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long
long = ctypes.c_long
CASES = []
CREATE = os.O_RDWR | os.O_CREAT
USER = 1234


def case(f):
    CASES.append(f)
    return f


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


def places(fd, *pairs):
    return tried(*(lambda offset=offset, whence=whence: os.lseek(fd, offset, whence) for offset, whence in pairs))


def rename2(source, target, flags):
    return raw(libc.renameat2, -100, source.encode(), -100, target.encode(), flags)
