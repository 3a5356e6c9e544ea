"""What guards, A/B tests and shadow comparison have in common: somebody else provides their values, and may fail. Pure.

An outage is neither good nor bad news: it is remembered beside what is known, with its beginning, until the
next answer.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from model_operator.api.json import Body
from model_operator.api.times import format_time, parse_time
from model_operator.api.values import replace


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderBacked:
    """`problem` is what the provider failed with at the last time, empty when it answered; since `problem_since`."""

    problem: str = ""
    problem_since: datetime | None = None

    def missed(self, problem: str, now: datetime) -> Self:
        """Return what is known after a provider that failed."""
        return replace(self, problem=problem, problem_since=self.problem_since or now)

    def answered(self) -> Self:
        """Return what is known after a provider that answered."""
        return replace(self, problem="", problem_since=None)


def outage_body(known: ProviderBacked) -> dict[str, Any]:
    """Return what status shows and remembers of an outage; nothing where there is none."""
    if not known.problem or known.problem_since is None:
        return {}
    return {"problem": known.problem, "problemSince": format_time(known.problem_since)}


def outage_of(entry: Body) -> dict[str, Any]:
    """Read back what `outage_body` wrote, as the fields of a `ProviderBacked`."""
    since = entry.get("problemSince")
    return {"problem": entry.get("problem", ""), "problem_since": parse_time(since) if since else None}
