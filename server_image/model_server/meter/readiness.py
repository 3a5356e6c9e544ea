"""Asks the server behind the meter once a second whether it is ready; `/readyz` says what it answered."""

from __future__ import annotations

import asyncio

from model_server.meter.meter import Meter

#: Seconds between two looks: while the server starts, and once it was ready.
STARTING_SECONDS, INTERVAL_SECONDS = 0.25, 1.0
TIMEOUT_SECONDS = 5.0
#: Failed looks in a row after which a server that was ready is not any more.
MOST_FAILURES = 2
_MOST_SHOWN = 200


async def watch(meter: Meter, path: str) -> None:
    """Look until cancelled."""
    failures = 0
    while True:
        found = await ask(meter.upstream.host, meter.upstream.port, path)
        failures = failures + 1 if found else 0
        if not found:
            meter.report(is_ready=True, message=f"the server behind is ready: GET {path}")
        elif failures >= MOST_FAILURES or not meter.has_been_ready:
            meter.report(is_ready=False, message=found)
        await asyncio.sleep(INTERVAL_SECONDS if meter.has_been_ready else STARTING_SECONDS)


async def ask(host: str, port: int, path: str) -> str:
    """Return why the server is not ready, "" if it is: as a probe of Kubernetes, by a status from 200 to 399."""
    where = f"GET {path} on port {port} of the container app"
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            status, text = await _get(host, port, path)
    except TimeoutError:
        return f"{where}: no answer within {TIMEOUT_SECONDS:g} s"
    except (OSError, ValueError) as error:
        return f"{where}: {getattr(error, 'strerror', None) or error}"
    if 200 <= status < 400:
        return ""
    return f"{where}: {status} {text}".rstrip()


async def _get(host: str, port: int, path: str) -> tuple[int, str]:
    """The status and the beginning of the body. Raises OSError, or ValueError for what is no HTTP."""
    reader, writer = await asyncio.open_connection(host, port, limit=2**16)
    try:
        shown = f"[{host}]" if ":" in host else host
        lines = (f"GET {path} HTTP/1.1", f"host: {shown}:{port}", "user-agent: modeldeploy-meter", "connection: close")
        writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        line = await reader.readline()
        words = line.split()
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
            raise ValueError("the answer is no HTTP")
        while (await reader.readline()).strip():
            pass
        body = await reader.read(_MOST_SHOWN)
        text = body.decode(errors="replace")
        return int(words[1]), "".join(letter for letter in text if letter.isprintable() or letter == " ")
    finally:
        writer.close()
