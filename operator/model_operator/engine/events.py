"""Recorder of Kubernetes Events, which does not block a reconcile.

An equal Event of the same object is recorded again only after `REPEAT_AFTER`; a bounded queue drops (and
logs) Events when the API server is slow.
"""

import asyncio
import hashlib
import logging
from collections import Counter, OrderedDict
from datetime import datetime, timedelta

from model_operator.api.json import Body
from model_operator.api.resource import ModelDeployment
from model_operator.api.values import replace
from model_operator.api.version import API_VERSION, KIND
from model_operator.engine.concurrency import logged
from model_operator.errors import ApiError
from model_operator.policy.status.events import EventDraft
from model_operator.ports import Clock, Cluster

log = logging.getLogger(__name__)

REPEAT_AFTER = timedelta(minutes=10)
_REMEMBERED = 10_000
_QUEUED = 1_000
#: Events of one namespace that may wait: who changes a resource again and again keeps no other's from being told.
_QUEUED_OF_ONE = 250
#: Maximum length of a message; the API server rejects longer ones.
_LONGEST_MESSAGE = 1024


class EventRecorder:
    """Writes Events in the background."""

    def __init__(self, cluster: Cluster, clock: Clock, reporter: str) -> None:
        self._cluster, self._clock, self._reporter = cluster, clock, reporter
        self._told: OrderedDict[tuple[str, EventDraft], datetime] = OrderedDict()
        self._queue: asyncio.Queue[Body] = asyncio.Queue(_QUEUED)
        self._waiting: Counter[str] = Counter()

    def record(self, resource: ModelDeployment, event: EventDraft) -> None:
        """Queue an Event about a ModelDeployment, unless it was recorded recently."""
        about = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": resource.name,
            "namespace": resource.key.namespace,
            "uid": resource.uid,
            "resourceVersion": resource.resource_version,
        }
        self._enqueue(about, event)

    def record_for(self, body: Body, event: EventDraft) -> None:
        """Queue an Event about any object, unless it was recorded recently."""
        metadata = body["metadata"]
        named = {field: metadata[field] for field in ("name", "namespace", "uid", "resourceVersion")}
        self._enqueue({"apiVersion": body["apiVersion"], "kind": body["kind"], **named}, event)

    def _enqueue(self, about: Body, event: EventDraft) -> None:
        event = replace(event, message=event.message[:_LONGEST_MESSAGE])
        now, key = self._clock.now(), (about["uid"], event)
        last = self._told.get(key)
        if last is not None and now - last < REPEAT_AFTER:
            return
        self._told[key] = now
        self._told.move_to_end(key)
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        namespace = about["namespace"]
        if self._waiting[namespace] >= _QUEUED_OF_ONE or self._queue.full():
            log.warning("event %s of %s/%s was dropped: too many wait", event.reason, namespace, about["name"])
            return
        self._waiting[namespace] += 1
        self._queue.put_nowait(event_body(about, event, now, self._reporter))

    async def run(self) -> None:
        """Write queued Events until cancelled; a rejected one is logged and dropped."""
        while True:
            body = await self._queue.get()
            self._wrote(body["metadata"]["namespace"])
            with logged(f"the event {body['reason']}"):
                await self._write(body)

    def _wrote(self, namespace: str) -> None:
        self._waiting[namespace] -= 1
        if not self._waiting[namespace]:
            del self._waiting[namespace]

    async def _write(self, body: Body) -> None:
        try:
            await self._cluster.post_event(body)
        except ApiError as error:
            level = logging.DEBUG if error.is_namespace_terminating else logging.WARNING
            log.log(level, "event %s was not written: %s", body["reason"], error)


def event_body(about: Body, event: EventDraft, now: datetime, reporter: str) -> Body:
    """Return the v1 Event; `kubectl describe` finds it by `involvedObject`, which is `about`."""
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    seed = f"{about['uid']}/{event}/{now.isoformat()}"
    suffix = hashlib.blake2b(seed.encode(), digest_size=8).hexdigest()
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{about['name']}.{suffix}", "namespace": about["namespace"]},
        "involvedObject": about,
        "reason": event.reason,
        "message": event.message,
        "type": "Warning" if event.is_warning else "Normal",
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
        "source": {"component": "modeldeploy-operator"},
        "reportingComponent": "modeldeploy.dev/operator",
        "reportingInstance": reporter,
    }
