"""One look at one ModelDeployment: spec, status, what was seen, and the time; with the questions rules ask."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from model_operator.api.resource import ModelDeployment
from model_operator.api.revision import digest
from model_operator.api.spec import Spec
from model_operator.api.status import Mode, Phase, Status
from model_operator.api.steps import (
    Analysis,
    Evaluate,
    HeaderMatch,
    Pause,
    SetHeaderRoute,
    SetMirrorRoute,
    SetWeight,
    Step,
)
from model_operator.api.strategy import BlueGreen, Canary
from model_operator.api.times import parse_duration
from model_operator.api.values import replace
from model_operator.observation.values import Observed, RevisionView
from model_operator.policy.analysis.registry import metric_tests
from model_operator.routers import router_for


def _before_all_traffic(strategy: BlueGreen) -> tuple[Step, ...]:
    """What a blue-green rollout waits for: the proofs that its analysis asks for, then a person."""
    judged = strategy.analysis is not None and any(test.can_pass for test in metric_tests(strategy.analysis))
    proofs: tuple[Step, ...] = (Analysis(timedelta(0), None),) if judged else ()
    return proofs if strategy.auto_promote else (*proofs, Pause(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutContext:
    """What a decision looks at; `status` is the one in force, which rules replace as they go."""

    resource: ModelDeployment
    status: Status
    observed: Observed
    now: datetime

    @property
    def spec(self) -> Spec:
        return self.resource.spec

    @property
    def target(self) -> str:
        """The revision that the spec asks for."""
        return self.resource.target

    @property
    def is_superseded(self) -> bool:
        """Whether the spec asks for a third revision, so that the canary has to make room for it."""
        status = self.status
        is_open = status.phase in (Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING)
        is_third = self.target not in (status.canary, status.stable)
        return bool(status.canary) and is_open and is_third and not self.spec.paused

    @property
    def stable_view(self) -> RevisionView:
        return self.observed.revision(self.status.stable)

    @property
    def canary_view(self) -> RevisionView:
        return self.observed.revision(self.status.canary)

    @property
    def splits_requests(self) -> bool:
        """Whether a router splits requests; otherwise the number of pods behind the front Service is the split."""
        return router_for(self.spec.routing).splits_requests

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of this rollout: those of the strategy, or what its mode leaves of them."""
        strategy = self.spec.strategy
        if self.status.mode is Mode.FAST:
            return ()
        if isinstance(strategy, BlueGreen):
            return () if self.status.mode is Mode.RESCUE else _before_all_traffic(strategy)
        if not isinstance(strategy, Canary):
            return ()
        if self.status.mode is Mode.RESCUE:
            return tuple(step for step in strategy.steps if isinstance(step, Evaluate))
        return strategy.steps

    @property
    def steps_hash(self) -> str:
        """Hash of the steps that `step_index` counts in."""
        return digest([repr(step) for step in self.steps])

    @property
    def done_steps(self) -> tuple[Step, ...]:
        """The steps up to and with the current one."""
        return self.steps[: self.status.step_index + 1]

    @property
    def current_step(self) -> Step | None:
        """The step that the rollout is at; None when all are done."""
        return self.steps[self.status.step_index] if self.status.step_index < len(self.steps) else None

    @property
    def weight_before(self) -> int:
        """The weight that was in force before the current step."""
        done = self.steps[: self.status.step_index]
        return next((step.percent for step in reversed(done) if isinstance(step, SetWeight)), 0)

    @property
    def header_matches(self) -> tuple[HeaderMatch, ...]:
        """The header route in force."""
        route = next((step for step in reversed(self.done_steps) if isinstance(step, SetHeaderRoute)), None)
        return route.matches if route else ()

    @property
    def mirror_percent(self) -> int:
        """The percentage of requests that are copied to the canary."""
        route = next((step for step in reversed(self.done_steps) if isinstance(step, SetMirrorRoute)), None)
        return route.percent if route else 0

    @property
    def has_copies(self) -> bool:
        """Whether requests were copied to the canary since its weight was set: it counts them like any other."""
        is_mirrored = has_copies = False
        for step in self.done_steps:
            if isinstance(step, SetMirrorRoute):
                is_mirrored = step.percent > 0
                has_copies |= is_mirrored
            elif isinstance(step, SetWeight):
                has_copies = is_mirrored
        return has_copies

    @property
    def max_pause(self) -> timedelta | None:
        """The longest that the rollout waits for a person."""
        strategy = self.spec.strategy
        return strategy.max_pause if isinstance(strategy, Canary | BlueGreen) else None

    @property
    def scale_down_delay(self) -> timedelta:
        """How long the old revision is kept after promotion.

        Where pods themselves are the split, an old pod would still take requests: it leaves at once.
        """
        strategy = self.spec.strategy
        if isinstance(strategy, Canary) and self.splits_requests:
            return strategy.scale_down_delay
        return timedelta(0)

    @property
    def abort_scale_down_delay(self) -> timedelta:
        """How long a canary is kept after its traffic has left; not at all where its pods are the split."""
        strategy = self.spec.strategy
        if isinstance(strategy, Canary) and self.splits_requests:
            return strategy.abort_scale_down_delay
        return timedelta(0)

    @property
    def propagation(self) -> timedelta:
        """How long the router is given to act on a weight."""
        strategy = self.spec.strategy
        return strategy.propagation if isinstance(strategy, Canary) else parse_duration("0s")

    def since(self, moment: datetime | None) -> timedelta:
        """Return the time since a moment; none at all since one that has not been."""
        return self.now - moment if moment else timedelta(0)

    def under(self, status: Status) -> RolloutContext:
        """Return the same look under another status."""
        if status is self.status:
            return self
        return RolloutContext(resource=self.resource, status=status, observed=self.observed, now=self.now)

    def changed(self, **facts: Any) -> Status:
        """Return the status with other facts; the very same one when it says all of this already."""
        status = self.status
        if all(getattr(status, name) == value for name, value in facts.items()):
            return status
        return replace(status, **facts)
