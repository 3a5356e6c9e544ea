"""The last traced request of each bucket of a histogram, in values that all workers share; for `telemetry.py`.

A trace's id is 128 bits, kept as four numbers of 32 bits, which doubles hold exactly.
"""

from __future__ import annotations

from bisect import bisect_left

from prometheus_client.core import Exemplar

from model_server.shared_values import SharedValues

# For each bucket: when (seconds since 1970, 0 for never), the value, the id.
_WIDTH = 6


class Exemplars:
    """Remembers and finds the exemplars of one histogram with these bounds."""

    def __init__(self, values: SharedValues, bounds: tuple[float, ...]) -> None:
        self._values = values
        self._part = values.declare((len(bounds) + 1) * _WIDTH)
        self._bounds = bounds

    def remember(self, value: float, trace_id: str, now: float) -> None:
        """A request of this trace (32 hexadecimal digits) took `value`."""
        own = self._values.own
        cell = self._part.first + bisect_left(self._bounds, value) * _WIDTH
        # A reader meanwhile sees no exemplar rather than half of one.
        own[cell] = 0
        own[cell + 1] = value
        for index in range(4):
            own[cell + 2 + index] = int(trace_id[index * 8 : index * 8 + 8], 16)
        own[cell] = now

    def found(self) -> dict[int, Exemplar]:
        """The newest exemplar of any worker for each bucket that has one, by the bucket's number."""
        newest: dict[int, tuple[float, ...]] = {}
        for numbers in self._values.each(self._part):
            for bucket in range(len(self._bounds) + 1):
                entry = tuple(numbers[bucket * _WIDTH : (bucket + 1) * _WIDTH])
                if entry[0] > newest.get(bucket, (0.0,))[0]:
                    newest[bucket] = entry
        return {bucket: _exemplar(entry) for bucket, entry in newest.items()}


def _exemplar(entry: tuple[float, ...]) -> Exemplar:
    when, value, *parts = entry
    return Exemplar({"trace_id": "".join(f"{int(part):08x}" for part in parts)}, value, when)
