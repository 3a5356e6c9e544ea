"""Durations and timestamps between the wire and Python."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from model_operator.errors import InvalidSpec

_SECONDS_OF = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
#: Longest accepted duration: a later time could not be represented as a date.
_LONGEST = timedelta(days=3650)
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")


def parse_duration(text: str) -> timedelta:
    """Read a duration such as `90s`, `1h30m`, `250ms` or `7d`.

    Raises:
        InvalidSpec: the text is not a duration, or is longer than ten years.
    """
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidSpec(f"{text!r} is not a duration; write for example 30s, 5m or 1h30m")
    seconds = sum(float(number) * _SECONDS_OF[unit] for number, unit in parts)
    if seconds > _LONGEST.total_seconds():
        raise InvalidSpec(f"{text!r} is longer than {_LONGEST.days} days, the longest duration that is supported")
    return timedelta(seconds=seconds)


def optional_duration(text: str | None) -> timedelta | None:
    """Read a duration that may be absent."""
    return None if text is None else parse_duration(text)


def format_duration(span: timedelta) -> str:
    """Format a duration for users: `45s`, `2m5s`, `1h30m`."""
    seconds = max(0, round(span.total_seconds()))
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    parts = [f"{n}{unit}" for n, unit in ((hours, "h"), (minutes, "m"), (seconds, "s")) if n]
    return "".join(parts[:2]) or "0s"


@lru_cache(maxsize=1024)
def parse_time(text: str) -> datetime:
    """Read an RFC 3339 timestamp."""
    return datetime.fromisoformat(text).astimezone(UTC)


def format_time(moment: datetime) -> str:
    """Write an RFC 3339 timestamp in UTC with microseconds, so that clocks survive a restart exactly."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
