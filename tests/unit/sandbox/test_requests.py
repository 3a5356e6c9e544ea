"""Bodies and parameters as strangers send them."""

from typing import Any

import pytest

from model_sandbox.apiserver import admission
from model_sandbox.apiserver.bodies import parse_body, parse_yaml
from model_sandbox.apiserver.errors import ApiError
from model_sandbox.apiserver.kinds import builtin_registry
from model_sandbox.apiserver.requests import delete_options
from model_sandbox.apiserver.selectors import selected_name

OPTIONS = builtin_registry().types.node("DeleteOptions")
BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (name, name, b",".join([b"*%c" % (name - 1)] * 9)) for name in range(ord("b"), ord("j"))
)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        pytest.param(b'{"kind": 1}', "into Go struct field .kind", id="a kind that is a number"),
        pytest.param(b'{"metadata": {"name": "\\ud800"}}', "surrogates", id="half a character"),
        pytest.param(b'{"a": "\xed\xa0\x80"}', "utf-8", id="half a character, encoded"),
        pytest.param(b'{"a": 1e999}', "no JSON number", id="a number without end"),
        pytest.param(b'{"a": NaN}', "no JSON number", id="not a number"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(body: bytes, told: str) -> None:
    with pytest.raises(ApiError, match=told):
        parse_body(body, "application/json", "ConfigMap")


@pytest.mark.parametrize(
    ("body", "value"),
    [
        pytest.param(b"a: 99999999999999999999", {"a": 1e20}, id="a number beyond 64 bits is a float"),
        pytest.param(b"{2: a, true: b}", {"2": "a", "true": "b"}, id="keys are texts"),
        pytest.param(b"a: 2020-01-01", {"a": "2020-01-01"}, id="a date is a text"),
        pytest.param(b"a: &x [1]\nb: *x", {"a": [1], "b": [1]}, id="aliases are written out"),
    ],
)
def test_yaml_becomes_what_json_can_say(body: bytes, value: Any) -> None:
    assert parse_yaml(body)[0] == value


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(BOMB, id="aliases of aliases"),
        pytest.param(b"a: &x [*x]", id="a circle"),
        pytest.param(b"a: !!binary aGk=", id="bytes"),
        pytest.param(b"a: .inf", id="infinity"),
        pytest.param(b"[" * 5000, id="deeply nested"),
    ],
)
def test_yaml_that_json_cannot_say_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="error converting YAML to JSON"):
        parse_yaml(body)


@pytest.mark.parametrize("body", [{"gracePeriodSeconds": "x"}, {"dryRun": "All"}, {"preconditions": 1}])
def test_delete_options_of_a_wrong_type_are_refused(body: Any) -> None:
    with pytest.raises(ApiError, match="cannot unmarshal"):
        delete_options({}, body, OPTIONS)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("metadata.name=a", "a"),
        ("spec.x=1,metadata.name==a", "a"),
        ("metadata.name!=a", ""),
        ("metadata.name=a,metadata.name=b", ""),
        ("", ""),
    ],
)
def test_a_list_of_one_name_is_about_that_name(text: str, name: str) -> None:
    assert selected_name(text) == name


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        pytest.param(
            "NodePort", {"clusterIP", "clusterIPs", "externalTrafficPolicy", "nodePort"}, id="nothing changes"
        ),
        pytest.param("ClusterIP", {"clusterIP", "clusterIPs"}, id="node ports go with their type"),
        pytest.param("ExternalName", set(), id="an external name needs no address"),
    ],
)
def test_a_service_keeps_what_its_type_needs(kind: str, kept: set[str]) -> None:
    port = {"port": 80, "nodePort": 30001}
    old = {"clusterIP": "127.96.0.1", "clusterIPs": ["127.96.0.1"], "externalTrafficPolicy": "Cluster", "ports": [port]}
    body = {"spec": {**old, "type": kind, "ports": [dict(port)]}}
    admission.keep("Service", body, {"spec": {**old, "type": "NodePort"}})
    names = {*body["spec"], *body["spec"]["ports"][0]} - {"type", "ports", "port"}
    assert names == kept
