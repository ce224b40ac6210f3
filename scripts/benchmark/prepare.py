"""Installing, building, and the place that the stores lie on."""

import contextlib
import os
import pathlib
import random
import shutil
import tarfile
import tempfile

from . import systems
from .shell import sh

PASSTHROUGH = pathlib.Path("/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c")
TOOLS = {"sqlite3": "sqlite3", "grep": "grep", "mkfs.ext4": "e2fsprogs", "losetup": "mount", "gcc": "gcc", "pkg-config": "pkg-config"}
IMAGE = 24 << 30
SEED = 20230105


def install(chosen, may_install):
    """Installs what the systems need. Answers those that can be run."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    missing = {package for program, package in TOOLS.items() if not shutil.which(program, path=path)}
    lacking = {name: systems.ALL[name].package for name in chosen
               if (program := systems.ALL[name].program) and not shutil.which(program, path=path)}
    if any(systems.ALL[name].package == "libfuse3-dev" for name in chosen) and not PASSTHROUGH.exists():
        lacking.update({name: "libfuse3-dev" for name in chosen if systems.ALL[name].package == "libfuse3-dev"})
    wanted = missing | set(lacking.values())
    if wanted and may_install:
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        sh("apt-get", "update", "-q")
        sh("apt-get", "install", "-y", "-q", "--no-install-recommends", *sorted(wanted), env=environment)
        return chosen
    return [name for name in chosen if name not in lacking]


def build(chosen):
    """Builds kmsfs, the workloads, and libfuse's example."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")).resolve()
    print("building ...", flush=True)
    sh("cargo", "build", "--locked", "--release", "--quiet", "--bin", "kmsfs", "--example", "workload")
    programs = {"kmsfs": target / "release/kmsfs", "workload": target / "release/examples/workload"}
    if any(systems.ALL[name].package == "libfuse3-dev" for name in chosen):
        programs["passthrough_ll"] = target / "release/passthrough_ll"
        flags = sh("pkg-config", "--cflags", "--libs", "fuse3").split()
        sh("gcc", "-O2", "-pthread", "-o", programs["passthrough_ll"], PASSTHROUGH, f"-I{PASSTHROUGH.parent}", *flags)
    return programs


@contextlib.contextmanager
def backing(kind):
    """A directory on a tmpfs, on ext4 on a loop device, or in a directory that was named."""
    parent = None if kind in ("tmpfs", "ext4") else kind
    place = pathlib.Path(tempfile.mkdtemp(prefix="kmsfs-bench-", dir=parent))
    image = place.with_suffix(".image")
    mounted = False
    try:
        if kind == "tmpfs":
            sh("mount", "-t", "tmpfs", "-o", "size=80%,mode=755", "tmpfs", place)
            mounted = True
        elif kind == "ext4":
            with open(image, "wb") as file:
                file.truncate(IMAGE)
            sh("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
            sh("mount", "-o", "loop", image, place)
            mounted = True
        yield place
    finally:
        if mounted:
            sh("umount", place)
        image.unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)


def source_tree(place, count):
    """A tar archive like that of a source tree: `count` files in directories of twenty, of 30 bytes to 100 KiB."""
    path = place / "source.tar"
    chance = random.Random(SEED)
    words = [bytes(chance.choices(b"abcdefghijklmnopqrstuvwxyz_", k=chance.randint(2, 12))) for _ in range(4000)]
    with tempfile.TemporaryDirectory(dir=place) as scratch, tarfile.open(path, "w") as archive:
        block = b" ".join(chance.choices(words, k=60000))
        for number in range(count):
            size = min(int(chance.lognormvariate(8.6, 1.3)) + 30, 100 << 10)
            start = chance.randrange(len(block) - size) if size < len(block) else 0
            file = pathlib.Path(scratch) / "file"
            file.write_bytes(block[start:start + size])
            archive.add(file, f"tree/part-{number // 400:02}/dir-{number // 20:04}/source_{number:05}.c")
    return path
