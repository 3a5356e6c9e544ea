"""Reads what the API server sends, whatever users have written into it. PURE.

An API server takes JSON that is nested ten thousand levels deep, and Python's parser takes less than a thousand: one
such object would keep a whole list, or a watch, from being read.
"""

import json
import re
from typing import Any

from modeldeploy.plain import MOST_LEVELS, TOO_DEEP

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')


def loads(text: bytes | str) -> Any:
    """Parse JSON; of what is nested too deeply the upper levels. Raises `ValueError`."""
    try:
        return json.loads(text)
    except RecursionError:
        return json.loads(_cut(text.encode() if isinstance(text, str) else text))


def _cut(text: bytes) -> bytes:
    kept, begin, level = [], 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in b"{[":
            level += 1
            if level == MOST_LEVELS + 1:
                kept += [text[begin : token.start()], json.dumps(TOO_DEEP).encode()]
        elif token[0] in b"}]":
            if level == MOST_LEVELS + 1:
                begin = token.end()
            level -= 1
    return b"".join([*kept, text[begin:]])
