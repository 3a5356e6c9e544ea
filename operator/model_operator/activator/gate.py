"""What all requests have in common, whatever their protocol: limits, the wait for a pod, and what is counted."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from model_operator.activator.line import CannotStart, Line, LineFull
from model_operator.activator.metrics import Metrics, Outcome
from model_operator.activator.table import Table

#: Seconds for a connection to a pod.
CONNECT_SECONDS = 5.0
#: Seconds before another pod is tried after one that could not be reached.
_AGAIN = 0.1
Answer = TypeVar("Answer")


class Refused(Exception):
    """A request that no pod answers: the outcome, and a sentence for the client."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome, self.message = outcome, message


class Unreachable(Exception):
    """A pod to which nothing was sent: it is ending, or its node does not answer."""


class Ending:
    """How a request ends, which is counted when it is over: its client has gone, unless somebody says otherwise."""

    def __init__(self) -> None:
        self.outcome = Outcome.GONE


class Gate:
    """Holds requests until a pod has room.

    `most_held` bounds what waits for all models; where those are of several namespaces, one may use a half of it.
    """

    def __init__(self, table: Table, metrics: Metrics, *, hold_seconds: float, most_held: int) -> None:
        self._table, self._metrics = table, metrics
        self.hold_seconds = hold_seconds
        self._most_held = most_held

    def line(self, port: int) -> Line | None:
        """Return the line of the model with this port."""
        return self._table.line(port)

    @contextmanager
    def counted(self, line: Line) -> Iterator[Ending]:
        """Count a request of a model when it is over."""
        ending, route = Ending(), line.route
        try:
            yield ending
        except Refused as error:
            ending.outcome = error.outcome
            raise
        finally:
            self._metrics.ended(route.namespace, route.name, ending.outcome)
            self._metrics.held(route.namespace, route.name, line.held)

    async def pass_on(
        self, line: Line, send: Callable[[str], Awaitable[Answer]], *, within: float | None = None
    ) -> Answer:
        """Wait for a pod with room, and return what `send` returns of its URL; try another if nothing could be sent.

        Args:
            line: the model.
            send: sends the request to a pod.
            within: seconds that the client waits, None if it has not said so.

        Raises:
            Refused: no pod will answer.
        """
        self._check_room(line.route.namespace)
        seconds = self.hold_seconds if within is None else min(within, self.hold_seconds)
        deadline = time.monotonic() + seconds
        while True:
            backend = await self._enter(line, deadline, seconds)
            try:
                return await send(backend)
            except Unreachable:
                pass
            finally:
                line.leave(backend)
            await asyncio.sleep(_AGAIN)

    def share_of(self, most: int) -> int:
        """Return how much of a limit for all models those of one namespace may use."""
        return self._table.share_of(most)

    def _check_room(self, namespace: str) -> None:
        """Raise Refused where too many requests wait, of all models or of those of a namespace."""
        share = self.share_of(self._most_held)
        if self._table.held >= self._most_held:
            raise Refused(Outcome.LIMITED, f"{self._most_held} requests wait for models already")
        if self._table.held_in(namespace) >= share:
            raise Refused(Outcome.LIMITED, f"{share} requests wait for models of this namespace already")

    async def _enter(self, line: Line, deadline: float, seconds: float) -> str:
        waiting = asyncio.create_task(line.enter())
        await asyncio.sleep(0)
        self._metrics.held(line.route.namespace, line.route.name, line.held)
        try:
            return await asyncio.wait_for(waiting, max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            message = f"the model slept, and no pod of it was ready within {seconds:.3g} s"
            raise Refused(Outcome.TIMEOUT, message) from None
        except LineFull as error:
            raise Refused(Outcome.LIMITED, str(error)) from None
        except CannotStart as error:
            raise Refused(Outcome.FAILED, f"the model cannot start: {error}") from None
