"""The kopf bindings: kopf watches ModelDeployments, answers liveness and handles signals, and nothing more.

kopf's own bookkeeping is switched off: with `on.event` alone, no-op storages and no finalizer it writes
nothing to the cluster. Its deletions can be lost (an object deleted while a watch was down is
never reported), so after each of its lists the engine is told what really exists.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from model_operator.api import GROUP, PLURAL, VERSION
from model_operator.engine.engine import Engine
from model_operator.errors import ApiError

log = logging.getLogger(__name__)

#: A watch that was silent for so long is dead; bookmarks come each minute.
LONGEST_SILENCE = 150.0
#: When kopf has delivered nothing for so long of what a list of our own has, we list again.
NOTHING_ARRIVES_FOR = 5.0
LONGEST_BACKOFF = 5.0

ListUids = Callable[[], Awaitable[tuple[frozenset[str], int]]]
Login = Callable[[], kopf.ConnectionInfo]


def login() -> kopf.ConnectionInfo:
    """Return how to reach the API server: by KUBECONFIG if it is set, else by the pod's ServiceAccount.

    Raises:
        kopf.LoginError: there is neither.
    """
    settings = kopf.OperatorSettings()
    if os.environ.get("KUBECONFIG"):
        found = kopf.login_with_kubeconfig(settings=settings)
    else:
        found = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    if found is None:
        raise kopf.LoginError("no way to the API server: set KUBECONFIG, or run in a pod with a ServiceAccount")
    return found


class NoProgress(kopf.ProgressStorage):
    """Remembers nothing: the engine is level-triggered."""

    def fetch(self, **_: Any) -> None:
        """Nothing was remembered."""

    def store(self, **_: Any) -> None:
        """Nothing is remembered."""

    def purge(self, **_: Any) -> None:
        """There is nothing to forget."""

    def touch(self, **_: Any) -> None:
        """Nothing is touched."""

    def clear(self, *, essence: Any) -> Any:
        """There is nothing of ours in the object."""
        return essence


class NoDiff(kopf.DiffBaseStorage):
    """Keeps no copy of objects: kopf would deep-copy each one for each event."""

    def build(self, **_: Any) -> Any:
        """Nothing of the object is kept."""
        return {}

    def fetch(self, **_: Any) -> None:
        """Nothing was kept."""

    def store(self, **_: Any) -> None:
        """Nothing is kept."""


def configure(settings: kopf.OperatorSettings) -> None:
    """Switch off what kopf would write, and let it outlive an absent API server."""
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.persistence.progress_storage = NoProgress()
    settings.persistence.diffbase_storage = NoDiff()
    settings.watching.server_timeout = 300
    settings.queueing.idle_timeout = 0.2
    settings.queueing.exit_timeout = 0.1
    settings.networking.error_backoffs = [0.2, 0.5, 1, 1, 2, 2, 3, 3] + [5] * 10_000


def bind(
    registry: kopf.OperatorRegistry,
    engine: Engine,
    list_uids: ListUids,
    login: Login,
    stop: asyncio.Event,
) -> None:
    """Register the handlers of one engine; `stop` is set as soon as kopf is told to end.

    kopf waits five seconds for tasks that it did not start, so ours have to end by themselves.
    """
    lists = ListWatcher(engine, list_uids)

    @kopf.on.login(registry=registry)
    def log_in(**_: Any) -> kopf.ConnectionInfo:
        return login()

    @kopf.on.startup(registry=registry)
    async def start(**_: Any) -> None:
        lists.listed()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def changed(event: Any, **_: Any) -> None:
        is_listed = event["type"] is None
        if is_listed:
            lists.listed()
        engine.changed(dict(event["object"]), is_gone=event["type"] == "DELETED", is_listed=is_listed)

    @kopf.on.probe(id="engine", registry=registry)
    async def alive(**_: Any) -> Any:
        health = engine.health(LONGEST_SILENCE)
        if health["silent"]:
            raise kopf.PermanentError(f"watches were silent for too long: {health['silent']}")
        return health

    @kopf.on.cleanup(registry=registry)
    async def end(**_: Any) -> None:
        lists.close()
        stop.set()


class ListWatcher:
    """Finds out what kopf's lists do not tell: what is gone, and when everything has arrived."""

    def __init__(self, engine: Engine, list_uids: ListUids) -> None:
        self._engine, self._list_uids = engine, list_uids
        self._task: asyncio.Task[None] | None = None

    def listed(self) -> None:
        """A list is coming in: compare it with what exists."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._compare(), name="compare-lists")

    def close(self) -> None:
        """Stop comparing."""
        if self._task is not None:
            self._task.cancel()

    async def _compare(self) -> None:
        """Forget what is gone; once everything that exists has arrived, the engine may write."""
        backoff = 0.2
        while True:
            try:
                uids, version = await self._list_uids()
                self._engine.keep_only(uids, version)
                if await self._have_arrived(uids):
                    self._engine.resources_listed()
                    return
            except ApiError as error:
                log.warning("the list of ModelDeployments: %s", error)
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, LONGEST_BACKOFF)

    async def _have_arrived(self, uids: frozenset[str]) -> bool:
        loop = asyncio.get_running_loop()
        known, deadline = -1, 0.0
        while not self._engine.knows(uids):
            if len(self._engine.cache) > known:
                known, deadline = len(self._engine.cache), loop.time() + NOTHING_ARRIVES_FOR
            elif loop.time() > deadline:
                return False
            await asyncio.sleep(0.02)
        return True
