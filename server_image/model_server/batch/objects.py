"""Reads many lines of JSON at once; each means what it means in `slices.py`, which reads those that are not plain."""

from __future__ import annotations

import codecs

import numpy as np
import orjson

from model_server.batch.chunks import Objects, Places
from model_server.batch.lines import Lines
from model_server.batch.slices import Text


def read_objects(text: Text, lines: Lines, count: int) -> Objects | None:
    """So many rows, or fewer, from where `lines` stand; None where one is no JSON object."""
    content, ends = lines.peek(count)
    if not len(ends):
        return None
    begin = len(codecs.BOM_UTF8) if lines.place == 0 and content.startswith(codecs.BOM_UTF8) else 0
    try:
        rows = [orjson.loads(line) for line in content[begin:].removesuffix(b"\n").split(b"\n")]
    except orjson.JSONDecodeError:
        return None
    if not all(type(row) is dict for row in rows):
        return None
    starts = np.concatenate(([0], ends[:-1])) + lines.place
    lines.skip(len(content))
    return Objects(rows, Places(((text.piece.file.name, starts),)))
