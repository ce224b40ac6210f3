"""The systems that are compared: how each is made, mounted and unmounted."""

import fcntl
import os
import pathlib
import resource
import struct
import subprocess
import time

from .shell import sh


class System:
    """One mount of one system. `root` is its backing, `mountpoint` where it is mounted, `area` where workloads work."""

    #: Debian's package and the program to look for.
    package = program = None
    #: It holds a descriptor for every inode that the kernel knows.
    holds_descriptors = False

    def __init__(self, name, place, programs):
        self.name, self.programs = name, programs
        self.root, self.mountpoint = place / name / "store", place / name / "mount"
        self.area = self.mountpoint / "bench-area"
        self.peak = 0
        self.cpu = 0.0
        self.daemon = None
        self.root.mkdir(parents=True)
        self.mountpoint.mkdir()
        self.create()
        self.mount()
        self.area.mkdir()

    def create(self):
        pass

    def start(self):
        raise NotImplementedError

    def mount(self):
        self.start()
        deadline = time.monotonic() + 60
        while not os.path.ismount(self.mountpoint):
            if time.monotonic() > deadline:
                raise SystemExit(f"scripts/bench: {self.name} does not mount")
            time.sleep(0.02)
        self.daemon = find_daemon(self.mountpoint)

    def can(self, phase, sizes):
        """Whether it has descriptors enough for the files of a phase."""
        inodes = {"names": sizes["names"], "tree": sizes["tree"] * 21 // 20}.get(phase.inodes, 0)
        return not self.holds_descriptors or inodes + 500 < resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def unmount(self):
        self.account()
        sh("umount", self.mountpoint)
        deadline = time.monotonic() + 60
        while self.daemon and os.path.exists(f"/proc/{self.daemon}"):
            if time.monotonic() > deadline:
                raise SystemExit(f"scripts/bench: {self.name} does not end")
            time.sleep(0.02)

    def remount(self):
        self.unmount()
        drop_caches()
        self.mount()

    def account(self):
        """Adds what the daemon that is about to end has used."""
        if not self.daemon:
            return
        self.peak = max(self.peak, peak_memory(self.daemon))
        self.cpu += cpu_seconds(self.daemon)


class Bare(System):
    def mount(self):
        sh("mount", "--bind", self.root, self.mountpoint)


class Kmsfs(System):
    def create(self):
        self.key = self.root.parent / "key"
        sh(self.programs["kmsfs"], "init", "--key-file", self.key, self.root)

    def start(self):
        sh(self.programs["kmsfs"], "mount", "--key-file", self.key, self.root, self.mountpoint)


class Gocryptfs(System):
    package = program = "gocryptfs"

    def create(self):
        sh("gocryptfs", "-init", "-q", "-scryptn", "10", "-extpass", "echo bench", self.root)

    def start(self):
        sh("gocryptfs", "-q", "-extpass", "echo bench", self.root, self.mountpoint)


class Securefs(System):
    package = program = "securefs"

    def create(self):
        sh("securefs", "create", "--pass", "bench", "--rounds", "1", self.root)

    def start(self):
        sh("securefs", "mount", "--background", "--pass", "bench", "--log", "/dev/null", self.root, self.mountpoint)


class Encfs(System):
    package = program = "encfs"

    def start(self):
        sh("encfs", "--standard", "--extpass=echo bench", self.root, self.mountpoint)


class Cryfs(System):
    package = program = "cryfs"

    def start(self):
        environment = dict(os.environ, CRYFS_FRONTEND="noninteractive", CRYFS_NO_UPDATE_CHECK="true",
                           CRYFS_LOCAL_STATE_DIR=str(self.root.parent / "state"))
        done = subprocess.run(["cryfs", self.root, self.mountpoint], input="bench\n", text=True, env=environment,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise SystemExit(f"scripts/bench: cryfs: {done.stderr}")


class Passthrough(System):
    """libfuse's example without encryption, as it is."""

    package = "libfuse3-dev"
    holds_descriptors = True
    options = ""

    def start(self):
        options = f"source={self.root},xattr,flock{self.options}"
        sh(self.programs["passthrough_ll"], "-o", options, self.mountpoint)


class PassthroughCached(Passthrough):
    """The same with the kernel's features that kmsfs uses."""

    options = ",cache=always,writeback,default_permissions"


class Fscrypt(System):
    """The kernel's own encryption of directories: ext4 on a loop device on the backing."""

    program, package = "mkfs.ext4", "e2fsprogs"
    KEY = bytes(range(64))
    ADD_KEY, SET_POLICY = 0xC0506617, 0x800C6613

    def create(self):
        self.image = self.root.parent / "image"
        with open(self.image, "wb") as file:
            file.truncate(8 << 30)
        sh("mkfs.ext4", "-q", "-O", "encrypt", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.image)

    def mount(self):
        sh("mount", "-o", "loop", self.image, self.mountpoint)
        directory = os.open(self.mountpoint, os.O_RDONLY)
        key = bytearray(struct.pack("<II32sIII28s", 2, 0, b"", len(self.KEY), 0, 0, b"") + self.KEY)
        fcntl.ioctl(directory, self.ADD_KEY, key)
        os.close(directory)
        identifier = bytes(key[8:24])
        if self.area.is_dir():
            return
        self.area.mkdir()
        directory = os.open(self.area, os.O_RDONLY)
        fcntl.ioctl(directory, self.SET_POLICY, struct.pack("<BBBBB3s16s", 2, 1, 4, 3, 0, b"", identifier))
        os.close(directory)
        self.area = Made(self.area)


class Made(type(pathlib.Path())):
    """A directory that is there already."""

    def mkdir(self, *_args, **_options):
        pass


ALL = {
    "kmsfs": Kmsfs, "gocryptfs": Gocryptfs, "passthrough_ll": Passthrough, "passthrough_ll cached": PassthroughCached,
    "securefs": Securefs, "encfs": Encfs, "cryfs": Cryfs, "fscrypt": Fscrypt, "bare": Bare,
}
QUICK = ("kmsfs", "gocryptfs", "passthrough_ll cached", "bare")


def drop_caches():
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")


def find_daemon(mountpoint):
    """The process whose arguments name the mount point."""
    wanted = os.fsencode(mountpoint)
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if wanted in (entry / "cmdline").read_bytes().split(b"\0"):
                    return int(entry.name)
            except OSError:
                pass  # it has ended
    return None


def peak_memory(pid):
    """Bytes."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
