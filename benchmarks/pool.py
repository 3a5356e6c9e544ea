"""`make bench-pool`: a thousand small models in one pool, next to a server for each, and to MLServer with all of them.

    python benchmarks/pool.py [--models 1000] [--requests 5000] [--venvs .venvs]

Random forests of scikit-learn, each trained on its own, about 1 MB as a file. One client sends one row at a time: times
are latencies and not queues. Memory is the proportional set size (PSS) of all processes of a server; of a server
for each model it is what belongs to one process alone (USS) times their number, the least that so many can need.

MLServer is installed from PyPI into an environment of its own. It loads all models at its start, and unloads none by
itself. Its cold hit is a model that was unloaded by the repository API, loaded by it, and asked; it reads the whole
repository for each, which takes so long that a sample is measured.
"""

import argparse
import http.client
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from report import Row, Table, keep, publish
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor

from modeldeploy.stand import free_port

MEGABYTE = 2**20
GOAL_MEGABYTES = 1500
#: What the pool may hold where every model is to be in memory, and where only some are.
WIDE, NARROW = 1400 * MEGABYTE, 600 * MEGABYTE
TREES = 25
#: Models that are loaded before the pool is ready, so that both processes have imported scikit-learn.
PRELOADED = 8
SINGLE_SERVERS = 3
START_SECONDS = 900
#: Models that MLServer loads again.
RELOADED = 20
MLSERVER = ("mlserver==1.7.1", "mlserver-sklearn==1.7.1", "scikit-learn==1.9.1", "joblib")


def train(folder: Path, number: int) -> int:
    """One model's package; the size of its file."""
    path = folder / name_of(number) / "model.joblib"
    if path.exists():
        return path.stat().st_size
    data, target = load_diabetes(return_X_y=True)
    path.parent.mkdir(parents=True)
    joblib.dump(RandomForestRegressor(TREES, random_state=number).fit(data, target + number), path)
    return path.stat().st_size


def name_of(number: int) -> str:
    return f"forest-{number:04d}"


@dataclass
class Memory:
    """What the processes of a server hold, in MB."""

    shared: float
    alone: float


def memory_of(root: int) -> Memory:
    """PSS and USS of a process and all below it."""
    pss = uss = 0
    for pid in _family(root):
        with suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
            pss += sizes["Pss"]
            uss += sizes["Private_Clean"] + sizes["Private_Dirty"]
    return Memory(pss / 1024, uss / 1024)


def _family(root: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parts = path.read_text().rpartition(")")[2].split()
            parents.setdefault(int(parts[1]), []).append(int(path.parent.name))
    found, rest = [], [root]
    while rest:
        pid = rest.pop()
        found.append(pid)
        rest += parents.get(pid, [])
    return found


class Client:
    """One connection that sends one row at a time."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._rows = load_diabetes(return_X_y=True)[0]
        #: Whether the last request had to wait until its model was loaded.
        self.was_cold = False

    def infer(self, number: int) -> float:
        """Seconds until the answer, which has to be that of the model."""
        row = random.choice(self._rows)
        tensor = {"name": "predict", "shape": [1, 10], "datatype": "FP64", "data": row.tolist()}
        began = time.perf_counter()
        answer = self.post(f"/v2/models/{name_of(number)}/infer", json.dumps({"inputs": [tensor]}))
        seconds = time.perf_counter() - began
        # Each model's targets are shifted by its number.
        value = answer["outputs"][0]["data"][0]
        assert 0 < value - number < 400, (number, value)
        return seconds

    def wait(self, path: str) -> None:
        """Wait until a path answers with 200."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self._connection.request("GET", path)
            response = self._connection.getresponse()
            response.read()
            if response.status == 200:
                return
            time.sleep(0.1)
        raise TimeoutError(path)

    def post(self, path: str, body: str) -> Any:
        self._connection.request("POST", path, body, {"content-type": "application/json"})
        response = self._connection.getresponse()
        text = response.read()
        self.was_cold = "load;dur" in response.headers.get("server-timing", "")
        assert response.status == 200, f"{path}: {response.status} {text[:500]!r}"
        return json.loads(text) if text.strip() else None

    def loaded(self) -> int:
        """How many models of a pool are in memory."""
        return len(self.post("/v2/repository/index", '{"ready": true}'))


@contextmanager
def running(command: Sequence[str], environ: dict[str, str], port: int, ready: str, log: Path) -> Iterator[int]:
    """A server's process id, once it is ready."""
    base = {name: value for name, value in os.environ.items() if not name.startswith("MODEL_SERVER_")}
    base |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | environ
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=base, stdout=output, stderr=output, start_new_session=True)
    try:
        _wait(process, port, ready, log)
        yield process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, ready: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", ready)
            if connection.getresponse().status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"it does not become ready: {log.read_text()[-2000:]}")


