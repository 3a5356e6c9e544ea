"""Label and field selectors: parsed once into a predicate. Lists, watches and controllers use them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from model_sandbox.apiserver.errors import Obj, bad_request
from model_sandbox.apiserver.metadata import LABEL_VALUE, qualified_name_errors

Labels = Mapping[str, str]
LabelTest = Callable[[Labels], bool]

_REQUIREMENT = re.compile(
    r"""\s*(?:
        !\s*(?P<absent>[^\s=!(),<>]+)
      | (?P<key>[^\s=!(),<>]+)(?:
            \s*(?P<compare>==|!=|=|<|>)\s*(?P<value>[^\s=!(),<>]*)
          | \s+(?P<among>in|notin)\s*\((?P<values>[^()=!<>]*)\)
        )?
    )\s*(?:,|\Z)""",
    re.VERBOSE,
)
_INTEGER = re.compile(r"-?\d+")
_FORMS = "KEY, !KEY, KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY notin (A,B), KEY<NUMBER or KEY>NUMBER"


def _requirement(term: re.Match[str]) -> LabelTest:
    key, operator = term["absent"] or term["key"], term["compare"] or term["among"]
    values = [value.strip() for value in (term["values"] if term["among"] else term["value"] or "").split(",")]
    problems = qualified_name_errors(key)
    problems += [
        f"{value!r} is no label value" for value in values if len(value) > 63 or not LABEL_VALUE.fullmatch(value)
    ]
    if operator in ("<", ">") and not _INTEGER.fullmatch(values[0]):
        problems.append(f"{values[0]!r} is not an integer")
    if problems:
        raise bad_request(f'unable to parse requirement: <nil>: Invalid value: "{key}": {problems[0]}')
    if term["absent"]:
        return lambda labels: key not in labels
    if operator is None:
        return lambda labels: key in labels
    if operator in ("<", ">"):
        return lambda labels: _is_beyond(labels.get(key, ""), operator, int(values[0]))
    wanted = operator in ("=", "==", "in")
    return lambda labels: (key in labels and labels[key] in values) is wanted


def _is_beyond(text: str, operator: str, bound: int) -> bool:
    if not _INTEGER.fullmatch(text):
        return False
    return int(text) > bound if operator == ">" else int(text) < bound


def parse_labels(text: str) -> LabelTest:
    """The predicate of a `labelSelector` parameter; raises a 400."""
    tests: list[LabelTest] = []
    at, more = 0, bool(text.strip())
    while more:
        term = _REQUIREMENT.match(text, at)
        if term is None:
            raise bad_request(f"unable to parse requirement: found '{text[at:].strip()}', expected: {_FORMS}")
        tests.append(_requirement(term))
        at, more = term.end(), term[0].endswith(",")
    return lambda labels: all(test(labels) for test in tests)


def match_selector(selector: Mapping[str, Any] | None, labels: Labels) -> bool:
    """Whether a LabelSelector object selects labels. None selects nothing, an empty one everything."""
    if selector is None:
        return False
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions") or []:
        key, operator, values = rule["key"], rule["operator"], rule.get("values") or []
        held = {
            "In": labels.get(key) in values,
            "NotIn": key not in labels or labels[key] not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        if not held.get(operator, False):
            return False
    return True


def selector_text(selector: Mapping[str, Any] | None) -> str:
    """A LabelSelector in the form of a parameter, as in `app=d,tier in (a,b)`."""
    if not selector:
        return ""
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for rule in selector.get("matchExpressions") or []:
        key, values = rule["key"], ",".join(sorted(rule.get("values") or []))
        parts.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": key,
                "DoesNotExist": f"!{key}",
            }[rule["operator"]]
        )
    return ",".join(parts)


FieldTest = Callable[[Obj], bool]
META_FIELDS = ("metadata.name", "metadata.namespace")


def parse_fields(text: str, known: tuple[str, ...]) -> FieldTest:
    """The predicate of a `fieldSelector` parameter over an object; raises a 400 for an unknown field."""
    terms: list[tuple[list[str], str, bool]] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        match = re.fullmatch(r"([^=!]+)(==|!=|=)(.*)", part)
        if match is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        name, operator, value = match.groups()
        allowed = (*META_FIELDS, *known)
        if name not in allowed:
            if known:
                raise bad_request(f"field label not supported: {name}")
            raise bad_request(f'"{name}" is not a known field selector: only "metadata.name", "metadata.namespace"')
        terms.append((name.split("."), value, operator != "!="))

    def test(body: Obj) -> bool:
        return all((lookup(body, path) == value) is equal for path, value, equal in terms)

    return test


def lookup(body: Any, path: list[str]) -> str:
    """The text of a field for a selector: absent is empty, booleans are lower case."""
    for name in path:
        body = body.get(name) if isinstance(body, dict) else None
    if body is None:
        return ""
    return str(body).lower() if isinstance(body, bool) else str(body)
