"""A package that nobody vouches for, with code in every place where some tool looks for code: none of it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from free_ports import free_port
from sklearn.linear_model import LogisticRegression
from waiting import wait_until

MARK = "import os, pathlib\npathlib.Path(os.environ['RAN']).touch()\n"
STEP = f"{MARK}def transform(inputs):\n    return inputs\n"
#: Names that Python finds first where the folder it was started in is among its paths.
SHADOWS = ("numpy.py", "json.py", "sklearn.py", "orjson.py", "model_server.py", "sitecustomize.py", "yaml.py")


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    monkeypatch.setenv("MODEL_SERVER_TERMINATION_LOG", str(tmp_path / "end"))
    return tmp_path / "ran"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A classifier of two features in ONNX, which runs no code."""
    onnx = pytest.importorskip("skl2onnx")
    from skl2onnx.common.data_types import FloatTensorType

    folder = tmp_path / "package"
    folder.mkdir()
    model = LogisticRegression().fit(np.array([[0, 1], [1, 0], [0, 2], [2, 0]], np.float32), [0, 1, 0, 1])
    converted = onnx.convert_sklearn(
        model, initial_types=[("x", FloatTensorType([None, 2]))], options={"zipmap": False}
    )
    (folder / "model.onnx").write_bytes(converted.SerializeToString())
    (folder / "model.yaml").write_text(yaml.safe_dump({"input_features": [{"name": "a"}, {"name": "b"}]}))
    return folder


def server(package: Path, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {
        "MODEL_SERVER_STORAGE_URI": f"file://{package}",
        "MODEL_SERVER_HOST": "127.0.0.1",
        "MODEL_SERVER_PORT": str(free_port()),
    }
    command = [sys.executable, "-P", "-m", "model_server", *words]
    return subprocess.run(command, env=environ, cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", ["pre.py", "post.py"])
@pytest.mark.parametrize("door", ["serve", "predict", "evaluate", "fetch"])
def test_a_step_is_not_imported_at_any_door(package: Path, ran: Path, tmp_path: Path, name: str, door: str) -> None:
    (package / name).write_text(STEP)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"a": 1.0, "b": 0.0, "target": 1}))
    words = {
        "serve": [],
        "predict": ["batch", "--input", f"file://{rows}", "--output", f"file://{tmp_path}/out"],
        "evaluate": ["evaluate", "--data", f"file://{rows}", "--target", "target", "--metrics", "accuracy"],
        "fetch": ["fetch", str(tmp_path / "models")],
    }[door]
    done = server(package, *words)
    assert not ran.exists(), done.stdout
    if door == "fetch":
        assert done.returncode == 0
    else:
        assert done.returncode == 65, done.stdout + done.stderr
        assert json.loads((tmp_path / "end").read_text())["reason"] == "ArtifactNotTrusted"


def test_a_folder_of_mlflow_is_held_to_the_same(package: Path, ran: Path, tmp_path: Path) -> None:
    (package / "model.yaml").unlink()
    (package / "MLmodel").write_text(yaml.safe_dump({"flavors": {"onnx": {"data": "model.onnx"}}}))
    (package / "pre.py").write_text(STEP)
    assert server(package).returncode == 65
    assert not ran.exists()
    assert json.loads((tmp_path / "end").read_text())["reason"] == "ArtifactNotTrusted"


def test_serve_in_the_folder_of_a_package_imports_nothing_of_it(package: Path, ran: Path) -> None:
    for name in SHADOWS:
        (package / name).write_text(MARK)
    port = free_port()
    command = [str(Path(sys.executable).with_name("modeldeploy")), "serve", ".", "--port", str(port)]
    with (
        subprocess.Popen(command, cwd=package, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        try:

            def is_ready() -> bool:
                try:
                    return client.get("/readyz").status_code == 200
                except httpx.TransportError:
                    return process.poll() is not None

            wait_until(is_ready, seconds=60)
            assert process.poll() is None
            assert client.post("/predict", json={"inputs": [{"a": 1, "b": 0}]}).status_code < 500
        finally:
            process.terminate()
    assert not ran.exists()
