"""`make bench-server`: the model server against its peers, on this machine, with the same models.

    python benchmarks/server/run.py [--rounds 3] [--seconds 1] [--only modeldeploy,kserve] [--keep]

Rounds are interleaved: each starts every server anew, checks its answers against the model's own, loads
it with wrk, and stops it. The tables show medians. Peers live in virtual environments of their own under
`--venvs`. wrk must be installed (Debian: apt-get install wrk).
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models import WORKS, Work, train
from servers import CONTESTANTS, Contestant, Endpoint, environment
from tables import publish

from modeldeploy.stand import free_port

HERE = Path(__file__).parent
CONCURRENCY = (1, 16, 64)
START_SECONDS = 90
LUA = """
local file = io.open(os.getenv("BODY"), "r"); wrk.body = file:read("*a"); file:close()
wrk.method = "POST"; wrk.headers["content-type"] = "application/json"
"""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One measurement."""

    server: str
    work: str
    concurrency: int
    requests_per_second: float
    p99_milliseconds: float
    cpu_microseconds: float
    errors: int
    rss_megabytes: float
    start_seconds: float


def main() -> int:
    options = _options()
    if shutil.which("wrk") is None:
        print("wrk is not installed; on Debian: apt-get install wrk", file=sys.stderr)
        return 1
    only = set(options.only.split(",")) if options.only else None
    chosen = [one for one in CONTESTANTS if only is None or one.name in only]
    cells: list[Cell] = []
    with tempfile.TemporaryDirectory(prefix="modeldeploy-bench-") as folder:
        models = Path(folder) / "models"
        expected = train(models)
        (Path(folder) / "post.lua").write_text(LUA)
        pythons = {one.name: _venv(one, options.venvs) for one in chosen}
        for number in range(options.rounds):
            for one in chosen:
                print(f"round {number + 1}/{options.rounds}: {one.name}", flush=True)
                cells += measure(one, pythons[one.name], Path(folder), expected, options.seconds)
    results = HERE / "results.json"
    results.write_text(json.dumps([asdict(cell) for cell in cells], indent=1) + "\n")
    print(publish(results, HERE / "README.md"))
    return 0


def measure(one: Contestant, python: Path, folder: Path, expected: dict[str, Any], seconds: float) -> list[Cell]:
    """All cells of one server, in one start, or one start for each model."""
    cells = []
    groups = [[work] for work in WORKS] if one.per_model else [list(WORKS)]
    merged: dict[str, list[Work]] = {}
    for group in groups:
        for work in group:
            merged.setdefault(work.model if one.per_model else "", []).append(work)
    for model, works in merged.items():
        with running(one, python, folder, model or "iris") as (process, port, started):
            for work in works:
                for endpoint in one.endpoints:
                    body = folder / "body.json"
                    rows = expected[work.model]["rows"][: work.rows]
                    body.write_text(json.dumps(endpoint.body(rows)))
                    if one.checks:
                        _check(
                            port, endpoint, work, body.read_bytes(), expected[work.model]["predictions"][: work.rows]
                        )
                    _load(port, endpoint, work, body, folder, 16, 0.5)
                    for concurrency in CONCURRENCY:
                        cells.append(
                            _cell(one, endpoint, work, port, process, body, folder, concurrency, seconds, started)
                        )
    return cells


def _cell(
    one: Contestant,
    endpoint: Endpoint,
    work: Work,
    port: int,
    process: int,
    body: Path,
    folder: Path,
    concurrency: int,
    seconds: float,
    started: float,
) -> Cell:
    before = _cpu_seconds(process)
    rate, p99, count, errors = _load(port, endpoint, work, body, folder, concurrency, seconds)
    cpu = _cpu_seconds(process) - before
    name = one.name if len(one.endpoints) == 1 else f"{one.name} {endpoint.name}"
    return Cell(
        server=name,
        work=work.name,
        concurrency=concurrency,
        requests_per_second=rate,
        p99_milliseconds=p99,
        cpu_microseconds=cpu / count * 1e6 if count else 0.0,
        errors=errors,
        rss_megabytes=_rss_megabytes(process),
        start_seconds=started,
    )


def _load(
    port: int, endpoint: Endpoint, work: Work, body: Path, folder: Path, concurrency: int, seconds: float
) -> tuple[float, float, int, int]:
    """Requests/s, p99 in ms, requests and errors of wrk's closed loop over kept connections."""
    url = f"http://127.0.0.1:{port}{endpoint.path.format(model=work.model)}"
    command = ["wrk", "-t1", f"-c{concurrency}", f"-d{max(1, round(seconds))}s", "--latency", "--timeout", "10s"]
    done = subprocess.run(
        [*command, "-s", str(folder / "post.lua"), url],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"BODY": str(body)},
    )
    text = done.stdout
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])  # type: ignore[index]
    value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    count = int(re.search(r"(\d+) requests in", text)[1])  # type: ignore[index]
    errors = sum(int(number) for number in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    errors += sum(
        int(number) for line in re.findall(r"Socket errors: (.*)", text) for number in re.findall(r"\d+", line)
    )
    return rate, float(value) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit], count, errors


def _check(port: int, endpoint: Endpoint, work: Work, body: bytes, expected: list[Any]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", endpoint.path.format(model=work.model), body, {"content-type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if answer.status != 200 or [int(value) for value in endpoint.predictions(json.loads(content))] != expected:
        raise SystemExit(f"{endpoint.path} answered {answer.status} {content[:200]!r}, expected {expected[:5]} ...")


@contextmanager
def running(one: Contestant, python: Path, folder: Path, model: str) -> Iterator[tuple[int, int, float]]:
    """Process id, port and seconds to readiness of a server that ends with the block."""
    port = free_port()
    own = folder / f"own-{one.name}"
    own.mkdir(exist_ok=True)
    command = one.command(python, port, folder / "models", own)
    environ = environment(one, folder / "models", model, port) | {"PATH": f"{python.parent}:{os.environ['PATH']}"}
    began = time.monotonic()
    with (folder / f"{one.name}.log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, cwd=own, start_new_session=True)
        try:
            while not _is_ready(port, one.ready):
                if process.poll() is not None or time.monotonic() - began > START_SECONDS:
                    raise SystemExit(f"{one.name} did not start:\n{(folder / f'{one.name}.log').read_text()[-3000:]}")
                time.sleep(0.02)
            yield process.pid, port, time.monotonic() - began
        finally:
            # Some servers give their workers sessions of their own, which a signal to the group does not reach.
            for pid in reversed(_tree(process.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()


def _is_ready(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _tree(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += _tree(int(child))
    return found


def _cpu_seconds(pid: int) -> float:
    ticks = 0
    for one in _tree(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _rss_megabytes(pid: int) -> float:
    return (
        sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in _tree(pid))
        * os.sysconf("SC_PAGE_SIZE")
        / 1e6
    )


def _venv(one: Contestant, folder: Path) -> Path:
    """The Python of a peer's environment, made when it is missing."""
    if not one.packages:
        return Path(sys.executable)
    place = folder / one.name.removesuffix("-batching").removesuffix("-accelerated")
    if not (place / ".done").exists():
        print(f"installing {', '.join(one.packages)} into {place} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        subprocess.run([str(place / "bin" / "pip"), "install", "--quiet", *one.packages], check=True)
        (place / ".done").touch()
    return place / "bin" / "python"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--venvs", type=Path, default=Path(tempfile.gettempdir()) / "modeldeploy-bench-venvs")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
