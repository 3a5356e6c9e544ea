"""One ModelPool as its status and its pods tell it, and what a person sees of it. PURE; `commands/pool.py` prints it.

The dashboard shows the same values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from rich.table import Table
from rich.text import Text

from modeldeploy.durations import format_duration
from modeldeploy.plain import plain
from modeldeploy.rollout import Verdict

_VERDICTS = {"Ready": Verdict.HEALTHY, "Degraded": Verdict.FAILED}
_FAILED = frozenset({"failed", "aside"})
_MEBIBYTE = 2**20
#: Seconds that a pod can have been idle: a century.
_LONGEST = 3.2e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One ModelPool. `failures` are names and reasons of the first models that failed."""

    name: str
    namespace: str
    phase: str
    message: str
    ready: str
    models: int
    loaded: int
    failed: int
    budget: str
    failures: tuple[tuple[str, str], ...]

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """Read what the API server gave; a pool that the operator has not seen yet is Pending."""
        body = plain(body)
        meta, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
        if status.get("observedGeneration", meta.get("generation")) != meta.get("generation"):
            status = {**status, "phase": "Pending", "message": "the operator has not seen the newest spec yet"}
        return cls(
            name=meta["name"],
            namespace=meta.get("namespace", ""),
            phase=status.get("phase", "Pending"),
            message=status.get("message", ""),
            ready=status.get("ready", ""),
            models=status.get("models", len(spec.get("models") or ())),
            loaded=status.get("loaded", 0),
            failed=status.get("failed", 0),
            budget=spec.get("memoryBudget", ""),
            failures=tuple((one["name"], one["reason"]) for one in status.get("failures") or ()),
        )

    @property
    def verdict(self) -> Verdict:
        """Whether all is well, something failed, or it has not begun."""
        return _VERDICTS.get(self.phase, Verdict.WAITING)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPod:
    """What one pod says of itself (`GET /pool`); numbers that an older server does not know are 0."""

    pod: str
    states: Mapping[str, int]
    memory_bytes: int
    budget_bytes: int
    hits: int
    misses: int
    evictions: int
    over_budget: int
    process_ends: int

    @classmethod
    def from_answer(cls, pod: str, answer: Any) -> Self:
        """Read an answer. Raises `ValueError` for something else."""
        if not isinstance(answer, dict) or not isinstance(states := answer.get("models"), dict):
            raise ValueError(f"{pod} answers /pool with something else than its state")
        return cls(
            pod=pod,
            states={str(state): _whole(count) for state, count in plain(states).items()},
            memory_bytes=_whole(answer.get("memoryBytes")),
            budget_bytes=_whole(answer.get("budgetBytes")),
            hits=_whole(answer.get("hits")),
            misses=_whole(answer.get("misses")),
            evictions=_whole(answer.get("evictions")),
            over_budget=_whole(answer.get("overBudget")),
            process_ends=_whole(answer.get("processEnds")),
        )

    @property
    def memory_percent(self) -> int | None:
        """Share of the budget that is in use; None where it is not known."""
        return round(100 * self.memory_bytes / self.budget_bytes) if self.budget_bytes else None

    @property
    def hit_percent(self) -> float | None:
        """Share of the requests whose model was in memory; None before the first."""
        asked = self.hits + self.misses
        return 100 * self.hits / asked if asked else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledModel:
    """One model over all pods that answered. `pods` are those that have it in memory."""

    name: str
    version: str
    states: tuple[str, ...]
    pods: tuple[str, ...]
    bytes: int
    in_flight: int
    idle_seconds: float | None
    reason: str

    @property
    def is_failed(self) -> bool:
        """Whether a pod cannot load it, or has put it aside."""
        return not _FAILED.isdisjoint(self.states)

    @property
    def state(self) -> str:
        """Its states, each once, as in `loaded, unloaded`."""
        return ", ".join(dict.fromkeys(self.states))


def models_of(answers: Mapping[str, Any]) -> list[PooledModel]:
    """Put together what pods say of each model (`GET /pool/models`), in the order of the list.

    Raises `ValueError` for something else.
    """
    lines: dict[str, dict[str, Mapping[str, Any]]] = {}
    for pod, answer in answers.items():
        if not isinstance(answer, list) or not all(isinstance(one, dict) and "name" in one for one in answer):
            raise ValueError(f"{pod} answers /pool/models with something else than its models")
        for one in plain(answer):
            lines.setdefault(str(one["name"]), {})[pod] = one
    return [_model(name, by_pod) for name, by_pod in lines.items()]


