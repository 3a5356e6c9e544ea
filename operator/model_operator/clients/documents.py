"""Reads what the API server sends, whatever users have written into it.

An API server takes JSON that is nested ten thousand levels deep, and the parser here takes a thousand: one such object
would keep a whole list, or a watch, from being read, and with it the objects of all teams.
"""

import asyncio
import re
from typing import Any

import orjson

#: Levels that are kept of a document that is nested too deeply, with those of the list around it; no pod has so many.
MOST_LEVELS = 200
#: What stands where more was.
CUT = b'"(nested too deeply)"'
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')


async def parsed(text: bytes) -> Any:
    """Parse JSON; of what is nested too deeply the upper levels.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return orjson.loads(await asyncio.to_thread(_cut, text))


def _cut(text: bytes) -> bytes:
    """Return a document without what lies below the most levels."""
    kept, begin, level = [], 0, 0
    for token in _TOKEN.finditer(text):
        match token[0]:
            case b"{" | b"[":
                level += 1
                if level == MOST_LEVELS + 1:
                    kept += [text[begin : token.start()], CUT]
            case b"}" | b"]":
                if level == MOST_LEVELS + 1:
                    begin = token.end()
                level -= 1
    return b"".join([*kept, text[begin:]])
