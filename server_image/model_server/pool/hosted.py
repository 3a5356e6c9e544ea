"""One loaded model in a worker process: the data plane of a server, without what would cost memory for every model."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Any

from model_server.auth import AllowAll
from model_server.batching import Batcher, BatchLimits
from model_server.dataplane import DataPlane
from model_server.domain.model import LoadedModel, Model
from model_server.domain.tensors import Inputs, Outputs
from model_server.errors import InvalidInput, OperationNotSupported
from model_server.lifecycle import Lifecycle, ServingModel
from model_server.monitoring.prediction_log import PredictionLog
from model_server.monitoring.request_log import RequestLog
from model_server.pool.board import Board
from model_server.settings import Settings
from model_server.telemetry import Telemetry
from model_server.tracing import PropagateOnlyTracer


class Unmonitored:
    """Observes nothing: windows and profiles of a thousand models would need more memory than the models."""

    wants_probabilities = False

    @property
    def recent(self) -> PredictionLog:
        """Pools keep none."""
        raise OperationNotSupported("a pool keeps no predictions")

    @property
    def requests(self) -> RequestLog:
        """Pools keep none."""
        raise OperationNotSupported("a pool keeps no requests")

    def predicted(self, identifier: bytes, inputs: Inputs, outputs: Outputs, body: bytes = b"") -> None:
        """Nothing is counted here: the front does."""

    def refused(self, error: InvalidInput) -> None:
        """Nothing is counted here."""

    def labelled(self, document: Mapping[str, Any]) -> None:
        """Refuse feedback."""
        raise OperationNotSupported("a pool takes no feedback", hint="Serve this model by a ModelDeployment.")

    async def tick(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to release."""


class ShownModel:
    """A model whose calls are on the board while they run; `may_inline` lets short ones run on the event loop."""

    def __init__(self, model: Model, number: int, board: Board, *, may_inline: bool) -> None:
        self.signature = model.signature
        self.probability_output = model.probability_output
        self.classes = model.classes
        self.runs_inline = model.runs_inline and may_inline
        self._model = model
        self._number = number
        self._board = board

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        """Call the model."""
        with self._board.computing(self._number):
            return self._model.predict(inputs, probabilities=probabilities)


class HostedModel:
    """A model that answers calls, until it is closed."""

    def __init__(
        self,
        number: int,
        loaded: LoadedModel,
        settings: Settings,
        *,
        board: Board,
        threads: Executor,
        telemetry: Telemetry,
        may_inline: bool,
    ) -> None:
        limits = BatchLimits(
            max_rows=settings.max_batch_size,
            max_delay_seconds=settings.max_batch_delay_milliseconds / 1000,
            max_queue=settings.max_queue_size,
            timeout_seconds=settings.request_timeout_seconds,
        )
        model = ShownModel(loaded.model, number, board, may_inline=may_inline)
        self._batcher = Batcher(model, limits, telemetry, threads=threads)
        self._lifecycle = Lifecycle()
        self._lifecycle.serve(ServingModel(loaded, self._batcher, Unmonitored()))
        self.plane = DataPlane(
            self._lifecycle,
            telemetry,
            PropagateOnlyTracer(),
            AllowAll(),
            name=loaded.identity.model,
            max_rows=settings.max_rows,
        )

    @property
    def is_hung(self) -> bool:
        """Whether a call has been running that will hardly return."""
        return self._batcher.hung_seconds > 0

    def close(self) -> None:
        """Release what is not memory."""
        self.plane.close()
        self._lifecycle.close()
