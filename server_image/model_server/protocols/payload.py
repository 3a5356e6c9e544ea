"""A request's body as a decoder gets it, and an answer's as an encoder gives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from model_server.errors import MalformedRequest, UnsupportedMediaType

JSON = b"application/json"


@dataclass(slots=True)
class Payload:
    """A whole body with its headers, whose names are in lower case."""

    body: bytes
    headers: Mapping[bytes, bytes]

    @property
    def size(self) -> int:
        """How many bytes the body has."""
        return len(self.body)

    @property
    def content_type(self) -> bytes:
        """The media type without parameters, in lower case; JSON when the client names none."""
        return self.headers.get(b"content-type", JSON).split(b";")[0].strip().lower()

    def json(self) -> Any:
        """The body as JSON. Raises UnsupportedMediaType or MalformedRequest with the place of the fault."""
        if self.content_type != JSON:
            raise UnsupportedMediaType(
                f"content-type {self.content_type.decode('latin-1')!r} is not read here",
                hint="Send application/json, with curl: -H 'content-type: application/json'",
            )
        return parse_json(self.body)


@dataclass(slots=True)
class Answer:
    """An answer's body, what it is, the headers that it needs, and its HTTP status."""

    body: bytes
    content_type: bytes = JSON
    headers: Sequence[tuple[bytes, bytes]] = ()
    status: int = 200


def parse_json(text: bytes) -> Any:
    """A JSON document. Raises MalformedRequest with the place of the fault."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        # What Python's json writes for them, and no other reader takes.
        hint = "JSON has no NaN and no Infinity: write null." if b"NaN" in text or b"Infinity" in text else ""
        raise MalformedRequest(f"the body is not JSON: {error}" if text else "the body is empty", hint=hint) from None
