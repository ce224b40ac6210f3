import mmap
import os
import resource
import signal
import threading

from harness import as_user, case, libc, long, opened, places, raw, tried


@case
def lengths_end_where_the_file_system_does():
    fd = opened("long")
    return tried(
        lambda: os.ftruncate(fd, 2**40),
        lambda: os.fstat(fd).st_size,
        lambda: os.ftruncate(fd, 2**43),
        lambda: os.ftruncate(fd, 2**44),
        lambda: os.ftruncate(fd, 2**50),
        lambda: os.ftruncate(fd, 2**63 - 1),
        lambda: os.fstat(fd).st_size,
        lambda: raw(libc.fallocate, fd, 0, long(2**50), long(1)),
        lambda: raw(libc.fallocate, fd, 0, long(2**63 - 10), long(100)),
        lambda: raw(libc.fallocate, fd, 3, long(2**43), long(2**43)),
        lambda: os.pwrite(fd, b"x", 2**43 - 1),
        lambda: os.pread(fd, 2, 2**43 - 1),
        lambda: os.pwrite(fd, b"", 2**50),
        lambda: os.truncate("file", -1),
        lambda: os.truncate("dir", 1),
        lambda: os.ftruncate(os.open("file", os.O_RDONLY), 1),
    )


@case
def fallocate_reserves_zeroes_and_punches():
    fd = opened("allocated")
    os.pwrite(fd, b"y" * 100000, 0)
    answers = []
    ranges = [(0, 0, 200000), (1, 0, 400000), (3, 4096, 8192), (2, 0, 4096), (16, 5000, 5000), (17, 190000, 100000)]
    ranges += [(16, 199000, 5000), (0x40, 0, 4096), (4, 0, 4096), (0, 0, 0), (0, -1, 5), (3, 10**9, 10), (3, 10, 7)]
    for mode, offset, length in ranges:
        answers.append((mode, raw(libc.fallocate, fd, mode, long(offset), long(length)), os.fstat(fd).st_size))
    content = os.pread(fd, 300000, 0)
    answers.append((len(content), content[4096:12288].count(0), content.count(b"y"), content[:20]))
    answers += [raw(libc.fallocate, os.open(name, os.O_RDONLY), 0, long(0), long(10)) for name in ("file", "dir")]
    return answers


@case
def holes_and_data_are_found_before_anything_is_written_out():
    fd = opened("sparse")
    os.ftruncate(fd, 1 << 20)
    os.pwrite(fd, b"d" * 4096, 512 * 1024)
    data, hole = os.SEEK_DATA, os.SEEK_HOLE
    found = places(
        fd, (0, data), (0, hole), (512 * 1024, hole), (512 * 1024 + 5, data), (512 * 1024 + 4096, data),
        (600 * 1024, hole), (1 << 20, data), (1 << 20, hole), (2 << 20, hole), (-1, data),
    )
    os.pwrite(fd, b"d" * 4096, 4096)
    return found + places(fd, (0, data), (8192, data), (0, os.SEEK_END))


@case
def data_is_found_that_was_written_through_a_mapping():
    fd = opened("mapped")
    os.ftruncate(fd, 2 << 20)
    mapping = mmap.mmap(fd, 2 << 20)
    mapping[900 * 1024] = 1
    return places(fd, (0, os.SEEK_DATA), (900 * 1024, os.SEEK_HOLE))


@case
def data_beyond_the_old_end_is_found():
    fd = opened("grown")
    os.pwrite(fd, b"q" * 10, 100 * 4096)
    return places(fd, (0, os.SEEK_DATA), (100 * 4096, os.SEEK_HOLE), (0, os.SEEK_HOLE), (100 * 4096 + 10, os.SEEK_DATA))


@case
def copy_file_range_copies_what_was_just_written():
    source, target = opened("source"), opened("target")
    os.ftruncate(source, 1 << 20)
    os.pwrite(source, b"m" * 4096, 512 * 1024)
    answers = tried(
        lambda: os.copy_file_range(source, target, 1 << 20, 0, 0),
        lambda: os.fstat(target).st_size,
        lambda: os.fstat(target).st_blocks < 100,
        lambda: os.pread(target, 3, 512 * 1024),
        lambda: os.copy_file_range(source, target, 100, 1 << 20, 0),
        lambda: os.copy_file_range(source, source, 4096, 512 * 1024, 600 * 1024),
        lambda: os.copy_file_range(source, source, 4096, 512 * 1024, 512 * 1024 + 10),
        lambda: os.copy_file_range(source, os.open("target", os.O_WRONLY | os.O_APPEND), 10, 0, 0),
        lambda: os.copy_file_range(source, os.open("target", os.O_RDONLY), 10, 0, 0),
        lambda: os.copy_file_range(source, os.open("dir", os.O_RDONLY), 10, 0, 0),
    )
    os.pwrite(source, b"dirty", 10)
    os.pwrite(target, b"dirty too", 100)
    return answers + tried(lambda: os.copy_file_range(source, target, 20, 8, 0), lambda: os.pread(target, 110, 0))


