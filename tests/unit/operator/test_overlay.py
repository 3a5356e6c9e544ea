"""The overlay on the pod template."""

from typing import Any

import pytest

from model_operator.api.pod_template import effective_overlay
from model_operator.manifests.strategic_merge import overlay

BASE = {"spec": {"containers": [{"name": "server", "image": "a", "env": [{"name": "X", "value": "1"}]}]}}


@pytest.mark.parametrize(
    ("patch", "path", "value"),
    [
        pytest.param({"spec": {"nodeName": "n"}}, ["spec", "nodeName"], "n", id="a new field is added"),
        pytest.param(
            {"spec": {"containers": [{"name": "server", "image": "b"}]}},
            ["spec", "containers", 0, "image"],
            "b",
            id="the server is found by its name",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "sidecar"}]}},
            ["spec", "containers", 1, "name"],
            "sidecar",
            id="another container stands beside it",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "server", "env": [{"name": "Y", "value": "2"}]}]}},
            ["spec", "containers", 0, "env", 1, "name"],
            "Y",
            id="variables are added by name",
        ),
        pytest.param({"spec": {"tolerations": [1]}}, ["spec", "tolerations"], [1], id="plain lists are replaced"),
    ],
)
def test_overlay(patch: dict[str, Any], path: list[Any], value: Any) -> None:
    found: Any = overlay(BASE, patch)
    for part in path:
        found = found[part]
    assert found == value


def test_null_removes() -> None:
    assert overlay({"a": 1, "b": 2}, {"a": None}) == {"b": 2}


def test_the_base_is_left_alone() -> None:
    overlay(BASE, {"spec": {"containers": [{"name": "server", "image": "b"}]}})
    assert BASE["spec"]["containers"][0]["image"] == "a"


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param({"spec": {"containers": [{"name": "server", "env": []}]}}, id="nothing of the server"),
        pytest.param({"spec": {"containers": [{"name": "server", "image": None}]}}, id="a null"),
        pytest.param({"spec": {"containers": [{"name": "server"}, {"name": "proxy"}]}}, id="another container"),
        pytest.param({"spec": {"containers": [{"name": "server", "args": []}], "volumes": []}}, id="a plain list"),
    ],
)
def test_the_part_of_an_overlay_that_has_an_effect_makes_the_same_pods(patch: dict[str, Any]) -> None:
    expected = overlay(BASE, patch)
    expected["spec"] = {name: value for name, value in expected["spec"].items() if value}
    assert overlay(BASE, effective_overlay(patch)) == expected
