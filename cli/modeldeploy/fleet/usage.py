"""From what pods counted to what a model uses: rates, processor time, memory, and when it was last asked. PURE."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from modeldeploy.fleet.quantities import NOTHING, Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one pod had counted at a time. None stands for what its server does not tell: it is of an older release.

    Attributes:
        at: Unix time.
        requests: answered or refused since it started.
        cpu_seconds: processor time since it started.
        memory: resident bytes.
        started: Unix time.
        last_request: Unix time; None also when there was none.
    """

    at: float
    requests: float
    cpu_seconds: float | None = None
    memory: float | None = None
    started: float | None = None
    last_request: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodUse:
    """One running pod: what it requests, and two looks at it. `last` is None when it has not answered.

    `is_metered`: a server of the user's own runs in it, whose processor time and memory nobody tells.

    What is between the looks is told by the second; without a first one, what was since the pod started.
    """

    requested: Resources
    is_metered: bool = False
    first: Look | None = None
    last: Look | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    """What the pods of one model request and use.

    Attributes:
        pods: how many run.
        silent: how many of them have told nothing.
        requested: of all of them.
        used: of those that told, which cannot be told of GPUs; None where none has.
        idle: what those that told request and do not use.
        per_second: requests; None where nobody knows.
        last_request: when the model was last asked, as far as the running pods know.
        since: since when the running pods have counted; None where they do not tell.
    """

    namespace: str
    name: str
    pods: int = 0
    silent: int = 0
    requested: Resources = NOTHING
    used: Resources | None = None
    idle: Resources = NOTHING
    per_second: float | None = None
    last_request: datetime | None = None
    since: datetime | None = None

    @property
    def quiet_since(self) -> datetime | None:
        """The time since which nobody has asked; None where that is not known, or no pod runs."""
        return self.last_request or self.since


def use_of(namespace: str, name: str, pods: Sequence[PodUse]) -> ModelUse:
    """Return what a model's running pods use."""
    told = [pod for pod in pods if _tells(pod.last)]
    known = [pod for pod in told if not pod.is_metered]
    used = [_used(pod) for pod in known]
    rates = [rate for pod in pods if (rate := _per_second(pod)) is not None]
    lasts = [pod.last.last_request for pod in told if pod.last and pod.last.last_request]
    starts = [pod.last.started for pod in told if pod.last and pod.last.started]
    return ModelUse(
        namespace=namespace,
        name=name,
        pods=len(pods),
        silent=len(pods) - len(told),
        requested=sum((pod.requested for pod in pods), NOTHING),
        used=sum(used, NOTHING) if known else None,
        idle=sum((_idle(pod.requested, use) for pod, use in zip(known, used, strict=True)), NOTHING),
        per_second=sum(rates) if rates else None,
        last_request=_time(max(lasts, default=0.0)),
        # A model whose pod was replaced a minute ago has been asked by nobody for a minute, as far as anybody knows.
        since=_time(min(starts, default=0.0)),
    )


def _tells(look: Look | None) -> bool:
    return look is not None and look.cpu_seconds is not None and look.memory is not None


def _used(pod: PodUse) -> Resources:
    last, (base, seconds) = pod.last, _span(pod)
    if last is None or last.cpu_seconds is None or last.memory is None:
        return NOTHING
    spent = last.cpu_seconds - (base.cpu_seconds or 0.0 if base else 0.0)
    return Resources(cpu=max(spent, 0.0) / seconds if seconds > 0 else 0.0, memory=last.memory)


def _per_second(pod: PodUse) -> float | None:
    last, (base, seconds) = pod.last, _span(pod)
    if last is None or seconds <= 0:
        return None
    return max(last.requests - (base.requests if base else 0.0), 0.0) / seconds


def _span(pod: PodUse) -> tuple[Look | None, float]:
    """Return the look to count from, None for the start of the pod, and the seconds since; 0 where nobody knows."""
    first, last = pod.first, pod.last
    if last is None:
        return None, 0.0
    if first is not None and first.at < last.at and first.started == last.started and first.requests <= last.requests:
        return first, last.at - first.at
    return None, last.at - last.started if last.started else 0.0


def _idle(requested: Resources, used: Resources) -> Resources:
    return Resources(cpu=max(requested.cpu - used.cpu, 0.0), memory=max(requested.memory - used.memory, 0.0))


def _time(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None
    except (OverflowError, OSError, ValueError):
        return None  # a pod may say anything


def by_pod(
    looks: Mapping[str, Look],
    earlier: Mapping[str, Look],
    requested: Mapping[str, Resources],
    metered: Collection[str] = (),
) -> list[PodUse]:
    """Return the use of each pod in `requested`, by what it said now and earlier; `metered` are `PodUse.is_metered`."""
    return [
        PodUse(requested=asked, is_metered=pod in metered, first=earlier.get(pod), last=looks.get(pod))
        for pod, asked in sorted(requested.items())
    ]
