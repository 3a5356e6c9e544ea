"""`make bench-batch`: what a row of a batch costs beside a bare loop over the same model, and what pods and shards add.

The cost of a row is processor time, and the difference between two sizes of one table, so that starts and imports drop
out; a child's whole time is counted, and the best of three runs. The bare loop reads 10,000 rows at a time with pandas
or pyarrow, calls `model.predict` and writes them again. Then the same table in the sandbox, by 1, 2 and 4 pods, and
shards that have next to nothing to do.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from report import Row, Table, keep, publish
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modeldeploy.kube import MODELBATCHES, Kube
from modeldeploy.stand import stand, wait_until

SIZES = (100_000, 500_000)
TURNS = 3
MODELS = {
    "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    "forest of 100 trees": RandomForestClassifier(100, random_state=0),
}
FORMATS = {"parquet": "parquet", "csv": "jsonl"}
GOAL = 1.1
PODS = (1, 2, 4)
SHARDS = 8

LOOP = """
import sys
import joblib, pandas, pyarrow, pyarrow.parquet as parquet
package, kind, source, target = sys.argv[1:]
model = joblib.load(f"{package}/model.joblib")
names = model.feature_names_in_
if kind == "csv":
    with open(target, "w") as out:
        for rows in pandas.read_csv(source, chunksize=10_000):
            rows["prediction"] = model.predict(rows[names])
            rows.to_json(out, orient="records", lines=True)
else:
    writer = None
    for batch in parquet.ParquetFile(source).iter_batches(10_000):
        rows = batch.to_pandas()
        rows["prediction"] = model.predict(rows[names])
        table = pyarrow.Table.from_pandas(rows, preserve_index=False)
        writer = writer or parquet.ParquetWriter(target, table.schema)
        writer.write_table(table)
    writer.close()
"""


def main() -> None:
    """Measure, keep and show."""
    with tempfile.TemporaryDirectory(prefix="bench-batch-") as name:
        folder = Path(name)
        packages = prepare(folder)
        lines = ["| model, table | microseconds a row | bare loop | ratio (goal at most 1.1) |", "|---|---|---|---|"]
        rows = []
        for title, package in packages.items():
            for source, target in FORMATS.items():
                ours, bare = costs(folder, package, source, target)
                what = f"{title}, {source} to {target}"
                lines.append(f"| {what} | {ours:.2f} | {bare:.2f} | {ours / bare:.2f} |")
                rows.append(Row(what=what, value=round(ours / bare, 2), unit="x", goal=GOAL))
        lines += ["", *on_pods(folder, packages["forest of 100 trees"])]
    title = "Batches: a row beside a bare loop (processor time), and pods"
    keep(Table(name="batch", title=title, rows=tuple(rows), shown="\n".join(lines)))
    publish()
    print("\n".join(lines))


def prepare(folder: Path) -> dict[str, Path]:
    """Write the tables, and a package of each model; return the packages by title."""
    features, target = load_wine(return_X_y=True, as_frame=True)
    noise = np.random.default_rng(0)
    for size in SIZES:
        rows = features.sample(size, replace=True, random_state=0).reset_index(drop=True)
        rows *= 1 + noise.normal(0, 0.02, rows.shape)
        rows.insert(0, "id", np.arange(size))
        rows.to_csv(folder / f"{size}.csv", index=False)
        rows.to_parquet(folder / f"{size}.parquet", row_group_size=size // SHARDS)
    packages = {}
    for title, model in MODELS.items():
        package = packages[title] = folder / title.split()[0]
        package.mkdir()
        joblib.dump(model.fit(features, target), package / "model.joblib")
        names = "".join(f'- {{name: "{name}"}}\n' for name in features.columns)
        (package / "model.yaml").write_text(f"input_features:\n{names}")
    return packages


def costs(folder: Path, package: Path, source: str, target: str) -> tuple[float, float]:
    """Microseconds of processor time a row: of a batch, and of the bare loop."""
    small, large = SIZES
    found = []
    for run in (batch, loop):
        best = {size: min(run(folder, package, size, source, target) for _ in range(TURNS)) for size in SIZES}
        found.append((best[large] - best[small]) / (large - small) * 1e6)
    return found[0], found[1]


def batch(folder: Path, package: Path, size: int, source: str, target: str) -> float:
    """Seconds of processor time of `python -m model_server batch`."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        words = ["-m", "model_server", "batch", "--input", (folder / f"{size}.{source}").as_uri()]
        words += ["--output", (Path(out) / "scores").as_uri(), "--output-format", target]
        settings = {"STORAGE_URI": package.as_uri(), "TRUSTED": "true", "HOST": "127.0.0.1", "PORT": "0"}
        settings["TERMINATION_LOG"] = f"{out}/termination"
        return _seconds(words, {f"MODEL_SERVER_{name}": value for name, value in settings.items()})


def loop(folder: Path, package: Path, size: int, source: str, target: str) -> float:
    """Seconds of processor time of the bare loop."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        words = ["-c", LOOP, str(package), source, str(folder / f"{size}.{source}"), f"{out}/scores.{target}"]
        return _seconds(words, {})


def _seconds(words: list[str], variables: dict[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], check=True, capture_output=True, env=os.environ | variables)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def on_pods(folder: Path, package: Path) -> list[str]:
    """The same table by more pods, and shards without work, as lines of a table."""
    lines = ["| in the sandbox | seconds from the Job's start to its end |", "|---|---|"]
    with stand(folder / "stand") as running, Kube.connect(running.kubeconfig) as kube:
        large = folder / f"{SIZES[1]}.parquet"
        for pods in PODS:
            seconds = _batch(kube, folder, package, large, f"by-{pods}", parallelism=pods, shards=SHARDS)
            lines.append(
                f"| {SIZES[1]:,} rows, {SHARDS} shards, {pods} {'pod' if pods == 1 else 'pods'} | {seconds:.1f} |"
            )
        tiny = folder / "tiny.csv"
        tiny.write_text("".join((folder / f"{SIZES[0]}.csv").open().readlines()[: 2 * SHARDS + 1]))
        seconds = _batch(kube, folder, package, tiny, "empty", parallelism=1, shards=SHARDS)
        lines.append(f"| a shard with two rows, of {SHARDS} one after the other | {seconds / SHARDS:.1f} each |")
    return lines


def _batch(kube: Kube, folder: Path, package: Path, table: Path, name: str, **spec: Any) -> float:
    source, target = {"uri": table.as_uri()}, {"uri": (folder / "out" / name).as_uri(), "format": "parquet"}
    model = {"storageUri": package.as_uri(), "trusted": True}
    body = {"model": model, "input": source, "output": target, **spec}
    manifest = {
        "apiVersion": "modeldeploy.dev/v1alpha1",
        "kind": "ModelBatch",
        "metadata": {"name": name},
        "spec": body,
    }
    kube.apply(MODELBATCHES, manifest)

    def over() -> dict[str, Any]:
        status = kube.get(MODELBATCHES, name).get("status", {})
        return status if status.get("phase") in ("Complete", "Failed") else {}

    status = wait_until(over, f"{name} is over", seconds=600)
    assert status["phase"] == "Complete", status
    began, ended = (datetime.fromisoformat(status[field]) for field in ("startTime", "completionTime"))
    return (ended - began).total_seconds()


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"measured in {time.monotonic() - began:.0f} s")
