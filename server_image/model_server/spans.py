"""Spans for an OTLP collector; `tracers.py` imports this only when one is configured.

A prediction is one span, with its wait and its call of the model inside. They are made when the request is
answered, from times that were taken anyway: nothing is kept in context variables meanwhile. Sampling,
resource, limits and the exporter follow OpenTelemetry's own variables (`OTEL_*`).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from model_server import version
from model_server.tracing import TRACEPARENT

# What a collector that does not answer may cost the end of the server.
CLOSING_SECONDS = 3.0

_TRACESTATE = b"tracestate"


class SpanTrace:
    """The times of one prediction, from which its spans are made."""

    def __init__(self, tracer: Tracer, propagator: TraceContextTextMapPropagator, headers: Mapping[bytes, bytes]):
        self._tracer = tracer
        self._propagator = propagator
        self._carrier = {
            name.decode(): headers[name].decode("latin-1") for name in (TRACEPARENT, _TRACESTATE) if name in headers
        }
        self._calls: list[tuple[float, float, float, int, Mapping[str, float]]] = []

    def called(self, *, arrived: float, started: float, seconds: float, rows: int, times: Mapping[str, float]) -> None:
        """Remember the times of the call."""
        self._calls.append((arrived, started, seconds, rows, times))

    def end(self, name: str, code: int, *, began: float) -> str:
        """Make the spans."""
        # The wall clock of now and the monotonic clock's differences: spans never run backwards.
        epoch, now = time.time_ns(), time.perf_counter()

        def at(moment: float) -> int:
            return epoch - int((now - moment) * 1e9)

        span = self._tracer.start_span(
            name,
            context=self._propagator.extract(self._carrier),
            kind=SpanKind.SERVER,
            attributes=_attributes(name, code),
            start_time=at(began),
        )
        if span.is_recording():
            if code >= 500:
                span.set_status(Status(StatusCode.ERROR))
            inside = set_span_in_context(span)
            for arrived, started, seconds, rows, times in self._calls:
                self._tracer.start_span("queue", context=inside, start_time=at(arrived)).end(at(started))
                call = self._tracer.start_span(
                    "predict", context=inside, start_time=at(started), attributes={"modeldeploy.batch.rows": rows}
                )
                within, moment = set_span_in_context(call), started
                for step, spent in times.items():
                    # One after the other, as they were called.
                    self._tracer.start_span(step, context=within, start_time=at(moment)).end(at(moment + spent))
                    moment += spent
                call.end(at(started + seconds))
        span.end(epoch)
        context = span.get_span_context()
        return format_trace_id(context.trace_id) if context.trace_flags.sampled else ""


class SpanTracer:
    """Gives every prediction its spans and sends them in the background."""

    def __init__(self, about: Mapping[str, str]) -> None:
        # What the variables say goes before what is known here.
        resource = Resource(about).merge(_configured())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("model_server", version())
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, headers: Mapping[bytes, bytes]) -> SpanTrace:
        """Continue the client's trace, or begin one."""
        return SpanTrace(self._tracer, self._propagator, headers)

    async def close(self) -> None:
        """Send what is left; a collector that does not answer is not waited for."""
        closing = threading.Thread(target=self._provider.shutdown, name="close-traces", daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, CLOSING_SECONDS)


def _attributes(name: str, code: int) -> dict[str, str | int]:
    """In the words of OpenTelemetry's semantic conventions."""
    method, _, route = name.partition(" ")
    if route:
        return {"http.request.method": method, "http.route": route, "http.response.status_code": code}
    service, _, method = name.partition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}


def _configured() -> Resource:
    """What the variables say, without the SDK's word for a service that has no name."""
    found = Resource.create()
    unknown = str(found.attributes.get("service.name", "")).startswith("unknown_service")
    return Resource({key: value for key, value in found.attributes.items() if not (unknown and key == "service.name")})
