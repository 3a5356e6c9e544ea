"""The reference of the model server: its settings, reasons and metrics, as the code has them."""

import asyncio
import tomllib
from pathlib import Path
from typing import cast, get_args

import numpy as np
from generators.tables import table
from msgspec import NODEFAULT, Meta, Struct, structs
from prometheus_client import CollectorRegistry

from model_server import errors
from model_server.batching import Batcher, BatchLimits
from model_server.domain.explanations import ExplanationKind
from model_server.domain.features import Feature, Metadata, ReferenceFeature
from model_server.domain.model import LoadedModel, Signature
from model_server.domain.tensors import Inputs, Outputs
from model_server.explanations import ExplanationLimits, Explanations
from model_server.inputs.untyped import Untyped
from model_server.meter.settings import METER_PREFIX, MeterSettings
from model_server.monitoring.data_quality import DataQuality, limits_by_problem
from model_server.monitoring.estimated_quality import EstimatedQuality
from model_server.monitoring.monitor import Monitor
from model_server.package.formats import known_formats
from model_server.pool.settings import POOL_PREFIX, PoolSettings
from model_server.pool.telemetry import PoolTelemetry
from model_server.runtimes.explaining.direct import DirectExplainer
from model_server.settings import PREFIX, Settings, read_settings
from model_server.statuses import STATUS_OF
from model_server.storage import shown_scheme
from model_server.supervision import SupervisorMetrics
from model_server.telemetry import Telemetry
from model_server.termination import exit_code

_HEAD = """# The model server's reference

Made from the code by `make docs`; [the guide](../server.md) explains them.

"""


def page(root: Path) -> str:
    """The page docs/reference/server.md."""
    parts = (
        _settings(),
        _sources(root),
        _start_reasons(),
        _request_reasons(),
        _metrics(root),
        _pool_settings(),
        _meter_settings(),
        _pool_metrics(),
    )
    return _HEAD + "\n".join(parts)


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return f"## {title}\n\n{table(columns, rows)}\n"


def _settings() -> str:
    return _table("Settings", ("variable", "default", "meaning"), _variables(Settings, PREFIX))


def _pool_settings() -> str:
    return _table("Settings of a pool", ("variable", "default", "meaning"), _variables(PoolSettings, POOL_PREFIX))


def _meter_settings() -> str:
    return _table("Settings of a meter", ("variable", "default", "meaning"), _variables(MeterSettings, METER_PREFIX))


def _variables(kind: type[Struct], prefix: str) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for field in structs.fields(kind):
        default = "required" if field.default is NODEFAULT else _shown(field.default)
        meta: Meta = get_args(field.type)[1]
        rows.append((f"`{prefix}{field.name.upper()}`", default, meta.description or ""))
    return rows


def _shown(value: object) -> str:
    if value is None or value in ("", ()):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _sources(root: Path) -> str:
    # Those of this repository, whatever plug-ins are installed beside it.
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    schemes = ", ".join(f"`{shown_scheme(name)}`" for name in sorted(project["entry-points"]["modeldeploy.sources"]))
    rows = [
        (
            f"`{known.name}`",
            known.description,
            ", ".join(f"`{suffix}`" for suffix in known.suffixes),
            "yes" if known.runs_code else "no",
        )
        for known in known_formats().values()
    ]
    formats = _table("Formats", ("format", "what", "file names", "runs code on load"), rows)
    return f"## Schemes\n\n`storageUri` may begin with {schemes}.\n\n{formats}"


def _kinds(base: type[errors.ModelServerError]) -> list[type[errors.ModelServerError]]:
    found = []
    for kind in base.__subclasses__():
        inner = _kinds(kind)
        found += inner or [kind]
    return found


def _sentence(kind: type) -> str:
    return (kind.__doc__ or "").splitlines()[0]


def _start_reasons() -> str:
    rows = []
    for kind in _kinds(errors.StartError):
        error = cast(errors.StartError, kind(""))
        rows.append((f"`{kind.__name__}`", _sentence(kind), str(exit_code(error)), "yes" if error.permanent else "no"))
    return _table("Reasons of a failed start", ("reason", "meaning", "exit code", "permanent"), rows)


def _request_reasons() -> str:
    rows = [(f"`{kind.__name__}`", _sentence(kind), str(STATUS_OF[kind].http)) for kind in STATUS_OF]
    return _table("Reasons of a refused request", ("reason", "meaning", "HTTP status"), rows)


class _NoModel:
    """Stands for any model: the metrics' names do not depend on it."""

    signature = Signature()
    probability_output = ""
    classes: tuple[object, ...] = ()
    runs_inline = True

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        raise NotImplementedError


class _Classifier(_NoModel):
    """Has what an estimate of quality needs."""

    probability_output = "probabilities"
    classes = (0, 1)


async def _declare_explanations(loaded: LoadedModel, explainer: DirectExplainer, telemetry: Telemetry) -> None:
    """Register the metrics of explanations, which a server has where the model is explained."""
    limits = BatchLimits(max_rows=1, max_delay_seconds=0, max_queue=1, timeout_seconds=1)
    batcher = Batcher(loaded.model, limits, telemetry)
    own = ExplanationLimits(max_rows=1, max_queue=1, timeout_seconds=1)
    Explanations(loaded, explainer, batcher, own, telemetry).close()
    batcher.close()


def _declare_estimate(telemetry: Telemetry) -> None:
    metadata = Metadata(reference_profile={"a": ReferenceFeature(edges=(0, 1), counts=(1,))})
    loaded = LoadedModel(
        identity=telemetry.identity, metadata=metadata, adapter=Untyped(), model=_Classifier(), outputs=()
    )
    EstimatedQuality(loaded, telemetry)


def _metrics(root: Path) -> str:
    telemetry = Telemetry()
    loaded = LoadedModel(
        identity=telemetry.identity, metadata=Metadata(), adapter=Untyped(), model=_NoModel(), outputs=()
    )
    settings = read_settings({f"{PREFIX}STORAGE_URI": "file:///model", f"{PREFIX}INPUT_LOG_SAMPLE_RATE": "1"})
    monitor = Monitor(loaded, settings, telemetry)
    profile = {"a": ReferenceFeature(edges=(0, 1), counts=(1,))}
    limits = limits_by_problem(settings.data_quality_max_bad_rate)
    DataQuality([Feature(name="a")], Metadata(reference_profile=profile), limits, telemetry)
    _declare_estimate(telemetry)
    telemetry.registry.register(SupervisorMetrics(root))
    explainer = DirectExplainer(
        kind=ExplanationKind(method="linear", scale="prediction"),
        form=lambda inputs: inputs,
        contribute=lambda _: (np.zeros(1), np.zeros((1, 1, 1))),
        scores=lambda _: np.zeros((1, 1)),
        reference_rows=lambda _: None,
    )
    asyncio.run(_declare_explanations(loaded, explainer, telemetry))
    monitor.close()
    return _table("Metrics", ("metric", "type", "meaning"), _families(telemetry.registry))


def _pool_metrics() -> str:
    registry = PoolTelemetry(revision="", most_models=1).registry
    return _table("Metrics of a pool", ("metric", "type", "meaning"), _families(registry))


def _families(registry: CollectorRegistry) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for family in registry.collect():
        suffix = "_total" if family.type == "counter" else ""
        rows.append((f"`{family.name}{suffix}`", family.type, family.documentation))
    return rows