@case
def mappings_and_calls_see_the_same():
    fd = opened("both")
    os.ftruncate(fd, 10000)
    shared, private = mmap.mmap(fd, 10000), mmap.mmap(fd, 10000, mmap.MAP_PRIVATE)
    shared[5000:5005] = b"hello"
    os.pwrite(fd, b"world", 6000)
    private[0:3] = b"abc"
    answer = [os.pread(fd, 5, 5000), shared[6000:6005], os.pread(fd, 3, 0)]
    shared.flush()
    os.unlink("both")
    shared[1:3] = b"zz"
    return answer + [os.pread(fd, 3, 0)]


@case
def rlimit_fsize_holds():
    os.chmod(".", 0o777)

    def write():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
        fd = opened("limited")
        return tried(
            lambda: os.pwrite(fd, b"x" * 9000, 0),
            lambda: os.pwrite(fd, b"x" * 9000, 9000),
            lambda: os.pwrite(fd, b"x", 10000),
            lambda: os.ftruncate(fd, 20000),
        )

    return as_user(write)


@case
def syncs_and_hints_are_taken():
    fd = opened("synced")
    os.write(fd, b"x" * 10000)
    return tried(
        lambda: os.fsync(fd),
        lambda: os.fdatasync(fd),
        lambda: raw(libc.syncfs, fd),
        lambda: raw(libc.sync_file_range, fd, long(0), long(0), 7),
        lambda: os.fsync(os.open("dir", os.O_RDONLY)),
        lambda: [os.posix_fadvise(fd, 0, 0, advice) for advice in range(6)],
        lambda: raw(libc.readahead, fd, long(0), 4096),
    )


@case
def what_is_asked_for_at_the_end():
    fd, empty = opened("sized"), opened("empty")
    os.pwrite(fd, b"x" * 10000, 0)
    data, hole = os.SEEK_DATA, os.SEEK_HOLE
    found = places(fd, (0, hole), (9999, hole), (10000, hole), (10000, data), (9999, data), (-5, hole), (2**62, data), (0, 7))
    found += places(empty, (0, hole), (0, data))
    os.ftruncate(empty, 100000)
    found += places(empty, (0, hole), (0, data), (99999, hole), (99999, data))
    return found + tried(
        lambda: os.pread(fd, 10, 2**50),
        lambda: os.pread(fd, 10, -1),
        lambda: os.pwrite(fd, b"a", -1),
        lambda: os.read(os.open("sized", os.O_WRONLY), 1),
        lambda: os.write(os.open("sized", os.O_RDONLY), b"1"),
    )


@case
def copy_file_range_refuses_what_it_has_to():
    source, target = opened("source"), opened("target")
    os.pwrite(source, bytes(range(256)) * 64, 0)
    os.mkfifo("fifo")
    fifo = os.open("fifo", os.O_RDWR)
    return tried(
        lambda: os.copy_file_range(source, source, 100, 0, 50),
        lambda: os.copy_file_range(source, source, 100, 50, 0),
        lambda: os.copy_file_range(source, source, 100, 0, 0),
        lambda: os.copy_file_range(source, source, 100, 0, 100),
        lambda: os.copy_file_range(source, target, 100, 16384 - 10, 0),
        lambda: os.copy_file_range(source, target, 100, 16384 + 1000, 0),
        lambda: os.copy_file_range(source, target, 0, 0, 0),
        lambda: os.copy_file_range(source, target, 100, 0, 1 << 20),
        lambda: (os.fstat(target).st_size, os.pread(target, 100, 1 << 20) == os.pread(source, 100, 0)),
        lambda: os.copy_file_range(source, target, 1 << 40, 0, 0),
        lambda: os.copy_file_range(os.open("source", os.O_WRONLY), target, 100, 0, 0),
        lambda: os.copy_file_range(source, target, 100),
        lambda: (os.lseek(source, 0, os.SEEK_CUR), os.lseek(target, 0, os.SEEK_CUR)),
        lambda: os.copy_file_range(source, target, 100, -1, 0),
        lambda: os.copy_file_range(source, target, 100, 0, 2**63 - 50),
        lambda: os.copy_file_range(source, target, 100, 0, 2**44),
        lambda: os.copy_file_range(fifo, target, 1, None, 0),
        lambda: os.copy_file_range(source, fifo, 1, 0),
    )


