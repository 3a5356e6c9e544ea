"""What the brokers of tests and benchmarks have in common: a process, and a client that writes and reads messages."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

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
    #: Whether what it has survives a kill.
    keeps_messages = True
    #: Whether it can be told to want a user and a password.
    has_logins = True

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self.folder, self.host = folder, host
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.received: dict[str, list[Received]] = {}

    @classmethod
    def missing(cls) -> str:
        """Why tests with this broker are skipped; empty where it is installed."""
        return "" if cls.path() else f"{cls.program} is not installed"

    @classmethod
    def path(cls) -> str | None:
        return shutil.which(cls.program) or shutil.which(cls.program, path="/usr/sbin")

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    @abstractmethod
    def command(self) -> Sequence[str]: ...

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        self.spawn()
        await self._until_it_answers()

    def spawn(self) -> None:
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self.environment(),
                start_new_session=True,
            )

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

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
            # With its children: RabbitMQ is a script that starts Erlang.
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
            self.killed()

    def killed(self) -> None:  # noqa: B027 - most leave nothing behind
        """The processes have ended; what they left running ends here."""

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
