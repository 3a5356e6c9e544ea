"""One request on the data plane, from its head to its answer: its trace, what its error becomes, and how it counts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from model_server.errors import (
    InvalidInput,
    ModelNotReady,
    PredictionError,
    RequestError,
    StepFailed,
    TooManyRequests,
    shortened,
)
from model_server.explanations import Explanations
from model_server.key_limits import unlimited
from model_server.lifecycle import Lifecycle
from model_server.statuses import CLIENT_GONE, STATUS_OF
from model_server.telemetry import Telemetry
from model_server.tracing import Trace

log = logging.getLogger(__name__)

OVER_LIMIT = STATUS_OF[TooManyRequests].http
#: Where operator and supervisor ask, and no client does (docs/wire.md).
_COMPARISON = "/shadow/"


class Disconnected(Exception):
    """The client went away before its request was whole: there is nobody to answer."""


class OpenRequest:
    """A request that is being answered; its `with` statement lets RequestErrors out, Disconnected, and no other error.

    `leave` is called when it is over. `explanations` are what counts it in place of the predictions' telemetry.
    """

    __slots__ = (
        "_identifier",
        "_is_prediction",
        "_lifecycle",
        "_operation",
        "_path",
        "_started",
        "_telemetry",
        "_trace",
        "explanations",
        "leave",
    )

    def __init__(
        self,
        telemetry: Telemetry,
        lifecycle: Lifecycle,
        trace: Trace,
        identifier: bytes,
        operation: str,
        path: str,
        started: float,
        *,
        is_prediction: bool = True,
    ) -> None:
        self._telemetry, self._lifecycle, self._trace = telemetry, lifecycle, trace
        self._identifier, self._operation, self._path, self._started = identifier, operation, path, started
        self._is_prediction = is_prediction
        self.explanations: Explanations | None = None
        self.leave: Callable[[], None] = unlimited

    def __enter__(self) -> Self:
        if self._is_prediction:
            self._telemetry.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        code, shown = (200, None) if error is None else self._refused(error)
        sampled = self._trace.end(self._operation, code, began=self._started)
        self.leave()
        self._count(code, sampled)
        if shown is not error and shown is not None:
            raise shown from shown.__cause__

    def _refused(self, error: BaseException) -> tuple[int, BaseException]:
        """Count and log why a request is not answered; the status, and what the client gets to see."""
        if self._is_prediction and self.explanations is None and not isinstance(error, TooManyRequests):
            self._telemetry.failed(time.perf_counter() - self._started)
            if isinstance(error, RequestError):
                self._telemetry.refused(type(error))
            if isinstance(error, StepFailed):
                self._telemetry.step_failed(error.step)
            if isinstance(error, InvalidInput) and self._lifecycle.has_model:
                self._lifecycle.serving.observer.refused(error)
        return _shown(error, self._identifier, self._path)

    def _count(self, code: int, sampled: str) -> None:
        """Count the answer; what is over the limit of its key is no evidence about the model."""
        seconds = time.perf_counter() - self._started
        if self._is_prediction:
            if code == OVER_LIMIT or self.explanations is not None:
                self._telemetry.withdraw()
            else:
                self._telemetry.end(code, seconds, sampled)
        if self.explanations is not None and code != OVER_LIMIT:
            self.explanations.ended(code, seconds)


def _shown(error: BaseException, identifier: bytes, path: str) -> tuple[int, BaseException]:
    """Log why a request is not answered; the status, and what the client gets to see."""
    if isinstance(error, RequestError):
        code = STATUS_OF[type(error)].http
        log_refusal(error, code, identifier, path)
        return code, error
    if isinstance(error, Disconnected | asyncio.CancelledError | GeneratorExit):
        return CLIENT_GONE, error
    extra = {"request_id": identifier.decode(), "path": shortened(path)}
    log.error("request failed", extra=extra, exc_info=error)
    return 500, PredictionError("the server failed on this request")


def log_refusal(error: RequestError, code: int, identifier: bytes, path: str) -> None:
    """Log why a request was refused; a model's failure with its trace."""
    level = logging.ERROR if code == 500 else logging.INFO
    if isinstance(error, ModelNotReady) and path.startswith(_COMPARISON):
        # A supervisor asks ten times a second whether the model is loaded.
        level = logging.DEBUG
    if log.isEnabledFor(level):
        extra = {"request_id": identifier.decode(), "path": shortened(path), "status": code, "reason": error.reason}
        log.log(level, error.message, extra=extra, exc_info=error.__cause__ if code == 500 else None)
