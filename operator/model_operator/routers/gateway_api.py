"""The split by an HTTPRoute of the Gateway API: https://gateway-api.sigs.k8s.io/reference/spec/#httproute

A user of an A/B test is assigned once: the first response carries a cookie, or a header, with the name of the revision,
and rules before the split route requests with it to that revision. Filters of the route do both, so that the test needs
no change of the pods; `sessionPersistence` of the Gateway API is in its experimental channel.

Weights of backendRefs are relative; the operator writes percentages, so that they sum to 100. A route is programmed
when each parent reports Accepted and ResolvedRefs for the current generation of the route.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from model_operator.api.json import Body, JsonObject
from model_operator.api.names import revision_name
from model_operator.api.routing import GATEWAY_API, GatewayRouting, ParentRef
from model_operator.api.steps import HeaderMatch
from model_operator.api.strategy import Stickiness
from model_operator.api.traffic import RouteView, TrafficSplit
from model_operator.routers.route_filters import header_filter, merged_filters
from model_operator.routers.state import FrontAddress, RouterKind, RouterObject, RouterState

HTTP_ROUTE = RouterKind(f"{GATEWAY_API}/v1", "HTTPRoute", ("hostnames", "parentRefs", "rules"))
#: Header of a first request, by which a server counts the users that were assigned to it (docs/wire.md).
ASSIGNED = "x-modeldeploy-assigned"
#: Header of no request: a rule for it names the revision at weight 0 as a backend (docs/rollouts.md).
WARM = "x-modeldeploy-warm"


MISSING = (
    "the cluster has no HTTPRoute of gateway.networking.k8s.io/v1; install the Gateway API or leave"
    " trafficRouting out to split by the number of pods"
)


class GatewayApiRouter:
    """An HTTPRoute with the name of the model."""

    kinds: tuple[RouterKind, ...] = (HTTP_ROUTE,)
    splits_requests = True

    def __init__(self, routing: GatewayRouting) -> None:
        self._routing = routing

    def desired(self, name: str, namespace: str, split: TrafficSplit) -> tuple[RouterObject, ...]:
        """Return the HTTPRoute for a split."""
        routing = self._routing
        rules = [_rule(name, routing, split)]
        if split.canary and split.header_matches:
            rules.insert(0, _header_rule(name, routing, split))
        if split.canary and split.warm_value and split.weight in (0, 100):
            rules.insert(0, _warm_rule(name, routing, split))
        if split.canary and split.stickiness:
            rules[:0] = [
                _sticky_rule(name, routing, split.stickiness, revision) for revision in (split.canary, split.stable)
            ]
        spec: dict[str, Any] = {"parentRefs": _parent_refs(routing, name, namespace), "rules": rules}
        if routing.hostnames:
            spec["hostnames"] = list(routing.hostnames)
        return (RouterObject(HTTP_ROUTE, name, {"spec": spec}),)

    def observe(self, name: str, canary: str, state: RouterState) -> RouteView:
        """Return the state of the live HTTPRoute: whether all parents accepted it, and the weight of the canary."""
        if HTTP_ROUTE.kind in state.missing_kinds:
            return RouteView(is_programmed=False, weight=None, is_warm=False, missing=MISSING)
        live = state.objects.get((HTTP_ROUTE.kind, name))
        if live is None:
            message = "the HTTPRoute does not exist yet"
            return RouteView(is_programmed=False, weight=None, is_warm=False, message=message)
        problem = _first_problem(live)
        is_warm = not problem and _is_backend(live, revision_name(name, canary))
        weight = _weight_of(live, name, canary)
        return RouteView(is_programmed=not problem, weight=weight, is_warm=is_warm, message=problem)

    def url(self, front: FrontAddress) -> str:
        """Return the URL of the first host name, or of the Service whose requests a mesh splits.

        The address of a Gateway is in its own status: without a host name it is the front Service.
        """
        routing = self._routing
        prefix = routing.path_prefix.rstrip("/")
        if routing.hostnames and not all(ref.is_service for ref in routing.parent_refs):
            return f"http://{routing.hostnames[0]}{prefix}"
        service = next((ref for ref in routing.parent_refs if ref.is_service), None)
        if service is None:
            return front.url
        namespace = service.namespace or front.namespace
        port = f":{service.port}" if service.port not in (None, 80) else ""
        return f"{FrontAddress(service.name or front.name, namespace, front.scheme).url}{port}{prefix}"


def _parent_refs(routing: GatewayRouting, name: str, namespace: str) -> list[JsonObject]:
    """Return the parents without duplicates: the front Service may be given by name and by default."""
    refs: list[JsonObject] = []
    for ref in routing.parent_refs:
        parent = _parent_ref(ref, name, namespace)
        if parent not in refs:
            refs.append(parent)
    return refs


def _parent_ref(ref: ParentRef, name: str, namespace: str) -> JsonObject:
    listener = {"sectionName": ref.section_name, "port": ref.port}
    return {
        "group": ref.group,
        "kind": ref.kind,
        "namespace": ref.namespace or namespace,
        "name": ref.name or name,
        **{key: value for key, value in listener.items() if value is not None},
    }


def _rule(name: str, routing: GatewayRouting, split: TrafficSplit) -> dict[str, Any]:
    backends = [_backend(name, split.stable, 100 - split.weight)]
    if split.canary:
        backends.append(_backend(name, split.canary, split.weight))
    if split.stickiness:
        for backend, revision in zip(backends, (split.stable, split.canary), strict=True):
            backend["filters"] = _assignment_filters(name, routing, split.stickiness, revision)
    mirrors: list[Body] = []
    if split.canary and split.mirror_percent:
        target = {key: value for key, value in _backend(name, split.canary, 1).items() if key != "weight"}
        mirror = {"backendRef": target, "percent": split.mirror_percent}
        mirrors = [{"type": "RequestMirror", "requestMirror": mirror}]
    return _with_options(routing, {"matches": [{"path": _path(routing)}], "backendRefs": backends}, mirrors)


def _with_options(routing: GatewayRouting, rule: dict[str, Any], own: Sequence[Body] = ()) -> dict[str, Any]:
    """Return a rule with the timeouts and filters of the user, and with filters of the operator."""
    filters = merged_filters(routing.filters, own)
    if filters:
        rule["filters"] = filters
    timeouts = msgspec.to_builtins(routing.timeouts) if routing.timeouts else {}
    given = {name: duration for name, duration in timeouts.items() if duration is not None}
    if given:
        rule["timeouts"] = given
    return rule


def _header_rule(name: str, routing: GatewayRouting, split: TrafficSplit) -> dict[str, Any]:
    headers = [_header(match) for match in split.header_matches]
    rule = {
        "matches": [{"path": _path(routing), "headers": headers}],
        "backendRefs": [_backend(name, split.canary, 1)],
    }
    return _with_options(routing, rule)


def _warm_rule(name: str, routing: GatewayRouting, split: TrafficSplit) -> dict[str, Any]:
    """Return the rule for no request, whose backend is the revision without requests.

    Some gateways build a backend when it first gets weight, and lose requests meanwhile: the first ones of a canary, or
    of stable after a rollback from 100.
    """
    cold = split.stable if split.weight else split.canary
    header = {"name": WARM, "type": "Exact", "value": split.warm_value}
    # With the user's filters, since some of them protect the model.
    rule = {"matches": [{"path": _path(routing), "headers": [header]}], "backendRefs": [_backend(name, cold, 1)]}
    return _with_options(routing, rule)


def _sticky_rule(name: str, routing: GatewayRouting, stickiness: Stickiness, revision: str) -> dict[str, Any]:
    """Return the rule for requests of the users who are assigned to a revision."""
    header = {"name": stickiness.name, "type": "Exact", "value": revision}
    if stickiness.kind == "cookie":
        pair = f"{_quote(_cookie(name, stickiness))}={revision}"
        # Anchored, since some gateways match the whole value and others a part of it.
        header = {"name": "Cookie", "type": "RegularExpression", "value": f"^(.*; *)?{pair}(;.*)?$"}
    rule = {"matches": [{"path": _path(routing), "headers": [header]}], "backendRefs": [_backend(name, revision, 1)]}
    # Only the route reports an assignment, never a client.
    return _with_options(routing, rule, [header_filter("request", "remove", ASSIGNED)])


def _assignment_filters(
    name: str, routing: GatewayRouting, stickiness: Stickiness, revision: str
) -> list[dict[str, Any]]:
    """Return the filters of the first assignment: a header for the server, and a header or cookie for the client."""
    value = revision
    if stickiness.kind == "cookie":
        age = round(stickiness.lifetime.total_seconds())
        pair = f"{_cookie(name, stickiness)}={revision}"
        value = f"{pair}; Path={routing.path_prefix}; Max-Age={age}; HttpOnly; SameSite=Lax"
    return [
        header_filter("request", "set", {"name": ASSIGNED, "value": "1"}),
        header_filter("response", "add", {"name": stickiness.response_header, "value": value}),
    ]


def _cookie(name: str, stickiness: Stickiness) -> str:
    return stickiness.name or f"{name}-variant"


def _header(match: HeaderMatch) -> dict[str, str]:
    if match.kind == "exact":
        return {"name": match.name, "type": "Exact", "value": match.value}
    value = match.value if match.kind == "regex" else f"{_quote(match.value)}.*"
    return {"name": match.name, "type": "RegularExpression", "value": value}


def _quote(text: str) -> str:
    """Escape the characters that are operators in RE2, PCRE and Python's re."""
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
    """Return the weight of the canary in percent, from the last rule, which is the one without headers."""
    rules: Sequence[Body] = live["spec"].get("rules") or ()
    weights: dict[str, int] = (
        {ref["name"]: ref.get("weight", 1) for ref in (rules[-1].get("backendRefs") or ())} if rules else {}
    )
    total = sum(weights.values())
    if not total:
        return None
    return round(100 * weights.get(revision_name(name, canary), 0) / total)


