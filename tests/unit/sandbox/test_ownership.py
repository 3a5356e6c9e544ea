"""Server-side apply: who owns which field."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_sandbox.apiserver import fieldsets, ownership
from model_sandbox.apiserver.errors import ApiError
from model_sandbox.apiserver.fieldsets import ListKeyError
from model_sandbox.apiserver.ownership import Manager, Ownership
from model_sandbox.apiserver.schema import from_openapi

TEXT = {"type": "string"}
NODE = from_openapi(
    {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "a": TEXT,
                    "b": TEXT,
                    "labels": {"type": "object", "additionalProperties": TEXT},
                    "whole": {"type": "object", "properties": {"x": TEXT}, "x-kubernetes-map-type": "atomic"},
                    "list": {"type": "array", "items": TEXT},
                    "set": {"type": "array", "items": TEXT, "x-kubernetes-list-type": "set"},
                    "items": {
                        "type": "array",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["k"],
                        "items": {"type": "object", "properties": {"k": TEXT, "v": TEXT, "w": TEXT}},
                    },
                },
            }
        },
    }
)
ALICE, BOB = Manager("alice", "Apply", "v1"), Manager("bob", "Apply", "v1")


def apply(
    live: Any, spec: Any, owners: Ownership, who: Manager = ALICE, *, force: bool = False
) -> tuple[Any, Ownership]:
    merged, after = ownership.apply(
        NODE, live, {"spec": spec}, owners, who, reset=set(), force=force, now="2030-01-01T00:00:00Z"
    )
    return merged, after


def owned(owners: Ownership, who: Manager) -> set[str]:
    return {fieldsets.show(path) for path in owners[who].paths} if who in owners else set()


def test_an_applier_owns_what_it_sets() -> None:
    merged, owners = apply({}, {"a": "1", "items": [{"k": "x", "v": "1"}]}, {})
    assert merged == {"spec": {"a": "1", "items": [{"k": "x", "v": "1"}]}}
    assert owned(owners, ALICE) == {".spec.a", '.spec.items[k="x"]', '.spec.items[k="x"].k', '.spec.items[k="x"].v'}


def test_what_is_no_longer_applied_goes() -> None:
    live, owners = apply({}, {"a": "1", "b": "2", "set": ["p", "q"]}, {})
    live, owners = apply(live, {"a": "1", "set": ["q"]}, owners)
    assert live == {"spec": {"a": "1", "set": ["q"]}}


def test_what_others_own_stays() -> None:
    live, owners = apply({}, {"a": "1", "labels": {"x": "1"}}, {})
    live, owners = apply(live, {"a": "1", "labels": {"y": "2"}}, owners, BOB)
    live, owners = apply(live, {"labels": {"x": "1"}}, owners)
    assert live == {"spec": {"a": "1", "labels": {"x": "1", "y": "2"}}}
    assert owned(owners, BOB) == {".spec.a", ".spec.labels.y"}


def test_a_value_that_another_owns_is_a_conflict_that_names_both() -> None:
    live, owners = apply({}, {"a": "1"}, {})
    with pytest.raises(ApiError) as refused:
        apply(live, {"a": "2"}, owners, BOB)
    assert refused.value.code == 409
    assert [(one.field, one.message) for one in refused.value.causes] == [(".spec.a", 'conflict with "alice"')]


def test_force_takes_the_field_over() -> None:
    live, owners = apply({}, {"a": "1"}, {})
    live, owners = apply(live, {"a": "2"}, owners, BOB, force=True)
    assert live == {"spec": {"a": "2"}}
    assert owned(owners, ALICE) == set()


@pytest.mark.parametrize(("field", "one", "other"), [("whole", {"x": "1"}, {"x": "2"}), ("list", ["1"], ["1", "2"])])
def test_an_atomic_value_is_owned_whole(field: str, one: Any, other: Any) -> None:
    live, owners = apply({}, {field: one}, {})
    assert owned(owners, ALICE) == {f".spec.{field}"}
    with pytest.raises(ApiError):
        apply(live, {field: other}, owners, BOB)


def test_members_of_list_maps_and_sets_belong_to_different_managers() -> None:
    live, owners = apply({}, {"items": [{"k": "x", "v": "1"}], "set": ["p"]}, {})
    live, owners = apply(live, {"items": [{"k": "y", "v": "2"}], "set": ["q"]}, owners, BOB)
    live, owners = apply(live, {}, owners)
    assert live == {"spec": {"items": [{"k": "y", "v": "2"}], "set": ["q"]}}


@pytest.mark.parametrize("spec", [{"set": ["x", "x"]}, {"items": [{"v": "1"}]}, {"items": [{"k": "1"}, {"k": "1"}]}])
def test_a_list_with_a_missing_or_repeated_key_is_refused(spec: Any) -> None:
    with pytest.raises(ListKeyError):
        apply({}, spec, {})


def test_an_update_takes_what_it_changes_and_never_conflicts() -> None:
    live, owners = apply({}, {"a": "1", "b": "2"}, {})
    editor = Manager("editor", "Update", "v1")
    new = {"spec": {"a": "9", "b": "2"}}
    owners = ownership.after_update(NODE, live, new, owners, editor, reset=set(), now="t")
    assert owned(owners, editor) == {".spec.a"}
    assert owned(owners, ALICE) == {".spec.b"}


SPECS = st.fixed_dictionaries(
    {},
    optional={
        "a": st.sampled_from("12"),
        "labels": st.dictionaries(st.sampled_from("xy"), st.sampled_from("12")),
        "set": st.lists(st.sampled_from("pqr"), unique=True),
        "items": st.lists(st.sampled_from("kl"), unique=True).map(lambda keys: [{"k": key, "v": "1"} for key in keys]),
    },
)


@given(SPECS, SPECS)
def test_managed_fields_survive_being_written_and_read(first: Any, second: Any) -> None:
    live, owners = apply({}, first, {})
    _, owners = apply(live, second, owners, BOB, force=True)
    again = ownership.parse(ownership.render(owners))
    assert {who: held.paths for who, held in again.items()} == {who: held.paths for who, held in owners.items()}


@given(SPECS, SPECS)
def test_applying_the_same_twice_changes_nothing(first: Any, second: Any) -> None:
    live, owners = apply({}, first, {})
    live, owners = apply(live, second, owners, BOB, force=True)
    again, same = apply(live, second, owners, BOB)
    assert again == live
    assert {who: held.paths for who, held in same.items()} == {who: held.paths for who, held in owners.items()}
