"""The runs of a schedule: which to start, which to delete, and the status. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from model_operator.api.batch import ConcurrencyPolicy, ModelBatch
from model_operator.api.json import Body, JsonObject
from model_operator.api.times import format_time, parse_time
from model_operator.manifests.batch import run_of
from model_operator.policy.batches import BatchEvent, common_status
from model_operator.policy.schedule import due, places, run_name


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What one pass over a schedule does. `requeue_after`: the time until the next run."""

    create: Body | None
    delete: Sequence[ModelBatch]
    status: Body
    events: Sequence[BatchEvent]
    requeue_after: timedelta


def plan_runs(batch: ModelBatch, runs: Sequence[ModelBatch], now: datetime) -> RunPlan:
    """Decide about a schedule.

    Raises:
        InvalidSpec: the schedule or the time zone is none.
    """
    spec, status = batch.spec, batch.status
    active = [run for run in runs if not run.status.is_over]
    deadline = spec.starting_deadline_seconds
    found = due(
        spec.schedule or "",
        spec.time_zone,
        since=parse_time(status.last_schedule_time or batch.created),
        now=now,
        deadline=None if deadline is None else timedelta(seconds=deadline),
    )
    starts = found.missed is not None and not spec.suspend
    is_held = starts and bool(active) and spec.concurrency_policy is ConcurrencyPolicy.FORBID
    replaced = active if starts and spec.concurrency_policy is ConcurrencyPolicy.REPLACE else []
    moment = found.missed if starts and not is_held else None
    name = run_name(batch.name, moment) if moment else ""
    drafts = [BatchEvent("RunStarted", f"run {name} of {format_time(moment)}")] if moment else []
    if is_held:
        drafts = [BatchEvent("RunHeld", f"a run is due, and waits for {active[0].name}, which is active")]
    return RunPlan(
        create=run_of(batch, name, places(moment, spec.time_zone)) if moment else None,
        delete=[*replaced, *_old(batch, runs)],
        status=_status(batch, runs, active, moment, found.following, is_held, now),
        events=drafts,
        requeue_after=max(found.following - now, timedelta(milliseconds=100)),
    )


def _status(
    batch: ModelBatch,
    runs: Sequence[ModelBatch],
    active: Sequence[ModelBatch],
    moment: datetime | None,
    following: datetime,
    is_held: bool,
    now: datetime,
) -> JsonObject:
    names = sorted(run.name for run in active)
    if batch.spec.suspend:
        phase, message = "Suspended", "no run starts while the schedule is suspended"
    else:
        phase, message = "Scheduled", f"the next run starts at {following:%Y-%m-%dT%H:%M:%SZ}"
    if is_held:
        message = f"a run is due, and waits for {names[0]}, which is active"
    last = format_time(moment) if moment else batch.status.last_schedule_time
    ends = [run.status.completion_time for run in runs if run.status.is_true("Complete")]
    newest = max([*filter(None, ends), batch.status.last_successful_time], default="")
    status = common_status(batch, phase, message, [], now)
    status |= {"active": names, "lastScheduleTime": last, "lastSuccessfulTime": newest}
    status["nextScheduleTime"] = "" if batch.spec.suspend else format_time(following)
    return {key: value for key, value in status.items() if value not in ("", [])}


def _old(batch: ModelBatch, runs: Sequence[ModelBatch]) -> list[ModelBatch]:
    """Return the runs beyond the limits of the history, oldest first."""
    old = []
    limits = (("Complete", batch.spec.successful_runs_history_limit), ("Failed", batch.spec.failed_runs_history_limit))
    for outcome, limit in limits:
        ended = sorted((run for run in runs if run.status.is_true(outcome)), key=lambda run: run.created)
        old += ended[: max(0, len(ended) - limit)]
    return old
