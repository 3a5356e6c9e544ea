"""`make bench-batch`: what a row of a batch costs beside a bare loop over the same model, and what pods and shards add.

The cost of a row is processor time, and the difference between two sizes of one table, so that starts and imports drop
out; a child's whole time is counted, and the best of three runs. The bare loop reads 10,000 rows at a time with pandas
or pyarrow, calls `model.predict` and writes them again. Then a table in the sandbox, by 1, 2 and 4 pods, and shards
that have next to nothing to do; `--costs` leaves this part as it was.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from report import Row, Table, keep, publish
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modeldeploy.kube import MODELBATCHES, Kube
from modeldeploy.stand import stand, wait_until

SIZES = (50_000, 250_000)
TURNS = 3
GOAL = 1.1
POD_ROWS = 500_000
PODS = (1, 2, 4)
SHARDS = 8

LOOP = """
import sys
import joblib, pandas, pyarrow, pyarrow.parquet as parquet
package, source, target = sys.argv[1:]
model = joblib.load(f"{package}/model.joblib")
names = model.feature_names_in_
if source.endswith(".csv"):
    tables = pandas.read_csv(source, chunksize=10_000)
elif source.endswith(".jsonl"):
    tables = pandas.read_json(source, lines=True, chunksize=10_000)
else:
    tables = (batch.to_pandas() for batch in parquet.ParquetFile(source).iter_batches(10_000))
writer = None
with open(target, "wb") as out:
    for rows in tables:
        rows["prediction"] = model.predict(rows[names])
        if target.endswith(".jsonl"):
            rows.to_json(out, orient="records", lines=True)
        elif target.endswith(".csv"):
            rows.to_csv(out, index=False, header=not out.tell())
        else:
            table = pyarrow.Table.from_pandas(rows, preserve_index=False)
            writer = writer or parquet.ParquetWriter(out, table.schema)
            writer.write_table(table)
    if writer:
        writer.close()