def _model(name: str, by_pod: Mapping[str, Mapping[str, Any]]) -> PooledModel:
    lines = list(by_pod.values())
    times = [one.get("idleSeconds") for one in lines]
    idle = [one for one in times if isinstance(one, int | float) and 0 <= one < _LONGEST]
    return PooledModel(
        name=name,
        version=next((str(one["version"]) for one in lines if one.get("version")), ""),
        states=tuple(str(one.get("state", "")) for one in lines),
        pods=tuple(pod for pod, one in by_pod.items() if one.get("state") == "loaded"),
        bytes=max(_whole(one.get("bytes")) for one in lines),
        in_flight=sum(_whole(one.get("inFlight")) for one in lines),
        idle_seconds=min(idle, default=None),
        reason=next((str(one["reason"]) for one in lines if one.get("reason")), ""),
    )


def urgent_first(models: Sequence[PooledModel]) -> list[PooledModel]:
    """Return those that failed first, then those in memory, each by the time of its last request."""
    never = float("inf")

    def rank(one: PooledModel) -> tuple[bool, bool, float]:
        return not one.is_failed, not one.pods, never if one.idle_seconds is None else one.idle_seconds

    return sorted(models, key=rank)


def pools_table(pools: Sequence[Pool], *, with_namespace: bool) -> Table:
    """One row for each pool."""
    columns = ["NAME", "PHASE", "READY", "MODELS", "LOADED", "FAILED", "BUDGET", "MESSAGE"]
    table = _table((["NAMESPACE"] if with_namespace else []) + columns)
    for one in pools:
        cells = [one.name, one.phase, one.ready, f"{one.models:,}", f"{one.loaded:,}", f"{one.failed:,}"]
        cells += [one.budget, one.message]
        table.add_row(*map(Text, [one.namespace, *cells] if with_namespace else cells))
    return table


def pods_table(pods: Sequence[PoolPod]) -> Table:
    """One row for each pod: which models it has, its memory, and what it had to do."""
    columns = ["POD", "LOADED", "FAILED", "ASIDE", "MEMORY", "HITS", "MISSES", "EVICTIONS", "OVER BUDGET", "CRASHES"]
    table = _table(columns)
    for one in pods:
        cells = [one.pod, *(f"{one.states.get(state, 0):,}" for state in ("loaded", "failed", "aside"))]
        cells += [memory_of(one), hits_of(one), f"{one.misses:,}", f"{one.evictions:,}"]
        table.add_row(*map(Text, [*cells, f"{one.over_budget:,}", f"{one.process_ends:,}"]))
    return table


def models_table(models: Sequence[PooledModel], pods: int) -> Table:
    """One row for each model: where it is in memory, what it takes, and when it was asked last."""
    table = _table(["MODEL", "STATE", "IN MEMORY", "SIZE", "IN FLIGHT", "LAST ASKED", "VERSION", "REASON"])
    for one in models:
        cells = [one.name, one.state, f"{len(one.pods)} of {pods} pods", size_of(one.bytes), f"{one.in_flight:,}"]
        table.add_row(*map(Text, [*cells, asked_of(one), one.version, one.reason]))
    return table


def line_of(pool: Pool) -> str:
    """A pool in one line."""
    counts = f"{pool.models:,} models, {pool.loaded:,} in memory, {pool.failed:,} failed"
    ready = f"{pool.ready} pods ready" if pool.ready else ""
    return "  ".join(filter(None, [f"{pool.name}: {pool.phase}", counts, ready, pool.message]))


def asked_of(model: PooledModel) -> str:
    """When a model was asked last, as in `12s ago`; nothing where it never was."""
    idle = model.idle_seconds
    return "" if idle is None else f"{format_duration(timedelta(seconds=idle))} ago"


def memory_of(pod: PoolPod) -> str:
    """The memory of a pod, as in `92 MiB of 1,024 MiB (9%)`."""
    percent = pod.memory_percent
    return "" if percent is None else f"{size_of(pod.memory_bytes)} of {size_of(pod.budget_bytes)} ({percent}%)"


def hits_of(pod: PoolPod) -> str:
    """Its hits, with their share of the requests."""
    percent = pod.hit_percent
    return "0" if percent is None else f"{pod.hits:,} ({percent:.1f}%)"


def size_of(count: int) -> str:
    """Bytes as MiB; nothing where they are not known."""
    return f"{max(1, round(count / _MEBIBYTE)):,} MiB" if count else ""


def _table(columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _whole(value: Any) -> int:
    """A count of a pod, which may say anything."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else 0
