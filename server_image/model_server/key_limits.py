"""Limits of API keys: requests a second and at a time, over all workers of a server. `dataplane.py` asks.

No worker waits for another: each writes how many requests it has let in, and reads the sums of all. A request that is
over a limit is told when to come again, and is no evidence about the model.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model_server.domain.model import Identity
from model_server.errors import SettingsInvalid, TooManyRequests
from model_server.shared_values import SharedValues
from model_server.telemetry import LABELS

#: The entry for all keys without one of their own, together.
OTHERS = "*"


def unlimited() -> None:
    """What to call when a request is over whose key has no limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimit:
    """What one key may ask for.

    Attributes:
        key: its name in the Secret, or `OTHERS`.
        rate: requests a second, refilled steadily; None for any number.
        burst: requests at once after a pause.
        concurrency: requests that are answered at a time; None for any number.
    """

    key: str
    rate: float | None = None
    burst: int = 1
    concurrency: int | None = None


def parse_limits(entries: Sequence[str]) -> Sequence[KeyLimit]:
    """Read entries of `Settings.auth_limits`, such as `mobile:rate=50:burst=100`. Raises SettingsInvalid."""
    found: dict[str, KeyLimit] = {}
    for entry in entries:
        key, *parts = entry.split(":")
        given = dict(part.split("=") for part in parts)
        if any(float(value) == 0 for value in given.values()):
            raise SettingsInvalid(
                f"the limit {entry!r} lets nothing in", hint="Take the key out of the Secret in place of a limit of 0."
            )
        if key in found:
            raise SettingsInvalid(f"the API key {key!r} has limits twice", hint="Put them into one entry.")
        rate = float(given["rate"]) if "rate" in given else None
        found[key] = KeyLimit(
            key=key,
            rate=rate,
            burst=int(given.get("burst", max(1, math.ceil(rate or 1)))),
            concurrency=int(given["concurrency"]) if "concurrency" in given else None,
        )
    return tuple(found.values())


def keys_of(limits: Sequence[KeyLimit]) -> Sequence[str]:
    """The keys that have limits of their own, by name."""
    return [limit.key for limit in limits if limit.key != OTHERS]


class _Gate:
    """One limit, as one worker sees it: a token bucket that the requests of all workers empty."""

    def __init__(self, limit: KeyLimit, values: SharedValues, now: float) -> None:
        self.limit, self._values = limit, values
        self.flying, self.admitted, self.over_rate, self.over_concurrency = (values.declare().first for _ in range(4))
        # A worker that took this one's place begins without the requests that ended with its predecessor.
        values.own[self.flying] = 0.0
        self._tokens, self._seen, self._at = float(limit.burst), values.sum(self.admitted), now

    def enter(self, now: float) -> None:
        """Let a request in. Raises TooManyRequests."""
        limit, own = self.limit, self._values.own
        if limit.concurrency is not None and self._values.sum(self.flying) >= limit.concurrency:
            own[self.over_concurrency] += 1
            many = f"{limit.concurrency} requests" if limit.concurrency > 1 else "one request"
            raise TooManyRequests(f"this API key may have {many} answered at a time", retry_after=1)
        if limit.rate is not None and (wait := self._wait(limit.rate, now)) > 0:
            own[self.over_rate] += 1
            message = f"this API key may ask {limit.rate:g} times a second, {limit.burst} at once"
            raise TooManyRequests(message, retry_after=max(1, math.ceil(wait)))
        own[self.admitted] += 1
        own[self.flying] += 1

    def leave(self) -> None:
        """A request that was let in is over."""
        self._values.own[self.flying] -= 1

    def _wait(self, rate: float, now: float) -> float:
        """Seconds until there is a token; 0 where there is one. Other workers' requests have taken theirs first."""
        admitted = self._values.sum(self.admitted)
        left = self._tokens + (now - self._at) * rate - (admitted - self._seen)
        self._tokens, self._seen, self._at = min(float(self.limit.burst), left), admitted, now
        return max(0.0, (1.0 - self._tokens) / rate)


class Counted(Protocol):
    """What the counts of keys are part of: the telemetry of a model, or of a pool."""

    @property
    def values(self) -> SharedValues: ...

    @property
    def registry(self) -> CollectorRegistry: ...

    @property
    def identity(self) -> Identity: ...


class KeyLimits(Collector):
    """The limits of one worker, and the counts of all of them."""

    def __init__(
        self, limits: Sequence[KeyLimit], telemetry: Counted, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock, self._telemetry = clock, telemetry
        self._gates, self._feedback = (
            {limit.key: _Gate(limit, telemetry.values, clock()) for limit in limits} for _ in range(2)
        )
        if limits:
            telemetry.registry.register(self)

    def __bool__(self) -> bool:
        """Whether any key has limits."""
        return bool(self._gates)

    def enter(self, key: str, *, is_feedback: bool = False) -> Callable[[], None]:
        """Let a request with this key in; what to call when it is over. Raises TooManyRequests.

        A key may send as much feedback as it may ask for predictions, and neither takes from the other.
        """
        gates = self._feedback if is_feedback else self._gates
        gate = gates.get(key) or gates.get(OTHERS)
        if gate is None:
            return unlimited
        gate.enter(self._clock())
        return gate.leave

    def collect(self) -> Iterable[Metric]:
        """The sums of all workers, at a scrape."""
        values, labels = self._telemetry.values, self._telemetry.identity.labels
        requests = CounterMetricFamily(
            "modeldeploy_key_requests",
            "Requests for predictions by the name of their API key: admitted, or answered 429 for a limit (rate, "
            "concurrency); feedback: feedback that was answered 429.",
            labels=(*LABELS, "key", "outcome"),
        )
        flying = GaugeMetricFamily(
            "modeldeploy_key_requests_in_flight", "Requests being answered, by API key.", labels=(*LABELS, "key")
        )
        for key, gate in self._gates.items():
            places = {"admitted": gate.admitted, "rate": gate.over_rate, "concurrency": gate.over_concurrency}
            for outcome, place in places.items():
                requests.add_metric((*labels, key, outcome), values.sum(place))
            feedback = self._feedback[key]
            refused = values.sum(feedback.over_rate) + values.sum(feedback.over_concurrency)
            requests.add_metric((*labels, key, "feedback"), refused)
            flying.add_metric((*labels, key), values.sum(gate.flying))
        yield requests
        yield flying
