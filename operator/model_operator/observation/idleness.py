"""Since when a model has answered no request, from the counters of its pods."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Idleness:
    """Requests that each pod had counted at the last look, by uid, and the time of the last change."""

    since: datetime
    counts: Mapping[str, int] = field(default_factory=dict)


def observed_again(last: Idleness | None, counts: Mapping[str, int | None], now: datetime) -> Idleness:
    """Return the idleness after another look.

    A pod without a count (None) is answering a request, or did not tell. After a restart of the operator, the time
    counts from the first look.
    """
    known = {uid: count for uid, count in counts.items() if count is not None}
    if last is None or len(known) < len(counts):
        return Idleness(since=now, counts=known)
    is_silent = all(count == last.counts.get(uid, 0) for uid, count in known.items())
    return Idleness(since=last.since if is_silent else now, counts=known)
