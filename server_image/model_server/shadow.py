"""The application of the second port, which no Service leads to: the recent predictions, for the operator alone.

Who asks for them gets other people's answers, so that no gateway may reach them; with API keys set one is needed here
as well. docs/wire.md has the form of question and answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from model_server.app import App
from model_server.auth import Gate
from model_server.errors import InvalidInput, Problem
from model_server.http import Request, RequestLimits, Response, json_response
from model_server.lifecycle import Lifecycle
from model_server.protocols.call import require_object
from model_server.routes import Route, Routes
from model_server.telemetry import Telemetry
from model_server.tracing import Tracer

PATH = "/shadow/predictions"
MOST_SECONDS = 600
LARGEST_EVERY = 65_536
_FIELDS = ("every", "seconds", "after")
_LIMITS = RequestLimits(max_bytes=4096, max_rows=1, timeout_seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Keep one request in `every` for `seconds`, and tell what was kept since `after`; without it, nothing yet."""

    every: int
    seconds: float
    after: tuple[int, ...] | None


def create_shadow_app(*, lifecycle: Lifecycle, telemetry: Telemetry, tracer: Tracer, gate: Gate) -> App:
    """Put the application together; it answers as soon as `lifecycle` has a model."""

    async def predictions(request: Request) -> Response:
        recent = lifecycle.served.watcher.recent
        counts = recent.counts()
        question = read_question(request.json(), workers=len(counts))
        recent.ask(every=question.every, seconds=question.seconds)
        cursor, found, missed = recent.since(counts if question.after is None else question.after)
        return json_response({"cursor": cursor, "missed": missed, "predictions": [kept.document for kept in found]})

    routes = Routes([Route("POST", PATH, predictions)])
    return App(routes, lifecycle, telemetry, tracer, gate, _LIMITS)


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
