"""Serves a container's log as a kubelet does: tail, since, timestamps, previous, follow."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web

from model_sandbox.node.container import Container
from model_sandbox.node.pod import PodRunner

_POLL = 0.1


def select(data: bytes, query: Mapping[str, str], now: datetime) -> list[bytes]:
    """The lines of a log that a request asks for, each with its time."""
    lines, since = data.splitlines(), query.get("sinceTime", "")
    if query.get("sinceSeconds"):
        since = (now - timedelta(seconds=int(query["sinceSeconds"]))).strftime("%Y-%m-%dT%H:%M:%S")
    if since:
        lines = [line for line in lines if line >= since.encode()]
    return lines[max(0, len(lines) - int(query["tailLines"])) :] if query.get("tailLines") else lines


def shown(lines: Sequence[bytes], query: Mapping[str, str]) -> bytes:
    """Lines as they are sent."""
    timestamps = query.get("timestamps") == "true"
    return b"".join((line if timestamps else line.partition(b" ")[2]) + b"\n" for line in lines)


def _added(path: Path, at: int) -> tuple[int, bytes]:
    """The end of a file and what was added since `at`; a file that was begun anew counts whole."""
    size = path.stat().st_size if path.exists() else 0
    if size == at:
        return at, b""
    with path.open("rb") as file:
        file.seek(at if size > at else 0)
        data = file.read()
        return file.tell(), data


async def serve_log(request: web.Request, runner: PodRunner | None, name: str) -> web.StreamResponse:
    """The answer to one log request."""
    query, container = request.query, runner.container(name) if runner is not None else None
    if runner is None or container is None:
        return web.Response(status=404, text="the pod has ended: its logs are gone")
    previous, pod = query.get("previous") == "true", runner.body["metadata"]["name"]
    path = container.log_file(previous=previous)
    if not path.exists():
        told = f'container "{name}" in pod "{pod}" is waiting to start: {container.state.waiting[0]}'
        missing = f'previous terminated container "{name}" in pod "{pod}" not found'
        return web.Response(status=400, text=missing if previous else told)
    older, (at, data) = path.with_suffix(".old"), await asyncio.to_thread(_added, path, 0)
    if older.exists():
        data = await asyncio.to_thread(older.read_bytes) + data
    text = shown(select(data, query, datetime.now(UTC)), query)
    text = text[: int(query["limitBytes"])] if query.get("limitBytes") else text
    if query.get("follow") != "true":
        return web.Response(body=text, content_type="text/plain")
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(text)
    await _follow(response, container, path, at, query)
    await response.write_eof()
    return response


async def _follow(
    response: web.StreamResponse, container: Container, path: Path, at: int, query: Mapping[str, str]
) -> None:
    """Send what is added until the container's process has ended."""
    rest = b""
    while True:
        is_running = container.running is not None and container.log_file() == path
        at, data = _added(path, at)
        if data:
            *lines, rest = (rest + data).split(b"\n")
            await response.write(shown(lines, query))
        elif not is_running:
            return
        else:
            await asyncio.sleep(_POLL)
