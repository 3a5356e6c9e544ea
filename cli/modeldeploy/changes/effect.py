"""What a change of a ModelDeployment does to its pods and its traffic, in a sentence. PURE."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modeldeploy.changes.pods import changed_for_pods
from modeldeploy.rollout import GROUP, Rollout

Body = Mapping[str, Any]

_REFRESH = f"{GROUP}/refresh"
_DEFAULT_STEPS = "5 %, 25 %, 50 %"


@dataclass(frozen=True, slots=True)
class Effect:
    """Whether an apply changes anything, whether pods are made for it, and what happens then."""

    is_change: bool
    rolls: bool
    message: str


def effect_of(live: Body | None, after: Body, kept: Mapping[str, Body]) -> Effect:
    """Say what happens when `live` becomes `after`.

    Args:
        live: the object as it is; None where there is none.
        after: the object that the API server would store.
        kept: what each revision that the cluster still has was made from, by its hash.
    """
    if live is None:
        return Effect(True, True, "would be created: a first revision, which takes all traffic as soon as it is ready")
    before, now = live.get("spec") or {}, after.get("spec") or {}
    fields = _differing(before, now)
    refreshed = _annotation(live) != _annotation(after)
    if not fields and not refreshed:
        return Effect(False, False, "no change")
    for_pods = changed_for_pods(before, now) + [f"metadata.annotations.{_REFRESH}"] * refreshed
    if not for_pods:
        return Effect(True, False, f"no new revision, no pod restarts: {', '.join(fields)}")
    # A token and what polling found are part of a revision's name, and not of what it was made from.
    found = (live.get("status") or {}).get("source") or {}
    is_told_by_source = not _annotation(after) and not found.get("mark")
    rollout = Rollout.from_body(live)
    rolls, message = _revision(rollout, now, kept if is_told_by_source else {})
    return Effect(True, rolls, f"{message}: {', '.join(for_pods)}")


def _annotation(body: Body) -> str:
    return str((body["metadata"].get("annotations") or {}).get(_REFRESH, ""))


def _differing(before: Body, after: Body) -> list[str]:
    return [f"spec.{name}" for name in sorted({**before, **after}) if before.get(name) != after.get(name)]


def _revision(rollout: Rollout, spec: Body, kept: Mapping[str, Body]) -> tuple[bool, str]:
    """Whether it rolls, which revision comes of it, and how that gets its traffic."""
    same = next((name for name, source in kept.items() if not changed_for_pods(source, spec)), "")
    if same and same == rollout.stable:
        return (
            True,
            f"back to revision {same}, which is stable; the rollout of {rollout.canary or 'the other one'} ends",
        )
    if same and same == rollout.aborted:
        retry = f"kubectl modeldeploy retry {rollout.name}"
        return False, f"revision {same}, which was aborted and is not tried again ({retry})"
    result = next((past.result for past in rollout.history if past.revision == same), "")
    if result == "Promoted":  # the operator knows it for good, and goes back at once
        return True, f"back to revision {same}, which was live before, without steps"
    which = f"revision {same}, which the cluster still has" if same else "a new revision"
    instead = f", in place of {rollout.canary}, which is being rolled out" if rollout.canary else ""
    held = ", and is held: spec.paused is true" if spec.get("paused") else ""
    return True, f"{which}{instead}, rolls out by {_strategy(spec.get('strategy') or {})}{held}"


def _strategy(strategy: Body) -> str:
    name = next(iter(strategy), "rollingUpdate")
    options = strategy.get(name) or {}
    if name == "canary":
        weights = [f"{step['setWeight']} %" for step in options.get("steps") or () if "setWeight" in step]
        return f"canary ({', '.join(weights) if options.get('steps') else _DEFAULT_STEPS})"
    if name == "blueGreen" and options.get("autoPromote") is False:
        return "blueGreen (a user promotes)"
    return name


def sources_of(deployments: Sequence[Body]) -> dict[str, Body]:
    """Return what each kept revision was made from, by its hash; one that cannot be read is left out."""
    found = dict[str, Body]()
    for one in deployments:
        metadata = one["metadata"]
        try:
            source = json.loads((metadata.get("annotations") or {}).get(f"{GROUP}/revision-spec", ""))
        except ValueError:
            continue
        if isinstance(source, Mapping) and "model" in source:
            found[str((metadata.get("labels") or {}).get(f"{GROUP}/revision", ""))] = source
    return found
