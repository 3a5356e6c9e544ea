"""Batch prediction gives what the server gives, for every row once, whatever happens on the way."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from waiting import wait_until

from model_server.batch.command import main

SLOW = """
import time
def load_model(path): return 1
def predict(model, inputs):
    time.sleep(0.05)
    return inputs[:, 0] * 2
"""


def write_csv(path, names, rows, **extra):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*extra, *names])
        for index, row in enumerate(rows):
            writer.writerow([*(values[index] for values in extra.values()), *row])


def read_parts(folder):
    return [json.loads(line) for part in sorted(folder.glob("part-*.jsonl")) for line in part.read_text().splitlines()]


@pytest.fixture
def batch(tmp_path, monkeypatch):
    """Runs a batch in this process and gives its exit code."""

    def run(package, source, *options, out="out"):
        given = {"storage_uri": package, "trusted": "true", "termination_log": str(tmp_path / "termination")}
        for name, value in (given | {"host": "127.0.0.1", "port": "0"}).items():
            monkeypatch.setenv(f"MODEL_SERVER_{name.upper()}", value)
        return main(["--input", f"file://{source}", "--output", f"file://{tmp_path}/{out}", *options])

    monkeypatch.setattr(sys, "path", list(sys.path))
    return run


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_every_row_gets_the_models_own_prediction(batch, tmp_path, wine, kind):
    source = tmp_path / f"rows.{kind}"
    identifiers = [f"bottle-{index}" for index in range(len(wine.rows))]
    objects = [row | {"bottle": name} for row, name in zip(wine.objects(wine.rows), identifiers, strict=True)]
    if kind == "csv":
        write_csv(source, wine.names, wine.rows.tolist(), bottle=identifiers)
    elif kind == "jsonl":
        source.write_text("\n".join(json.dumps(row) for row in objects))
    else:
        pa = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pa.Table.from_pylist(objects), source)
    assert batch(wine.uri, source, "--shards", "4", "--probabilities") == 0
    found = read_parts(tmp_path / "out")
    assert [row["bottle"] for row in found] == identifiers
    assert [row["prediction"] for row in found] == wine.model.predict(wine.rows).tolist()
    expected = wine.model.predict_proba(wine.rows)
    assert np.allclose([list(row["probabilities"].values()) for row in found], expected)
    assert json.loads((tmp_path / "out" / "_SUCCESS").read_text()) == {"rows": 178, "failedRows": 0, "shards": 4}


def test_a_killed_batch_goes_on_without_losing_or_doubling_a_row(tmp_path):
    package, out = tmp_path / "package", tmp_path / "out"
    package.mkdir()
    (package / "model.py").write_text(SLOW)
    (package / "model.yaml").write_text("input_features: [{name: a}]")
    write_csv(tmp_path / "rows.csv", ["a"], [[index] for index in range(600)])
    environ = os.environ | {"MODEL_SERVER_STORAGE_URI": f"file://{package}", "MODEL_SERVER_TRUSTED": "true"}
    environ["MODEL_SERVER_TERMINATION_LOG"] = str(tmp_path / "termination")
    environ |= {"MODEL_SERVER_HOST": "127.0.0.1", "MODEL_SERVER_PORT": "0"}
    command = [sys.executable, "-m", "model_server", "batch", "--shards", "30"]
    command += ["--input", f"file://{tmp_path}/rows.csv", "--output", f"file://{out}"]
    with (tmp_path / "log").open("wb") as log:
        first = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        wait_for_parts(out, 3, first)
        first.kill()
        first.wait()
        assert 3 <= len(list(out.glob("part-*"))) < 30
        assert not (out / "_SUCCESS").exists()
        kept = {part: part.stat().st_mtime_ns for part in out.glob("part-*")}
        subprocess.run(command, env=environ, stdout=log, stderr=log, check=True, timeout=60)
    assert [row["prediction"] for row in read_parts(out)] == [index * 2 for index in range(600)]
    assert {part: part.stat().st_mtime_ns for part in kept} == kept, "finished parts are not written again"
    assert json.loads((out / "_SUCCESS").read_text())["rows"] == 600


def wait_for_parts(out: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    wait_until(lambda: len(list(out.glob("part-*.jsonl"))) >= count or process.poll() is not None, f"{count} parts")
    assert process.poll() is None


def told(tmp_path):
    return json.loads((tmp_path / "termination").read_text())["message"]


def test_a_bad_row_is_named_or_kept_apart(batch, tmp_path, wine):
    rows = [list(row) for row in wine.rows[:5].tolist()]
    rows[3][1] = "much"
    write_csv(tmp_path / "rows.csv", wine.names, rows)
    assert batch(wine.uri, tmp_path / "rows.csv") == 65
    assert '(line 5): malic_acid: expected a number, got "much"' in told(tmp_path)
    assert batch(wine.uri, tmp_path / "rows.csv", "--on-bad-row", "quarantine", out="kept") == 0
    assert len(read_parts(tmp_path / "kept")) == 4
    (bad,) = read_parts(tmp_path / "kept" / "_quarantine")
    assert (bad["row"]["malic_acid"], bad["error"]) == ("much", 'malic_acid: expected a number, got "much"')


def test_another_batchs_parts_are_not_mixed_in(batch, tmp_path, wine):
    write_csv(tmp_path / "a.csv", wine.names, wine.rows[:5].tolist())
    write_csv(tmp_path / "b.csv", wine.names, wine.rows[5:9].tolist())
    assert batch(wine.uri, tmp_path / "a.csv") == 0
    found = read_parts(tmp_path / "out")
    assert batch(wine.uri, tmp_path / "b.csv") == 78
    assert "a.csv" in told(tmp_path)
    assert read_parts(tmp_path / "out") == found


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param(
            "rows.csv", b"a,b\n1,2\n1,2,3\n", "(line 3): has 3 values, and the header 2 names", id="too many values"
        ),
        pytest.param("rows.csv", b'a,b,c\n1,2,"x\ny"\n1\n', "(line 4): has 1 values", id="behind a value of two lines"),
        pytest.param("rows.tsv.gz", gzip.compress(b"a\tb\n1\tx\n"), "(line 2): b: expected a number", id="compressed"),
        pytest.param("rows.jsonl", b'{"a": 1, "b": 2}\n\n{"a": \n', "(line 3): is not JSON", id="half a line"),
        pytest.param("rows.jsonl", b"[1]\n", "(line 1): is not a JSON object", id="a list for a row"),
        pytest.param("rows.json", b"[1, 2]", "rows.json, row 1: is not a JSON object", id="an array of numbers"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_by_its_line(batch, tmp_path, first, name, content, message):
    (tmp_path / name).write_bytes(content)
    assert batch(first, tmp_path / name) == 65
    assert message in told(tmp_path)
    assert told(tmp_path).startswith(name)


OBJECTS = [{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.0}]
LINES = b'{"a": 1.0, "b": 2.0}\n{"a": 3.0, "b": 4.0}\n'


@pytest.fixture
def first(tmp_path):
    """A package that answers with the first of two features."""
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / "model.py").write_text(
        "def load_model(path): return 1\ndef predict(model, inputs): return inputs[:, 0]\n"
    )
    (folder / "model.yaml").write_text("input_features: [{name: a}, {name: b}]")
    return f"file://{folder}"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("rows.csv.gz", gzip.compress(b"a,b\n1,2\n3,4\n"), id="csv, compressed"),
        pytest.param("rows.tsv", b"a\tb\n1\t2\n3\t4\n", id="tsv"),
        pytest.param("rows.tsv.gz", gzip.compress(b"a\tb\n1\t2\n3\t4\n"), id="tsv, compressed"),
        pytest.param("rows.json", json.dumps(OBJECTS).encode(), id="a json array"),
        pytest.param("rows.json", LINES, id="json lines called json"),
        pytest.param("rows.json.gz", gzip.compress(json.dumps(OBJECTS).encode()), id="a json array, compressed"),
        pytest.param("rows.jsonl.gz", gzip.compress(LINES), id="json lines, compressed"),
        pytest.param("ROWS.CSV", b"a,b\n1,2\n3,4\n", id="in capitals"),
    ],
)
def test_a_table_in_whatever_form_it_is_kept(batch, tmp_path, first, name, content):
    (tmp_path / name).write_bytes(content)
    assert batch(first, tmp_path / name) == 0
    assert [row["prediction"] for row in read_parts(tmp_path / "out")] == [1, 3]


def test_a_folder_of_parts_as_spark_writes_it(batch, tmp_path, first):
    pandas = pytest.importorskip("pandas")
    folder = tmp_path / "rows.parquet"
    (folder / "day=2").mkdir(parents=True)
    for number, row in enumerate(OBJECTS):
        pandas.DataFrame([row]).to_parquet(folder / f"part-0000{number}.snappy.parquet")
    pandas.DataFrame([{"a": 5.0, "b": 6.0}]).to_parquet(folder / "zz.parquet")
    (folder / "_SUCCESS").write_bytes(b"")
    (folder / ".part-00000.crc").write_bytes(b"crc")
    assert batch(first, folder) == 0
    assert [row["prediction"] for row in read_parts(tmp_path / "out")] == [1, 3, 5]


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        pytest.param("rows.csv", b"a;b\n1;2\n", "separated by ';'", id="semicolons"),
        pytest.param("rows.csv", b"a\tb\n1\t2\n", "separated by '\\t'", id="tabs called csv"),
        pytest.param("rows.csv.gz", b"a,b\n1,2\n", "Not a gzipped file", id="not compressed"),
        pytest.param("rows.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 99)[:-9], "end-of-stream", id="cut short"),
        pytest.param("rows.json", b"[{", "is not JSON", id="no json"),
        pytest.param("rows.xlsx", b"PK", "is no table that is read here", id="another format"),
    ],
)
def test_a_table_that_is_none_is_named(batch, tmp_path, first, name, content, text):
    (tmp_path / name).write_bytes(content)
    assert batch(first, tmp_path / name, "--on-bad-row", "skip") == 65
    assert text in told(tmp_path)
    assert name in told(tmp_path)


def test_a_folder_without_a_table(batch, tmp_path, first):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "_SUCCESS").write_bytes(b"")
    assert batch(first, tmp_path / "rows") == 65
    assert "matches no file that has content" in told(tmp_path)


WIDE = """
import numpy as np
def load_model(path): return 1
def predict(model, inputs): return np.array([10**int(a) for a in inputs[:, 0]], dtype=object)
"""


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_whole_number_of_more_than_64_bits_is_written_or_a_bad_row(batch, tmp_path, kind):
    package, source = tmp_path / "wide", tmp_path / "rows.csv"
    package.mkdir()
    (package / "model.py").write_text(WIDE)
    (package / "model.yaml").write_text("input_features: [{name: a, dtype: int64}]")
    source.write_text(f"a,id\n1,x\n30,y\n{10**30},z\n")
    assert batch(f"file://{package}", source, "--on-bad-row", "quarantine", "--output-format", kind) == 0
    (part,) = (tmp_path / "out").glob("part-*")
    bad = [(one["row"]["a"], one["error"]) for one in read_parts(tmp_path / "out" / "_quarantine")]
    refused = (10**30, f"a: expected a value that fits int64, got {10**30}")
    if kind == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        assert parquet.read_table(part).to_pylist() == [{"a": 1, "id": "x", "prediction": 10}]
        assert [number for number, _ in bad] == [30, 10**30]
        assert bad[0][1].startswith("prediction: a whole number too large")
        assert json.loads((tmp_path / "out" / "_report.json").read_text())["inputs"]["rows"] == 1
        return
    assert bad == [refused]
    rows = read_parts(tmp_path / "out") if kind == "jsonl" else list(csv.DictReader(part.read_text().splitlines()))
    assert [(row["id"], int(row["prediction"])) for row in rows] == [("x", 10), ("y", 10**30)]
