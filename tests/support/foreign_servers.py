"""Servers that are not ours, as `spec.server.container` has them: how each starts, in a fast and a slow version."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from modeldeploy.demo.load import Dialect

ROOT = Path(__file__).resolve().parents[2]
SCORER = ROOT / "examples/14-any-image/scorer.py"
#: Of MLServer, in the folder of its model: a model that takes the time that its settings say.
_MLSERVER = """\
import asyncio, os
from mlserver_sklearn import SKLearnModel

class Model(SKLearnModel):
    async def predict(self, payload):
        await asyncio.sleep(float(os.environ["SECONDS_TO_THINK"]))
        return await super().predict(payload)
"""
_KSERVE = """\
import asyncio, os, sys
import joblib
from kserve import InferResponse, Model, ModelServer
from kserve.utils.utils import get_predict_input, get_predict_response

class Iris(Model):
    def load(self):
        self.model = joblib.load("MODEL")
        self.ready = True
        return True

    async def predict(self, payload, headers=None):
        await asyncio.sleep(float(os.environ["SECONDS_TO_THINK"]))
        answer = get_predict_response(payload, self.model.predict(get_predict_input(payload)), self.name)
        answer.model_version = os.environ["VERSION"]
        return answer

model = Iris("iris")
model.load()
ModelServer(workers=1).start([model])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignServer:
    """A server that is not ours.

    `container` and `storage` are fields of a spec for a version; `replicas`: where pods share the machine's ports, 1.
    """

    name: str
    path: str
    dialect: Dialect
    folder: Path
    replicas: int = 2

    def spec(self, version: str, seconds: float) -> dict[str, Any]:
        """The model and the container of a version that takes so long."""
        return _SPECS[self.name](self.folder, version, seconds)

    def predictions(self, rows: Sequence[Sequence[float]]) -> list[Any]:
        """What every version answers."""
        if self.name == "scorer":
            return [sum(row) for row in rows]
        return [int(value) for value in joblib.load(self.folder / "model.joblib").predict(rows)]


def _scorer(folder: Path, version: str, seconds: float) -> dict[str, Any]:
    env = {"VERSION": version, "SECONDS_TO_THINK": str(seconds)}
    command = {"command": ["python", "/mnt/models/scorer.py"], "args": ["0.0.0.0", "9000"]}
    return _spec(SCORER, version, {**command, "port": 9000, "readinessPath": "/healthz"}, env)


def _mlserver(folder: Path, version: str, seconds: float) -> dict[str, Any]:
    about = {"name": "iris", "implementation": "thinking.Model", "parameters": {"uri": "./model.joblib"}}
    package = folder / f"mlserver-{version}"
    package.mkdir()
    about["parameters"] = {"uri": "./model.joblib", "version": version}
    (package / "model-settings.json").write_text(json.dumps(about))
    (package / "thinking.py").write_text(_MLSERVER)
    shutil.copy(folder / "model.joblib", package)
    ports = {"HTTP": 9000, "GRPC": 9001, "METRICS": 9002}
    env = {f"MLSERVER_{name}_PORT": str(port) for name, port in ports.items()}
    env |= {"MLSERVER_HOST": "0.0.0.0", "MLSERVER_PARALLEL_WORKERS": "0", "SECONDS_TO_THINK": str(seconds)}
    command = [str(ROOT / ".venvs/mlserver/bin/python"), "-m", "mlserver.cli.main", "start", "/mnt/models"]
    return _spec(package, version, {"command": command, "port": 9000, "protocol": "openInference"}, env)


def _kserve(folder: Path, version: str, seconds: float) -> dict[str, Any]:
    package = folder / f"kserve-{version}"
    package.mkdir()
    (package / "serve.py").write_text(_KSERVE.replace('"MODEL"', 'os.environ["ARTIFACT"] + "/model.joblib"'))
    shutil.copy(folder / "model.joblib", package)
    # It listens on all addresses of the machine, which the pods of the sandbox share.
    port = 9100 + int(version)
    command = [str(ROOT / ".venvs/kserve/bin/python"), "/mnt/models/serve.py"]
    args = ["--http_port", str(port), "--enable_grpc=false", "--model_name", "iris"]
    env = {"VERSION": version, "SECONDS_TO_THINK": str(seconds), "ARTIFACT": "/mnt/models"}
    return _spec(package, version, {"command": command, "args": args, "port": port, "protocol": "openInference"}, env)


def _spec(storage: Path, version: str, container: dict[str, Any], env: dict[str, str]) -> dict[str, Any]:
    variables = [{"name": name, "value": value} for name, value in env.items()]
    return {
        "model": {"storageUri": storage.as_uri(), "version": version},
        "server": {"container": {"image": f"python:{version}", **container, "env": variables}},
    }


_SPECS = {"scorer": _scorer, "mlserver": _mlserver, "kserve": _kserve}


def _v2(row: Sequence[float]) -> dict[str, Any]:
    return {"inputs": [{"name": "predict", "shape": [1, len(row)], "datatype": "FP64", "data": list(row)}]}


V2 = Dialect(body=_v2, read=lambda answer: (answer["model_version"], answer["outputs"][0]["data"][0]))
SCORES = Dialect(body=lambda row: {"numbers": list(row)}, read=lambda answer: (answer["version"], answer["score"]))


def foreign_server(name: str, folder: Path) -> ForeignServer:
    """Make a server by its name; skips the test where it is not installed."""
    if name == "scorer":
        return ForeignServer(name=name, path="/score", dialect=SCORES, folder=folder)
    if not (ROOT / f".venvs/{name}/.installed").exists():
        pytest.skip(f"{name} is not installed: make test-foreign")
    data = load_iris()
    joblib.dump(LogisticRegression(max_iter=1000).fit(data.data, data.target), folder / "model.joblib")
    replicas = 1 if name == "kserve" else 2
    return ForeignServer(name=name, path="/v2/models/iris/infer", dialect=V2, folder=folder, replicas=replicas)
