"""Numbers that all workers of a server share: each adds to a row of its own, a scrape sums the rows.

Used by `telemetry.py` and `monitoring/`. Adding costs a tenth of a lock and a label look-up, and no
worker waits for another. The memory is a plain buffer for one worker and a mapped file for several.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from mmap import mmap
from types import MappingProxyType

from prometheus_client.core import Exemplar, HistogramMetricFamily, Metric

_CELL_BYTES = 8


@dataclass(frozen=True, slots=True)
class Area:
    """Neighbouring cells of a row."""

    first: int
    size: int

    @property
    def end(self) -> int:
        """The cell after its last."""
        return self.first + self.size


class Cells:
    """The rows of all workers, `width` doubles each. Only its own worker writes a row."""

    def __init__(self, memory: mmap | bytearray, width: int) -> None:
        self._all = memoryview(memory).cast("d")
        self._width = width
        self.rows = len(self._all) // width

    @staticmethod
    def size(workers: int, width: int) -> int:
        """Bytes that so many workers need."""
        return workers * width * _CELL_BYTES

    def row(self, worker: int) -> memoryview[float]:
        """The cells of one worker, counted from 0."""
        return self._all[worker * self._width : (worker + 1) * self._width]

    def sum(self, cell: int) -> float:
        """One number over all workers."""
        return float(sum(self._all[row * self._width + cell] for row in range(self.rows)))

    def each(self, area: Area) -> list[list[float]]:
        """An area's numbers, one list a worker."""
        starts = [row * self._width for row in range(self.rows)]
        return [list(self._all[start + area.first : start + area.end]) for start in starts]

    def sums(self, area: Area) -> list[float]:
        """An area's numbers over all workers."""
        return [self.sum(cell) for cell in range(area.first, area.end)]


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram among the cells: one for each bucket, one above them, one for the sum of values."""

    name: str
    text: str
    bounds: tuple[float, ...]
    first: int

    @property
    def end(self) -> int:
        """The cell after its last."""
        return self.first + len(self.bounds) + 2

    def observe(self, row: memoryview[float], value: float) -> None:
        """Count one value."""
        bounds = self.bounds
        row[self.first + bisect_left(bounds, value)] += 1
        row[self.first + len(bounds) + 1] += value

    def family(
        self,
        cells: Cells,
        names: Sequence[str],
        labels: Sequence[str],
        name: str = "",
        exemplars: Mapping[int, Exemplar] = MappingProxyType({}),
    ) -> Metric:
        """Prometheus' form of it, under its own or another name, with exemplars by the number of their bucket."""
        family = HistogramMetricFamily(name or self.name, self.text, labels=names)
        total = 0.0
        buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        for index, bound in enumerate([*map(float, self.bounds), "+Inf"]):
            total += cells.sum(self.first + index)
            found = exemplars.get(index)
            buckets.append((str(bound), total) if found is None else (str(bound), total, found))
        family.add_metric(labels, buckets, cells.sum(self.end - 1))
        return family
