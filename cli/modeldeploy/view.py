"""What a person sees of rollouts: tables and trees of rich, made from values. PURE: `now` is given."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from modeldeploy.durations import format_duration, parse_duration, to_seconds
from modeldeploy.evidence import evidence_line
from modeldeploy.rollout import GROUP, Rollout

Body = Mapping[str, Any]

_STYLES = {
    "Healthy": "green",
    "Progressing": "cyan",
    "Promoting": "cyan",
    "Pending": "cyan",
    "Waking": "cyan",
    "Sleeping": "dim",
    "Paused": "yellow",
    "RollingBack": "red",
    "Degraded": "bold red",
}


def table_of(rollouts: Sequence[Rollout], *, with_namespace: bool) -> Table:
    """One row for each rollout."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ["NAME", "PHASE", "STEP", "WEIGHT", "STABLE", "CANARY", "VERSION", "READY", "MESSAGE"]
    for column in (["NAMESPACE"] if with_namespace else []) + columns:
        table.add_column(column, overflow="fold")
    for one in rollouts:
        cells: list[str | Text] = [
            one.name,
            _phase(one.phase),
            one.step,
            f"{one.weight}%" if one.canary else "",
        ]
        cells += [one.stable, one.canary, one.version, "yes" if one.is_ready else "no", one.message]
        table.add_row(*_plain([one.namespace, *cells] if with_namespace else cells))
    return table


def outdated_of(rollouts: Sequence[Rollout], *, with_namespace: bool) -> Table:
    """One row for each rollout whose server is outdated: its images, and what makes it outdated."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ["NAME", "REVISION", "IMAGE", "CURRENT IMAGE", "OUTDATED"]
    for column in (["NAMESPACE"] if with_namespace else []) + columns:
        table.add_column(column, overflow="fold")
    for one in rollouts:
        if one.server is not None and one.server.is_outdated:
            what = "pod template" if one.server.image == one.server.current_image else "image"
            cells: list[str | Text] = [one.name, one.stable, one.server.image, one.server.current_image, what]
            table.add_row(*_plain([one.namespace, *cells] if with_namespace else cells))
    return table


def history_of(rollout: Rollout) -> Table:
    """How the rollouts of a ModelDeployment ended, newest first; where the live revision last went live is marked."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("REVISION", "VERSION", "RESULT", "REASON", "WHEN", "BY", "MESSAGE"):
        table.add_column(column, overflow="fold")
    live = next((one for one in rollout.history if one.revision == rollout.stable and one.result == "Promoted"), None)
    for past in rollout.history:
        name = f"{past.revision} (live)" if past is live else past.revision
        cells = [name, past.version, past.result, past.reason, to_seconds(past.at), past.requested_by, past.message]
        table.add_row(*_plain(cells))
    return table


def tree_of(rollout: Rollout, pods: Sequence[Body], events: Sequence[Body], *, now: datetime) -> Tree:
    """The live tree: revisions with weights and pods, the step with its time left, the last events."""
    tree = Tree(Text.assemble((rollout.name, "bold"), "  ", _phase(rollout.phase), f"  {rollout.message}"))
    if rollout.step:
        tree.add(Text(f"step {rollout.step}{_about_step(rollout, now)}"))
    if rollout.canary and rollout.metrics:
        branch = tree.add(Text("evidence", style="bold"))
        for metric in rollout.metrics:
            branch.add(_evidence(metric))
    for revision in _revisions(rollout, pods):
        branch = tree.add(_revision(rollout, revision))
        for pod in pods:
            if _label(pod, "revision") == revision:
                branch.add(_pod(pod))
        for failure in rollout.failures:
            if failure.revision == revision:
                branch.add(Text(f"{failure.reason}: {failure.message}", style="red"))
    if events:
        branch = tree.add(Text("events", style="bold"))
        for event in events:
            branch.add(_event(event, now))
    return tree


def line_of(rollout: Rollout) -> str:
    """The same in one line, for logs and pipes."""
    parts = [rollout.phase]
    if rollout.step:
        parts.append(f"step {rollout.step}")
    if rollout.canary:
        parts.append(f"{rollout.weight}% on {rollout.canary}")
    # The message begins with the step as well.
    return f"{rollout.name}: {', '.join(parts)}: {rollout.message.removeprefix(f'step {rollout.step}: ')}"


def _plain(cells: Sequence[str | Text]) -> list[Text]:
    """Cells whose brackets are text and no markup."""
    return [cell if isinstance(cell, Text) else Text(cell) for cell in cells]


def _phase(phase: str) -> Text:
    return Text(phase, style=_STYLES.get(phase, ""))


def _about_step(rollout: Rollout, now: datetime) -> str:
    if not 0 <= rollout.step_index < len(rollout.steps):
        return ""
    step = rollout.steps[rollout.step_index]
    kind = next(iter(step), "")
    duration = (step.get("pause") or {}).get("duration")
    if kind == "pause" and not duration:
        return f": waits for a person: modeldeploy promote {rollout.name}"
    if duration and rollout.step_started_at:
        left = parse_duration(duration) - (now - rollout.step_started_at)
        return f": pause of {duration}, {format_duration(max(left, timedelta()))} left"
    return f": {kind} {step[kind]}" if kind == "setWeight" else f": {kind}"


def _evidence(metric: Body) -> Text:
    return Text(evidence_line(metric), style={"Pass": "green", "Fail": "red"}.get(metric["verdict"], ""))


def _revisions(rollout: Rollout, pods: Sequence[Body]) -> list[str]:
    named = [rollout.stable, rollout.canary, *sorted(_label(pod, "revision") for pod in pods)]
    return [revision for revision in dict.fromkeys(named) if revision]


def _revision(rollout: Rollout, revision: str) -> Text:
    role = {rollout.stable: "stable", rollout.canary: "canary", rollout.aborted: "aborted"}.get(revision, "old")
    weight = f"{rollout.weight_of(revision)}%" if role in ("stable", "canary") else ""
    version = f"version {rollout.version}" if role == "stable" and rollout.version else ""
    return Text("  ".join(part for part in (f"{role} {revision}", weight, version) if part))


def _pod(pod: Body) -> Text:
    status = pod.get("status", {})
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ()))
    containers = status.get("containerStatuses", ())
    restarts = sum(one.get("restartCount", 0) for one in containers)
    waiting = next(
        (one["state"]["waiting"].get("reason", "") for one in containers if "waiting" in one.get("state", {})),
        "",
    )
    leaving = "Terminating" if pod["metadata"].get("deletionTimestamp") else ""
    state = leaving or waiting or status.get("phase", "Pending")
    words = [pod["metadata"]["name"], state, "ready" if ready else "not ready"]
    if restarts:
        words.append(f"{restarts} restarts")
    return Text("  ".join(words), style="green" if ready else "yellow")


def _event(event: Body, now: datetime) -> Text:
    at = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp")
    age = format_duration(now - datetime.fromisoformat(at)) if at else ""
    style = "yellow" if event.get("type") == "Warning" else ""
    return Text(f"{age:>7}  {event.get('reason', '')}: {event.get('message', '')}", style=style)


def _label(body: Body, name: str) -> str:
    return str(body["metadata"].get("labels", {}).get(f"{GROUP}/{name}", ""))
