"""The data plane: answers a request for predictions, whichever protocol brings it.

HTTP, gRPC and messages are translated (`http/`, `grpc/`, `messaging/`), a codec of `protocols/` decodes and encodes,
and what happens in between stands here once: who may ask, whether the model is ready and the right one, timing,
batching, monitoring, and what becomes of an error.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from typing import Any, Protocol, TypeVar, cast

from model_server.auth import Authenticator
from model_server.domain.explanations import Explanation
from model_server.domain.model import InferenceRequest, LoadedModel, StreamingModel
from model_server.domain.tensors import Outputs, rows_of
from model_server.errors import (
    InvalidInput,
    MalformedRequest,
    UnknownModel,
    UnknownRoute,
)
from model_server.explanations import Explanations
from model_server.key_limits import KeyLimits
from model_server.lifecycle import Lifecycle, Phase
from model_server.open_request import OpenRequest
from model_server.protocols.checks import limit_rows
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

    @contextmanager
    def taking_feedback(self, headers: Mapping[bytes, bytes]) -> Iterator[None]:
        """Read and count feedback within the limits of its key. Raises Unauthorized or TooManyRequests."""
        leave = self._key_limits.enter(self.authenticator.check(headers), is_feedback=True)
        try:
            yield
        finally:
            leave()

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
        telemetry, trace = self._telemetry, self._tracer.begin(headers)
        with OpenRequest(telemetry, self.lifecycle, trace, identifier, operation, path, started) as asked:
            if not is_trusted:
                asked.leave = self._enter(headers)
            payload = await read()
            if target is not None:
                self.require_model(*target)
            loaded = self.lifecycle.serving.loaded
            began = time.perf_counter()
            request = await self._decode(codec, payload, loaded)
            if request.explains:
                asked.explanations = explanations = self.explanations
                limit_rows(rows_of(request.inputs), explanations.limits.max_rows, "inputs[0].shape")
                explained = await explanations.explain(request.inputs)
                # A codec that reads this wish answers it, too.
                return cast(ExplanationCodec[P, A], codec).explained(explained, request, loaded)
            telemetry.decoded(time.perf_counter() - began)
            outputs = await self.infer(request, identifier=identifier, trace=trace, body=payload.body)
            began = time.perf_counter()
            answer = codec.encode(outputs, request, loaded)
            telemetry.encoded(time.perf_counter() - began)
            return answer

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
        telemetry, trace = self._telemetry, self._tracer.begin(headers)
        known = self.lifecycle.serving.explanations if self.lifecycle.has_model else None
        with OpenRequest(
            telemetry, self.lifecycle, trace, identifier, operation, path, started, is_prediction=False
        ) as asked:
            asked.explanations = known
            asked.leave = self._enter(headers)
            payload = await read()
            if target is not None:
                self.require_model(*target)
            loaded, asked.explanations = self.lifecycle.serving.loaded, self.explanations
            request = await self._decode(codec, payload, loaded, asked.explanations.limits.max_rows)
            return codec.explained(await asked.explanations.explain(request.inputs), request, loaded)

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
        telemetry, trace = self._telemetry, self._tracer.begin(headers)
        with OpenRequest(telemetry, self.lifecycle, trace, identifier, operation, path, started) as asked:
            asked.leave = self._enter(headers)
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

    def _enter(self, headers: Mapping[bytes, bytes]) -> Callable[[], None]:
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
