"""`python -m model_server labels`: labels that come late are scored, and counted by the servers that predicted."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from model_server.labels.__main__ import main

POSITIVE = """
def load_model(path): return 1
def predict(model, inputs): return (inputs[:, 0] > 0).astype(int)
"""


def entry(identifier, predictions, revision="one", **other):
    fields = {"time": "2026-01-31T12:00:00.000+00:00", "logger": "input_log", "id": identifier, "model": "churn"}
    return {**fields, "version": "1", "revision": revision, "inputs": {}, "outputs": {"y": predictions}, **other}


@pytest.fixture
def join(tmp_path, monkeypatch, capsys):
    """Joins in this process; gives the exit code, and the report or the reason why there is none."""
    monkeypatch.setattr("signal.signal", lambda *_: None)
    termination = tmp_path / "termination"
    monkeypatch.setenv("MODEL_SERVER_NAME", "churn")
    monkeypatch.setenv("MODEL_SERVER_TERMINATION_LOG", str(termination))

    def run(labels: str, lines, *options: str):
        folder = tmp_path / "log" / "2026-01-31"
        folder.mkdir(parents=True, exist_ok=True)
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (folder / "120000.000000-00000001.jsonl").write_text("\n".join(texts) + "\n")
        table = tmp_path / "labels.csv"
        table.write_text(labels)
        capsys.readouterr()
        status = main(["--labels", str(table), "--log", str(tmp_path / "log"), *options])
        return status, json.loads(termination.read_bytes())

    return run


def test_each_revision_is_scored_by_its_own_predictions(join):
    lines = [entry("a", [1]), entry("b", [0]), entry("c", [1], "two"), entry("d", [1], "two")]
    status, report = join("id,label\na,1\nb,1\nc,1\nd,1\n", lines)
    assert status == 0
    assert {name: one["metrics"]["accuracy"] for name, one in report["revisions"].items()} == {"one": 0.5, "two": 1.0}


def test_numbers_are_scored_by_their_errors(join):
    _, report = join("id,label\na,1.5\nb,3\n", [entry("a", [1.0]), entry("b", [3.0])])
    assert report["revisions"]["one"]["metrics"]["mae"] == 0.25


def test_classes_in_their_order_give_the_log_loss(join):
    line = entry("a", ["no"], outputs={"label": ["no"], "predict_proba": [[0.5, 0.5]]})
    _, report = join("id,label\na,yes\n", [line], "--classes", "no,yes")
    assert report["revisions"]["one"]["metrics"]["log-loss"] == pytest.approx(0.6931, abs=1e-4)


def test_nothing_is_lost_silently(join):
    table = (
        "id,label,day\na,1,2026-01-31\na,1.0,2026-01-31\nb,0,\nb,1,\nc,,\nold,1,2026-01-01\nwhat,1,2026-02-01\nd,x,\n"
    )
    lines = [entry("a", [1]), entry("a", [0]), entry("b", [1]), entry("c", [1]), "{not JSON", entry("d", [1])]
    lines += [{"logger": "model_server", "message": "ready"}, entry("e", [1], model="other"), entry("[redacted]", [1])]
    status, report = join(table, lines, "--time", "day")
    assert status == 0
    labels, log, revision = report["labels"], report["log"], report["revisions"]["one"]
    assert (labels["rows"], labels["repeated"], labels["empty"], labels["conflicting"]) == (8, 2, 1, 1)
    assert (labels["joined"], labels["late"], labels["unknown"]) == (2, 1, 1)
    assert labels["first_conflicting"] == "b"
    assert (log["lines"], log["broken"], log["other_lines"], log["other_models"], log["without_id"]) == (9, 1, 1, 1, 1)
    assert log["first_broken"] == "2026-01-31/120000.000000-00000001.jsonl line 5: not JSON"
    assert (revision["labelled"], revision["unlabelled"], revision["repeated"]) == (1, 1, 1)
    assert (revision["conflicting"], revision["refused"]) == (1, 1)
    assert revision["first_refused"] == "id d: 'x' is no answer of the model, which answers numbers"


@pytest.mark.parametrize(
    ("table", "options"),
    [
        pytest.param('id,label\na,"[1, 0]"\n', (), id="as a list"),
        pytest.param("id,label,at\na,1,0\na,0,1\n", ("--row", "at"), id="by row"),
    ],
)
def test_a_request_of_several_rows_has_a_label_for_each(join, table, options):
    _, report = join(table, [entry("a", [1, 1])], *options)
    assert report["revisions"]["one"]["labelled"] == 2
    assert report["revisions"]["one"]["metrics"]["accuracy"] == 0.5


def test_labels_for_another_number_of_rows_are_refused(join):
    _, report = join("id,label\na,1\n", [entry("a", [1, 1])])
    assert report["revisions"]["one"]["first_refused"] == "id a: the request has 2 rows, and the labels are for 1"


@pytest.mark.parametrize(
    ("table", "lines", "options", "message"),
    [
        pytest.param("request,label\na,1\n", [entry("a", [1])], ("--id", "requst"), "no column 'requst'", id="column"),
        pytest.param("id,label\na,1\n", [entry("a", [1], model="x")], (), "of another model, 'x'", id="another model"),
        pytest.param("id,label\na,1\n", [entry("[redacted]", [1])], (), "have no id, or a redacted one", id="redacted"),
        pytest.param("id,label\na,1\n", ["{", "["], (), "the first is 2026-01-31/", id="broken lines alone"),
        pytest.param("id,label\n", [entry("a", [1])], (), "has no rows", id="no labels"),
        pytest.param("id,label,at\na,1,x\n", [entry("a", [1])], ("--row", "at"), "'x' is no row", id="a row in words"),
    ],
)
def test_bad_input_is_named(join, table, lines, options, message):
    status, reason = join(table, lines, *options)
    assert status == 65
    assert message in reason["message"]


def test_the_nearest_column_is_named(join):
    _, reason = join("request,label\na,1\n", [entry("a", [1])], "--id", "requst")
    assert reason["hint"] == "Did you mean --id request?"


@pytest.fixture
def churn(serve, tmp_path):
    """A server of the revision `one`, which logs its inputs to a folder."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "model.py").write_text(POSITIVE)
    (package / "model.yaml").write_text(
        "input_features: [{name: x, dtype: float64}]\noutput_features: [{name: y, dtype: int64, categories: [0, 1]}]\n"
    )
    log = {"input_log_sample_rate": "1", "input_log_sink": (tmp_path / "sink").as_uri()}
    return serve(package.as_uri(), trusted=True, name="churn", revision="one", **log).wait_ready()


