"""The split by an HTTPRoute of the Gateway API (gateway.networking.k8s.io/v1).

Users of an A/B test are split once: the answer to the first request carries a cookie, or a header, that names the
revision, and rules before the split send whoever brings it back there. Route filters do both, so that the test needs
no change of the pods that serve already; the Gateway API's own `sessionPersistence` is in its experimental channel.

Weights are relative numbers of backendRefs; we write percents, so that they sum to 100. A route has
acted when every parent says Accepted and ResolvedRefs for the route's current generation.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from model_operator.api.json import Body
from model_operator.api.names import revision_name
from model_operator.api.steps import HeaderMatch
from model_operator.api.strategy import GatewayRouting, ParentRef, Stickiness
from model_operator.api.traffic import RouteView, TrafficSplit
from model_operator.routers.state import Seen

API_VERSION = "gateway.networking.k8s.io/v1"
KIND = "HTTPRoute"
#: Header by which a server counts the users that were drawn for it (docs/wire.md).
ASSIGNED = "x-modeldeploy-assigned"


MISSING = (
    "the cluster has no HTTPRoute of gateway.networking.k8s.io/v1; install the Gateway API or leave"
    " trafficRouting out to split by the number of pods"
)


class GatewayApiRouter:
    """One HTTPRoute, named like the model."""

    def __init__(self, routing: GatewayRouting) -> None:
        self._routing = routing

    def desired(self, name: str, namespace: str, split: TrafficSplit) -> Mapping[str, Body]:
        """Return the `spec` of the HTTPRoute for a split."""
        routing = self._routing
        rules = [_rule(name, routing, split)]
        if split.canary and split.header_matches:
            rules.insert(0, _header_rule(name, routing, split))
        if split.canary and split.stickiness:
            rules[:0] = [
                _sticky_rule(name, routing, split.stickiness, revision) for revision in (split.canary, split.stable)
            ]
        spec: dict[str, Any] = {
            "parentRefs": [_parent_ref(ref, namespace) for ref in routing.parent_refs],
            "rules": rules,
        }
        if routing.hostnames:
            spec["hostnames"] = list(routing.hostnames)
        return {KIND: spec}

    def observe(self, name: str, canary: str, seen: Seen) -> RouteView:
        """Return what the live HTTPRoute tells: whether its gateways acted, and on which weight."""
        if KIND in seen.missing_kinds:
            return RouteView(is_programmed=False, weight=None, missing=MISSING)
        live = seen.objects.get(KIND)
        if live is None:
            return RouteView(is_programmed=False, weight=None, message="the HTTPRoute does not exist yet")
        problem = _first_trouble(live)
        return RouteView(is_programmed=not problem, weight=_weight_of(live, name, canary), message=problem)


def _parent_ref(ref: ParentRef, namespace: str) -> dict[str, Any]:
    listener = {"sectionName": ref.section_name, "port": ref.port}
    return {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "namespace": ref.namespace or namespace,
        "name": ref.name,
        **{key: value for key, value in listener.items() if value is not None},
    }


def _rule(name: str, routing: GatewayRouting, split: TrafficSplit) -> dict[str, Any]:
    backends = [_backend(name, split.stable, 100 - split.weight)]
    if split.canary:
        backends.append(_backend(name, split.canary, split.weight))
    if split.stickiness:
        for backend, revision in zip(backends, (split.stable, split.canary), strict=True):
            backend["filters"] = _drawing_filters(name, routing, split.stickiness, revision)
    rule: dict[str, Any] = {"matches": [{"path": _path(routing)}], "backendRefs": backends}
    if split.canary and split.mirror_percent:
        target = {key: value for key, value in _backend(name, split.canary, 1).items() if key != "weight"}
        mirror = {"backendRef": target, "percent": split.mirror_percent}
        rule["filters"] = [{"type": "RequestMirror", "requestMirror": mirror}]
    return rule


def _header_rule(name: str, routing: GatewayRouting, split: TrafficSplit) -> dict[str, Any]:
    headers = [_header(match) for match in split.header_matches]
    return {
        "matches": [{"path": _path(routing), "headers": headers}],
        "backendRefs": [_backend(name, split.canary, 1)],
    }


def _sticky_rule(name: str, routing: GatewayRouting, stickiness: Stickiness, revision: str) -> dict[str, Any]:
    """Requests of the users for whom a revision was drawn."""
    header = {"name": stickiness.name, "type": "Exact", "value": revision}
    if stickiness.kind == "cookie":
        pair = f"{_quote(_cookie(name, stickiness))}={revision}"
        # Anchored, since some gateways match the whole value and others a part of it.
        header = {"name": "Cookie", "type": "RegularExpression", "value": f"^(.*; *)?{pair}(;.*)?$"}
    return {
        "matches": [{"path": _path(routing), "headers": [header]}],
        # Only the route says who was drawn, never a client.
        "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": [ASSIGNED]}}],
        "backendRefs": [_backend(name, revision, 1)],
    }


def _drawing_filters(name: str, routing: GatewayRouting, stickiness: Stickiness, revision: str) -> list[dict[str, Any]]:
    """Tell the server that it was drawn for a user, and the user's client what to bring back."""
    answer = {"name": stickiness.name, "value": revision}
    if stickiness.kind == "cookie":
        cookie = f"{_cookie(name, stickiness)}={revision}"
        age = round(stickiness.lifetime.total_seconds())
        answer = {
            "name": "Set-Cookie",
            "value": f"{cookie}; Path={routing.path_prefix}; Max-Age={age}; HttpOnly; SameSite=Lax",
        }
    return [
        _header_filter("request", "set", {"name": ASSIGNED, "value": "1"}),
        _header_filter("response", "add", answer),
    ]


