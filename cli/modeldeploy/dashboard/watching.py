"""Keeps the store as the API server has it: one LIST and one WATCH for each kind and namespace, each in a thread.

The client is synchronous, and a watch waits. What arrives is made small in the thread, and handed to the event loop.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from modeldeploy.dashboard.store import Store, Stored
from modeldeploy.dashboard.view import notices
from modeldeploy.dashboard.view.pods import Event, Pod
from modeldeploy.kube import (
    EVENTS,
    MODELDEPLOYMENTS,
    PODS,
    Kube,
    KubeconfigError,
    KubeError,
    KubeUnreachable,
    Resource,
)
from modeldeploy.rollout import GROUP
from modeldeploy.session import INSTALL

Post = Callable[[Callable[[], None]], object]

#: Objects that are read at once: a page of large objects is what needs most memory.
_PAGE = 100
#: Seconds between two attempts, the first and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_GONE = 410


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """One kind: how it is selected, made small, and written into the store."""

    what: str
    resource: Resource
    read: Callable[[dict[str, Any]], Any]
    replace: Callable[[Store, Sequence[Any], str], None]
    put: Callable[[Store, Any], None]
    drop: Callable[[Store, Any], None]
    labels: str = ""
    fields: str = ""


FEEDS = (
    Feed(
        what="models",
        resource=MODELDEPLOYMENTS,
        read=Stored.of,
        replace=lambda store, found, within: store.replace_models({one.summary.key: one for one in found}, within),
        put=Store.put_model,
        drop=lambda store, one: store.drop_model(one.summary.key),
    ),
    Feed(
        what="pods",
        resource=PODS,
        labels=f"{GROUP}/name,app.kubernetes.io/component=model-server",
        read=Pod.from_body,
        replace=Store.replace_pods,
        put=Store.put_pod,
        drop=lambda store, one: store.drop_pod(one.namespace, one.name),
    ),
    Feed(
        what="events",
        resource=EVENTS,
        fields="involvedObject.kind=ModelDeployment",
        read=Event.from_body,
        replace=Store.replace_events,
        put=Store.put_event,
        drop=Store.drop_event,
    ),
)


class Watcher(threading.Thread):
    """Follows one kind in one namespace, or (with "") in all. `post` runs a function on the event loop."""

    def __init__(self, feed: Feed, namespace: str, kube: Kube, store: Store, post: Post) -> None:
        super().__init__(name=f"watch-{feed.what}-{namespace}", daemon=True)
        self._feed, self._namespace = feed, namespace
        self._kube, self._store, self._post = kube, store, post
        self._over = threading.Event()

    def stop(self) -> None:
        """End after the current request; the thread is a daemon and may outlive nothing."""
        self._over.set()

    def run(self) -> None:
        """List, then follow, until `stop`."""
        pause = _FIRST_PAUSE
        while not self._over.is_set():
            try:
                version = self._list()
                pause = _FIRST_PAUSE
                while not self._over.is_set():
                    version = self._follow(version)
            except KubeError as error:
                if error.code == _GONE:
                    continue
                self._say(self._refused(error))
            except (KubeUnreachable, KubeconfigError) as error:
                self._say(notices.unreachable(self._feed.what, str(error)))
            except (
                AttributeError,
                KeyError,
                TypeError,
                ValueError,
            ) as error:  # half an object, or none
                message = f"the API server answers with something else than objects ({type(error).__name__}: {error})."
                self._say(notices.unreachable(self._feed.what, message))
            self._over.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _list(self) -> str:
        """Read all objects and return the version to go on from."""
        feed, version = self._feed, ""
        found: list[Any] = []
        for page, first_version in self._kube.pages(
            feed.resource,
            self._namespace or None,
            everywhere=not self._namespace,
            labels=feed.labels,
            fields=feed.fields,
            size=_PAGE,
        ):
            # Lists leave kind and version out of their items.
            found += [one for body in page if (one := self._read(body)) is not None]
            version = version or first_version
        self._send(lambda: feed.replace(self._store, found, self._namespace))
        self._say("")
        return version

    def _follow(self, version: str) -> str:
        """Take one watch's events and return the version to go on from when the API server has ended it."""
        feed = self._feed
        for event in self._kube.watch(
            feed.resource,
            self._namespace or None,
            version=version,
            everywhere=not self._namespace,
            labels=feed.labels,
            fields=feed.fields,
        ):
            body = event["object"]
            version = str(body["metadata"]["resourceVersion"])
            if event["type"] != "BOOKMARK" and (one := self._read(body)) is not None:
                self._write(feed.drop if event["type"] == "DELETED" else feed.put, one)
            if self._over.is_set():
                break
        return version

    def _read(self, body: dict[str, Any]) -> Any:
        """Return what is kept of an object; None of one that is nested so deeply that nothing can be."""
        try:
            return self._feed.read(body)
        except RecursionError:
            return None

    def _write(self, write: Callable[[Store, Any], None], one: Any) -> None:
        self._send(lambda: write(self._store, one))

    def _say(self, message: str) -> None:
        self._send(lambda: self._store.notice(self._feed.what, message))

    def _send(self, write: Callable[[], None]) -> None:
        if not self._over.is_set():
            self._post(write)

    def _refused(self, error: KubeError) -> str:
        served: Sequence[str] = ()
        if self._feed.what == "models" and error.code == 404:
            try:
                served = self._kube.versions(GROUP)
            except (KubeError, KubeUnreachable, KubeconfigError):
                served = ()
        return notices.refused(self._feed.what, error, served=served, install=INSTALL)
