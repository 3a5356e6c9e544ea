"""Durations as the resource writes them (`90s`, `1h30m`, `2.5d`), and its times as people read them. PURE."""

import re
from datetime import timedelta

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")


def parse_duration(text: str) -> timedelta:
    """Read a duration. Raises `ValueError` that says how one is written."""
    if not re.fullmatch(f"(?:{_PART.pattern})+", text):
        raise ValueError(f"{text!r} is no duration: write a number and a unit (ms, s, m, h, d), as in 90s or 1h30m")
    try:
        return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text)))
    except OverflowError:
        raise ValueError(f"{text!r} is longer than time lasts") from None


def format_duration(duration: timedelta) -> str:
    """Write whole seconds as a person would read them, as in 1h 5m or 40s."""
    seconds = max(0, round(duration.total_seconds()))
    parts = [
        (seconds // 86400, "d"),
        (seconds // 3600 % 24, "h"),
        (seconds // 60 % 60, "m"),
        (seconds % 60, "s"),
    ]
    shown = [f"{number}{unit}" for number, unit in parts if number]
    return " ".join(shown[:2]) or "0s"


def to_seconds(at: str) -> str:
    """A time of the API without what is below a second."""
    return re.sub(r"\.[0-9]+Z$", "Z", at)
