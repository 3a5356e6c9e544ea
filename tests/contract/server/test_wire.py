"""docs/wire.md is what the server does: settings, exit codes, metrics."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from msgspec import structs

from model_server import errors, statuses
from model_server.domain.calibration import Calibration, CalibrationTable
from model_server.domain.features import Feature, Metadata, ReferenceFeature
from model_server.domain.model import Identity, LoadedModel, Signature
from model_server.domain.tensors import Tensor
from model_server.inputs.untyped import Untyped
from model_server.messaging.telemetry import PROBLEMS, Connection, StreamTelemetry
from model_server.monitoring.data_quality import DataQuality, limits_by_problem
from model_server.monitoring.drift import FEWEST_ROWS, Bins, Drift
from model_server.monitoring.estimated_quality import EstimatedQuality
from model_server.monitoring.monitor import Monitor
from model_server.package.formats import AUTO, MLFLOW, known_formats
from model_server.plugins import SOURCES, registered
from model_server.settings import Settings
from model_server.telemetry import SECONDS, Telemetry

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = {field.name: field for field in structs.fields(Settings)}
WIRE = (ROOT / "docs" / "wire.md").read_text()
ENVIRONMENT = WIRE.split("## Environment")[1].split("## ")[0]
VARIABLES = [
    name
    for row in re.findall(r"^\| (`[^|]+) \|", ENVIRONMENT, re.MULTILINE)
    for name in re.findall(r"`([A-Z0-9_]+)`", row)
]


class Classifier:
    """Knows two classes."""

    signature = Signature()
    probability_output = ""
    classes = (0, 1)
    runs_inline = True

    def predict(self, inputs, *, probabilities):
        raise NotImplementedError


def test_the_page_names_variables():
    assert "STORAGE_URI" in VARIABLES
    assert len(VARIABLES) > 20


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_of_the_wire_is_a_setting(name):
    assert name.lower() in SETTINGS


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("WORKERS", 1),
        ("LOG_LEVEL", "info"),
        ("REQUEST_TIMEOUT_SECONDS", 30),
        ("MAX_REQUEST_BYTES", 10485760),
        ("MAX_BATCH_SIZE", 32),
        ("MAX_BATCH_DELAY_MILLISECONDS", 1),
        ("PORT", 8080),
        ("NAME", "model"),
        ("DRIFT_THRESHOLD", 0.2),
    ],
)
def test_a_default_of_the_wire_is_the_settings(name, default):
    assert SETTINGS[name.lower()].default == default
    row = next(row for row in ENVIRONMENT.splitlines() if f"`{name}`" in row)
    assert f"`{default}`" in row


def test_the_metrics_the_operator_reads_are_written():
    telemetry = Telemetry()
    telemetry.loaded(Identity(model="m", version="1", revision="r", format="onnx", sha256="ab", uri="file:///m"))
    telemetry.source_changed("c0ffee")
    telemetry.source_problem("StorageUnavailable")
    watched(telemetry)
    consuming(telemetry)
    telemetry.begin()
    telemetry.end(200, 0.003)
    text = telemetry.render().decode()
    info = 'modeldeploy_model_info{format="onnx",model="m",revision="r",sha256="ab",uri="file:///m",version="1"} 1.0'
    assert info in text
    assert 'modeldeploy_requests_total{code="200",model="m",revision="r",version="1"} 1.0' in text
    for metric, labels in re.findall(r"^\| `(modeldeploy_\w+)` \| ([^|]+) \|", WIRE, re.MULTILINE):
        line = next(line for line in text.splitlines() if line.startswith(metric))
        assert set(re.findall(r"`(\w+)`", labels)) <= set(re.findall(r'(\w+)="', line))
    assert SECONDS == (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


def watched(telemetry: Telemetry) -> None:
    """Let a monitor see one answer and its label."""
    identity, outputs = telemetry.identity, (Tensor("predictions", "INT64", (-1,)),)
    loaded = LoadedModel(identity=identity, metadata=Metadata(), adapter=Untyped(), model=Classifier(), outputs=outputs)
    monitor = Monitor(loaded, Settings(storage_uri="file:///m", slices=("sex",)), telemetry)
    monitor.predicted(b"1", {}, {"predictions": np.array([1])})
    monitor.labelled({"id": "1", "label": 1, "groups": {"sex": "f"}})
    asyncio.run(monitor.tick())
    monitor.close()
    drift = Drift((Feature(name="a"),), {"a": Bins(counts=(10, 10), edges=(0, 1, 2))}, 0.2, telemetry)
    drift.update([{"a": np.full(FEWEST_ROWS, 1.5)}])
    profile = {"a": ReferenceFeature(edges=(0, 1, 2), counts=(10, 10))}
    quality = DataQuality((Feature(name="a"),), Metadata(reference_profile=profile), limits_by_problem(0.05), telemetry)
    quality.update([{"a": np.array([3.0])}])
    estimate(telemetry)


def estimate(telemetry: Telemetry) -> None:
    """Let a server estimate its quality from some answers."""
    tables = tuple(CalibrationTable(prediction=label, probabilities=(0.5,), shares=(0.9,)) for label in (0, 1))
    metadata = Metadata(
        reference_profile={"a": ReferenceFeature(edges=(0, 1), counts=(1,))},
        calibration=Calibration(rows=500, classes=(0, 1), tables=tables, error=0, raw_error=0),
    )
    model = Classifier()
    model.probability_output = "probabilities"
    loaded = LoadedModel(identity=telemetry.identity, metadata=metadata, adapter=Untyped(), model=model, outputs=())
    answers = {"predictions": np.arange(FEWEST_ROWS) % 2, "probabilities": np.full((FEWEST_ROWS, 2), 0.5)}
    EstimatedQuality(loaded, telemetry).update([answers], ())


def consuming(telemetry: Telemetry) -> None:
    """Let a server lose the broker of its messages."""
    stream = StreamTelemetry(telemetry)
    stream.connection(Connection.AWAY)
    stream.problem(PROBLEMS[0])
    stream.lag(3)


def model_fields():
    crd = yaml.safe_load((ROOT / "crds" / "modeldeployments.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return spec["properties"]["model"]["properties"]


def test_the_resource_takes_the_servers_formats_and_names_them():
    field = model_fields()["format"]
    known = {AUTO, MLFLOW, *known_formats()}
    assert all(re.fullmatch(field["pattern"], name) for name in known)
    listed = field["description"].partition("Built-in formats: ")[2].partition(".")[0]
    assert {AUTO, *listed.split(", ")} == known


def test_the_resource_names_the_servers_schemes():
    field = model_fields()["storageUri"]
    listed = field["description"].partition("Built-in schemes: ")[2].partition(".")[0]
    # Plain HTTP is for other settings and for tests: the resource refuses it.
    names = re.sub(r" \([^)]*\)", "", listed).split(", ")
    assert {*names, "http"} == set(registered(SOURCES))
    messages = " ".join(rule["message"] for rule in field["x-kubernetes-validations"])
    assert all(f"{scheme}:/" in messages for scheme in names)


def test_every_request_error_has_a_status():
    found = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    kinds = {kind for kind in found if issubclass(kind, errors.RequestError)} - {errors.RequestError}
    assert kinds == set(statuses.STATUS_OF)
