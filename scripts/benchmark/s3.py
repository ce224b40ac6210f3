"""`scripts/bench s3`: kmsfs serve beside SeaweedFS and s3s-fs, which encrypt nothing, beside nginx that sends files of
kmsfs's mount by sendfile(2), and beside the mount itself.

Every row is measured on all of them in turn, and that in rounds, so that what else happens on the machine falls on all
alike. Clients are connections of one program (examples/http_load.rs) on the same machine, with signed URLs that were
made before: its work counts for all alike, too."""

import argparse
import contextlib
import dataclasses
import http.client
import importlib.util
import json
import os
import pathlib
import re
import resource
import shutil
import statistics
import subprocess
import time
import urllib.parse

from . import prepare, report, run
from .shell import sh

KIB, MIB = 1 << 10, 1 << 20
TICKS = os.sysconf("SC_CLK_TCK")
MOUNT, SENDFILE = "the mount", "sendfile of the mount"
#: What the mount is measured by: the bucket that a bucket's default key encrypts.
OF_MOUNT = "aes256"
FULL = {"sizes": [4 * KIB, MIB, 64 * MIB], "clients": [1, 16, 64], "seconds": 5, "keys": 100_000, "parts": 128, "rounds": 3}
QUICK = {"sizes": [4 * KIB, 64 * MIB], "clients": [1, 16], "seconds": 2, "keys": 10_000, "parts": 16, "rounds": 1}
PART = 8 * MIB


@dataclasses.dataclass(frozen=True)
class Row:
    """What is done, with objects of `size` bytes, by so many clients."""

    what: str
    size: int = 0
    clients: int = 1

    def title(self, sizes):
        if self.what == "list":
            return f"list {sizes['keys']:,} keys"
        if self.what == "multipart":
            return f"multipart upload of {sizes['parts'] * PART // MIB} MiB, 4 clients"
        size = f"{self.size // MIB} MiB" if self.size >= MIB else f"{self.size // KIB} KiB"
        return f"{self.what} {size}, {self.clients} client{'s' if self.clients > 1 else ''}"


def rows(sizes):
    """A GET takes what the PUT before it has left."""
    for size in sizes["sizes"]:
        for clients in sizes["clients"]:
            yield from (Row("PUT", size, clients), Row("GET", size, clients))
    yield from (Row("multipart"), Row("list"))


