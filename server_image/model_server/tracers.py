"""Opens the tracer that the environment asks for, with OpenTelemetry's own variables."""

from __future__ import annotations

from collections.abc import Mapping

from model_server.errors import DependencyMissing, SettingsInvalid
from model_server.settings import Settings
from model_server.tracing import PropagateOnlyTracer, Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def open_tracer(environ: Mapping[str, str], settings: Settings) -> Tracer:
    """A tracer as OpenTelemetry's standard variables say: spans when an OTLP endpoint is configured.

    Raises SettingsInvalid for another protocol than OTLP over HTTP, and DependencyMissing without its library.
    """
    has_endpoint = any(environ.get(name) for name in _ENDPOINTS) and environ.get("OTEL_TRACES_EXPORTER") != "none"
    if not has_endpoint or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return PropagateOnlyTracer()
    for name in _PROTOCOLS:
        if environ.get(name, "") not in ("", "http/protobuf"):
            raise SettingsInvalid(
                f"{name}={environ[name]} is not spoken here",
                hint="Set it to http/protobuf, and the endpoint to the collector's HTTP port, usually 4318.",
            )
    try:
        from model_server.spans import SpanTracer
    except ModuleNotFoundError as error:
        raise DependencyMissing(
            f"traces need {error.name}, which is not installed", hint="Install modeldeploy[server-otel]."
        ) from None
    about = {
        "service.name": settings.name,
        "service.namespace": settings.namespace,
        "modeldeploy.revision": settings.revision,
    }
    return SpanTracer({name: value for name, value in about.items() if value})
