"""The steps of a rollout as a timeline: what each does, and what the current one waits for. PURE."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from modeldeploy.durations import format_duration, parse_duration
from modeldeploy.rollout import Rollout

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step. `state` is done, current or next; `waits` says what the current one waits for."""

    number: int
    title: str
    state: str
    waits: str = ""


def timeline(rollout: Rollout, *, now: datetime) -> list[Step]:
    """Return the steps of a rollout that is on; none where there is no rollout, or one without steps."""
    if not rollout.canary:
        return []
    steps = [
        Step(
            number=number + 1,
            title=title_of(step),
            state="done" if number < rollout.step_index else "current" if number == rollout.step_index else "next",
            waits=waits_for(rollout, step, now=now) if number == rollout.step_index else "",
        )
        for number, step in enumerate(rollout.steps)
    ]
    is_last = rollout.step_index >= len(steps)
    end = Step(
        number=len(steps) + 1,
        title="Promote to all traffic",
        state="current" if is_last else "next",
        waits=rollout.message if is_last else "",
    )
    return [*steps, end] if steps else []


def title_of(step: Body) -> str:
    """Return what a step does, in a few words; a step that this version does not know by its name."""
    kind = next(iter(step), "")
    value = step.get(kind)
    match kind:
        case "setWeight":
            return f"Send {value} % of the traffic"
        case "pause":
            duration = (value or {}).get("duration")
            return f"Pause for {duration}" if duration else "Wait for a person"
        case "analysis":
            least = (value or {}).get("minDuration")
            return f"Analyse for {least} at least" if least else "Analyse"
        case "replay":
            limits = [name for name in ("agreement", "distance", "latency") if name in (value or {})]
            return f"Replay {(value or {}).get('requests', 500)} recent requests: {', '.join(limits)}"
        case "evaluate":
            return f"Evaluate on labelled data: {', '.join(one['name'] for one in (value or {}).get('metrics', ()))}"
        case "setHeaderRoute":
            names = [one["headerName"] for one in (value or {}).get("match", ())]
            return f"Send requests with {', '.join(names)}" if names else "Remove the header route"
        case "setMirrorRoute":
            share = (value or {}).get("percentage", 0)
            return f"Copy {share} % of the requests" if share else "Copy no requests"
        case "setCanaryScale":
            return f"Scale the canary: {_scale(value or {})}"
    return kind


def waits_for(rollout: Rollout, step: Body, *, now: datetime) -> str:
    """Return what the current step waits for, in a sentence."""
    if rollout.is_paused:
        return "The rollout is paused (spec.paused). Resume it to go on."
    kind = next(iter(step), "")
    options = step.get(kind) or {}
    if kind == "pause" and rollout.phase == "Paused":
        if not options.get("duration"):
            return "Waits until a person promotes or aborts."
        return _time_left(rollout, str(options["duration"]), "The pause ends", now=now)
    if kind == "analysis" and rollout.phase not in ("RollingBack", "Degraded"):
        undecided = [str(one["name"]) for one in rollout.metrics if one.get("verdict") == "Undecided"]
        about = f"Waits for a verdict on {', '.join(undecided)}." if undecided else "Waits for the minimum duration."
        least, most = options.get("minDuration"), options.get("maxDuration")
        if not undecided and least:
            return f"{about} {_time_left(rollout, str(least), 'It ends', now=now)}"
        return f"{about} {_time_left(rollout, str(most), 'The time limit ends', now=now)}" if most else about
    return _without_step(rollout)


def _without_step(rollout: Rollout) -> str:
    message = rollout.message.removeprefix(f"step {rollout.step}: ")
    return message[:1].upper() + message[1:]


def _time_left(rollout: Rollout, duration: str, what: str, *, now: datetime) -> str:
    if rollout.step_started_at is None:
        return ""
    try:
        left = parse_duration(duration) - (now - rollout.step_started_at)
    except ValueError:
        return ""
    return f"{what} in {format_duration(left)}." if left > timedelta() else f"{what} now."


def _scale(value: Body) -> str:
    if value.get("matchTrafficWeight"):
        return "as its weight"
    return f"{value['weight']} % of the pods" if "weight" in value else f"{value.get('replicas', 0)} pods"
