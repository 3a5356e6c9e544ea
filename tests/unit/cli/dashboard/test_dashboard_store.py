"""What the dashboard keeps, and who is told of changes."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from modeldeploy.dashboard.reaching import PodSilent
from modeldeploy.dashboard.sampling import Sampler
from modeldeploy.dashboard.store import EVENTS_KEPT, Store, Stored
from modeldeploy.dashboard.streams import list_stream, model_stream
from modeldeploy.dashboard.view.pods import Event, Pod

KEY = ("risk", "fraud")


def model(name: str = "fraud", namespace: str = "risk", **status: Any) -> Stored:
    metadata = {"name": name, "namespace": namespace, "managedFields": [{"manager": "kubectl"}]}
    return Stored.of({"metadata": metadata, "status": {"phase": "Healthy", **status}})


def pod(name: str = "a", **status: Any) -> Pod:
    labels = {"modeldeploy.dev/name": "fraud", "modeldeploy.dev/revision": "5c1a"}
    ready = [{"type": "Ready", "status": "True"}]
    metadata = {"name": name, "namespace": "risk", "labels": labels}
    return Pod.from_body({"metadata": metadata, "status": {"conditions": ready, "podIP": "10.0.0.1", **status}})


def event(number: int) -> Event:
    about = {"name": "fraud"}
    metadata = {"name": f"fraud.{number}", "namespace": "risk"}
    at = f"2026-05-01T12:{number // 60:02}:{number % 60:02}Z"
    return Event.from_body({"metadata": metadata, "involvedObject": about, "lastTimestamp": at, "reason": str(number)})


def test_an_object_is_kept_without_what_nobody_reads() -> None:
    assert model().body() == {"metadata": {"name": "fraud", "namespace": "risk"}, "status": {"phase": "Healthy"}}


def test_a_whole_list_replaces_what_was_there_in_its_namespace() -> None:
    store = Store()
    store.replace_models({one.summary.key: one for one in (model(), model("churn"), model("x", "other"))}, "")
    store.replace_models({KEY: model()}, "risk")
    assert set(store.models) == {KEY, ("other", "x")}
    store.replace_pods([pod("a"), pod("b")], "risk")
    store.replace_pods([pod("b")], "risk")
    assert [one.name for one in store.pods(KEY)] == ["b"]


def test_of_the_events_of_a_model_the_newest_are_kept() -> None:
    store = Store()
    for number in range(3 * EVENTS_KEPT):
        store.put_event(event(number))
    kept = store.events(KEY)
    assert len(kept) == EVENTS_KEPT
    assert kept[0].reason == str(3 * EVENTS_KEPT - 1)


async def test_a_subscription_is_told_of_what_changed_and_of_nothing_else() -> None:
    store = Store()
    store.put_model(model())
    subscription = store.subscribe()
    store.put_pod(pod())
    assert await subscription.wait() == ({KEY}, False)
    store.put_pod(pod())  # the same again
    store.notice("pods", "no")
    store.notice("pods", "no")
    assert await subscription.wait() == (set(), True)
    store.unsubscribe(subscription)
    assert store.readers == 0


def parsed(message: str) -> tuple[str, Any]:
    lines = dict(line.split(": ", 1) for line in message.strip().splitlines())
    return lines["event"], json.loads(lines["data"])


async def test_a_page_is_sent_what_it_missed_and_then_each_change() -> None:
    store = Store()
    store.put_model(model("old"))
    since = store.cursor
    store.put_model(model())
    stream = list_stream(store, since)
    assert parsed(await anext(stream)) == ("keys", ["risk/old", "risk/fraud"])
    kind, rows = parsed(await anext(stream))
    assert (kind, [row["key"] for row in rows]) == ("rows", ["risk/fraud"])
    assert [parsed(await anext(stream))[0] for _ in range(2)] == ["totals", "notices"]
    store.drop_model(KEY)
    kind, rows = parsed(await anext(stream))
    assert rows == [{"key": "risk/fraud", "sort": "", "html": ""}]
    await stream.aclose()
    assert store.readers == 0


async def test_many_changes_are_sent_in_pieces() -> None:
    store = Store()
    for number in range(50):
        store.put_model(model(f"m{number}"))
    stream = list_stream(store, "")
    await anext(stream)
    sent = await _rows(stream, 3)
    assert [len(rows) for _, rows in sent] == [20, 20, 10]
    assert [identifier for identifier, _ in sent] == ["", "", store.cursor], "a page that is cut off asks for the rest"
    await stream.aclose()


async def test_what_changes_meanwhile_goes_before_the_rest() -> None:
    store = Store()
    for number in range(50):
        store.put_model(model(f"m{number}"))
    stream = list_stream(store, "")
    await _rows(stream, 1)
    store.put_model(model("m7", message="new words"))
    ((_, rows),) = await _rows(stream, 1)
    assert rows[0]["key"] == "risk/m7"
    assert "new words" in rows[0]["html"]
    ((_, rows),) = await _rows(stream, 1)
    assert "risk/m7" not in [row["key"] for row in rows]
    await stream.aclose()


async def _rows(stream: Any, count: int) -> list[tuple[str, Any]]:
    """The next messages that have rows, each with its identifier."""
    found: list[tuple[str, Any]] = []
    while len(found) < count:
        message = await anext(stream)
        if "event: rows" in message:
            found.append((message.partition("\n")[0].removeprefix("id: "), parsed(message)[1]))
    return found


async def test_of_the_page_of_a_model_only_what_differs_is_sent_until_it_is_gone() -> None:
    store = Store()
    store.put_model(model())
    pages: list[dict[str, str] | None] = [{"a": "1", "b": "1"}, {"a": "1", "b": "2"}, None]

    async def parts() -> dict[str, str] | None:
        return pages.pop(0)

    stream = model_stream(store, KEY, parts)
    await anext(stream)  # the notices
    assert parsed(await anext(stream)) == ("parts", {"a": "1", "b": "1"})
    store.put_pod(pod())
    assert parsed(await anext(stream)) == ("parts", {"b": "2"})
    store.drop_model(KEY)
    assert parsed(await anext(stream)) == ("gone", "risk/fraud")
    assert [one async for one in stream] == []


async def test_streams_end_with_the_dashboard() -> None:
    store = Store()
    stream = list_stream(store, "")
    await anext(stream)
    reading = asyncio.ensure_future(_drain(stream))
    await asyncio.sleep(0)
    store.end()
    await asyncio.wait_for(reading, 5)


async def _drain(stream: Any) -> None:
    async for _ in stream:
        pass


class Pods:
    """Pods that count, and those that nobody may ask."""

    def __init__(self) -> None:
        self.count = 0
        self.is_forbidden = False

    def read(self, pod: Pod, path: str, query: Mapping[str, list[str]]) -> bytes:
        if self.is_forbidden:
            raise PodSilent("no", is_forbidden=True)
        self.count += 10
        return (
            b'# TYPE modeldeploy_requests counter\nmodeldeploy_requests_total{code="200"} %d\n'
            b'modeldeploy_drifted{feature="age"} 1\n' % self.count
        )


async def test_pods_are_asked_for_rates_and_drift() -> None:
    store, pods = Store(), Pods()
    store.put_model(model())
    store.put_pod(pod())
    sampler = Sampler(store, pods)
    for _ in range(2):
        assert not await sampler.round()
    row = store.row(KEY)
    assert row is not None
    assert row.rate is not None
    assert row.rate.requests > 0
    assert [one.word for one in row.attention] == ["Drifting"]
    assert [revision for revision, _ in await sampler.details(KEY)] == ["5c1a"]
    asked = pods.count
    assert len(await sampler.details(KEY)) == 1
    assert pods.count == asked, "pods are not asked for each change"
    pods.is_forbidden = True
    assert await sampler.round()
    assert await Sampler(store, pods).details(KEY) == []
    sampler.close()


def test_a_cursor_of_another_process_says_nothing() -> None:
    one, other = Store(), Store()
    for store in (one, other):
        store.put_model(model())
    assert one.changed_since(one.cursor) == set()
    for cursor in ("", other.cursor, "x", f"{one.epoch}-x"):
        assert one.changed_since(cursor) == {KEY}
