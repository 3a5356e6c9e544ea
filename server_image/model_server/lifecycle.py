"""The phases of a server, from download to drain; `/readyz` shows them and routes get the model here."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from model_server.batching import Batcher
from model_server.errors import ModelNotReady
from model_server.inputs.layout import Layout
from model_server.monitoring.recent import Recent
from model_server.package.metadata import Metadata
from model_server.runtimes.base import Model
from model_server.telemetry import Identity
from model_server.tensors import Inputs, Outputs, Tensor


class Phase(enum.StrEnum):
    """Where a server is; only `ready` answers predictions."""

    DOWNLOADING = "downloading"
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model that has shown that it can predict, and all that is known about it."""

    identity: Identity
    metadata: Metadata
    layout: Layout
    model: Model
    outputs: tuple[Tensor, ...]


class Watcher(Protocol):
    """Is told of every prediction and of every feedback; `monitoring` has the real one."""

    @property
    def recent(self) -> Recent:
        """The most recent predictions."""

    def predicted(self, identifier: bytes, inputs: Inputs, outputs: Outputs, body: bytes = b"") -> None:
        """A request was answered; over HTTP it had a body."""

    def labelled(self, document: Mapping[str, Any]) -> None:
        """Feedback came. Raises RequestErrors."""

    async def pulse(self) -> None:
        """About a second has passed."""

    def close(self) -> None:
        """The server ends."""


@dataclass(frozen=True, slots=True)
class Served:
    """A loaded model with its queue and its watcher."""

    loaded: Loaded
    batcher: Batcher
    watcher: Watcher


class Tell(Protocol):
    """Is told whether predictions are answered; the gRPC health service is."""

    async def __call__(self, *, serving: bool) -> None: ...


class Lifecycle:
    """The phase, a message about it, and the served model once there is one."""

    def __init__(self) -> None:
        self.phase = Phase.DOWNLOADING
        self.message = "starting"
        self._served: Served | None = None
        self._tell: Tell = _nobody

    def listen(self, tell: Tell) -> None:
        """Whom to tell, at each pulse, whether the model is served."""
        self._tell = tell

    def report(self, phase: Phase, message: str) -> None:
        """Enter a phase, or say more about it. A draining server stays draining."""
        if self.phase is not Phase.DRAINING:
            self.phase = phase
            self.message = message

    def serve(self, served: Served) -> None:
        """The model is there: from now on predictions are answered."""
        self._served = served
        identity = served.loaded.identity
        self.report(Phase.READY, f"serving {identity.model} {identity.version}".strip())

    def drain(self) -> None:
        """Stop being ready; requests that still come are answered."""
        self.phase = Phase.DRAINING
        self.message = "the server is shutting down"

    @property
    def is_draining(self) -> bool:
        """True once the end has begun."""
        return self.phase is Phase.DRAINING

    @property
    def hung_seconds(self) -> float:
        """How long a call of the model has been running that will hardly return; 0 when there is none."""
        return 0.0 if self._served is None else self._served.batcher.hung_seconds

    @property
    def served(self) -> Served:
        """The model. Raises ModelNotReady that says how far loading is."""
        if self._served is None:
            raise ModelNotReady(f"the model is not ready: {self.phase}, {self.message}")
        return self._served

    def close(self) -> None:
        """Release the model's thread."""
        if self._served is not None:
            self._served.batcher.close()
            self._served.watcher.close()

    async def pulse(self) -> None:
        """About a second has passed."""
        await self._tell(serving=self.phase is Phase.READY)
        if self._served is not None:
            await self._served.watcher.pulse()


async def _nobody(*, serving: bool) -> None:
    """Nobody listens."""