def test_late_labels_count_as_live_feedback_and_once(churn, tmp_path):
    """Also a second process finds the receipts of the first; --again sends them anew."""
    for number, identifier in ((1, "a"), (-1, "b"), (1, "c")):
        rows = {"instances": [[number]]}
        assert churn.client.post("/predict", json=rows, headers={"x-request-id": identifier}).status_code == 200
    sink = tmp_path / "sink"
    churn.wait_until(lambda: sum(len(file.read_text().splitlines()) for file in sink.rglob("*.jsonl")) == 3)
    table = tmp_path / "labels.csv"
    table.write_text("id,label\na,1\nb,1\nc,7\n")

    def join(*options: str) -> dict[str, int]:
        command = [sys.executable, "-m", "model_server", "labels", "--labels", str(table), "--log", str(sink)]
        environ = {"MODEL_SERVER_NAME": "churn", "MODEL_SERVER_TERMINATION_LOG": str(tmp_path / "report")}
        done = subprocess.run([*command, *options], env=environ, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])["revisions"]["one"]

    def counted() -> tuple[float | None, float | None]:
        return tuple(
            next(
                float(line.rsplit(" ", 1)[1])
                for line in churn.client.get("/metrics").text.splitlines()
                if line.startswith("modeldeploy_feedback_total") and f'outcome="{outcome}"' in line
            )
            for outcome in ("correct", "wrong")
        )

    send = ("--send", f"one={churn.url}")
    assert join(*send, "--dry-run")["not_sent"] == 3
    first = join(*send)
    assert (first["sent"], first["refused"], first["metrics"]["accuracy"]) == (2, 1, 0.5)
    assert "expected one of 0, 1, got 7" in first["first_refused"]
    assert counted() == (1, 1)
    second = join(*send)
    assert (second["sent"], second["already_sent"], second["metrics"]) == (0, 2, first["metrics"])
    assert counted() == (1, 1)
    assert join(*send, "--again")["sent"] == 2
    assert counted() == (2, 2)


def test_labels_of_a_revision_that_is_gone_are_scored_and_counted(join):
    _, report = join("id,label\na,1\n", [entry("a", [1])], "--send", "one=http://127.0.0.1:1")
    revision = report["revisions"]["one"]
    assert (revision["labelled"], revision["sent"], revision["not_sent"]) == (1, 0, 1)
    assert "refused" in revision["not_reached"]
