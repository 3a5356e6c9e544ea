"""`python benchmarks/server/at_rest.py`: the memory and processor time of a server that has just become ready.

One small model, once as scikit-learn's joblib file and once as an ONNX graph, so that what a library costs shows.
Writes the table between the README's marks.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from memory import memory_of
from models import train
from run import running
from servers import CONTESTANTS
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

HERE = Path(__file__).parent
START, END = "<!-- at rest: written by at_rest.py -->", "<!-- end of at rest -->"
#: Megabytes that each may have.
GOALS = {"scikit-learn": 150, "ONNX": 70}


def main() -> None:
    """Measure both, and publish."""
    one = next(contestant for contestant in CONTESTANTS if contestant.name == "modeldeploy")
    lines = [
        "| model | resident, MB | goal | of it private, MB | processor time to ready, s |",
        "|---|---|---|---|---|",
    ]
    for kind, make in (("scikit-learn", train), ("ONNX", _graph)):
        with tempfile.TemporaryDirectory(prefix="modeldeploy-rest-") as folder:
            make(Path(folder) / "models")
            with running(one, Path(sys.executable), Path(folder), "iris") as (pid, _, _):
                resident, private = memory_of(pid)
                ticks = Path(f"/proc/{pid}/stat").read_text().split()[13:15]
                seconds = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        lines.append(f"| {kind} | {resident:.1f} | {GOALS[kind]} | {private:.1f} | {seconds:.1f} |")
    text = "\n".join(lines) + "\n"
    readme = HERE / "README.md"
    before, rest = readme.read_text().split(START)
    readme.write_text(f"{before}{START}\n\n{text}\n{END}{rest.split(END)[1]}")
    print(text)


def _graph(folder: Path) -> None:
    """The small model of `models.py` as a graph."""
    iris = load_iris()
    model = LogisticRegression(max_iter=500).fit(iris.data, iris.target)
    graph = to_onnx(model, iris.data[:1].astype(np.float32), options={"zipmap": False})
    (folder / "iris").mkdir(parents=True)
    (folder / "iris" / "model.onnx").write_bytes(graph.SerializeToString())


if __name__ == "__main__":
    main()
