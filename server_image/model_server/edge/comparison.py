"""Lets the next server answer what the one that serves was asked, by the questions of docs/wire.md, and judges it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from model_server.edge.judging import Limits, Verdict, judge, read_replay
from model_server.edge.server_process import CannotAsk, ServerEnded

#: Seconds between looks at how many requests there are to compare.
LOOK_SECONDS = 0.5
#: Seconds for which requests are kept after the last question.
KEEP_SECONDS = 60
QUESTIONS_PER_WORKER = 3
NOT_JUDGED = Verdict(is_accepted=True, message="it is not judged")
NO_REQUESTS = Verdict(is_accepted=True, message="no request was answered meanwhile that it could be judged by")


class Judgement(Struct, frozen=True, kw_only=True):
    """How a new package is judged.

    Attributes:
        requests: requests that it answers before it may take over; 0: it is not judged.
        seconds: time after which those that there are decide.
        workers: of the server that serves; each keeps the requests that it answered itself.
        limits: what it is judged by.
    """

    requests: int
    seconds: float
    workers: int
    limits: Limits


class Asked(Protocol):
    """A server, as far as it is compared; `ServerProcess` is the one."""

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""

    def ended(self) -> ServerEnded:
        """Why it ended."""

    async def ask(self, path: str, **question: Any) -> dict[str, Any]:
        """Ask on the comparison port. Raises CannotAsk."""


async def compare(serving: Callable[[], Asked], candidate: Asked, how: Judgement) -> Verdict:
    """Judge a loaded candidate. Raises ServerEnded when it does not survive that.

    Args:
        serving: gives the server that serves now, for it may be started again meanwhile.
        candidate: a server that no client reaches.
        how: by how many requests, and by what limits.
    """
    if not how.requests:
        return NOT_JUDGED
    problem = await _wait_for_requests(serving, candidate, how)
    try:
        sample = await _sample(serving, how)
        if not sample:
            return NO_REQUESTS
        ratio, tolerance = how.limits.max_latency_ratio, how.limits.tolerance
        replayed = await candidate.ask("replay", requests=sample, tolerance=tolerance, maxRatio=ratio)
    except CannotAsk as error:
        if candidate.has_ended:
            raise candidate.ended() from None
        return Verdict(is_accepted=False, message=f"it cannot be compared: {problem or error.message}")
    return judge(read_replay(replayed), how.limits)


async def _wait_for_requests(serving: Callable[[], Asked], candidate: Asked, how: Judgement) -> str:
    """Wait until enough requests are kept, or the time is over; what was in the way last. Raises ServerEnded."""
    kept, problem, deadline = 0, "", time.monotonic() + how.seconds
    while kept < how.requests and time.monotonic() < deadline:
        if candidate.has_ended:
            raise candidate.ended()
        try:
            kept = (await serving().ask("requests", requests=how.requests, seconds=KEEP_SECONDS))["kept"]
        except CannotAsk as error:
            problem = error.message
        await asyncio.sleep(LOOK_SECONDS)
    return problem


async def _sample(serving: Callable[[], Asked], how: Judgement) -> list[Any]:
    """Recent requests with the answers of the server that serves. Raises CannotAsk.

    Any worker may take the question: the largest sample of several questions counts.
    """
    best: list[Any] = []
    for _ in range(1 if how.workers == 1 else QUESTIONS_PER_WORKER * how.workers):
        asked = await serving().ask("requests", requests=how.requests, seconds=KEEP_SECONDS, answer=how.requests)
        best = max(best, asked["requests"], key=len)
        if len(best) >= how.requests:
            break
    return best
