"""How far a download is: bytes, rate and remaining time in words, for the log and `/readyz`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Progress:
    """Counts bytes from any thread and reports at most every half second."""

    INTERVAL_SECONDS = 0.5

    def __init__(self, report: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._report = report
        self._clock = clock
        self._lock = threading.Lock()
        self._started = self._reported = clock()
        self.total = 0
        self.done = 0

    def expect(self, size: int) -> None:
        """Add the size of a file that is about to be read."""
        with self._lock:
            self.total += size

    def advance(self, size: int) -> None:
        """Count bytes that have arrived."""
        with self._lock:
            self.done += size
            now = self._clock()
            if now - self._reported < self.INTERVAL_SECONDS:
                return
            self._reported = now
        self._report(describe(self.done, self.total, now - self._started))


def describe(done: int, total: int, seconds: float) -> str:
    """`43 % of 1.2 GB, 110.0 MB/s, 6 s left`."""
    rate = done / seconds if seconds > 0 else 0
    share = f"{done * 100 // total} % of {_size(total)}" if total else _size(done)
    left = f", {(total - done) / rate:.0f} s left" if rate and total > done else ""
    return f"{share}, {_size(rate)}/s{left}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
