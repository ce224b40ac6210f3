import os
import socket
import stat
import subprocess
import threading

from harness import USER, as_user, case, long, made, opened, rename2, tried


@case
def rename_in_every_combination():
    for name in ("f1", "f2"):
        made(name)
    for name in ("d1", "d2"):
        os.mkdir(name)
    made("d2/x")
    moves = "f1 f2 1;f1 f9 1;f9 f2 2;f9 nope 2;f9 d1 2;d1 d2 2;f9 d2 3;d1 f2 4;d1 d1/x/y 0;d2 d2/sub 0;d1 d2 0;d2 d1 0;"
    moves += ". q 0;d2/. q 0;d2/.. q 0;f2 f2 0;f2 f2 1;f2 f2 2;d2 f2 0;f2 d2 0;missing missing 0;f2 q/ 0;f2 f9 0"
    return [(move, rename2(*move.split()[:2], int(move.split()[2]))) for move in moves.split(";")]


@case
def renaming_one_hard_link_onto_another_does_nothing():
    made("h1")
    os.link("h1", "h2")
    os.rename("h1", "h2")
    return os.path.exists("h1"), os.stat("h2").st_nlink


@case
def links():
    os.link("link", "link2", follow_symlinks=False)
    fd = opened("gone")
    os.unlink("gone")
    by_fd = os.open("file", os.O_PATH)
    return [os.readlink("link2")] + tried(
        lambda: os.link("dir", "dir2"),
        lambda: os.link("file", "link"),
        lambda: os.link(f"/proc/self/fd/{by_fd}", "by-fd", follow_symlinks=True),
        lambda: os.stat("file").st_nlink,
        lambda: os.link(f"/proc/self/fd/{fd}", "again", follow_symlinks=True),
    )


@case
def an_unlinked_file_does_everything():
    fd = opened("unlinked")
    os.write(fd, b"abc")
    os.unlink("unlinked")
    return tried(
        lambda: os.fstat(fd).st_nlink,
        lambda: os.pread(fd, 3, 0),
        lambda: os.ftruncate(fd, 100000),
        lambda: os.fstat(fd).st_size,
        lambda: os.fchmod(fd, 0o600),
        lambda: os.fsync(fd),
        lambda: os.setxattr(fd, "user.a", b"b"),
        lambda: os.listxattr(fd),
        lambda: os.utime(fd, ns=(1, 2)),
        lambda: os.fchown(fd, 5, 6),
        lambda: (os.fstat(fd).st_mtime_ns, os.fstat(fd).st_uid, oct(os.fstat(fd).st_mode)),
        lambda: os.read(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY), 3),
    )


@case
def a_removed_directory_that_is_open_is_empty():
    os.mkdir("removed")
    fd = os.open("removed", os.O_RDONLY)
    os.rmdir("removed")
    return tried(
        lambda: os.fstat(fd).st_nlink,
        lambda: os.listdir(fd),
        lambda: opened("x", dir_fd=fd),
        lambda: os.mkdir("y", dir_fd=fd),
        lambda: os.symlink("a", "y", dir_fd=fd),
        lambda: os.link("file", "y", dst_dir_fd=fd),
        lambda: os.rename("file", "y", dst_dir_fd=fd),
        lambda: os.fsync(fd),
        lambda: os.fchmod(fd, 0o700),
        lambda: os.utime(fd, ns=(1, 1)),
        lambda: oct(os.fstat(fd).st_mode),
    )


@case
def what_rmdir_and_unlink_refuse():
    os.makedirs("full/sub")
    return tried(
        lambda: os.rmdir("full"),
        lambda: os.rmdir("full/."),
        lambda: os.rmdir("full/sub/.."),
        lambda: os.unlink("full"),
        lambda: os.unlink("file/"),
        lambda: os.rmdir("file"),
        lambda: os.rmdir("missing"),
        lambda: os.rename("full", "full/sub/x"),
    )


@case
def directories_count_their_links():
    os.makedirs("counted/a")
    os.mkdir("counted/b")
    os.rename("counted/b", "moved")
    return os.stat("counted").st_nlink, os.stat("moved").st_nlink


@case
def symlinks_have_up_to_4095_bytes():
    return tried(
        lambda: os.symlink("s" * 4095, "longest"),
        lambda: (len(os.readlink("longest")), os.lstat("longest").st_size),
        lambda: os.symlink("s" * 4096, "too-long"),
        lambda: os.symlink("", "empty"),
        lambda: os.readlink("file"),
    )


@case
def nodes_of_every_kind():
    answers = []
    kinds = (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, 0)
    for kind in kinds:
        name = f"node-{kind:o}"
        answers += tried(
            lambda: os.mknod(name, kind | 0o640, os.makedev(1, 3)),
            lambda: (oct(os.lstat(name).st_mode), os.lstat(name).st_rdev),
        )
    os.mknod("large", stat.S_IFCHR | 0o640, os.makedev(4000, 1000000))
    answers.append(os.lstat("large").st_rdev == os.makedev(4000, 1000000))
    answers.append(os.read(os.open(f"node-{stat.S_IFCHR:o}", os.O_RDONLY), 1))
    return answers


