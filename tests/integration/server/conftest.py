"""Real packages, trained once a session on scikit-learn's bundled data, and the real server process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import joblib
import numpy as np
import pytest
import yaml
from free_ports import free_port
from pooled import PoolOf
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from waiting import wait_until

DEADLINE_SECONDS = 30
# Variables with meanings of their own: given to a server as they are.
FOREIGN = ("MODELDEPLOY_", "AWS_", "MLFLOW_", "OTEL_")


@dataclass(frozen=True)
class Trained:
    """A model, its rows, and the package it was saved to."""

    model: Any
    rows: Any
    names: list[str]
    folder: Path

    @property
    def uri(self) -> str:
        return f"file://{self.folder}"

    def objects(self, rows: Any) -> list[dict[str, float]]:
        return [dict(zip(self.names, row, strict=True)) for row in np.asarray(rows).tolist()]


def write_metadata(folder: Path, **fields: Any) -> None:
    (folder / "model.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))


def features(names: list[str], rows: Any) -> list[dict[str, Any]]:
    return [
        {"name": name, "dtype": "float64", "example": float(value)} for name, value in zip(names, rows[0], strict=True)
    ]


@pytest.fixture(scope="session")
def wine(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A scaler and a classifier in one joblib file, described by model.yaml."""
    data = load_wine()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(data.data, data.target)
    folder = tmp_path_factory.mktemp("wine")
    joblib.dump(model, folder / "model.joblib")
    names = list(data.feature_names)
    inputs = features(names, data.data)
    inputs[0] |= {"range": [0, 100], "description": "Alcohol, percent by volume"}
    write_metadata(
        folder,
        name="wine",
        version="3",
        description="Which cultivar a wine is from",
        input_features=inputs,
        output_features=[{"name": "cultivar", "dtype": "int64", "categories": [0, 1, 2]}],
        metrics={"accuracy": 0.98},
    )
    return Trained(model, data.data, names, folder)


@pytest.fixture(scope="session")
def cancer(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A scaler and a classifier in files of their own."""
    data = load_breast_cancer()
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(data.data, data.target)
    folder = tmp_path_factory.mktemp("cancer")
    joblib.dump(model.steps[0][1], folder / "scaler.joblib")
    joblib.dump(model.steps[1][1], folder / "classifier.pkl", protocol=5)
    write_metadata(folder, version="1", artifacts=["scaler.joblib", "classifier.pkl"])
    return Trained(model, data.data, list(data.feature_names), folder)


@pytest.fixture(scope="session")
def iris_onnx(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A classifier exported to ONNX, as one file."""
    from skl2onnx import to_onnx

    data = load_iris()
    model = LogisticRegression(max_iter=500).fit(data.data, data.target)
    folder = tmp_path_factory.mktemp("iris")
    graph = to_onnx(model, data.data[:1].astype(np.float32), options={"zipmap": False})
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    return Trained(model, data.data.astype(np.float32), list(data.feature_names), folder)


@pytest.fixture(scope="session")
def same() -> bytes:
    """An ONNX graph that answers with its four features: made in a moment, without scikit-learn."""
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, ir_version=8, opset_imports=opsets).SerializeToString())


@dataclass
class Server:
    """A running `python -m model_server`."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    termination_log: Path
    grpc_port: int = 0
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.url, timeout=10, trust_env=False)

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def phase(self) -> str:
        try:
            return str(self.client.get("/readyz").json()["phase"])
        except httpx.TransportError:
            return "unreachable"

    def wait_ready(self, seconds: float = DEADLINE_SECONDS) -> Server:
        wait_until(lambda: self.phase() == "ready" or self.process.poll() is not None, self.describe, seconds=seconds)
        assert self.process.poll() is None, self.describe()
        return self

    def wait_until(self, condition: Callable[[], bool]) -> None:
        wait_until(condition, self.describe, seconds=DEADLINE_SECONDS)

    def wait_exit(self) -> int:
        return self.process.wait(DEADLINE_SECONDS)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.wait_exit()

    def termination(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.termination_log.read_text())
        return document

    def describe(self) -> str:
        return f"phase {self.phase()}, exit {self.process.poll()}, log:\n{self.log.read_text()}"


@contextmanager
def running(folder: Path, uri: str, *, arguments: Sequence[str] = (), **settings: object) -> Iterator[Server]:
    """Start a server; it is gone when the block ends. `arguments` are those of the image that does something else."""
    port = free_port()
    given: dict[str, object] = {"STORAGE_URI": uri} if uri else {}
    given |= {"HOST": "127.0.0.1", "PORT": port, "TERMINATION_LOG": folder / "termination"}
    given |= {name.upper(): value for name, value in settings.items() if not name.startswith(FOREIGN)}
    environ = {name: value for name, value in os.environ.items() if not name.startswith((*FOREIGN, "MODEL_SERVER_"))}
    environ |= {f"MODEL_SERVER_{name}": str(value) for name, value in given.items()}
    environ |= {name: str(value) for name, value in settings.items() if name.startswith(FOREIGN)}
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "model_server", *arguments],
            env=environ,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    server = Server(process, f"http://127.0.0.1:{port}", log, folder / "termination")
    try:
        yield server
    finally:
        server.client.close()
        # Its workers as well, which drain when their parent is killed.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="session")
def run_server() -> Callable[..., AbstractContextManager[Server]]:
    """`with run_server(folder, uri, setting=...) as server`, for fixtures of a wider scope than a test."""
    return running


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers that end with the test: `serve(uri, trusted=True)`."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(uri: str, **settings: object) -> Server:
            folder = tmp_path / f"server-{len(list(tmp_path.glob('server-*')))}"
            folder.mkdir()
            return stack.enter_context(running(folder, uri, **settings))

        yield start


@pytest.fixture(scope="session")
def wine_server(wine: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server of the wine model, with a gRPC port, for all tests that leave it as it was."""
    port = free_port()
    with running(tmp_path_factory.mktemp("server"), wine.uri, name="wine", trusted=True, grpc_port=port) as server:
        server.grpc_port = port
        yield server.wait_ready()


SIGN = """
def load_model(path): return 1
def predict(model, inputs): return (inputs[:, 0] > 0).astype(int)
"""


@pytest.fixture
def sign(tmp_path: Path) -> str:
    """A package that starts quickly: two named features, and the sign of the first as its answer."""
    folder = tmp_path / "sign"
    folder.mkdir()
    (folder / "model.py").write_text(SIGN)
    outputs = [{"name": "positive", "dtype": "int64", "categories": [0, 1]}]
    write_metadata(folder, input_features=[{"name": "a"}, {"name": "secret"}], output_features=outputs)
    return f"file://{folder}"


@pytest.fixture
def pool(tmp_path: Path, run_server: Callable[..., Any]) -> Iterator[Callable[..., PoolOf]]:
    """Starts pools that end with the test: `pool(entries, memory_bytes=..., server={settings of any server})`."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(
            *models: dict[str, Any], seconds: float = 10, server: Mapping[str, object] | None = None, **settings: object
        ) -> PoolOf:
            listing = tmp_path / "models.json"
            found = PoolOf(None, listing)
            found.list(*models)
            given = {f"pool_{name}": value for name, value in settings.items()}
            given |= {"request_timeout_seconds": seconds, "model_dir": tmp_path, **(server or {})}
            arguments = ("pool",)
            found.server = stack.enter_context(
                run_server(tmp_path, "", arguments=arguments, pool_models=listing, **given)
            )
            found.server.wait_ready()
            return found

        yield start
