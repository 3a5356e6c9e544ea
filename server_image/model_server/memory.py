"""Gives back the pages of libraries' code that only their start ran; `loader.py` calls it before the model is warmed.

ONNX Runtime alone runs fifteen megabytes of code to register what it could compute, and a prediction needs little of
it. The pages are those of the libraries' files: dropped from this process they lie in the kernel's cache, which takes
them when memory is short, and a page that is needed again is mapped again from there.
"""

from __future__ import annotations

import ctypes
import mmap
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

_HEAD = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \d+ *(.*)$")
_OWN = re.compile(r"^Anonymous: +(\d+) kB")


def release_code_pages() -> None:
    """Drop the unchanged pages of code from this process's memory; nothing on systems that are not Linux."""
    smaps = Path("/proc/self/smaps")
    if sys.platform != "linux" or not smaps.exists():
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    with smaps.open() as lines:
        for first, end in unchanged_code(lines):
            # Refused for memory that is locked: then it stays.
            madvise(first, end - first, mmap.MADV_DONTNEED)


def unchanged_code(smaps: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Addresses (first, end) of code that is mapped from files and of which no page was written to.

    A page that was written to exists only in memory: a mapping with one of them is left alone.
    """
    found: tuple[int, int] | None = None
    for line in smaps:
        if head := _HEAD.match(line):
            is_code = head[3] == "r-xp" and head[4].startswith("/")
            found = (int(head[1], 16), int(head[2], 16)) if is_code else None
        elif (own := _OWN.match(line)) and found:
            if own[1] == "0":
                yield found
            found = None
