"""Label and field selectors: parsed once into a predicate. Lists, watches and controllers use them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from model_sandbox.apiserver.errors import Obj, bad_request
from model_sandbox.apiserver.metadata import LABEL_VALUE, qualified_name_errors

Labels = Mapping[str, str]
LabelTest = Callable[[Labels], bool]

_TOKEN = re.compile(r"\s*(==|!=|=|!|\(|\)|,|<|>|[^\s=!(),<>]+)")


class _Parser:
    """The grammar of label selectors: `a`, `!a`, `a=b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a>1`."""

    def __init__(self, text: str) -> None:
        self.tokens = _TOKEN.findall(text)
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def word(self) -> str:
        token = self.take()
        if not token or token in ("=", "==", "!=", "!", "(", ")", ",", "<", ">"):
            raise bad_request(f"unable to parse requirement: found '{token}', expected: identifier")
        return token

    def key(self) -> str:
        key = self.word()
        problems = qualified_name_errors(key)
        if problems:
            raise bad_request(f'unable to parse requirement: <nil>: Invalid value: "{key}": {problems[0]}')
        return key

    def value(self) -> str:
        if self.peek() in ("", ","):
            return ""
        value = self.word()
        if len(value) > 63 or not LABEL_VALUE.fullmatch(value):
            raise bad_request(f'unable to parse requirement: values[0][key]: Invalid value: "{value}"')
        return value

    def values(self) -> list[str]:
        if self.take() != "(":
            raise bad_request("unable to parse requirement: found '', expected: '('")
        values = [self.value() if self.peek() != ")" else ""]
        while self.peek() == ",":
            self.take()
            values.append("" if self.peek() == ")" else self.value())
        if self.take() != ")":
            raise bad_request("unable to parse requirement: found '', expected: ',' or ')'")
        return values

    def requirement(self) -> LabelTest:
        if self.peek() == "!":
            self.take()
            key = self.key()
            return lambda labels: key not in labels
        key = self.key()
        operator = self.peek()
        if operator in ("", ","):
            return lambda labels: key in labels
        self.take()
        if operator in ("=", "=="):
            value = self.value()
            return lambda labels: labels.get(key) == value
        if operator == "!=":
            value = self.value()
            return lambda labels: labels.get(key) != value
        if operator in ("in", "notin"):
            values, wanted = set(self.values()), operator == "in"
            return lambda labels: (key in labels and labels[key] in values) is wanted
        if operator in ("<", ">"):
            return _compare(key, operator, self.value())
        expected = "in, notin, =, ==, !=, gt, lt"
        raise bad_request(f"unable to parse requirement: found '{operator}', expected: {expected}")


def _compare(key: str, operator: str, bound: str) -> LabelTest:
    if not re.fullmatch(r"-?\d+", bound):
        raise bad_request(f'unable to parse requirement: values[0]: Invalid value: "{bound}": not an integer')

    def test(labels: Labels) -> bool:
        try:
            value = int(labels[key])
        except (KeyError, ValueError):
            return False
        return value > int(bound) if operator == ">" else value < int(bound)

    return test


def parse_labels(text: str) -> LabelTest:
    """The predicate of a `labelSelector` parameter; raises a 400."""
    parser = _Parser(text)
    if not parser.tokens:
        return lambda labels: True
    tests = [parser.requirement()]
    while parser.peek() == ",":
        parser.take()
        tests.append(parser.requirement())
    if parser.peek():
        raise bad_request(f"unable to parse requirement: found '{parser.peek()}', expected: ',' or 'end of string'")
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


def parse_fields(text: str, known: tuple[str, ...], *, kind: str = "") -> FieldTest:
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
