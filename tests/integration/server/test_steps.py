"""Steps around models of every format, in a real server: every protocol sees them, and a failure has their name."""

from __future__ import annotations

import json
import shutil
import sys

import grpc
import joblib
import numpy as np
import pytest
import yaml
from free_ports import free_port
from prometheus_client.parser import text_string_to_metric_families
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from model_server.batch.command import main as predict_table
from model_server.evaluate import main as measure
from model_server.grpc.messages import SERVICE, message
from model_server.loader import load
from model_server.runtimes.explaining.selection import explained
from model_server.settings import read_settings

IRIS = load_iris()
NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
MODEL = LogisticRegression(max_iter=500).fit(IRIS.data, IRIS.target)

#: Requests are in inches and by name, models in centimetres and by place.
PRE = f"""
from typing import TypedDict
import numpy as np

Flower = TypedDict("Flower", {{name: float for name in {NAMES}}})

def transform(rows: list[Flower]):
    if any(row["petal_width"] > 100 for row in rows):
        raise ValueError("a petal of this width is no petal")
    assert all(row["petal_width"] >= 0 for row in rows), "negative"
    return np.array([list(row.values()) for row in rows]) * 2.54
"""
POST = f"""
import numpy as np
KINDS = np.array({list(map(str, IRIS.target_names))})

def transform(outputs):
    first = next(iter(outputs.values()))
    return KINDS[first if first.ndim == 1 else first.argmax(axis=1)]
"""
ROWS = [dict(zip(NAMES, (row / 2.54).tolist(), strict=True)) for row in IRIS.data[::30]]
KINDS = [str(IRIS.target_names[label]) for label in MODEL.predict(IRIS.data[::30])]


def joblib_file(folder):
    joblib.dump(MODEL, folder / "model.joblib")


def onnx_file(folder):
    from skl2onnx import to_onnx

    graph = to_onnx(MODEL, IRIS.data[:1].astype(np.float32), options={"zipmap": False})
    (folder / "model.onnx").write_bytes(graph.SerializeToString())


def xgboost_file(folder):
    xgboost = pytest.importorskip("xgboost")
    xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(IRIS.data, IRIS.target).save_model(folder / "model.json")


def lightgbm_file(folder):
    lightgbm = pytest.importorskip("lightgbm")
    model = lightgbm.LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1).fit(IRIS.data, IRIS.target)
    model.booster_.save_model(folder / "model.txt")


def mlflow_folder(folder):
    joblib_file(folder)
    columns = [{"type": "double", "name": name, "required": True} for name in ("a", "b", "c", "d")]
    flavors = {"sklearn": {"pickled_model": "model.joblib"}, "python_function": {}}
    described = {"flavors": flavors, "signature": {"inputs": json.dumps(columns)}}
    (folder / "MLmodel").write_text(yaml.safe_dump(described))


def torch_file(folder):
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(4, 3)
    with torch.no_grad():
        module.weight.copy_(torch.tensor(MODEL.coef_))
        module.bias.copy_(torch.tensor(MODEL.intercept_))
    rows = {"input": {0: torch.export.Dim("rows")}}
    program = torch.export.export(module.eval(), (torch.ones(2, 4),), dynamic_shapes=rows)
    torch.export.save(program, folder / "model.pt2")


def python_file(folder):
    joblib_file(folder)
    (folder / "model.py").write_text(
        "import joblib\ndef load_model(path): return joblib.load(path + '/model.joblib')\n"
        "def predict(model, inputs): return model.predict(inputs)\n"
    )