@case
def content_goes_through_pipes_and_the_kernel():
    source, target = opened("source"), opened("target")
    os.pwrite(source, b"s" * 100000, 0)
    reader, writer = os.pipe()
    return tried(
        lambda: os.sendfile(target, source, 0, 100000),
        lambda: os.splice(source, writer, 4096, 0),
        lambda: os.splice(reader, target, 4096, None, 5),
        lambda: (os.fstat(target).st_size, os.pread(target, 100000, 0).count(b"s")),
    )


@case
def a_mapping_ends_where_the_file_does():
    fd = opened("mapped")
    os.pwrite(fd, b"a" * 12288, 0)
    mapping = mmap.mmap(fd, 12288)
    os.ftruncate(fd, 5000)
    tail = mapping[5000:8192].count(0)
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        mapping[9000]
        os._exit(0)
    return tail, os.WTERMSIG(os.waitpid(pid, 0)[1])


@case
def what_a_mapping_has_beyond_the_end_is_not_written():
    fd = opened("mapped")
    os.pwrite(fd, b"a" * 4096, 0)
    mapping = mmap.mmap(fd, 4096)
    os.ftruncate(fd, 100)
    mapping[200] = 66
    mapping.flush()
    os.pwrite(fd, b"z", 4000)
    return os.pread(fd, 4096, 0).count(0)


@case
def a_file_is_cut_while_its_mapping_is_written():
    fd = opened("cut")
    os.ftruncate(fd, 1 << 20)
    over = threading.Event()

    def touch():
        mapping = mmap.mmap(fd, 4096)
        while not over.is_set():
            mapping[10] = 1

    toucher = threading.Thread(target=touch)
    toucher.start()
    for n in range(200):
        os.ftruncate(fd, 4096 + n)
        os.pwrite(fd, b"q" * 5000, 4096)
        os.ftruncate(fd, 1 << 20)
    over.set()
    toucher.join()
    content = os.pread(fd, 1 << 20, 0)
    return len(content), content[4096:9096] == b"q" * 5000, content[9096:].count(0)


@case
def mappings_are_permitted_and_advised():
    fd = opened("advised")
    os.write(fd, b"k" * 20000)
    mapping, reader, writer = mmap.mmap(fd, 20000), os.open("advised", os.O_RDONLY), os.open("advised", os.O_WRONLY)
    return tried(
        lambda: mapping.madvise(mmap.MADV_DONTNEED),
        lambda: mapping.madvise(mmap.MADV_REMOVE),
        lambda: (mapping[:3], os.fstat(fd).st_size, os.pread(fd, 3, 0)),
        lambda: mmap.mmap(reader, 12, mmap.MAP_SHARED, mmap.PROT_WRITE),
        lambda: mmap.mmap(reader, 12, mmap.MAP_SHARED, mmap.PROT_READ)[:3],
        lambda: mmap.mmap(writer, 12),
    )


@case
def appending_writers_lose_nothing():
    def work(digit):
        fd = opened("appended", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for _ in range(300):
            os.write(fd, digit * 99 + b"\n")
        os._exit(0)

    children = []
    for digit in (b"0", b"1", b"2", b"3"):
        pid = os.fork()
        if pid == 0:
            work(digit)
        children.append(pid)
    codes = [os.waitpid(pid, 0)[1] for pid in children]
    lines = open("appended", "rb").read().split(b"\n")[:-1]
    return codes, len(lines), all(len(line) == 99 and len(set(line)) == 1 for line in lines)


@case
def reserved_space_is_counted_and_no_data():
    fd = opened("reserved")
    answers = [raw(libc.fallocate, fd, 1, long(0), long(1 << 20)), os.fstat(fd).st_size, os.fstat(fd).st_blocks >= 2048]
    answers += places(fd, (0, os.SEEK_DATA))
    answers += [raw(libc.fallocate, fd, 0, long(0), long(1 << 20)), os.fstat(fd).st_size, os.fstat(fd).st_blocks >= 2048]
    answers += places(fd, (0, os.SEEK_DATA), (0, os.SEEK_HOLE))
    return answers + [raw(libc.fallocate, fd, 3, long(0), long(1 << 20)), os.fstat(fd).st_size, os.fstat(fd).st_blocks < 100]