def _is_backend(live: Body, service: str) -> bool:
    """Whether a rule of the route gives weight to a Service."""
    rules: Sequence[Body] = live["spec"].get("rules") or ()
    backends = [ref for rule in rules for ref in rule.get("backendRefs") or ()]
    return any(ref["name"] == service and ref.get("weight", 1) > 0 for ref in backends)


def _first_problem(live: Body) -> str:
    """Return why the route is not programmed; empty if each parent accepted its current generation."""
    generation = live["metadata"].get("generation", 0)
    parents = {_key(p["parentRef"]): p.get("conditions", ()) for p in live.get("status", {}).get("parents", ())}
    for ref in live["spec"]["parentRefs"]:
        conditions = parents.get(_key(ref))
        if conditions is None:
            return f"no controller reports on the route for the {_title(ref)}"
        for condition in ("Accepted", "ResolvedRefs"):
            problem = _condition_problem(conditions, condition, generation, _title(ref))
            if problem:
                return problem
    return ""


def _condition_problem(conditions: Sequence[Body], condition: str, generation: int, parent: str) -> str:
    found = next((c for c in conditions if c["type"] == condition), None)
    if found is None or found.get("observedGeneration", 0) < generation:
        return f"the {parent} has not observed the latest weights ({condition})"
    if found["status"] != "True":
        return f"the {parent} reports {condition}={found['status']}: {found.get('reason')}: {found.get('message')}"
    return ""


def _title(ref: Body) -> str:
    return f"{ref.get('kind', 'Gateway')} {ref['name']}"


def _key(ref: Body) -> tuple[Any, ...]:
    """Return the identity of a parent; a controller may omit the defaults of group and kind."""
    parent = ref.get("group", GATEWAY_API), ref.get("kind", "Gateway"), ref.get("namespace"), ref["name"]
    return *parent, ref.get("sectionName"), ref.get("port")
