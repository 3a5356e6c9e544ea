"""The status of a batch, from its Job, and which model it begins with. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import orjson

from model_operator.api.batch import ModelBatch, PinnedModel
from model_operator.api.json import Body, JsonObject
from model_operator.api.names import REVISION_SPEC, revision_name
from model_operator.api.status import Phase
from model_operator.api.times import format_time, parse_time
from model_operator.manifests.batch import package_source
from model_operator.observation.batches import JobView
from model_operator.policy.status.events import EventDraft

RESOLVED, COMPLETE, FAILED, SUSPENDED, VALID = "ModelResolved", "Complete", "Failed", "Suspended", "SpecValid"
#: Changes of the percentage and of the rate below these are not worth a write.
_DIGITS = 3


class BatchEvent(EventDraft):
    """An Event about a ModelBatch; docs/reference/events.md lists those of ModelDeployments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCondition:
    """A condition that a pass found."""

    type: str
    is_true: bool
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """The model of a batch: `source` is what pods are made from, None where there is no model yet."""

    pinned: PinnedModel
    condition: BatchCondition
    source: Mapping[str, Any] | None = None


def resolve(batch: ModelBatch, model: Body | None, children: Mapping[tuple[str, str], Body]) -> Resolution:
    """Return the package that the batch names, or the revision that is stable now; once pinned, that one.

    Args:
        model: the ModelDeployment that the batch names.
        children: its objects, by kind and name.

    A model that is absent or not ready is waited for, as a Pod waits for its ConfigMap.
    """
    given = batch.spec.model
    if given.name is None:
        pinned = PinnedModel(
            storage_uri=given.storage_uri or "", version=given.version or "", sha256=given.sha256 or ""
        )
        return _resolved(batch.status.model or pinned, package_source(batch), given.storage_uri or "")
    name, pinned = given.name, batch.status.model or PinnedModel()
    if model is None:
        return _unresolved(pinned, "ModelNotFound", f"there is no ModelDeployment {name!r} in this namespace")
    status = model.get("status") or {}
    revision = pinned.revision or (status.get("stableRevision") if _is_live(status) else "") or ""
    if not revision:
        told = status.get("message") or "it is new"
        return _unresolved(pinned, "ModelNotReady", f"ModelDeployment {name!r} has no stable revision yet: {told}")
    deployment = children.get(("Deployment", revision_name(name, revision)))
    text = ((deployment or {}).get("metadata", {}).get("annotations") or {}).get(REVISION_SPEC)
    if text is None:
        message = f"revision {revision} of ModelDeployment {name!r}, with which the batch began, is gone"
        return _unresolved(pinned, "RevisionNotFound", message)
    source = orjson.loads(text)
    if (source.get("server") or {}).get("container") is not None:
        message = f"ModelDeployment {name!r} serves by a container of its own, which no batch can ask; name a package"
        return _unresolved(pinned, "ModelNotOurs", message)
    if not pinned.revision:
        shown = status.get("model") or {}
        pinned = PinnedModel(
            name=name,
            revision=revision,
            storage_uri=source["model"]["storageUri"],
            version=shown.get("version") or "",
            sha256=shown.get("sha256") or "",
        )
    return _resolved(pinned, source, f"revision {revision} of ModelDeployment {name!r}")


def _is_live(status: Body) -> bool:
    """Whether the stable revision was live: the first one is stable, too, before it has ever served."""
    if status.get("phase") != Phase.DEGRADED:
        return status.get("phase") not in (None, Phase.PENDING)
    served = (entry.get("revision") for entry in status.get("history") or ())
    return bool(status.get("abortedRevision")) or status.get("stableRevision") in served


def _resolved(pinned: PinnedModel, source: Mapping[str, Any], what: str) -> Resolution:
    found = BatchCondition(type=RESOLVED, is_true=True, reason="ModelFound", message=f"{what} predicts")
    return Resolution(pinned=pinned, source=source, condition=found)


def _unresolved(pinned: PinnedModel, reason: str, message: str) -> Resolution:
    return Resolution(
        pinned=pinned, condition=BatchCondition(type=RESOLVED, is_true=False, reason=reason, message=message)
    )


def pending_status(batch: ModelBatch, resolution: Resolution, now: datetime) -> JsonObject:
    """Return the status of a batch without a Job."""
    is_found = resolution.source is not None
    message = "the Job is being created" if is_found else f"waits: {resolution.condition.message}"
    status = common_status(batch, "Pending", message, [resolution.condition], now)
    return status | ({"model": _model(resolution.pinned)} if resolution.pinned != PinnedModel() else {})


def invalid_status(batch: Body, reason: str, message: str, now: datetime) -> JsonObject:
    """Return the status of a batch whose spec cannot be carried out; a Job that it has goes on."""
    kept = dict(batch.get("status") or {})
    condition = BatchCondition(type=VALID, is_true=False, reason=reason, message=message)
    conditions = merge_conditions(kept.get("conditions") or (), [condition], batch["metadata"]["generation"], now)
    phase = kept.get("phase") or "Pending"
    return {**kept, "phase": phase, "message": message, "conditions": conditions}


def job_status(batch: ModelBatch, job: JobView, now: datetime) -> JsonObject:
    """Return the status of a batch with a Job."""
    phase = job.outcome or (SUSPENDED if job.is_suspended else "Running")
    status = common_status(batch, phase, _message(batch, job), list(_of_job(batch, job)), now)
    status |= {"job": job.name, "startTime": job.started_at, "completionTime": job.ended_at if job.outcome else ""}
    status |= _counts(batch, job, now)
    model = batch.status.model or PinnedModel()
    newest = next(iter(job.results.values()), None)
    if newest is not None:
        model = msgspec.structs.replace(model, sha256=newest.sha256, version=newest.version or model.version)
    status["model"] = _model(model)
    return {name: value for name, value in status.items() if value not in ("", {}, None)}


