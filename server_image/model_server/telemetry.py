"""The server's Prometheus metrics, in a registry of their own; docs/wire.md names the operator's."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from mmap import mmap

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from model_server.cells import Area, Cells, Distribution
from model_server.exemplars import Exemplars
from model_server.monitoring import recent

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)
CODES = (200, 400, 401, 404, 405, 408, 413, 415, 422, 499, 500, 503, 504)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = openmetrics.CONTENT_TYPE_LATEST
LABELS = ("model", "version", "revision")

_IN_FLIGHT = len(CODES)
_DURATION = Distribution(
    "modeldeploy_request_duration_seconds", "From the request's head to its answer.", SECONDS, _IN_FLIGHT + 1
)
_QUEUE = Distribution(
    "modeldeploy_queue_duration_seconds",
    "Wait of the oldest request in each call of the model.",
    SECONDS,
    _DURATION.end,
)
_PREDICT = Distribution("modeldeploy_predict_duration_seconds", "Calls of the model.", SECONDS, _QUEUE.end)
_ROWS = Distribution("modeldeploy_batch_rows", "Rows in one call of the model.", ROWS, _PREDICT.end)
_DECODE = Distribution("request_preprocess_seconds", "From a request's body to the model's inputs.", SECONDS, _ROWS.end)
_ENCODE = Distribution(
    "request_postprocess_seconds", "From the model's outputs to an answer's body.", SECONDS, _DECODE.end
)

OUTPUTS = Area(_ENCODE.end, 65)
FEEDBACK = Area(OUTPUTS.end, 16 * 16 + 9)
INPUT_LOG = Area(FEEDBACK.end, 2)
DRIFT = Area(INPUT_LOG.end, 128 * 24)
RECENT = Area(DRIFT.end, recent.WIDTH)
EXEMPLARS = Exemplars(RECENT.end, SECONDS)
_READY = EXEMPLARS.area.end
_ASSIGNED = _READY + 1
WIDTH = _ASSIGNED + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who answers: the labels of every metric, and what `modeldeploy_model_info` shows."""

    model: str
    version: str
    revision: str
    format: str = ""
    sha256: str = ""
    uri: str = ""

    @property
    def labels(self) -> tuple[str, str, str]:
        """The values of `LABELS`."""
        return self.model, self.version, self.revision