@case
def fifos_and_sockets_connect():
    os.mkfifo("fifo")
    writer = threading.Thread(target=lambda: open("fifo", "w").write("hi"))
    writer.start()
    heard = open("fifo").read()
    writer.join()
    server, client = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    server.bind("socket")
    server.listen()
    client.connect("socket")
    return heard, stat.S_ISSOCK(os.stat("socket").st_mode)


@case
def names_have_up_to_255_bytes_of_any_kind():
    long_name = "n" * 256
    return tried(
        lambda: made("n" * 255),
        lambda: made(bytes(range(1, 47))),
        lambda: made(bytes(range(48, 256))),
        lambda: sorted(name for name in os.listdir(b".") if len(name) > 40),
        lambda: made(long_name),
        lambda: os.mkdir(long_name),
        lambda: os.stat(long_name),
        lambda: os.rename("file", long_name),
        lambda: os.symlink("file", long_name),
        lambda: os.link("file", long_name),
        lambda: os.mkfifo(long_name),
        lambda: os.unlink(long_name),
    )


@case
def trees_deeper_than_any_path():
    fd = os.open(".", os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=fd)
        fd = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
    os.write(opened("leaf", dir_fd=fd), b"deep")
    size = os.stat("leaf", dir_fd=fd).st_size
    found = subprocess.run("find . -name leaf | wc -l; rm -r dddd*", shell=True, capture_output=True, text=True)
    return size, found.stdout, found.returncode


@case
def a_file_that_is_replaced_while_open_is_another():
    made("old", b"old")
    made("new", b"new")
    fd = os.open("old", os.O_RDWR)
    os.rename("new", "old")
    os.pwrite(fd, b"X", 0)
    return os.fstat(fd).st_nlink, os.pread(fd, 10, 0), open("old").read(), os.path.exists("new")


@case
def hundreds_of_hard_links_are_one_file():
    for n in range(300):
        os.link("file", f"link-{n}")
    answers = [os.stat("file").st_nlink]
    made("link-3", b"changed")
    answers.append(open("link-200").read())
    for n in range(299):
        os.unlink(f"link-{n}")
    return answers + [os.stat("link-299").st_nlink, os.path.samefile("file", "link-299")]


@case
def others_files_are_not_linked_nor_moved():
    os.chmod(".", 0o777)
    made("theirs")
    os.chmod("theirs", 0o600)
    os.makedirs("up/dir")
    os.makedirs("up/target")
    for name in ("up", "up/target"):
        os.chown(name, USER, USER)
    return [
        as_user(lambda: os.link("theirs", "mine")),
        # A directory of somebody else's, whose ".." would change.
        as_user(lambda: os.rename("up/dir", "up/target/dir")),
        as_user(lambda: os.rename("up/dir", "up/renamed")),
        sorted(os.listdir("up")),
    ]


@case
def paths_end_in_dots_and_slashes():
    return tried(
        lambda: os.mkdir("dir/."),
        lambda: os.mkdir("dir/.."),
        lambda: os.rmdir("."),
        lambda: os.unlink("dir/."),
        lambda: os.symlink("x", "."),
        lambda: os.mkdir("new/"),
        lambda: os.rename("new/", "new2/"),
        lambda: os.mkdir("file/x"),
        lambda: os.stat("file/."),
        lambda: os.readlink("dir"),
        lambda: os.unlink("link/"),
        lambda: os.stat("x" * 4096),
        lambda: os.mkdir("link"),
        lambda: os.mkdir("missing/x"),
        lambda: os.rmdir("link"),
    )


@case
def symlinks_lead_around():
    os.symlink("b", "a")
    os.symlink("a", "b")
    os.symlink("dir", "to-dir")
    made("dir/z")
    return tried(
        lambda: open("a"),
        lambda: os.lstat("a").st_size,
        lambda: os.listdir("to-dir"),
        lambda: os.rmdir("to-dir"),
        lambda: os.unlink("to-dir"),
        lambda: os.symlink("self", "self"),
        lambda: open("self", "w"),
    )


@case
def exchanging_moves_what_is_below():
    for name in ("p", "q"):
        os.mkdir(name)
    made("p/1")
    made("q/2")
    moves = ("p q", "p/2 q/1", "file p", "file file/2x", "q file/1", "link dir", "p nope")
    return [rename2(*move.split(), 2) for move in moves] + [
        sorted(os.listdir(".")), os.listdir("file"), os.listdir("q"), os.path.isfile("p"), os.readlink("dir"), os.stat(".").st_nlink
    ]


@case
def a_directory_is_open_while_it_moves_and_goes():
    os.makedirs("x/y")
    fd = os.open("x/y", os.O_RDONLY)
    os.rename("x/y", "y2")
    made("y2/f")
    answers = [os.listdir(fd), os.stat("..", dir_fd=fd).st_ino == os.stat(".").st_ino]
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir("../gone")
    return answers + tried(
        os.getcwd, lambda: os.listdir("."), lambda: made("x"), lambda: os.mkdir("y"), lambda: os.stat(".").st_nlink
    )


@case
def directories_count_hundreds_of_links():
    os.mkdir("many")
    for n in range(300):
        os.mkdir(f"many/{n}")
    answers = [os.stat("many").st_nlink]
    for n in range(100):
        os.rmdir(f"many/{n}")
    answers.append(os.stat("many").st_nlink)
    os.rename("many/100", "many/101")
    return answers + [os.stat("many").st_nlink]
