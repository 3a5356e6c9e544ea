"""The resource definition: what a real API server demands of it, and what its users do."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "crds" / "modeldeployments.yaml"
CRD = yaml.safe_load(FILE.read_text())
SCHEMA = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}[]")


NODES = dict(nodes(SCHEMA))


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
def test_kubernetes_knows_every_word_of_the_definition(version: str) -> None:
    """A comma in a text without quotes makes a word of its second half, and an API server refuses unknown words."""
    kubernetes_validate.validate(CRD, version, strict=True)


def test_the_definition_is_small_enough_for_kubectl_apply() -> None:
    """kubectl keeps the object, its anchors written out, in an annotation; all annotations may have 256 KiB."""
    assert len(json.dumps(CRD, separators=(",", ":"))) < 200_000


def test_every_node_has_a_type_as_a_structural_schema_must() -> None:
    typeless = [
        path for path, node in NODES.items() if "type" not in node and not node.get("x-kubernetes-int-or-string")
    ]
    assert not typeless


def test_no_node_uses_what_structural_schemas_forbid() -> None:
    forbidden = {
        "$ref",
        "definitions",
        "dependencies",
        "deprecated",
        "discriminator",
        "id",
        "patternProperties",
    }
    found = {path: sorted(forbidden & node.keys()) for path, node in NODES.items() if forbidden & node.keys()}
    assert not found
    both = [path for path, node in NODES.items() if "properties" in node and "additionalProperties" in node]
    assert not both


def test_keys_of_map_lists_are_required_so_that_apply_can_merge_them() -> None:
    for path, node in NODES.items():
        if node.get("x-kubernetes-list-type") == "map":
            assert set(node["x-kubernetes-list-map-keys"]) <= set(node["items"].get("required", ())), path


def test_what_a_rule_reads_is_bounded_so_that_its_cost_is_estimable() -> None:
    unbounded = [
        path
        for path, node in NODES.items()
        if node.get("x-kubernetes-validations") and node.get("type") == "string" and "maxLength" not in node
    ]
    assert not unbounded


def test_every_field_of_the_spec_says_what_it_is() -> None:
    silent = [
        path
        for path, node in NODES.items()
        if path.startswith(".spec") and not path.endswith("[]") and "description" not in node
    ]
    # Repeated shapes (a YAML anchor) are described where they are first used.
    assert not [path for path in silent if not path.endswith(".maxPauseDuration")]


def test_a_description_says_what_the_field_is() -> None:
    """`kubectl explain` prints it: a noun phrase or a sentence, as in the API reference of Kubernetes."""
    questions = ("When", "Why", "Who", "What", "Where", "How")
    unclear = {
        path: text
        for path, node in NODES.items()
        if (text := node.get("description")) and (len(text.split()) < 3 or text.split()[0].rstrip(".") in questions)
    }
    assert not unclear


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.lstrip(".")) for path, node in NODES.items() if node.get("x-kubernetes-validations")],
)
def test_every_rule_has_a_message_for_the_user(path: str) -> None:
    for rule in NODES[path]["x-kubernetes-validations"]:
        assert len(rule["message"].split()) >= 4, rule


def test_a_bound_below_is_an_integer() -> None:
    """An API server compares an integer with the integer part of a bound, and so takes 0 where 0.001 is the minimum."""
    fractional = {path: node["minimum"] for path, node in NODES.items() if node.get("minimum", 0) % 1}
    assert not fractional
