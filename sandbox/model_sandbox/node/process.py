"""One process group per container: started, its output logged, ended; and a reaper that outlives everything.

The reaper is a process that does nothing but wait for the node's end of a pipe to close; when the node dies, however
that is, it kills what carries the node's mark in its environment. A mark is there from the start, where a list of
process ids would be told of a new one a moment too late.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

#: A variable in the environment of all that a node starts; who has its value belongs to that node.
MARK = "SANDBOX_NODE"

_REAPER = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
mark = sys.argv[1].encode()
sys.stdin.read()
found = True
while found:
    found = False
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                is_ours = mark in file.read().split(b"\\0")
            if is_ours:
                os.kill(int(name), signal.SIGKILL)
                found = True
        except (OSError, ValueError):
            pass
"""
LOG_LIMIT = 10 * 1024 * 1024
_CHUNK = 64 * 1024


class Reaper:
    """Kills every process that carries its mark as soon as this process is gone."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _REAPER, f"{MARK}={self.mark}"],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def close(self) -> None:
        """End the reaper; what is left of the marked is killed."""
        self._process.communicate(timeout=5)


@dataclass(slots=True)
class Log:
    """A container's log: each line with its time, the older half in a second file."""

    path: Path
    _size: int = 0
    _open: bytes = b""

    def feed(self, data: bytes) -> None:
        """Take output as it comes; nothing ends a line that was not ended."""
        *lines, self._open = (self._open + data).split(b"\n")
        if self._open and (not data or len(self._open) > _CHUNK):
            lines, self._open = [*lines, self._open], b""
        if not lines:
            return
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()
        text = b"".join(stamp + b" " + line + b"\n" for line in lines)
        if self._size + len(text) > LOG_LIMIT:
            self.path.replace(self.path.with_suffix(".old"))
            self._size = 0
        self._size += len(text)
        with self.path.open("ab") as file:
            file.write(text)

    def tail(self, lines: int, limit: int) -> str:
        """The last lines, without their times."""
        found = self.path.read_bytes().splitlines()[-lines:] if self.path.exists() else []
        return b"\n".join(line.partition(b" ")[2] for line in found)[-limit:].decode(errors="replace")


def base_environment(home: Path, name: str, mark: str) -> dict[str, str]:
    """What every container's process has: nothing of the user's own environment."""
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TMPDIR": str(home / "tmp"),
        "HOSTNAME": name,
        MARK: mark,
    }


async def _spawn(command: Sequence[str], values: Mapping[str, str], folder: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        env=dict(values),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


@dataclass(slots=True)
class Running:
    """A started process."""

    process: asyncio.subprocess.Process
    log: Log
    started: datetime
    _reading: asyncio.Task[None] = field(init=False)

    def __post_init__(self) -> None:
        self._reading = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        while self.process.stdout is not None and (data := await self.process.stdout.read(_CHUNK)):
            self.log.feed(data)
        self.log.feed(b"")

    async def stop(self, grace: float) -> None:
        """Ask the process itself to end, as a container runtime does; kill its group after `grace` seconds."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                await self.process.wait()
        except TimeoutError:
            _kill_group(self.process)

    async def wait(self) -> int:
        """The exit code (128 + n for signal n) after the process ended, and what it left behind with it."""
        try:
            code = await self.process.wait()
        finally:
            _kill_group(self.process)
            await self.process.wait()
            await asyncio.wait([self._reading], timeout=1.0)
            self._reading.cancel()
        return 128 - code if code < 0 else code


async def start(command: Sequence[str], values: Mapping[str, str], folder: Path, log: Log) -> Running:
    """Start a container's process. Raises OSError when there is nothing to start."""
    return Running(await _spawn(command, values, folder), log, datetime.now(UTC))


async def run_once(command: Sequence[str], values: Mapping[str, str], folder: Path, seconds: float) -> tuple[bool, str]:
    """Run a probe's or hook's command: whether it ended well in time, and what it said. Raises OSError."""
    process = await _spawn(command, values, folder)
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate()
    except TimeoutError:
        return False, f"command timed out after {seconds:g}s"
    finally:
        _kill_group(process)
        await process.wait()
    return process.returncode == 0, output[:1024].decode(errors="replace")
