"""One loaded model in a worker process: the data plane of a server, without what would cost memory for every model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from typing import Any

from model_server.auth import AllowAll
from model_server.batching import Batcher, BatchLimits
from model_server.dataplane import DataPlane
from model_server.domain.explanations import Explainer, Explanation, ExplanationKind
from model_server.domain.model import LoadedModel, Model
from model_server.domain.tensors import Inputs, Outputs
from model_server.errors import InvalidInput, OperationNotSupported
from model_server.explanations import ExplanationLimits, Explanations, Uncounted
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


class ShownExplainer:
    """An explainer whose steps are on the board while they run."""

    def __init__(self, explainer: Explainer, number: int, board: Board) -> None:
        self._explainer = explainer
        self._number = number
        self._board = board

    @property
    def kind(self) -> ExplanationKind:
        """Method, scale and classes."""
        return self._explainer.kind

    @property
    def calls_model(self) -> bool:
        """Whether it calls the model."""
        return self._explainer.calls_model

    def steps(self, inputs: Inputs) -> Iterator[Explanation | None]:
        """The steps of an explanation."""
        steps = self._explainer.steps(inputs)
        found = None
        while found is None:
            with self._board.computing(self._number):
                found = next(steps)
            yield found

    def reference_rows(self, count: int) -> Inputs | None:
        """Rows of the reference."""
        return self._explainer.reference_rows(count)


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
        self._number, self._board, self._threads = number, board, threads
        self._batcher = Batcher(model, limits, telemetry, threads=threads)
        self._lifecycle = Lifecycle()
        self._lifecycle.serve(ServingModel(loaded, self._batcher, Unmonitored(), self._explanations(loaded, settings)))
        self.plane = DataPlane(
            self._lifecycle,
            telemetry,
            PropagateOnlyTracer(),
            AllowAll(),
            name=loaded.identity.model,
            max_rows=settings.max_rows,
        )

    def _explanations(self, loaded: LoadedModel, settings: Settings) -> Explanations | None:
        if loaded.explainer is None:
            return None
        limits = ExplanationLimits(
            max_rows=min(settings.explanation_max_rows, settings.max_rows),
            max_queue=settings.explanation_queue_size,
            timeout_seconds=settings.request_timeout_seconds,
        )
        explainer = ShownExplainer(loaded.explainer, self._number, self._board)
        # The front counts; what importance would cost at each load is not spent.
        return Explanations(loaded, explainer, self._batcher, limits, Uncounted(), threads=self._threads)

    @property
    def is_hung(self) -> bool:
        """Whether a call has been running that will hardly return."""
        return self._batcher.hung_seconds > 0

    def close(self) -> None:
        """Release what is not memory."""
        self.plane.close()
        self._lifecycle.close()
