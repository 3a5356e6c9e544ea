"""Which rule of which HTTPRoute a request meets, and where it goes. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from model_sandbox.client import Obj

# What is between two hosts, and what is said anew to the next one.
_HOP = ("connection", "keep-alive", "te", "trailers", "transfer-encoding", "upgrade", "host", "content-length")
SUPPORTED = ("RequestMirror", "RequestHeaderModifier", "ResponseHeaderModifier")


@dataclass(frozen=True, slots=True)
class Request:
    """What routing looks at. Header names are lower case."""

    host: str
    method: str
    path: str
    headers: Mapping[str, str]
    query: Mapping[str, str]


def host_fits(pattern: str, host: str) -> bool:
    """Whether a hostname, or a wildcard such as `*.example.com`, covers a host."""
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return pattern == host


def _value_fits(match: Obj, text: str | None) -> bool:
    """Whether a text is what a match of type Exact or RegularExpression asks for."""
    if text is not None and match.get("type") == "RegularExpression":
        return re.fullmatch(match["value"], text) is not None
    return bool(match["value"] == text)


def _path_fits(match: Obj, path: str) -> bool:
    if match.get("type", "PathPrefix") != "PathPrefix":
        return _value_fits(match, path)
    prefix = match.get("value", "/").rstrip("/")
    return path == prefix or path.startswith(prefix + "/")


def _fits(match: Obj, request: Request) -> bool:
    return (
        _path_fits(match.get("path") or {}, request.path)
        and match.get("method") in (None, request.method)
        and all(_value_fits(one, request.headers.get(one["name"].lower())) for one in match.get("headers") or ())
        and all(_value_fits(one, request.query.get(one["name"])) for one in match.get("queryParams") or ())
    )


def _rank(match: Obj) -> tuple[bool, int, bool, int, int]:
    """The more precise match wins, in the order the Gateway API gives."""
    path = match.get("path") or {}
    kind = path.get("type", "PathPrefix")
    length = len(path.get("value", "/"))
    headers, query = len(match.get("headers") or ()), len(match.get("queryParams") or ())
    return kind == "Exact", length, match.get("method") is not None, headers, query


def choose(routes: Iterable[Obj], request: Request) -> tuple[Obj, Obj] | None:
    """The (route, rule) that a request meets: the most precise, then the oldest."""
    met = []
    for route in sorted(routes, key=lambda one: (one["metadata"]["creationTimestamp"], one["metadata"]["name"])):
        names = route["spec"].get("hostnames") or []
        fitting = [name for name in names if host_fits(name, request.host)]
        if names and not fitting:
            continue
        exact = max((len(name) - 1000 * name.startswith("*") for name in fitting), default=-10_000)
        for rule in route["spec"].get("rules") or []:
            matches = [match for match in rule.get("matches") or [{}] if _fits(match, request)]
            met += [((exact, *_rank(match)), route, rule) for match in matches]
    best = max(met, key=lambda one: one[0], default=None)
    return best[1:] if best is not None else None


def pick(references: Iterable[Obj], point: float) -> Obj | None:
    """A backend by weight, for a point in [0, 1); None when all weights are zero."""
    weighted = [(one, one.get("weight", 1)) for one in references]
    left = point * sum(weight for _, weight in weighted)
    for one, weight in weighted:
        if left < weight:
            return one
        left -= weight
    return None


def backends_with_weight(routes: Iterable[Obj]) -> set[tuple[str, str]]:
    """Namespace and name of the Services to which some rule gives weight."""
    return {
        (route["metadata"]["namespace"], reference["name"])
        for route in routes
        for rule in route["spec"].get("rules") or []
        for reference in rule.get("backendRefs") or []
        if reference.get("weight", 1)
    }


def mirrors(rule: Obj, point: float) -> list[Obj]:
    """The backends that get a copy of this request."""
    found = []
    for item in rule.get("filters") or []:
        mirror = item.get("requestMirror")
        if item["type"] != "RequestMirror" or mirror is None:
            continue
        share = 1.0
        if mirror.get("percent") is not None:
            share = mirror["percent"] / 100
        elif mirror.get("fraction"):
            share = mirror["fraction"]["numerator"] / mirror["fraction"].get("denominator", 100)
        if point < share:
            found.append(mirror["backendRef"])
    return found


def changed(kind: str, headers: Iterable[tuple[str, str]], *filtered: Obj) -> list[tuple[str, str]]:
    """Headers as they are passed on; `kind` is requestHeaderModifier or responseHeaderModifier.

    `filtered` are a rule and the backend that was picked: both have filters.
    """
    put: list[tuple[str, str]] = []
    gone = set(_HOP)
    for item in (item for one in filtered for item in one.get("filters") or []):
        changes = item.get(kind) or {}
        put += [(one["name"], one["value"]) for one in [*(changes.get("set") or ()), *(changes.get("add") or ())]]
        gone.update(one["name"].lower() for one in changes.get("set") or ())
        gone.update(name.lower() for name in changes.get("remove") or ())
    return [*((name, value) for name, value in headers if name.lower() not in gone), *put]


Told = tuple[str, bool, str, str]  # type, status, reason and message of a condition


def is_gateway(reference: Obj) -> bool:
    """Whether a parent of a route is a Gateway."""
    group, kind = reference.get("group", "gateway.networking.k8s.io"), reference.get("kind", "Gateway")
    return (group, kind) == ("gateway.networking.k8s.io", "Gateway")


def accepted(route: Obj, gateway: Obj, reference: Obj) -> Told:
    """Whether a Gateway takes a route that names it as its parent."""
    missing = unsupported(route)
    if missing:
        told = f"filters {', '.join(missing)} are left out here; known: {', '.join(SUPPORTED)}"
        return "Accepted", False, "UnsupportedValue", told
    names = {"sectionName": "name", "port": "port"}
    listeners = [
        one for one in gateway["spec"]["listeners"] if all(reference.get(a) in (None, one[b]) for a, b in names.items())
    ]
    if not listeners:
        return "Accepted", False, "NoMatchingParent", "no listener of that name or port"
    scopes = {((one.get("allowedRoutes") or {}).get("namespaces") or {}).get("from", "Same") for one in listeners}
    if route["metadata"]["namespace"] != gateway["metadata"]["namespace"] and "All" not in scopes:
        return "Accepted", False, "NotAllowedByListeners", "the listeners take routes of their own namespace only"
    return "Accepted", True, "Accepted", ""


def resolved(route: Obj, service: Callable[[str, str], Obj | None]) -> Told:
    """Whether all backends of a route are there. `service` finds a Service by namespace and name."""
    namespace = route["metadata"]["namespace"]
    for rule in route["spec"].get("rules") or []:
        copies = [one["requestMirror"]["backendRef"] for one in rule.get("filters") or [] if one.get("requestMirror")]
        for reference in [*(rule.get("backendRefs") or []), *copies]:
            if reference.get("kind", "Service") != "Service" or reference.get("group"):
                return "ResolvedRefs", False, "InvalidKind", f"kind {reference['kind']} is left out; known: Service"
            if reference.get("namespace", namespace) != namespace:
                return "ResolvedRefs", False, "RefNotPermitted", "backends of other namespaces are left out here"
            if service(namespace, reference["name"]) is None:
                told = f"Service {namespace}/{reference['name']} not found"
                return "ResolvedRefs", False, "BackendNotFound", told
    return "ResolvedRefs", True, "ResolvedRefs", ""


def unsupported(route: Obj) -> list[str]:
    """Filters of a route that this gateway does not have; on a backend it has those of headers."""
    rules = route["spec"].get("rules") or []
    references = [reference for rule in rules for reference in rule.get("backendRefs") or []]
    kinds = {item["type"] for rule in rules for item in rule.get("filters") or []} - set(SUPPORTED)
    own = {item["type"] for reference in references for item in reference.get("filters") or []} - set(SUPPORTED[1:])
    return sorted(kinds | own)
