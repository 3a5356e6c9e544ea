"""What the pictures of the documentation show: models in several namespaces, their bucket, and who asks them."""

import http.client
import io
import itertools
import json
import logging
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import joblib
import numpy as np
import pandas as pd
import yaml
from moto.server import ThreadedMotoServer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from modeldeploy.kube import MODELDEPLOYMENTS, SERVICES, Kube, Resource
from modeldeploy.stand import wait_until

NAMESPACES = Resource("", "v1", "namespaces", namespaced=False)
SECRETS = Resource("", "v1", "secrets")
FEATURES = {
    "amount": (1, 900),
    "hour": (0, 23),
    "account_age_days": (0, 4000),
    "merchant_risk": (0, 1),
    "distance_km": (0, 3000),
    "previous_orders": (0, 200),
}
CODE = '''\
"""Says how likely a payment is a fraud."""

import random


def load_model(path):
    return None


def predict(model, inputs):
    if random.random() < {errors}:
        raise RuntimeError("a table of the model is missing")
    return (inputs[:, 0] / 900 + inputs[:, 3] > {limit}).astype(int)
'''
ANALYSIS = {
    "interval": "2s",
    "warmup": "0s",
    "metrics": [
        {"name": "errors", "fail": {"ratioMargin": 1.25}, "pass": {"ratioMargin": 2, "orMax": 0.001}},
        {"name": "latency", "slowerThan": "100ms", "fail": {"ratioMargin": 1.25}, "pass": {"orMax": 0.02}},
        {"name": "prediction-shift", "max": 0.5},
        {"name": "group-accuracy", "fail": {"maxDropFromStable": 0.3}},
    ],
}
#: How many of a hundred payments are in each region, and of how many the label is not what the model looks at.
REGIONS = {"north": (60, 0.04), "south": (37, 0.08), "islands": (3, 0.3)}
MONITORING = {"drift": {"reference": "300"}, "slices": [{"name": "region"}]}
KEY = "only-for-this-picture"
EXPLAINED = {
    "auth": {"secretName": "credit-keys"},
    "podTemplate": {
        "spec": {"containers": [{"name": "server", "env": [{"name": "MODEL_SERVER_EXPLANATIONS", "value": "true"}]}]}
    },
}
STEPS = [
    {"setWeight": 25},
    {"analysis": {"minDuration": "1m", "maxDuration": "1h"}},
    {"setWeight": 50},
    {"pause": {"duration": "10m"}},
]
CANARY = {"canary": {"steps": STEPS, "analysis": ANALYSIS, "maxSurge": 1}}
GATED = {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}], "maxSurge": 1}}


