"""Reads ModelPools and what their pods say, when a page asks; also for the command `pool`. Used from several threads.

A pool is no rollout, so that nothing of it is followed: its pages are of the moment, as that of the fleet is.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from modeldeploy.dashboard.reaching import PodReader, PodSilent
from modeldeploy.dashboard.view.pods import Pod
from modeldeploy.kube import MODELPOOLS, PODS, Kube, KubeError
from modeldeploy.pools import Pool, PooledModel, PoolPod, models_of, urgent_first
from modeldeploy.rollout import GROUP
from modeldeploy.session import UnknownName

#: Pods of a pool that are asked, and at once.
MOST_PODS, _AT_ONCE = 64, 8
#: Models that a page shows, and seconds for which what pods said is not asked for again, of so many pools.
MOST_MODELS, _KEPT_SECONDS, _MOST_KEPT = 500, 5.0, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """The page of one pool. `hidden` models are not among `models`; `problems` say what is missing, and why."""

    pool: Pool
    pods: Sequence[PoolPod]
    unready: Sequence[Pod]
    models: Sequence[PooledModel]
    hidden: int
    problems: Sequence[str]


def pods_of(kube: Kube, namespace: str, name: str) -> list[Pod]:
    """Return the pods of a pool, by name."""
    bodies = kube.list(PODS, namespace, labels=f"{GROUP}/pool={name}")
    return sorted(map(Pod.from_body, bodies), key=lambda pod: pod.name)


def ask_pods(reader: PodReader, pods: Sequence[Pod], path: str) -> tuple[dict[str, Any], list[str]]:
    """Return what each ready pod answers, by its name, and sentences about those that do not."""
    asked = [pod for pod in pods if pod.is_ready][:MOST_PODS]

    def ask(pod: Pod) -> Any:
        try:
            return json.loads(reader.read(pod, path, {}))
        except (PodSilent, ValueError, RecursionError) as error:
            return PodSilent(f"{pod.name} is not shown: {error}")

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        answers = dict(zip((pod.name for pod in asked), threads.map(ask, asked), strict=True))
    silent = [str(answer) for answer in answers.values() if isinstance(answer, PodSilent)]
    return {pod: answer for pod, answer in answers.items() if not isinstance(answer, PodSilent)}, silent


def states_of(answers: Mapping[str, Any]) -> tuple[list[PoolPod], list[str]]:
    """Return the state of each pod, and sentences about answers that are none."""
    found, problems = [], []
    for pod, answer in answers.items():
        try:
            found.append(PoolPod.from_answer(pod, answer))
        except ValueError as error:
            problems.append(str(error))
    return found, problems


class Pools:
    """The pools of the namespaces that a dashboard shows; no `namespaces` are all."""

    def __init__(
        self, kube: Kube, reader: PodReader, namespaces: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kube, self._reader, self._namespaces, self._clock = kube, reader, namespaces, clock
        self._views: dict[tuple[str, str], tuple[float, PoolView]] = {}

    def all(self) -> list[Pool]:
        """Return all pools, those that are not ready first. Raises KubeError."""
        bodies = [
            body
            for namespace in self._namespaces or ("",)
            for body in self._kube.list(MODELPOOLS, namespace or None, everywhere=not namespace)
        ]
        return sorted(map(Pool.from_body, bodies), key=lambda one: (one.phase == "Ready", one.namespace, one.name))

    def view(self, namespace: str, name: str) -> PoolView:
        """Return the page of one pool, which may be some seconds old. Raises UnknownName and KubeError."""
        at, known = self._views.get((namespace, name), (0.0, None))
        if known is None or self._clock() - at >= _KEPT_SECONDS:
            known = self._read(namespace, name)
            self._views[namespace, name] = (self._clock(), known)
            while len(self._views) > _MOST_KEPT:
                self._views.pop(next(iter(self._views)), None)
        return known

    def _read(self, namespace: str, name: str) -> PoolView:
        pool = self._pool(namespace, name)
        pods = pods_of(self._kube, namespace, name)
        answers, silent = ask_pods(self._reader, pods, "/pool")
        states, wrong = states_of(answers)
        # Who does not answer the one does not answer the other, which is told once.
        listed, _ = ask_pods(self._reader, [pod for pod in pods if pod.name in answers], "/pool/models")
        try:
            models = urgent_first(models_of(listed))
        except ValueError as error:
            models, wrong = [], [*wrong, str(error)]
        return PoolView(
            pool=pool,
            pods=states,
            unready=[pod for pod in pods if not pod.is_ready],
            models=models[:MOST_MODELS],
            hidden=max(0, len(models) - MOST_MODELS),
            problems=[*silent, *wrong],
        )

    def _pool(self, namespace: str, name: str) -> Pool:
        try:
            if not self._namespaces or namespace in self._namespaces:
                return Pool.from_body(self._kube.get(MODELPOOLS, name, namespace))
        except KubeError as error:
            if error.code != 404:
                raise
        raise UnknownName(f"There is no ModelPool {name!r} in namespace {namespace!r}.")