class Telemetry:
    """Counts and times what one worker does, and shows what all of them did."""

    def __init__(self, memory: mmap | bytearray | None = None, worker: int = 0) -> None:
        self.cells = Cells(bytearray(Cells.size(1, WIDTH)) if memory is None else memory, WIDTH)
        self.row = self.cells.row(worker)
        self._code_cells = {code: index for index, code in enumerate(CODES)}
        self.identity = Identity(model="", version="", revision="")
        self.registry = CollectorRegistry()
        self.registry.register(_Shared(self))
        self._info = Gauge(
            "modeldeploy_model_info",
            "1 for the model that is loaded.",
            (*LABELS, "format", "sha256", "uri"),
            registry=self.registry,
        )
        self._changed = Gauge(
            "modeldeploy_source_changed",
            "1 while another object than the loaded one lies at the storage URI; `source` tells them apart.",
            (*LABELS, "source"),
            registry=self.registry,
        )
        self._phase = Gauge(
            "modeldeploy_load_phase_seconds", "Time spent in each phase of loading.", ("phase",), registry=self.registry
        )

    def source_changed(self, mark: str) -> None:
        """Another object than the loaded one lies at the storage URI; "" when the loaded one is back."""
        self._changed.clear()
        if mark:
            self._changed.labels(*self.identity.labels, mark).set(1)

    def loaded(self, identity: Identity) -> None:
        """The model is loaded: this is what it is."""
        self.identity = identity
        self._info.labels(*identity.labels, identity.format, identity.sha256, identity.uri).set(1)

    def ready(self, is_ready: bool) -> None:
        """This worker answers predictions, or does no longer."""
        self.row[_READY] = float(is_ready)

    @property
    def is_ready_everywhere(self) -> bool:
        """True when each worker answers predictions: a client may meet any of them."""
        return self.cells.sum(_READY) == self.cells.rows

    def phase(self, name: str, seconds: float) -> None:
        """A phase of loading is over."""
        self._phase.labels(name).set(seconds)

    def assigned(self) -> None:
        """A router has just drawn this revision for a user of an A/B test."""
        self.row[_ASSIGNED] += 1

    def begin(self) -> None:
        """A prediction was asked for."""
        self.row[_IN_FLIGHT] += 1

    def end(self, code: int, seconds: float, trace_id: str = "") -> None:
        """A prediction was answered, or refused; with the id of its trace if somebody keeps one."""
        row = self.row
        row[_IN_FLIGHT] -= 1
        row[self._code_cells[code]] += 1
        _DURATION.observe(row, seconds)
        if trace_id:
            EXEMPLARS.remember(row, seconds, trace_id, time.time())

    def decoded(self, seconds: float) -> None:
        """A request's body has become the model's inputs."""
        _DECODE.observe(self.row, seconds)

    def encoded(self, seconds: float) -> None:
        """The model's outputs have become an answer's body."""
        _ENCODE.observe(self.row, seconds)

    def batch(self, *, rows: int, seconds: float, queued: float) -> None:
        """The model was called for so many rows; the oldest of them had waited `queued` seconds."""
        row = self.row
        _ROWS.observe(row, rows)
        _PREDICT.observe(row, seconds)
        _QUEUE.observe(row, queued)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def render_openmetrics(self) -> bytes:
        """All metrics in the OpenMetrics format, with exemplars."""
        text: bytes = openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]
        return text


class _Shared(Collector):
    """Turns the sums of the cells into metrics when somebody scrapes."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def collect(self) -> Iterable[Metric]:
        cells, identity = self._telemetry.cells, self._telemetry.identity
        counts = {code: cells.sum(index) for index, code in enumerate(CODES)}
        requests = CounterMetricFamily(
            "modeldeploy_requests", "Answered predictions by HTTP code.", labels=(*LABELS, "code")
        )
        for code, count in counts.items():
            # A ratio of errors needs the successes from the start, and no code that never occurred.
            if count or code == 200:
                requests.add_metric((*identity.labels, str(code)), count)
        yield requests
        assigned = CounterMetricFamily(
            "modeldeploy_assignments", "Users of an A/B test that a router sent here for the first time.", labels=LABELS
        )
        assigned.add_metric(identity.labels, cells.sum(_ASSIGNED))
        yield assigned
        flying = GaugeMetricFamily("modeldeploy_requests_in_flight", "Predictions being answered.", labels=LABELS)
        flying.add_metric(identity.labels, cells.sum(_IN_FLIGHT))
        yield flying
        exemplars = EXEMPLARS.found(cells)
        yield _DURATION.family(cells, LABELS, identity.labels, exemplars=exemplars)
        for distribution in (_QUEUE, _PREDICT, _ROWS):
            yield distribution.family(cells, LABELS, identity.labels)
        yield from _aliases(cells, identity, counts)


def _aliases(cells: Cells, identity: Identity, counts: dict[int, float]) -> Iterable[Metric]:
    """What KServe's and MLServer's dashboards query, by their names."""
    for distribution in (_DECODE, _ENCODE):
        yield distribution.family(cells, ("model_name",), (identity.model,))
    yield _PREDICT.family(cells, ("model_name",), (identity.model,), "request_predict_seconds")
    names, labels = ("model", "version"), (identity.model, identity.version)
    good = sum(count for code, count in counts.items() if code < 400)
    for name, count in (("success", good), ("failure", sum(counts.values()) - good)):
        family = CounterMetricFamily(f"model_infer_request_{name}", f"Predictions with {name}.", labels=names)
        family.add_metric(labels, count)
        yield family
    yield _DURATION.family(cells, names, labels, "model_infer_request_duration")
