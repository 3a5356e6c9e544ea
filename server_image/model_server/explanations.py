"""Runs explanations beside the predictions of a model and behind them; `dataplane.py` asks, `model_loader.py` makes it.

One explanation is computed at a time, and a few may wait. What calls the model runs in the model's own thread, one call
at a time and only while no prediction waits for it; all else runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model_server.batching import Batcher, translated
from model_server.domain.explanations import Explainer, Explanation, Importance
from model_server.domain.model import LoadedModel
from model_server.domain.tensors import Inputs
from model_server.errors import DeadlineExceeded, InputRefused, ModelNotReady, Overloaded, UnknownRoute
from model_server.telemetry import CODES, LABELS, SECONDS, Telemetry

log = logging.getLogger(__name__)

#: Rows of the reference that importance is computed from: exact contributions, and estimates.
EXACT_ROWS, ESTIMATED_ROWS = 200, 20
MOST_FEATURES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationLimits:
    """What one request may ask for, and how many may wait."""

    max_rows: int
    max_queue: int
    timeout_seconds: float


class Counter(Protocol):
    """What is told of each request for explanations, and of the importance that was found."""

    def ended(self, code: int, seconds: float) -> None:
        """A request was answered, or refused."""

    def rated(self, importance: Importance) -> None:
        """The importance of the features is known."""


class Uncounted:
    """Counts nothing: for models that somebody else counts."""

    def ended(self, code: int, seconds: float) -> None:
        """Nothing to do."""

    def rated(self, importance: Importance) -> None:
        """Nothing to do."""


class ExplanationMetrics(Collector):
    """The metrics of all workers' explanations of one model."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._importance: Mapping[str, float] = {}
        codes = telemetry.values.declare(len(CODES))
        self._places = {code: codes.first + index for index, code in enumerate(CODES)}
        self._duration = telemetry.values.histogram(
            "modeldeploy_explanation_duration_seconds", "From an explanation request's head to its answer.", SECONDS
        )
        telemetry.registry.register(self)

    def ended(self, code: int, seconds: float) -> None:
        """Count an answer or a refusal."""
        own = self._telemetry.values.own
        own[self._places[code]] += 1
        self._duration.observe(own, seconds)

    def rated(self, importance: Importance) -> None:
        """Show the importance of the features."""
        self._importance = importance.values

    def collect(self) -> Iterable[Metric]:
        """The sums of all workers' values, at a scrape."""
        values, labels = self._telemetry.values, self._telemetry.identity.labels
        requests = CounterMetricFamily(
            "modeldeploy_explanations", "Answered requests for explanations by HTTP code.", labels=(*LABELS, "code")
        )
        for code, place in self._places.items():
            if (count := values.sum(place)) or code == 200:
                requests.add_metric((*labels, str(code)), count)
        yield requests
        yield self._duration.family(values, LABELS, labels)
        rated = GaugeMetricFamily(
            "modeldeploy_feature_importance",
            f"Mean absolute contribution of each feature over the reference profile, of the {MOST_FEATURES} largest.",
            labels=(*LABELS, "feature"),
        )
        for name, value in _largest(self._importance):
            rated.add_metric((*labels, name), value)
        yield rated


class Explanations:
    """The explanations of one model. Use it from one event loop; `close` it there too.

    `threads` run what does not call the model, and are not closed; by default it has one of its own.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        explainer: Explainer,
        batcher: Batcher,
        limits: ExplanationLimits,
        counter: Counter,
        *,
        threads: Executor | None = None,
    ) -> None:
        self.limits = limits
        self._importance: Importance | None = None
        self._names = [feature.name for feature in loaded.adapter.features]
        self._explainer = explainer
        self._batcher = batcher
        self._counter = counter
        self._waiting = 0
        self._turn = asyncio.Lock()
        self._thread: Executor = threads or ThreadPoolExecutor(1, "explain")
        self._owns_thread = threads is None
        self._first: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Compute the importance of the features, behind everything else."""
        self._first = asyncio.get_running_loop().create_task(self._rate(), name="importance")

    async def rated(self) -> None:
        """Wait until the importance is computed, or found not to be."""
        if self._first is not None:
            await self._first

    @property
    def waiting(self) -> int:
        """Requests that are not yet answered."""
        return self._waiting

    @property
    def importance(self) -> Importance:
        """The importance of the features. Raises ModelNotReady while it is computed, and UnknownRoute without any."""
        if self._importance is not None:
            return self._importance
        if self._first is not None and not self._first.done():
            raise ModelNotReady("the importance of the features is being computed")
        if self._explainer.reference_rows(1) is None:
            raise UnknownRoute("the importance of features needs their reference_profile in model.yaml")
        raise UnknownRoute("the importance of the features could not be computed: the server's log says why")

    def close(self) -> None:
        """Let the thread go."""
        if self._first is not None:
            self._first.cancel()
        if self._owns_thread:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def explain(self, inputs: Inputs) -> Explanation:
        """Explain all rows, in turn.

        Raises Overloaded when too many wait already, DeadlineExceeded, and as `Batcher.submit` where the model fails.
        """
        limits = self.limits
        if self._waiting >= limits.max_queue:
            raise Overloaded(f"{limits.max_queue} explanations are waiting already", hint="Try again after a moment.")
        self._waiting += 1
        try:
            async with asyncio.timeout(limits.timeout_seconds):
                found = await self._explain(inputs)
            if not np.isfinite(found.output).all():
                raise InputRefused.at("", "the model has no number for this input")
            return found
        except TimeoutError:
            raise DeadlineExceeded(f"no explanation within {limits.timeout_seconds:g} s") from None
        except Exception as error:
            raise translated(error) from error.__cause__
        finally:
            self._waiting -= 1

    async def _explain(self, inputs: Inputs) -> Explanation:
        async with self._turn:
            # A model may write into its rows, and bytes of a request are read-only.
            steps = self._explainer.steps({name: array.copy() for name, array in inputs.items()})
            while (found := await self._step(steps)) is None:
                pass
            return found

    async def _step(self, steps: Iterator[Explanation | None]) -> Explanation | None:
        if self._explainer.calls_model:
            return await self._batcher.when_idle(lambda: next(steps))
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: next(steps))

    async def _rate(self) -> None:
        count = ESTIMATED_ROWS if self._explainer.calls_model else EXACT_ROWS
        try:
            rows = self._explainer.reference_rows(count)
            if rows is not None:
                found = await self._explain(rows)
                means = np.abs(found.contributions).mean(axis=(0, 1)).tolist()
                self._importance = Importance(rows=count, values=dict(zip(self._names, means, strict=True)))
                self._counter.rated(self._importance)
        except Exception:
            log.exception("the importance of the features is not known")

    def ended(self, code: int, seconds: float) -> None:
        """A request was answered, or refused."""
        self._counter.ended(code, seconds)


def _largest(values: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(values.items(), key=lambda pair: -pair[1])[:MOST_FEATURES]
