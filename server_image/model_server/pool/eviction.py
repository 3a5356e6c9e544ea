"""Which models make room for another: pure decisions; `memory` figures are bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: What a model is taken to need as long as nothing was measured, and the least that any is counted with.
UNKNOWN_BYTES = 1_048_576
LEAST_BYTES = 65_536
#: Share of the budget that is freed in advance.
SPARE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A loaded model. `used_at` is when its last request began; a busy one has requests."""

    number: int
    bytes: int
    used_at: float
    is_busy: bool


@dataclass(frozen=True, slots=True)
class Room:
    """The models to unload, and how many bytes are missing even then."""

    evict: tuple[int, ...]
    missing: int

    @property
    def is_enough(self) -> bool:
        """Whether the new model fits."""
        return self.missing <= 0


def make_room(residents: Sequence[Resident], *, used: int, needed: int, budget: int, spare: float = 0.0) -> Room:
    """Choose the least recently used models, of those that answer nothing now, until `needed` bytes fit the budget.

    Where any has to go, a share of the budget is freed for those that come next: freeing costs a look at all objects of
    a process, however many models go.
    """
    missing = used + needed - budget
    evict: list[int] = []
    if missing <= 0:
        return Room((), 0)
    more = int(spare * budget)
    for one in sorted(residents, key=lambda one: (one.used_at, one.number)):
        if missing + more <= 0:
            break
        if not one.is_busy:
            evict.append(one.number)
            missing -= max(one.bytes, LEAST_BYTES)
    return Room(tuple(evict), max(missing, 0))


def expected_bytes(measured: int, residents: Sequence[Resident]) -> int:
    """What a model will need: as last time, else as the others on average, else a guess."""
    if measured:
        return measured
    known = [one.bytes for one in residents if one.bytes]
    return sum(known) // len(known) if known else UNKNOWN_BYTES


def retry_after(failures: int, *, is_permanent: bool) -> float:
    """Seconds for which a model whose loading failed is not tried again: what is permanent waits longer."""
    first, most = (30.0, 600.0) if is_permanent else (1.0, 60.0)
    return float(min(first * 2 ** (failures - 1), most))