"""


@dataclass(frozen=True)
class Case:
    """A table, and the model that predicts it. `names` are the features, the dtype of each as model.yaml has it."""

    title: str
    rows: Callable[[int], pd.DataFrame]
    model: Any
    names: Mapping[str, str]
    formats: Sequence[tuple[str, str]]
    #: Of so many rows of `SIZES` one is taken, where a row is that much longer.
    share: int = 1


def main() -> None:
    """Measure, keep and show."""
    with tempfile.TemporaryDirectory(prefix="bench-batch-") as name:
        folder = Path(name)
        lines = ["| model, table | microseconds a row | bare loop | ratio (goal at most 1.1) |", "|---|---|---|---|"]
        rows = []
        for case in cases():
            tables = folder / case.title.replace(" ", "-")
            prepare(tables, case)
            for source, target in case.formats:
                ours, bare = costs(tables, case, source, target)
                what = f"{case.title}, {source} to {target}"
                lines.append(f"| {what} | {ours:.2f} | {bare:.2f} | {ours / bare:.2f} |")
                rows.append(Row(what=what, value=round(ours / bare, 2), unit="x", goal=GOAL))
                print(lines[-1], flush=True)
        title = "Batches: a row beside a bare loop (processor time)"
        keep(Table(name="batch", title=title, rows=tuple(rows), shown="\n".join(lines)))
        if "--costs" not in sys.argv:
            shown = "\n".join(on_pods(folder))
            keep(Table(name="batch_pods", title="Batches: pods and shards", rows=(), shown=shown))
    publish()


def cases() -> list[Case]:
    """What is measured: numbers, many of them, and text."""
    features, target = load_wine(return_X_y=True, as_frame=True)
    floats = dict.fromkeys(features.columns, "float64")
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, target)
    forest = RandomForestClassifier(100, random_state=0).fit(features, target)
    texts = people(5_000)
    known = {"country": "string", "plan": "string", "age": "int64", "spent": "float64"}
    encoded = make_column_transformer((OneHotEncoder(), ["country", "plan"]), (StandardScaler(), ["age", "spent"]))
    pipeline = make_pipeline(encoded, LogisticRegression()).fit(texts[list(known)], texts["age"] > 50)
    many = readings(1_000)
    columns = dict.fromkeys(many.columns[1:], "float64")
    linear = LogisticRegression().fit(many[list(columns)], many["sensor_0"] > 0)
    text_formats = [("csv", "jsonl"), ("csv", "csv"), ("jsonl", "jsonl")]
    return [
        Case("logistic regression", wines, logistic, floats, [("parquet", "parquet"), *text_formats]),
        Case("forest of 100 trees", wines, forest, floats, [("parquet", "parquet"), ("csv", "jsonl")]),
        Case("text and numbers", people, pipeline, known, [("csv", "jsonl")]),
        Case("200 columns", readings, linear, columns, [("csv", "jsonl")], share=10),
    ]


def wines(size: int) -> pd.DataFrame:
    """13 numbers of each wine."""
    features = load_wine(return_X_y=True, as_frame=True)[0]
    rows = features.sample(size, replace=True, random_state=0).reset_index(drop=True)
    rows *= 1 + np.random.default_rng(0).normal(0, 0.02, rows.shape)
    rows.insert(0, "id", np.arange(size))
    return rows


def people(size: int) -> pd.DataFrame:
    """Categories and numbers, and a text with commas and quotes."""
    choose = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": np.arange(size),
            "country": choose.choice(["de", "fr", "nl", "be", "ch"], size),
            "plan": choose.choice(["free", "pro", "team"], size),
            "note": [f'customer {number} wrote, that "it" works' for number in range(size)],
            "age": choose.integers(18, 90, size),
            "spent": choose.normal(50, 10, size).round(2),
        }
    )


def readings(size: int) -> pd.DataFrame:
    """200 numbers a row."""
    values = np.random.default_rng(0).normal(0, 1, (size, 200))
    rows = pd.DataFrame(values, columns=[f"sensor_{place}" for place in range(200)])
    rows.insert(0, "id", np.arange(size))
    return rows


def prepare(folder: Path, case: Case) -> None:
    """Write the tables of a case, and its package."""
    package = folder / "package"
    package.mkdir(parents=True)
    for size in SIZES:
        rows = case.rows(size // case.share)
        write(rows, folder, str(size), {source for source, _ in case.formats})
    joblib.dump(case.model, package / "model.joblib")
    features = "".join(f'- {{name: "{name}", dtype: {dtype}}}\n' for name, dtype in case.names.items())
    (package / "model.yaml").write_text(f"input_features:\n{features}")


def write(rows: pd.DataFrame, folder: Path, name: str, formats: Collection[str]) -> None:
    """Write a table in some formats."""
    if "csv" in formats:
        rows.to_csv(folder / f"{name}.csv", index=False)
    if "jsonl" in formats:
        rows.to_json(folder / f"{name}.jsonl", orient="records", lines=True, double_precision=15)
    if "parquet" in formats:
        rows.to_parquet(folder / f"{name}.parquet", row_group_size=len(rows) // SHARDS)


def costs(folder: Path, case: Case, source: str, target: str) -> tuple[float, float]:
    """Microseconds of processor time a row: of a batch, and of the bare loop."""
    small, large = SIZES
    found = []
    for run in (batch, loop):
        best = {size: min(run(folder, size, source, target) for _ in range(TURNS)) for size in SIZES}
        found.append((best[large] - best[small]) / (large - small) * case.share * 1e6)
    return found[0], found[1]


def batch(folder: Path, size: int, source: str, target: str) -> float:
    """Seconds of processor time of `python -m model_server batch`."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        words = ["-m", "model_server", "batch", "--input", (folder / f"{size}.{source}").as_uri()]
        words += ["--output", (Path(out) / "scores").as_uri(), "--output-format", target]
        package = (folder / "package").as_uri()
        settings = {"STORAGE_URI": package, "TRUSTED": "true", "HOST": "127.0.0.1", "PORT": "0"}
        settings["TERMINATION_LOG"] = f"{out}/termination"
        return _seconds(words, {f"MODEL_SERVER_{name}": value for name, value in settings.items()})


def loop(folder: Path, size: int, source: str, target: str) -> float:
    """Seconds of processor time of the bare loop."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        words = ["-c", LOOP, str(folder / "package"), str(folder / f"{size}.{source}"), f"{out}/scores.{target}"]
        return _seconds(words, {})


def _seconds(words: list[str], variables: dict[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], check=True, capture_output=True, env=os.environ | variables)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def on_pods(folder: Path) -> list[str]:
    """A table by more pods, and shards without work, as lines of a table."""
    forest = folder / "forest-of-100-trees"
    package = forest / "package"
    write(wines(POD_ROWS), folder, "large", {"parquet"})
    lines = ["| in the sandbox | seconds from the Job's start to its end |", "|---|---|"]
    with stand(folder / "stand") as running, Kube.connect(running.kubeconfig) as kube:
        large = folder / "large.parquet"
        for pods in PODS:
            seconds = _batch(kube, folder, package, large, f"by-{pods}", parallelism=pods, shards=SHARDS)
            lines.append(
                f"| {POD_ROWS:,} rows, {SHARDS} shards, {pods} {'pod' if pods == 1 else 'pods'} | {seconds:.1f} |"
            )
        tiny = folder / "tiny.csv"
        tiny.write_text("".join((forest / f"{SIZES[0]}.csv").open().readlines()[: 2 * SHARDS + 1]))
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
