"""Quality by group: how sure one can be of a share that few answers tell. PURE; for the dashboard and the report.

The interval and the number of answers that a group lacks are those of an evaluation (`status.evaluation`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: The 97.5th percentile of the normal distribution, and how near the share should be known.
_Z, MARGIN = 1.959964, 0.05
#: Answers of its own that weigh as much as the share over all groups, when that of a group is guessed.
_PRIOR_ANSWERS = 20

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupShare:
    """What is known of one group: a share of `count` answers, as accuracy is. `lacks` is about how many more it needs
    to be known to within `MARGIN`."""

    group: str
    count: int
    value: float
    low: float
    high: float
    lacks: int


def group_share(group: str, value: float, count: int, *, overall: float) -> GroupShare:
    """Return what is known of a group. `overall` is the share over all groups."""
    low, high = wilson(value, count)
    lacks = max(answers_needed(value, count, overall=overall) - count, 0)
    return GroupShare(group=group, count=count, value=value, low=low, high=high, lacks=lacks)


def wilson(share: float, count: float) -> tuple[float, float]:
    """Return the 95 % interval of a share by Wilson (1927)."""
    if not count:
        return 0.0, 1.0
    spread = _Z**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def answers_needed(share: float, count: float, *, overall: float) -> int:
    """Return about how many answers a group needs for an interval of `MARGIN` on either side of its share.

    That over all groups is expected of it until its own answers say otherwise.
    """
    expected = (share * count + _PRIOR_ANSWERS * overall) / (count + _PRIOR_ANSWERS)
    # A model that was right each time is not known to be: as if one answer in twenty were wrong.
    likely = min(max(expected, 0.05), 0.95)
    return math.ceil(_Z**2 * likely * (1 - likely) / MARGIN**2)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedGroup:
    """One group as an analysis judges it: the canary's share, and stable's where the two are compared."""

    canary: GroupShare
    stable: GroupShare | None


def judged_groups(metric: Body) -> list[JudgedGroup]:
    """Return the groups of one entry of `status.analysis.metrics`, those in which the canary is worst first."""
    groups: Body = metric.get("groups") or {}
    sides = {
        name: {group: (float(one[value]), int(one[count])) for group, one in groups.items() if one.get(count)}
        for name, value, count in (("canary", "value", "answers"), ("stable", "stableValue", "stableAnswers"))
    }
    canary, stable = (group_shares(one) for one in sides.values())
    return [JudgedGroup(canary=one, stable=stable.get(group)) for group, one in canary.items()]


def group_shares(counted: Mapping[str, tuple[float, int]]) -> dict[str, GroupShare]:
    """Return the groups by name, the lowest share first; each is given with its share and its number of answers."""
    total = sum(count for _, count in counted.values())
    overall = sum(value * count for value, count in counted.values()) / total if total else 0.0
    ordered = sorted(counted.items(), key=lambda pair: (pair[1][0], pair[0]))
    return {name: group_share(name, value, count, overall=overall) for name, (value, count) in ordered}
