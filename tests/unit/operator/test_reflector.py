"""A reflector keeps the cache equal to the API server, whatever the watch missed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from model_operator.api.resource import ObjectKey
from model_operator.engine import reflector as module
from model_operator.engine.cache import Cache
from model_operator.engine.reflector import Change, Reflector
from model_operator.errors import ApiError

KEY = ObjectKey("default", "fraud")
ABSENT = ApiError(404, "NotFound", "the server could not find the requested resource")
EXPIRED = ApiError(410, "Expired", "too old resource version")


def service(name: str, version: int) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"kind": "Service", "metadata": {**metadata, "labels": {"modeldeploy.dev/name": "fraud"}}, "spec": {}}


class Script:
    """A server that answers lists and watches as a test wrote down; then it stays silent."""

    kind = "Service"
    namespace = ""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.is_over = asyncio.Event()

    async def _next(self) -> Any:
        if not self._answers:
            self.is_over.set()
            await asyncio.Event().wait()
        answer = self._answers.pop(0)
        if isinstance(answer, ApiError):
            raise answer
        return answer

    async def list(self) -> AsyncIterator[tuple[list[dict[str, Any]], str]]:
        pages, version = await self._next()
        for page in pages:
            yield page, version

    async def watch(self, resource_version: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        for event in await self._next():
            yield event


class Listener:
    """What the engine hears, and the cache that it fills."""

    def __init__(self) -> None:
        self.cache, self.heard, self.woken = Cache(), [], []  # type: ignore[var-annotated]

    def take(self, body: dict[str, Any], change: Change) -> None:
        self.heard.append((body["metadata"]["name"], change))
        self.cache.remove(body) if change is Change.DELETED else self.cache.upsert(body)

    @property
    def names(self) -> list[str]:
        return sorted(name for _, name in self.cache.children(KEY))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INITIAL_BACKOFF", 0.0)
    monkeypatch.setattr(module, "_LONGEST_BACKOFF", 0.0)


async def play(*answers: Any) -> tuple[Listener, set[str], Reflector]:
    told, missing, script = Listener(), set[str](), Script(*answers)
    reflector = Reflector(script, told.cache, told.take, told.woken.append, missing)
    running = asyncio.create_task(reflector.run())
    await asyncio.wait_for(script.is_over.wait(), 5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return told, missing, reflector


async def test_all_pages_of_a_list_arrive_before_it_is_said_to_be_listed() -> None:
    told, _, reflector = await play(([[service("a", 1)], [service("b", 2)]], "2"))
    assert told.names == ["a", "b"]
    assert reflector.listed.is_set()


async def test_a_watch_tells_of_changes_and_ends() -> None:
    events = [("ADDED", service("b", 3)), ("BOOKMARK", service("x", 4)), ("DELETED", service("a", 5))]
    told, _, _ = await play(([[service("a", 1)]], "2"), events)
    assert told.names == ["b"]
    assert told.heard[1:] == [("b", Change.CHANGED), ("a", Change.DELETED)]


async def test_what_was_deleted_while_nobody_looked_is_gone_after_the_next_list() -> None:
    told, _, _ = await play(([[service("a", 1), service("b", 2)]], "2"), EXPIRED, ([[service("b", 2)]], "9"))
    assert told.names == ["b"]
    assert told.heard[-1] == ("a", Change.DELETED)


async def test_an_old_list_does_not_take_away_what_is_younger_than_it() -> None:
    events = [("ADDED", service("young", 7))]
    told, _, _ = await play(([[]], "2"), events, EXPIRED, ([[]], "5"))
    assert told.names == ["young"]


async def test_a_kind_that_the_cluster_does_not_know_is_missing_until_it_appears() -> None:
    told, missing, reflector = await play(ABSENT)
    assert (missing, reflector.listed.is_set()) == ({"Service"}, True)
    told, missing, _ = await play(ABSENT, ABSENT, ([[service("a", 1)]], "1"))
    assert missing == set()
    assert told.names == ["a"]


async def test_a_list_of_one_namespace_takes_nothing_away_from_another() -> None:
    script = Script(([[service("a", 1)]], "2"), [], EXPIRED, ([[]], "9"))
    script.namespace = "team-a"
    listener = Listener()
    listener.cache.upsert(service("b", 1))  # in the namespace default, which another reflector keeps
    reflector = Reflector(script, listener.cache, listener.take, listener.woken.append, set())
    running = asyncio.create_task(reflector.run())
    await asyncio.wait_for(script.is_over.wait(), 5)
    running.cancel()
    assert [name for name, change in listener.heard if change is Change.DELETED] == []


async def test_an_object_that_cannot_be_kept_keeps_no_other_back(caplog: pytest.LogCaptureFixture) -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"deeper": deep}
    hostile = {**service("hostile", 1), "spec": deep}
    told, _, _ = await play(([[hostile, service("a", 1)]], "2"), [("ADDED", hostile), ("ADDED", service("b", 3))])
    assert told.names == ["a", "b"]
    assert "Service default/hostile" in caplog.text
