"""The server's Prometheus metrics, in a registry of their own; docs/wire.md names the operator's."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from mmap import mmap

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from model_server.domain.model import STEPS, Identity, StepTimes
from model_server.errors import RequestError
from model_server.exemplars import Exemplars
from model_server.process_usage import ProcessUsage
from model_server.shared_values import SharedValues, Slice, Total
from model_server.statuses import REFUSALS

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)
CODES = (200, 400, 401, 404, 405, 408, 413, 415, 422, 499, 500, 503, 504)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = openmetrics.CONTENT_TYPE_LATEST
LABELS = ("model", "version", "revision")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Sums since the server began; times in seconds. `queue` to `encode` count calls of each part."""

    rows: int
    calls: int
    success: Total
    fail: Total
    queue: Total
    decode: Total
    predict: Total
    encode: Total


class Telemetry(Collector):
    """Counts and times what one worker does, and shows what all of them did."""

    def __init__(self, memory: mmap | bytearray | None = None, worker: int = 0, codes: Sequence[int] = CODES) -> None:
        """Count answers with these `codes`: those of the model server, or what the server behind a meter may answer."""
        self.values = values = SharedValues(memory, worker)
        self._own = values.own
        first = values.declare(len(codes)).first
        self._places = {code: first + index for index, code in enumerate(codes)}
        self._in_flight, self._ready, self._assigned, self._predicted = (values.declare().first for _ in range(4))
        self._failed, self._answered_at = (values.declare().first for _ in range(2))
        refusals = values.declare(len(REFUSALS))
        self._refusals = {error: refusals.first + index for index, error in enumerate(REFUSALS)}
        self._duration = values.histogram(
            "modeldeploy_request_duration_seconds", "From the request's head to its answer.", SECONDS
        )
        self._exemplars = Exemplars(values, SECONDS)
        self._queue = values.histogram(
            "modeldeploy_queue_duration_seconds", "Wait of the oldest request in each call of the model.", SECONDS
        )
        self._predict = values.histogram("modeldeploy_predict_duration_seconds", "Calls of the model.", SECONDS)
        self._rows = values.histogram("modeldeploy_batch_rows", "Rows in one call of the model.", ROWS)
        self._decode = values.histogram(
            "request_preprocess_seconds", "From a request's body to the model's inputs.", SECONDS
        )
        self._encode = values.histogram(
            "request_postprocess_seconds", "From the model's outputs to an answer's body.", SECONDS
        )
        self._steps = {
            step: values.histogram(
                "modeldeploy_step_duration_seconds", "Parts of a call of a model with steps around it.", SECONDS
            )
            for step in STEPS
        }
        failures = values.declare(len(STEPS))
        self._step_failures = {step: failures.first + index for index, step in enumerate(STEPS)}
        self.identity = Identity(model="", version="", revision="")
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._usage = ProcessUsage(values)
        self.registry.register(self._usage)
        self._info = Gauge(
            "modeldeploy_model_info",
            "1 for the model that is loaded.",
            (*LABELS, "format", "sha256", "uri"),
            registry=self.registry,
        )
        self._changed = Gauge(
            "modeldeploy_source_changed",
            "1 while another object than the loaded one lies at the storage URI; `source` is its fingerprint.",
            (*LABELS, "source"),
            registry=self.registry,
        )
        self._source_problem = Gauge(
            "modeldeploy_source_problem",
            "1 for the reason for which the last look at the storage URI, of those for changes, failed.",
            (*LABELS, "reason"),
            registry=self.registry,
        )
        self._phase = Gauge(
            "modeldeploy_load_phase_seconds", "Time spent in each phase of loading.", ("phase",), registry=self.registry
        )

    def source_changed(self, fingerprint: str) -> None:
        """Another object than the loaded one lies at the storage URI; "" when the loaded one is back."""
        self._changed.clear()
        if fingerprint:
            self._changed.labels(*self.identity.labels, fingerprint).set(1)

    def source_problem(self, reason: str) -> None:
        """The storage URI could not be looked at; "" when it was."""
        self._source_problem.clear()
        if reason:
            self._source_problem.labels(*self.identity.labels, reason).set(1)

    def loaded(self, identity: Identity) -> None:
        """The model is loaded: this is what it is."""
        self.identity = identity
        self._info.labels(*identity.labels, identity.format, identity.sha256, identity.uri).set(1)

    def ready(self, is_ready: bool) -> None:
        """This worker answers predictions, or does no longer."""
        self._own[self._ready] = float(is_ready)

    @property
    def is_ready_everywhere(self) -> bool:
        """True when each worker answers predictions: a client may meet any of them."""
        return self.values.sum(self._ready) == self.values.workers

    def phase(self, name: str, seconds: float) -> None:
        """A phase of loading is over."""
        self._phase.labels(name).set(seconds)

    def assigned(self) -> None:
        """A router has just drawn this revision for a user of an A/B test."""
        self._own[self._assigned] += 1

    def predicted(self) -> None:
        """The model has made a prediction: of its example, of a made-up row or of a request."""
        self._own[self._predicted] = 1.0

    @property
    def has_predicted(self) -> bool:
        """Whether the model has made a prediction in any worker."""
        return self.values.sum(self._predicted) > 0

    def refused(self, error: type[RequestError]) -> None:
        """A request was answered with an error: counted where the model, its schema or a limit refused it."""
        place = self._refusals.get(error)
        if place is not None:
            self._own[place] += 1

    def failed(self, seconds: float) -> None:
        """A request that was begun is not answered with a prediction."""
        self._own[self._failed] += seconds

    def begin(self) -> None:
        """A prediction was asked for."""
        self._own[self._in_flight] += 1

    def withdraw(self) -> None:
        """What was asked for turned out to be no prediction: an explanation."""
        self._own[self._in_flight] -= 1

    def end(self, code: int, seconds: float, trace_id: str = "") -> None:
        """A prediction was answered, or refused; with the id of its trace if it is sampled."""
        own = self._own
        own[self._in_flight] -= 1
        own[self._places[code]] += 1
        own[self._answered_at] = now = time.time()
        self._duration.observe(own, seconds)
        if trace_id:
            self._exemplars.remember(seconds, trace_id, now)

    def decoded(self, seconds: float) -> None:
        """A request's body has become the model's inputs."""
        self._decode.observe(self._own, seconds)

    def encoded(self, seconds: float) -> None:
        """The model's outputs have become an answer's body."""
        self._encode.observe(self._own, seconds)

    def batch(self, *, rows: int, seconds: float, queued: float) -> None:
        """The model was called for so many rows; the oldest of them had waited `queued` seconds."""
        own = self._own
        self._rows.observe(own, rows)
        self._predict.observe(own, seconds)
        self._queue.observe(own, queued)

    def stepped(self, times: StepTimes) -> None:
        """The seconds in each part of a call of a model with steps around it."""
        for step, seconds in times.items():
            self._steps[step].observe(self._own, seconds)

    def step_failed(self, step: str) -> None:
        """A request is not answered because a step around the model failed."""
        self._own[self._step_failures[step]] += 1

    def statistics(self) -> Statistics:
        """What all workers have answered."""
        values = self.values
        good = int(values.sum(self._places[200]))
        total = self._duration.total(values)
        failed = values.sum(self._failed)
        rows, queue, decode, predict, encode = (
            one.total(values) for one in (self._rows, self._queue, self._decode, self._predict, self._encode)
        )
        return Statistics(
            rows=int(rows.value),
            calls=rows.count,
            success=Total(good, max(total.value - failed, 0.0)),
            fail=Total(total.count - good, failed),
            queue=queue,
            decode=decode,
            predict=predict,
            encode=encode,
        )

    def tick(self) -> None:
        """About a second has passed."""
        self._usage.refresh()

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def render_openmetrics(self) -> bytes:
        """All metrics in the OpenMetrics format, with exemplars."""
        text: bytes = openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]
        return text

    def collect(self) -> Iterable[Metric]:
        """The sums of all workers' values, at a scrape."""
        values, labels = self.values, self.identity.labels
        counts = {code: values.sum(place) for code, place in self._places.items()}
        requests = CounterMetricFamily(
            "modeldeploy_requests", "Answered predictions by HTTP code.", labels=(*LABELS, "code")
        )
        for code, count in counts.items():
            # A ratio of errors needs the successes from the start, and no code that never occurred.
            if count or code == 200:
                requests.add_metric((*labels, str(code)), count)
        yield requests
        answered_at = GaugeMetricFamily(
            "modeldeploy_last_request_timestamp_seconds",
            "Unix time of the last prediction that was answered or refused; absent before the first.",
            labels=LABELS,
        )
        last = max(row[0] for row in values.each(Slice(self._answered_at, 1)))
        if last:
            answered_at.add_metric(labels, last)
        yield answered_at
        refusals = CounterMetricFamily(
            "modeldeploy_refusals",
            "Requests that the model, its schema or a limit refused (400, 413, 415, 422), by reason.",
            labels=(*LABELS, "reason"),
        )
        for error, place in self._refusals.items():
            refusals.add_metric((*labels, error.__name__), values.sum(place))
        yield refusals
        predicted = GaugeMetricFamily(
            "modeldeploy_model_predicted", "1 once the loaded model has made a prediction, of any row.", labels=LABELS
        )
        if self.identity.model:
            predicted.add_metric(labels, float(self.has_predicted))
        yield predicted
        assigned = CounterMetricFamily(
            "modeldeploy_assignments", "Users of an A/B test that a router sent here for the first time.", labels=LABELS
        )
        assigned.add_metric(labels, values.sum(self._assigned))
        yield assigned
        flying = GaugeMetricFamily("modeldeploy_requests_in_flight", "Predictions being answered.", labels=LABELS)
        flying.add_metric(labels, values.sum(self._in_flight))
        yield flying
        yield self._duration.family(values, LABELS, labels, exemplars=self._exemplars.found())
        for histogram in (self._queue, self._predict, self._rows):
            yield histogram.family(values, LABELS, labels)
        yield from self._around_the_model()
        yield from self._aliases(counts)

    def _around_the_model(self) -> Iterable[Metric]:
        """The steps; without samples where the model has none."""
        values, labels, names = self.values, self.identity.labels, (*LABELS, "step")
        times = HistogramMetricFamily(
            "modeldeploy_step_duration_seconds",
            "Parts of a call of a model with steps around it: pre, model, post.",
            labels=names,
        )
        failures = CounterMetricFamily(
            "modeldeploy_step_failures", "Requests that are not answered because a step failed.", labels=names
        )
        for step, histogram in self._steps.items():
            if histogram.total(values).count:
                histogram.add_to(times, values, (*labels, step))
            if count := values.sum(self._step_failures[step]):
                failures.add_metric((*labels, step), count)
        yield times
        yield failures

    def _aliases(self, counts: dict[int, float]) -> Iterable[Metric]:
        """What KServe's and MLServer's dashboards query, by their names."""
        values, identity = self.values, self.identity
        for histogram in (self._decode, self._encode):
            yield histogram.family(values, ("model_name",), (identity.model,))
        yield self._predict.family(values, ("model_name",), (identity.model,), "request_predict_seconds")
        names, labels = ("model", "version"), (identity.model, identity.version)
        good = sum(count for code, count in counts.items() if code < 400)
        for name, count in (("success", good), ("failure", sum(counts.values()) - good)):
            family = CounterMetricFamily(f"model_infer_request_{name}", f"Predictions with {name}.", labels=names)
            family.add_metric(labels, count)
            yield family
        yield self._duration.family(values, names, labels, "model_infer_request_duration")