@contextmanager
def our_pool(folder: Path, count: int, budget: int) -> Iterator[tuple[Client, int]]:
    """A pool with so many models, and its process id."""
    listed = [
        {"name": name_of(number), "storageUri": f"file://{folder / 'models' / name_of(number)}", "trusted": True}
        for number in range(count)
    ]
    (folder / "list.json").write_text(json.dumps({"models": listed}))
    port = free_port()
    settings = {"HOST": "127.0.0.1", "PORT": port, "LOG_LEVEL": "warning", "TERMINATION_LOG": folder / "termination"}
    settings |= {"POOL_MODELS": folder / "list.json", "POOL_MEMORY_BYTES": budget, "POOL_PRELOAD": PRELOADED}
    environ = {f"MODEL_SERVER_{name}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "model_server", "pool"]
    with running(command, environ, port, "/readyz", folder / "pool.log") as pid:
        yield Client(port), pid


@dataclass
class Measured:
    """One server with all models. `cold` and `warm` are seconds, each of one request."""

    name: str
    start: float
    memory: Memory
    cold: list[float]
    warm: list[float]
    loaded: int


def all_in_memory(folder: Path, count: int, requests: int) -> Measured:
    """The pool with room for every model: a first request for each, then requests for any."""
    began = time.perf_counter()
    with our_pool(folder, count, WIDE) as (client, pid):
        start = time.perf_counter() - began
        cold = [client.infer(number) for number in random.sample(range(count), count)]
        warm = [client.infer(random.randrange(count)) for _ in range(requests)]
        return Measured(f"pool, budget {WIDE // MEGABYTE} MiB", start, memory_of(pid), cold, warm, client.loaded())


def some_in_memory(folder: Path, count: int, requests: int) -> Measured:
    """The pool with room for some: requests for models as popular as Zipf's law says."""
    weights = 1 / np.arange(1, count + 1)
    numbers = np.random.default_rng(7).choice(count, requests, p=weights / weights.sum())
    began = time.perf_counter()
    with our_pool(folder, count, NARROW) as (client, pid):
        start = time.perf_counter() - began
        cold: list[float] = []
        warm: list[float] = []
        for number in map(int, numbers):
            seconds = client.infer(number)
            (cold if client.was_cold else warm).append(seconds)
        return Measured(f"pool, budget {NARROW // MEGABYTE} MiB", start, memory_of(pid), cold, warm, client.loaded())


def servers_for_each(folder: Path, count: int, requests: int) -> Measured:
    """Some servers of one model each: their memory, times the number of models."""
    processes, starts, alone, cold, warm = [], [], [], [], []
    for number in range(SINGLE_SERVERS):
        port = free_port()
        settings = {
            "HOST": "127.0.0.1",
            "PORT": port,
            "LOG_LEVEL": "warning",
            "TERMINATION_LOG": folder / "termination",
        }
        settings |= {"STORAGE_URI": f"file://{folder / 'models' / name_of(number)}", "TRUSTED": "true"}
        environ = {f"MODEL_SERVER_{name}": str(value) for name, value in settings.items()}
        environ["MODEL_SERVER_NAME"] = name_of(number)
        began = time.perf_counter()
        one = running([sys.executable, "-m", "model_server"], environ, port, "/readyz", folder / "one.log")
        processes.append(one)
        pid = one.__enter__()
        starts.append(time.perf_counter() - began)
        client = Client(port)
        cold.append(client.infer(number))
        warm += [client.infer(number) for _ in range(requests // SINGLE_SERVERS)]
        alone.append(pid)
    memories = [memory_of(pid).alone for pid in alone]
    for one in processes:
        one.__exit__(None, None, None)
    least = statistics.mean(memories) * count
    name = f"{count} servers of one model, from {SINGLE_SERVERS}"
    return Measured(name, statistics.mean(starts), Memory(least, least), [], warm, count)


def mlserver(folder: Path, count: int, requests: int, venvs: Path) -> Measured:
    """MLServer with one repository of all models, loaded at its start; some are unloaded and loaded again."""
    python = _installed(venvs / "pool-mlserver")
    port = free_port()
    own = folder / "mlserver"
    own.mkdir()
    settings = {"parallel_workers": 0, "debug": False, "host": "127.0.0.1"}
    settings |= {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    (own / "settings.json").write_text(json.dumps(settings))
    for number in range(count):
        name = name_of(number)
        (own / name).mkdir()
        about: dict[str, Any] = {"name": name, "implementation": "mlserver_sklearn.SKLearnModel"}
        about["parameters"] = {"uri": str(folder / "models" / name / "model.joblib")}
        (own / name / "model-settings.json").write_text(json.dumps(about))
    began = time.perf_counter()
    command = [str(python), "-m", "mlserver.cli.main", "start", str(own)]
    with running(command, {}, port, "/v2/health/ready", folder / "mlserver.log") as pid:
        client = Client(port)
        for number in range(count):
            client.wait(f"/v2/models/{name_of(number)}/ready")
        start = time.perf_counter() - began
        warm = [client.infer(random.randrange(count)) for _ in range(requests)]
        memory = memory_of(pid)
        cold = []
        for number in random.sample(range(count), min(count, RELOADED)):
            client.post(f"/v2/repository/models/{name_of(number)}/unload", "")
            asked = time.perf_counter()
            client.post(f"/v2/repository/models/{name_of(number)}/load", "")
            client.infer(number)
            cold.append(time.perf_counter() - asked)
        return Measured("MLServer 1.7.1, one process", start, memory, cold, warm, count)


def _installed(place: Path) -> Path:
    if not (place / ".done").exists():
        print(f"installing {', '.join(MLSERVER)} into {place} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        subprocess.run([str(place / "bin" / "pip"), "install", "--quiet", *MLSERVER], check=True)
        (place / ".done").touch()
    return place / "bin" / "python"


def milliseconds(values: Sequence[float], share: float) -> str:
    """A percentile, as text; a dash of none."""
    return f"{float(np.percentile(values, share)) * 1000:.1f} ms" if values else "-"


_NOTE = (
    " Memory is the PSS of all processes, and for a server\nof each model what one has alone (USS) times their number."
    " Cold hits wait until their model is loaded: in the pool by the\n"
    "request itself, in MLServer by its repository API."
)


def shown(measured: Sequence[Measured], size: float) -> str:
    """The table, and what was measured."""
    head = (
        "server",
        "ready after",
        "models in memory",
        "memory",
        "cold hits",
        "cold p50",
        "cold p99",
        "warm p50",
        "warm p99",
    )
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for one in measured:
        cells = (
            one.name,
            f"{one.start:.1f} s",
            str(one.loaded),
            f"{one.memory.shared:.0f} MB",
            str(len(one.cold)) if one.cold else "-",
            milliseconds(one.cold, 50),
            milliseconds(one.cold, 99),
            milliseconds(one.warm, 50),
            milliseconds(one.warm, 99),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(
        [*lines, "", f"Files of {size:.2f} MB on average; every answer was checked, and none was refused.{_NOTE}"]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--venvs", type=Path, default=Path(".venvs"))
    parser.add_argument("--folder", type=Path, help="where trained models lie, or are kept for another run")
    options = parser.parse_args()
    random.seed(7)
    count, requests = options.models, options.requests
    with tempfile.TemporaryDirectory(prefix="modeldeploy-pool-") as temporary:
        folder = Path(temporary)
        models = (options.folder or folder / "trained").absolute()
        (folder / "models").symlink_to(models)
        print(f"training {count} models", flush=True)
        with ProcessPoolExecutor() as processes:
            sizes = list(processes.map(train, [models] * count, range(count), chunksize=20))
        measured = []
        for measure in (all_in_memory, some_in_memory, servers_for_each):
            print(measure.__name__.replace("_", " "), flush=True)
            measured.append(measure(folder, count, requests))
        print("MLServer", flush=True)
        measured.append(mlserver(folder, count, requests, options.venvs.absolute()))
    wide, narrow, each, peer = measured
    rows = (
        Row(what="memory of the pool with all models", value=wide.memory.shared, unit="MB", goal=GOAL_MEGABYTES),
        Row(what="p99 of its cold hits", value=float(np.percentile(wide.cold, 99)) * 1000, unit="ms"),
        Row(what="memory of the pool with room for some", value=narrow.memory.shared, unit="MB"),
        Row(what="memory of a server for each", value=each.memory.shared, unit="MB"),
        Row(what="memory of MLServer with all models", value=peer.memory.shared, unit="MB"),
    )
    title = f"{count} small models in one pool"
    keep(Table(name="pool", title=title, rows=rows, shown=shown(measured, statistics.mean(sizes) / 1e6)))
    print(publish())
    return 0 if wide.memory.shared <= GOAL_MEGABYTES else 1


if __name__ == "__main__":
    sys.exit(main())
