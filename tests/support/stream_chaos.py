"""Messages through a server while processes are killed: what was sent, answered, answered twice, lost."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from broker_base import Headers, TestBroker

INPUT, OUTPUT, DEAD = "wine.requests", "wine.answers", "wine.refused"
#: One in so many messages cannot be decoded.
POISON_EVERY = 100


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What became of the messages. `marked`: copies that say in a header that they may be copies."""

    sent: int
    answered: int
    dead: int
    copies: int
    marked: int

    @property
    def lost(self) -> int:
        return self.sent - self.answered - self.dead


def made_up(rows: Sequence[Sequence[float]], count: int) -> list[tuple[bytes, Headers]]:
    """So many messages, of which one in POISON_EVERY is no JSON."""
    bodies = [json.dumps({"instances": [list(row)]}).encode() for row in rows]
    return [
        (b"{not json" if n % POISON_EVERY == 0 else bodies[n % len(bodies)], {"x-request-id": f"m-{n}"})
        for n in range(count)
    ]


async def count(broker: TestBroker, sent: int) -> Counts:
    """Read both topics."""
    answers, dead = await broker.receive(OUTPUT), await broker.receive(DEAD)
    seen = Counter(one.headers["x-request-id"] for one in answers)
    buried = Counter(one.headers["x-request-id"] for one in dead)
    copies = sum(seen.values()) - len(seen) + sum(buried.values()) - len(buried)
    again = [one for one in (*answers, *dead) if "x-modeldeploy-redelivered" in one.headers]
    twice = {name for name, times in (seen + buried).items() if times > 1}
    marked = len({one.headers["x-request-id"] for one in again} & twice)
    return Counts(sent=sent, answered=len(seen), dead=len(buried), copies=copies, marked=marked)


async def settled(broker: TestBroker, sent: int, *, seconds: float = 90) -> Counts:
    """Wait until every message is answered or buried, or for the deadline."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while (found := await count(broker, sent)).lost and loop.time() < deadline:
        await asyncio.sleep(0.5)
    return found


async def at_share(broker: TestBroker, share: float, sent: int, act: Callable[[], Awaitable[None]]) -> None:
    """Act once so large a share of the messages is answered."""
    while (await count(broker, sent)).answered < share * sent:
        await asyncio.sleep(0.05)
    await act()


class Victim(Protocol):
    """A model server that is killed and started again; `metric` is the sum of the lines that begin so, or 0."""

    def start(self) -> None: ...

    def kill(self) -> None: ...

    def metric(self, start: str) -> float: ...


async def survive(broker: TestBroker, victim: Victim, sent: Sequence[tuple[bytes, Headers]]) -> Counts:
    """What became of the messages although the server was killed after a third of them, and the broker behind all."""
    third = len(sent) // 3
    victim.start()
    await broker.send(INPUT, sent[: 2 * third])
    await _until(lambda: _handled(victim) >= third)
    victim.kill()
    victim.start()
    # Counters begin anew.
    await _until(lambda: _handled(victim) >= third // 2)
    await broker.send(INPUT, sent[2 * third :])
    if broker.keeps_messages:
        broker.kill()
        await broker.start()
    await _until(lambda: victim.metric("modeldeploy_stream_connected") == 1)
    calm, before = 0, -1.0
    # Half a minute without a message: what a killed server had taken has come back by then.
    while calm < 25:
        await asyncio.sleep(1)
        now = await asyncio.to_thread(_handled, victim)
        calm, before = (calm + 1, now) if now == before else (0, now)
    return await settled(broker, len(sent), seconds=120)


def _handled(victim: Victim) -> float:
    return victim.metric("modeldeploy_stream_messages_total")


async def _until(condition: Callable[[], bool], seconds: float = 900) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not await asyncio.to_thread(condition):
        if loop.time() > deadline:
            raise TimeoutError
        await asyncio.sleep(0.05)
