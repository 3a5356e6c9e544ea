"""Requests in CloudEvents 1.0 over HTTP, in binary and in structured mode; the answer is an event in the same mode.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
Type and source of the answer are KServe's, whose routes and triggers match them.
"""

from __future__ import annotations

import binascii
import uuid
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import orjson

from model_server.domain.model import InferenceRequest, LoadedModel
from model_server.domain.tensors import Outputs
from model_server.errors import InvalidInput, Problem, UnsupportedMediaType
from model_server.protocols.checks import require_object, type_name
from model_server.protocols.payload import JSON, Answer, Payload, parse_json

MEDIA_TYPE = "application/cloudevents+json"
RESPONSE_TYPE = "io.kserve.inference.response"
_ANY_EVENT = b"application/cloudevents"
_REQUIRED = ("id", "source", "specversion", "type")
_MODE = b"ce-specversion"


class _Codec(Protocol):
    """What the events have inside."""

    def decode(self, payload: Payload, loaded: LoadedModel, *, max_rows: int) -> InferenceRequest: ...

    def encode(self, outputs: Outputs, request: InferenceRequest, loaded: LoadedModel) -> Answer: ...


@dataclass(slots=True, kw_only=True)
class EventRequest(InferenceRequest):
    """A request that came as an event."""

    mode: Literal["binary", "structured"]


class Events:
    """The codec of another protocol's documents, alone or as the data of events."""

    def __init__(self, codec: _Codec) -> None:
        self._codec = codec

    def decode(self, payload: Payload, loaded: LoadedModel, *, max_rows: int) -> InferenceRequest:
        """What the other codec reads of the document, or of the event's data. Raises RequestErrors."""
        headers = payload.headers
        if _MODE in headers:
            _check_attributes(
                {name: headers.get(f"ce-{name}".encode(), b"").decode("latin-1") for name in _REQUIRED}, "ce-"
            )
            return _as_event(self._codec.decode(payload, loaded, max_rows=max_rows), "binary")
        if headers.get(b"content-type", JSON)[: len(_ANY_EVENT)].lower() != _ANY_EVENT:
            return self._codec.decode(payload, loaded, max_rows=max_rows)
        if payload.content_type.decode("latin-1") != MEDIA_TYPE:
            raise UnsupportedMediaType(
                f"content-type {payload.content_type.decode('latin-1')!r} is not read here",
                hint=f"Send one event in each request, as {MEDIA_TYPE} or with its attributes in ce- headers.",
            )
        event = require_object(parse_json(payload.body))
        _check_attributes(event, "")
        inner = Payload(_data_of(event), {})
        return _as_event(self._codec.decode(inner, loaded, max_rows=max_rows), "structured")

    def encode(self, outputs: Outputs, request: InferenceRequest, loaded: LoadedModel) -> Answer:
        """The other codec's answer, as an event where the request was one."""
        answer = self._codec.encode(outputs, request, loaded)
        if not isinstance(request, EventRequest):
            return answer
        attributes = {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": f"io.kserve.inference.{loaded.identity.model}",
            "type": RESPONSE_TYPE,
            "time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        }
        if request.mode == "binary":
            headers = [(f"ce-{name}".encode(), value.encode()) for name, value in attributes.items()]
            return Answer(answer.body, answer.content_type, [*answer.headers, *headers])
        event = {**attributes, "datacontenttype": JSON.decode(), "data": orjson.Fragment(answer.body)}
        return Answer(orjson.dumps(event), MEDIA_TYPE.encode(), answer.headers)


def _as_event(request: InferenceRequest, mode: Literal["binary", "structured"]) -> EventRequest:
    return EventRequest(**{one.name: getattr(request, one.name) for one in fields(InferenceRequest)}, mode=mode)


def _check_attributes(attributes: Mapping[str, Any], prefix: str) -> None:
    """Raise InvalidInput that names the attributes at fault, as the request has them."""
    problems = []
    for name in _REQUIRED:
        value = attributes.get(name, "")
        if not isinstance(value, str):
            problems.append(Problem(f"{prefix}{name}", f"expected a string, got {type_name(value)}"))
        elif not value:
            problems.append(Problem(f"{prefix}{name}", "is missing"))
    if not problems and attributes["specversion"] != "1.0":
        problems.append(Problem(f"{prefix}specversion", f"expected 1.0, got {attributes['specversion']}"))
    if problems:
        raise InvalidInput(problems)


def _data_of(event: Mapping[str, Any]) -> bytes:
    """The event's data as a JSON document. Raises InvalidInput or UnsupportedMediaType."""
    kind = event.get("datacontenttype")
    media_type = kind.split(";")[0].strip().lower() if isinstance(kind, str) else kind
    if media_type is not None and media_type != "application/json" and not str(media_type).endswith("+json"):
        raise UnsupportedMediaType(f"datacontenttype {kind!r} is not read here", hint="Send application/json.")
    if ("data" in event) == ("data_base64" in event):
        what = "expected one of data and data_base64, got both" if "data" in event else "is missing"
        raise InvalidInput.at("data", what)
    if "data" in event:
        return orjson.dumps(event["data"])
    try:
        return b64decode(event["data_base64"], validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise InvalidInput.at("data_base64", "expected text in base64") from None
