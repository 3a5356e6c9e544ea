"""State of metrics that depend on an external provider, which may be unavailable.

An outage is neither good nor bad evidence: the state keeps it, with its start time, beside the evidence until the
next answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from model_operator.api.times import format_time, parse_time
from model_operator.api.values import replace
from model_operator.observation.values import MetricState

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderState(MetricState):
    """`problem` is the provider's last error, empty once it has answered again; `problem_since` is when it began."""

    problem: str = ""
    problem_since: datetime | None = None

    def failed(self, problem: str, now: datetime) -> Self:
        """Return the state after a provider that failed."""
        return replace(self, problem=problem, problem_since=self.problem_since or now)

    def answered(self) -> Self:
        """Return the state after a provider that answered."""
        return replace(self, problem="", problem_since=None)


def outage_to_status(state: ProviderState) -> dict[str, Any]:
    """Return the fields of an outage; empty without one."""
    if not state.problem or state.problem_since is None:
        return {}
    return {"problem": state.problem, "problemSince": format_time(state.problem_since)}


def outage_from_status(entry: Body) -> dict[str, Any]:
    """Restore the fields of a `ProviderState` that `outage_to_status` wrote."""
    since = entry.get("problemSince")
    return {"problem": entry.get("problem", ""), "problem_since": parse_time(since) if since else None}
