"""Serves a container's log as a kubelet does: tail, since, timestamps, previous, follow."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web

from model_sandbox.node.pod import PodRunner

_POLL = 0.1


def select(data: bytes, query: Mapping[str, str], now: datetime) -> list[bytes]:
    """The lines of a log that a request asks for, each with its time."""
    lines = data.splitlines()
    since = query.get("sinceTime", "")
    if query.get("sinceSeconds"):
        since = (now - timedelta(seconds=int(query["sinceSeconds"]))).strftime("%Y-%m-%dT%H:%M:%S")
    if since:
        lines = [line for line in lines if line >= since.encode()]
    if query.get("tailLines"):
        count = int(query["tailLines"])
        lines = lines[-count:] if count > 0 else []
    return lines


def shown(lines: list[bytes], *, timestamps: bool) -> bytes:
    """Lines as they are sent."""
    if timestamps:
        return b"".join(line + b"\n" for line in lines)
    return b"".join(line.partition(b" ")[2] + b"\n" for line in lines)


def _read(path: Path) -> bytes:
    older = path.with_suffix(".old")
    return (older.read_bytes() if older.exists() else b"") + (path.read_bytes() if path.exists() else b"")


def _added(path: Path, at: int) -> tuple[int, bytes]:
    """The end of a file and what was added since `at` (-1: nothing yet); a file that was begun anew counts whole."""
    size = path.stat().st_size if path.exists() else 0
    if at < 0 or size == at:
        return size, b""
    with path.open("rb") as file:
        file.seek(at if size > at else 0)
        data = file.read()
        return file.tell(), data


async def serve_log(request: web.Request, runner: PodRunner | None, container: str) -> web.StreamResponse:
    """The answer to one log request."""
    query = request.query
    if runner is None:
        return web.Response(status=404, text="the pod has ended: its logs are gone")
    path = runner.log_file(container, previous=query.get("previous") == "true")
    if path is None or not path.exists():
        if query.get("previous") == "true":
            name = runner.pod["metadata"]["name"]
            return web.Response(
                status=400, text=f'previous terminated container "{container}" in pod "{name}" not found'
            )
        name, reason = runner.pod["metadata"]["name"], runner.state_of(container)
        told = f'container "{container}" in pod "{name}" is waiting to start: {reason}'
        return web.Response(status=400, text=told)
    timestamps = query.get("timestamps") == "true"
    data = await asyncio.to_thread(_read, path)
    text = shown(select(data, query, datetime.now(UTC)), timestamps=timestamps)
    if query.get("limitBytes"):
        text = text[: int(query["limitBytes"])]
    if query.get("follow") != "true":
        return web.Response(body=text, content_type="text/plain")
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(text)
    await _follow(response, runner, container, path, timestamps=timestamps)
    await response.write_eof()
    return response


async def _follow(
    response: web.StreamResponse, runner: PodRunner, container: str, path: Path, *, timestamps: bool
) -> None:
    """Send what is added until the container's process has ended."""
    at, rest = _added(path, -1)[0], b""
    while True:
        running = runner.is_running(container) and runner.log_file(container, previous=False) == path
        at, data = _added(path, at)
        if data:
            *lines, rest = (rest + data).split(b"\n")
            await response.write(shown(lines, timestamps=timestamps))
        elif not running:
            return
        else:
            await asyncio.sleep(_POLL)
