"""Observes each prediction of the data plane; everything that takes time happens later, off the hot path."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from model_server.domain.model import LoadedModel
from model_server.domain.tensors import Inputs, Outputs
from model_server.errors import InvalidInput
from model_server.monitoring.data_quality import DataQuality, limits_by_problem
from model_server.monitoring.drift import Drift, find_reference
from model_server.monitoring.estimated_quality import EstimatedQuality
from model_server.monitoring.feedback import Feedback
from model_server.monitoring.input_log import InputLog, Record
from model_server.monitoring.outputs import OutputCounts
from model_server.monitoring.prediction_log import PredictionLog
from model_server.monitoring.request_log import RequestLog
from model_server.monitoring.slices import Slices
from model_server.monitoring.window import LARGEST_BYTES, bytes_of_all
from model_server.settings import Settings
from model_server.telemetry import Telemetry

log = logging.getLogger(__name__)

# Predictions between two ticks, by number and by bytes; what is more in a second is left out of the statistics.
MOST_UNSEEN = 5_000
MOST_UNSEEN_BYTES = 64 * 2**20


class Monitor:
    """The `PredictionObserver` of a server: drift, quality of data and answers, outputs, logs."""

    def __init__(self, loaded: LoadedModel, settings: Settings, telemetry: Telemetry) -> None:
        self._unseen: list[tuple[Inputs, Outputs]] = []
        self._unseen_bytes = 0
        self._has_others = telemetry.values.workers > 1
        self._drift = Drift(
            loaded.adapter.features,
            find_reference(settings.drift_reference, loaded.metadata),
            settings.drift_threshold,
            telemetry,
        )
        self._outputs = OutputCounts(loaded, telemetry)
        self._slices = Slices(settings.slices, loaded, telemetry)
        self._feedback = Feedback(loaded, telemetry, self._slices)
        self._quality = (
            DataQuality(
                loaded.adapter.features,
                loaded.metadata,
                limits_by_problem(settings.data_quality_max_bad_rate, settings.data_quality_limits),
                telemetry,
            )
            if settings.data_quality
            else None
        )
        self._estimated = EstimatedQuality(loaded, telemetry) if settings.estimated_quality else None
        self._log = InputLog.of(settings, loaded, telemetry)
        self.recent = PredictionLog(telemetry.values)
        self.requests = RequestLog(loaded, settings.input_log_redact, telemetry.values)

    @property
    def wants_probabilities(self) -> bool:
        """Whether the quality is estimated from the probabilities of every answer."""
        return self._estimated is not None

    def predicted(self, identifier: bytes, inputs: Inputs, outputs: Outputs, body: bytes = b"") -> None:
        """Called for each answered request: remembers references, computes nothing unless revisions are compared."""
        if self._slices:
            size = self._feedback.remember(identifier, outputs, self._slices.groups_of(inputs))
        else:
            size = self._feedback.remember(identifier, outputs)
        if len(self._unseen) < MOST_UNSEEN and self._unseen_bytes < MOST_UNSEEN_BYTES:
            if len(outputs) > 1 or size > LARGEST_BYTES:
                size = bytes_of_all(outputs, MOST_UNSEEN_BYTES)
            self._unseen_bytes += size + bytes_of_all(inputs, MOST_UNSEEN_BYTES)
            self._unseen.append((inputs, outputs))
        if self._log is not None and self._log.is_sampled():
            self._log.offer(Record(identifier.decode("latin-1"), inputs, outputs))
        if self.recent.every and body:
            self.recent.keep(body, outputs)
        if self.requests.wanted:
            self.requests.keep(inputs)

    def refused(self, error: InvalidInput) -> None:
        """Called for each request that the model's schema refused: remembers what was wrong with it."""
        if self._quality is not None:
            self._quality.refused(error)

    def labelled(self, document: Mapping[str, Any]) -> None:
        """Feedback came. Raises InvalidInput or UnknownPrediction."""
        self._feedback.receive(document)

    async def tick(self) -> None:
        """Called about once a second: look at what was predicted since."""
        self.recent.refresh()
        self.requests.refresh()
        # What the other workers count changes the scores that this one shows.
        has_refused = self._quality is not None and self._quality.has_refused
        if self._unseen or self._has_others or has_refused:
            predictions, self._unseen, self._unseen_bytes = self._unseen, [], 0
            await asyncio.to_thread(self._digest, predictions)

    def _digest(self, predictions: list[tuple[Inputs, Outputs]]) -> None:
        try:
            self._drift.update([inputs for inputs, _ in predictions])
            self._slices.predicted(predictions)
            self._outputs.update([outputs for _, outputs in predictions])
            if self._estimated is not None:
                self._estimated.update([outputs for _, outputs in predictions], self._drift.drifted)
            if self._quality is not None:
                self._quality.update([inputs for inputs, _ in predictions])
        except Exception:
            # A model.py may answer with anything. Statistics are not worth a server's life.
            log.exception("some predictions are not counted", extra={"predictions": len(predictions)})

    def close(self) -> None:
        """Write what is left of the input log."""
        if self._log is not None:
            self._log.close()
