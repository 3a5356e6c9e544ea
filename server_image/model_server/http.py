"""The little of HTTP that the routes need: a request that was read whole, a response, and their limits."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

from model_server.errors import MalformedRequest, RequestTimeout, RequestTooLarge, UnsupportedMediaType

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

JSON = b"application/json"
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class Disconnected(Exception):
    """The client went away before its request was whole: there is nobody to answer."""


@dataclass(slots=True)
class Request:
    """A request whose body has arrived."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    body: bytes = b""
    params: dict[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """The body as JSON. Raises UnsupportedMediaType or MalformedRequest with the place of the fault."""
        media_type = self.headers.get(b"content-type", JSON).split(b";")[0].strip().lower()
        if media_type != JSON:
            raise UnsupportedMediaType(
                f"content-type {media_type.decode('latin-1')!r} is not read here",
                hint="Send application/json, with curl: -H 'content-type: application/json'",
            )
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            text = "the body is empty" if not self.body else f"the body is not JSON: {error}"
            raise MalformedRequest(text) from None


@dataclass(slots=True)
class Response:
    """A whole answer."""

    status: int
    body: bytes
    media_type: bytes = JSON
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


def json_response(document: Any, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(status, orjson.dumps(document))


def request_id(headers: dict[bytes, bytes]) -> bytes:
    """The client's `x-request-id` when it is short and printable, else a new one."""
    given = headers.get(b"x-request-id")
    return given if given is not None and _REQUEST_ID.fullmatch(given) else secrets.token_hex(8).encode()


async def read_body(headers: dict[bytes, bytes], receive: Receive, *, limit: int, timeout_seconds: float) -> bytes:
    """The whole body. Raises RequestTooLarge (at once if declared so), RequestTimeout, Disconnected."""
    declared = headers.get(b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise RequestTooLarge(f"the body has {int(declared)} bytes, and {limit} are allowed")
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_seconds):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Disconnected
                chunk: bytes = message.get("body", b"")
                size += len(chunk)
                if size > limit:
                    raise RequestTooLarge(f"the body has more than {limit} bytes")
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return chunk if len(chunks) == 1 else b"".join(chunks)
    except TimeoutError:
        raise RequestTimeout(f"the body did not arrive within {timeout_seconds:g} s") from None
