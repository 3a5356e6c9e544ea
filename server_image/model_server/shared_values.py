"""Numbers that all workers of a server share: each adds to values of its own, a scrape sums those of all.

`telemetry.py` and `monitoring/` declare their metrics here. Adding costs a tenth of a lock and a label look-up, and no
worker waits for another. The memory is a plain buffer for one worker and a mapped file for several. The parent of
workers makes it before anything is imported that declares metrics, so its size is fixed; untouched pages cost nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from mmap import mmap
from types import MappingProxyType

from prometheus_client.core import Exemplar, HistogramMetricFamily, Metric

#: Values of one worker; more than all metrics together declare.
WIDTH = 49_152
_VALUE_BYTES = 8


@dataclass(frozen=True, slots=True)
class Slice:
    """Neighbouring values of a worker."""

    first: int
    size: int

    @property
    def end(self) -> int:
        """The place after its last."""
        return self.first + self.size


class SharedValues:
    """The values of all workers, as one of them sees them: it writes `own`, and reads everybody's.

    Every worker declares the same slices in the same order, so that they agree on what lies where.
    """

    def __init__(self, memory: mmap | bytearray | None = None, worker: int = 0) -> None:
        self._all = memoryview(bytearray(self.size(1)) if memory is None else memory).cast("d")
        self.workers = len(self._all) // WIDTH
        self.own = self._all[worker * WIDTH : (worker + 1) * WIDTH]
        self._declared = 0

    @property
    def everything(self) -> memoryview[float]:
        """The values of all workers, `WIDTH` of each."""
        return self._all

    @staticmethod
    def size(workers: int) -> int:
        """Bytes that so many workers need."""
        return workers * WIDTH * _VALUE_BYTES

    def declare(self, size: int = 1) -> Slice:
        """The next values that nobody has declared. Raises ValueError when there are not so many."""
        found = Slice(self._declared, size)
        if found.end > WIDTH:
            raise ValueError(f"{size} more values do not fit the {WIDTH} of a worker: raise WIDTH")
        self._declared = found.end
        return found

    def histogram(self, name: str, text: str, bounds: Sequence[float]) -> Histogram:
        """Declare a histogram with these upper bounds."""
        values = self.declare(len(bounds) + 2)
        return Histogram(name, text, tuple(bounds), values.first)

    def sum(self, place: int) -> float:
        """One number over all workers."""
        return float(sum(self._all[worker * WIDTH + place] for worker in range(self.workers)))

    def each(self, part: Slice) -> list[list[float]]:
        """A slice's numbers, one list a worker."""
        starts = [worker * WIDTH for worker in range(self.workers)]
        return [list(self._all[start + part.first : start + part.end]) for start in starts]

    def sums(self, part: Slice) -> list[float]:
        """A slice's numbers over all workers."""
        return [self.sum(place) for place in range(part.first, part.end)]


@dataclass(frozen=True, slots=True)
class Total:
    """How many values were counted, and their sum."""

    count: int
    value: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """A histogram among the values: one for each bucket, one above them, one for the sum."""

    name: str
    text: str
    bounds: tuple[float, ...]
    first: int

    def observe(self, own: memoryview[float], value: float) -> None:
        """Count one value."""
        bounds = self.bounds
        own[self.first + bisect_left(bounds, value)] += 1
        own[self.first + len(bounds) + 1] += value

    def total(self, values: SharedValues) -> Total:
        """How many values all workers have counted, and their sum."""
        buckets = len(self.bounds) + 1
        count = sum(values.sum(self.first + index) for index in range(buckets))
        return Total(int(count), values.sum(self.first + buckets))

    def family(
        self,
        values: SharedValues,
        names: Sequence[str],
        labels: Sequence[str],
        name: str = "",
        exemplars: Mapping[int, Exemplar] = MappingProxyType({}),
    ) -> Metric:
        """Prometheus' form of it, under its own or another name, with exemplars by the number of their bucket."""
        family = HistogramMetricFamily(name or self.name, self.text, labels=names)
        self.add_to(family, values, labels, exemplars)
        return family

    def add_to(
        self,
        family: HistogramMetricFamily,
        values: SharedValues,
        labels: Sequence[str],
        exemplars: Mapping[int, Exemplar] = MappingProxyType({}),
    ) -> None:
        """Add it to a family, which has others with other labels."""
        total = 0.0
        buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        for index, bound in enumerate([*map(float, self.bounds), "+Inf"]):
            total += values.sum(self.first + index)
            found = exemplars.get(index)
            buckets.append((str(bound), total) if found is None else (str(bound), total, found))
        family.add_metric(labels, buckets, values.sum(self.first + len(self.bounds) + 1))