def events(batch: ModelBatch, new: Body) -> list[BatchEvent]:
    """Return the Events for a change of phase, or of what the batch waits for."""
    old = batch.body.get("status") or {}
    phase, message = new.get("phase", ""), new.get("message", "")
    if phase == old.get("phase") and (phase != "Pending" or message == old.get("message")):
        return []
    reason = next((one["reason"] for one in new["conditions"] if one["type"] == phase), f"Batch{phase}")
    if phase == "Pending":
        refused = [one for one in new["conditions"] if one["type"] in (RESOLVED, VALID) and one["status"] == "False"]
        return [BatchEvent(refused[0]["reason"], message, is_warning=True)] if refused else []
    return [BatchEvent(f"Batch{phase}" if phase != "Failed" else reason, message, is_warning=phase == "Failed")]


def common_status(
    batch: ModelBatch, phase: str, message: str, found: Sequence[BatchCondition], now: datetime
) -> JsonObject:
    """Return the fields that every status has."""
    valid = BatchCondition(type=VALID, is_true=True, reason="SpecValid")
    conditions = merge_conditions(batch.status.conditions, [*found, valid], batch.generation, now)
    return {"observedGeneration": batch.generation, "phase": phase, "message": message, "conditions": conditions}


def merge_conditions(
    held: Sequence[Mapping[str, Any]], found: Sequence[BatchCondition], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """Return the conditions with those that were found in their places; a time changes with its status alone."""
    conditions = {one["type"]: dict(one) for one in held}
    for one in found:
        before, status = conditions.get(one.type, {}), str(one.is_true)
        conditions[one.type] = {
            "type": one.type,
            "status": status,
            "observedGeneration": generation,
            "lastTransitionTime": before["lastTransitionTime"] if before.get("status") == status else format_time(now),
            "reason": one.reason,
            "message": one.message,
        }
    return list(conditions.values())


def _of_job(batch: ModelBatch, job: JobView) -> list[BatchCondition]:
    message = _message(batch, job)
    found = []
    if job.outcome == COMPLETE:
        found.append(BatchCondition(type=COMPLETE, is_true=True, reason="ShardsCompleted", message=message))
    elif job.outcome == FAILED:
        reason = job.failure.reason if job.failure else job.reason
        found.append(BatchCondition(type=FAILED, is_true=True, reason=reason or "JobFailed", message=message))
    if job.is_suspended or batch.status.is_true(SUSPENDED):
        word = "JobSuspended" if job.is_suspended else "JobResumed"
        found.append(BatchCondition(type=SUSPENDED, is_true=job.is_suspended, reason=word))
    return found


def _message(batch: ModelBatch, job: JobView) -> str:
    total = batch.spec.shard_count
    trouble = f"{job.failure.reason}: {job.failure.message}" if job.failure else ""
    if job.outcome == COMPLETE:
        rows, failed = _rows(batch, job)
        left_out = f", of which {failed} are bad" if failed else ""
        return f"{rows} rows{left_out} in {total} shard{'s' if total > 1 else ''}"
    if job.outcome == FAILED:
        return trouble or f"{job.reason}: {job.message}"
    done = f"{job.succeeded} of {total} shards are done"
    if job.is_suspended:
        return f"{done}; the batch is suspended"
    return f"{done}, {job.active} active" + (f"; last failure: {trouble}" if trouble else "")


def _rows(batch: ModelBatch, job: JobView) -> tuple[int, int]:
    """Return rows and bad rows: those that the last pod reports for all, else the sum. They never shrink meanwhile."""
    totals = next((one.batch for one in job.results.values() if one.batch is not None), None)
    if totals is not None and job.outcome == COMPLETE:
        return totals.rows, totals.failed_rows
    running = [one for index, one in job.running.items() if index not in job.results]
    rows = sum(one.rows for one in job.results.values()) + sum(one.rows for one in running)
    failed = sum(one.failed_rows for one in job.results.values()) + sum(one.failed_rows for one in running)
    return max(rows, batch.status.rows), max(failed, batch.status.failed_rows)


def _counts(batch: ModelBatch, job: JobView, now: datetime) -> JsonObject:
    total = batch.spec.shard_count
    rows, failed = _rows(batch, job)
    running = sum(one.share for index, one in job.running.items() if index not in job.results)
    share = 1.0 if job.outcome == COMPLETE else min(1.0, (job.succeeded + running) / total)
    counts: JsonObject = {
        "rows": rows,
        "failedRows": failed,
        "percent": int(100 * share),
        "shards": total,
        "succeededShards": job.succeeded,
        "failedShards": job.failed,
        "shardsDone": f"{job.succeeded}/{total}",
    }
    kept = batch.body.get("status") or {}
    if kept.get("rows") == rows and kept.get("percent") == counts["percent"] and not job.outcome:
        # Times alone are not worth a write.
        counts |= {name: kept[name] for name in ("rowsPerSecond", "secondsLeft") if name in kept}
    elif job.started_at and (rows or share):
        end = parse_time(job.ended_at) if job.outcome and job.ended_at else now
        seconds = max((end - parse_time(job.started_at)).total_seconds(), 1.0)
        counts["rowsPerSecond"] = float(f"{rows / seconds:.{_DIGITS}g}")
        if not job.outcome and share > 0:
            counts["secondsLeft"] = round(seconds * (1 - share) / share)
    return counts


def _model(pinned: PinnedModel) -> JsonObject:
    found: JsonObject = msgspec.to_builtins(pinned)
    return {name: value for name, value in found.items() if value}