def _header_filter(side: str, how: str, header: Mapping[str, str]) -> dict[str, Any]:
    return {"type": f"{side.capitalize()}HeaderModifier", f"{side}HeaderModifier": {how: [header]}}


def _cookie(name: str, stickiness: Stickiness) -> str:
    return stickiness.name or f"{name}-variant"


def _header(match: HeaderMatch) -> dict[str, str]:
    if match.kind == "exact":
        return {"name": match.name, "type": "Exact", "value": match.value}
    value = match.value if match.kind == "regex" else f"{_quote(match.value)}.*"
    return {"name": match.name, "type": "RegularExpression", "value": value}


def _quote(text: str) -> str:
    """Escape what RE2, PCRE and Python's re all read as an operator."""
    return "".join(f"\\{char}" if char in r"\.+*?()|[]{}^$" else char for char in text)


def _path(routing: GatewayRouting) -> dict[str, str]:
    return {"type": "PathPrefix", "value": routing.path_prefix}


def _backend(name: str, revision: str, weight: int) -> dict[str, Any]:
    return {
        "group": "",
        "kind": "Service",
        "name": revision_name(name, revision),
        "port": 80,
        "weight": weight,
    }


def _weight_of(live: Body, name: str, canary: str) -> int | None:
    """Return the percent that the last rule (the one without headers) gives to the canary."""
    rules: Sequence[Body] = live["spec"].get("rules") or ()
    weights: dict[str, int] = (
        {ref["name"]: ref.get("weight", 1) for ref in (rules[-1].get("backendRefs") or ())} if rules else {}
    )
    total = sum(weights.values())
    if not total:
        return None
    return round(100 * weights.get(revision_name(name, canary), 0) / total)


def _first_trouble(live: Body) -> str:
    """Return why the route has not acted yet; empty when every parent accepted it as it is."""
    generation = live["metadata"].get("generation", 0)
    parents = {_key(p["parentRef"]): p.get("conditions", ()) for p in live.get("status", {}).get("parents", ())}
    for ref in live["spec"]["parentRefs"]:
        conditions = parents.get(_key(ref))
        if conditions is None:
            return f"no controller has answered for the Gateway {ref['name']}"
        for wanted in ("Accepted", "ResolvedRefs"):
            problem = _condition_trouble(conditions, wanted, generation, ref["name"])
            if problem:
                return problem
    return ""


def _condition_trouble(conditions: Sequence[Body], wanted: str, generation: int, gateway: str) -> str:
    found = next((c for c in conditions if c["type"] == wanted), None)
    if found is None or found.get("observedGeneration", 0) < generation:
        return f"the Gateway {gateway} has not looked at the newest weights yet ({wanted})"
    if found["status"] != "True":
        return f"the Gateway {gateway} says {wanted}={found['status']}: {found.get('reason')}: {found.get('message')}"
    return ""


def _key(ref: Body) -> tuple[Any, ...]:
    return ref.get("namespace"), ref["name"], ref.get("sectionName"), ref.get("port")
