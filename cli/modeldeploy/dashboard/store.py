"""What the API server and the pods said, kept small, and who wants to hear of changes. Lives on the event loop.

`watching` and `sampling` write into it, `app` and `streams` read it. An object is kept as its summary and, compressed,
as the JSON that the page of one model is computed from.
"""

import asyncio
import json
import secrets
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modeldeploy.dashboard.view.pods import Event, Pod
from modeldeploy.dashboard.view.rates import Ring
from modeldeploy.dashboard.view.rows import Row, Totals, row_of, totals_of
from modeldeploy.dashboard.view.summary import Summary
from modeldeploy.fleet.usage import Look, ModelUse, by_pod, use_of
from modeldeploy.fleet.window import Window

Key = tuple[str, str]
Body = dict[str, Any]

#: Events that are kept of one model.
EVENTS_KEPT = 20


@dataclass(frozen=True, slots=True)
class Stored:
    """One ModelDeployment: its summary, and the compressed JSON of it."""

    summary: Summary
    packed: bytes

    @classmethod
    def of(cls, body: Body) -> "Stored":
        """Keep an object of the API server."""
        body["metadata"].pop("managedFields", None)
        return cls(Summary.from_body(body), zlib.compress(json.dumps(body).encode(), 1))

    def body(self) -> Body:
        """Return the object."""
        found: Body = json.loads(zlib.decompress(self.packed))
        return found


@dataclass(slots=True, eq=False)
class Subscription:
    """One reader: the models that changed since it looked, and whether a notice did."""

    changed: set[Key] = field(default_factory=set)
    is_notice_changed: bool = False
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> tuple[set[Key], bool]:
        """Wait for a change, and return the models that changed and whether the notices did."""
        await self._wake.wait()
        return self.take()

    def take(self) -> tuple[set[Key], bool]:
        """Return the same without waiting; nothing where nothing has changed."""
        self._wake.clear()
        changed, self.changed = self.changed, set()
        noticed, self.is_notice_changed = self.is_notice_changed, False
        return changed, noticed

    def add(self, key: Key | None) -> None:
        """Note a change of one model, or of the notices."""
        if key is None:
            self.is_notice_changed = True
        else:
            self.changed.add(key)
        self._wake.set()


