"""Whose Gateways a model may use, and for which host names."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rollout_actions import GOOD, spec

from model_operator.api.resource import ModelDeployment
from model_operator.errors import NotAllowed
from model_operator.policy.traffic_policy import POLICY, GatewayRule, check_traffic
from model_operator.settings import InvalidSettings, Settings, settings_from

SHARED: dict[str, Any] = {"namespace": "infra", "name": "shared"}
OURS = GatewayRule(**SHARED, hostnames=("*.team-a.example.com",), from_namespaces=("team-a",))
HTTPS = GatewayRule(**SHARED, hostnames=("*",), from_namespaces=("team-*",), section_names=("https",))
SERVICE = {"group": "", "kind": "Service"}
SHOP = GatewayRule(kind="Service", namespace="shop", name="front", hostnames=("*",), from_namespaces=("team-a",))


def model(*parents: dict[str, Any], hostnames: tuple[str, ...] = ()) -> ModelDeployment:
    """Return the model `fraud` of team-a with a route."""
    routing = {"gatewayAPI": {"parentRefs": list(parents), **({"hostnames": list(hostnames)} if hostnames else {})}}
    body = spec(GOOD, {"canary": {"steps": [], "trafficRouting": routing}})
    metadata = {"name": "fraud", "namespace": "team-a", "uid": "1", "generation": 1, "resourceVersion": "1"}
    return ModelDeployment.from_body({"metadata": metadata, "spec": body})


def names(*hostnames: str) -> dict[str, Any]:
    return {"hostnames": hostnames}


@pytest.mark.parametrize(
    ("parents", "options", "rules"),
    [
        pytest.param([{"name": "mine"}], names("bob.example.com"), (), id="a Gateway of the namespace"),
        pytest.param([{"name": "mine", "namespace": "team-a"}], {}, (), id="the same with its namespace written"),
        pytest.param([SERVICE], {}, (), id="the front Service of the model"),
        pytest.param([{**SERVICE, "name": "fraud"}], {}, (), id="the same by its name"),
        pytest.param([SHARED], names("fraud.team-a.example.com"), (OURS,), id="a host name that the rule covers"),
        pytest.param([SHARED], names("*.team-a.example.com"), (OURS,), id="the pattern itself"),
        pytest.param([SHARED], names("x.y.team-a.example.com"), (OURS,), id="a name further below"),
        pytest.param(
            [{**SHARED, "sectionName": "https"}], names("bob.example.com"), (OURS, HTTPS), id="of a second rule"
        ),
        pytest.param([{**SHARED, "sectionName": "https"}], {}, (HTTPS,), id="no host name, where each is allowed"),
        pytest.param(
            [{**SERVICE, "name": "front", "namespace": "shop"}], {}, (SHOP,), id="a Service that a rule opens"
        ),
    ],
)
def test_allowed(parents: Any, options: Any, rules: Any) -> None:
    check_traffic(model(*parents, **options), rules)


@pytest.mark.parametrize(
    ("parents", "options", "rules", "said"),
    [
        pytest.param([SHARED], names("bob.example.com"), (), "for bob.example.com. The admin", id="no rule"),
        pytest.param(
            [SHARED],
            names("bob.example.com"),
            (OURS,),
            "for bob.example.com; host names that are: *.team-a.example.com",
            id="a host name of another team",
        ),
        pytest.param(
            [SHARED],
            names("ok.team-a.example.com", "bob.example.com"),
            (OURS,),
            "for bob.example.com; host",
            id="one of two host names",
        ),
        pytest.param([SHARED], {}, (OURS,), "for any host name", id="no host name, which means all"),
        pytest.param([SHARED], names("team-a.example.com"), (OURS,), "for team-a", id="the name above the pattern"),
        pytest.param([SHARED], names("evilteam-a.example.com"), (OURS,), "for evilteam", id="a name that ends like it"),
        pytest.param([SHARED], names("*.example.com"), (OURS,), "for *.example.com", id="a wider pattern"),
        pytest.param(
            [SHARED], names("a.example.com"), (HTTPS,), "(all listeners)", id="all listeners, where one is open"
        ),
        pytest.param([{**SHARED, "port": 443}], names("a.b"), (HTTPS,), "(all listeners)", id="a listener by its port"),
        pytest.param(
            [{**SHARED, "sectionName": "http"}], names("a.b"), (HTTPS,), "listener http", id="another listener"
        ),
        pytest.param([{"name": "mine"}, SHARED], names("a.b"), (), "parentRefs[1]", id="the second parent"),
        pytest.param([{**SHARED, "namespace": "x"}], names("a.b"), (OURS,), "Gateway x/shared", id="another namespace"),
        pytest.param([{**SERVICE, "name": "ledger"}], {}, (), "Service team-a/ledger", id="a Service of others"),
        pytest.param([{**SERVICE, "namespace": "shop"}], {}, (SHOP,), "Service shop/fraud", id="a Service elsewhere"),
        pytest.param(
            [{"group": "x.io", "kind": "Gateway", "name": "m"}], {}, (), "Gateway team-a/m", id="another group"
        ),
        pytest.param(
            [{"kind": "ListenerSet", "name": "l", "namespace": "x"}], {}, (), "kind: ListenerSet", id="another kind"
        ),
    ],
)
def test_refused(parents: Any, options: Any, rules: Any, said: str) -> None:
    with pytest.raises(NotAllowed) as refused:
        check_traffic(model(*parents, **options), rules)
    assert said in str(refused.value)
    assert "trafficPolicy.gateways of the chart" in str(refused.value)
    assert refused.value.reason == POLICY


def test_the_entry_in_a_refusal_opens_what_was_refused() -> None:
    with pytest.raises(NotAllowed, match=r"\{namespace: infra, name: shared, hostnames: \[bob.example.com\], fromN"):
        check_traffic(model(SHARED, **names("bob.example.com")), ())
    entry = GatewayRule(**SHARED, hostnames=("bob.example.com",), from_namespaces=("team-a",))
    check_traffic(model(SHARED, **names("bob.example.com")), (entry,))


def test_the_setting_is_a_list_in_json() -> None:
    text = json.dumps([{**SHARED, "hostnames": ["*.team-a.example.com"], "fromNamespaces": ["team-a"]}])
    assert Settings(gateways=text).admission.gateways == (OURS,)
    for wrong in ("shared", '[{"name": "shared"}]', text.replace("hostnames", "hosts")):
        with pytest.raises(InvalidSettings, match="MODEL_OPERATOR_GATEWAYS"):
            settings_from({"MODEL_OPERATOR_GATEWAYS": wrong})
