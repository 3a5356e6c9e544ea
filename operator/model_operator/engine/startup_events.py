"""Events on pods that take long to start: how far the download or the load is, as their `/readyz` says.

A server cannot write Events itself: its pod has no token for the API, and is to have none.
"""

import asyncio
from datetime import timedelta

from model_operator.api.json import Body
from model_operator.api.resource import ObjectKey
from model_operator.api.times import parse_time
from model_operator.engine.cache import Cache
from model_operator.engine.events import EventRecorder
from model_operator.manifests.pods import PORT, pod_url
from model_operator.observation.observe import is_ready
from model_operator.policy.status.events import EventDraft
from model_operator.ports import Clock, PodMetrics

#: Seconds between two looks.
INTERVAL = 5.0
_FIRST = timedelta(seconds=10)
_AT_ONCE = 32


def is_due(age: timedelta, told: timedelta | None) -> bool:
    """Whether to tell of a start that has taken so long: after ten seconds, and each time it has doubled.

    Args:
        told: how long it had taken when it was told last; None when it never was.
    """
    return age >= (_FIRST if told is None else 2 * told)


class StartupEvents:
    """Asks the pods that are not ready, and tells what they say."""

    def __init__(self, cache: Cache, pods: PodMetrics, recorder: EventRecorder, clock: Clock) -> None:
        self._cache, self._pods, self._recorder, self._clock = cache, pods, recorder, clock
        self._told: dict[str, timedelta] = {}
        self._limit = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(INTERVAL)

    async def look(self) -> None:
        """Tell of every start that is due."""
        starting = [pod for key in self._cache if self._is_short(key) for pod in self._starting(key)]
        uids = {pod["metadata"]["uid"] for pod in starting}
        self._told = {uid: age for uid, age in self._told.items() if uid in uids}
        await asyncio.gather(*(self._tell(pod) for pod in starting))

    def _is_short(self, key: ObjectKey) -> bool:
        """Whether fewer pods are ready than there are: most resources need no look at their pods."""
        status = (self._cache.resource(key) or {}).get("status") or {}
        return bool(status.get("readyReplicas", 0) < status.get("replicas", 1))

    def _starting(self, key: ObjectKey) -> list[Body]:
        return [
            pod for pod in self._cache.pods(key) if not is_ready(pod) and _running_since(pod) and pod_url(pod, PORT)
        ]

    async def _tell(self, pod: Body) -> None:
        uid, age = pod["metadata"]["uid"], self._clock.now() - parse_time(_running_since(pod))
        if not is_due(age, self._told.get(uid)):
            return
        async with self._limit:
            found = await self._pods.start(pod_url(pod, PORT))
        if found is not None:
            self._told[uid] = age
            self._recorder.record_for(pod, EventDraft(found.phase.capitalize(), found.message))


def _running_since(pod: Body) -> str:
    """Return when the server's container began to run; empty when it does not, or when the pod is on its way out."""
    if "deletionTimestamp" in pod["metadata"]:
        return ""
    statuses = (pod.get("status") or {}).get("containerStatuses", ())
    state: Body = next((one.get("state", {}) for one in statuses if one.get("name") == "server"), {})
    return str(state.get("running", {}).get("startedAt", ""))
