"""Every router keeps the same contract: pure wishes, and an honest answer about the weight in force."""

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from model_operator.api.steps import HeaderMatch
from model_operator.api.strategy import GatewayRouting, ParentRef, Stickiness
from model_operator.api.traffic import TrafficSplit
from model_operator.routers import Router, Seen, router_for

NAME, STABLE, CANARY = "fraud", "bbbbbbbb", "cccccccc"
ROUTING = GatewayRouting(
    parent_refs=(ParentRef(name="public", namespace="gateways"),), hostnames=("fraud.example.com",)
)
ROUTERS = [pytest.param(router_for(None), id="replicas"), pytest.param(router_for(ROUTING), id="gatewayAPI")]

#: The official resource definitions, where a checkout of them lies.
OFFICIAL = Path(os.environ.get("GATEWAY_API_CRDS", Path(__file__).parents[4] / "shared" / "gateway-api"))


def split(weight: int, **more: Any) -> TrafficSplit:
    return TrafficSplit(stable=STABLE, canary=CANARY, weight=weight, **more)


def in_force(router: Router, weight: int, *, accepted: str = "True", seen_generation: int = 1) -> Seen:
    """What is seen once the cluster has done what the router asked for."""
    objects: dict[str, Any] = {}
    for kind, spec in router.desired(NAME, "default", split(weight)).items():
        conditions = [
            {
                "type": type_,
                "status": accepted,
                "reason": "ShadowResponse",
                "message": "",
                "observedGeneration": seen_generation,
            }
            for type_ in ("Accepted", "ResolvedRefs")
        ]
        parents = [{"parentRef": ref, "conditions": conditions} for ref in spec["parentRefs"]]
        objects[kind] = {"metadata": {"generation": 1}, "spec": spec, "status": {"parents": parents}}
    return Seen(objects=objects, stable_ready=100 - weight, canary_ready=weight, front_is_wide=weight > 0)


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
    assert not router.observe(NAME, CANARY, Seen()).weight


class TestGateway:
    router = router_for(ROUTING)

    def test_a_gateway_that_has_not_looked_yet_is_waited_for(self) -> None:
        view = self.router.observe(NAME, CANARY, in_force(self.router, 25, seen_generation=0))
        assert not view.is_programmed
        assert "has not looked at the newest weights" in view.message

    def test_a_gateway_that_refuses_is_quoted(self) -> None:
        view = self.router.observe(NAME, CANARY, in_force(self.router, 25, accepted="False"))
        assert not view.is_programmed
        assert "Accepted=False" in view.message

    def test_a_parent_that_nobody_answers_for_is_named(self) -> None:
        seen = in_force(self.router, 25)
        seen.objects["HTTPRoute"]["status"]["parents"].clear()
        assert "public" in self.router.observe(NAME, CANARY, seen).message

    def test_a_cluster_without_the_kind_says_what_to_do(self) -> None:
        view = self.router.observe(NAME, CANARY, Seen(missing_kinds=frozenset({"HTTPRoute"})))
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
        rules = self.router.desired(NAME, "default", split(50, stickiness=Stickiness()))["HTTPRoute"]["rules"]
        taken = [
            rule["backendRefs"][0]["name"]
            for rule in rules[:-1]
            for header in rule["matches"][0]["headers"]
            if re.fullmatch(header["value"], cookies)
        ]
        assert taken == ([f"{NAME}-{revision}"] if revision else [])

    def test_a_client_that_comes_back_cannot_say_that_it_was_drawn(self) -> None:
        wish = split(30, stickiness=Stickiness(kind="header", name="x-variant"))
        *sticky, _ = self.router.desired(NAME, "default", wish)["HTTPRoute"]["rules"]
        removed = [rule["filters"][0]["requestHeaderModifier"]["remove"] for rule in sticky]
        assert removed == [["x-modeldeploy-assigned"]] * 2

    def test_the_first_answer_tells_the_user_and_the_server_who_was_drawn(self) -> None:
        wish = split(30, stickiness=Stickiness(kind="header", name="x-variant"))
        backends = self.router.desired(NAME, "default", wish)["HTTPRoute"]["rules"][-1]["backendRefs"]
        assert [backend["weight"] for backend in backends] == [70, 30]
        for backend, revision in zip(backends, (STABLE, CANARY), strict=True):
            ask, answer = backend["filters"]
            assert ask["requestHeaderModifier"]["set"] == [{"name": "x-modeldeploy-assigned", "value": "1"}]
            assert answer["responseHeaderModifier"]["add"] == [{"name": "x-variant", "value": revision}]

    @pytest.mark.skipif(not OFFICIAL.is_dir(), reason="needs the official resource definitions: GATEWAY_API_CRDS")
    @pytest.mark.parametrize(
        "wish",
        [
            pytest.param(TrafficSplit(stable=STABLE), id="at rest"),
            pytest.param(split(5), id="a weight"),
            pytest.param(split(0, mirror_percent=20), id="a mirror"),
            pytest.param(split(50, stickiness=Stickiness()), id="users with a cookie"),
            pytest.param(split(50, stickiness=Stickiness(kind="header", name="x-variant")), id="users with a header"),
            pytest.param(
                split(0, header_matches=(HeaderMatch("x-canary", "exact", "1"), HeaderMatch("x-user", "prefix", "a."))),
                id="headers",
            ),
        ],
    )
    def test_the_official_schema_takes_what_is_asked_for(self, wish: TrafficSplit) -> None:
        jsonschema.validate(dict(self.router.desired(NAME, "default", wish)["HTTPRoute"]), official_schema())


@cache
def official_schema() -> Any:
    """The schema of an HTTPRoute's `spec`, in which unknown fields are errors."""
    # The loader in C, where there is one: the file is large.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    definition = yaml.load((OFFICIAL / "httproutes.yaml").read_text(), loader)
    version = next(v for v in definition["spec"]["versions"] if v["name"] == "v1")
    return closed(version["schema"]["openAPIV3Schema"]["properties"]["spec"])


def closed(schema: Any) -> Any:
    """Refuse fields that the schema does not name, as strict field validation does."""
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema:
        inner["properties"] = {key: closed(value) for key, value in schema["properties"].items()}
        inner.setdefault("additionalProperties", False)
    return inner
