"""A spec that cannot work is refused by `kubectl apply`, with a sentence that says what to write."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from refused_analyses import ANALYSES
from refused_containers import CONTAINERS
from refused_models import MODELS
from refused_routes import ROUTES
from refused_strategies import STRATEGIES
from spec_parts import MODEL, Row

CRD = yaml.safe_load((Path(__file__).resolve().parents[2] / "crds" / "modeldeployments.yaml").read_text())
REFUSED: list[Row] = [*MODELS, *CONTAINERS, *STRATEGIES, *ROUTES, *ANALYSES]
NAMES = [
    ("a name too long for a Service of a revision", "x" * 49, "at most 48 characters"),
    ("a name that no Service could have", "7up", "must begin with a letter"),
]
CASES = [(case, f"refused-{number}", spec, sentence) for number, (case, spec, sentence) in enumerate(REFUSED)]
CASES += [(case, name, {}, sentence) for case, name, sentence in NAMES]


def manifest(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "modeldeploy.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": {"model": MODEL, **spec},
    }


@pytest.fixture(scope="module")
def refusals(space: Any) -> dict[str, str]:
    """What kubectl prints about each object if all are applied at once, which saves its start for each."""
    given = yaml.safe_dump_all([manifest(name, spec) for _, name, spec, _ in CASES])
    done = space.kubectl("apply", "-f", "-", given=given)
    assert done.stdout == "", "nothing was taken"
    said: dict[str, str] = {}
    for message in re.split(r"^(?=The ModelDeployment |Error from server)", done.stderr, flags=re.MULTILINE):
        named = re.search(r'ModelDeployment(?:\.modeldeploy\.dev)? "([^"]+)" is invalid', message)
        said[named[1] if named else ""] = said.get(named[1] if named else "", "") + message
    return said


@pytest.mark.parametrize(
    ("name", "sentence"), [pytest.param(name, sentence, id=case) for case, name, _, sentence in CASES]
)
def test_what_cannot_work_is_refused(refusals: dict[str, str], name: str, sentence: str) -> None:
    # What cannot even be read is refused without its name.
    assert sentence in refusals.get(name, refusals.get("", ""))


def rules_of(schema: dict[str, Any]) -> list[str]:
    found = [rule["message"] for rule in schema.get("x-kubernetes-validations", ())]
    for child in [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]:
        found += rules_of(child)
    return found


def test_every_rule_of_the_schema_is_tried_above() -> None:
    schema = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    sentences = [sentence for _, _, sentence in REFUSED]
    untried = {rule for rule in rules_of(schema) if not any(sentence in rule for sentence in sentences)}
    assert not untried
