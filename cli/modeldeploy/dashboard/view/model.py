"""Everything that the page of one model shows. PURE."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modeldeploy.dashboard.exposition import Series
from modeldeploy.dashboard.view.actions import Action, actions_of, undo_action
from modeldeploy.dashboard.view.difference import Difference, differences_of, manifest_of
from modeldeploy.dashboard.view.evidence import Evidence, evidence_of
from modeldeploy.dashboard.view.inputs import (
    Drift,
    Importance,
    Quality,
    drift_of,
    importance_of,
    quality_of,
    threshold_of,
)
from modeldeploy.dashboard.view.pods import Event, Pod
from modeldeploy.dashboard.view.revisions import Past, Revision, history_of, revisions_of
from modeldeploy.dashboard.view.rows import Row
from modeldeploy.dashboard.view.slices import EvaluatedGroup, SliceTable, evaluated_of, slices_of
from modeldeploy.dashboard.view.steps import Step, timeline
from modeldeploy.plain import plain
from modeldeploy.report.chart import Chart
from modeldeploy.report.charts import charts_of
from modeldeploy.report.story import JudgedRollout, NothingToReport
from modeldeploy.rollout import Rollout

Body = Mapping[str, Any]


class Unreadable(Exception):
    """The object has another shape than this version knows; the message says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Percent of the traffic for the canary: asked for, written to the router, and counted; None for unknown."""

    desired: int
    applied: int | None
    observed: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The analysis of the rollout that is on, or of the last one."""

    is_on: bool
    canary: str
    stable: str
    phase: str
    evidence: Sequence[Evidence]
    charts: Sequence[Chart]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """One model, section by section. `differences` is None where it is not known what was applied."""

    row: Row
    url: str
    uri: str
    weights: Weights | None
    steps: Sequence[Step]
    judged: Judged | None
    revisions: Sequence[Revision]
    undo: Mapping[str, Action]
    drift: Sequence[Drift]
    threshold: float
    quality: Sequence[Quality]
    importance: Sequence[Importance]
    slices: Sequence[SliceTable]
    evaluated: Sequence[EvaluatedGroup]
    history: Sequence[Past]
    events: Sequence[Event]
    manifest: str
    differences: Sequence[Difference] | None
    actions: Sequence[Action]
    conditions: Sequence[Mapping[str, str]]


def model_view(
    body: Body,
    row: Row,
    pods: Sequence[Pod],
    events: Sequence[Event],
    answers: Sequence[tuple[str, Sequence[Series]]],
    schema: Body,
    *,
    now: datetime,
) -> ModelView:
    """Return the page of one model. Raises `Unreadable`.

    Args:
        answers: what each pod says of drift and quality, with its revision.
        schema: OpenAPI schema of the object.
    """
    try:
        return _read(plain(body), row, pods, events, answers, schema, now=now)
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        message = f"This version of modeldeploy cannot read it ({type(error).__name__}: {error}); upgrade modeldeploy."
        raise Unreadable(message) from error


def _read(
    body: Body,
    row: Row,
    pods: Sequence[Pod],
    events: Sequence[Event],
    answers: Sequence[tuple[str, Sequence[Series]]],
    schema: Body,
    *,
    now: datetime,
) -> ModelView:
    rollout, status = Rollout.from_body(body), body.get("status") or {}
    revisions = revisions_of(rollout, body, pods, answers)
    threshold = threshold_of(body)
    return ModelView(
        row=row,
        url=rollout.url,
        uri=str((body.get("spec") or {}).get("model", {}).get("storageUri", "")),
        weights=_weights(rollout, status.get("weights") or {}),
        steps=timeline(rollout, now=now),
        judged=_judged(rollout, body),
        revisions=revisions,
        undo={one.name: undo_action(rollout, one.name) for one in revisions if one.can_undo},
        drift=drift_of(answers, threshold=threshold),
        threshold=threshold,
        quality=quality_of(answers),
        importance=importance_of(answers),
        slices=slices_of(answers),
        evaluated=evaluated_of(status.get("evaluation") or {}),
        history=history_of(rollout),
        events=events,
        manifest=manifest_of(body),
        differences=differences_of(body, schema),
        actions=actions_of(rollout),
        conditions=[
            {name: str(one.get(name, "")) for name in ("type", "status", "reason", "message")}
            for one in status.get("conditions") or ()
        ],
    )


def _weights(rollout: Rollout, raw: Body) -> Weights | None:
    if not rollout.canary:
        return None
    return Weights(desired=rollout.weight, applied=raw.get("applied"), observed=raw.get("observed"))


def _judged(rollout: Rollout, body: Body) -> Judged | None:
    analysis = (body.get("status") or {}).get("analysis") or {}
    metrics = tuple(analysis.get("metrics") or ())
    if not metrics:
        return None
    try:
        charts = list(charts_of(JudgedRollout.from_body(body)))
    except NothingToReport:
        charts = []
    return Judged(
        is_on=bool(rollout.canary) and analysis.get("revision") == rollout.canary,
        canary=str(analysis.get("revision", "")),
        stable=str(analysis.get("stable", "")),
        phase=str(analysis.get("phase", "")),
        evidence=evidence_of(metrics),
        charts=charts,
    )
