"""What is run on each system, in this order: later workloads use what earlier ones made."""

import dataclasses

FULL = {"file": 1024, "pages": 128, "random": 8192, "small": 5000, "tree": 18000, "rows": 500, "names": 100_000,
        "both": 512, "sparse": 10, "opens": 2000}
QUICK = {"file": 256, "pages": 32, "random": 2048, "small": 1000, "tree": 3000, "rows": 100, "names": 20_000,
         "both": 128, "sparse": 10, "opens": 500}


@dataclasses.dataclass(frozen=True)
class Phase:
    """`title` is None for what only prepares. A built-in workload has `size`, the others are shell commands."""

    name: str
    title: str | None
    size: str | None = None
    command: str | None = None
    #: After a new mount, with the kernel's caches dropped.
    cold: bool = False
    #: After the same once more: the caches are everybody's, and dropping them for one system drops them for all.
    warm: bool = False
    needs: tuple = ()
    #: Which of the sizes says how many inodes it knows at once, where they are many.
    inodes: str | None = None


ROWS = "PRAGMA journal_mode=DELETE; CREATE TABLE t(a, b); "
ROW = "INSERT INTO t VALUES({n}, 'a row of some length, as rows have it'); "

PHASES = [
    Phase("write-1m", "sequential write, 1 MiB calls, fsync", "file"),
    Phase("read-1m-cold", "sequential read, cold", "file", cold=True, needs=("write-1m",)),
    Phase("read-1m", "sequential read, warm", "file", warm=True, needs=("read-1m-cold",)),
    Phase("write-4k", "sequential 4 KiB writes, fsync", "pages"),
    Phase("random-read-4k", "random 4 KiB reads, cold", "random", cold=True, needs=("write-1m",)),
    Phase("random-write-4k", "random 4 KiB writes, fsync", "random", needs=("write-1m",)),
    Phase("two-at-once", "one writes and one reads", "both", cold=True, needs=("write-1m",)),
    Phase("drop-large", None, command="rm -f large by-pages second"),
    Phase("create", "create small files", "small"),
    Phase("stat-cold", "stat small files, cold", "small", cold=True, needs=("create",)),
    Phase("stat", "stat small files, warm", "small", warm=True, needs=("stat-cold",)),
    Phase("read-cold", "read small files, cold", "small", cold=True, needs=("create",)),
    Phase("read", "read small files, warm", "small", warm=True, needs=("read-cold",)),
    Phase("rename", "rename small files", "small", needs=("create",)),
    Phase("unlink", "unlink small files", "small", needs=("rename",)),
    Phase("untar", "untar a source tree", command="tar -xf {source}", inodes="tree"),
    Phase("grep-cold", "grep -r, cold", command="grep -r zyxwvut tree || true", cold=True, needs=("untar",), inodes="tree"),
    Phase("grep", "grep -r, warm", command="grep -r zyxwvut tree || true", warm=True, needs=("grep-cold",), inodes="tree"),
    Phase("du-cold", "du, cold", command="du -s tree", cold=True, needs=("untar",), inodes="tree"),
    Phase("du", "du, warm", command="du -s tree", warm=True, needs=("du-cold",), inodes="tree"),
    Phase("rm", "rm -rf", command="rm -rf tree", needs=("untar",), inodes="tree"),
    Phase("sqlite", "sqlite transactions", command="sqlite3 rows.db < {rows}"),
    Phase("make-names", None, "names", inodes="names"),
    Phase("list-names", "ls -l of a large directory, cold", "names", cold=True, needs=("make-names",), inodes="names"),
    Phase("drop-names", None, command="rm -rf names rows.db small"),
    Phase("make-sparse", None, "sparse"),
    Phase("open-sparse", "open and read in 10 GiB of holes", "opens", cold=True, needs=("make-sparse",)),
    Phase("drop-sparse", None, command="rm -f sparse"),
]

#: Names of workloads where the program's differ from the phase's.
PROGRAM = {"read-1m-cold": "read-1m", "stat-cold": "stat", "read-cold": "read"}


def names():
    return [phase.name for phase in PHASES if phase.title]


def select(chosen):
    """The named phases and what they need, and what clears away."""
    if chosen is None:
        return PHASES
    wanted, known = set(chosen), {phase.name: phase for phase in PHASES}
    if unknown := wanted - set(known):
        raise SystemExit(f"scripts/bench: no such workload: {', '.join(unknown)}")
    for phase in reversed(PHASES):
        if phase.name in wanted:
            wanted.update(phase.needs)
    return [phase for phase in PHASES if phase.name in wanted or phase.name.startswith("drop-")]


def rows(place, count):
    """The file of SQL statements, a transaction each."""
    path = place / "rows.sql"
    path.write_text(ROWS + "".join(ROW.format(n=number) for number in range(count)))
    return path
