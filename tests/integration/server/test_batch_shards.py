"""A batch gives the same bytes whether it reads text in columns, as large shards do, or row by row, as small ones."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest

from model_server.batch.command import main

MODEL = """
def load_model(path): return 1
def predict(model, inputs): return inputs["a"] * 2 + inputs["b"]
"""
FEATURES = "input_features: [{name: a, nullable: true}, {name: b, dtype: int64}, {name: kind, dtype: string}]"
ROWS = 22_000
#: By their place among the rows, of which 10,000 are read at once: what a row has that no other has.
ODD_CSV = {
    100: 'much,1,x,"not a number"',
    2_000: "1.5,1.5,x,a fraction",
    2_001: "1.5,1.0,x,a whole number with a point",
    2_002: ",2,x,nothing",
    4_000: '1.5,3,"x, y","two\nlines ""quoted"""',
    6_500: "nan,3,x,not a number either",
    6_501: "1e-7,007,x,0x10",
    9_000: "",
    12_000: "1,2,x",
    12_001: '1.5,3,x,a quote " within',
    21_999: "1.5,0x10,x,the last",
}
ODD_JSON = {
    100: '{"a": "much", "b": 1, "kind": "x"}',
    2_000: '{"a": 1, "b": 1, "kind": "x", "more": {"c": [1, 2.50, "\\u00e9"]}}',
    12_000: '{"a": 1, "b"',
    12_001: "[1]",
    12_002: "",
    21_999: '{"b": 2, "a": 3, "kind": "x", "prediction": 5}',
}


def csv_lines() -> list[str]:
    plain = [f"{row / 7},{row % 50 - 9},{'north' if row % 3 else 'süd'},name of row {row}" for row in range(ROWS)]
    return ["a,b,kind,name", *(ODD_CSV.get(row, text) for row, text in enumerate(plain))]


def json_lines() -> list[str]:
    plain = ({"a": row / 7, "b": row % 50 - 9, "kind": "north", "name": f"row {row}"} for row in range(ROWS))
    return [ODD_JSON.get(row, json.dumps(values)) for row, values in enumerate(plain)]


@pytest.fixture
def batch(tmp_path, monkeypatch):
    """Runs a batch of some shards in this process, and gives its output folder."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "model.py").write_text(MODEL)
    (tmp_path / "package" / "model.yaml").write_text(FEATURES)
    given = {"STORAGE_URI": f"file://{tmp_path}/package", "TRUSTED": "true", "HOST": "127.0.0.1", "PORT": "0"}
    for name, value in (given | {"TERMINATION_LOG": str(tmp_path / "termination")}).items():
        monkeypatch.setenv(f"MODEL_SERVER_{name}", value)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(source: str, shards: int, kind: str) -> Path:
        out = tmp_path / f"out-{shards}"
        words = ["--input", f"file://{tmp_path}/{source}", "--output", f"file://{out}", "--output-format", kind]
        assert main([*words, "--shards", str(shards), "--on-bad-row", "quarantine"]) == 0
        return out

    return run


def content_of(out: Path, pattern: str) -> list[str]:
    files = sorted(out.glob(pattern))
    header = 1 if pattern.endswith(".csv") else 0
    lines = [file.read_text().split("\n") for file in files]
    return [line for one in lines for line in one[header:] if line]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize(("source", "lines", "bad"), [("in.csv", csv_lines, 5), ("in.jsonl", json_lines, 3)])
def test_twenty_small_shards_give_the_bytes_of_a_large_one(batch, tmp_path, source, lines, bad, kind):
    text = lines() if kind == "jsonl" else [line for line in lines() if "more" not in line]
    (tmp_path / source).write_text("\n".join(text) + "\n")
    large, small = batch(source, 1, kind), batch(source, 20, kind)
    assert content_of(small, f"part-*.{kind}") == content_of(large, f"part-*.{kind}")
    assert content_of(small, "_quarantine/*") == content_of(large, "_quarantine/*")
    assert len(content_of(large, "_quarantine/*")) == bad
    reports = [json.loads((out / "_report.json").read_text()) for out in (small, large)]
    for report in reports:
        for feature in report["inputs"]["features"].values():
            feature.pop("mean", None)  # the last digit of a sum depends on its order
        report["inputs"]["prediction"].pop("mean")
    wanted = ("rows", "failedRows", "inputs")
    assert [reports[0][name] for name in wanted] == [reports[1][name] for name in wanted]


def test_files_that_end_within_a_chunk_give_the_rows_of_one_file(batch, tmp_path):
    header, *rows = csv_lines()
    (tmp_path / "in").mkdir()
    for number in range(4):
        content = "\n".join([header, *rows[number * 5_500 : number * 5_500 + 5_500]]) + "\n"
        (tmp_path / "in" / f"{number}.csv.gz").write_bytes(gzip.compress(content.encode()))
    (tmp_path / "in.csv").write_text("\n".join([header, *rows]) + "\n")
    several = content_of(batch("in", 1, "jsonl"), "part-*.jsonl")
    assert several == content_of(batch("in.csv", 2, "jsonl"), "part-*.jsonl")
