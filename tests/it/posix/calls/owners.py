import ctypes
import mmap
import os
import stat
import subprocess

from harness import CREATE, USER, as_user, case, code, libc, long, made, opened, rename2, tried


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


@case
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


@case
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


@case
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


@case
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


@case
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


@case
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


@case
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


@case
def what_is_not_ones_own_stays():
    os.chown("file", USER, USER)
    os.chown("dir", USER, USER)
    os.chmod("file", 0o6755)
    made("roots")
    answers = [
        as_user(lambda: os.chown("roots", USER, USER)),
        as_user(lambda: os.chmod("roots", 0o777)),
        as_user(lambda: os.chown("file", 0, -1)),
        as_user(lambda: os.chown("file", USER, 777)),
        oct(os.stat("file").st_mode),
        as_user(lambda: os.chown("file", USER, 12)),
        as_user(lambda: os.truncate("roots", 0)),
        as_user(lambda: os.setxattr("roots", "user.a", b"")),
        as_user(lambda: os.removexattr("roots", "user.a")),
        as_user(lambda: os.chmod("file", 0o7777)),
        oct(os.stat("file").st_mode),
        as_user(lambda: os.chmod("dir", 0o3777)),
        oct(os.stat("dir").st_mode),
    ]
    os.chown("link", 7, 8, follow_symlinks=False)
    os.chmod("file", 0)
    return answers + [
        (os.lstat("link").st_uid, os.lstat("link").st_gid, os.stat("file").st_uid),
        as_user(lambda: open("file")),
        as_user(lambda: os.chmod("file", 0o400)),
        as_user(lambda: open("file").read()),
    ]


@case
def set_gid_is_for_members_of_the_group():
    os.mkdir("shared")
    os.chown("shared", USER, 4321)
    os.chmod("shared", 0o2777)

    def make():
        os.close(opened("shared/f", CREATE, 0o2755))
        os.close(opened("shared/g", CREATE, 0o6711))
        os.mkdir("shared/d", 0o755)
        answers = [oct(os.stat(f"shared/{name}").st_mode) for name in "fgd"]
        for name in ("shared/d", "shared"):
            os.chmod(name, 0o2775)
            answers.append(oct(os.stat(name).st_mode))
        return answers

    return as_user(make)


@case
def an_acl_by_who_is_not_in_the_group_takes_set_gid_away():
    answers = []
    for group in (4321, USER, 777):
        for name in ("file", "dir"):
            os.chown(name, USER, group)
            os.chmod(name, 0o2755)
            answers.append(as_user(lambda: subprocess.run(["setfacl", "-m", "u:5:r", name]).returncode))
            answers.append(oct(os.stat(name).st_mode))
    os.chown("file", USER, 4321)
    os.chmod("file", 0o2755)
    subprocess.run(["setfacl", "-m", "u:6:r", "file"], check=True)
    return answers + [oct(os.stat("file").st_mode)]


@case
def every_umask_meets_default_acls():
    os.mkdir("acl")
    subprocess.run(["setfacl", "-m", "d:u:1234:rwx,d:m::rx", "acl"], check=True)
    answers = []
    for mask in (0, 0o022, 0o027, 0o077, 0o777):
        os.umask(mask)
        for directory in (".", "acl"):
            names = [f"{directory}/{kind}{mask}" for kind in "fdnp"]
            os.close(opened(names[0], mode=0o666))
            os.mkdir(names[1], 0o777)
            os.mknod(names[2], stat.S_IFREG | 0o666)
            os.mkfifo(names[3], 0o666)
            answers += [oct(os.stat(name).st_mode) for name in names]
            answers += [subprocess.run(["getfacl", "-cn", name], capture_output=True).stdout.split() for name in names[:2]]
    return answers


@case
def acls_are_set_and_refused():
    access, default = "system.posix_acl_access", "system.posix_acl_default"

    def acl(*arguments):
        done = subprocess.run(arguments, capture_output=True, text=True)
        return done.returncode, done.stdout.split(), done.stderr.split(":")[-1]

    return [
        acl("setfacl", "-m", "u:1234:rwx,g:777:rx,m::r", "file"),
        oct(os.stat("file").st_mode),
        os.chmod("file", 0o060),
        acl("getfacl", "-cn", "file"),
        as_user(lambda: os.access("file", os.W_OK)),
        acl("setfacl", "-d", "-m", "u:5:r", "file"),
        acl("setfacl", "-m", "u:99:rwx,d:u:5:r", "dir"),
        as_user(lambda: acl("setfacl", "-m", "u:1234:rwx", "dir")),
        acl("setfacl", "-x", "u:99", "dir"),
        acl("setfacl", "-k", "dir"),
        acl("getfacl", "-cn", "dir"),
        acl("setfacl", "-b", "dir"),
        os.listxattr("dir"),
    ] + tried(
        lambda: os.setxattr("file", access, b"junk"),
        lambda: os.getxattr("file", default),
        lambda: os.removexattr("file", default),
        lambda: os.setxattr("file", access, b""),
        lambda: os.getxattr("file", access),
        lambda: os.removexattr("file", access),
        lambda: os.setxattr("link", access, b"", follow_symlinks=False),
        lambda: oct(os.stat("file").st_mode),
    )


@case
def two_users_share_a_sticky_directory():
    os.mkdir("tmp")
    os.chmod("tmp", 0o1777)
    made("tmp/theirs")
    os.chown("tmp/theirs", 55, 55)
    os.chmod("tmp/theirs", 0o666)
    return [
        as_user(lambda: open("tmp/theirs", "a").write("x")),
        as_user(lambda: made("tmp/mine")),
        as_user(lambda: os.rename("tmp/mine", "tmp/theirs")),
        as_user(lambda: os.rename("tmp/mine", "tmp/renamed")),
        as_user(lambda: os.symlink("theirs", "tmp/link")),
        as_user(lambda: os.unlink("tmp/link")),
        sorted(os.listdir("tmp")),
    ]


@case
def attributes_are_as_long_as_they_may_be():
    some = ctypes.create_string_buffer(10)
    return tried(
        lambda: os.setxattr("file", "user.x", b"v" * 3000),
        lambda: len(os.getxattr("file", "user.x")),
        lambda: os.setxattr("file", "user.y", b"v" * 3000),
        lambda: os.setxattr("file", "user.x", b"v" * 2500),
        lambda: os.setxattr("file", "trusted.z", b"v" * 65536),
        lambda: os.setxattr("file", "user", b"v"),
        lambda: os.setxattr("file", "", b"v"),
        lambda: os.setxattr("file", "user.\xff\xfe", b"bytes"),
        lambda: os.setxattr("file", "user.nul", b"\0\0"),
        lambda: os.getxattr("file", "user.nul"),
        lambda: os.setxattr("missing", "user.n", b""),
        lambda: os.setxattr("file", "user.q", b"", 7),
        lambda: libc.getxattr(b"file", b"user.x", some, 10) < 0 and code(ctypes.get_errno()),
        lambda: libc.getxattr(b"file", b"user.x", None, 0),
        lambda: libc.listxattr(b"file", some, 5) < 0 and code(ctypes.get_errno()),
        lambda: sorted(os.listxattr("file")),
    )
