"""The server's Prometheus metrics, in a registry of their own; docs/wire.md names the operator's."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who answers: the labels of every metric, and what `modeldeploy_model_info` shows."""

    model: str
    version: str
    revision: str
    format: str = ""
    sha256: str = ""
    uri: str = ""


class Telemetry:
    """Counts and times what the server does."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        names = ("model", "version", "revision")
        self._info = Gauge(
            "modeldeploy_model_info",
            "1 for the model that is loaded.",
            ("model", "version", "revision", "format", "sha256", "uri"),
            registry=self.registry,
        )
        self._requests = Counter(
            "modeldeploy_requests",
            "Answered predictions by HTTP code.",
            (*names, "code"),
            registry=self.registry,
        )
        self._duration = self._histogram("request_duration_seconds", "From the request's head to its answer.", SECONDS)
        self._queue = self._histogram(
            "queue_duration_seconds", "From a request's arrival in the queue to its model call.", SECONDS
        )
        self._predict = self._histogram("predict_duration_seconds", "Calls of the model.", SECONDS)
        self._batch_rows = self._histogram("batch_rows", "Rows in one call of the model.", ROWS)
        self._in_flight = Gauge(
            "modeldeploy_requests_in_flight", "Predictions being answered.", names, registry=self.registry
        )
        self._phase = Gauge(
            "modeldeploy_load_phase_seconds",
            "Time spent in each phase of loading.",
            ("phase",),
            registry=self.registry,
        )
        self.use(Identity(model="", version="", revision=""))

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(
            f"modeldeploy_{name}",
            text,
            ("model", "version", "revision"),
            buckets=buckets,
            registry=self.registry,
        )

    def use(self, identity: Identity) -> None:
        """Label everything from now on with this identity."""
        labels = (identity.model, identity.version, identity.revision)
        self._labels = labels
        # Looked up once: a label lookup takes a lock and a dict, and the hot path would do five.
        self._counts: dict[int, Counter] = {}
        self._observe_duration = self._duration.labels(*labels).observe
        self._observe_queue = self._queue.labels(*labels).observe
        self._observe_predict = self._predict.labels(*labels).observe
        self._observe_rows = self._batch_rows.labels(*labels).observe
        self._flight = self._in_flight.labels(*labels)

    def loaded(self, identity: Identity) -> None:
        """The model is loaded: forget the unnamed beginnings and say what it is."""
        for metric in (self._duration, self._queue, self._predict, self._batch_rows, self._in_flight):
            metric.remove(*self._labels)
        self.use(identity)
        self._count_of(200)
        self._info.labels(
            identity.model,
            identity.version,
            identity.revision,
            identity.format,
            identity.sha256,
            identity.uri,
        ).set(1)

    def phase(self, name: str, seconds: float) -> None:
        """A phase of loading is over."""
        self._phase.labels(name).set(seconds)

    def begin(self) -> None:
        """A prediction was asked for."""
        self._flight.inc()

    def end(self, code: int, seconds: float) -> None:
        """A prediction was answered, or refused."""
        self._flight.dec()
        self._count_of(code).inc()
        self._observe_duration(seconds)

    def batch(self, *, rows: int, requests: int, seconds: float, queued: list[float]) -> None:
        """The model was called."""
        self._observe_rows(rows)
        self._observe_predict(seconds)
        for wait in queued:
            self._observe_queue(wait)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _count_of(self, code: int) -> Counter:
        counter = self._counts.get(code)
        if counter is None:
            counter = self._counts[code] = self._requests.labels(*self._labels, str(code))
        return counter
