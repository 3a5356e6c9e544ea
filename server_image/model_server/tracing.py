"""Whether a request is part of a trace: its id becomes an exemplar of the metrics, and its times become spans.

The data plane asks a tracer about each prediction, and the batcher notes in the trace when the
model was called. Without OpenTelemetry's settings nothing of OpenTelemetry is imported: what is here costs
a look for one header. The header is W3C's: https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

TRACEPARENT = b"traceparent"

# W3C's form; ids of zeros only are none, and the lowest bit of the flags says that the trace is sampled.
_PARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]([0-9a-f])(-.*)?")


class Trace(Protocol):
    """The trace of one prediction; times are those of `time.perf_counter`."""

    def called(self, *, arrived: float, started: float, seconds: float, rows: int, times: Mapping[str, float]) -> None:
        """The model was called for a batch of so many rows with this request in it; `times` are those of its steps."""

    def end(self, name: str, code: int, *, began: float) -> str:
        """Answered with an HTTP code: the id of the trace in hexadecimal, empty when nobody keeps it.

        `name` is "METHOD route" for HTTP and "service/method" for gRPC.
        """


class Tracer(Protocol):
    """Begins traces, or continues those of the clients."""

    def begin(self, headers: Mapping[bytes, bytes]) -> Trace:
        """A prediction was asked for with these headers."""

    async def close(self) -> None:
        """Send what is left, for a few seconds at most."""


class NoTrace:
    """Nobody keeps a trace of this request."""

    def called(self, *, arrived: float, started: float, seconds: float, rows: int, times: Mapping[str, float]) -> None:
        """Nothing to do."""

    def end(self, name: str, code: int, *, began: float) -> str:
        """No id."""
        return ""


NO_TRACE = NoTrace()


class RemoteParent(NoTrace):
    """A proxy or a client keeps the trace; this server adds nothing to it."""

    def __init__(self, identifier: str) -> None:
        self._identifier = identifier

    def end(self, name: str, code: int, *, began: float) -> str:
        """Its id."""
        return self._identifier


class PropagateOnlyTracer:
    """Knows the traces of others by their `traceparent`."""

    def begin(self, headers: Mapping[bytes, bytes]) -> Trace:
        """The client's trace."""
        given = headers.get(TRACEPARENT)
        return NO_TRACE if given is None else remote_parent(given)

    async def close(self) -> None:
        """Nothing to send."""


def remote_parent(traceparent: bytes) -> Trace:
    """The trace that W3C's header names, if it is well formed and sampled."""
    match = _PARENT.fullmatch(traceparent.strip())
    if match is None or not int(match[2], 16) & 1:
        return NO_TRACE
    return RemoteParent(match[1].decode())
