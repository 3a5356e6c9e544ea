"""Memory that a worker process shares with the front: which models it computes, to be read when it has ended."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap

#: Threads that may compute at the same time, with the event loop's and the loader's.
SLOTS = 128
_SIZE = SLOTS * 8


class Board:
    """A number of a model for each thread that computes, 0 for none."""

    def __init__(self, descriptor: int) -> None:
        self._numbers = memoryview(mmap(descriptor, _SIZE)).cast("Q")
        self._local = threading.local()
        self._lock = threading.Lock()
        self._taken = 0

    @contextmanager
    def computing(self, number: int) -> Iterator[None]:
        """Show the model while this thread computes with it."""
        slot = self._slot()
        before = self._numbers[slot]
        self._numbers[slot] = number
        try:
            yield
        finally:
            self._numbers[slot] = before

    @property
    def numbers(self) -> set[int]:
        """The models that are being computed, or were when the process ended."""
        return set(self._numbers) - {0}

    def _slot(self) -> int:
        slot: int | None = getattr(self._local, "slot", None)
        if slot is None:
            with self._lock:
                slot = self._local.slot = self._taken % SLOTS
                self._taken += 1
        return slot


def make_board() -> int:
    """The descriptor of an empty board."""
    with tempfile.TemporaryFile() as file:
        file.truncate(_SIZE)
        return os.dup(file.fileno())
