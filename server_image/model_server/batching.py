"""Gathers concurrent requests into one call of the model; the data plane submits, one call runs at a time.

There is no timer to wait out: an idle model is called in the next turn of the event loop, with
whatever requests have arrived by then, and requests that come during a call make up the next one.
Only after a long call does the batcher wait a moment for the clients it has just answered, because
two alternating half-full batches cost twice as much as one full one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

from model_server.domain.model import Model, SteppedModel, StepTimes, StreamingModel
from model_server.domain.tensors import Array, Inputs, Outputs, rows_of
from model_server.errors import (
    DeadlineExceeded,
    InputRefused,
    ModelServerError,
    Overloaded,
    PredictionError,
    first_line,
)
from model_server.tracing import NO_TRACE, Trace

log = logging.getLogger(__name__)

#: A call that takes so many times as long as any client waits is taken for one that never ends.
HANG_FACTOR = 10

T = TypeVar("T")

_Key: TypeAlias = tuple[object, ...]
# Each request's outputs or error, when the call began, how long it took, its processor time, and the time of each step.
_Result: TypeAlias = tuple[list[Outputs | Exception], float, float, float, StepTimes]
_NO_STEPS: StepTimes = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """What a batch and the queue may hold."""

    max_rows: int
    max_delay_seconds: float
    max_queue: int
    timeout_seconds: float
    # A call expected to be shorter than this runs on the event loop: a thread costs more than it saves.
    inline_seconds: float = 0.0007
    # Share of a long call's time that is worth waiting for the clients just answered.
    linger_share: float = 0.25


class BatchObserver(Protocol):
    """Observes every call of the model."""

    def batch(self, *, rows: int, seconds: float, queued: float) -> None: ...

    def stepped(self, times: StepTimes) -> None:
        """The call had steps around the model."""


@dataclass(slots=True, eq=False)
class _Waiting:
    inputs: Inputs
    rows: int
    probabilities: bool
    key: _Key
    future: asyncio.Future[Outputs]
    arrived: float
    trace: Trace


class Batcher:
    """Owns the queue of one model. Call it from one event loop; `close` it there too.

    `threads` are those of several models, each of which still has one call at a time; by default it has its own.
    """

    def __init__(
        self, model: Model, limits: BatchLimits, observer: BatchObserver, *, threads: Executor | None = None
    ) -> None:
        self._model = model
        self._stepped = model if isinstance(model, SteppedModel) else None
        self._limits = limits
        self._observer = observer
        self._queue: list[_Waiting] = []
        self._is_running = False
        self._streams = 0
        # Calls that wait until no request does.
        self._idle: deque[tuple[asyncio.Future[Any], Callable[[], Any]]] = deque()
        # When the running call began.
        self._began = 0.0
        self._is_scheduled = False
        self._linger: asyncio.TimerHandle | None = None
        # In the order of arrival, and so of their deadlines: one timer serves them all.
        self._unanswered: deque[_Waiting] = deque()
        self._deadline: asyncio.TimerHandle | None = None
        self._expected = 0
        self._seconds = limits.inline_seconds * 2
        self._rows = 1.0
        self._loop = asyncio.get_running_loop()
        # One thread: several would fight over the interpreter lock, and models need not be thread-safe.
        self._thread: Executor = threads or ThreadPoolExecutor(1, "predict")
        self._owns_thread = threads is None

    @property
    def waiting(self) -> int:
        """Requests that are not yet handed to the model."""
        return len(self._queue)

    @property
    def hung_seconds(self) -> float:
        """How long a call has been running that will hardly return; 0 when there is none."""
        seconds = time.perf_counter() - self._began
        return seconds if self._is_running and seconds > HANG_FACTOR * self._limits.timeout_seconds else 0.0

    def submit(
        self, inputs: Inputs, *, probabilities: bool = False, trace: Trace = NO_TRACE
    ) -> asyncio.Future[Outputs]:
        """Queue one request; the future gives its outputs, row for row.

        Raises Overloaded when the queue is full. The future raises DeadlineExceeded, InputRefused when
        the model refuses the values, or PredictionError.
        """
        limits = self._limits
        if len(self._queue) >= limits.max_queue:
            raise Overloaded(f"{limits.max_queue} requests are waiting already", hint="Try again after a moment.")
        loop = self._loop
        future: asyncio.Future[Outputs] = loop.create_future()
        item = _Waiting(
            inputs, rows_of(inputs), probabilities, _key(inputs, probabilities), future, time.perf_counter(), trace
        )
        self._queue.append(item)
        self._unanswered.append(item)
        if self._deadline is None:
            self._deadline = loop.call_later(limits.timeout_seconds, self._expire)
        if self._linger is not None:
            if len(self._queue) >= self._expected:
                self._linger.cancel()
                self._start_after_linger()
        elif not self._is_running and not self._is_scheduled:
            self._is_scheduled = True
            loop.call_soon(self._start)
        return future

    def when_idle(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Run a short call in the model's thread while no request waits; the future gives what it returns or raises.

        Requests that come meanwhile wait for this one call, and go before all others.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._idle.append((future, call))
        if self._linger is None and not self._is_running and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._start)
        return future

    async def stream(self, model: StreamingModel, inputs: Inputs) -> AsyncGenerator[Outputs]:
        """The steps of one answer. Each runs in the model's thread, between the calls for other requests.

        Raises Overloaded when as many streams are open as requests may wait; DeadlineExceeded when a step takes longer
        than a request may; InputRefused or PredictionError.
        """
        limits = self._limits
        if self._streams >= limits.max_queue:
            raise Overloaded(f"{limits.max_queue} streams are open already", hint="Try again after a moment.")
        self._streams += 1
        rows = rows_of(inputs)
        steps = model.stream({name: array.copy() for name, array in inputs.items()})
        try:
            while (outputs := await self._step(steps)) is not None:
                for name, array in outputs.items():
                    if array.ndim == 0 or len(array) != rows:
                        raise _wrong_rows(name, array, rows)
                yield outputs
        finally:
            self._streams -= 1
            # Behind the step that may be running: a generator cannot be closed meanwhile.
            self._thread.submit(_close, steps)

    async def _step(self, steps: Iterator[Outputs]) -> Outputs | None:
        """The next step, None at the end."""
        seconds = self._limits.timeout_seconds
        try:
            return await asyncio.wait_for(self._loop.run_in_executor(self._thread, _next_step, steps), seconds)
        except TimeoutError:
            raise DeadlineExceeded(f"no step of the answer within {seconds:g} s") from None
        except Exception as error:
            raise translated(error) from error.__cause__

    def close(self) -> None:
        """Let the thread go; nothing may be submitted afterwards."""
        for timer in (self._linger, self._deadline):
            if timer is not None:
                timer.cancel()
        while self._idle:
            self._idle.popleft()[0].cancel()
        if self._owns_thread:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _expire(self) -> None:
        """Give up on the requests whose deadline has passed, and wait for the next one's."""
        self._deadline = None
        seconds, unanswered, now = self._limits.timeout_seconds, self._unanswered, time.perf_counter()
        while unanswered and (unanswered[0].future.done() or unanswered[0].arrived + seconds <= now):
            item = unanswered.popleft()
            if not item.future.done():
                item.future.set_exception(DeadlineExceeded(f"no prediction within {seconds:g} s"))
        if unanswered:
            self._deadline = self._loop.call_later(unanswered[0].arrived + seconds - now, self._expire)

    def _start_after_linger(self) -> None:
        self._linger = None
        if self._queue or self._idle:
            self._start()

    def _start(self) -> None:
        self._is_scheduled = False
        batch = self._take()
        if not batch:
            if self._idle:
                self._start_idle()
            return
        rows = sum(item.rows for item in batch)
        if self._model.runs_inline and self._estimate(rows) < self._limits.inline_seconds:
            self._answer(batch, *self._run(batch))
            return
        self._is_running = True
        self._began = time.perf_counter()
        job = self._loop.run_in_executor(self._thread, self._run, batch)
        job.add_done_callback(lambda done: self._finish(batch, done))

    def _start_idle(self) -> None:
        future, call = self._idle.popleft()
        while future.done() and self._idle:
            future, call = self._idle.popleft()
        if future.done():
            return
        self._is_running = True
        self._began = time.perf_counter()
        job = self._loop.run_in_executor(self._thread, _guarded, call)
        job.add_done_callback(lambda done: self._finish_idle(future, done))

    def _finish_idle(self, future: asyncio.Future[T], job: asyncio.Future[T]) -> None:
        self._is_running = False
        if job.cancelled():
            future.cancel()
            return
        error = job.exception()
        if not future.done():
            if error is None:
                future.set_result(job.result())
            else:
                future.set_exception(error)
        if (self._queue or self._idle) and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._start)

    def _take(self) -> list[_Waiting]:
        """The oldest request, and those behind it that fit into the same call."""
        queue = self._queue
        if len(queue) == 1 and not queue[0].future.done():
            self._queue = []
            return queue
        queue = [item for item in queue if not item.future.done()]
        if not queue:
            self._queue = queue
            return []
        key, room = queue[0].key, self._limits.max_rows
        batch: list[_Waiting] = []
        rest: list[_Waiting] = []
        for item in queue:
            if item.key == key and (not batch or item.rows <= room):
                batch.append(item)
                room -= item.rows
            else:
                rest.append(item)
        self._queue = rest
        return batch

    def _estimate(self, rows: int) -> float:
        """Seconds a call may take: as the recent ones, and longer in proportion for more rows."""
        return self._seconds * max(1.0, rows / self._rows)

    def _run(self, batch: list[_Waiting]) -> _Result:
        """Call the model for a batch; when that fails, for each request alone: one cannot harm another."""
        stepped = self._stepped
        if stepped is not None:
            stepped.take_times()  # of explanations and streams, which are no batches
        started, worked = time.perf_counter(), time.thread_time()
        results: list[Outputs | Exception]
        try:
            results = list(_split(self._call(_joined(batch), batch[0]), batch))
        except Exception as error:
            results = [error] if len(batch) == 1 else [self._alone(item) for item in batch]
        times = _NO_STEPS if stepped is None else stepped.take_times()
        return results, started, time.perf_counter() - started, time.thread_time() - worked, times

    def _call(self, inputs: Inputs, like: _Waiting) -> Outputs:
        try:
            return self._model.predict(inputs, probabilities=like.probabilities)
        except SystemExit as end:
            # A script's habit in a package's code: it would take the server and everybody's answers with it.
            raise RuntimeError("the model's code called sys.exit") from end

    def _alone(self, item: _Waiting) -> Outputs | Exception:
        try:
            (outputs,) = _split(self._call(_joined([item]), item), [item])
        except Exception as error:
            return error
        return outputs

    def _finish(self, batch: list[_Waiting], job: asyncio.Future[_Result]) -> None:
        self._is_running = False
        if job.cancelled():
            return
        self._answer(batch, *job.result())

    def _answer(
        self,
        batch: list[_Waiting],
        results: list[Outputs | Exception],
        started: float,
        seconds: float,
        worked: float,
        times: StepTimes,
    ) -> None:
        rows = sum(item.rows for item in batch)
        # Processor time, because on a busy machine the clock also counts what others do.
        self._seconds += 0.1 * (worked - self._seconds)
        self._rows += 0.1 * (rows - self._rows)
        for item, result in zip(batch, results, strict=True):
            item.trace.called(arrived=item.arrived, started=started, seconds=seconds, rows=rows, times=times)
            if item.future.done():
                continue
            if isinstance(result, Exception):
                item.future.set_exception(translated(result))
            else:
                item.future.set_result(result)
        unanswered = self._unanswered
        while unanswered and unanswered[0].future.done():
            unanswered.popleft()
        self._observer.batch(rows=rows, seconds=seconds, queued=started - batch[0].arrived)
        if times:
            self._observer.stepped(times)
        self._schedule_next(len(batch))

    def _schedule_next(self, answered: int) -> None:
        delay = min(self._limits.linger_share * self._seconds, self._limits.max_delay_seconds)
        if self._seconds >= self._limits.inline_seconds and delay > 0:
            self._expected = answered + len(self._queue)
            self._linger = self._loop.call_later(delay, self._start_after_linger)
        elif (self._queue or self._idle) and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._start)