class Scene:
    """Models in several namespaces: one in a canary, one that waits, one that fails, others that are healthy."""

    def __init__(self, kube: Kube, environ: dict[str, str]) -> None:
        self.kube, self._environ = kube, environ
        self._bucket = boto3.client(
            "s3",
            endpoint_url=environ["AWS_ENDPOINT_URL"],
            aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
        )

    def begin(self) -> None:
        """Make the models and wait until those that can are healthy."""
        self._bucket.create_bucket(Bucket="models")
        for name, version, errors, limit in (
            ("fraud", "7", 0.002, 1.2),
            ("fraud", "8", 0.006, 1.15),
            ("churn", "3", 0, 0.9),
            ("pricing", "12", 0, 0.5),
            ("pricing", "13", 0, 0.6),
            ("search", "41", 0, 0.7),
        ):
            self._upload(name, version, errors, limit)
        for namespace in ("risk", "growth"):
            self.kube.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
            self.kube.apply(
                SECRETS,
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3"}, "stringData": self._environ},
                namespace,
            )
        keys = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "credit-keys"}, "stringData": {"ours": KEY}}
        self.kube.apply(SECRETS, keys, "risk")
        self._upload_explained("credit", "4")
        self.apply("fraud-score", "risk", "fraud/7", replicas=3, strategy=CANARY, monitoring=MONITORING)
        self.apply("credit", "risk", "credit/4", server=EXPLAINED)
        self.apply("pricing", "growth", "pricing/12", replicas=1, strategy=GATED)
        self.apply("churn", "growth", "churn/3", replicas=2)
        self.apply("search-rank", "growth", "search/41", strategy={"blueGreen": {}})
        for name, namespace in (
            ("fraud-score", "risk"),
            ("credit", "risk"),
            ("pricing", "growth"),
            ("churn", "growth"),
        ):
            wait_until(lambda of=(name, namespace): self._phase(*of) == "Healthy", f"{name} is healthy", seconds=90)

    def roll(self) -> None:
        """Change models: rollouts that go on, wait and fail."""
        self.apply("fraud-score", "risk", "fraud/8", replicas=3, strategy=CANARY, monitoring=MONITORING)
        self.apply("pricing", "growth", "pricing/13", replicas=1, strategy=GATED)
        self.apply("claims", "risk", "claims/1")

    def apply(self, name: str, namespace: str, package: str, **spec: Any) -> None:
        """Apply one ModelDeployment as kubectl does, which notes what was applied."""
        model = {"storageUri": f"s3://models/{package}", "trusted": True, "secretName": "s3"}
        whole = {"model": model, **spec}
        note = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"spec": whole})}
        metadata = {"name": name, "labels": {"team": namespace}, "annotations": note}
        manifest = {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": "ModelDeployment", "metadata": metadata}
        self.kube.apply(MODELDEPLOYMENTS, {**manifest, "spec": whole}, namespace)

    def address(self, name: str, namespace: str) -> str:
        """Where a model answers."""
        return str(self.kube.get(SERVICES, name, namespace)["spec"]["clusterIP"])

    def _phase(self, name: str, namespace: str) -> str:
        return str((self.kube.get(MODELDEPLOYMENTS, name, namespace).get("status") or {}).get("phase"))

    def _upload(self, name: str, version: str, errors: float, limit: float) -> None:
        features = [
            {"name": feature, "dtype": "float64", "example": round(high / 3, 1)}
            for feature, (_, high) in FEATURES.items()
        ]
        outputs = [{"name": "class", "dtype": "int64", "categories": [0, 1]}]
        metadata = {"name": name, "version": version, "input_features": features, "output_features": outputs}
        files = {"model.py": CODE.format(errors=errors, limit=limit).encode(), "model.yaml": _yaml(metadata)}
        self._put(name, version, files)

    def _upload_explained(self, name: str, version: str) -> None:
        """A model that no library explains, so that the explanation is an estimate."""
        chance = np.random.default_rng(7)
        rows = pd.DataFrame(
            {
                "income": chance.gamma(4, 900, 2000).round(),
                "debt": chance.gamma(2, 4000, 2000).round(),
                "months_at_bank": chance.integers(0, 240, 2000),
                "late_payments": chance.poisson(0.8, 2000),
                "age": chance.integers(18, 80, 2000),
            }
        )
        odds = rows.income / 1500 - rows.debt / 6000 + rows.months_at_bank / 120 - 1.5 * rows.late_payments
        repaid = (odds + chance.normal(0, 0.6, 2000) > 0.6).astype(int)
        model = make_pipeline(StandardScaler(), SVC(gamma=0.1)).fit(rows, repaid)
        examples = dict(zip(rows.columns, (5200.0, 9500.0, 84.0, 1.0, 42.0), strict=True))
        metadata = {
            "name": name,
            "version": version,
            "input_features": [{"name": key, "dtype": "float64", "example": value} for key, value in examples.items()],
            "reference_profile": {key: _profile(rows[key].to_numpy()) for key in rows},
        }
        packed = io.BytesIO()
        joblib.dump(model, packed)
        self._put(name, version, {"model.joblib": packed.getvalue(), "model.yaml": _yaml(metadata)})

    def _put(self, name: str, version: str, files: dict[str, bytes]) -> None:
        for file, content in files.items():
            self._bucket.put_object(Bucket="models", Key=f"{name}/{version}/{file}", Body=content)


def _yaml(value: Any) -> bytes:
    return yaml.safe_dump(value).encode()


def _profile(values: Any) -> dict[str, list[float]]:
    counts, edges = np.histogram(values, bins=10)
    return {"edges": edges.tolist(), "counts": counts.tolist()}


@contextmanager
def bucket() -> Iterator[dict[str, str]]:
    """An S3 server on loopback: what leads to it, as environment variables."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line for each request
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo"}
    yield {"AWS_ENDPOINT_URL": f"http://{host}:{port}", **keys}
    server.stop()


@contextmanager
def load(host: str, *, rate: float, has_labels: bool = False) -> Iterator[None]:
    """Requests whose amounts grow with time, so that one input drifts, with labels; each on its own connection."""
    over = threading.Event()
    generator = random.Random(7)  # noqa: S311 - the same requests in every run

    def send() -> None:
        for count in itertools.count():
            if over.wait(1 / rate):
                return
            row = {name: generator.uniform(low, high) for name, (low, high) in FEATURES.items()}
            row["amount"] = min(row["amount"] + count / 12, 1500)
            connection = http.client.HTTPConnection(host, timeout=5)
            try:
                _post(connection, "/predict", {"instances": [row]}, {"x-request-id": str(count)})
                if has_labels:
                    _post(connection, "/feedback", {"id": str(count), **_label(row, generator)}, {})
            except OSError:
                continue
            finally:
                connection.close()

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    yield
    over.set()
    sender.join()


def _post(connection: http.client.HTTPConnection, path: str, body: Any, headers: dict[str, str]) -> None:
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json", **headers})
    connection.getresponse().read()


def _label(row: dict[str, float], generator: random.Random) -> dict[str, Any]:
    region = generator.choices(list(REGIONS), [share for share, _ in REGIONS.values()])[0]
    truth = int(row["amount"] / 900 + row["merchant_risk"] > 1.2)
    label = 1 - truth if generator.random() < REGIONS[region][1] else truth
    return {"label": label, "groups": {"region": region}}
