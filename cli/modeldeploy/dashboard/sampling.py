"""Asks the pods what they have counted, a few at a time, so that the list has rates and the page of a model its drift.

No more pods are asked in a round than the API server can bear; with more of them, each is asked less often.
"""

import asyncio
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from modeldeploy.dashboard.exposition import LOOKED_AT, Series, counters_of, drifted_of, look_of, series_of
from modeldeploy.dashboard.reaching import PodReader, PodSilent
from modeldeploy.dashboard.store import Key, Store
from modeldeploy.dashboard.view.pods import Pod
from modeldeploy.fleet.usage import Look

#: Seconds between two rounds, and after one that was forbidden.
INTERVAL, PAUSE_WHEN_FORBIDDEN = 15.0, 120.0
#: Pods that are asked in a round, and at once.
_MOST_PODS, _AT_ONCE = 400, 8
_RATES = [*LOOKED_AT, "modeldeploy_drifted"]
_DETAILS = [
    "modeldeploy_model_info",
    "modeldeploy_drift_score",
    "modeldeploy_drifted",
    "modeldeploy_quality",
    "modeldeploy_feedback_total",
    "modeldeploy_feature_importance",
    "modeldeploy_slice_answers_total",
    "modeldeploy_slice_predictions_total",
]
#: Seconds for which these are not asked for again, and models of which they are kept.
_DETAILS_KEPT, _MOST_DETAILS = 5.0, 100
_FORBIDDEN = (
    "Requests, errors, drift and quality are missing from the pages: they are read from the pods, "
    "which needs the right to get pods/proxy."
)


class Sampler:
    """Reads the pods of a store. `close` it."""

    def __init__(self, store: Store, reader: PodReader, *, interval: float = INTERVAL) -> None:
        self._store, self._reader, self._interval = store, reader, interval
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="pods")
        self._begin = 0
        self._details: dict[Key, tuple[float, list[tuple[str, list[Series]]]]] = {}

    def close(self) -> None:
        """Ask no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self) -> None:
        """Ask round after round, until cancelled."""
        while True:
            is_forbidden = await self.round()
            self._store.notice("rates", _FORBIDDEN if is_forbidden else "")
            await asyncio.sleep(PAUSE_WHEN_FORBIDDEN if is_forbidden else self._interval)

    async def round(self) -> bool:
        """Ask the ready pods once; return whether the API server lets nobody be asked."""
        chosen = self._chosen()
        answers = await asyncio.gather(*(self._ask(pod, _RATES) for pod in chosen), return_exceptions=True)
        by_model: dict[Key, dict[str, tuple[float, float]]] = defaultdict(dict)
        drifted: dict[Key, set[str]] = defaultdict(set)
        looks: dict[Key, dict[str, Look]] = defaultdict(dict)
        for pod, answer in zip(chosen, answers, strict=True):
            if isinstance(answer, list):
                by_model[pod.key][pod.name] = counters_of(answer)
                drifted[pod.key].update(drifted_of(answer))
                looks[pod.key][pod.path] = look_of(answer, at=time.time())
        now = time.monotonic()
        for key, counters in by_model.items():
            self._store.looked(key, looks[key])
            self._store.sampled(key, counters, sorted(drifted[key]), at=now)
        return any(isinstance(answer, PodSilent) and answer.is_forbidden for answer in answers) and not by_model

    async def details(self, key: Key) -> list[tuple[str, list[Series]]]:
        """Return what the pods of one model say of drift and quality, by revision; nothing where none answers.

        A page is computed whenever something changes; pods are asked again after some seconds.
        """
        at, known = self._details.get(key, (-_DETAILS_KEPT, []))
        if time.monotonic() - at >= _DETAILS_KEPT:
            known = await self._asked(key)
            self._details[key] = (time.monotonic(), known)
            while len(self._details) > _MOST_DETAILS:
                del self._details[next(iter(self._details))]
        return known

    async def _asked(self, key: Key) -> list[tuple[str, list[Series]]]:
        pods = [pod for pod in self._store.pods(key) if pod.is_ready][:16]
        answers = await asyncio.gather(*(self._ask(pod, _DETAILS) for pod in pods), return_exceptions=True)
        return [(pod.revision, answer) for pod, answer in zip(pods, answers, strict=True) if isinstance(answer, list)]

    def _chosen(self) -> list[Pod]:
        """Return the models' pods of this round: all pods of a model or none, beginning where the last round ended."""
        by_model: dict[Key, list[Pod]] = defaultdict(list)
        for pod in self._store.all_pods():
            if pod.is_ready and pod.address and pod.key in self._store.models:
                by_model[pod.key].append(pod)
        keys = sorted(by_model)
        begin = self._begin % len(keys) if keys else 0
        chosen: list[Pod] = []
        for taken, key in enumerate(islice((keys * 2)[begin:], len(keys))):
            if chosen and len(chosen) + len(by_model[key]) > _MOST_PODS:
                self._begin = begin + taken
                break
            chosen += by_model[key]
        return chosen

    async def _ask(self, pod: Pod, names: list[str]) -> list[Series]:
        def ask() -> list[Series]:
            try:
                return series_of(self._reader.read(pod, "/metrics", {"name[]": names}))
            except ValueError as error:
                raise PodSilent(f"{pod.name}: {error}") from error

        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)
