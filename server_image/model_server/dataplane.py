"""The data plane: answers a request for predictions, whichever protocol brings it.

HTTP, gRPC and messages are translated (`http/`, `grpc/`, `messaging/`), a codec of `protocols/` decodes and encodes,
and what happens in between stands here once: who may ask, whether the model is ready and the right one, timing,
batching, monitoring, and what becomes of an error.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any, Protocol, TypeVar, cast

from model_server.auth import Authenticator
from model_server.domain.explanations import Explanation
from model_server.domain.model import InferenceRequest, LoadedModel, StreamingModel
from model_server.domain.tensors import Outputs, rows_of
from model_server.errors import (
    InvalidInput,
    MalformedRequest,
    PredictionError,
    RequestError,
    StepFailed,
    TooManyRequests,
    UnknownModel,
    UnknownRoute,
    shortened,
)
from model_server.explanations import Explanations
from model_server.key_limits import KeyLimits
from model_server.lifecycle import Lifecycle, Phase
from model_server.protocols.checks import limit_rows
from model_server.statuses import CLIENT_GONE, STATUS_OF
from model_server.telemetry import Telemetry
from model_server.tracing import NO_TRACE, Trace, Tracer

log = logging.getLogger(__name__)

#: Larger bodies are decoded in a thread: the event loop answers probes and other requests meanwhile.
LARGE_BYTES = 65_536


class Payload(Protocol):
    """A request as it came. `body` are the bytes that a router mirrors, b"" where there are none to compare."""

    @property
    def body(self) -> bytes: ...

    @property
    def size(self) -> int: ...


P = TypeVar("P", bound=Payload)
P_contra = TypeVar("P_contra", bound=Payload, contravariant=True)
A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)


class Codec(Protocol[P_contra, A_co]):
    """One protocol: payloads to arrays, and arrays to answers. Pure; both raise RequestErrors."""

    def decode(self, payload: P_contra, loaded: LoadedModel, *, max_rows: int) -> InferenceRequest:
        """The request's rows as the model's arrays."""

    def encode(self, outputs: Outputs, request: InferenceRequest, loaded: LoadedModel) -> A_co:
        """The answer with the wanted outputs."""


class ExplanationCodec(Protocol[P_contra, A_co]):
    """One protocol of explanations: payloads to arrays, and contributions to answers. Pure, as a Codec."""

    def decode(self, payload: P_contra, loaded: LoadedModel, *, max_rows: int) -> InferenceRequest:
        """The request's rows as the model's arrays."""

    def explained(self, explanation: Explanation, request: InferenceRequest, loaded: LoadedModel) -> A_co:
        """The answer with the contributions."""


class Disconnected(Exception):
    """The client went away before its request was whole: there is nobody to answer."""


class DataPlane:
    """One model's predictions. Use it from one event loop; `close` it there too."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        telemetry: Telemetry,
        tracer: Tracer,
        authenticator: Authenticator,
        *,
        name: str,
        max_rows: int,
        key_limits: KeyLimits | None = None,
    ) -> None:
        self.lifecycle = lifecycle
        self.name = name
        self.max_rows = max_rows
        self.authenticator = authenticator
        self._telemetry = telemetry
        self._tracer = tracer
        self._key_limits = KeyLimits((), telemetry) if key_limits is None else key_limits
        # One thread: decoding holds the interpreter's lock, so that several would only take turns.
        self._decoder = ThreadPoolExecutor(1, "decode")

    @property
    def is_ready(self) -> bool:
        """Whether predictions are answered, by every worker: a client may meet any of them."""
        return self.lifecycle.phase is Phase.READY and self._telemetry.is_ready_everywhere

    @property
    def loaded(self) -> LoadedModel:
        """The model. Raises ModelNotReady."""
        return self.lifecycle.serving.loaded

    @property
    def has_key_limits(self) -> bool:
        """Whether any API key has limits."""
        return bool(self._key_limits)

    def require_model(self, name: str, version: str = "") -> None:
        """Raise UnknownModel for another model's name or version, ModelNotReady while the version is not known."""
        if name != self.name:
            raise UnknownModel(f"model {name!r} is not served here", hint=f"This server serves {self.name!r}.")
        if version and version != (own := self.loaded.identity.version):
            raise UnknownModel(f"version {version!r} is not served here", hint=f"This server serves version {own!r}.")

    def feedback(self, document: Mapping[str, Any]) -> None:
        """Count a label or a conversion. Raises InvalidInput or UnknownPrediction."""
        self.lifecycle.serving.observer.labelled(document)

    async def call(
        self,
        codec: Codec[P, A],
        read: Callable[[], Awaitable[P]],
        *,
        headers: Mapping[bytes, bytes],
        identifier: bytes,
        operation: str,
        path: str,
        started: float,
        target: tuple[str, str] | None = None,
        is_trusted: bool = False,
    ) -> A:
        """Answer one request; counts, times and traces it, and logs why it was refused.

        `read` brings the payload once the client may ask. `operation` is "METHOD route" or "service/method", `path`
        where the client asked, `started` the time of the request's head, `target` the model and version that are asked
        for, where they are not known to be the served ones. `is_trusted`: a broker has checked who asks, so that no key
        is needed. Raises RequestErrors only, or Disconnected.
        """
        telemetry = self._telemetry
        telemetry.begin()
        trace = self._tracer.begin(headers)
        code = CLIENT_GONE
        explanations: Explanations | None = None
        leave, is_limited = None, False
        try:
            if not is_trusted:
                leave = self._enter(headers)
            payload = await read()
            if target is not None:
                self.require_model(*target)
            loaded = self.lifecycle.serving.loaded
            began = time.perf_counter()
            request = await self._decode(codec, payload, loaded)
            if request.explains:
                explanations = self.explanations
                limit_rows(rows_of(request.inputs), explanations.limits.max_rows, "inputs[0].shape")
                explained = await explanations.explain(request.inputs)
                # A codec that reads this wish answers it, too.
                answer = cast(ExplanationCodec[P, A], codec).explained(explained, request, loaded)
                code = 200
                return answer
            telemetry.decoded(time.perf_counter() - began)
            outputs = await self.infer(request, identifier=identifier, trace=trace, body=payload.body)
            began = time.perf_counter()
            answer = codec.encode(outputs, request, loaded)
            telemetry.encoded(time.perf_counter() - began)
            code = 200
            return answer
        except (Exception, asyncio.CancelledError) as error:
            is_limited = isinstance(error, TooManyRequests)
            is_counted = explanations is None and not is_limited
            code, shown = (
                self._failed(error, identifier, path, started) if is_counted else _shown(error, identifier, path)
            )
            raise shown from shown.__cause__
        finally:
            sampled = trace.end(operation, code, began=started)
            if leave is not None:
                leave()
            if is_limited:
                telemetry.withdraw()
            elif explanations is None:
                telemetry.end(code, time.perf_counter() - started, sampled)
            else:
                telemetry.withdraw()
                explanations.ended(code, time.perf_counter() - started)

    def _failed(self, error: BaseException, identifier: bytes, path: str, started: float) -> tuple[int, BaseException]:
        """Count and log why a request is not answered; the status, and what the client gets to see."""
        self._telemetry.failed(time.perf_counter() - started)
        if isinstance(error, RequestError):
            self._telemetry.refused(type(error))
        if isinstance(error, StepFailed):
            self._telemetry.step_failed(error.step)
        if isinstance(error, InvalidInput) and self.lifecycle.has_model:
            self.lifecycle.serving.observer.refused(error)
        return _shown(error, identifier, path)

    async def explain(
        self,
        codec: ExplanationCodec[P, A],
        read: Callable[[], Awaitable[P]],
        *,
        headers: Mapping[bytes, bytes],
        identifier: bytes,
        operation: str,
        path: str,
        started: float,
        target: tuple[str, str] | None = None,
    ) -> A:
        """Explain the predictions of one request: as `call`, and counted apart; monitoring sees nothing of it."""
        trace = self._tracer.begin(headers)
        code, leave = CLIENT_GONE, None
        try:
            leave = self._enter(headers)
            payload = await read()
            if target is not None:
                self.require_model(*target)
            loaded, explanations = self.lifecycle.serving.loaded, self.explanations
            request = await self._decode(codec, payload, loaded, explanations.limits.max_rows)
            answer = codec.explained(await explanations.explain(request.inputs), request, loaded)
            code = 200
            return answer
        except (Exception, asyncio.CancelledError) as error:
            code, shown = _shown(error, identifier, path)
            raise shown from shown.__cause__
        finally:
            seconds = time.perf_counter() - started
            if leave is not None:
                leave()
            trace.end(operation, code, began=started)
            is_counted = code != STATUS_OF[TooManyRequests].http
            if is_counted and self.lifecycle.has_model and (counted := self.lifecycle.serving.explanations) is not None:
                counted.ended(code, seconds)

    @property
    def explanations(self) -> Explanations:
        """What explains the model. Raises ModelNotReady, or UnknownRoute that says why nothing does."""
        serving = self.lifecycle.serving
        if serving.explanations is None:
            raise UnknownRoute(serving.loaded.unexplained)
        return serving.explanations

    async def stream(
        self,
        codec: Codec[P, A],
        read: Callable[[], Awaitable[P]],
        *,
        headers: Mapping[bytes, bytes],
        identifier: bytes,
        operation: str,
        path: str,
        started: float,
        target: tuple[str, str],
    ) -> AsyncGenerator[A]:
        """Answer one request in the steps of its model, and in one where the model has none; else as `call`.

        Monitoring sees answers in one step only: what a step says is no prediction.
        """
        telemetry = self._telemetry
        telemetry.begin()
        trace = self._tracer.begin(headers)
        code = CLIENT_GONE
        leave, is_limited = None, False
        try:
            leave = self._enter(headers)
            payload = await read()
            self.require_model(*target)
            serving = self.lifecycle.serving
            loaded = serving.loaded
            request = await self._decode(codec, payload, loaded)
            if request.explains:
                raise InvalidInput.at("parameters.explain", "an explanation has no steps: ask for it at infer")
            if isinstance(loaded.model, StreamingModel):
                async with aclosing(serving.batcher.stream(loaded.model, request.inputs)) as steps:
                    async for outputs in steps:
                        yield codec.encode(outputs, request, loaded)
            else:
                outputs = await self.infer(request, identifier=identifier, trace=trace)
                yield codec.encode(outputs, request, loaded)
            code = 200
        except (Exception, asyncio.CancelledError, GeneratorExit) as error:
            is_limited = isinstance(error, TooManyRequests)
            code, shown = (
                _shown(error, identifier, path) if is_limited else self._failed(error, identifier, path, started)
            )
            raise shown from shown.__cause__
        finally:
            if leave is not None:
                leave()
            sampled = trace.end(operation, code, began=started)
            if is_limited:
                telemetry.withdraw()
            else:
                telemetry.end(code, time.perf_counter() - started, sampled)

    def _enter(self, headers: Mapping[bytes, bytes]) -> Callable[[], None] | None:
        """Let a request in; what to call when it is over. Raises Unauthorized or TooManyRequests."""
        return self._key_limits.enter(self.authenticator.check(headers))

    async def _decode(
        self, codec: Codec[P, A] | ExplanationCodec[P, A], payload: P, loaded: LoadedModel, max_rows: int = 0
    ) -> InferenceRequest:
        most = max_rows or self.max_rows
        try:
            if payload.size <= LARGE_BYTES:
                return codec.decode(payload, loaded, max_rows=most)
            return await asyncio.get_running_loop().run_in_executor(
                self._decoder, lambda: codec.decode(payload, loaded, max_rows=most)
            )
        except RecursionError:
            raise MalformedRequest.too_deep() from None

    async def infer(
        self, request: InferenceRequest, *, identifier: bytes, trace: Trace = NO_TRACE, body: bytes = b""
    ) -> Outputs:
        """The model's outputs for a decoded request, in a batch with others'; monitoring sees them.

        The future of `Batcher.submit` is answered by `Batcher._start`, in the next turn of the event loop.
        Raises ModelNotReady, Overloaded, DeadlineExceeded, InputRefused or PredictionError.
        """
        serving = self.lifecycle.serving
        observer = serving.observer
        probabilities = request.probabilities or observer.wants_probabilities
        outputs = await serving.batcher.submit(request.inputs, probabilities=probabilities, trace=trace)
        observer.predicted(identifier, request.inputs, outputs, body)
        if self.lifecycle.awaits_prediction:
            self._telemetry.predicted()
            self.confirm()
        if probabilities and not request.probabilities:
            hidden = serving.loaded.model.probability_output
            return {name: array for name, array in outputs.items() if name != hidden}
        return outputs

    def statistics(self) -> Mapping[str, Any]:
        """What was answered since the server began, as Triton's statistics name it. Raises ModelNotReady."""
        identity, found = self.loaded.identity, self._telemetry.statistics()
        parts = {
            "success": found.success,
            "fail": found.fail,
            "queue": found.queue,
            "compute_input": found.decode,
            "compute_infer": found.predict,
            "compute_output": found.encode,
        }
        return {
            "name": identity.model,
            "version": identity.version,
            "inference_count": found.rows,
            "execution_count": found.calls,
            "inference_stats": {
                name: {"count": total.count, "ns": round(total.value * 1e9)} for name, total in parts.items()
            },
            "batch_stats": [],
        }

    def confirm(self) -> None:
        """Become ready where a worker has seen the model predict, and note what this worker uses; at every tick."""
        self._telemetry.tick()
        if self.lifecycle.awaits_prediction and self._telemetry.has_predicted:
            self.lifecycle.confirm()
            self._telemetry.ready(self.lifecycle.phase is Phase.READY)

    def close(self) -> None:
        """Let the decoding thread go."""
        self._decoder.shutdown(wait=False, cancel_futures=True)


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
    if log.isEnabledFor(level):
        extra = {"request_id": identifier.decode(), "path": shortened(path), "status": code, "reason": error.reason}
        log.log(level, error.message, extra=extra, exc_info=error.__cause__ if code == 500 else None)