def _key(inputs: Inputs, probabilities: bool) -> _Key:
    """What must be equal for two requests to share a call."""
    key: list[object] = [probabilities]
    for name, array in inputs.items():
        key += (name, array.dtype, array.shape[1:])
    return tuple(key)


def _joined(batch: list[_Waiting]) -> Inputs:
    """The rows of a batch, in arrays of the call's own: a model may compute in place, and bytes are read-only.

    Monitoring looks at the requests' arrays afterwards, and a failed batch is tried again from them.
    """
    if len(batch) == 1:
        return {name: array.copy() for name, array in batch[0].inputs.items()}
    return {name: np.concatenate([item.inputs[name] for item in batch]) for name in batch[0].inputs}


def _guarded(call: Callable[[], T]) -> T:
    try:
        return call()
    except SystemExit as end:
        raise RuntimeError("the model's code called sys.exit") from end


def _next_step(steps: Iterator[Outputs]) -> Outputs | None:
    try:
        return next(steps, None)
    except SystemExit as end:
        raise RuntimeError("the model's code called sys.exit") from end


def _close(steps: Iterator[Outputs]) -> None:
    """Let a generator end where it stands; what its code raises then is nobody's answer."""
    close = getattr(steps, "close", None)
    if close is not None:
        try:
            close()
        except (Exception, SystemExit):
            log.exception("the model failed at the end of a stream")


def _wrong_rows(name: str, array: Array, rows: int) -> PredictionError:
    answered = len(array) if array.ndim else "one value"
    return PredictionError(f"the model answered {answered} for {rows} rows in {name}")


def _split(outputs: Outputs, batch: list[_Waiting]) -> list[Outputs]:
    rows = sum(item.rows for item in batch)
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != rows:
            raise _wrong_rows(name, array, rows)
    if len(batch) == 1:
        return [outputs]
    parts, start = [], 0
    for item in batch:
        parts.append({name: array[start : start + item.rows] for name, array in outputs.items()})
        start += item.rows
    return parts


def translated(error: Exception) -> Exception:
    """What a client sees of an error in a call of the model.

    A ValueError is Python's and scikit-learn's word for values that a function cannot take."""
    if isinstance(error, ModelServerError):
        return error
    text = first_line(error, most=300)
    if isinstance(error, ValueError):
        return InputRefused.at("", f"the model refused this input: {text}")
    # The text of other errors is the model author's, not the client's: it goes to the log.
    failure = PredictionError("the model failed on this input")
    failure.__cause__ = error
    return failure
