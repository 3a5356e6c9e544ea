"""Routes that cannot work, and what the API server says of each."""

from typing import Any

from spec_parts import Row, ab_test, canary, step


def gateway(**fields: Any) -> dict[str, Any]:
    return canary(trafficRouting={"gatewayAPI": {"parentRefs": [{"name": "public"}], **fields}})


def add_header(name: str, value: str) -> dict[str, Any]:
    return {"type": "RequestHeaderModifier", "requestHeaderModifier": {"add": [{"name": name, "value": value}]}}


def response_headers(**changes: Any) -> dict[str, Any]:
    """A route of an A/B test that changes headers of responses."""
    change = {"type": "ResponseHeaderModifier", "responseHeaderModifier": changes}
    return {"gatewayAPI": {"parentRefs": [{"name": "public"}], "filters": [change]}}


def match(name: str, **value: str) -> dict[str, Any]:
    return {"headerName": name, "headerValue": value}


def header_route(*matches: dict[str, Any]) -> dict[str, Any]:
    routing = {"gatewayAPI": {"parentRefs": [{"name": "public"}]}}
    return canary(trafficRouting=routing, steps=[{"setHeaderRoute": {"match": list(matches)}}])


ROUTES: list[Row] = [
    ("no router named", canary(trafficRouting={}), "trafficRouting needs gatewayAPI, which Istio"),
    (
        "a router by its own resource",
        canary(trafficRouting={"istio": {"hosts": ["fraud.example.com"]}}),
        'unknown field "spec.strategy.canary.trafficRouting.istio"',
    ),
    ("a hostname with a scheme", gateway(hostnames=["https://fraud.example.com"]), "and no scheme, port or address"),
    ("a hostname in capitals", gateway(hostnames=["Fraud.example.com"]), "a hostname has lower-case letters"),
    ("an address for a hostname", gateway(hostnames=["10.0.0.1"]), "and no scheme, port or address"),
    ("a path without a slash", gateway(pathPrefix="fraud"), "pathPrefix begins with /"),
    ("a path with a space", gateway(pathPrefix="/fraud detection"), "pathPrefix begins with / and holds"),
    ("a path with an empty part", gateway(pathPrefix="/models//fraud"), "pathPrefix must hold no //"),
    ("a path that goes up", gateway(pathPrefix="/models/.."), "pathPrefix must hold no //, /./, /../"),
    ("a path with a hidden slash", gateway(pathPrefix="/models%2Ffraud"), "pathPrefix must hold no"),
    (
        "one Gateway twice",
        gateway(parentRefs=[{"name": "public"}, {"name": "public"}]),
        "parentRefs must differ: leave out the one",
    ),
    (
        "a Gateway and one listener of it",
        gateway(parentRefs=[{"name": "public"}, {"name": "public", "sectionName": "http"}]),
        "parentRefs to one Gateway must all have a sectionName",
    ),
    ("a parent without a name", gateway(parentRefs=[{"kind": "Gateway"}]), "a parent needs a name"),
    (
        "a Service of the group of Gateways",
        gateway(parentRefs=[{"kind": "Service"}]),
        "a parent of kind Service has the group ''",
    ),
    ("a timeout without a unit", gateway(timeouts={"request": "30"}), "timeouts.request"),
    (
        "a backend timeout above the whole",
        gateway(timeouts={"request": "10s", "backendRequest": "1m"}),
        "timeouts.backendRequest must not be longer",
    ),
    ("a filter that redirects", gateway(filters=[{"type": "RequestRedirect"}]), "filters[0].type: Unsupported value"),
    ("a filter without its field", gateway(filters=[{"type": "URLRewrite"}]), "a filter has the field of its type"),
    (
        "two filters of one type",
        gateway(filters=[add_header("x-team", "a"), add_header("x-plan", "b")]),
        "a filter of each type goes once",
    ),
    (
        "a header of the operator",
        gateway(filters=[add_header("X-Modeldeploy-Assigned", "1")]),
        "headers whose names begin with x-modeldeploy-",
    ),
    (
        "a filter that changes no header",
        gateway(filters=[{"type": "ResponseHeaderModifier", "responseHeaderModifier": {}}]),
        "write at least one of set, add and remove",
    ),
    (
        "a path rewritten in two ways",
        gateway(
            filters=[
                {
                    "type": "URLRewrite",
                    "urlRewrite": {"path": {"type": "ReplaceFullPath", "replacePrefixMatch": "/"}},
                }
            ]
        ),
        "path has the field of its type",
    ),
    ("a namespace that is none", gateway(parentRefs=[{"name": "public", "namespace": "My_Space"}]), "[0].namespace"),
    (
        "a header twice",
        header_route(match("x-team", exact="a"), match("X-Team", exact="b")),
        "a header can be matched once (upper and lower case are the same)",
    ),
    ("a regex that cannot be compiled", header_route(match("x-team", regex="[a")), "not a valid regex"),
    ("a regex that looks ahead", header_route(match("x-team", regex="(?=a)b")), "not a valid regex"),
    (
        "a header matched in two ways",
        step(setHeaderRoute={"match": [{"headerName": "x", "headerValue": {"exact": "1", "prefix": "1"}}]}),
        "headerValue needs exactly one of exact, regex or prefix",
    ),
    (
        "a mirror without a router",
        step(setMirrorRoute={"percentage": 10}),
        "setHeaderRoute and setMirrorRoute need trafficRouting",
    ),
    (
        "a filter that replaces the cookie of a test",
        ab_test(trafficRouting=response_headers(set=[{"name": "set-cookie", "value": "a=b"}])),
        "a filter must not set or remove Set-Cookie, in which the A/B test",
    ),
    (
        "a filter that removes a named cookie of a test",
        ab_test(stickiness={"cookie": "who"}, trafficRouting=response_headers(remove=["Set-Cookie"])),
        "a filter must not set or remove Set-Cookie, in which the A/B test",
    ),
    (
        "a filter that would set the header of a test",
        ab_test(stickiness={"header": "X-Who"}, trafficRouting=response_headers(set=[{"name": "x-who", "value": "a"}])),
        "a filter must not change the header stickiness.header",
    ),
    (
        "a filter that would add the header of a test",
        ab_test(stickiness={"header": "X-Who"}, trafficRouting=response_headers(add=[{"name": "x-who", "value": "a"}])),
        "a filter must not change the header stickiness.header",
    ),
    (
        "a filter that would remove the header of a test",
        ab_test(stickiness={"header": "X-Who"}, trafficRouting=response_headers(remove=["x-who"])),
        "a filter must not change the header stickiness.header",
    ),
    (
        "a filter that removes a header of the operator",
        gateway(filters=[{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x-modeldeploy-a"]}}]),
        "headers whose names begin with x-modeldeploy-",
    ),
    (
        "a header of the operator as that of a test",
        ab_test(stickiness={"header": "x-modeldeploy-assigned"}),
        "headers whose names begin with x-modeldeploy-",
    ),
    (
        "a certificate behind a router",
        {
            "server": {"tls": {"secretName": "t"}},
            **canary(trafficRouting={"gatewayAPI": {"parentRefs": [{"name": "public"}]}}),
        },
        "server.tls goes without trafficRouting",
    ),
]
