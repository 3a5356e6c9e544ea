"""The servers that are compared: how each is installed, started, asked, and what it answers.

Every server runs as one process with the same joblib files and the same scikit-learn, at the settings
that its documentation recommends for speed; logs of single requests are off where that is a setting.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PEERS = Path(__file__).parent / "peers"
SKLEARN = ("scikit-learn==1.9.1", "joblib")
ROOT = Path(__file__).resolve().parents[2]
OURS = ("-e", f"{ROOT}[server,server-sklearn,server-onnx,server-accelerate]", *SKLEARN)
Rows = list[list[float]]


def v2(rows: Rows) -> dict[str, Any]:
    shape = [len(rows), len(rows[0])]
    data = [value for row in rows for value in row]
    return {"inputs": [{"name": "predict", "shape": shape, "datatype": "FP64", "data": data}]}


def instances(rows: Rows) -> dict[str, Any]:
    return {"instances": rows}


def objects(rows: Rows) -> list[dict[str, float]]:
    return [{f"x{index}": value for index, value in enumerate(row)} for row in rows]


def named_instances(rows: Rows) -> dict[str, Any]:
    return {"instances": objects(rows)}


def bento(rows: Rows) -> dict[str, Any]:
    return {"rows": rows}


def _find(answer: Any) -> list[Any]:
    """The predictions in any server's answer."""
    if isinstance(answer, list):
        return answer
    if "predictions" in answer:
        return list(answer["predictions"])
    return list(answer["outputs"][0]["data"])


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One way to ask a server; `path` holds `{model}`."""

    name: str
    path: str
    body: Callable[[Rows], Any]
    predictions: Callable[[Any], list[Any]] = _find


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One server. `command` gets the port, the models' folder and a folder of its own."""

    name: str
    packages: tuple[str, ...] = ()
    command: Callable[[Path, int, Path, Path], list[str]]
    environ: dict[str, str] = field(default_factory=dict)
    ready: str = "/health"
    endpoints: tuple[Endpoint, ...] = ()
    # One process a model, for servers that serve one.
    per_model: bool = False
    checks: bool = True


def _ours(python: Path, port: int, models: Path, own: Path) -> list[str]:
    return [str(python), "-m", "model_server"]


def _uvicorn(app: str) -> Callable[[Path, int, Path, Path], list[str]]:
    def command(python: Path, port: int, models: Path, own: Path) -> list[str]:
        return [str(python), "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", str(port), "--app-dir", str(PEERS)]

    return command


def _gunicorn(python: Path, port: int, models: Path, own: Path) -> list[str]:
    return [str(python), "-m", "gunicorn", "-w", "1", "-b", f"127.0.0.1:{port}", "--chdir", str(PEERS), "flask_app:app"]


def _kserve(python: Path, port: int, models: Path, own: Path) -> list[str]:
    quiet = own / "log.json"
    loggers = {name: {"level": "WARNING"} for name in ("kserve", "kserve.trace", "uvicorn", "uvicorn.access")}
    quiet.write_text(json.dumps({"version": 1, "disable_existing_loggers": False, "loggers": loggers}))
    options = ["--http_port", str(port), "--enable_grpc=false", "--enable_latency_logging=false"]
    return [str(python), str(PEERS / "kserve_app.py"), *options, "--log_config_file", str(quiet)]


def _mlserver(batch: bool) -> Callable[[Path, int, Path, Path], list[str]]:
    def command(python: Path, port: int, models: Path, own: Path) -> list[str]:
        ports = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
        settings = {"parallel_workers": 0, "debug": False, "host": "127.0.0.1", **ports}
        (own / "settings.json").write_text(json.dumps(settings))
        for name in ("iris", "forest"):
            (own / name).mkdir(exist_ok=True)
            about: dict[str, Any] = {"name": name, "implementation": "mlserver_sklearn.SKLearnModel"}
            about["parameters"] = {"uri": str(models / name / "model.joblib")}
            if batch:
                about |= {"max_batch_size": 64, "max_batch_time": 0.005}
            (own / name / "model-settings.json").write_text(json.dumps(about))
        return [str(python), "-m", "mlserver.cli.main", "start", str(own)]

    return command


