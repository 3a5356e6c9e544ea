"""Which offsets of a Kafka partition are finished. Pure.

Kafka commits one offset, up to which all messages are finished, and counts no deliveries. Each commit therefore says in
its metadata how far messages had been taken, and how often a consumer began at this offset: what lies between was
delivered before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_METADATA = re.compile(r"taken=(\d{1,19}) begun=(\d{1,6})")


@dataclass(slots=True)
class PartitionOffsets:
    """One partition, from the offset at which this consumer began.

    Attributes:
        low: the offset to commit: all messages before it are finished.
        high: the offset behind the last that was taken, now or by an earlier consumer.
        begun: how often a consumer began at `low` and did not finish its message, this time included.
    """

    low: int
    high: int
    begun: int = 1
    _earlier: int = 0
    _next: int | None = None
    # Not finished, and whether somebody works on it. In the order of the offsets, which have gaps: compaction and
    # transactions leave some out.
    _open: dict[int, bool] = field(default_factory=dict)

    @classmethod
    def resumed(cls, low: int, metadata: str) -> PartitionOffsets:
        """What a committed offset and its metadata say."""
        known = _METADATA.fullmatch(metadata or "")
        high = max(int(known[1]), low) if known else low
        return cls(low, high, int(known[2]) + 1 if known and high > low else 1, high)

    def take(self, offset: int) -> int:
        """A message is taken; how often it was delivered, this time included.

        Of those that may have been delivered before, the first is what an earlier consumer did not get past.
        """
        if self._next is None:
            self._move(offset)
        self._open[offset] = True
        self._next = offset + 1
        self.high = max(self.high, self._next)
        if offset >= self._earlier:
            return 1
        return max(self.begun, 2) if offset == self.low else 2

    def finish(self, offset: int) -> None:
        """A message is answered, or is a dead letter."""
        self._open.pop(offset, None)
        if self._next is not None:
            self._move(next(iter(self._open), self._next))

    def give_back(self, offset: int) -> None:
        """A message that was taken is left to whoever gets the partition next: nothing from it on is committed."""
        self._open[offset] = False

    def reach(self, offset: int) -> None:
        """The client is at this offset, and there was no message between it and the last that was taken."""
        if not self._open and offset > self.low:
            self._next, self.high = offset, max(self.high, offset)
            self._move(offset)

    def hand_over(self) -> None:
        """Another consumer gets the partition while this one is well: that it begins is no failure of the message."""
        self.begun = max(0, self.begun - 1)

    def _move(self, low: int) -> None:
        if low != self.low:
            self.low, self.begun = low, 1

    @property
    def is_open(self) -> bool:
        """Whether messages are worked on."""
        return any(self._open.values())

    @property
    def metadata(self) -> str:
        """What the commit says beside the offset."""
        return f"taken={self.high} begun={self.begun}"
