"""Schemas: decoding, pruning, defaults, validation and CEL rules."""

from typing import Any

import pytest

from model_sandbox.apiserver.errors import Cause
from model_sandbox.apiserver.kinds import builtin_registry
from model_sandbox.apiserver.schema import DecodeError, decode, from_openapi
from model_sandbox.apiserver.validation import apply_defaults, check, compile_rules
from model_sandbox.quantity import format_quantity, parse_quantity

REGISTRY = builtin_registry()
POD = REGISTRY.kinds["", "v1", "pods"].node


def causes_of(schema: Any, value: Any, old: Any = None) -> list[Cause]:
    return check(from_openapi(schema), value, old)


def spec_of(**properties: Any) -> Any:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    ("schema", "value", "causes"),
    [
        pytest.param({"type": "integer", "minimum": 1}, 0, [("FieldValueInvalid", "x")], id="below the minimum"),
        pytest.param({"type": "integer"}, 1.0, [], id="a whole number may be written with a point"),
        pytest.param(
            {"type": "string", "enum": ["a"]}, "b", [("FieldValueNotSupported", "x")], id="not among the known"
        ),
        pytest.param({"type": "string", "maxLength": 1}, "ab", [("FieldValueTooLong", "x")], id="too long"),
        pytest.param({"type": "string", "pattern": "^a$"}, "b", [("FieldValueInvalid", "x")], id="another pattern"),
        pytest.param({"x-kubernetes-int-or-string": True}, "5%", [], id="a number or a text"),
        pytest.param({"type": "string", "nullable": True}, None, [], id="null where it is allowed"),
        pytest.param(
            {"type": "array", "items": {"type": "string"}}, ["a", 1], [("FieldValueTypeInvalid", "x[1]")], id="an item"
        ),
        pytest.param(
            {"type": "object", "required": ["y"], "properties": {"y": {"type": "string"}}},
            {},
            [("FieldValueRequired", "x.y")],
            id="something required",
        ),
        pytest.param(
            {"type": "object", "additionalProperties": {"type": "integer"}},
            {"k": "v"},
            [("FieldValueTypeInvalid", "x.k")],
            id="a value of a map",
        ),
        pytest.param(
            {"type": "integer", "anyOf": [{"maximum": 1}, {"minimum": 5}]}, 3, [("FieldValueInvalid", "x")], id="anyOf"
        ),
    ],
)
def test_validation(schema: Any, value: Any, causes: list[tuple[str, str]]) -> None:
    found = causes_of(spec_of(x=schema), {"x": value})
    assert [(one.reason, one.field) for one in found if one.field != "<nil>"] == causes


@pytest.mark.parametrize(
    ("rule", "value", "old", "held"),
    [
        pytest.param("self.a < self.b", {"a": 1, "b": 2}, None, True, id="numbers compare"),
        pytest.param("!has(self.a) || self.a == 1", {}, None, True, id="has asks for presence"),
        pytest.param("self.s.matches('^a+$')", {"s": "aab"}, None, False, id="regular expressions"),
        pytest.param("self.l.all(x, x > 0) && size(self.l) == 2", {"l": [1, 2]}, None, True, id="all of a list"),
        pytest.param("[has(self.a), has(self.b)].filter(x, x).size() == 1", {"a": 1}, None, True, id="exactly one"),
        pytest.param("self.l.isSorted()", {"l": [2, 1]}, None, False, id="sorted"),
        pytest.param("isURL(self.s)", {"s": "https://a.test"}, None, True, id="a URL"),
        pytest.param("quantity(self.s) > quantity('1Ki')", {"s": "1Mi"}, None, True, id="quantities compare"),
        pytest.param("self.a >= oldSelf.a", {"a": 1}, {"a": 2}, False, id="a transition is checked"),
        pytest.param("self.a >= oldSelf.a", {"a": 1}, None, True, id="a transition rule is not run on create"),
        pytest.param("self.a.b == 1", {}, None, False, id="a rule that cannot be evaluated does not hold"),
    ],
)
def test_rules(rule: str, value: Any, old: Any, held: bool) -> None:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    whole = spec_of(x={**schema, "x-kubernetes-validations": [{"rule": rule, "message": "no"}]})
    assert compile_rules(from_openapi(whole)) == []
    found = causes_of(whole, {"x": value}, {"x": old} if old is not None else None)
    assert (found == []) is held


@pytest.mark.parametrize("rule", ["self.nope > 1", "self.", "other == 1", "self.a > 1 &&"])
def test_a_rule_that_does_not_compile_is_found_with_its_definition(rule: str) -> None:
    schema = spec_of(a={"type": "integer"})
    assert len(compile_rules(from_openapi({**schema, "x-kubernetes-validations": [{"rule": rule}]}))) == 1


def test_a_message_can_be_computed() -> None:
    rule = {"rule": "self.a < 5", "messageExpression": "'a is ' + string(self.a)", "reason": "FieldValueForbidden"}
    [cause] = causes_of({**spec_of(a={"type": "integer"}), "x-kubernetes-validations": [rule]}, {"a": 7})
    assert (cause.reason, cause.message) == ("FieldValueForbidden", "Forbidden: a is 7")


def test_unknown_fields_are_dropped_and_named() -> None:
    node = from_openapi(
        spec_of(a=spec_of(b={"type": "string"}), free={"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    )
    unknown: list[str] = []
    assert decode(node, {"a": {"b": "1", "c": 2}, "free": {"z": 1}, "d": 3}, unknown) == {
        "a": {"b": "1"},
        "free": {"z": 1},
    }
    assert sorted(unknown) == ["a.c", "d"]


def test_defaults_fill_what_is_absent_and_nothing_else() -> None:
    node = from_openapi(spec_of(a=spec_of(n={"type": "integer", "default": 3}), b={"type": "string", "default": "x"}))
    assert apply_defaults(node, {"a": {}}) == {"a": {"n": 3}, "b": "x"}
    assert apply_defaults(node, {"b": "y"}) == {"b": "y"}


def test_a_built_in_kind_drops_empty_values_and_keeps_those_of_pointers() -> None:
    node = REGISTRY.kinds["apps", "v1", "deployments"].node
    decoded = decode(node, {"metadata": {"labels": {}}, "spec": {"replicas": 0, "paused": False}}, [])
    assert decoded["metadata"] == {}
    assert decoded["spec"]["replicas"] == 0
    assert "paused" not in decoded["spec"]


@pytest.mark.parametrize(
    "spec",
    [{"containers": {}}, {"hostNetwork": "yes"}, {"terminationGracePeriodSeconds": 1.5}, {"nodeSelector": {"a": 1}}],
)
def test_a_built_in_kind_refuses_a_wrong_type(spec: Any) -> None:
    with pytest.raises(DecodeError, match="cannot unmarshal"):
        decode(POD, {"spec": spec}, [])


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("1000m", "1"),
        ("1024Mi", "1Gi"),
        ("0.5", "500m"),
        ("1.5Gi", "1536Mi"),
        ("100", "100"),
        ("0", "0"),
        ("2e3", "2e3"),
    ],
)
def test_a_quantity_is_written_in_one_way(text: str, written: str) -> None:
    assert format_quantity(text) == written
    assert parse_quantity(text) == parse_quantity(written)
