"""Events on pods that take long to start, with the progress of the download or load from their `/readyz`.

A server cannot write Events itself: its pod has no token for the Kubernetes API.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

from model_operator.api.json import Body
from model_operator.api.names import REVISION
from model_operator.api.resource import ObjectKey
from model_operator.api.times import parse_time
from model_operator.engine.cache import Cache
from model_operator.engine.concurrency import Poller, chosen
from model_operator.engine.events import EventRecorder
from model_operator.manifests.pods import PORT, pod_url
from model_operator.observation.observe import is_ready
from model_operator.policy.status.events import EventDraft
from model_operator.ports import Clock, PodMetrics
from model_operator.turns import Turns

#: Seconds between two polls.
INTERVAL = 5.0
_FIRST = timedelta(seconds=10)
#: Pods that are asked at once, of one namespace and of all.
_OF_ONE, _OF_ALL = 32, 128


def is_due(age: timedelta, reported: timedelta | None) -> bool:
    """Whether to report a start of this age: after ten seconds, and each time its age has doubled.

    Args:
        age: time since the container started.
        reported: age at the last report; None before the first one.
    """
    return age >= (_FIRST if reported is None else 2 * reported)


class StartupEvents(Poller):
    """Polls the pods that are not ready, and records their progress as Events."""

    def __init__(self, cache: Cache, pods: PodMetrics, recorder: EventRecorder, clock: Clock) -> None:
        super().__init__(INTERVAL)
        self._cache, self._pods, self._recorder, self._clock = cache, pods, recorder, clock
        #: The age at which each pod was reported last, by the key of its model and its uid.
        self._reported: dict[ObjectKey, dict[str, timedelta]] = {}
        #: The last message of each pod that starts, by the key of its model and its uid, with its revision.
        self._messages: dict[ObjectKey, dict[str, tuple[str, str]]] = {}
        self._turns = Turns(of_one=_OF_ONE, of_all=_OF_ALL)

    def _start_due(self) -> None:
        short = chosen(self._cache, self._is_short)
        for key in self._messages.keys() - set(short):
            del self._messages[key]
            del self._reported[key]
        self._tasks.cancel_except(short)
        self._tasks.start(short, self._poll_one)

    async def _poll_one(self, key: ObjectKey) -> None:
        starting = {pod["metadata"]["uid"]: pod for pod in self._starting(key)}
        self._messages[key] = {uid: one for uid, one in self._messages.get(key, {}).items() if uid in starting}
        self._reported[key] = {uid: one for uid, one in self._reported.get(key, {}).items() if uid in starting}
        await asyncio.gather(*(self._report(key, pod) for pod in starting.values()))

    def messages(self, key: ObjectKey) -> Mapping[str, str]:
        """Return what a pod that does not become ready says of its start, by revision."""
        return dict(self._messages.get(key, {}).values())

    def _is_short(self, key: ObjectKey) -> bool:
        """Whether some pods are not ready; most resources have none, so their pods are not read."""
        status = (self._cache.resource(key) or {}).get("status") or {}
        return bool(status.get("readyReplicas", 0) < status.get("replicas", 1))

    def _starting(self, key: ObjectKey) -> list[Body]:
        return [
            pod for pod in self._cache.pods(key) if not is_ready(pod) and _running_since(pod) and pod_url(pod, PORT)
        ]

    async def _report(self, key: ObjectKey, pod: Body) -> None:
        uid, age = pod["metadata"]["uid"], self._clock.now() - parse_time(_running_since(pod))
        if not is_due(age, self._reported[key].get(uid)):
            return
        async with self._turns.of(key.namespace):
            found = await self._pods.start(pod_url(pod, PORT))
        if found is not None:
            self._reported[key][uid] = age
            revision = pod["metadata"]["labels"].get(REVISION, "")
            self._messages[key][uid] = (revision, found.message)
            self._recorder.record_for(pod, EventDraft(found.phase.capitalize(), found.message))


def _running_since(pod: Body) -> str:
    """Return the start time of the server's container; empty if it does not run, or if the pod terminates."""
    if "deletionTimestamp" in pod["metadata"]:
        return ""
    statuses = (pod.get("status") or {}).get("containerStatuses", ())
    state: Body = next((one.get("state", {}) for one in statuses if one.get("name") == "server"), {})
    return str(state.get("running", {}).get("startedAt", ""))
