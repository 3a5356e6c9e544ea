"""The last traced request of each bucket of a histogram, in cells that all workers share; for `telemetry.py`.

A trace's id is 128 bits, kept as four numbers of 32 bits, which doubles hold exactly.
"""

from __future__ import annotations

from bisect import bisect_left

from prometheus_client.core import Exemplar

from model_server.cells import Area, Cells

# For each bucket: when (seconds since 1970, 0 for never), the value, the id.
_WIDTH = 6


class Exemplars:
    """Remembers and finds the exemplars of one histogram with these bounds."""

    def __init__(self, first: int, bounds: tuple[float, ...]) -> None:
        self.area = Area(first, (len(bounds) + 1) * _WIDTH)
        self._bounds = bounds

    def remember(self, row: memoryview[float], value: float, trace_id: str, now: float) -> None:
        """A request of this trace (32 hexadecimal digits) took `value`."""
        cell = self.area.first + bisect_left(self._bounds, value) * _WIDTH
        # Whoever reads meanwhile sees no exemplar rather than half of one.
        row[cell] = 0
        row[cell + 1] = value
        for index in range(4):
            row[cell + 2 + index] = int(trace_id[index * 8 : index * 8 + 8], 16)
        row[cell] = now

    def found(self, cells: Cells) -> dict[int, Exemplar]:
        """The newest exemplar of any worker for each bucket that has one, by the bucket's number."""
        newest: dict[int, tuple[float, ...]] = {}
        for numbers in cells.each(self.area):
            for bucket in range(len(self._bounds) + 1):
                entry = tuple(numbers[bucket * _WIDTH : (bucket + 1) * _WIDTH])
                if entry[0] > newest.get(bucket, (0.0,))[0]:
                    newest[bucket] = entry
        return {bucket: _exemplar(entry) for bucket, entry in newest.items()}


def _exemplar(entry: tuple[float, ...]) -> Exemplar:
    when, value, *parts = entry
    return Exemplar({"trace_id": "".join(f"{int(part):08x}" for part in parts)}, value, when)
