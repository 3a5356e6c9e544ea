"""The server's Prometheus metrics, in a registry of their own; docs/wire.md names the operator's.

The hot path only adds to numbers in memory that all workers share, one row of cells each; a scrape
of any worker sums the rows. That costs a tenth of a lock and a label look-up for every request.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from mmap import mmap

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)
CODES = (200, 400, 401, 404, 405, 408, 413, 415, 422, 499, 500, 503, 504)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LABELS = ("model", "version", "revision")
_CELL_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who answers: the labels of every metric, and what `modeldeploy_model_info` shows."""

    model: str
    version: str
    revision: str
    format: str = ""
    sha256: str = ""
    uri: str = ""


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram's place among the cells: one for each bucket, one above them, one for the sum."""

    name: str
    text: str
    bounds: tuple[float, ...]
    first: int

    @property
    def end(self) -> int:
        """The cell after its last."""
        return self.first + len(self.bounds) + 2


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
_DISTRIBUTIONS = (_DURATION, _QUEUE, _PREDICT, _ROWS)
CELLS = _ROWS.end


class Cells:
    """The numbers of all workers: a row of `CELLS` doubles each. Only its own worker writes a row."""

    def __init__(self, memory: mmap | bytearray) -> None:
        self._all = memoryview(memory).cast("d")
        self._rows = len(self._all) // CELLS

    @classmethod
    def size(cls, workers: int) -> int:
        """Bytes that so many workers need."""
        return workers * CELLS * _CELL_BYTES

    def row(self, worker: int) -> memoryview[float]:
        """The cells of one worker, counted from 0."""
        return self._all[worker * CELLS : (worker + 1) * CELLS]

    def sum(self, cell: int) -> float:
        """One number over all workers."""
        return float(sum(self._all[row * CELLS + cell] for row in range(self._rows)))


class Telemetry:
    """Counts and times what one worker does, and shows what all of them did."""

    def __init__(self, memory: mmap | bytearray | None = None, worker: int = 0) -> None:
        self._cells = Cells(bytearray(Cells.size(1)) if memory is None else memory)
        self._row = self._cells.row(worker)
        self._code_cells = {code: index for index, code in enumerate(CODES)}
        self.identity = Identity(model="", version="", revision="")
        self.registry = CollectorRegistry()
        self.registry.register(_Shared(self, self._cells))
        self._info = Gauge(
            "modeldeploy_model_info",
            "1 for the model that is loaded.",
            (*LABELS, "format", "sha256", "uri"),
            registry=self.registry,
        )
        self._phase = Gauge(
            "modeldeploy_load_phase_seconds", "Time spent in each phase of loading.", ("phase",), registry=self.registry
        )

    def loaded(self, identity: Identity) -> None:
        """The model is loaded: this is what it is."""
        self.identity = identity
        self._info.labels(
            identity.model, identity.version, identity.revision, identity.format, identity.sha256, identity.uri
        ).set(1)

    def phase(self, name: str, seconds: float) -> None:
        """A phase of loading is over."""
        self._phase.labels(name).set(seconds)

    def begin(self) -> None:
        """A prediction was asked for."""
        self._row[_IN_FLIGHT] += 1

    def end(self, code: int, seconds: float) -> None:
        """A prediction was answered, or refused."""
        row = self._row
        row[_IN_FLIGHT] -= 1
        row[self._code_cells[code]] += 1
        self._observe(_DURATION, seconds)

    def batch(self, *, rows: int, seconds: float, queued: float) -> None:
        """The model was called for so many rows; the oldest of them had waited `queued` seconds."""
        self._observe(_ROWS, rows)
        self._observe(_PREDICT, seconds)
        self._observe(_QUEUE, queued)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _observe(self, distribution: Distribution, value: float) -> None:
        row = self._row
        bounds = distribution.bounds
        row[distribution.first + bisect_left(bounds, value)] += 1
        row[distribution.first + len(bounds) + 1] += value


class _Shared(Collector):
    """Turns the sums of the cells into metrics when somebody scrapes."""

    def __init__(self, telemetry: Telemetry, cells: Cells) -> None:
        self._telemetry = telemetry
        self._cells = cells

    def collect(self) -> Iterable[Metric]:
        identity = self._telemetry.identity
        labels = (identity.model, identity.version, identity.revision)
        requests = CounterMetricFamily(
            "modeldeploy_requests", "Answered predictions by HTTP code.", labels=(*LABELS, "code")
        )
        for index, code in enumerate(CODES):
            count = self._cells.sum(index)
            # A ratio of errors needs the successes from the start, and no code that never occurred.
            if count or code == 200:
                requests.add_metric((*labels, str(code)), count)
        yield requests
        flying = GaugeMetricFamily("modeldeploy_requests_in_flight", "Predictions being answered.", labels=LABELS)
        flying.add_metric(labels, self._cells.sum(_IN_FLIGHT))
        yield flying
        for distribution in _DISTRIBUTIONS:
            yield self._histogram(distribution, labels)

    def _histogram(self, distribution: Distribution, labels: Sequence[str]) -> Metric:
        family = HistogramMetricFamily(distribution.name, distribution.text, labels=LABELS)
        total = 0.0
        buckets = []
        for index, bound in enumerate([*map(float, distribution.bounds), "+Inf"]):
            total += self._cells.sum(distribution.first + index)
            buckets.append((str(bound), total))
        family.add_metric(labels, buckets, self._cells.sum(distribution.end - 1))
        return family
