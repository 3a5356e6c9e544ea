"""Batches: every row once, whatever dies."""

import json
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from modeldeploy.kube import Resource

BATCHES = Resource("modeldeploy.dev", "v1alpha1", "modelbatches")
JOBS = Resource("batch", "v1", "jobs")

DOUBLE = """
import time
def load_model(path): return 1
def predict(model, inputs):
    time.sleep({pause})
    return inputs[:, 0] * {factor}
"""


@pytest.fixture
def home(space: Any, tmp_path: Path) -> Path:
    """A folder for tables and packages that pods can read."""
    if space.cluster.running is None:
        pytest.skip("pods of this cluster do not see the files of this machine")
    return tmp_path


def package(home: Path, *, pause: float = 0, factor: int = 2) -> str:
    folder = home / f"model-{factor}-{pause}"
    folder.mkdir()
    (folder / "model.py").write_text(DOUBLE.format(pause=pause, factor=factor))
    (folder / "model.yaml").write_text("input_features: [{name: a}]\n")
    return folder.as_uri()


def table(home: Path, rows: int) -> str:
    text = "".join(f"{index},row {index}\n" for index in range(rows))
    (home / "in.csv").write_text(f"a,id\n{text}")
    return (home / "in.csv").as_uri()


def apply(space: Any, name: str, **spec: Any) -> None:
    body = {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": "ModelBatch", "metadata": {"name": name}, "spec": spec}
    space.kube.apply(BATCHES, body)


def status(space: Any, name: str) -> dict[str, Any]:
    space.cluster.check()
    return space.kube.get(BATCHES, name).get("status", {})


def ended(space: Any, name: str, phase: str = "Complete", seconds: float = 120) -> dict[str, Any]:
    """Wait for the end of a batch, which must be this one."""
    over = lambda: (found := status(space, name)).get("phase") in ("Complete", "Failed") and found  # noqa: E731
    found = wait_until(over, f"batch {name} is over", seconds=seconds)
    assert found["phase"] == phase, found
    return found


def rows_of(folder: Path) -> list[dict[str, Any]]:
    parts = sorted(folder.glob("part-*.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


def test_a_batch_predicts_every_row_once_in_order(space: Any, home: Path) -> None:
    model = {"storageUri": package(home), "trusted": True}
    source = table(home, 1000)
    apply(
        space,
        "plain",
        model=model,
        input={"uri": source},
        output={"uri": (home / "out").as_uri()},
        shards=3,
        parallelism=2,
    )
    found = ended(space, "plain")
    assert [row["prediction"] for row in rows_of(home / "out")] == [index * 2 for index in range(1000)]
    assert (found["rows"], found["shardsDone"], found["percent"]) == (1000, "3/3", 100)
    assert len(found["model"]["sha256"]) == 64
