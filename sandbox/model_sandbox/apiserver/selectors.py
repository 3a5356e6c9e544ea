"""Label and field selectors: parsed once into a predicate. Lists, watches and controllers use them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
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
# The operators of parameters as LabelSelectors call them.
_OPERATORS = {**dict.fromkeys(("=", "==", "in"), "In"), **dict.fromkeys(("!=", "notin"), "NotIn"), "<": "Lt", ">": "Gt"}


def _holds(labels: Labels, key: str, operator: str, values: Sequence[str]) -> bool:
    """Whether labels meet one requirement."""
    held = labels.get(key)
    if operator in ("Exists", "DoesNotExist"):
        return (held is not None) is (operator == "Exists")
    if operator in ("In", "NotIn"):
        return (held is not None and held in values) is (operator == "In")
    if held is None or not _INTEGER.fullmatch(held):
        return False
    return int(held) > int(values[0]) if operator == "Gt" else int(held) < int(values[0])


def _requirement(term: re.Match[str]) -> tuple[str, str, list[str]]:
    key, sign = term["absent"] or term["key"], term["compare"] or term["among"]
    operator = _OPERATORS[sign] if sign else "DoesNotExist" if term["absent"] else "Exists"
    values = [value.strip() for value in (term["values"] if term["among"] else term["value"] or "").split(",")]
    problems = qualified_name_errors(key)
    problems += [f"{one!r} is no label value" for one in values if len(one) > 63 or not LABEL_VALUE.fullmatch(one)]
    if operator in ("Lt", "Gt") and not _INTEGER.fullmatch(values[0]):
        problems.append(f"{values[0]!r} is not an integer")
    if problems:
        raise bad_request(f'unable to parse requirement: <nil>: Invalid value: "{key}": {problems[0]}')
    return key, operator, values


def parse_labels(text: str) -> LabelTest:
    """The predicate of a `labelSelector` parameter; raises a 400."""
    needs: list[tuple[str, str, list[str]]] = []
    at, more = 0, bool(text.strip())
    while more:
        term = _REQUIREMENT.match(text, at)
        if term is None:
            raise bad_request(f"unable to parse requirement: found '{text[at:].strip()}', expected: {_FORMS}")
        needs.append(_requirement(term))
        at, more = term.end(), term[0].endswith(",")
    return lambda labels: all(_holds(labels, *need) for need in needs)


def match_selector(selector: Mapping[str, Any] | None, labels: Labels) -> bool:
    """Whether a LabelSelector object selects labels. None selects nothing, an empty one everything."""
    if selector is None or any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    rules = selector.get("matchExpressions") or []
    return all(_holds(labels, rule["key"], rule["operator"], rule.get("values") or []) for rule in rules)


_TEXTS = {"In": "{} in ({})", "NotIn": "{} notin ({})", "Exists": "{}", "DoesNotExist": "!{}"}


def selector_text(selector: Mapping[str, Any] | None) -> str:
    """A LabelSelector in the form of a parameter, as in `app=d,tier in (a,b)`."""
    parts = [f"{key}={value}" for key, value in sorted(((selector or {}).get("matchLabels") or {}).items())]
    for rule in (selector or {}).get("matchExpressions") or []:
        parts.append(_TEXTS[rule["operator"]].format(rule["key"], ",".join(sorted(rule.get("values") or []))))
    return ",".join(parts)


def parse_fields(text: str, known: tuple[str, ...]) -> Callable[[Obj], bool]:
    """The predicate of a `fieldSelector` parameter over an object; raises a 400 for an unknown field."""
    terms: list[tuple[list[str], str, bool]] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        match = re.fullmatch(r"([^=!]+)(==|!=|=)(.*)", part)
        if match is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        name, operator, value = match.groups()
        if name not in ("metadata.name", "metadata.namespace", *known):
            if known:
                raise bad_request(f"field label not supported: {name}")
            raise bad_request(f'"{name}" is not a known field selector: only "metadata.name", "metadata.namespace"')
        terms.append((name.split("."), value, operator != "!="))
    return lambda body: all((_lookup(body, path) == value) is equal for path, value, equal in terms)


def selected_name(text: str) -> str:
    """The one name that a `fieldSelector` parameter asks for: rules about names allow such lists and watches too."""
    names = re.findall(r"(?:^|,)metadata\.name==?([^,]+)", text)
    return names[0] if len(names) == 1 else ""


def _lookup(body: Any, path: list[str]) -> str:
    """The text of a field for a selector: absent is empty, booleans are lower case."""
    for name in path:
        body = body.get(name) if isinstance(body, dict) else None
    return "" if body is None else str(body).lower() if isinstance(body, bool) else str(body)
