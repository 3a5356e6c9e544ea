"""Schemas: decoding, pruning, defaults, validation and CEL rules."""

from typing import Any

import pytest

from model_sandbox.apiserver.crds import check_definition, hoisted
from model_sandbox.apiserver.defaults import apply_defaults
from model_sandbox.apiserver.discovery import openapi_document
from model_sandbox.apiserver.errors import Cause
from model_sandbox.apiserver.kinds import builtin_registry
from model_sandbox.apiserver.schema import DecodeError, decode, from_openapi
from model_sandbox.apiserver.validation import check, compile_rules
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
        # As kube-apiserver 1.36.2 answers: an integer is compared with the integer part of the bound.
        pytest.param({"type": "number", "minimum": 0.001}, 0, [], id="an integer meets the truncated minimum"),
        pytest.param(
            {"type": "number", "minimum": 0.001}, 0.0, [("FieldValueInvalid", "x")], id="a float is below the minimum"
        ),
        pytest.param(
            {"type": "number", "maximum": 1.5}, 2, [("FieldValueInvalid", "x")], id="an integer above the maximum"
        ),
        pytest.param(
            {"type": "number", "minimum": 0.5, "exclusiveMinimum": True},
            0,
            [("FieldValueInvalid", "x")],
            id="an integer at the truncated exclusive minimum",
        ),
        pytest.param(
            {"type": "string", "enum": ["a"]}, "b", [("FieldValueNotSupported", "x")], id="not among the known"
        ),
        pytest.param({"type": "string", "maxLength": 1}, "ab", [("FieldValueTooLong", "x")], id="too long"),
        pytest.param({"type": "string", "pattern": "^a$"}, "b", [("FieldValueInvalid", "x")], id="another pattern"),
        pytest.param({"type": "string", "format": "duration"}, "1h30m", [], id="a duration"),
        pytest.param({"type": "string", "format": "duration"}, "soon", [("FieldValueInvalid", "x")], id="no duration"),
        pytest.param({"type": "string", "format": "ipv6"}, "::1", [], id="an address"),
        pytest.param({"type": "string", "format": "ipv4"}, "::1", [("FieldValueInvalid", "x")], id="of the other kind"),
        pytest.param({"type": "string", "format": "mine"}, "x", [], id="an unknown format holds for all"),
        pytest.param(
            {"type": "object", "x-kubernetes-embedded-resource": True},
            {"kind": "Pod"},
            [("FieldValueRequired", "x.apiVersion")],
            id="an embedded resource says what it is",
        ),
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
        pytest.param("isIP(self.s) && ip(self.s).family() == 6", {"s": "::1"}, None, True, id="an address"),
        pytest.param("cidr(self.s).containsIP('10.1.2.3')", {"s": "11.0.0.0/8"}, None, False, id="a network"),
        pytest.param("isCIDR(self.s)", {"s": "10.0.0.0/33"}, None, False, id="no network"),
        pytest.param("url(self.s).getScheme() == 'https'", {"s": "https://a.test/b"}, None, True, id="a URL's parts"),
        pytest.param("quantity(self.s).add(quantity('1')).asInteger() == 3", {"s": "2"}, None, True, id="sums"),
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


@pytest.mark.parametrize(
    ("value", "old", "held"),
    [
        pytest.param("new", None, True, id="without an old value it is asked all the same"),
        pytest.param("old", None, False, id="and may refuse what is new"),
        pytest.param("a", "a", True, id="the old value is there"),
        pytest.param("a", "b", False, id="and differs"),
    ],
)
def test_an_optional_old_value(value: str, old: str | None, held: bool) -> None:
    rule = "oldSelf.hasValue() ? oldSelf.value() == self : self == 'new'"
    text = {"type": "string", "x-kubernetes-validations": [{"rule": rule, "optionalOldSelf": True}]}
    found = causes_of(spec_of(x=text), {"x": value}, None if old is None else {"x": old})
    assert (found == []) is held


FORMATTED = {
    "when": {"type": "string", "format": "date-time"},
    "day": {"type": "string", "format": "date"},
    "wait": {"type": "string", "format": "duration"},
    "blob": {"type": "string", "format": "byte"},
    "waits": {"type": "array", "items": {"type": "string", "format": "duration"}},
    "a-b": {"type": "object", "additionalProperties": {"type": "string", "format": "date-time"}},
}
GIVEN = {
    "when": "2026-05-01T00:00:00Z",
    "day": "2026-05-01",
    "wait": "1h30m",
    "blob": "YWJj",
    "waits": ["1s", "500ms", "2000000ns"],
    "a-b": {"k": "2026-05-01T01:00:00.123456789+02:00"},
}


@pytest.mark.parametrize(
    ("rule", "held"),
    [
        ("self.when > timestamp('2020-01-01T00:00:00Z')", True),
        ("self.when.getFullYear() == 2025", False),
        ("self.day.getMonth() == 4", True),
        ("self.wait == duration('90m') && self.wait.getHours() == 1", True),
        ("self.wait < duration('1h')", False),
        ("self.blob == b'abc' && self.blob.size() == 3", True),
        ("self.waits.all(w, w <= duration('1s'))", True),
        ("self.waits[2] == duration('2ms')", True),
        ("self.a__dash__b.all(k, self.a__dash__b[k] < self.when)", True),
        ("has(self.wait)", True),
    ],
)
def test_texts_of_some_formats_are_times_durations_and_bytes_in_rules(rule: str, held: bool) -> None:
    schema = {**spec_of(**FORMATTED), "x-kubernetes-validations": [{"rule": rule}]}
    assert check_definition(definition(schema)) == []
    assert (causes_of(schema, GIVEN) == []) is held


