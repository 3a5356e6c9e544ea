"""What it costs to bring a model to a server: download, memory, start, and a cache that many share.

    python benchmarks/artifacts.py [--megabytes 1000] [--large-megabytes 4000]

Ratios within one run, best of three turns. The S3 server is a process of its own that answers from a file by
sendfile: an emulator copies the whole object for every range, and all clients would measure the emulator.
"""

import argparse
import http.client
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path

import boto3
from report import Row, Table, keep, publish

from model_server.package.digest import digest
from model_server.storage import fetch
from model_server.storage.cache import Cache, obtain

SPAWN = multiprocessing.get_context("spawn")
TURNS, STARTS, SHARERS, READERS = 9, 7, 20, 8
MEGABYTE = 10**6
IMPORTS = "import sklearn.linear_model, uvicorn"


class Bucket(BaseHTTPRequestHandler):
    """HEAD and ranged GET of the files in a folder, as S3 answers them. `/` tells the bytes sent so far."""

    protocol_version = "HTTP/1.1"
    folder: Path
    sent: list[int]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        if self.path != "/":
            self._answer(body=True)
            return
        told = str(sum(self.sent)).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def _answer(self, *, body: bool) -> None:
        path = self.folder / self.path.split("?")[0].rpartition("/")[2]
        size = path.stat().st_size
        first, last = 0, size - 1
        asked = self.headers.get("range")
        if asked:
            start, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(end or last), last)
            self.send_response(206)
            self.send_header("content-range", f"bytes {first}-{last}/{size}")
        else:
            self.send_response(200)
        for name, value in (
            ("content-length", str(last - first + 1)),
            ("etag", '"v1"'),
            ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ("accept-ranges", "bytes"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()
        if not body:
            return
        with path.open("rb") as file:
            while first <= last:
                count = os.sendfile(self.connection.fileno(), file.fileno(), first, last - first + 1)
                first += count
                self.sent.append(count)

    def log_message(self, *args: object) -> None:
        pass


def serve_bucket(folder: Path, told: Connection) -> None:
    """A process of its own, ended by the one that started it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("ServingModel", (Bucket,), {"folder": folder, "sent": []}))
    told.send(f"http://127.0.0.1:{server.server_port}")
    server.serve_forever()


@contextmanager
def bucket(folder: Path) -> Iterator[Mapping[str, str]]:
    """The environment of a client of a bucket with the folder's files."""
    told, tell = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=serve_bucket, args=(folder, tell), daemon=True)
    process.start()
    try:
        yield {"AWS_ENDPOINT_URL": told.recv(), "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    finally:
        process.terminate()
        process.join()


def timed(call: Callable[[], object]) -> float:
    """Seconds."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


# -- download ----------------------------------------------------------------------------------


def by_server(environ: Mapping[str, str], key: str, into: Path) -> None:
    fetch(f"s3://models/{key}", into, environ=environ, report=lambda text: None)


def by_boto(environ: Mapping[str, str], key: str, into: Path) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=environ["AWS_ENDPOINT_URL"],
        aws_access_key_id="k",
        aws_secret_access_key="s",
        region_name="us-east-1",
    )
    client.download_file("models", key, str(into / key))
    client.close()


def by_sockets(environ: Mapping[str, str], key: str, into: Path) -> None:
    """The machine's limit: a few threads, each with one connection, one range and one buffer."""
    host = environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    head = http.client.HTTPConnection(host)
    head.request("HEAD", f"/models/{key}")
    size = int(head.getresponse().headers["content-length"])
    head.close()
    step = -(-size // READERS)
    target = os.open(into / key, os.O_CREAT | os.O_WRONLY)
    os.truncate(target, size)

    def read(first: int) -> None:
        connection = http.client.HTTPConnection(host)
        connection.request("GET", f"/models/{key}", headers={"range": f"bytes={first}-{min(first + step, size) - 1}"})
        response, buffer, place = connection.getresponse(), memoryview(bytearray(1 << 20)), first
        while count := response.readinto(buffer):
            os.pwrite(target, buffer[:count], place)
            place += count
        connection.close()

    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(read, range(0, size, step)))
    os.close(target)


WAYS = (by_server, by_boto, by_sockets)


def downloads(folder: Path, megabytes: int) -> list[Row]:
    """One object by the three ways in turn; the median of each, since single turns differ by half."""
    source = folder / "source"
    source.mkdir()
    with (source / "model.onnx").open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(MEGABYTE))
    took: dict[str, list[float]] = defaultdict(list)
    with bucket(source) as environ:
        for turn in range(TURNS):
            # Each is first, second and last equally often: who comes after whom finds more or less free memory.
            for way in WAYS[turn % 3 :] + WAYS[: turn % 3]:
                into = folder / f"{way.__name__}-{turn}"
                into.mkdir()
                took[way.__name__].append(timed(lambda way=way, into=into: way(environ, "model.onnx", into)))
                assert (into / "model.onnx").stat().st_size == megabytes * MEGABYTE
                shutil.rmtree(into)
    shutil.rmtree(source)
    median = {way: statistics.median(seconds) for way, seconds in took.items()}
    what = f"download of {megabytes} MB from S3"
    return [
        Row(what=what, value=round(median["by_server"], 2), unit="s"),
        Row(what=f"{what}, next to boto3's", value=ratio(median["by_server"], median["by_boto"]), unit="x", goal=0.5),
        Row(
            what=f"{what}, next to bare sockets",
            value=ratio(median["by_server"], median["by_sockets"]),
            unit="x",
            goal=1.5,
        ),
    ]


def ratio(one: float, other: float) -> float:
    return round(one / other, 2)


# -- memory ------------------------------------------------------------------------------------


def growth(environ: Mapping[str, str], into: Path) -> float:
    """Megabytes by which this process grew at most; run in a fresh one."""
    fetch("s3://models/small.onnx", into, environ=environ, report=lambda text: None)
    before = peak_kilobytes()
    fetch("s3://models/large.onnx", into, environ=environ, report=lambda text: None)
    return (peak_kilobytes() - before) * 1024 / MEGABYTE


def peak_kilobytes() -> int:
    """The most memory this program ever had; `ru_maxrss` would count that of the process it was forked from."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])


def memory(folder: Path, megabytes: int) -> Row:
    source = folder / "source"
    source.mkdir()
    (source / "small.onnx").write_bytes(b"x")
    with (source / "large.onnx").open("wb") as file:
        file.truncate(megabytes * MEGABYTE)
    with bucket(source) as environ, SPAWN.Pool(1) as pool:
        grown = pool.apply(growth, (environ, folder / "into"))
    shutil.rmtree(source)
    shutil.rmtree(folder / "into")
    return Row(what=f"memory that a download of {megabytes} MB takes", value=round(grown), unit="MB", goal=200)


# -- a shared cache ----------------------------------------------------------------------------


def share(environ: Mapping[str, str], own: Path, cache: Path, pin: str) -> str:
    _, found = obtain("s3://models/model.onnx", own, Cache(cache), pin, environ=environ, tell=lambda text: None)
    return found


def sharing(folder: Path) -> Row:
    source = folder / "source"
    source.mkdir()
    (source / "model.onnx").write_bytes(os.urandom(50 * MEGABYTE))
    pin = digest(source / "model.onnx")
    with bucket(source) as environ:
        with SPAWN.Pool(SHARERS) as pool:
            work = [(environ, folder / f"own-{one}", folder / "cache", pin) for one in range(SHARERS)]
            assert set(pool.starmap(share, work, chunksize=1)) == {pin}
        with urllib.request.urlopen(environ["AWS_ENDPOINT_URL"] + "/") as told:
            sent = int(told.read())
    return Row(
        what=f"downloads by {SHARERS} processes that share a cache", value=round(sent / 50e6, 2), unit="x", goal=1
    )


# -- start -------------------------------------------------------------------------------------


def start_to_ready(environ: Mapping[str, str], port: int) -> float:
    """Seconds from the start of the process to the first 200 of /readyz."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "model_server"], env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while time.perf_counter() - begun < 60:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                    return time.perf_counter() - begun
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.005)
        raise RuntimeError("the server is not ready after a minute")
    finally:
        process.terminate()
        process.wait()


