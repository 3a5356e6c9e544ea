"""A real `mlflow server` with users and passwords, on this machine, and versions of models in it.

`make mlflow` installs it in `.venvs/mlflow`: its two hundred megabytes are no part of the other tests.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from free_ports import free_port
from waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venvs" / "mlflow" / "bin" / "python"
PASSWORD = "long-enough-for-mlflow"

#: Why tests with it are skipped; empty where it is installed.
MISSING = "" if PYTHON.exists() else "mlflow is not installed: make mlflow"
#: It imports a lot before it listens.
START_SECONDS = 240


@dataclass(frozen=True)
class Registry:
    """The server, as its administrator sees it."""

    url: str

    @property
    def credentials(self) -> Mapping[str, str]:
        """What a Secret holds, besides the address."""
        return {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD}

    @property
    def environ(self) -> Mapping[str, str]:
        return {"MLFLOW_TRACKING_URI": self.url, **self.credentials}

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        answer = httpx.request(
            method, f"{self.url}/api/2.0/{path}", auth=("admin", PASSWORD), timeout=60, trust_env=False, **more
        )
        assert answer.status_code in (200, 201), f"{path}: {answer.status_code} {answer.text}"
        return answer

    def post(self, path: str, **body: Any) -> Any:
        return self.ask("POST", f"mlflow/{path}", json=body).json()

    def create(self, name: str) -> None:
        self.post("registered-models/create", name=name)

    def register(self, name: str, folder: Path) -> str:
        """Upload a package as the files of a run, and make a version of a model of it."""
        run = self.post("runs/create", experiment_id="0")["run"]["info"]
        source = f"{run['artifact_uri']}/model"
        where = f"mlflow-artifacts/artifacts/{source.partition(':/')[2]}"
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.ask("PUT", f"{where}/{file.relative_to(folder)}", content=file.read_bytes())
        made = self.post("model-versions/create", name=name, source=source, run_id=run["run_id"])
        return str(made["model_version"]["version"])

    def set_alias(self, name: str, alias: str, version: str) -> None:
        self.post("registered-models/alias", name=name, alias=alias, version=version)

    def create_webhook(self, url: str, secret: str) -> None:
        """Let the registry tell each new alias to an address."""
        events = [{"entity": "MODEL_VERSION_ALIAS", "action": "CREATED"}]
        body = {"name": "moved", "url": url, "secret": secret, "events": events}
        self.ask("POST", "mlflow/webhooks", json=body)

    def tags(self, name: str, version: str) -> dict[str, str]:
        found = self.ask("GET", "mlflow/model-versions/get", params={"name": name, "version": version}).json()
        return {one["key"]: one["value"] for one in found["model_version"].get("tags", [])}

    def run_python(self, code: str) -> None:
        """Run a notebook's code, as the administrator."""
        environ = {**os.environ, **self.environ, "GIT_PYTHON_REFRESH": "quiet"}
        done = subprocess.run([PYTHON, "-c", code], env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-4000:]


@contextmanager
def running_registry(folder: Path, port: int = 0, host: str = "127.0.0.1") -> Iterator[Registry]:
    """Run the server with all it has in a folder."""
    port = port or free_port()
    config = folder / "auth.ini"
    config.write_text(
        "[mlflow]\ndefault_permission = READ\n"
        f"database_uri = sqlite:///{folder}/auth.db\nadmin_username = admin\nadmin_password = {PASSWORD}\n"
    )
    environ = {
        **os.environ,
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-tests",
        "MLFLOW_SERVER_ALLOWED_HOSTS": "*",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # Webhooks to this machine, by plain HTTP; MLflow lets them out to public addresses alone.
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        # It remembers for a minute that it has none.
        "MLFLOW_WEBHOOK_CACHE_TTL": "1",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
    }
    options = ("--app-name", "basic-auth", "--host", host, "--port", str(port), "--workers", "1")
    places = ("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files"))
    with (folder / "mlflow.log").open("ab") as log:
        process = subprocess.Popen(
            [PYTHON, "-m", "mlflow", "server", *options, *places],
            stdout=log, stderr=log, cwd=folder, env=environ, start_new_session=True,
        )  # fmt: skip
    try:
        registry = Registry(f"http://{host}:{port}")

        def answers() -> bool:
            assert process.poll() is None, (folder / "mlflow.log").read_text()[-4000:]
            try:
                return httpx.get(f"{registry.url}/health", timeout=5, trust_env=False).status_code == 200
            except httpx.HTTPError:
                return False

        wait_until(answers, "mlflow answers", seconds=START_SECONDS)
        yield registry
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def package(folder: Path, version: str, says: str) -> Path:
    """A package that answers the same for every row; without an import of scikit-learn it is ready at once."""
    folder = folder / version
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(
        f"def load_model(path):\n    return None\n\n\ndef predict(model, inputs):\n    return {says}\n"
    )
    (folder / "model.yaml").write_text("input_features: [{name: x, dtype: float64, example: 1.0}]\n")
    return folder
