"""What each refusal is called over HTTP and over gRPC: the only table that knows errors and protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from model_server.errors import (
    DeadlineExceeded,
    InputRefused,
    InvalidInput,
    MalformedRequest,
    MethodNotAllowed,
    ModelNotReady,
    ModelPutAside,
    ModelUnloadable,
    OperationNotSupported,
    Overloaded,
    PredictionError,
    RequestError,
    RequestTimeout,
    RequestTooLarge,
    StepFailed,
    TooManyRequests,
    Unauthorized,
    UnknownModel,
    UnknownPrediction,
    UnknownRoute,
    UnsupportedMediaType,
    UpstreamFailed,
)


class Status(NamedTuple):
    """A status code of HTTP, and the name of one of gRPC (https://grpc.io/docs/guides/status-codes/)."""

    http: int
    grpc: str


STATUS_OF: Mapping[type[RequestError], Status] = {
    MalformedRequest: Status(400, "INVALID_ARGUMENT"),
    InvalidInput: Status(422, "INVALID_ARGUMENT"),
    InputRefused: Status(422, "INVALID_ARGUMENT"),
    UnknownRoute: Status(404, "UNIMPLEMENTED"),
    Unauthorized: Status(401, "UNAUTHENTICATED"),
    UnknownModel: Status(404, "NOT_FOUND"),
    UnknownPrediction: Status(404, "NOT_FOUND"),
    MethodNotAllowed: Status(405, "UNIMPLEMENTED"),
    OperationNotSupported: Status(400, "UNIMPLEMENTED"),
    RequestTimeout: Status(408, "DEADLINE_EXCEEDED"),
    RequestTooLarge: Status(413, "INVALID_ARGUMENT"),
    TooManyRequests: Status(429, "RESOURCE_EXHAUSTED"),
    UnsupportedMediaType: Status(415, "INVALID_ARGUMENT"),
    ModelNotReady: Status(503, "UNAVAILABLE"),
    ModelUnloadable: Status(503, "UNAVAILABLE"),
    ModelPutAside: Status(503, "UNAVAILABLE"),
    Overloaded: Status(503, "RESOURCE_EXHAUSTED"),
    UpstreamFailed: Status(502, "UNAVAILABLE"),
    DeadlineExceeded: Status(504, "DEADLINE_EXCEEDED"),
    PredictionError: Status(500, "INTERNAL"),
    StepFailed: Status(500, "INTERNAL"),
}

#: What a model, its schema or the server's limits refuse: counted apart, because a new version may refuse what the
#: old one answers.
REFUSALS: Sequence[type[RequestError]] = (
    InvalidInput,
    InputRefused,
    MalformedRequest,
    RequestTooLarge,
    UnsupportedMediaType,
)

#: Nobody reads the answer any more: the status that proxies log for it.
CLIENT_GONE = 499

#: The challenge that makes a browser ask for a password (https://www.rfc-editor.org/rfc/rfc7617).
_BASIC = b'Basic realm="The password is an API key", charset="UTF-8"'


def error_document(error: RequestError) -> dict[str, object]:
    """The JSON of an error: `error` is the sentence that V2 asks for, the rest is for programs."""
    document: dict[str, object] = {"error": error.message, "reason": error.reason}
    if error.hint:
        document["hint"] = error.hint
    if isinstance(error, InvalidInput):
        document["details"] = [{"field": problem.field, "message": problem.message} for problem in error.problems]
    return document


def error_fields(error: RequestError) -> list[tuple[bytes, bytes]]:
    """The header fields of an error's answer."""
    fields: list[tuple[bytes, bytes]] = []
    if isinstance(error, MethodNotAllowed):
        fields.append((b"allow", ", ".join(error.allowed).encode()))
    if isinstance(error, Unauthorized):
        fields.append((b"www-authenticate", _BASIC if error.by_browser else b"Bearer"))
    if STATUS_OF[type(error)].http == 503:
        fields.append((b"retry-after", b"1"))
    if isinstance(error, TooManyRequests):
        fields.append((b"retry-after", b"%d" % error.retry_after))
    return fields
