"""What `modeldeploy import` writes is served: models that were trained here, described as other systems do it."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import yaml
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from typer.testing import CliRunner

from modeldeploy.app import build

ROWS, LABELS = load_iris(return_X_y=True)
GRAPH = """
name: "iris_onnx"
platform: "onnxruntime_onnx"
max_batch_size: 64
input [ { name: "X" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [
  { name: "label" data_type: TYPE_INT64 dims: [ 1 ] },
  { name: "probabilities" data_type: TYPE_FP32 dims: [ 3 ] }
]
dynamic_batching { max_queue_delay_microseconds: 2000 }
version_policy: { latest { num_versions: 1 } }
"""


def imported(source: Path, output: Path, *words: str) -> dict[str, Any]:
    """Import one model; return what its ModelDeployment asks for, as settings of a server."""
    done = CliRunner().invoke(build(), ["import", str(source), "--output", str(output), *words])
    assert done.exit_code == 0, done.output
    (path,) = output.glob("*/modeldeployment.yaml")
    model = yaml.safe_load(path.read_text())["spec"]["model"]
    return {"uri": model.pop("storageUri"), **model}


def predictions(server: Any, rows: Any) -> list[Any]:
    answer = server.client.post("/predict", json={"instances": rows})
    assert answer.status_code == 200, answer.text
    found: list[Any] = answer.json()["predictions"]
    return found


def test_a_graph_of_triton(serve: Callable[..., Any], tmp_path: Path) -> None:
    from skl2onnx import to_onnx

    model = LogisticRegression(max_iter=500).fit(ROWS, LABELS)
    graph = to_onnx(model, ROWS[:1].astype(np.float32), options={"zipmap": False})
    version = tmp_path / "repository" / "iris_onnx" / "3"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(graph.SerializeToString())
    (version.parent / "config.pbtxt").write_text(GRAPH)
    server = serve(**imported(tmp_path / "repository", tmp_path / "out")).wait_ready()
    rows = ROWS[::20].tolist()
    assert predictions(server, rows) == model.predict(rows).tolist()
    by_name = [{f"X_{n}": value for n, value in enumerate(row)} for row in rows]
    assert predictions(server, by_name) == model.predict(rows).tolist()
    assert server.client.get("/v2/models/model").json()["versions"] == ["3"]


def test_a_model_of_mlserver_is_pinned(serve: Callable[..., Any], tmp_path: Path) -> None:
    model = SVC(gamma=0.001).fit(ROWS, LABELS)
    folder = tmp_path / "svm"
    folder.mkdir()
    joblib.dump(model, folder / "svm.joblib")
    settings = {
        "name": "iris-svm",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./svm.joblib", "version": "v0.1.0"},
    }
    (folder / "model-settings.json").write_text(json.dumps(settings))
    given = imported(folder, tmp_path / "out")
    assert len(given["sha256"]) == 64
    server = serve(**given).wait_ready()
    rows = ROWS[::20].tolist()
    assert predictions(server, rows) == model.predict(rows).tolist()
    tensor = {"name": "predict", "shape": [len(rows), 4], "datatype": "FP64", "data": rows}
    answer = server.client.post("/v2/models/model/infer", json={"inputs": [tensor]}).json()
    assert answer["outputs"][0]["data"] == model.predict(rows).tolist()


def test_a_folder_of_kserve(serve: Callable[..., Any], tmp_path: Path) -> None:
    model = LogisticRegression(max_iter=500).fit(ROWS, LABELS)
    (tmp_path / "bucket").mkdir()
    joblib.dump(model, tmp_path / "bucket" / "model.joblib")
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "sklearn-iris"},
        "spec": {
            "predictor": {
                "model": {"modelFormat": {"name": "sklearn"}, "storageUri": (tmp_path / "bucket").as_uri()},
            }
        },
    }
    (tmp_path / "isvc.yaml").write_text(yaml.safe_dump(service))
    server = serve(**imported(tmp_path / "isvc.yaml", tmp_path / "out", "--trusted")).wait_ready()
    rows = ROWS[::20].tolist()
    assert predictions(server, rows) == model.predict(rows).tolist()


def test_a_package_that_was_changed_afterwards_is_refused(serve: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "iris"
    folder.mkdir()
    joblib.dump(LogisticRegression(max_iter=500).fit(ROWS, LABELS), folder / "model.joblib")
    (folder / "model-settings.json").write_text(json.dumps({"implementation": "mlserver_sklearn.SKLearnModel"}))
    given = imported(folder, tmp_path / "written")
    with (tmp_path / "written" / "iris" / "package" / "model.yaml").open("a") as described:
        described.write("description: another one\n")
    server = serve(**given)
    server.wait_exit()
    assert server.termination()["reason"] == "DigestMismatch"


def an_archive(path: Path, model: Path) -> Path:
    manifest = {"runtime": "python", "model": {"modelName": "iris", "serializedFile": model.name, "modelVersion": "7"}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(model, model.name)
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
    return path


def test_an_archive_of_torchserve_with_a_graph(serve: Callable[..., Any], tmp_path: Path) -> None:
    from skl2onnx import to_onnx

    model = LogisticRegression(max_iter=500).fit(ROWS, LABELS)
    graph = to_onnx(model, ROWS[:1].astype(np.float32), options={"zipmap": False})
    (tmp_path / "graph.onnx").write_bytes(graph.SerializeToString())
    server = serve(**imported(an_archive(tmp_path / "iris.mar", tmp_path / "graph.onnx"), tmp_path / "out"))
    rows = ROWS[::20].tolist()
    assert predictions(server.wait_ready(), rows) == model.predict(rows).tolist()
    assert server.client.get("/v2/models/model").json()["versions"] == ["7"]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_an_archive_of_torchserve_with_a_script(serve: Callable[..., Any], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs modeldeploy[server-torch]")
    module = torch.nn.Linear(4, 3).eval()
    torch.jit.script(module).save(str(tmp_path / "model.pt"))
    given = imported(an_archive(tmp_path / "iris.mar", tmp_path / "model.pt"), tmp_path / "out")
    assert len(given["sha256"]) == 64
    rows = ROWS[::20].tolist()
    expected = module(torch.tensor(rows)).detach().numpy()
    assert np.allclose(predictions(serve(**given).wait_ready(), rows), expected, atol=1e-5)
