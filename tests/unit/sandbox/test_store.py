"""The object store: versions, history, places in the log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_sandbox.apiserver.store import Expired, Store

KEY = ("default", "a")


def put(store: Store, name: str, value: int) -> int:
    return store.put("things", ("default", name), {"metadata": {"name": name}, "value": value}).version


def test_one_version_counts_the_writes_of_all_kinds() -> None:
    store = Store()
    first = put(store, "a", 1)
    second = store.put("others", KEY, {"metadata": {"name": "a"}}).version
    assert second == first + 1


def test_an_object_carries_its_version() -> None:
    store = Store()
    version = put(store, "a", 1)
    entry = store.get("things", KEY)
    assert entry is not None
    assert entry.body["metadata"]["resourceVersion"] == str(version)


def test_a_deletion_shows_the_last_body_at_a_new_version() -> None:
    store = Store()
    put(store, "a", 1)
    gone = store.remove("things", KEY)
    assert gone.body["value"] == 1
    assert gone.body["metadata"]["resourceVersion"] == str(store.version)


def test_a_namespace_is_listed_alone() -> None:
    store = Store()
    for namespace, name in (("b", "x"), ("a", "y"), ("a", "x")):
        store.put("things", (namespace, name), {"metadata": {"name": name}})
    assert [key for key, _ in store.scan("things", "a")] == [("a", "x"), ("a", "y")]
    assert [key for key, _ in store.scan("things")] == [("a", "x"), ("a", "y"), ("b", "x")]


def test_history_that_is_not_kept_is_expired() -> None:
    store = Store(kept_events=2)
    first = put(store, "a", 1)
    for value in range(4):
        put(store, "a", value)
    with pytest.raises(Expired):
        store.shelf("things").after(first)
    assert store.shelf("things").after(store.version) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3) | st.none()), max_size=30))
def test_every_past_state_can_be_read_back(writes: list[tuple[str, int | None]]) -> None:
    store = Store()
    states: dict[int, dict[str, int]] = {store.version: {}}
    now: dict[str, int] = {}
    for name, value in writes:
        if value is not None:
            put(store, name, value)
            now[name] = value
        elif name in now:
            store.remove("things", ("default", name))
            del now[name]
        states[store.version] = dict(now)
    for version, state in states.items():
        found = store.at("things", version)
        assert {key[1]: entry.body["value"] for key, entry in found.items()} == state
