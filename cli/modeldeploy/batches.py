"""One ModelBatch as its status tells it, and what a person sees of it. PURE; `commands/batch.py` prints it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from rich.table import Table
from rich.text import Text

from modeldeploy.durations import format_duration, to_seconds
from modeldeploy.rollout import Verdict

_VERDICTS = {"Complete": Verdict.HEALTHY, "Failed": Verdict.FAILED}
_BAR = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One ModelBatch. `percent` and `seconds_left` are None before its pods have told.

    `active` are the runs of a schedule that go on, `next_run` the time of the next, in the form of the API server.
    """

    name: str
    namespace: str
    phase: str
    message: str
    model: str
    revision: str
    output: str
    schedule: str
    rows: int
    failed_rows: int
    shards: str
    rate: float | None
    percent: int | None
    seconds_left: int | None
    active: tuple[str, ...]
    next_run: str

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """Read what the API server gave; a batch that the operator has not seen yet is Pending."""
        meta, spec, status = body["metadata"], body["spec"], body.get("status", {})
        if status.get("observedGeneration", meta.get("generation")) != meta.get("generation"):
            status = {**status, "phase": "Pending", "message": "the operator has not seen the newest spec yet"}
        model = status.get("model", {})
        return cls(
            name=meta["name"],
            namespace=meta.get("namespace", ""),
            phase=status.get("phase", "Pending"),
            message=status.get("message", ""),
            model=spec["model"].get("name") or spec["model"].get("storageUri", ""),
            revision=model.get("revision", ""),
            output=spec["output"]["uri"],
            schedule=spec.get("schedule", ""),
            rows=status.get("rows", 0),
            failed_rows=status.get("failedRows", 0),
            shards=status.get("shardsDone", ""),
            rate=status.get("rowsPerSecond"),
            percent=status.get("percent"),
            seconds_left=status.get("secondsLeft"),
            active=tuple(status.get("active", ())),
            next_run=status.get("nextScheduleTime", ""),
        )

    @property
    def verdict(self) -> Verdict:
        """How it ended, or that it has not; a schedule never ends, and is healthy."""
        return Verdict.HEALTHY if self.phase == "Scheduled" else _VERDICTS.get(self.phase, Verdict.WAITING)


def batches_of(batches: Sequence[Batch], *, with_namespace: bool) -> Table:
    """One row for each batch."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ["NAME", "PHASE", "PROGRESS", "SHARDS", "ROWS", "FAILED", "LEFT", "MODEL", "SCHEDULE", "MESSAGE"]
    for column in (["NAMESPACE"] if with_namespace else []) + columns:
        table.add_column(column, overflow="fold")
    for one in batches:
        cells = [one.name, one.phase, bar_of(one.percent, 10), one.shards, f"{one.rows:,}", f"{one.failed_rows:,}"]
        cells += [_left(one), one.model, one.schedule, one.message]
        table.add_row(*(Text(cell) for cell in ([one.namespace, *cells] if with_namespace else cells)))
    return table


def line_of(batch: Batch) -> str:
    """A batch in one line, for a terminal that is written over, and for logs."""
    if batch.schedule:
        runs = f"running: {', '.join(batch.active)}" if batch.active else "none is running"
        following = f", the next is due at {to_seconds(batch.next_run)}" if batch.next_run else ""
        return f"{batch.name}: {batch.phase}: {runs}{following}"
    bar = bar_of(batch.percent, _BAR)
    parts = [f"{batch.name}: {batch.phase}", bar, f"{batch.rows:,} rows" if batch.rows or bar else ""]
    parts += [f"{batch.failed_rows:,} failed" if batch.failed_rows else ""]
    parts += [f"{batch.rate:,.0f}/s" if batch.rate else "", f"shards {batch.shards}" if batch.shards else ""]
    parts += [f"{left} left" if (left := _left(batch)) else "", batch.message]
    return "  ".join(filter(None, parts))


def bar_of(percent: int | None, width: int) -> str:
    """A bar of so many characters with the number behind it; empty where nothing is known."""
    if percent is None:
        return ""
    full = min(width, max(0, percent * width // 100))
    return f"[{'#' * full}{'.' * (width - full)}] {percent:3d}%"


def _left(batch: Batch) -> str:
    is_over = batch.verdict is not Verdict.WAITING
    return "" if is_over or batch.seconds_left is None else format_duration(timedelta(seconds=batch.seconds_left))
