"""A model of another system, from its own document to predictions: import, kubectl apply, Ready, predict."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import joblib
import pytest
import yaml
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

#: With the fields of KServe's first example, and what people add to it.
SERVICE = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: sklearn-iris
spec:
  predictor:
    minReplicas: 1
    maxReplicas: 2
    scaleMetric: cpu
    scaleTarget: 80
    canaryTrafficPercent: 20
    model:
      modelFormat:
        name: sklearn
      protocolVersion: v2
      storageUri: {uri}
      resources:
        requests: {{cpu: 100m, memory: 256Mi}}
"""

SCORER = Path(__file__).resolve().parents[2] / "examples" / "14-any-image" / "scorer.py"
OWN_SERVICE = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: own
spec:
  predictor:
    containers:
    - name: kserve-container
      image: python:3.13-slim
      command: [python, /mnt/models/scorer.py]
      args: [0.0.0.0, "9000"]
      ports: [{{containerPort: 9000}}]
      readinessProbe: {{httpGet: {{path: /healthz, port: 9000}}}}
      securityContext: {{runAsUser: 65532}}
      env:
      - {{name: STORAGE_URI, value: "{uri}"}}
      - {{name: VERSION, value: "1"}}
      - {{name: SECONDS_TO_THINK, value: "0"}}
"""


@pytest.mark.timeout(200)
def test_an_inference_service_is_imported_and_serves(space: Any, tmp_path: Path) -> None:
    if space.cluster.running is None:
        pytest.skip("pods of this cluster do not see the files of this machine")
    rows, labels = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(rows, labels)
    (tmp_path / "bucket").mkdir()
    joblib.dump(model, tmp_path / "bucket" / "model.joblib")
    (tmp_path / "isvc.yaml").write_text(SERVICE.format(uri=(tmp_path / "bucket").as_uri()))
    command = [sys.executable, "-m", "modeldeploy", "import", "isvc.yaml", "-o", "out", "--trusted", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    manifest = tmp_path / "out" / "sklearn-iris" / "modeldeployment.yaml"
    assert yaml.safe_load(manifest.read_text())["spec"]["autoscaling"]["targetCPUUtilizationPercentage"] == 80
    applied = space.kubectl("apply", "-f", str(manifest))
    assert applied.returncode == 0, applied.stderr
    ready = space.kubectl("wait", "--for=condition=Ready", "mdep/sklearn-iris", "--timeout=90s")
    assert ready.returncode == 0, ready.stderr
    tensor = {"name": "input-0", "shape": [3, 4], "datatype": "FP64", "data": rows[::60].tolist()}
    url = f"{space.url('sklearn-iris')}/v2/models/sklearn-iris/infer"
    answer = httpx.post(url, json={"inputs": [tensor]}, timeout=20, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["data"] == model.predict(rows[::60]).tolist()


@pytest.mark.timeout(200)
def test_a_custom_predictor_is_imported_and_serves(space: Any, tmp_path: Path) -> None:
    if space.cluster.running is None:
        pytest.skip("pods of this cluster do not see the files of this machine")
    (tmp_path / "isvc.yaml").write_text(OWN_SERVICE.format(uri=SCORER.as_uri()))
    command = [sys.executable, "-m", "modeldeploy", "import", "isvc.yaml", "-o", "out", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    applied = space.kubectl("apply", "-f", str(tmp_path / "out" / "own" / "modeldeployment.yaml"))
    assert applied.returncode == 0, applied.stderr
    ready = space.kubectl("wait", "--for=condition=Ready", "mdep/own", "--timeout=90s")
    assert ready.returncode == 0, ready.stderr
    answer = httpx.post(f"{space.url('own')}/score", json={"numbers": [1, 2, 3]}, timeout=20, trust_env=False)
    assert answer.json() == {"score": 6, "version": "1"}
