"""The most recent predictions, for comparing two revisions: `POST /shadow/predictions` reads what the monitor keeps.

A request is known by a digest of its body: the copy that a router mirrors to another revision has the same body, so
that both answers are found without an id. Nothing is kept until a client asks, and nothing again when none has asked
for a while. Kept are digests and outputs, never inputs, in rings of fixed size that all workers share.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from model_server.domain.tensors import Array, Outputs
from model_server.shared_values import SharedValues, Slice

#: Predictions that one worker keeps.
SLOTS = 1024
#: Values of one prediction that are kept; a longer output is compared by its first ones.
VALUES = 16
# A double holds whole numbers of 48 bits exactly; so much of a digest tells any two requests apart.
_DIGEST_BYTES = 6
_UNTIL, _EVERY, _WRITTEN, _RING = 0, 1, 2, 3
# A slot: the digest, the number of values (negative: of labels), the values.
_SLOT = 2 + VALUES


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One prediction. `size` is how many values it had; `values` are the first of them, or digests of labels."""

    request: str
    size: int
    values: list[float | None] | list[str]

    @property
    def document(self) -> dict[str, Any]:
        """Its form in JSON."""
        kind = "labels" if self.values and isinstance(self.values[0], str) else "numbers"
        return {"request": self.request, "size": self.size, kind: self.values}


class PredictionLog:
    """The rings of all workers in a slice of the shared values; only its own worker writes a ring."""

    def __init__(self, values: SharedValues) -> None:
        self._values = values
        self._part = part = values.declare(_RING + SLOTS * _SLOT)
        self._own = values.own[part.first : part.end]
        #: One request in so many is kept, by its digest; 0: none.
        self.every = 0

    def ask(self, *, every: int, seconds: float) -> None:
        """Keep one request in `every` for so many seconds; other workers follow at their next `refresh`."""
        self._own[_EVERY] = every
        self._own[_UNTIL] = time.monotonic() + seconds
        self.every = every

    def refresh(self) -> None:
        """Take over what the last asker wanted, whichever worker it met; the clock is the machine's."""
        rows = self._values.each(Slice(self._part.first, _RING))
        last = max(rows, key=lambda row: row[_UNTIL])
        self.every = int(last[_EVERY]) if last[_UNTIL] > time.monotonic() else 0

    def keep(self, body: bytes, outputs: Outputs) -> None:
        """Remember the first output of a request, if its digest is among those that are kept."""
        digest = _digest(body)
        array = next(iter(outputs.values()))
        if digest % self.every or not array.size:
            return
        own = self._own
        written = int(own[_WRITTEN])
        first = _RING + written % SLOTS * _SLOT
        numbers, is_label = _values(array)
        own[first] = digest
        own[first + 1] = -array.size if is_label else array.size
        for place, number in enumerate(numbers, first + 2):
            own[place] = number
        # Told last: who reads meanwhile does not take a slot that is half written.
        own[_WRITTEN] = written + 1

    def counts(self) -> list[int]:
        """How many predictions each worker has kept since it began."""
        return [int(row[0]) for row in self._values.each(Slice(self._part.first + _WRITTEN, 1))]

    def since(self, counts: Sequence[int]) -> tuple[list[int], list[Kept], int]:
        """What was kept since `counts`: the counts now, the predictions, and how many were overwritten unread."""
        now, rows, after = self.counts(), self._values.each(self._part), self.counts()
        found: list[Kept] = []
        missed = 0
        for row, begin, end, overwritten in zip(rows, counts, now, after, strict=True):
            # A count ahead of ours is of the process before this one.
            begin = begin if begin <= end else 0
            oldest = max(begin, overwritten - SLOTS + 1, 0)
            missed += min(oldest, end) - begin
            found += [_read(row, number) for number in range(oldest, end)]
        return now, found, missed


def _digest(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest())


def comparable_values(array: Array, most: int) -> tuple[list[float | None] | list[str], str]:
    """The first values as JSON has them, and what they are: `numbers`, or `labels` which are digests."""
    values, is_label = _values(array, most)
    return ([_hex(value) for value in values], "labels") if is_label else (_finite(values), "numbers")


def _values(array: Array, most: int = VALUES) -> tuple[list[float], bool]:
    """The first values as numbers; text that is no number as digests, and that it is so."""
    first = array.flat[:most]  # reshaped, a large array could be copied whole
    if first.dtype.kind in "biuf":
        return first.tolist(), False
    texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in first.tolist()]
    try:
        return [float(text) for text in texts], False
    except ValueError:
        return [float(_digest(text.encode())) for text in texts], True


def _read(row: list[float], number: int) -> Kept:
    first = _RING + number % SLOTS * _SLOT
    size = int(row[first + 1])
    values = row[first + 2 : first + 2 + min(abs(size), VALUES)]
    return Kept(
        request=_hex(row[first]),
        size=abs(size),
        values=[_hex(value) for value in values] if size < 0 else _finite(values),
    )


def _finite(values: Sequence[float]) -> list[float | None]:
    """JSON has no word for NaN and infinity."""
    return [value if math.isfinite(value) else None for value in values]


def _hex(number: float) -> str:
    return f"{int(number):0{2 * _DIGEST_BYTES}x}"
