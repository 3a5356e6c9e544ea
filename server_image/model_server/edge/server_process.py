"""One `python -m model_server`, started by the supervisor: the public socket held or open, and a port to ask it."""

from __future__ import annotations

import asyncio
import http.client
import os
import secrets
import shutil
import signal
import socket
import ssl
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from model_server.edge.threads import in_thread
from model_server.errors import ModelServerError
from model_server.settings import PREFIX
from model_server.supervision import HOLD, SupervisorReport, write_report

#: A replay may take as long on either side, see `http/routers/replay.py`.
TIMEOUT_SECONDS = 40
LOOK_SECONDS = 0.1
#: Of a question that only asks whether the model is there: one prediction in so many would be kept.
LARGEST_EVERY = 65_536
#: Characters of an answer that is shown.
MOST_SHOWN = 300
_TERMINATION = "termination.json"


class ServerEnded(Exception):
    """A server ended by itself; the message says why."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class CannotAsk(ModelServerError):
    """A server refused a question, or did not answer it."""


class Termination(msgspec.Struct, frozen=True):
    """Why a server could not serve."""

    reason: str = ""
    message: str = ""
    hint: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (f"{self.reason}: {self.message}.", self.hint) if part)


class ServerProcess:
    """A running server. It ends with the supervisor."""

    def __init__(self, process: Process, folder: Path, port: int, token: str, alive: int, *, is_tls: bool) -> None:
        self._process = process
        self._folder = folder
        self._port = port
        self._token = token
        self._alive = alive
        self._is_tls = is_tls

    @classmethod
    async def start(
        cls, folder: Path, listener: socket.socket, environ: Mapping[str, str], *, is_held: bool
    ) -> ServerProcess:
        """Start a server with these settings; `folder` is its own."""
        _prepare(folder, is_held=is_held)
        token = secrets.token_hex()
        theirs, ours = os.pipe()
        with socket.create_server(("127.0.0.1", 0)) as questions:
            descriptors = {"LISTEN_FD": listener.fileno(), "SHADOW_FD": questions.fileno(), "SUPERVISOR_FD": theirs}
            given: dict[str, object] = {
                **descriptors,
                "SUPERVISOR_DIR": folder,
                "MODEL_DIR": folder / "work",
                "TERMINATION_LOG": folder / _TERMINATION,
                "SHADOW_TOKEN_SHA256": sha256(token.encode()).hexdigest(),
            }
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "model_server"),
                env={**environ, **{f"{PREFIX}{name}": str(value) for name, value in given.items()}},
                pass_fds=tuple(descriptors.values()),
                stdin=DEVNULL,
                start_new_session=True,  # Ctrl-C is the supervisor's, which ends its servers in order
            )
            os.close(theirs)
            port = questions.getsockname()[1]
        return cls(process, folder, port, token, ours, is_tls=bool(environ.get(f"{PREFIX}TLS_DIR")))

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.returncode is not None

    async def wait(self) -> int:
        """Wait for its end; the exit code."""
        return await self._process.wait()

    async def wait_loaded(self) -> None:
        """Wait until its model is loaded and warm. Raises ServerEnded."""
        while True:
            if self.has_ended:
                raise self.ended()
            with suppress(CannotAsk):
                await self.ask("predictions", every=LARGEST_EVERY, seconds=1)
                return
            await asyncio.sleep(LOOK_SECONDS)

    def ended(self) -> ServerEnded:
        """Why it ended, in its own words if it left any."""
        code = self._process.returncode or 0
        with suppress(OSError, msgspec.MsgspecError):
            left = msgspec.json.decode((self._folder / _TERMINATION).read_bytes(), type=Termination)
            return ServerEnded(code, str(left))
        what = f"signal {-code}" if code < 0 else f"exit code {code}"
        return ServerEnded(code, f"its server ended with {what}")

    async def ask(self, path: str, **question: Any) -> dict[str, Any]:
        """Ask on the comparison port (docs/wire.md). Raises CannotAsk."""
        return await in_thread(lambda: self._ask(f"/shadow/{path}", msgspec.json.encode(question)))

    def open(self) -> None:
        """Let it answer clients."""
        (self._folder / HOLD).unlink(missing_ok=True)

    def tell(self, report: SupervisorReport) -> None:
        """Let it show this in its metrics."""
        write_report(self._folder, report)

    async def stop(self, grace_seconds: float) -> None:
        """Let it finish what it answers, and end it after `grace_seconds`."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), grace_seconds)
            except TimeoutError:
                self.kill()
                await self._process.wait()
        if self._alive >= 0:
            os.close(self._alive)
            self._alive = -1

    def kill(self) -> None:
        """End it and its workers at once."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _ask(self, path: str, body: bytes) -> dict[str, Any]:
        connection = self._connection()
        try:
            headers = {"content-type": "application/json", "x-api-key": self._token}
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise CannotAsk(f"no answer: {error}") from None
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise CannotAsk(f"{answer.status}: {text[:MOST_SHOWN].decode(errors='replace')}")
        document: dict[str, Any] = msgspec.json.decode(text)
        return document

    def _connection(self) -> http.client.HTTPConnection:
        if not self._is_tls:
            return http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_SECONDS)
        # Our own child on a socket that we opened; its certificate is for other names.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection("127.0.0.1", self._port, timeout=TIMEOUT_SECONDS, context=context)


def _prepare(folder: Path, *, is_held: bool) -> None:
    """A folder that holds nothing of an earlier server."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if is_held:
        (folder / HOLD).touch()
