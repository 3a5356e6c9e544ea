"""Every router keeps the same contract: pure wishes, and an honest answer about the weight in force."""

import os
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from model_operator.api.routing import (
    Cors,
    ExtensionRef,
    GatewayRouting,
    Header,
    HeaderModifier,
    ParentRef,
    PathModifier,
    RouteFilter,
    RouteTimeouts,
    UrlRewrite,
)
from model_operator.api.steps import HeaderMatch
from model_operator.api.strategy import Stickiness
from model_operator.api.traffic import TrafficSplit
from model_operator.api.values import replace
from model_operator.clients.kinds import BY_KIND
from model_operator.routers import FrontAddress, Router, RouterState, router_for
from model_sandbox.apiserver.defaults import apply_defaults
from model_sandbox.apiserver.schema import Node, decode, from_openapi
from model_sandbox.apiserver.validation import check, compile_rules

NAME, STABLE, CANARY = "fraud", "bbbbbbbb", "cccccccc"
ROUTING = GatewayRouting(
    parent_refs=(ParentRef(name="public", namespace="gateways"),), hostnames=("fraud.example.com",)
)
MESH = GatewayRouting(parent_refs=(ParentRef(group="", kind="Service"),))
ROUTERS = [
    pytest.param(router_for(None), id="replicas"),
    pytest.param(router_for(ROUTING), id="gatewayAPI"),
    pytest.param(router_for(MESH), id="gatewayAPI of a mesh"),
]

#: Resource definitions of the Gateway API: our subset, and the official ones where GATEWAY_API_CRDS names their folder.
OURS = str(files("model_sandbox") / "data" / "gateway.yaml")
OFFICIAL = os.environ.get("GATEWAY_API_CRDS")
DEFINITIONS = [OURS, *([str(Path(OFFICIAL) / "httproutes.yaml")] if OFFICIAL else [])]


def split(weight: int, **more: Any) -> TrafficSplit:
    return TrafficSplit(stable=STABLE, canary=CANARY, weight=weight, **more)


def http_route(router: Router, wish: TrafficSplit) -> Any:
    """The `spec` of the one HTTPRoute that a router asks for."""
    (found,) = router.desired(NAME, "default", wish)
    assert (found.kind.kind, found.name) == ("HTTPRoute", NAME)
    return found.content["spec"]


