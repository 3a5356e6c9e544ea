"""What data quality costs a prediction: the same server with it off and on, asked by wrk in turns.

Requests per second, and the server's processor time for a request, which other work on the machine disturbs less.
Run `python benchmarks/server/data_quality.py`; wrk must be installed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import yaml
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

SCRIPT = """
local file = io.open(os.getenv("BODY"), "r"); wrk.body = file:read("*a"); file:close()
wrk.method = "POST"; wrk.headers["content-type"] = "application/json"
"""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Round:
    """What one run of wrk measured: requests per second, and processor seconds of the server for a request."""

    rate: float
    cost: float


def package(folder: Path) -> None:
    """A linear model of 30 features with its profile."""
    data = load_breast_cancer()
    names = [name.replace(" ", "_") for name in data.feature_names]
    joblib.dump(
        make_pipeline(StandardScaler(), LogisticRegression()).fit(data.data, data.target), folder / "model.joblib"
    )
    profile = {}
    for place, name in enumerate(names):
        edges = np.unique(np.quantile(data.data[:, place], np.linspace(0, 1, 11)))
        counts, _ = np.histogram(data.data[:, place], bins=edges)
        profile[name] = {"edges": edges.tolist(), "counts": counts.tolist(), "missing": 0}
    about = {"input_features": [{"name": name} for name in names], "reference_profile": profile}
    (folder / "model.yaml").write_text(yaml.safe_dump(about))


@contextmanager
def server(folder: Path, *, source: Path | None = None, **more: str) -> Iterator[tuple[int, int]]:
    """A running server, with more settings: its process id and port. `explaining.py` and `steps.py` use it too.

    `source` is the folder `server_image` of another checkout, to compare with.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"STORAGE_URI": f"file://{folder}", "TRUSTED": "true", "HOST": "127.0.0.1", "PORT": str(port)}
    settings |= more | {"LOG_LEVEL": "error", "TERMINATION_LOG": "/dev/null"}
    environ = os.environ | {f"MODEL_SERVER_{name}": value for name, value in settings.items()}
    if source is not None:
        environ["PYTHONPATH"] = str(source)
    process = subprocess.Popen([sys.executable, "-m", "model_server"], env=environ)
    try:
        _wait(port)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait(30)


def _wait(port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the server did not become ready in a minute")


def measure(pid: int, port: int, script: Path, body: Path, seconds: int) -> Round:
    """One run of wrk with 16 connections."""
    before = _processor_seconds(pid)
    command = ["wrk", "-t1", "-c16", f"-d{seconds}s", "-s", str(script)]
    url = f"http://127.0.0.1:{port}/v1/models/model:predict"
    said = subprocess.run([*command, url], env=os.environ | {"BODY": str(body)}, capture_output=True, text=True)
    found = re.search(r"(\d+) requests in", said.stdout)
    if found is None or "Non-2xx" in said.stdout or int(found[1]) == 0:
        raise SystemExit(f"wrk did not get its answers:\n{said.stdout}{said.stderr}")
    requests = int(found[1])
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said.stdout)[1])  # type: ignore[index]
    return Round(rate, (_processor_seconds(pid) - before) / requests)


def _processor_seconds(pid: int) -> float:
    """Of the process and of its children that are alive: workers."""
    own = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (int(own[11]) + int(own[12])) / _TICKS + sum(_processor_seconds(int(child)) for child in children)


def main() -> None:
    """Measure in turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "model").mkdir()
        package(folder / "model")
        body, script = folder / "body.json", folder / "wrk.lua"
        body.write_text(json.dumps({"instances": load_breast_cancer().data[:1].tolist()}))
        script.write_text(SCRIPT)
        with server(folder / "model") as off, server(folder / "model", DATA_QUALITY="true") as on:
            pairs = [
                tuple(measure(*one, script, body, given.seconds) for one in (off, on)) for _ in range(given.rounds)
            ]
    print("| data quality | requests per second | processor time of a request |\n|---|---|---|")
    for place, name in enumerate(("off", "on")):
        rate = statistics.median(pair[place].rate for pair in pairs)
        cost = statistics.median(pair[place].cost for pair in pairs)
        print(f"| {name} | {rate:.0f} | {cost * 1e6:.0f} µs |")
    ratio = statistics.median(on.cost / off.cost for off, on in pairs)
    print(f"\nOn costs {ratio - 1:+.1%} processor time (median of {len(pairs)} pairs).")


if __name__ == "__main__":
    main()
