"""What the front and its worker processes say to each other: msgpack behind its length, over a socket pair."""

from __future__ import annotations

import asyncio
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from model_server import errors
from model_server.errors import InvalidInput, PredictionError, Problem, RequestError
from model_server.pool.catalog import ListedModel

LENGTH_BYTES = 4


class Load(Struct, frozen=True, tag=True, array_like=True):
    """Bring a model to memory, under a number that is never given twice."""

    number: int
    model: ListedModel


class Unload(Struct, frozen=True, tag=True, array_like=True):
    """Release models that answer nothing."""

    numbers: tuple[int, ...]


class Call(Struct, frozen=True, tag=True, array_like=True):
    """Answer one request."""

    number: int
    version: str
    codec: str
    path: str
    identifier: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Describe(Struct, frozen=True, tag=True, array_like=True):
    """Give V2's metadata of a model."""

    number: int


class Document(Struct, frozen=True, tag=True, array_like=True):
    """Give what the OpenAPI document says of a model."""

    number: int


class Check(Struct, frozen=True, tag=True, array_like=True):
    """Tell which models have a call that does not return."""


Question: TypeAlias = Load | Unload | Call | Describe | Document | Check


class Asked(Struct, frozen=True, array_like=True):
    """A question with the number of its answer."""

    id: int
    question: Question


class Loaded(Struct, frozen=True, tag=True, array_like=True):
    """A model is in memory. `bytes` is how much the process has grown by it; 0 where libraries came with it."""

    version: str
    bytes: int
    seconds: float


class NotLoaded(Struct, frozen=True, tag=True, array_like=True):
    """A model could not be loaded: a StartError."""

    reason: str
    message: str
    hint: str
    is_permanent: bool


class Done(Struct, frozen=True, tag=True, array_like=True):
    """What was asked for is done; `numbers` of the models with a call that does not return."""

    numbers: tuple[int, ...] = ()


class Answered(Struct, frozen=True, tag=True, array_like=True):
    """A prediction, an explanation, or a document."""

    body: bytes
    content_type: bytes
    headers: list[tuple[bytes, bytes]]
    explains: bool = False


class Refused(Struct, frozen=True, tag=True, array_like=True):
    """A RequestError."""

    reason: str
    message: str
    hint: str
    problems: list[tuple[str, str]]
    explains: bool = False


Reply: TypeAlias = Loaded | NotLoaded | Done | Answered | Refused


class Replied(Struct, frozen=True, array_like=True):
    """A reply with the number of its question."""

    id: int
    reply: Reply


_encode = msgspec.msgpack.Encoder().encode
decode_asked = msgspec.msgpack.Decoder(Asked).decode
decode_replied = msgspec.msgpack.Decoder(Replied).decode


def framed(message: Asked | Replied) -> bytes:
    """A message with its length."""
    body = _encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """The next message. Raises asyncio.IncompleteReadError when the other side has ended."""
    length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
    return await reader.readexactly(length)


def refusal_of(error: RequestError, *, explains: bool = False) -> Refused:
    """An error as a message; `explains` where an explanation was asked for."""
    problems = [(one.field, one.message) for one in error.problems] if isinstance(error, InvalidInput) else []
    return Refused(error.reason, error.message, error.hint, problems, explains)


class Reported(Exception):
    """The cause of an error that a process has logged, with its trace; `explains` as in `Refused`."""

    def __init__(self, *, explains: bool) -> None:
        super().__init__()
        self.explains = explains


def error_of(refused: Refused) -> RequestError:
    """The error of a message."""
    error = _error_of(refused)
    error.__cause__ = Reported(explains=refused.explains)
    return error


def _error_of(refused: Refused) -> RequestError:
    kind: Any = getattr(errors, refused.reason, PredictionError)
    if issubclass(kind, InvalidInput):
        return _invalid(kind, refused)
    error: RequestError = kind(refused.message, hint=refused.hint)
    return error


def _invalid(kind: type[InvalidInput], refused: Refused) -> InvalidInput:
    error = kind([Problem(field, message) for field, message in refused.problems], hint=refused.hint)
    error.message = refused.message
    return error