def in_force(router: Router, weight: int, *, accepted: str = "True", seen_generation: int = 1) -> RouterState:
    """What is seen once the cluster has done what the router asked for."""
    objects: dict[tuple[str, str], Any] = {}
    for one in router.desired(NAME, "default", split(weight)):
        conditions = [
            {
                "type": type_,
                "status": accepted,
                "reason": "Played",
                "message": "",
                "observedGeneration": seen_generation,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            for type_ in ("Accepted", "ResolvedRefs")
        ]
        spec = one.content["spec"]
        parents = [
            {"parentRef": ref, "controllerName": "example.com/played", "conditions": conditions}
            for ref in spec["parentRefs"]
        ]
        body = {"metadata": {"generation": 1}, "spec": spec, "status": {"parents": parents}}
        objects[one.kind.kind, one.name] = body
    return RouterState(objects=objects, stable_ready=100 - weight, canary_ready=weight, front_selects_all=weight > 0)


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("weight", [0, 1, 5, 25, 50, 99, 100])
def test_what_was_asked_for_is_seen_in_force(router: Router, weight: int) -> None:
    view = router.observe(NAME, CANARY, in_force(router, weight))
    assert (view.is_programmed, view.weight) == (True, weight)


@pytest.mark.parametrize("router", ROUTERS)
def test_the_same_split_asks_for_the_same_objects(router: Router) -> None:
    assert router.desired(NAME, "default", split(25)) == router.desired(NAME, "default", split(25))


@pytest.mark.parametrize("router", ROUTERS)
def test_where_nothing_exists_the_canary_has_no_weight(router: Router) -> None:
    assert not router.observe(NAME, CANARY, RouterState()).weight


@pytest.mark.parametrize("router", ROUTERS)
def test_the_operator_watches_and_may_write_what_a_router_needs(router: Router) -> None:
    for one in router.desired(NAME, "default", split(25)):
        assert one.kind in router.kinds
    for kind in router.kinds:
        info = BY_KIND[kind.kind]
        assert info.api_version == kind.api_version
        assert {"watch", "create", "patch", "delete"} <= set(info.verbs)


@pytest.mark.parametrize(
    ("routing", "url"),
    [
        pytest.param(None, "https://fraud.prod.svc", id="pods"),
        pytest.param(ROUTING, "http://fraud.example.com", id="a host name of a Gateway"),
        pytest.param(replace(ROUTING, path_prefix="/v1/"), "http://fraud.example.com/v1", id="a host name and a path"),
        pytest.param(replace(ROUTING, hostnames=()), "https://fraud.prod.svc", id="a Gateway whose address is unknown"),
        pytest.param(MESH, "https://fraud.prod.svc", id="the front Service of a mesh"),
        pytest.param(
            replace(MESH, hostnames=("fraud.example.com",)), "https://fraud.prod.svc", id="a mesh has no host names"
        ),
        pytest.param(
            replace(MESH, parent_refs=(ParentRef(group="", kind="Service", name="models", namespace="m", port=8080),)),
            "https://models.m.svc:8080",
            id="another Service of a mesh",
        ),
        pytest.param(
            replace(ROUTING, parent_refs=(*MESH.parent_refs, *ROUTING.parent_refs)),
            "http://fraud.example.com",
            id="a mesh and a Gateway",
        ),
    ],
)
def test_the_url_leads_through_the_split(routing: GatewayRouting | None, url: str) -> None:
    assert router_for(routing).url(FrontAddress(NAME, "prod", "https")) == url


class TestGateway:
    router = router_for(ROUTING)

    def test_a_gateway_that_has_not_looked_yet_is_waited_for(self) -> None:
        view = self.router.observe(NAME, CANARY, in_force(self.router, 25, seen_generation=0))
        assert not view.is_programmed
        assert "has not observed the latest weights" in view.message

    def test_a_gateway_that_refuses_is_quoted(self) -> None:
        view = self.router.observe(NAME, CANARY, in_force(self.router, 25, accepted="False"))
        assert not view.is_programmed
        assert "Accepted=False" in view.message

    def test_a_parent_that_nobody_answers_for_is_named(self) -> None:
        seen = in_force(self.router, 25)
        seen.objects["HTTPRoute", NAME]["status"]["parents"].clear()
        assert "public" in self.router.observe(NAME, CANARY, seen).message

    def test_a_cluster_without_the_kind_says_what_to_do(self) -> None:
        view = self.router.observe(NAME, CANARY, RouterState(missing_kinds=frozenset({"HTTPRoute"})))
        assert "install the Gateway API" in view.missing

    @pytest.mark.parametrize(
        ("cookies", "revision"),
        [
            pytest.param("a=1; fraud-variant=cccccccc; b=2", CANARY, id="among others"),
            pytest.param("fraud-variant=bbbbbbbb", STABLE, id="alone"),
            pytest.param("a=1;fraud-variant=bbbbbbbb", STABLE, id="without a space"),
            pytest.param("not-fraud-variant=cccccccc", "", id="another cookie whose name ends like ours"),
            pytest.param("fraud-variant=cccccccc1", "", id="a longer value"),
            pytest.param("fraud-variant=aaaaaaaa", "", id="the revision of a test before"),
        ],
    )
    def test_a_user_goes_where_the_cookie_says(self, cookies: str, revision: str) -> None:
        rules = http_route(self.router, split(50, stickiness=Stickiness()))["rules"]
        taken = [
            rule["backendRefs"][0]["name"]
            for rule in rules[:-1]
            for header in rule["matches"][0]["headers"]
            if re.fullmatch(header["value"], cookies)
        ]
        assert taken == ([f"{NAME}-{revision}"] if revision else [])

    @pytest.mark.parametrize(
        ("weight", "cold"),
        [
            pytest.param(0, [CANARY], id="the canary before its first request"),
            pytest.param(25, [], id="none while both have requests"),
            pytest.param(100, [STABLE], id="stable while the canary has all"),
        ],
    )
    def test_a_revision_without_requests_is_the_backend_of_a_rule_for_no_request(
        self, weight: int, cold: list[str]
    ) -> None:
        *rules, last = http_route(self.router, split(weight, warm_value="unguessable"))["rules"]
        assert [ref["name"] for rule in rules for ref in rule["backendRefs"]] == [f"{NAME}-{one}" for one in cold]
        header = {"name": "x-modeldeploy-warm", "type": "Exact", "value": "unguessable"}
        assert [rule["matches"][0].get("headers") for rule in rules] == [[header]] * len(cold)
        assert "headers" not in last["matches"][0]

    def test_the_rule_for_no_request_has_the_filters_that_protect_the_model(self) -> None:
        protected = RouteFilter(type="ExtensionRef", extension_ref=ExtensionRef(group="x.dev", kind="Auth", name="a"))
        router = router_for(replace(ROUTING, filters=(protected,)))
        first, last = http_route(router, split(0, warm_value="unguessable"))["rules"]
        assert first["filters"] == last["filters"] != []

    @pytest.mark.parametrize(
        ("wish", "is_warm"),
        [
            pytest.param(split(0), False, id="a backend at weight 0 alone"),
            pytest.param(split(0, warm_value="unguessable"), True, id="the backend of a rule for no request"),
            pytest.param(split(0, header_matches=(HeaderMatch("x", "exact", "1"),)), True, id="testers"),
            pytest.param(split(5), True, id="weight"),
        ],
    )
    def test_a_router_knows_a_canary_that_has_weight_in_a_rule(self, wish: TrafficSplit, is_warm: bool) -> None:
        seen = in_force(self.router, 0)
        live: dict[str, Any] = {**seen.objects["HTTPRoute", NAME], "spec": http_route(self.router, wish)}
        seen = replace(seen, objects={("HTTPRoute", NAME): live})
        assert self.router.observe(NAME, CANARY, seen).is_warm is is_warm
        live["metadata"]["generation"] = 2
        assert not self.router.observe(NAME, CANARY, seen).is_warm, "the router has not seen it yet"

    def test_a_client_that_comes_back_cannot_say_that_it_was_drawn(self) -> None:
        wish = split(30, stickiness=Stickiness(kind="header", name="x-variant"))
        *sticky, _ = http_route(self.router, wish)["rules"]
        removed = [rule["filters"][0]["requestHeaderModifier"]["remove"] for rule in sticky]
        assert removed == [["x-modeldeploy-assigned"]] * 2

    def test_the_first_answer_tells_the_user_and_the_server_who_was_drawn(self) -> None:
        wish = split(30, stickiness=Stickiness(kind="header", name="x-variant"))
        backends = http_route(self.router, wish)["rules"][-1]["backendRefs"]
        assert [backend["weight"] for backend in backends] == [70, 30]
        for backend, revision in zip(backends, (STABLE, CANARY), strict=True):
            ask, answer = backend["filters"]
            assert ask["requestHeaderModifier"]["set"] == [{"name": "x-modeldeploy-assigned", "value": "1"}]
            assert answer["responseHeaderModifier"]["add"] == [{"name": "x-variant", "value": revision}]


class TestParents:
    def test_a_service_without_a_name_is_the_front_service(self) -> None:
        (parent,) = http_route(router_for(MESH), split(25))["parentRefs"]
        assert parent == {"group": "", "kind": "Service", "namespace": "default", "name": NAME}

    def test_the_front_service_by_name_and_by_default_is_one_parent(self) -> None:
        twice = replace(MESH, parent_refs=(*MESH.parent_refs, ParentRef(group="", kind="Service", name=NAME)))
        assert len(http_route(router_for(twice), split(25))["parentRefs"]) == 1

    def test_parents_of_one_name_and_two_kinds_answer_for_themselves(self) -> None:
        both = replace(MESH, parent_refs=(*MESH.parent_refs, ParentRef(name=NAME)))
        state = in_force(router_for(both), 25)
        route = state.objects["HTTPRoute", NAME]
        assert router_for(both).observe(NAME, CANARY, state).is_programmed
        route["status"]["parents"].pop(0)
        view = router_for(both).observe(NAME, CANARY, state)
        assert (view.is_programmed, view.message) == (
            False,
            f"no controller reports on the route for the Service {NAME}",
        )

    def test_a_controller_may_leave_the_defaults_of_a_parent_out(self) -> None:
        state = in_force(router_for(ROUTING), 25)
        parent = state.objects["HTTPRoute", NAME]["status"]["parents"][0]
        parent["parentRef"] = {k: v for k, v in parent["parentRef"].items() if k not in ("group", "kind")}
        assert router_for(ROUTING).observe(NAME, CANARY, state).is_programmed


def change_request(**headers: Any) -> RouteFilter:
    """A filter that changes headers of requests."""
    return RouteFilter(type="RequestHeaderModifier", request_header_modifier=HeaderModifier(**headers))


def change_response(**headers: Any) -> RouteFilter:
    """A filter that changes headers of responses."""
    return RouteFilter(type="ResponseHeaderModifier", response_header_modifier=HeaderModifier(**headers))


TEAM = Header(name="x-team", value="risk")
OPTIONS = replace(
    ROUTING,
    timeouts=RouteTimeouts(request="10s", backend_request="2s500ms"),
    filters=(
        change_request(set=(TEAM,), remove=("x-debug",)),
        change_response(add=(TEAM,)),
        RouteFilter(
            type="URLRewrite",
            url_rewrite=UrlRewrite(
                hostname="pods.example.com", path=PathModifier(type="ReplacePrefixMatch", replace_prefix_match="")
            ),
        ),
        RouteFilter(type="ExtensionRef", extension_ref=ExtensionRef(group="example.com", kind="Limit", name="slow")),
        RouteFilter(type="CORS", cors=Cors(allow_origins=("https://*.example.com",), allow_methods=("POST",))),
    ),
)
WISHES = [
    pytest.param(TrafficSplit(stable=STABLE), id="at rest"),
    pytest.param(split(5), id="a weight"),
    pytest.param(split(0, mirror_percent=20), id="a mirror"),
    pytest.param(split(50, stickiness=Stickiness()), id="users with a cookie"),
    pytest.param(split(50, stickiness=Stickiness(kind="header", name="x-variant")), id="users with a header"),
    pytest.param(
        split(0, header_matches=(HeaderMatch("x-canary", "exact", "1"), HeaderMatch("x-user", "prefix", "a."))),
        id="headers",
    ),
]


class TestOptions:
    @pytest.mark.parametrize("wish", WISHES)
    def test_each_rule_has_the_timeouts_and_the_filters(self, wish: TrafficSplit) -> None:
        for rule in http_route(router_for(OPTIONS), wish)["rules"]:
            assert rule["timeouts"] == {"request": "10s", "backendRequest": "2s500ms"}
            types = [item["type"] for item in rule["filters"]]
            assert types[:5] == [
                "RequestHeaderModifier",
                "ResponseHeaderModifier",
                "URLRewrite",
                "ExtensionRef",
                "CORS",
            ]
            assert set(types[5:]) <= {"RequestMirror"}

    def test_without_them_a_rule_has_neither(self) -> None:
        (rule,) = http_route(router_for(ROUTING), split(25))["rules"]
        assert set(rule) == {"matches", "backendRefs"}

    def test_header_changes_of_the_user_and_of_the_router_are_one_filter(self) -> None:
        *sticky, _ = http_route(router_for(OPTIONS), split(30, stickiness=Stickiness()))["rules"]
        for rule in sticky:
            assert rule["filters"][0]["requestHeaderModifier"] == {
                "set": [{"name": "x-team", "value": "risk"}],
                "remove": ["x-debug", "x-modeldeploy-assigned"],
            }

    def test_where_both_name_a_header_the_router_decides(self) -> None:
        forged = Header(name="X-Modeldeploy-Assigned", value="1")
        routing = replace(ROUTING, filters=(change_request(add=(forged,)),))
        first, *_ = http_route(router_for(routing), split(30, stickiness=Stickiness()))["rules"]
        (only,) = first["filters"]
        assert only["requestHeaderModifier"] == {"remove": ["x-modeldeploy-assigned"]}

    def test_an_empty_prefix_is_written(self) -> None:
        (rule,) = http_route(router_for(OPTIONS), TrafficSplit(stable=STABLE))["rules"]
        path = rule["filters"][2]["urlRewrite"]["path"]
        assert path == {"type": "ReplacePrefixMatch", "replacePrefixMatch": ""}


@pytest.mark.parametrize("definition", DEFINITIONS)
class TestDefinition:
    @pytest.mark.parametrize("routing", [ROUTING, MESH, OPTIONS], ids=["gateway", "mesh", "options"])
    @pytest.mark.parametrize("wish", WISHES)
    def test_the_api_server_stores_what_is_asked_for_as_it_is(
        self, definition: str, wish: TrafficSplit, routing: GatewayRouting
    ) -> None:
        """A default that the API server adds would be taken for a change by another client, again and again."""
        spec, node = http_route(router_for(routing), wish), http_route_node(definition)
        unknown: list[str] = []
        stored = apply_defaults(node, decode(node, {"spec": spec}, unknown))
        assert unknown == []
        assert stored == {"spec": spec}
        assert check(node, stored, None) == []

    def test_the_status_that_is_read_is_one_that_controllers_may_write(self, definition: str) -> None:
        state = in_force(router_for(MESH), 25)
        body = state.objects["HTTPRoute", NAME]
        unknown: list[str] = []
        node = http_route_node(definition)
        decode(node, {"status": body["status"]}, unknown)
        assert unknown == []
        assert check(node, {"spec": body["spec"], "status": body["status"]}, None) == []

    def test_what_the_gateway_api_refuses_is_refused(self, definition: str) -> None:
        modifier = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["a"]}}
        spec = http_route(router_for(ROUTING), split(25))
        spec["rules"][0] |= {"filters": [modifier, modifier], "timeouts": {"request": "1 minute"}}
        causes = check(http_route_node(definition), {"spec": spec}, None)
        assert {cause.field for cause in causes} == {"spec.rules[0].filters", "spec.rules[0].timeouts.request"}

    def test_our_definition_has_the_fields_of_the_specification(self, definition: str) -> None:
        """Names, defaults, and which are required; fields of the experimental channel are ours alone."""
        ours, theirs = (dict(fields_of(http_route_node(path))) for path in (OURS, definition))
        for body in (ours, theirs):
            for path in (".apiVersion", ".kind", ".metadata", ".spec.rules.retry", ".spec.rules.sessionPersistence"):
                body.pop(path, None)
        assert ours == theirs
        assert ours[".spec.parentRefs.name"] == (None, True)


def fields_of(node: Node, path: str = "") -> Iterator[tuple[str, tuple[Any, bool]]]:
    """Yield the path of each field, with its default and whether it is required."""
    for name, field in node.fields.items():
        inner = f"{path}.{name}"
        default = field.default if field.has_default else None
        yield inner, (default, name in node.needed)
        yield from fields_of(field, inner)
    if node.items is not None:
        yield from fields_of(node.items, path)


@cache
def http_route_node(path: str) -> Node:
    """The schema of an HTTPRoute, with its rules."""
    # The loader in C, where there is one: the official file is large.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    definitions = yaml.load_all(Path(path).read_text(), loader)
    definition = next(one for one in definitions if one["metadata"]["name"].startswith("httproutes."))
    version = next(v for v in definition["spec"]["versions"] if v["name"] == "v1")
    node = from_openapi(version["schema"]["openAPIV3Schema"])
    assert compile_rules(node) == []
    return node
