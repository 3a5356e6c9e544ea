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
