"""A meter in front of a server that answers as it is told, and clients that send what they like."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from free_ports import free_port
from waiting import eventually, until

ANSWER = b'{"score": 1}'


@dataclass
class Behind:
    """The server behind: reads requests, remembers them, and answers by their path."""

    port: int = 0
    is_ready: bool = True
    #: Head and body of each request but probes.
    seen: list[tuple[bytes, bytes]] = field(default_factory=list)
    connections: int = 0
    closed: int = 0
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed += 1
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ")[1].decode()
        if path == "/ready":
            status = b"200 OK" if self.is_ready else b"503 Loading"
            writer.write(b"HTTP/1.1 %b\r\ncontent-length: 7\r\nconnection: close\r\n\r\nweights" % status)
            return False
        body = await self._body(head, reader) if path != "/early" else b""
        self.seen.append((head, body))
        goes_on: bool = await getattr(self, f"answer_{path.partition('?')[0].strip('/')}")(writer, body)
        return goes_on

    @staticmethod
    async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
        if b"transfer-encoding: chunked" in head:
            body = b""
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
            return body
        length = re.search(rb"content-length: (\d+)", head)
        return await reader.readexactly(int(length[1])) if length else b""

    @staticmethod
    def whole(writer: asyncio.StreamWriter, body: bytes = ANSWER, status: bytes = b"200 OK", more: bytes = b"") -> bool:
        writer.write(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n%b\r\n%b" % (status, len(body), more, body))
        return True

    async def answer_score(self, writer: asyncio.StreamWriter, body: bytes) -> bool:
        return self.whole(writer)

    async def answer_echo(self, writer: asyncio.StreamWriter, body: bytes) -> bool:
        return self.whole(writer, body)

    async def answer_refuse(self, writer: asyncio.StreamWriter, body: bytes) -> bool:
        return self.whole(writer, b"no", b"422 Unprocessable Content")

    async def answer_teapot(self, writer: asyncio.StreamWriter, body: bytes) -> bool:
        return self.whole(writer, b"", b"418 I'm a teapot")

    async def answer_stream(self, writer: asyncio.StreamWriter, body: bytes) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(b"f\r\ndata: token 1\n\n\r\n")
        await writer.drain()
        await self.release.wait()
        writer.write(b"f\r\ndata: token 2\n\n\r\n0\r\n\r\n")
        return True

    async def answer_until_close(self, writer: asyncio.StreamWriter, body: bytes) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        return False

    async def answer_dies(self, writer: asyncio.StreamWriter, body: bytes) -> bool:
        return False

    async def answer_dies_amid(self, writer: asyncio.StreamWriter, body: bytes) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        return False

    async def answer_once(self, writer: asyncio.StreamWriter, body: bytes) -> bool:
        """Answer the first request of a connection alone, and close it when the second comes, as servers may."""
        if sum(b"/once" in head for head, _ in self.seen) == 2:
            return False
        return self.whole(writer)

    async def answer_slow(self, writer: asyncio.StreamWriter, body: bytes) -> bool:
        await self.release.wait()
        return self.whole(writer)

    async def answer_nonsense(self, writer: asyncio.StreamWriter, body: bytes) -> bool:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        return True

    async def answer_packed(self, writer: asyncio.StreamWriter, body: bytes) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")
        return True

    async def answer_twice(self, writer: asyncio.StreamWriter, body: bytes) -> bool:
        self.whole(writer)
        return self.whole(writer, b"another's answer")

    async def answer_early(self, writer: asyncio.StreamWriter, body: bytes) -> bool:
        return self.whole(writer, b"too much", b"413 Content Too Large")

    async def answer_continue(self, writer: asyncio.StreamWriter, body: bytes) -> bool:
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        return self.whole(writer)


@dataclass
class Running:
    """A meter, and what is behind it."""

    behind: Behind
    port: int
    process: asyncio.subprocess.Process

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        yield reader, writer
        writer.close()

    async def ask(self, path: str, body: bytes | None = b"{}", *, method: str = "POST", **headers: str) -> Answer:
        async with self.connection() as (reader, writer):
            writer.write(request(path, body, method=method, connection="close", **headers))
            return await read(reader, method=method)

    async def metrics(self) -> str:
        return (await self.ask("/metrics", None, method="GET")).body.decode()

    async def count(self, code: int) -> float:
        found = re.search(rf'modeldeploy_requests_total{{code="{code}",[^}}]*}} (\S+)', await self.metrics())
        return float(found[1]) if found else 0.0

    async def counts(self, code: int, count: int) -> None:
        """Wait until so many requests were answered with this code."""

        async def has_counted() -> bool:
            return await self.count(code) == count

        await eventually(has_counted, f"{count} requests with {code}")

    async def shows(self, pattern: str) -> str:
        """Wait until the metrics have a line like this; all of them."""

        async def found() -> str | None:
            text = await self.metrics()
            return text if re.search(pattern, text) else None

        return await eventually(found, f"{pattern} in the metrics")

    async def until(self, wanted: Callable[[Answer], bool], path: str = "/readyz") -> Answer:
        async def found() -> Answer | None:
            answer = await self.ask(path, None, method="GET")
            return answer if wanted(answer) else None

        return await eventually(found, f"the answer of {path} that is wanted")


@dataclass
class Answer:
    status: int
    head: bytes
    body: bytes
    is_whole: bool = True


def request(path: str, body: bytes | None = b"{}", *, method: str = "POST", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: model"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body is not None and "transfer_encoding" not in headers:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


async def read(reader: asyncio.StreamReader, *, method: str = "POST") -> Answer:
    """Read one answer of a connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split()[1])
    if method == "HEAD" or status in (204, 304):
        return Answer(status, head, b"")
    try:
        return Answer(status, head, await Behind._body(head, reader))
    except asyncio.IncompleteReadError as error:
        return Answer(status, head, error.partial, is_whole=False)
    except ValueError:
        return Answer(status, head, b"", is_whole=False)


@asynccontextmanager
async def metered(tmp_path: Path, *, waits: bool = True, **settings: object) -> AsyncIterator[Running]:
    behind = Behind()
    server = await asyncio.start_server(behind.serve, "127.0.0.1", 0)
    behind.port = server.sockets[0].getsockname()[1]
    port = free_port()
    given: dict[str, object] = {
        "METER_UPSTREAM_PORT": behind.port,
        "METER_READINESS_PATH": "/ready",
        "HOST": "127.0.0.1",
        "PORT": port,
        "NAME": "scorer",
        "DRAIN_SECONDS": 0,
        "TERMINATION_LOG": tmp_path / "termination",
        **settings,
    }
    environ = {**os.environ, **{f"MODEL_SERVER_{name}": str(value) for name, value in given.items()}}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "model_server", "meter", env=environ, stdout=asyncio.subprocess.DEVNULL
    )
    running = Running(behind, port, process)
    try:
        async with asyncio.timeout(15):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                except OSError:
                    await asyncio.sleep(0.05)
        if waits:
            await running.until(lambda answer: answer.status == 200)
        yield running
    finally:
        behind.release.set()
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(15):
            await process.wait()
        await until(lambda: behind.closed >= behind.connections)
        server.close()
