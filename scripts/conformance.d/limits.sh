# How far it goes: many inodes, large directories, open files, and what memory that takes.

suite_limits() {
    inodes=1000000 entries=1000000 opened=10000
    [ "$short" = no ] || { inodes=20000; entries=20000; opened=2000; }
    measured=$base/measured
    : >"$measured"
    descriptors=4096
    mount_fresh
    steps limits "RLIMIT_NOFILE 4096 and 20000" limits_tree limits_walk limits_directory limits_seekdir limits_open
    sed 's/^/  /' "$measured" >&2
    echo "measured on $on:" >>"$logs/measured"
    cat "$measured" >>"$logs/measured"
    descriptors=
}

measure() { echo "$*" >>"$measured"; }

# Resident memory of the process behind the mount, now and at most, in MiB.
memory() {
    local pid
    pid=$(pgrep -f -n "$place/mnt" || true)
    [ -n "$pid" ] || { echo "no process"; return; }
    awk '/^VmRSS/ { now = $2 / 1024 } /^VmHWM/ { most = $2 / 1024 } END { printf "%d MiB, at most %d MiB\n", now, most }' \
        "/proc/$pid/status"
}

# Files in directories of a thousand.
limits_tree() {
    measure "memory at first: $(memory)"
    python3 - "$work/tree" "$inodes" <<'PY'
import os, sys
top, count = sys.argv[1], int(sys.argv[2])
os.mkdir(top)
for n in range(count):
    if n % 1000 == 0:
        d = f"{top}/{n // 1000}"
        os.mkdir(d)
    os.close(os.open(f"{d}/{n % 1000}", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
PY
    measure "memory after making $inodes files in directories of 1000: $(memory)"
}

# All of them known to the kernel at once.
limits_walk() {
    remount
    local seen
    seen=$(find "$work/tree" -type f -size -1k -printf . | wc -c)
    test "$seen" = "$inodes"
    measure "memory after walking $inodes files: $(memory)"
    # And known still: by the first of them and the last.
    stat "$work/tree/0/0" "$work/tree/$(((inodes - 1) / 1000))/999" >/dev/null
    echo 3 >/proc/sys/vm/drop_caches
    measure "memory after the kernel has forgotten them: $(memory)"
}

limits_directory() {
    python3 - "$work/flat" "$entries" <<'PY'
import os, sys
top, count = sys.argv[1], int(sys.argv[2])
os.mkdir(top)
for n in range(count):
    os.close(os.open(f"{top}/file-{n}", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
names = os.listdir(top)
assert len(names) == count and len(set(names)) == count, len(names)
PY
    measure "memory after making $entries files in one directory: $(memory)"
}

# A directory that changes while it is read: every name that stays is seen once.
limits_seekdir() {
    python3 - "$work/flat" "$entries" <<'PY'
import os, sys
top, count = sys.argv[1], int(sys.argv[2])
seen = []
with os.scandir(top) as entries:
    for n, entry in enumerate(entries):
        seen.append(entry.name)
        if n % 10 == 0:
            other = int(entry.name.rsplit("-", 1)[1]) if entry.name.startswith("file-") else -1
            if other >= 0 and other % 3 == 0:
                os.unlink(f"{top}/file-{other}")
            os.mknod(f"{top}/new-{n}")
old = [name for name in seen if name.startswith("file-")]
assert len(old) == len(set(old)), "a name was seen twice"
missing = {f"file-{n}" for n in range(count) if n % 3} - set(old)
assert not missing, sorted(missing)[:5]
PY
}

limits_open() {
    descriptors=20000
    ulimit -n 20000
    remount
    python3 - "$work/open" "$opened" <<'PY'
import os, sys
top, count = sys.argv[1], int(sys.argv[2])
os.mkdir(top)
files = [os.open(f"{top}/{n}", os.O_RDWR | os.O_CREAT) for n in range(count)]
for n, fd in enumerate(files):
    os.pwrite(fd, b"%d" % n, 0)
for n, fd in enumerate(files):
    os.fsync(fd) if n % 100 == 0 else None
    assert os.pread(fd, 20, 0) == b"%d" % n
PY
    measure "memory after $opened files were open at once: $(memory)"
}
