"""The phases of a server, from download to drain; `/readyz` shows them and the data plane gets the model here."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from model_server.batching import Batcher
from model_server.domain.model import LoadedModel
from model_server.domain.tensors import Inputs, Outputs
from model_server.errors import InvalidInput, ModelNotReady
from model_server.explanations import Explanations
from model_server.monitoring.prediction_log import PredictionLog
from model_server.monitoring.request_log import RequestLog


class Phase(enum.StrEnum):
    """Where a server is. Predictions are answered by `ready`, and by `warming` after a made-up row has failed."""

    DOWNLOADING = "downloading"
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class PredictionObserver(Protocol):
    """Observes every prediction and all feedback; `monitoring.monitor.Monitor` is the one."""

    @property
    def recent(self) -> PredictionLog:
        """The most recent predictions."""

    @property
    def requests(self) -> RequestLog:
        """The most recent requests."""

    @property
    def wants_probabilities(self) -> bool:
        """Whether the probabilities of every answer are to be seen, also where the client does not ask for them."""

    def predicted(self, identifier: bytes, inputs: Inputs, outputs: Outputs, body: bytes = b"") -> None:
        """A request was answered; over HTTP it had a body."""

    def refused(self, error: InvalidInput) -> None:
        """A request was refused by the model's schema."""

    def labelled(self, document: Mapping[str, Any]) -> None:
        """Feedback came. Raises RequestErrors."""

    async def tick(self) -> None:
        """About a second has passed."""

    def close(self) -> None:
        """The server ends."""


@dataclass(frozen=True, slots=True)
class ServingModel:
    """A loaded model with its queue and its observer."""

    loaded: LoadedModel
    batcher: Batcher
    observer: PredictionObserver
    #: None where the model is not explained.
    explanations: Explanations | None = None


class ReadinessListener(Protocol):
    """Called with whether predictions are answered; the gRPC health service is one."""

    async def __call__(self, *, serving: bool) -> None: ...


class Lifecycle:
    """The phase, a message about it, and the served model once there is one."""

    def __init__(self) -> None:
        self.phase = Phase.DOWNLOADING
        self.message = "starting"
        #: True while the served model has not made a prediction, of any row.
        self.awaits_prediction = False
        self._serving: ServingModel | None = None
        self._tell: ReadinessListener = _nobody

    def listen(self, tell: ReadinessListener) -> None:
        """Call `tell` at each tick with whether the model is served."""
        self._tell = tell

    def report(self, phase: Phase, message: str) -> None:
        """Enter a phase, or say more about it. A draining server stays draining."""
        if self.phase is not Phase.DRAINING:
            self.phase = phase
            self.message = message

    def serve(self, serving: ServingModel) -> None:
        """The model is there: from now on predictions are answered.

        It is ready, unless it failed on a row that was made up to try it: then an answered request proves it.
        """
        self._serving = serving
        loaded = serving.loaded
        if loaded.warm_up_failure:
            self.report(
                Phase.WARMING,
                f"the model failed on a made-up row ({loaded.warm_up_failure}): give an example to each feature in "
                "model.yaml, or send a request to this pod: it becomes ready with the first one that it answers",
            )
        else:
            self.confirm()
        self.awaits_prediction = not loaded.has_predicted

    def confirm(self) -> None:
        """The served model can predict: it is ready."""
        self.awaits_prediction = False
        identity = self.serving.loaded.identity
        self.report(Phase.READY, f"serving {identity.model} {identity.version}".strip())

    def drain(self) -> None:
        """Stop being ready; requests that still come are answered."""
        self.phase = Phase.DRAINING
        self.message = "the server is shutting down"

    @property
    def has_model(self) -> bool:
        """True once the model is in memory."""
        return self._serving is not None

    @property
    def is_draining(self) -> bool:
        """True once the end has begun."""
        return self.phase is Phase.DRAINING

    @property
    def hung_seconds(self) -> float:
        """How long a call of the model has been running that will hardly return; 0 when there is none."""
        return 0.0 if self._serving is None else self._serving.batcher.hung_seconds

    @property
    def serving(self) -> ServingModel:
        """The model. Raises ModelNotReady that says how far loading is."""
        if self._serving is None:
            raise ModelNotReady(f"the model is not ready: {self.phase}, {self.message}")
        return self._serving

    def close(self) -> None:
        """Release the model's thread."""
        if self._serving is not None:
            if self._serving.explanations is not None:
                self._serving.explanations.close()
            self._serving.batcher.close()
            self._serving.observer.close()

    async def tick(self) -> None:
        """About a second has passed."""
        await self._tell(serving=self.phase is Phase.READY)
        if self._serving is not None:
            await self._serving.observer.tick()


async def _nobody(*, serving: bool) -> None:
    """Nobody listens."""
