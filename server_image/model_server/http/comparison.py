"""The application of the comparison port, which no Service leads to: recent predictions and replays, for the operator.

Its answers are those of other people's requests, so no gateway may reach it, and only the operator has the token for
it. Where the server was given none, this port wants an API key like the other, if there are any. docs/wire.md has the
form of question and answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from model_server.auth import Authenticator
from model_server.dataplane import DataPlane
from model_server.errors import InvalidInput, Problem
from model_server.http.application import Application
from model_server.http.body import BodyTimeouts, RequestLimits, read_body
from model_server.http.keys import required_key
from model_server.http.routers.replay import add_replay
from model_server.protocols.checks import require_object
from model_server.protocols.payload import Payload
from model_server.telemetry import Telemetry

PATH = "/shadow/predictions"
MOST_SECONDS = 600
LARGEST_EVERY = 65_536
_FIELDS = ("every", "seconds", "after")
_LIMITS = RequestLimits(max_bytes=4096, timeout_seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Keep one request in `every` for `seconds`, and list what was kept since `after`; without it, nothing yet."""

    every: int
    seconds: float
    after: tuple[int, ...] | None


def create_comparison_app(
    plane: DataPlane, telemetry: Telemetry, authenticator: Authenticator, *, has_token: bool = False
) -> Application:
    """Put the application together; it answers as soon as the plane has a model, to whom `authenticator` lets in.

    Requests of clients are shown with the operator's token alone: without one (`has_token`) there are no replays.
    """
    app = Application(plane, telemetry, _LIMITS)
    timeouts = BodyTimeouts(_LIMITS.timeout_seconds)
    router = APIRouter(dependencies=required_key(authenticator))

    @router.post(PATH)
    async def predictions(request: Request) -> JSONResponse:
        headers = request.scope["request_headers"]
        body = await read_body(headers, request.receive, _LIMITS, timeouts, request.scope["started"])
        recent = plane.lifecycle.serving.observer.recent
        counts = recent.counts()
        question = read_question(Payload(body, headers).json(), workers=len(counts))
        recent.ask(every=question.every, seconds=question.seconds)
        cursor, found, missed = recent.since(counts if question.after is None else question.after)
        return JSONResponse({"cursor": cursor, "missed": missed, "predictions": [kept.document for kept in found]})

    if has_token:
        add_replay(router, plane)
    app.include_router(router)
    return app


def read_question(document: Any, *, workers: int) -> Question:
    """Read the body of a request. Raises InvalidInput that names the field and what was expected."""
    fields = require_object(document)
    unknown = sorted(fields.keys() - set(_FIELDS))
    if unknown:
        raise InvalidInput([Problem(name, f"is not known; known are {', '.join(_FIELDS)}") for name in unknown])
    every, seconds, after = (fields.get(name) for name in _FIELDS)
    if isinstance(every, bool) or not isinstance(every, int) or not 1 <= every <= LARGEST_EVERY:
        raise InvalidInput.at("every", f"expected a whole number from 1 to {LARGEST_EVERY}, got {every!r}")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MOST_SECONDS:
        raise InvalidInput.at("seconds", f"expected a number above 0 and up to {MOST_SECONDS}, got {seconds!r}")
    if after is not None and not (isinstance(after, list) and len(after) == workers and all(map(_is_count, after))):
        raise InvalidInput.at("after", f"expected the cursor of an earlier answer, {workers} counts, got {after!r}")
    return Question(every=every, seconds=seconds, after=None if after is None else tuple(after))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
