"""Real brokers for tests and benchmarks, on loopback, with a client that writes and reads messages."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from free_ports import free_port

Headers = Mapping[str, str]


@dataclass(frozen=True)
class Received:
    """A message as another program reads it."""

    body: bytes
    headers: dict[str, str]


class TestBroker(ABC):
    """One broker; `kill` and `start` again keep what it has on disk."""

    __test__ = False
    scheme: str
    program: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> str:
        """Why tests with this broker are skipped; empty where it is installed."""
        return "" if cls.path() else f"{cls.program} is not installed"

    @classmethod
    def path(cls) -> str | None:
        return shutil.which(cls.program) or shutil.which(cls.program, path="/usr/sbin")

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @abstractmethod
    def command(self) -> Sequence[str]: ...

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        self.spawn()
        await self._until_it_answers()

    def spawn(self) -> None:
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self.folder)

    async def _until_it_answers(self) -> None:
        for _ in range(600):
            try:
                await self.connect()
                return
            except Exception:
                await asyncio.sleep(0.05)
        raise AssertionError(f"{self.program} does not answer: {(self.folder / 'broker.log').read_text()[-2000:]}")

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    async def close(self) -> None:
        with suppress(Exception):
            await self.disconnect()
        self.kill()

    @abstractmethod
    async def connect(self) -> None: ...

    @abstractmethod
    async def disconnect(self) -> None: ...

    @abstractmethod
    async def create(self, *topics: str) -> None: ...

    @abstractmethod
    async def send(self, topic: str, messages: Sequence[tuple[bytes, Headers]]) -> None: ...

    @abstractmethod
    async def receive(self, topic: str) -> list[Received]:
        """Everything that is in a topic now, which stays there."""


class NatsServer(TestBroker):
    scheme, program = "nats", "nats-server"
    configuration = ""

    def command(self) -> Sequence[str]:
        config = self.folder / "nats.conf"
        config.write_text(f"max_payload: 200000\n{self.configuration}")
        path = self.path()
        assert path
        where = ("-a", "127.0.0.1", "-p", str(self.port), "-sd", str(self.folder))
        return (path, "-js", "-c", str(config), *where)

    async def connect(self, **login: Any) -> None:
        import nats

        await self.disconnect()
        self.client = await nats.connect(self.url, allow_reconnect=False, max_reconnect_attempts=1, reconnect_time_wait=0, **login)
        self.jetstream = self.client.jetstream(timeout=10)
        await self.jetstream.account_info()

    async def disconnect(self) -> None:
        if client := getattr(self, "client", None):
            await client.close()

    async def create(self, *topics: str) -> None:
        for topic in topics:
            await self.jetstream.add_stream(name=topic.replace(".", "_"), subjects=[topic])

    async def send(self, topic: str, messages: Sequence[tuple[bytes, Headers]]) -> None:
        for start in range(0, len(messages), 500):
            part = messages[start : start + 500]
            await asyncio.gather(*(self.jetstream.publish(topic, body, headers=dict(h) or None) for body, h in part))

    async def receive(self, topic: str) -> list[Received]:
        from nats.errors import TimeoutError as NothingThere

        info = await self.jetstream.stream_info(topic.replace(".", "_"))
        found: list[Received] = []
        reader = await self.jetstream.pull_subscribe(topic, None, stream=topic.replace(".", "_"))
        while len(found) < info.state.messages:
            with suppress(NothingThere):
                for one in await reader.fetch(1000, timeout=1):
                    found.append(Received(one.data, {k.lower(): v for k, v in (one.headers or {}).items()}))
        await reader.unsubscribe()
        return found


class RedisServer(TestBroker):
    scheme, program = "redis", "redis-server"
    options: Sequence[str] = ()

    def command(self) -> Sequence[str]:
        path = self.path()
        assert path
        where = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        return (path, *where, "--appendonly", "yes", "--save", "", "--proto-max-bulk-len", "1mb", *self.options)

    async def connect(self, **login: Any) -> None:
        from redis.asyncio import Redis

        await self.disconnect()
        self.client = Redis(port=self.port, **login)
        await self.client.ping()

    async def disconnect(self) -> None:
        if client := getattr(self, "client", None):
            await client.aclose()

    async def create(self, *topics: str) -> None:
        """Streams begin with their first entry."""

    async def send(self, topic: str, messages: Sequence[tuple[bytes, Headers]]) -> None:
        for start in range(0, len(messages), 500):
            async with self.client.pipeline(transaction=False) as pipe:
                for body, headers in messages[start : start + 500]:
                    pipe.xadd(topic, {"body": body, **headers})
                await pipe.execute()

    async def receive(self, topic: str) -> list[Received]:
        found: list[Received] = []
        after = "-"
        while entries := await self.client.xrange(topic, min=after, count=1000):
            for _, fields in entries:
                headers = {name.decode(): value.decode() for name, value in fields.items() if name != b"body"}
                found.append(Received(fields.get(b"body", b""), headers))
            after = f"({entries[-1][0].decode()}"
        return found


BROKERS: dict[str, type[TestBroker]] = {"nats": NatsServer, "redis": RedisServer}
