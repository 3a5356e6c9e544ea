"""The metrics of messages, beside those of requests: a message is counted there as well, when the model was asked."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model_server.statuses import STATUS_OF
from model_server.telemetry import LABELS, Telemetry

ANSWER_TOO_LARGE, ANSWER_REFUSED, DELIVERIES_EXHAUSTED = "AnswerTooLarge", "AnswerRefused", "DeliveriesExhausted"
OUTCOMES = ("answered", "dead-lettered", "released")
REASONS = (*(error.__name__ for error in STATUS_OF), ANSWER_TOO_LARGE, ANSWER_REFUSED, DELIVERIES_EXHAUSTED)


#: Why a broker is away, as `BrokerError.reason` has it.
PROBLEMS = (
    "BrokerUnavailable",
    "BrokerRefused",
    "TopicMissing",
    "BrokerUntrusted",
    "BrokerCertificateExpired",
    "EncryptionMismatch",
    "TLSFilesInvalid",
)


class Connection(enum.IntEnum):
    """What a worker has to do with the broker; 0 is what memory holds before it says so."""

    WAITING = 0
    AWAY = 1
    CONNECTED = 2


class StreamTelemetry(Collector):
    """Counts what one worker does with messages, and shows what all of them did."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._values = values = telemetry.values
        outcomes, reasons = values.declare(len(OUTCOMES)), values.declare(len(REASONS))
        self._outcomes = {name: outcomes.first + index for index, name in enumerate(OUTCOMES)}
        self._reasons = {name: reasons.first + index for index, name in enumerate(REASONS)}
        self._redelivered, self._retries = values.declare().first, values.declare().first
        self._connection, self._lag, self._problem = values.declare(), values.declare(), values.declare()
        telemetry.registry.register(self)
        self.lag(None)

    def ended(self, outcome: str, reason: str = "") -> None:
        """A message was answered, written as a dead letter for a reason, or given back."""
        self._add(self._outcomes[outcome])
        if reason:
            self._add(self._reasons[reason])

    def redelivered(self) -> None:
        """A message came that the broker had delivered before."""
        self._add(self._redelivered)

    def retried(self) -> None:
        """The model is asked again about a message."""
        self._add(self._retries)

    def connection(self, state: Connection) -> None:
        """This worker is connected, is not, or does not want to be."""
        self._values.own[self._connection.first] = float(state)
        if state is not Connection.AWAY:
            self._values.own[self._problem.first] = 0.0

    def problem(self, reason: str) -> None:
        """Why this worker is not connected."""
        known = reason if reason in PROBLEMS else PROBLEMS[0]
        self._values.own[self._problem.first] = PROBLEMS.index(known) + 1.0

    def lag(self, count: int | None) -> None:
        """The group has so many messages before it; None where nobody knows."""
        self._values.own[self._lag.first] = math.nan if count is None else float(count)

    def _add(self, place: int) -> None:
        self._values.own[place] += 1

    def collect(self) -> Iterable[Metric]:
        """The sums of all workers' values, at a scrape."""
        values, labels = self._values, self._telemetry.identity.labels
        yield self._family("messages", "Messages by what became of them.", "outcome", self._outcomes)
        yield self._family("dead_letters", "Messages in the dead-letter topic, by reason.", "reason", self._reasons)
        for name, text, place in (
            ("redelivered", "Messages that the broker had delivered before.", self._redelivered),
            ("retries", "Times that the model was asked again about a message.", self._retries),
        ):
            family = CounterMetricFamily(f"modeldeploy_stream_{name}", text, labels=LABELS)
            family.add_metric(labels, values.sum(place))
            yield family
        states = {Connection(int(worker[0])) for worker in values.each(self._connection)} - {Connection.WAITING}
        yield self._gauge(
            "connected",
            "1 while the broker is connected, 0 while it is away; absent while this revision does not consume.",
            [float(Connection.AWAY not in states)] if states else [],
        )
        problems = GaugeMetricFamily(
            "modeldeploy_stream_problem", "1 for the reason for which the broker is away.", labels=(*LABELS, "reason")
        )
        for number in sorted({int(worker[0]) for worker in values.each(self._problem)} - {0}):
            problems.add_metric((*labels, PROBLEMS[number - 1]), 1.0)
        yield problems
        known = [worker[0] for worker in values.each(self._lag) if not math.isnan(worker[0])]
        text = "Messages that the consumers of the group have not acknowledged, as the broker tells it."
        yield self._gauge("lag", text, [max(known)] if known else [])

    def _family(self, name: str, text: str, label: str, places: dict[str, int]) -> Metric:
        family = CounterMetricFamily(f"modeldeploy_stream_{name}", text, labels=(*LABELS, label))
        for value, place in places.items():
            count = self._values.sum(place)
            if count or label == "outcome":
                family.add_metric((*self._telemetry.identity.labels, value), count)
        return family

    def _gauge(self, name: str, text: str, values: list[float]) -> Metric:
        family = GaugeMetricFamily(f"modeldeploy_stream_{name}", text, labels=LABELS)
        for value in values:
            family.add_metric(self._telemetry.identity.labels, value)
        return family