def arguments(given):
    parser = argparse.ArgumentParser(prog="scripts/bench s3", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sizes and clients, one round")
    parser.add_argument("--backing", default="tmpfs", metavar="tmpfs|ext4|DIR", help="what the stores lie on")
    parser.add_argument("--rounds", type=int, help="how often each row is measured on each server")
    parser.add_argument("--only", help="comma-separated: PUT, GET, multipart, list")
    parser.add_argument("--output", default="target/bench", type=pathlib.Path, metavar="DIR", help="where results go")
    parser.add_argument("--no-install", action="store_true", help="leave out what is not installed")
    return parser.parse_args(given)


def main(given):
    args = arguments(given)
    sizes = dict(QUICK if args.quick else FULL)
    sizes["rounds"] = args.rounds or sizes["rounds"]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.environ["KMSFS_STATE"] = "none"
    wanted = [package for package, there in (("nginx-light", shutil.which("nginx")), ("procps", shutil.which("pgrep")),
                                             ("python3-boto3", importlib.util.find_spec("botocore"))) if not there]
    if wanted:
        if args.no_install:
            raise SystemExit(f"scripts/bench s3 needs: apt-get install {' '.join(wanted)}")
        sh("apt-get", "update", "-q")
        sh("apt-get", "install", "-y", "-q", "--no-install-recommends", *wanted,
           env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"))
        importlib.invalidate_caches()
    from . import s3_systems

    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")).resolve()
    print("building ...", flush=True)
    sh("cargo", "build", "--locked", "--release", "--quiet", "--bin", "kmsfs", "--example", "http_load")
    programs = {"kmsfs": target / "release/kmsfs", "load": target / "release/examples/http_load"}
    programs |= s3_systems.prepare(target / "bench-tools", not args.no_install)
    # Everything that is started from here on: whoever else runs on this machine waits.
    os.sched_setscheduler(0, os.SCHED_RR, run.PRIORITY)
    with prepare.backing(args.backing) as place, contextlib.ExitStack() as running:
        kmsfs = s3_systems.Kmsfs(place, programs)
        servers = [kmsfs]
        servers += [s3_systems.SeaweedFs(place, programs)] if "weed" in programs else []
        servers += [s3_systems.S3sFs(place, programs)] if "s3s-fs" in programs else []
        nginx = s3_systems.Sendfile(kmsfs)
        for server in [*servers, nginx]:
            running.callback(server.down)
            server.up()
        measured = measure(args, sizes, servers, nginx, programs["load"])
    write(measured, args, sizes)


def measure(args, sizes, servers, nginx, load):
    """{row's title: {column: [what was measured in each round]}}, and peak memory by server, in bytes."""
    only = args.only.split(",") if args.only else ["PUT", "GET", "multipart", "list"]
    kmsfs, results = servers[0], {}
    for row in rows(sizes):
        shown = row.what in only
        if not shown and not (row.what == "PUT" and "GET" in only):
            continue
        title = row.title(sizes)
        print(title, flush=True)
        names = [f"object-{number:05}" for number in range(max(row.clients, (16 * MIB) // max(row.size, 64 * KIB)))]
        for _ in range(sizes["rounds"]):
            for server in servers:
                for column, bucket in server.buckets.items():
                    done = with_cost(server, lambda server=server, bucket=bucket: one(row, server, bucket, names, sizes, load))
                    if shown and done:
                        results.setdefault(title, {}).setdefault(column, []).append(done)
            if row.what == "GET":
                paths = [f"/{OF_MOUNT}/{name}" for name in names]
                results[title].setdefault(SENDFILE, []).append(loaded(load, row, "GET", nginx.address, paths, sizes))
            if shown and row.what in ("GET", "PUT"):
                method = "read" if row.what == "GET" else "write"
                results[title].setdefault(MOUNT, []).append(
                    loaded(load, row, method, kmsfs.mount / OF_MOUNT, names, sizes))
    return results, {server.name: sum(memory(pid) for pid in server.pids()) for server in servers}


def one(row, server, bucket, names, sizes, load):
    if row.what == "list":
        return listed(server, bucket, sizes, load)
    if row.what == "multipart":
        return in_parts(server, bucket, sizes, load)
    targets = [server.presigned(row.what, f"/{bucket}/{name}") for name in names]
    return loaded(load, row, row.what, server.address, targets, sizes)


def loaded(load, row, method, place, targets, sizes, seconds=None):
    done = subprocess.run([load, method, str(place), str(row.clients), str(seconds or sizes["seconds"]), str(row.size)],
                          input="\n".join(targets) + "\n", stdout=subprocess.PIPE, text=True, check=True)
    answer = json.loads(done.stdout)
    if answer["errors"]:
        raise SystemExit(f"scripts/bench: {method} at {place}: {answer['first_error']}")
    answer["rate"] = answer["requests"] / answer["seconds"]
    return answer


def in_parts(server, bucket, sizes, load):
    """An upload in parts of 8 MiB, four at a time, from Create to Complete; None where a server does not say what they became."""
    path, start = f"/{bucket}/in-parts", time.perf_counter()
    upload = re.search("<UploadId>(.*)</UploadId>", server.ask("POST", path, "uploads="))[1]
    query = {"uploadId": upload}
    numbers = range(1, sizes["parts"] + 1)
    targets = [server.presigned("PUT", path, urllib.parse.urlencode({"partNumber": number} | query)) for number in numbers]
    loaded(load, Row("PUT", PART, 4), "PUT", server.address, targets, sizes, "once")
    text = server.ask("GET", path, urllib.parse.urlencode(query))
    etags = re.findall("<ETag>([^<]+)</ETag>", text)
    if len(etags) != len(numbers):
        # s3s-fs lists parts without their ETags.
        return None
    parts = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in zip(numbers, etags))
    body = f'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{parts}</CompleteMultipartUpload>'
    server.ask("POST", path, urllib.parse.urlencode(query), body.encode())
    seconds = time.perf_counter() - start
    return {"requests": 1, "bytes": sizes["parts"] * PART, "seconds": seconds, "rate": 1 / seconds}


def listed(server, bucket, sizes, load):
    """All keys, a thousand at a time, by one connection. They are made where they are missing."""
    prefix = "listed/"
    count, seconds = walked(server, bucket, prefix)
    if count == 0:
        keys = [f"/{bucket}/{prefix}{number // 1000:03}/{number:06}" for number in range(sizes["keys"])]
        loaded(load, Row("PUT", 16, 8), "PUT", server.address, [server.presigned("PUT", key) for key in keys], sizes, "once")
        count, seconds = walked(server, bucket, prefix)
    if count != sizes["keys"]:
        raise SystemExit(f"scripts/bench: {server.name} lists {count} keys instead of {sizes['keys']}")
    return {"requests": 1, "seconds": seconds, "rate": 1 / seconds}


def walked(server, bucket, prefix):
    connection = http.client.HTTPConnection(server.address, timeout=600)
    query, count, start = {"list-type": 2, "prefix": prefix}, 0, time.perf_counter()
    while True:
        text = server.ask("GET", f"/{bucket}", urllib.parse.urlencode(query), connection=connection)
        count += text.count("<Key>")
        more = re.search("<NextContinuationToken>(.*)</NextContinuationToken>", text)
        if not more:
            return count, time.perf_counter() - start
        query["continuation-token"] = more[1]


def with_cost(server, run):
    """What was measured, with the processor's seconds that all of the server's processes took."""
    before = sum(cpu(pid) for pid in server.pids())
    done = run()
    return done and done | {"cpu_seconds": sum(cpu(pid) for pid in server.pids()) - before}


def cpu(pid):
    with contextlib.suppress(OSError):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS
    return 0


def memory(pid):
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) * KIB if found else 0
    return 0


def write(measured, args, sizes):
    results, peaks = measured
    args.output.mkdir(parents=True, exist_ok=True)
    stem = args.output / f"s3-{'dir' if '/' in args.backing else args.backing}"
    everything = {"machine": report.machine(), "backing": args.backing, "sizes": sizes, "rows": results, "peak_memory": peaks}
    stem.with_suffix(".json").write_text(json.dumps(everything, indent=1) + "\n")
    text = table(results, peaks, args.backing, sizes)
    stem.with_suffix(".md").write_text(text)
    print(text)
    print(f"written: {stem}.json, {stem}.md")


def table(results, peaks, backing, sizes):
    columns = list(dict.fromkeys(column for row in results.values() for column in row))
    first = columns[0]
    lines = [f"### {backing}, median of {sizes['rounds']}", "",
             "How many requests each does for one of `" + first + "`:", "",
             "| what | " + " | ".join(columns[1:]) + f" | {first}: a second | p50, ms | p99, ms | CPU, ms a request |",
             "| --- |" + " ---: |" * (len(columns) + 3)]
    for title, row in results.items():
        middle = {column: statistics.median(done["rate"] for done in rounds) for column, rounds in row.items()}
        ours = row[first]
        of = lambda name: statistics.median(done[name] for done in ours) if name in ours[0] else None  # noqa: E731
        shown = [f"{of(name):.2f}" if of(name) is not None else "" for name in ("p50_ms", "p99_ms")]
        spent = statistics.median(done["cpu_seconds"] / done["requests"] * 1e3 for done in ours)
        ratios = [f"{middle[column] / middle[first]:.2f}" if column in middle else "" for column in columns[1:]]
        lines.append(f"| {title} | " + " | ".join(ratios) + f" | {middle[first]:.1f} | " + " | ".join(shown) + f" | {spent:.2f} |")
    lines += ["", "Peak memory of all of a server's processes, MiB: "
              + ", ".join(f"{name} {peak / MIB:.0f}" for name, peak in peaks.items()) + ".", ""]
    return "\n".join(lines)
