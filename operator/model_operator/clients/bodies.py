"""Reads what was answered; for all clients that ask over HTTP."""

import aiohttp


async def body_of(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return the whole body, cut after `limit` bytes; one `read` of a stream gives what has arrived by then."""
    pieces, size = [], 0
    while size < limit and (piece := await response.content.read(limit - size)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)
