"""`python -m model_server evaluate`: the result, or the reason why there is none, in the termination log."""

from __future__ import annotations

import json
import sys

import pytest

from model_server.evaluate import main
from model_server.storage.secrets import with_secret

ABOVE_TEN = """
def load_model(path): return None
def predict(model, inputs): return (inputs[:, 0] > 10).astype(int)
"""
TWICE = """
def load_model(path): return None
def predict(model, inputs): return inputs[:, 0] * 2.0
"""
ROWS = [{"size": size, "colour": 1, "label": int(size > 10) if size != 12 else 0} for size in (3, 8, 12, 15, 20)]


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """Evaluates a `model.py` in this process; gives the exit code and what the termination log says."""

    def run(code: str, data: str, *options: str, target: str = "label", metrics: str = "accuracy"):
        package = tmp_path / "package"
        package.mkdir()
        (package / "model.py").write_text(code)
        log = tmp_path / "termination"
        for name, value in {"storage_uri": package.as_uri(), "trusted": "true", "termination_log": str(log)}.items():
            monkeypatch.setenv(f"MODEL_SERVER_{name.upper()}", value)
        status = main(["--data", data, "--target", target, "--metrics", metrics, *options])
        return status, json.loads(log.read_bytes())

    monkeypatch.setattr(sys, "path", list(sys.path))
    return run


def write(path, rows):
    if path.suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines))
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist(rows), path)
    return path.as_uri()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_data_set_gives_measures(evaluate, tmp_path, kind) -> None:
    data = write(tmp_path / f"holdout.{kind}", ROWS)
    status, result = evaluate(ABOVE_TEN, data, metrics="accuracy,recall")
    assert status == 0
    assert result == {"rows": 5, "metrics": {"accuracy": 0.8, "recall": 1.0}}


def test_numbers_are_measured(evaluate, tmp_path) -> None:
    data = write(tmp_path / "holdout.csv", [{"x": x, "y": 2 * x + 1} for x in (1, 2, 3)])
    assert evaluate(TWICE, data, target="y", metrics="mae,mse") == (0, {"rows": 3, "metrics": {"mae": 1.0, "mse": 1.0}})


@pytest.mark.parametrize(
    ("options", "why", "hint"),
    [
        pytest.param(
            {"target": "lable"}, "its columns: size, colour, label", "Did you mean 'label'?", id="no such column"
        ),
        pytest.param({"metrics": "log-loss"}, "log-loss needs probabilities", "Correct", id="no probabilities"),
        pytest.param({"metrics": "auc"}, "auc is no measure; known are accuracy", "Correct", id="an unknown measure"),
    ],
)
def test_what_cannot_be_measured_is_permanent_and_says_why(evaluate, tmp_path, options, why, hint) -> None:
    status, result = evaluate(ABOVE_TEN, write(tmp_path / "holdout.csv", ROWS), **options)
    assert status == 65
    assert result["reason"] == "DatasetInvalid"
    assert result["permanent"]
    assert why in result["message"]
    assert result["hint"].startswith(hint)


def test_a_data_set_that_is_not_there_is_said(evaluate, tmp_path) -> None:
    status, result = evaluate(ABOVE_TEN, (tmp_path / "nothing.csv").as_uri())
    assert status == 65
    assert result["reason"] == "ArtifactNotFound"


def test_an_empty_data_set_is_said(evaluate, tmp_path) -> None:
    (tmp_path / "holdout.csv").write_text("size,label\n")
    assert evaluate(ABOVE_TEN, (tmp_path / "holdout.csv").as_uri())[1]["message"] == "the data set has no rows"


def test_a_secret_of_its_own_takes_the_place_of_the_models(tmp_path) -> None:
    (tmp_path / "AWS_ACCESS_KEY_ID").write_text("of-the-data")
    of_model = {"AWS_ACCESS_KEY_ID": "of-the-model", "MODEL_SERVER_CREDENTIALS_DIR": "/model", "HOME": "/tmp"}
    assert with_secret(of_model, None) == of_model
    assert with_secret(of_model, tmp_path) == {
        "AWS_ACCESS_KEY_ID": "of-the-data",
        "MODEL_SERVER_CREDENTIALS_DIR": str(tmp_path),
        "HOME": "/tmp",
    }


def test_groups_are_measured_and_fit_the_termination_message(evaluate, tmp_path) -> None:
    rows = [
        {"size": size, "label": int(size > 10), **{f"column {n} {'x' * 50}": 1000 * n + size % 30 for n in range(4)}}
        for size in range(300)
    ]
    columns = ",".join(f"column {n} {'x' * 50}" for n in range(4))
    data = write(tmp_path / "holdout.csv", rows)
    status, result = evaluate(ABOVE_TEN, data, "--groups", columns, metrics="accuracy,worst-group-accuracy")
    assert status == 0
    assert result["metrics"] == {"accuracy": 1.0, "worst-group-accuracy": 1.0}
    assert len(json.dumps(result)) <= 4200
    assert len(result["notes"]) == 4
    assert "has 10 rows: to know its accuracy to within 0.05 it needs about 63 more" in result["notes"][0]


@pytest.mark.parametrize(
    ("metrics", "groups", "why"),
    [
        pytest.param("mae", "colour", None, id="errors by group"),
        pytest.param(
            "selection-rate-difference",
            "colour",
            "needs two classes, the second of which is the positive one; there are 6",
            id="rate",
        ),
        pytest.param("mae", "color", "the data set has no column 'color' for groups", id="an absent column"),
    ],
)
def test_a_model_of_numbers_has_errors_by_group_and_no_selection(evaluate, tmp_path, metrics, groups, why) -> None:
    data = write(tmp_path / "holdout.csv", [{"x": x, "colour": x % 2, "y": 2 * x + 1} for x in (1, 2, 3)])
    status, result = evaluate(TWICE, data, "--groups", groups, target="y", metrics=metrics)
    if why is None:
        assert (status, result["groups"]["colour"]["1"]["mae"]) == (0, 1.0)
    else:
        assert status == 65
        assert why in result["message"]
