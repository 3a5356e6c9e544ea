"""Requests and errors of the last minutes: counters of pods become rates, and rates become a sparkline. PURE."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: Counters by pod: requests, and those that were answered with 5xx.
Counters = Mapping[str, tuple[float, float]]
#: Rates that are kept: ten minutes at one each quarter of a minute.
KEPT = 40


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests and errors per second in one interval."""

    requests: float
    errors: float


@dataclass(slots=True)
class Ring:
    """The last rates of one model, and the counters that the next one is computed from."""

    rates: deque[Rate] = field(default_factory=lambda: deque(maxlen=KEPT))
    drifted: tuple[str, ...] = ()
    _last: Counters = field(default_factory=dict)
    _at: float = 0.0

    def add(self, counters: Counters, drifted: Sequence[str], *, at: float) -> None:
        """Take what the pods counted by `at`, in seconds of a steady clock."""
        if self._last and at > self._at:
            self.rates.append(rate_between(self._last, counters, at - self._at))
        self._last, self._at, self.drifted = dict(counters), at, tuple(drifted)

    @property
    def now(self) -> Rate | None:
        """The newest rate; None before there are two samples."""
        return self.rates[-1] if self.rates else None


def rate_between(before: Counters, after: Counters, seconds: float) -> Rate:
    """Return the rate between two samples; a pod that is new, or has started again, has counted from 0."""
    requests = errors = 0.0
    for pod, (count, bad) in after.items():
        known, known_bad = before.get(pod, (0.0, 0.0) if pod in before else (count, bad))
        requests += count - known if count >= known else count
        errors += bad - known_bad if bad >= known_bad else bad
    return Rate(requests / seconds, errors / seconds)


@dataclass(frozen=True, slots=True)
class Sparkline:
    """Paths of an SVG of `WIDTH` by `HEIGHT`: area and line of the requests, line of the errors ("" without any)."""

    area: str
    requests: str
    errors: str

    WIDTH = 96
    HEIGHT = 24


def sparkline(rates: Sequence[Rate]) -> Sparkline | None:
    """Return the drawing of the rates, newest at the right; None where there are fewer than two."""
    if len(rates) < 2:
        return None
    most = max(max(one.requests for one in rates), 1e-9)
    step = Sparkline.WIDTH / (KEPT - 1)
    first = Sparkline.WIDTH - step * (len(rates) - 1)

    def points(values: Sequence[float]) -> str:
        height = Sparkline.HEIGHT - 2
        return "L".join(
            f"{first + step * index:.1f} {height * (1 - value / most) + 1:.1f}" for index, value in enumerate(values)
        )

    bottom = Sparkline.HEIGHT
    line = points([one.requests for one in rates])
    errors = [one.errors for one in rates]
    area = f"M{first:.1f} {bottom}L{line}L{Sparkline.WIDTH} {bottom}Z"
    return Sparkline(area, f"M{line}", f"M{points(errors)}" if any(errors) else "")