def _bentoml(python: Path, port: int, models: Path, own: Path) -> list[str]:
    return [
        str(python.parent / "bentoml"),
        "serve",
        "bento_app:Service",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--working-dir",
        str(PEERS),
    ]


V2 = Endpoint(name="v2", path="/v2/models/{model}/infer", body=v2)
OUR_ENVIRON = {
    "MODEL_SERVER_TRUSTED": "true",
    "MODEL_SERVER_LOG_LEVEL": "warning",
    "MODEL_SERVER_MAX_BATCH_SIZE": "256",
}
# What kserve takes in the end; said here, it spares pip a search of ten minutes.
KSERVE = ("kserve", "protobuf<7", "grpcio-health-checking<1.82", "grpcio-reflection<1.82", *SKLEARN)
MLSERVER = ("mlserver", "mlserver-sklearn", "uvloop==0.21.0", *SKLEARN)

CONTESTANTS = (
    Contestant(
        name="modeldeploy",
        packages=OURS,
        command=_ours,
        environ=OUR_ENVIRON,
        ready="/readyz",
        per_model=True,
        endpoints=(V2, Endpoint(name="predict", path="/predict", body=named_instances)),
    ),
    Contestant(
        name="modeldeploy-accelerated",
        packages=OURS,
        command=_ours,
        environ=OUR_ENVIRON | {"MODEL_SERVER_ACCELERATE": "onnx"},
        ready="/readyz",
        per_model=True,
        endpoints=(V2,),
    ),
    Contestant(name="kserve", packages=KSERVE, command=_kserve, ready="/v2/health/ready", endpoints=(V2,)),
    Contestant(name="mlserver", packages=MLSERVER, command=_mlserver(False), ready="/v2/health/ready", endpoints=(V2,)),
    Contestant(
        name="mlserver-batching", packages=MLSERVER, command=_mlserver(True), ready="/v2/health/ready", endpoints=(V2,)
    ),
    Contestant(
        name="bentoml",
        packages=("bentoml", *SKLEARN),
        command=_bentoml,
        environ={"BENTOML_DO_NOT_TRACK": "True"},
        ready="/readyz",
        endpoints=(
            Endpoint(name="plain", path="/{model}_plain", body=bento),
            Endpoint(name="batch", path="/{model}_batch", body=bento),
        ),
    ),
    Contestant(
        name="fastapi",
        packages=("fastapi", "uvicorn[standard]", *SKLEARN),
        command=_uvicorn("fastapi_app:app"),
        endpoints=(Endpoint(name="tutorial", path="/{model}", body=objects),),
    ),
    Contestant(
        name="flask",
        packages=("flask", "gunicorn", *SKLEARN),
        command=_gunicorn,
        endpoints=(Endpoint(name="gunicorn", path="/{model}", body=instances),),
    ),
    Contestant(
        name="floor",
        command=lambda python, port, models, own: [
            *_uvicorn("floor_app:app")(Path(sys.executable), port, models, own),
            *("--no-access-log", "--log-level", "warning"),
        ],
        ready="/",
        endpoints=(V2,),
        checks=False,
    ),
)


def environment(one: Contestant, models: Path, model: str, port: int) -> dict[str, str]:
    """The environment of a server's process."""
    base = {name: value for name, value in os.environ.items() if not name.startswith("MODEL_SERVER_")}
    base |= {"MODELS": str(models), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | one.environ
    if one.per_model:
        address = {"STORAGE_URI": f"file://{models / model}", "NAME": model, "HOST": "127.0.0.1", "PORT": str(port)}
        address["TERMINATION_LOG"] = str(models / "termination")
        base |= {f"MODEL_SERVER_{name}": value for name, value in address.items()}
    return base
