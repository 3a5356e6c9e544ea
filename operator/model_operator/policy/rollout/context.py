"""The input of a decision: spec, status, observation and time of one ModelDeployment, with derived properties."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from model_operator.api.resource import ModelDeployment, polled_fingerprint
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
    """Return the steps of a blue-green rollout: its analysis if one can pass, then a user's promotion."""
    judged = strategy.analysis is not None and any(test.can_pass for test in metric_tests(strategy.analysis))
    proofs: tuple[Step, ...] = (Analysis(timedelta(0), None),) if judged else ()
    return proofs if strategy.auto_promote else (*proofs, Pause(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutContext:
    """Input of a decision; `status` is the current one, which rules replace."""

    resource: ModelDeployment
    status: Status
    observed: Observed
    now: datetime

    @property
    def spec(self) -> Spec:
        return self.resource.spec

    @property
    def target(self) -> str:
        """Revision of the spec."""
        return self.resource.target

    @property
    def target_fingerprint(self) -> str:
        """Fingerprint of the object at the storage URI that `target` was made from; empty before any change."""
        # That of the status as it was read: what was seen since makes another target in the next pass.
        return polled_fingerprint(self.spec.model, self.resource.status)

    @property
    def is_superseded(self) -> bool:
        """Whether the spec has a third revision, which replaces the canary."""
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
        """Steps of this rollout: those of the strategy that its mode includes."""
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
        """Hash of the steps that `step_index` refers to."""
        return digest([repr(step) for step in self.steps])

    @property
    def done_steps(self) -> tuple[Step, ...]:
        """Steps up to and including the current one."""
        return self.steps[: self.status.step_index + 1]

    @property
    def current_step(self) -> Step | None:
        """Current step of the rollout; None when all are done."""
        return self.steps[self.status.step_index] if self.status.step_index < len(self.steps) else None

    @property
    def weight_before(self) -> int:
        """Weight in percent before the current step."""
        done = self.steps[: self.status.step_index]
        return next((step.percent for step in reversed(done) if isinstance(step, SetWeight)), 0)

    @property
    def header_matches(self) -> tuple[HeaderMatch, ...]:
        """Current header route."""
        route = next((step for step in reversed(self.done_steps) if isinstance(step, SetHeaderRoute)), None)
        return route.matches if route else ()

    @property
    def mirror_percent(self) -> int:
        """Percentage of requests that are copied to the canary."""
        route = next((step for step in reversed(self.done_steps) if isinstance(step, SetMirrorRoute)), None)
        return route.percent if route else 0

    @property
    def has_copies(self) -> bool:
        """Whether requests were copied to the canary since its weight was set: its counters include them."""
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
        """Maximum time that the rollout waits for a user."""
        strategy = self.spec.strategy
        return strategy.max_pause if isinstance(strategy, Canary | BlueGreen) else None

    @property
    def scale_down_delay(self) -> timedelta:
        """Time to keep the old revision after promotion.

        Where the number of pods splits the traffic, it is 0: an old pod would still receive requests.
        """
        strategy = self.spec.strategy
        if isinstance(strategy, Canary) and self.splits_requests:
            return strategy.scale_down_delay
        return timedelta(0)

    @property
    def abort_scale_down_delay(self) -> timedelta:
        """Time to keep a canary after its traffic has shifted away; 0 where the number of pods splits the traffic."""
        strategy = self.spec.strategy
        if isinstance(strategy, Canary) and self.splits_requests:
            return strategy.abort_scale_down_delay
        return timedelta(0)

    @property
    def propagation(self) -> timedelta:
        """Time after a weight is programmed before its effect is measured."""
        strategy = self.spec.strategy
        return strategy.propagation if isinstance(strategy, Canary) else parse_duration("0s")

    def since(self, moment: datetime | None) -> timedelta:
        """Return the time since a moment; 0 if it is None."""
        return self.now - moment if moment else timedelta(0)

    def under(self, status: Status) -> RolloutContext:
        """Return the same context with another status."""
        if status is self.status:
            return self
        return RolloutContext(resource=self.resource, status=status, observed=self.observed, now=self.now)

    def changed(self, **facts: Any) -> Status:
        """Return the status with changed fields; the identical object if no field differs."""
        status = self.status
        if all(getattr(status, name) == value for name, value in facts.items()):
            return status
        return replace(status, **facts)
