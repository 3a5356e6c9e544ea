"""A chart as numbers on a grid: what the page's SVG is written from. PURE."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 220
LEFT, RIGHT, TOP, BOTTOM = 64, 28, 14, 30
_TICKS = 5
#: Lengths of time between two ticks, in seconds.
_SPANS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400, 604800)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A range of values; a logarithmic one shows growth by factors."""

    low: float
    high: float
    is_log: bool = False

    def share(self, value: float) -> float:
        """Return where a value is, from 0 at `low` to 1 at `high`; what is beyond is at the edge."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        share = (self._scaled(value) - low) / (high - low) if high > low else 0.0
        return min(max(share, 0.0), 1.0)

    def ticks(self) -> Sequence[float]:
        """Return round values within the range."""
        if self.is_log:
            powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            every = max(1, math.ceil(len(powers) / _TICKS))
            return [10.0**power for power in powers if power % every == 0]
        rough = (self.high - self.low) / _TICKS or 1.0
        magnitude = 10.0 ** math.floor(math.log10(rough))
        step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= rough * 0.999)
        return [n * step for n in range(math.ceil(self.low / step), math.floor(self.high / step + 1e-9) + 1)]

    def _scaled(self, value: float) -> float:
        return math.log(max(value, self.low)) if self.is_log else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line: (seconds, value) by time. One by steps keeps its value until the next."""

    label: str
    points: Sequence[tuple[float, float]]
    is_step: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """An area between two values: (seconds, low, high) by time."""

    label: str
    points: Sequence[tuple[float, float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Lines and bands over time; `limit` is a value with a name that a line may cross. `unit` is % or nothing."""

    title: str
    note: str
    seconds: float
    y: Axis
    lines: Sequence[Line]
    bands: Sequence[Band] = ()
    limit: tuple[str, float] | None = None
    unit: str = ""

    def at_x(self, seconds: float) -> float:
        """Return the x of a time, in units of the SVG."""
        return round(LEFT + (WIDTH - LEFT - RIGHT) * Axis(low=0, high=self.seconds).share(seconds), 1)

    def at_y(self, value: float) -> float:
        """Return the y of a value, in units of the SVG."""
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - self.y.share(value)), 1)

    def path(self, line: Line) -> str:
        """Return the `d` of a line's path."""
        x, y = self.at_x, self.at_y
        parts = [f"M{x(line.points[0][0])} {y(line.points[0][1])}"]
        for seconds, value in line.points[1:]:
            parts.append(f"H{x(seconds)}V{y(value)}" if line.is_step else f"L{x(seconds)} {y(value)}")
        return "".join(parts)

    def area(self, band: Band) -> str:
        """Return the `d` of a band's path."""
        there = [f"{self.at_x(seconds)} {self.at_y(high)}" for seconds, _, high in band.points]
        back = [f"{self.at_x(seconds)} {self.at_y(low)}" for seconds, low, _ in reversed(band.points)]
        return "M" + "L".join(there + back) + "Z"

    def x_ticks(self) -> Sequence[tuple[float, str]]:
        """Return (x, label) of the times that are marked."""
        span = next((span for span in _SPANS if self.seconds / span <= 2 * _TICKS), _SPANS[-1])
        times = [n * span for n in range(int(self.seconds // span) + 1)]
        return [(self.at_x(seconds), clock(seconds)) for seconds in times]

    def y_ticks(self) -> Sequence[tuple[float, str]]:
        """Return (y, label) of the values that are marked."""
        return [(self.at_y(value), f"{value:.4g}{self.unit}") for value in self.y.ticks()]


def clock(seconds: float) -> str:
    """Write a time since the start: `45s`, `2m30s`, `1h05m`."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{left:02}s" if minutes and left else f"{minutes}m" if minutes else f"{left}s"