@pytest.mark.parametrize("rule", ["self.nope > 1", "self.", "other == 1", "self.a > 1 &&", "self.a in [0, '0%']"])
def test_a_rule_that_does_not_compile_is_found_with_its_definition(rule: str) -> None:
    schema = {**spec_of(a={"type": "integer"}), "x-kubernetes-validations": [{"rule": rule}]}
    [cause] = check_definition(definition(schema))
    assert "compilation failed: ERROR: <input>:1:" in cause.message


def test_a_number_of_more_bits_than_its_format_is_refused() -> None:
    [cause] = causes_of(spec_of(x={"type": "integer", "format": "int32"}), {"x": 2**31})
    assert "integer with format int32 in x" in cause.message


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


def test_null_among_items_is_the_empty_value_and_elsewhere_nothing() -> None:
    body = {"metadata": {"name": None, "annotations": {"a": None}}, "data": {"b": None}}
    decoded = decode(REGISTRY.kinds["", "v1", "configmaps"].node, body, [])
    assert decoded == {"metadata": {"annotations": {"a": ""}}, "data": {"b": ""}}


def test_kubectl_explain_finds_the_type_of_every_field() -> None:
    def untyped(schema: Any, path: str) -> list[str]:
        known = {"type", "$ref", "allOf"}.intersection(schema)
        within = schema.get("properties", {}) | {one: schema[one] for one in ("items",) if one in schema}
        below = [told for name, sub in within.items() for told in untyped(sub, f"{path}.{name}")]
        return below if known else [path, *below]

    for group, versions in REGISTRY.versions().items():
        for version in versions:
            document = openapi_document(REGISTRY, group, version)
            schemas = document["components"]["schemas"] if document else {}
            assert schemas
            assert [told for name, schema in schemas.items() for told in untyped(schema, name)] == []


@pytest.mark.parametrize(
    "spec",
    [
        {"containers": {}},
        {"priority": 2**31},
        {"terminationGracePeriodSeconds": 1e30},
        {"hostNetwork": "yes"},
        {"terminationGracePeriodSeconds": 1.5},
        {"nodeSelector": {"a": 1}},
    ],
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


def definition(schema: Any = None, **version: Any) -> Any:
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}} | version
    names = {"plural": "foos", "kind": "Foo", "listKind": "FooList"}
    spec = {"group": "ex.com", "scope": "Namespaced", "names": names, "versions": [version]}
    return {"metadata": {"name": "foos.ex.com"}, "spec": spec | {"conversion": {"strategy": "None"}}}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        pytest.param(definition(spec_of(a={"type": "string", "maxLength": 0})), [], id="nothing"),
        pytest.param(
            definition(spec_of(a={"type": "text"})),
            ["spec.validation.openAPIV3Schema.properties[a].type"],
            id="a type that is none",
        ),
        pytest.param(
            definition(spec_of(a={"type": "string", "pattern": "("})),
            ["spec.validation.openAPIV3Schema.properties[a].pattern"],
            id="a pattern that is none",
        ),
        pytest.param(
            definition(
                spec_of(),
                additionalPrinterColumns=[
                    {"name": "A", "type": "text", "jsonPath": ".a"},
                    {"name": "B", "type": "string", "jsonPath": ".b[("},
                ],
            ),
            [
                "spec.additionalPrinterColumns[0].type",
                "spec.additionalPrinterColumns[1].JSONPath",
            ],
            id="columns of nothing",
        ),
        pytest.param(
            definition(
                spec_of(), subresources={"scale": {"specReplicasPath": ".n", "statusReplicasPath": ".status.n"}}
            ),
            ["spec.subresources.scale.specReplicasPath"],
            id="a scale outside of spec",
        ),
    ],
)
def test_what_is_wrong_with_a_definition(body: Any, fields: list[str]) -> None:
    unknown: list[str] = []
    node = REGISTRY.types.node("CustomResourceDefinition")
    given = {**decode(node, body, unknown), "status": None}
    causes = hoisted(given, [*check(node, given, None), *check_definition(given)])
    assert ([cause.field for cause in causes], unknown) == (fields, [])


def test_a_schema_is_read_word_by_word() -> None:
    node, unknown = REGISTRY.types.node("JSONSchemaProps"), list[str]()
    schema = {"properties": {"a": {"items": {"tpye": "x", "additionalProperties": True, "minimum": 0, "title": ""}}}}
    kept = {"properties": {"a": {"items": {"additionalProperties": True, "minimum": 0}}}}
    assert (decode(node, schema, unknown), unknown) == (kept, ["properties[a].items.tpye"])
    with pytest.raises(DecodeError, match="cannot unmarshal array"):
        decode(node, {"items": []}, unknown)