@dataclass(slots=True)
class Store:
    """Models, pods, Events and rates. `notices` say what keeps the dashboard from reading, by what it reads."""

    models: dict[Key, Stored] = field(default_factory=dict)
    notices: dict[str, str] = field(default_factory=dict)
    rings: dict[Key, Ring] = field(default_factory=dict)
    windows: dict[Key, Window] = field(default_factory=dict)
    is_loaded: bool = False
    is_over: bool = False
    clock: int = 0  # grows with every change
    epoch: str = field(default_factory=lambda: secrets.token_hex(4))  # of this process: another one counts anew
    _pods: dict[Key, Pod] = field(default_factory=dict)
    _pods_of: dict[Key, dict[str, Pod]] = field(default_factory=lambda: defaultdict(dict))
    _events_of: dict[Key, dict[str, Event]] = field(default_factory=lambda: defaultdict(dict))
    _subscriptions: set[Subscription] = field(default_factory=set)
    _changed_at: dict[Key, int] = field(default_factory=dict)
    _rows: dict[Key, Row] = field(default_factory=dict)

    # --- readers

    @property
    def cursor(self) -> str:
        """The time of this store, by which a page says later what it has."""
        return f"{self.epoch}-{self.clock}"

    def changed_since(self, cursor: str) -> set[Key]:
        """Return the models that changed after `cursor`; all of them for one of another process, or for none."""
        epoch, _, clock = cursor.partition("-")
        if epoch != self.epoch or not clock.isdecimal():
            return set(self.models)
        return {key for key in self.models if self._changed_at.get(key, 0) > int(clock)}

    def subscribe(self) -> Subscription:
        """Return a subscription to all changes; `unsubscribe` it."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a subscription."""
        self._subscriptions.discard(subscription)

    @property
    def readers(self) -> int:
        """How many subscriptions there are."""
        return len(self._subscriptions)

    def rows(self) -> list[Row]:
        """Return all rows, those that need attention first."""
        return sorted((self._row(key) for key in self.models), key=lambda row: row.sort)

    def totals(self) -> Totals:
        """Return what the rows add up to."""
        return totals_of([self._row(key) for key in self.models])

    def row(self, key: Key) -> Row | None:
        """Return one row."""
        return self._row(key) if key in self.models else None

    def _row(self, key: Key) -> Row:
        if key not in self._rows:
            self._rows[key] = row_of(self.models[key].summary, self.pods(key), self.rings.get(key))
        return self._rows[key]

    def pods(self, key: Key) -> list[Pod]:
        """Return the pods of one model, by name."""
        return sorted(self._pods_of.get(key, {}).values(), key=lambda pod: pod.name)

    def all_pods(self) -> list[Pod]:
        """Return the pods of all models."""
        return list(self._pods.values())

    def uses(self) -> list[ModelUse]:
        """Return what the running pods of each model request and use."""
        return [self._use(key) for key in self.models]

    def _use(self, key: Key) -> ModelUse:
        pods = [pod for pod in self._pods_of.get(key, {}).values() if pod.is_running]
        requested, metered = {pod.path: pod.requested for pod in pods}, {pod.path for pod in pods if pod.is_metered}
        window = self.windows.get(key, Window())
        return use_of(*key, by_pod(window.last, window.first, requested, metered))

    def events(self, key: Key) -> list[Event]:
        """Return the last Events of one model, newest first."""
        found = self._events_of.get(key, {}).values()
        return sorted(found, key=_time_of, reverse=True)

    # --- writers

    def notice(self, what: str, message: str) -> None:
        """Set or, with an empty message, remove what keeps one thing from being read."""
        if self.notices.get(what, "") != message:
            self.notices.pop(what, None)
            if message:
                self.notices[what] = message
            self._tell(None)

    def replace_models(self, found: Mapping[Key, Stored], within: str) -> None:
        """Take a whole list of ModelDeployments, of one namespace or (with "") of all."""
        gone = {key for key in self.models if _is_within(key, within)} - found.keys()
        for key in gone:
            del self.models[key]
            self.rings.pop(key, None)
            self.windows.pop(key, None)
        self.models.update(found)
        self.is_loaded = True
        self._tell(None)
        for key in (*found, *gone):
            self._tell(key)

    def put_model(self, stored: Stored) -> None:
        """Take one ModelDeployment."""
        self.models[stored.summary.key] = stored
        self._tell(stored.summary.key)

    def drop_model(self, key: Key) -> None:
        """Forget one ModelDeployment."""
        if self.models.pop(key, None) is not None:
            self.rings.pop(key, None)
            self.windows.pop(key, None)
            self._events_of.pop(key, None)
            self._tell(key)

    def replace_pods(self, pods: Iterable[Pod], within: str) -> None:
        """Take a whole list of pods, of one namespace or (with "") of all."""
        found = {(pod.namespace, pod.name): pod for pod in pods}
        for key in {key for key in self._pods if _is_within(key, within)} - found.keys():
            self.drop_pod(*key)
        for pod in found.values():
            self.put_pod(pod)

    def put_pod(self, pod: Pod) -> None:
        """Take one pod."""
        if self._pods.get((pod.namespace, pod.name)) != pod:
            self._keep_pod(pod)
            self._tell(pod.key)

    def _keep_pod(self, pod: Pod) -> None:
        self._pods[pod.namespace, pod.name] = pod
        self._pods_of[pod.key][pod.name] = pod

    def drop_pod(self, namespace: str, name: str) -> None:
        """Forget one pod."""
        pod = self._pods.pop((namespace, name), None)
        if pod is not None:
            self._pods_of[pod.key].pop(name, None)
            if not self._pods_of[pod.key]:
                del self._pods_of[pod.key]
            self._tell(pod.key)

    def replace_events(self, events: Iterable[Event], within: str) -> None:
        """Take a whole list of Events, of one namespace or (with "") of all."""
        for key in [key for key in self._events_of if _is_within(key, within)]:
            del self._events_of[key]
        for event in events:
            self.put_event(event)

    def put_event(self, event: Event) -> None:
        """Take one Event; of one model the newest are kept."""
        own = self._events_of[event.key]
        own.pop(event.name, None)
        own[event.name] = event
        if len(own) > EVENTS_KEPT:
            del own[min(own, key=lambda name: _time_of(own[name]))]
        self._tell(event.key)

    def drop_event(self, event: Event) -> None:
        """Forget one Event."""
        if own := self._events_of.get(event.key):
            own.pop(event.name, None)
            if not own:
                del self._events_of[event.key]

    def sampled(self, key: Key, counters: Mapping[str, tuple[float, float]], drifted: list[str], *, at: float) -> None:
        """Take what the pods of one model counted."""
        if key not in self.models:
            return
        before = self._row(key)
        ring = self.rings.setdefault(key, Ring())
        ring.add(counters, drifted, at=at)
        # A model that nobody asks draws the same line again.
        if row_of(self.models[key].summary, self.pods(key), ring) != before:
            self._tell(key)

    def looked(self, key: Key, looks: Mapping[str, Look]) -> None:
        """Take what the pods of one model use; pages that follow changes do not show it."""
        if key in self.models:
            self.windows.setdefault(key, Window()).add(looks)

    def end(self) -> None:
        """Let every stream end."""
        self.is_over = True
        self._tell(None)

    def _tell(self, key: Key | None) -> None:
        self.clock += 1
        if key is not None:
            self._rows.pop(key, None)
        if key in self.models:
            self._changed_at[key] = self.clock
        elif key is not None:
            self._changed_at.pop(key, None)
        for subscription in self._subscriptions:
            subscription.add(key)


def _time_of(event: Event) -> float:
    return event.at.timestamp() if event.at else 0.0


def _is_within(key: Key, namespace: str) -> bool:
    return namespace in ("", key[0])