def starts(folder: Path, port: int) -> list[Row]:
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    rows, labels = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=500).fit(rows, labels), folder / "model.joblib")
    environ = os.environ | {
        "MODEL_SERVER_STORAGE_URI": f"file://{folder}/model.joblib",
        "MODEL_SERVER_TRUSTED": "true",
        "MODEL_SERVER_HOST": "127.0.0.1",
        "MODEL_SERVER_PORT": str(port),
        "MODEL_SERVER_TERMINATION_LOG": str(folder / "termination"),
    }
    ready, imports = [], []
    for _ in range(STARTS):
        imports.append(timed(lambda: subprocess.run([sys.executable, "-c", IMPORTS], check=True)))
        ready.append(start_to_ready(environ, port))
    own, bare = statistics.median(ready), statistics.median(imports)
    return [
        Row(what="start to ready, a small scikit-learn model", value=round(own, 2), unit="s"),
        Row(what=f"the same, next to python -c '{IMPORTS}'", value=ratio(own, bare), unit="x", goal=1.3),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--large-megabytes", type=int, default=4000)
    parser.add_argument("--port", type=int, default=18917, help="a free port on loopback")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modeldeploy-bench-") as place:
        folder = Path(place)
        # Source, copy and some air.
        needed = max(options.megabytes * 2, options.large_megabytes) * MEGABYTE * 1.2
        if shutil.disk_usage(folder).free < needed:
            parser.error(f"{place} has no {needed / 1e9:.0f} GB free: give smaller sizes, or another TMPDIR")
        rows = [
            *downloads(folder, options.megabytes),
            memory(folder, options.large_megabytes),
            sharing(folder),
            *starts(folder, options.port),
        ]
    keep(Table(name="artifacts", title="From storage to ready", rows=tuple(rows)))
    print(publish())
    missed = [row.what for row in rows if row.goal is not None and row.value > row.goal]
    for what in missed:
        print(f"goal missed: {what}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
