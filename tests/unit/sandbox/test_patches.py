"""JSON, merge and strategic merge patches."""

from typing import Any

import pytest

from model_sandbox.apiserver.errors import ApiError
from model_sandbox.apiserver.kinds import builtin_registry
from model_sandbox.apiserver.patch import json_patch, merge_patch, strategic_merge

DEPLOYMENT = builtin_registry().kinds["apps", "v1", "deployments"].node


@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [
        pytest.param({"a": 1, "b": 2}, {"a": None}, {"b": 2}, id="null removes"),
        pytest.param({"a": {"x": 1}}, {"a": {"y": 2}}, {"a": {"x": 1, "y": 2}}, id="objects merge"),
        pytest.param({"a": [1, 2]}, {"a": [3]}, {"a": [3]}, id="lists are replaced"),
        pytest.param({"a": 1}, {"a": {"b": None}}, {"a": {}}, id="an object replaces a number"),
    ],
)
def test_merge(document: Any, patch: Any, result: Any) -> None:
    assert merge_patch(document, patch) == result


@pytest.mark.parametrize(
    ("operations", "result"),
    [
        pytest.param([{"op": "add", "path": "/b", "value": 1}], {"a": [1], "b": 1}, id="add"),
        pytest.param([{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}, id="add at the end of a list"),
        pytest.param([{"op": "replace", "path": "/c", "value": 1}], {"a": [1], "c": 1}, id="replace may add a key"),
        pytest.param([{"op": "remove", "path": "/a"}], {}, id="remove"),
        pytest.param([], {"a": [1]}, id="nothing"),
    ],
)
def test_json(operations: Any, result: Any) -> None:
    document = {"a": [1]}
    assert json_patch(document, operations) == result
    assert document == {"a": [1]}


@pytest.mark.parametrize(
    "operations",
    [
        pytest.param([{"op": "test", "path": "/a", "value": 2}], id="a test that fails"),
        pytest.param([{"op": "remove", "path": "/b"}], id="removal of what is not there"),
        pytest.param([{"op": "add", "path": "/b/c", "value": 1}], id="no parent"),
        pytest.param([{"op": "dance", "path": "/a"}], id="an unknown operation"),
        pytest.param([{"path": "/a"}], id="no operation"),
        pytest.param([3], id="no object"),
    ],
)
def test_a_json_patch_that_cannot_be_applied_is_unprocessable(operations: Any) -> None:
    with pytest.raises(ApiError) as refused:
        json_patch({"a": 1}, operations)
    assert refused.value.code == 422


def containers(*items: Any, **more: Any) -> Any:
    return {"spec": {"template": {"spec": {"containers": list(items), **more}}}}


@pytest.mark.parametrize(
    ("patch", "names"),
    [
        pytest.param([{"name": "b", "image": "2"}], ["a:1", "b:2", "c:1"], id="items merge by their key in place"),
        pytest.param([{"name": "n", "image": "1"}], ["n:1", "a:1", "b:1", "c:1"], id="a new item comes first"),
        pytest.param([{"name": "b", "$patch": "delete"}], ["a:1", "c:1"], id="an item can be deleted"),
        pytest.param([{"$patch": "replace"}, {"name": "z", "image": "9"}], ["z:9"], id="the list can be replaced"),
    ],
)
def test_strategic_lists(patch: Any, names: list[str]) -> None:
    document = containers(*({"name": name, "image": "1"} for name in "abc"))
    merged = strategic_merge(DEPLOYMENT, document, containers(*patch))
    found = merged["spec"]["template"]["spec"]["containers"]
    assert [f"{one['name']}:{one['image']}" for one in found] == names


def test_an_order_can_be_given() -> None:
    document = containers({"name": "a"}, {"name": "b"})
    order = {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}
    merged = strategic_merge(DEPLOYMENT, document, {"spec": {"template": {"spec": order}}})
    assert [one["name"] for one in merged["spec"]["template"]["spec"]["containers"]] == ["b", "a"]


def test_an_item_without_its_key_is_an_error_that_names_the_key() -> None:
    with pytest.raises(ApiError, match="merge key: name"):
        strategic_merge(DEPLOYMENT, containers({"name": "a"}), containers({"image": "x"}))


@pytest.mark.parametrize("name", ["$retainKeys", "$setElementOrder/containers", "$deleteFromPrimitiveList/args"])
def test_a_directive_that_is_no_list_is_refused(name: str) -> None:
    with pytest.raises(ApiError, match="invalid patch format"):
        strategic_merge(DEPLOYMENT, {}, {"spec": {name: "x"}})


def test_retain_keys_drops_the_others() -> None:
    document = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic_merge(DEPLOYMENT, document, patch) == {"spec": {"strategy": {"type": "Recreate"}}}
