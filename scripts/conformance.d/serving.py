#!/usr/bin/env python3
"""Asks `kmsfs serve` for more than tests do, and prints what it measured. Exits with 1 where an answer is wrong."""

import argparse, datetime, hashlib, hmac, http.client, json, os, re, resource, socket, threading, time, urllib.parse
import xml.etree.ElementTree as ElementTree

NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
PAGES = 100
# How many walks of the whole tree by a program, with lstat(2) of each file, the pages may take.
FACTOR = 10


class Client:
    """Signs with SigV4, over one connection."""

    def __init__(self, address, key):
        self.address, self.key = address, key
        self.connection = http.client.HTTPConnection(address, timeout=600)

    def ask(self, method, path, parameters=()):
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{now[:8]}/us-east-1/s3/aws4_request"
        empty = hashlib.sha256(b"").hexdigest()
        quote = lambda text: urllib.parse.quote(text, safe="-_.~")
        query = "&".join(sorted(f"{quote(name)}={quote(value)}" for name, value in parameters))
        headers = {"host": self.address, "x-amz-content-sha256": empty, "x-amz-date": now}
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        names = ";".join(headers)
        canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{empty}"
        to_sign = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signer = ("AWS4" + self.key["SecretAccessKey"]).encode()
        for word in scope.split("/"):
            signer = hmac.digest(signer, word.encode(), "sha256")
        signature = hmac.new(signer, to_sign.encode(), "sha256").hexdigest()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.key['AccessKeyId']}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        self.connection.request(method, f"{path}?{query}" if query else path, headers=headers)
        answer = self.connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (answer.status, body)
        return body


def name_of(number, shape):
    return f"{number:07}" if shape == "flat" else f"{number // 1000:04}/{number % 1000:03}"


def list_pages(client, options):
    bucket = f"list-{options.shape}"
    top = f"{options.mount}/{bucket}"
    os.mkdir(top)
    for number in range(options.keys):
        name = name_of(number, options.shape)
        if options.shape == "deep" and number % 1000 == 0:
            os.mkdir(os.path.dirname(f"{top}/{name}"))
        os.close(os.open(f"{top}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    # Others write meanwhile, in the same directories: what they write is told by its name.
    done = threading.Event()
    written = 0

    def write():
        nonlocal written
        while not done.is_set():
            beside = name_of(written * 7919 % options.keys, options.shape)
            path = f"{top}/{beside}-new"
            with open(path, "w") as file:
                file.write("text")
            if written % 2:
                os.unlink(path)
            written += 1

    writer = threading.Thread(target=write)
    writer.start()
    times = []
    try:
        began = time.monotonic()
        walked = sum(not file.endswith("-new") for _, _, files in os.walk(top) for file in files)
        for where, _, files in os.walk(top):
            for file in files:
                if not file.endswith("-new"):
                    os.lstat(f"{where}/{file}")
        walk = time.monotonic() - began
        assert walked == options.keys, walked

        # As clients do it, each page goes on where the one before ended; those that begin anew read the directory anew.
        page_size = min(1000, options.keys // PAGES)
        goes_on, seen = [], 0
        for page in range(PAGES):
            parameters = [("list-type", "2"), ("max-keys", str(page_size)), *goes_on]
            began = time.monotonic()
            document = ElementTree.fromstring(client.ask("GET", f"/{bucket}", parameters))
            times.append(time.monotonic() - began)
            keys = [each.text for each in document.iter(f"{NAMESPACE}Key")]
            own = [key for key in keys if not key.endswith("-new")]
            assert len(keys) <= page_size and keys == sorted(keys), (page, len(keys))
            assert own == [name_of(seen + at, options.shape) for at in range(len(own))], (page, own[:3])
            seen += len(own)
            token = document.findtext(f"{NAMESPACE}NextContinuationToken")
            if token is None:
                assert seen == options.keys, (page, seen)
                break
            goes_on = [("continuation-token", token)]
    finally:
        done.set()
        writer.join()
    times.sort()
    print(
        f"{options.shape}: {len(times)} pages of {page_size} of {options.keys} keys: {sum(times):.1f} s"
        f" (median {times[len(times) // 2] * 1000:.0f} ms, most {times[-1] * 1000:.0f} ms), one walk with lstat {walk:.1f} s,"
        f" {written} writes meanwhile"
    )
    assert sum(times) < FACTOR * walk, "pages cost more than what they show"


def resident(pid):
    """MiB of all processes of the server together."""
    total, left = 0, [pid]
    while left:
        pid = left.pop()
        with open(f"/proc/{pid}/status") as status:
            total += int(re.search(r"VmRSS:\s*(\d+)", status.read())[1])
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as children:
                left += [int(child) for child in children.read().split()]
    return total / 1024


def idle(client, options):
    # As many as there may be.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # The server takes half of its descriptors for connections, and leaves some for all else.
    options.connections = min(options.connections, (most - 256) // 2 - 16)
    host, port = options.address.split(":")

    def latency():
        times = []
        for _ in range(100):
            began = time.monotonic()
            client.ask("GET", "/")
            times.append(time.monotonic() - began)
        times.sort()
        return f"median {times[50] * 1000:.1f} ms, most {times[-1] * 1000:.1f} ms"

    alone, before = latency(), resident(options.pid)
    began = time.monotonic()
    sockets = [socket.create_connection((host, int(port))) for _ in range(options.connections)]
    # One asks and is kept, the next has said nothing yet.
    for each in sockets[::2]:
        each.sendall(b"GET /healthy HTTP/1.1\r\nhost: localhost\r\n\r\n")
    for each in sockets[::2]:
        assert each.recv(4096).startswith(b"HTTP/1.1 403 "), "the server does not answer"
    opened = time.monotonic() - began
    beside, after = latency(), resident(options.pid)
    print(
        f"{options.connections} idle connections in {opened:.1f} s: a request {beside} (alone: {alone});"
        f" the server's processes have {after:.0f} MiB (before: {before:.0f} MiB)"
    )
    # The server ends those that do nothing, and goes on.
    for each in sockets:
        each.settimeout(120)
        while each.recv(4096):
            pass
    client.ask("GET", "/")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["list", "idle"])
    parser.add_argument("--keys", type=int)
    parser.add_argument("--shape", choices=["flat", "deep"])
    parser.add_argument("--connections", type=int)
    for name in ["--address", "--access-key", "--mount"]:
        parser.add_argument(name, required=True)
    parser.add_argument("--pid", type=int, required=True)
    options = parser.parse_args()
    with open(options.access_key) as file:
        key = json.load(file)["AccessKey"]
    {"list": list_pages, "idle": idle}[options.what](Client(options.address, key), options)


main()