FORMATS = [joblib_file, onnx_file, xgboost_file, lightgbm_file, mlflow_folder, torch_file, python_file]


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """Loads a package as the server does."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(folder, **settings):
        environ = {"MODEL_SERVER_STORAGE_URI": f"file://{folder}", "MODEL_SERVER_TRUSTED": "true"}
        environ |= {f"MODEL_SERVER_{name.upper()}": value for name, value in settings.items()}
        return load(read_settings(environ), tmp_path / "scratch", environ=environ, report=lambda phase, text: None)

    return run


@pytest.mark.parametrize("write", [pytest.param(write, id=write.__name__) for write in FORMATS])
def test_every_format_has_steps(loaded, tmp_path, write):
    folder = tmp_path / "iris"
    folder.mkdir()
    write(folder)
    (folder / "pre.py").write_text(PRE)
    (folder / "post.py").write_text(POST)
    found = loaded(folder)
    assert [feature.name for feature in found.adapter.features] == NAMES
    assert [tensor.datatype for tensor in found.outputs] == ["BYTES"]
    outputs = found.model.predict(found.adapter.from_instances(ROWS, numbers_only=True), probabilities=False)
    (kinds,) = outputs.values()
    assert kinds.tolist() == KINDS


@pytest.fixture(scope="module")
def iris(tmp_path_factory):
    folder = tmp_path_factory.mktemp("iris")
    onnx_file(folder)
    (folder / "pre.py").write_text(PRE)
    (folder / "post.py").write_text(POST)
    return folder


@pytest.fixture(scope="module")
def server(iris, run_server, tmp_path_factory):
    port = free_port()
    with run_server(tmp_path_factory.mktemp("server"), f"file://{iris}", trusted=True, grpc_port=port) as started:
        started.grpc_port = port
        yield started.wait_ready()


def sampled(server, name, suffix):
    """The samples of a metric, by step."""
    families = text_string_to_metric_families(server.client.get("/metrics").text)
    samples = [one for family in families if family.name == name for one in family.samples]
    return {one.labels.get("step", ""): one.value for one in samples if one.name == name + suffix}


def test_every_protocol_sees_the_steps(server):
    assert server.client.post("/predict", json={"instances": ROWS}).json()["predictions"] == KINDS
    assert server.client.post("/v1/models/model:predict", json={"instances": ROWS}).json()["predictions"] == KINDS
    columns = [
        {"name": name, "datatype": "FP64", "shape": [len(ROWS)], "data": [row[name] for row in ROWS]} for name in NAMES
    ]
    answer = server.client.post("/v2/models/model/infer", json={"inputs": columns}).json()
    assert answer["outputs"][0]["data"] == KINDS
    request = message("ModelInferRequest")(model_name="model")
    for column in columns:
        tensor = request.inputs.add(name=column["name"], datatype="FP64", shape=column["shape"])
        tensor.contents.fp64_contents.extend(column["data"])
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=lambda sent: sent.SerializeToString(),
            response_deserializer=message("ModelInferResponse").FromString,
        )
        (output,) = call(request, timeout=10).outputs
    assert [text.decode() for text in output.contents.bytes_contents] == KINDS


def test_the_document_is_typed_by_the_first_step(server):
    row = server.client.get("/openapi.json").json()["components"]["schemas"]["Row"]
    assert {name: field["type"] for name, field in row["properties"].items()} == dict.fromkeys(NAMES, "number")
    refused = server.client.post("/predict", json={"instances": [ROWS[0] | {"petal_width": "wide"}]})
    assert (refused.status_code, refused.json()["details"][0]["field"]) == (422, "instances[0].petal_width")


@pytest.mark.parametrize(
    ("width", "status", "reason", "error"),
    [
        pytest.param(
            101, 422, "InputRefused", "pre.py refused this input: a petal of this width is no petal", id="value"
        ),
        pytest.param(-1, 500, "StepFailed", "pre.py failed on this input", id="error"),
    ],
)
def test_a_failure_has_the_name_of_its_step(server, width, status, reason, error):
    answer = server.client.post("/predict", json={"instances": [ROWS[0] | {"petal_width": width}]})
    assert answer.status_code == status
    assert (answer.json()["reason"], answer.json()["error"]) == (reason, error)
    if status == 500:
        assert "AssertionError: negative" in server.log.read_text()
        failures = sampled(server, "modeldeploy_step_failures", "_total")
        assert failures == {"pre": 1}


def test_the_parts_of_a_call_are_timed_apart(server):
    server.client.post("/predict", json={"instances": ROWS})
    assert list(sampled(server, "modeldeploy_step_duration_seconds", "_count")) == ["pre", "model", "post"]
    times = sampled(server, "modeldeploy_step_duration_seconds", "_sum")
    (whole,) = sampled(server, "modeldeploy_predict_duration_seconds", "_sum").values()
    assert 0 < sum(times.values()) <= whole


def test_an_untrusted_package_with_steps_is_not_loaded(serve, iris):
    server = serve(f"file://{iris}")
    assert server.wait_exit() == 65
    assert server.termination()["reason"] == "ArtifactNotTrusted"
    assert "pre.py and post.py" in server.termination()["message"]


@pytest.mark.parametrize(
    ("name", "text", "reason", "message"),
    [
        pytest.param("pre.py", "import nothing_like_it", "DependencyMissing", "pre.py needs the module", id="a module"),
        pytest.param(
            "post.py", "x = 1 / 0", "LoadFailed", "post.py cannot be imported: ZeroDivisionError", id="import"
        ),
        pytest.param("post.py", "x = 1", "LoadFailed", "post.py has no function transform", id="no function"),
        pytest.param(
            "post.py",
            "def transform(o): return [1, 2]",
            "PredictFailed",
            "post.py returned 2 rows in 'label' for 1",
            id="rows",
        ),
        pytest.param(
            "post.py",
            "def transform(o): return o['x']",
            "PredictFailed",
            "KeyError: 'x' (post.py line 1)",
            id="an error",
        ),
    ],
)
def test_a_step_that_cannot_work_fails_the_load(serve, iris, tmp_path, name, text, reason, message):
    folder = tmp_path / "bad"
    shutil.copytree(iris, folder)
    features = [{"name": one, "example": 1.0} for one in NAMES]
    (folder / "model.yaml").write_text(yaml.safe_dump({"input_features": features}))
    (folder / name).write_text(text)
    server = serve(f"file://{folder}", trusted=True)
    assert server.wait_exit() == 65
    seen = server.termination()
    assert seen["reason"] == reason
    assert message in seen["message"]
    assert seen["hint"]


@pytest.fixture
def job(iris, tmp_path, monkeypatch):
    """Runs a command of the image on some rows, in this process, with the package of the steps."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    given = {"STORAGE_URI": f"file://{iris}", "TRUSTED": "true", "HOST": "127.0.0.1", "PORT": "0"}
    for name, value in (given | {"TERMINATION_LOG": str(tmp_path / "end")}).items():
        monkeypatch.setenv(f"MODEL_SERVER_{name}", value)

    def run(command, rows, source, *options):
        (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return command([source, f"file://{tmp_path}/rows.jsonl", *options])

    return run


def lines_of(folder):
    return [json.loads(line) for part in sorted(folder.glob("part-*")) for line in part.read_text().splitlines()]


def test_a_batch_sees_the_steps_and_what_they_refuse_is_a_bad_row(job, tmp_path):
    out, wrong = tmp_path / "out", [ROWS[0] | {"petal_width": width} for width in (101, -1)]
    options = ("--input", "--output", f"file://{out}", "--on-bad-row", "quarantine")
    assert job(predict_table, [*wrong, *ROWS], *options) == 0
    assert [row["prediction"] for row in lines_of(out)] == KINDS
    first, second = (row["error"] for row in lines_of(out / "_quarantine"))
    assert "a petal of this width is no petal" in first
    assert second == "pre.py failed on this input: AssertionError: negative (pre.py line 10)"


@pytest.mark.parametrize(
    ("width", "reason"),
    [
        pytest.param(0.1, "", id="rows that the steps take"),
        pytest.param(101, "DatasetInvalid", id="rows that a step refuses"),
        pytest.param(-1, "PredictFailed", id="a step that fails"),
    ],
)
def test_an_evaluation_sees_the_steps(job, tmp_path, width, reason):
    rows = [row | {"kind": kind} for row, kind in zip(ROWS, KINDS, strict=True)]
    rows[0]["petal_width"] = width
    code = job(measure, rows, "--data", "--target", "kind", "--metrics", "accuracy")
    seen = json.loads((tmp_path / "end").read_text())
    assert (code, seen.get("reason", "")) == (65 if reason else 0, reason)
    assert reason or seen["metrics"] == {"accuracy": 1.0}
    assert not reason or "pre.py" in seen["message"]


@pytest.mark.parametrize(
    ("post", "is_explained"),
    [
        pytest.param("return outputs", True, id="probabilities that are still there"),
        pytest.param("return outputs['predict'].astype(str)", False, id="classes alone"),
    ],
)
def test_explanations_are_about_what_goes_into_the_first_step(loaded, tmp_path, post, is_explained):
    folder = tmp_path / "iris"
    folder.mkdir()
    joblib_file(folder)
    (folder / "pre.py").write_text(PRE)
    (folder / "post.py").write_text(f"def transform(outputs):\n    {post}\n")
    edges = {name: np.quantile(IRIS.data[:, place] / 2.54, [0, 0.5, 1]) for place, name in enumerate(NAMES)}
    profile = {name: {"edges": one.tolist(), "counts": [75, 75]} for name, one in edges.items()}
    features = [{"name": name, "example": 1.0} for name in NAMES]
    about = {"input_features": features, "reference_profile": profile}
    (folder / "model.yaml").write_text(yaml.safe_dump(about))
    found = loaded(folder, explanations="true")
    assert (found.explainer is not None) is is_explained
    if found.explainer is not None:
        inputs = found.adapter.from_instances(ROWS[:2], numbers_only=True)
        explanation = explained(found.explainer, inputs)
        expected = MODEL.predict_proba(IRIS.data[::30][:2])
        assert explanation.contributions.shape == (2, 3, len(NAMES))
        np.testing.assert_allclose(explanation.base + explanation.contributions.sum(axis=2), expected, atol=1e-6)
