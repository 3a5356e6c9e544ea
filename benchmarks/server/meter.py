"""What the meter in front of a server that is not ours costs: processor time of each request, and latency.

    python benchmarks/server/meter.py        (a minute; needs wrk)

The server behind is a bare asyncio protocol with llhttp that answers 200 bytes. The floor is a relay that copies bytes
between two sockets, in the same loop (uvloop), and reads nothing: what two more sockets cost any proxy in Python.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from report import Row, Table, keep, publish

SECONDS, ROUNDS, CLIENTS = 3, 3, 8
#: Microseconds of processor time that a request may take in the meter.
GOAL = 60.0
BEHIND = """
import asyncio, sys, httptools, uvloop
BODY = b'{"predictions": [%s]}' % b",".join([b"0"] * 89)
HEAD = b"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(BODY)
class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.parser = transport, httptools.HttpRequestParser(self)
    def data_received(self, data):
        self.parser.feed_data(data)
    def on_message_complete(self):
        self.transport.write(HEAD + BODY)
async def main():
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
uvloop.run(main())
"""
RELAY = """
import asyncio, sys, uvloop
class Side(asyncio.Protocol):
    def __init__(self, other=None):
        self.other, self.early = other, []
    def connection_made(self, transport):
        self.transport = transport
        if self.other is None:
            asyncio.get_running_loop().create_task(self.connect())
    async def connect(self):
        loop = asyncio.get_running_loop()
        _, self.other = await loop.create_connection(lambda: Side(self), "127.0.0.1", int(sys.argv[2]))
        for data in self.early:
            self.other.transport.write(data)
    def data_received(self, data):
        self.early.append(data) if self.other is None else self.other.transport.write(data)
    def connection_lost(self, error):
        if self.other is not None:
            self.other.transport.close()
async def main():
    server = await asyncio.get_running_loop().create_server(Side, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
uvloop.run(main())
"""


@contextmanager
def process(*words: str, **variables: str) -> Iterator[int]:
    """Run Python with these words; its process id."""
    child = subprocess.Popen([sys.executable, *words], env=os.environ | variables, stdout=subprocess.DEVNULL)
    try:
        yield child.pid
    finally:
        child.terminate()
        child.wait()


def meter(port: int, behind: int, scratch: Path, **settings: str) -> dict[str, str]:
    """The variables of a meter."""
    given = {
        "METER_UPSTREAM_PORT": str(behind),
        "METER_READINESS_PATH": "/ready",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "TERMINATION_LOG": str(scratch / "termination"),
        **settings,
    }
    return {f"MODEL_SERVER_{name}": value for name, value in given.items()}


def processor_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(port: int, script: Path, seconds: int = SECONDS) -> tuple[int, float]:
    """Requests that wrk has sent, and their median latency in microseconds."""
    words = [
        "wrk",
        "-t1",
        f"-c{CLIENTS}",
        f"-d{seconds}s",
        "--latency",
        "-s",
        str(script),
        f"http://127.0.0.1:{port}/score",
    ]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(said)
    count, half = re.search(r"(\d+) requests in", said), re.search(r"50%\s+([\d.]+)(us|ms)", said)
    assert count, said
    assert half, said
    return int(count[1]), float(half[1]) * {"us": 1, "ms": 1000}[half[2]]


def measure(pid: int, port: int, script: Path) -> tuple[float, float]:
    """Microseconds of processor time a request, and the median latency: the best of some rounds."""
    load(port, script, 1)
    found = []
    for _ in range(ROUNDS):
        before = processor_seconds(pid)
        count, half = load(port, script)
        found.append(((processor_seconds(pid) - before) / count * 1e6, half))
    return min(cost for cost, _ in found), min(half for _, half in found)


def script(scratch: Path, size: int, *headers: str) -> Path:
    """A script for wrk that posts a body of this size."""
    file = scratch / f"{size}-{len(headers)}.lua"
    lines = [
        "wrk.method = 'POST'",
        f"wrk.body = string.rep('1', {size})",
        "wrk.headers['content-type'] = 'application/json'",
    ]
    file.write_text("\n".join([*lines, *headers]))
    return file


def main() -> None:
    """Measure, print, and keep the table."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        keys = scratch / "keys"
        keys.mkdir()
        (keys / "bench").write_text("secret")
        log = {"INPUT_LOG_SAMPLE_RATE": "1", "INPUT_LOG_SINK": (scratch / "log").as_uri()}
        small, large = script(scratch, 300), script(scratch, 65_536)
        keyed = script(scratch, 300, "wrk.headers['x-api-key'] = 'secret'")
        (scratch / "behind.py").write_text(BEHIND)
        (scratch / "relay.py").write_text(RELAY)
        variants = {
            "the meter, 300 bytes": (meter(18102, 18100, scratch), small),
            "the same, with an API key": (meter(18103, 18100, scratch, AUTH_DIR=str(keys)), keyed),
            "the same, answers kept for labels (openInference)": (
                meter(18104, 18100, scratch, METER_PROTOCOL="openInference"),
                small,
            ),
            "the meter, 64 KiB": (meter(18105, 18100, scratch), large),
            "the meter, 300 bytes, every request in the input log": (meter(18106, 18100, scratch, **log), small),
        }
        rows = []
        with process(str(scratch / "behind.py"), "18100") as behind:
            time.sleep(1)
            own, direct = measure(behind, 18100, small)
            rows.append(Row(what="the server behind, asked directly, 300 bytes", value=round(own, 1), unit="us"))
            with process(str(scratch / "relay.py"), "18101", "18100") as relay:
                time.sleep(1)
                for what, file in (("300 bytes", small), ("64 KiB", large)):
                    cost, _ = measure(relay, 18101, file)
                    rows.append(Row(what=f"floor: a relay of bytes, {what}", value=round(cost, 1), unit="us"))
            halves = []
            for what, (variables, file) in variants.items():
                with process("-m", "model_server", "meter", **variables) as pid:
                    time.sleep(2)
                    cost, half = measure(pid, int(variables["MODEL_SERVER_PORT"]), file)
                    goal = None if "input log" in what else GOAL
                    rows.append(Row(what=what, value=round(cost, 1), unit="us", goal=goal))
                    halves.append(half)
                    if what == "the meter, 300 bytes":
                        rows.append(Row(what="its memory", value=round(resident(pid) / 2**20), unit="MiB"))
        rows.append(
            Row(what=f"median latency of {CLIENTS} clients at full load, directly", value=round(direct), unit="us")
        )
        rows.append(Row(what="the same, through the meter", value=round(halves[0]), unit="us"))
    table = Table(
        name="meter", title="A meter before a server that is not ours: processor time a request", rows=tuple(rows)
    )
    keep(table)
    print(publish())


def resident(pid: int) -> int:
    """Resident memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
