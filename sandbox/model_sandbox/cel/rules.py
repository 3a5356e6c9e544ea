"""Every rule of a schema: whether it compiles where it stands, and whether all are cheap enough.

The API server of the sandbox asks this when a definition is written; `make check` asks it about the shipped one:

    python -m model_sandbox.cel.rules crds/modeldeployments.yaml

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from model_sandbox.cel.charges import MOST
from model_sandbox.cel.checker import Checked, check
from model_sandbox.cel.cost import estimate
from model_sandbox.cel.declared import REQUEST_BYTES, Declared, Schema, declare
from model_sandbox.cel.literals import check_literals
from model_sandbox.cel.syntax import SyntaxProblem
from model_sandbox.cel.types import BOOL, STRING, Type, optional_of

RULES = "x-kubernetes-validations"
RULE_LIMIT, TOTAL_LIMIT = 10_000_000, 100_000_000
_SHOWN = 4  # so many of the rules that exceed the limit of all together are named
_SHARED = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
_TOTAL = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
_ADVICE = (
    "try simplifying the rule, or adding maxItems, maxProperties, and maxLength "
    "where arrays, maps, and strings are declared"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at a path of the schema. `value`: what stands there; a cost has none to show."""

    path: str
    message: str
    value: Any = None
    is_cost: bool = False


def check_rules(schema: Schema, path: str) -> list[Problem]:
    """Everything that is wrong with the rules of a structural schema of a whole resource, which stands at `path`."""
    run = _Run()
    problems = list(run.walk(schema, _Place(path, is_root=True)))
    if run.total > TOTAL_LIMIT:
        worst = sorted(run.costs, key=lambda one: -one[0])[:_SHOWN]
        problems += [Problem(where, _SHARED, is_cost=True) for cost, where in worst if cost >= TOTAL_LIMIT // 100]
        problems.append(Problem(path, _exceeded(_TOTAL, run.total, TOTAL_LIMIT), is_cost=True))
    return problems


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a schema stands. `times`: how often it may occur in an object, None without a limit."""

    path: str
    is_root: bool = False
    times: int | None = 1
    unrelated: str = ""  # the list above whose old items cannot be found again


@dataclass(slots=True)
class _Run:
    total: int = 0
    costs: list[tuple[int, str]] = field(default_factory=list)

    def walk(self, schema: Schema, place: _Place) -> Iterator[Problem]:
        for sub, below in _below(schema, place):
            yield from self.walk(sub, below)
        rules = schema.get(RULES) or ()
        declared = declare(schema, is_root=place.is_root or bool(schema.get("x-kubernetes-embedded-resource")))
        for index, rule in enumerate(rules if declared else ()):
            assert declared is not None  # noqa: S101
            yield from self._rule(rule, declared, place, f"{place.path}.{RULES}[{index}]")

    def _rule(self, rule: Schema, declared: Declared, place: _Place, path: str) -> Iterator[Problem]:
        optional = bool(rule.get("optionalOldSelf"))
        found = _compiled(rule.get("rule", ""), declared, BOOL, optional=optional)
        if "optionalOldSelf" in rule and (isinstance(found, str) or "oldSelf" not in found.names):
            why = "may not be set if oldSelf is not used in rule"
            yield Problem(f"{path}.optionalOldSelf", why, rule["optionalOldSelf"])
        if isinstance(found, str):
            why = found or "cel expression must evaluate to a bool"
            yield Problem(f"{path}.rule", f"compilation failed: {found}" if found else why, rule)
            return
        times = place.times if place.times is not None else REQUEST_BYTES // (declared.smallest + 1)
        yield from self._spend(min(estimate(found, declared) * times, MOST), f"{path}.rule", "estimated rule cost")
        text = rule.get("messageExpression", "")
        message = _compiled(text, declared, STRING, optional=optional) if text else None
        if isinstance(message, str):
            why = f"messageExpression compilation failed: {message}" if message else ""
            yield Problem(f"{path}.messageExpression", why or "messageExpression must evaluate to a string", rule)
        elif message is not None:
            name = "estimated messageExpression cost"
            yield from self._spend(estimate(message, declared), f"{path}.messageExpression", name)
        if "oldSelf" in found.names and place.unrelated:
            why = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {place.unrelated}"
            yield Problem(f"{path}.rule", why, rule["rule"])

    def _spend(self, cost: int, path: str, name: str) -> Iterator[Problem]:
        self.total = min(self.total + cost, MOST)
        self.costs.append((cost, path))
        if cost > RULE_LIMIT:
            yield Problem(path, _exceeded(name, cost, RULE_LIMIT), is_cost=True)


def _compiled(text: str, declared: Declared, wanted: Type, *, optional: bool) -> Checked | str:
    """A checked expression, or what is wrong with it: empty when it is of another type than wanted."""
    old = optional_of(declared.type) if optional else declared.type
    fields = {one.type.name: {name: sub.type for name, sub in one.fields.items()} for one in declared.objects()}
    try:
        checked = check(text, {"self": declared.type, "oldSelf": old}, fields)
    except SyntaxProblem as problem:
        return str(problem)
    if not checked.problems:
        check_literals(checked)
    if checked.problems:
        return checked.report
    return checked if checked.type == wanted else ""


def _below(schema: Schema, place: _Place) -> Iterator[tuple[Schema, _Place]]:
    """The schemas in a schema."""
    extra, items = schema.get("additionalProperties"), schema.get("items")
    apart = place.unrelated or place.path
    for name, sub in (schema.get("properties") or {}).items():
        yield sub, _Place(f"{place.path}.properties[{name}]", times=place.times, unrelated=place.unrelated)
    if isinstance(extra, dict):
        times = _product(place.times, schema.get("maxProperties"))
        yield extra, _Place(f"{place.path}.additionalProperties", times=times, unrelated=place.unrelated)
    if isinstance(items, dict):
        times = _product(place.times, schema.get("maxItems"))
        unrelated = place.unrelated if schema.get("x-kubernetes-list-type") == "map" else apart
        yield items, _Place(f"{place.path}.items", times=times, unrelated=unrelated)


def _product(times: int | None, most: int | None) -> int | None:
    return None if times is None or most is None else min(times * max(most, 0), MOST)


def _exceeded(name: str, cost: int, limit: int) -> str:
    factor = cost / limit
    shown = "more than 100x" if factor > 100 else f"{factor:.6f}x" if factor < 1.5 else f"{factor:.1f}x"
    return f"{name} exceeds budget by factor of {shown} ({_ADVICE})"


def main(files: list[str]) -> int:
    """Check the definitions in files; the answer is the exit code."""
    wrong = 0
    for file in files:
        bodies = yaml.safe_load_all(Path(file).read_text())
        for definition in (body for body in bodies if body["kind"] == "CustomResourceDefinition"):
            for index, version in enumerate(definition["spec"]["versions"]):
                path = f"spec.versions[{index}].schema.openAPIV3Schema"
                for problem in check_rules(version["schema"]["openAPIV3Schema"], path):
                    sys.stdout.write(f"{file}: {problem.path}: {problem.message}\n")
                    wrong += 1
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
