"""Which rule a request meets, and where it goes."""

from collections import Counter
from typing import Any

import pytest

from model_sandbox.proxy.routing import Request, backends_with_weight, changed, choose, mirrors, pick, unsupported


def route(name: str, *rules: Any, hosts: Any = (), age: int = 0) -> Any:
    metadata = {"name": name, "namespace": "n", "creationTimestamp": f"2030-01-01T00:00:{age:02}Z"}
    return {"metadata": metadata, "spec": {"hostnames": list(hosts), "rules": list(rules)}}


def rule(name: str, **match: Any) -> Any:
    return {"name": name, "matches": [match]}


def path(value: str, kind: str = "PathPrefix") -> Any:
    return {"type": kind, "value": value}


def header(name: str, value: str, kind: str = "Exact") -> Any:
    return {"type": kind, "name": name, "value": value}


ROUTES = [
    route(
        "main",
        rule("root", path=path("/")),
        rule("api", path=path("/api")),
        rule("exact", path=path("/api", "Exact")),
        rule("canary", path=path("/"), headers=[header("X-Canary", "1")]),
        rule("regex", path=path("/"), headers=[header("X-User", "a.*", "RegularExpression")]),
        rule("post", path=path("/"), method="POST"),
        hosts=["a.test"],
    ),
    route("wild", rule("wild", path=path("/")), hosts=["*.b.test"]),
    route("one", rule("one", path=path("/")), hosts=["one.b.test"], age=5),
]


@pytest.mark.parametrize(
    ("request_", "met"),
    [
        pytest.param({"path": "/x"}, "root", id="a prefix"),
        pytest.param({"path": "/api/x"}, "api", id="the longest prefix"),
        pytest.param({"path": "/apix"}, "root", id="a prefix ends at a slash"),
        pytest.param({"path": "/api"}, "exact", id="an exact path before a prefix"),
        pytest.param({"headers": {"x-canary": "1"}}, "canary", id="a header by its value, its name in any case"),
        pytest.param({"headers": {"x-canary": "2"}}, "root", id="another value is no match"),
        pytest.param({"headers": {"x-user": "anna"}}, "regex", id="a header by a regular expression"),
        pytest.param({"headers": {"x-user": "banana"}}, "root", id="an expression covers the whole value"),
        pytest.param({"method": "POST"}, "post", id="a method"),
        pytest.param({"host": "x.b.test"}, "wild", id="a wildcard host"),
        pytest.param({"host": "one.b.test"}, "one", id="an exact host before a wildcard"),
        pytest.param({"host": "b.test"}, None, id="a wildcard needs a label"),
        pytest.param({"host": "other.test"}, None, id="another host"),
    ],
)
def test_choice(request_: Any, met: str | None) -> None:
    given = {"host": "a.test", "method": "GET", "path": "/", "headers": {}, "query": {}, **request_}
    found = choose(ROUTES, Request(**given))
    assert (found[1]["name"] if found else None) == met


def test_the_oldest_of_equals_wins() -> None:
    routes = [route("young", rule("young"), age=9), route("old", rule("old"))]
    found = choose(routes, Request("h", "GET", "/", {}, {}))
    assert found is not None
    assert found[1]["name"] == "old"


def test_weights_are_obeyed_exactly() -> None:
    references = [{"name": "a", "weight": 90}, {"name": "b", "weight": 10}, {"name": "c", "weight": 0}]
    picked = Counter(one["name"] for point in range(1000) if (one := pick(references, point / 1000)))
    assert picked == {"a": 900, "b": 100}


def test_nothing_is_picked_when_all_weights_are_zero() -> None:
    assert pick([{"name": "a", "weight": 0}], 0.5) is None


@pytest.mark.parametrize(
    ("share", "copies"),
    [({}, 100), ({"percent": 20}, 20), ({"fraction": {"numerator": 1, "denominator": 50}}, 2), ({"percent": 0}, 0)],
)
def test_mirrors_take_their_share(share: Any, copies: int) -> None:
    item = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "m"}, **share}}
    assert sum(len(mirrors({"filters": [item]}, point / 100)) for point in range(100)) == copies


def test_headers_are_set_added_and_removed_by_a_rule_and_its_backend() -> None:
    changes = {"set": [{"name": "A", "value": "1"}], "remove": ["B"]}
    of_rule = {"filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": changes}]}
    cookie = {"add": [{"name": "Set-Cookie", "value": "v=1"}]}
    of_backend = {"filters": [{"type": "ResponseHeaderModifier", "responseHeaderModifier": cookie}]}
    given = [("a", "0"), ("b", "0"), ("c", "0"), ("Connection", "close")]
    assert changed("requestHeaderModifier", given, of_rule, of_backend) == [("c", "0"), ("A", "1")]
    assert changed("responseHeaderModifier", given, of_rule, of_backend)[-2:] == [("c", "0"), ("Set-Cookie", "v=1")]


def test_filters_that_are_left_out_are_named() -> None:
    assert unsupported(route("r", {"filters": [{"type": "URLRewrite"}, {"type": "RequestMirror"}]})) == ["URLRewrite"]
    backend = {"name": "b", "filters": [{"type": "RequestMirror"}, {"type": "ResponseHeaderModifier"}]}
    assert unsupported(route("r", {"backendRefs": [backend]})) == ["RequestMirror"]


def test_a_backend_has_weight_where_any_rule_gives_it_some():
    rules = [
        {"backendRefs": [{"name": "warm", "weight": 1}]},
        {"backendRefs": [{"name": "stable"}, {"name": "cold", "weight": 0}]},
        {},
    ]
    routes = [{"metadata": {"namespace": "a"}, "spec": {"rules": rules}}, {"metadata": {"namespace": "b"}, "spec": {}}]
    assert backends_with_weight(routes) == {("a", "warm"), ("a", "stable")}
