"""Definitions with rules in CEL are accepted and refused as by a real API server, in its words.

`rules.json` holds what kube-apiserver 1.36.2 answered to a definition with each rule, created with dryRun=All; the
number in the name of the type of `self` is left out, as it is another one each time.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_sandbox.apiserver.crds import check_definition, hoisted
from model_sandbox.cel.rules import check_rules, main

RECORDED = json.loads((Path(__file__).parent / "rules.json").read_text())
UNSUPPORTED = "the sandbox cannot evaluate this rule, which Kubernetes accepts"


def schema_of(case: Any) -> Any:
    if "schema" in case:
        return case["schema"]
    spec = {**RECORDED["schemas"][case["in"]], "x-kubernetes-validations": [case["rule"]]}
    return {"type": "object", "properties": {"spec": spec}}


def definition(schema: Any) -> Any:
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "tests", "kind": "Test"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    return {"metadata": {"name": "tests.example.com"}, "spec": spec}


def causes_of(case: Any) -> list[list[str]]:
    body = definition(schema_of(case))
    causes = hoisted(body, check_definition(body))
    return sorted([one.field, one.reason, one.message] for one in causes)


def title(case: Any) -> str:
    return str(case.get("title") or " ".join(map(str, case["rule"].values())))


CASES = [pytest.param(case, id=title(case)) for case in RECORDED["cases"] if case.get("evaluated", True)]
OTHERS = [pytest.param(case, id=title(case)) for case in RECORDED["cases"] if not case.get("evaluated", True)]


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_and_its_words_are_those_of_a_real_api_server(case: Any) -> None:
    assert causes_of(case) == case["causes"]


@pytest.mark.parametrize("case", OTHERS)
def test_a_correct_rule_that_the_sandbox_cannot_evaluate_is_refused_as_such(case: Any) -> None:
    assert check_rules(schema_of(case), "spec") == case["causes"] == []
    assert all(UNSUPPORTED in message for _, _, message in causes_of(case))


def test_both_verdicts_are_recorded() -> None:
    refused = sum(bool(case["causes"]) for case in RECORDED["cases"])
    assert refused > 100 < len(RECORDED["cases"]) - refused


def test_an_unchanged_schema_is_not_judged_again() -> None:
    case = next(case for case in RECORDED["cases"] if case["causes"])
    body = definition(schema_of(case))
    assert check_definition(body, body) == []


def test_the_command_names_each_problem_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = next(case for case in RECORDED["cases"] if case["causes"])
    file = tmp_path / "definition.yaml"
    file.write_text(json.dumps({"kind": "CustomResourceDefinition", **definition(schema_of(case))}))
    assert main([str(file)]) == 1
    assert f"{file}: spec.versions[0].schema.openAPIV3Schema.properties[spec]" in capsys.readouterr().out
