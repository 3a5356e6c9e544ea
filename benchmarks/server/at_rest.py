"""`python benchmarks/server/at_rest.py`: the memory and processor time of a server that has answered once.

One small model, once as scikit-learn's joblib file and once as an ONNX graph, so that what a library costs shows. Next
to it the floor: a bare Python that loads the same file and predicts once, with no server around it. Memory that is a
file's (code, mostly) and memory that is not are told apart: only the second is lost to others.
Writes the table between the README's marks.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from models import train
from run import running
from servers import CONTESTANTS
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

HERE = Path(__file__).parent
START, END = "<!-- at rest: written by at_rest.py -->", "<!-- end of at rest -->"
ROW = [5.1, 3.5, 1.4, 0.2]

BARE_ONNX = f"""
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession("iris/model.onnx", options, providers=["CPUExecutionProvider"])
session.run(None, {{session.get_inputs()[0].name: numpy.array([{ROW}], numpy.float32)}})
"""
BARE_SKLEARN = f"""
import joblib
joblib.load("iris/model.joblib").predict([{ROW}])
"""
TELL = "\nprint(open('/proc/self/smaps_rollup').read())"


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes: all that is resident, and of that what no file holds."""

    resident: float
    anonymous: float


def main() -> None:
    """Measure both, and publish."""
    one = next(contestant for contestant in CONTESTANTS if contestant.name == "modeldeploy")
    lines = [
        "| model | resident, MB | goal | of it in no file, MB | bare library: resident, MB | in no file, MB "
        "| processor time to ready, s |",
        "|---|---|---|---|---|---|---|",
    ]
    kinds: list[tuple[str, Callable[[Path], Any], str, int]] = [
        ("scikit-learn", train, BARE_SKLEARN, 140),
        ("ONNX", _graph, BARE_ONNX, 85),
    ]
    for kind, make, bare, goal in kinds:
        with tempfile.TemporaryDirectory(prefix="modeldeploy-rest-") as folder:
            models = Path(folder) / "models"
            make(models)
            floor = _bare(bare, models)
            with running(one, Path(sys.executable), Path(folder), "iris") as (pid, port, _):
                ticks = Path(f"/proc/{pid}/stat").read_text().split()[13:15]
                seconds = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
                _ask(port)
                found = _memory(Path(f"/proc/{pid}/smaps_rollup").read_text())
        lines.append(
            f"| {kind} | {found.resident:.1f} | {goal} | {found.anonymous:.1f} | {floor.resident:.1f} "
            f"| {floor.anonymous:.1f} | {seconds:.1f} |"
        )
    text = "\n".join(lines) + "\n"
    readme = HERE / "README.md"
    before, rest = readme.read_text().split(START)
    readme.write_text(f"{before}{START}\n\n{text}\n{END}{rest.split(END)[1]}")
    print(text)


def _ask(port: int) -> None:
    """One prediction and one scrape, as every pod gets them."""
    head = {"content-type": "application/json"}
    body = json.dumps({"instances": [ROW]}).encode()
    for request in (
        urllib.request.Request(f"http://127.0.0.1:{port}/predict", body, head),
        urllib.request.Request(f"http://127.0.0.1:{port}/metrics"),
    ):
        with urllib.request.urlopen(request) as answer:
            answer.read()


def _bare(script: str, models: Path) -> Memory:
    """A Python process that does nothing else."""
    environ = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script + TELL]
    done = subprocess.run(command, cwd=models, env=environ, capture_output=True, text=True, check=True)
    return _memory(done.stdout)


def _memory(rollup: str) -> Memory:
    figures = dict(re.findall(r"^(\w+): +(\d+) kB", rollup, re.MULTILINE))
    return Memory(int(figures["Rss"]) * 1024 / 1e6, int(figures["Anonymous"]) * 1024 / 1e6)


def _graph(folder: Path) -> None:
    """The small model of `models.py` as a graph."""
    iris = load_iris()
    model = LogisticRegression(max_iter=500).fit(iris.data, iris.target)
    graph = to_onnx(model, iris.data[:1].astype(np.float32), options={"zipmap": False})
    (folder / "iris").mkdir(parents=True)
    (folder / "iris" / "model.onnx").write_bytes(graph.SerializeToString())


if __name__ == "__main__":
    main()
