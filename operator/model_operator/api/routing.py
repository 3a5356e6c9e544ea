"""Routers (`trafficRouting`) as frozen values: a struct for each."""

from collections.abc import Iterator
from typing import Literal, TypeAlias

from msgspec import field

from model_operator.api.values import Seconds, Value
from model_operator.errors import InvalidSpec

GATEWAY_API = "gateway.networking.k8s.io"


class ParentRef(Value, frozen=True, kw_only=True):
    """Parent of a route: a Gateway, or a Service whose requests a mesh splits.

    A Service without a name is the front Service of the model.
    """

    group: str = GATEWAY_API
    kind: str = "Gateway"
    name: str | None = None
    namespace: str | None = None
    section_name: str | None = None
    port: int | None = None

    @property
    def is_service(self) -> bool:
        """Whether requests to a Service are split (https://gateway-api.sigs.k8s.io/mesh/)."""
        return (self.group, self.kind) == ("", "Service")


class RouteTimeouts(Value, frozen=True, kw_only=True):
    """Timeouts of a route as durations of the Gateway API (https://gateway-api.sigs.k8s.io/geps/gep-2257/)."""

    request: str | None = None
    backend_request: str | None = None


class Header(Value, frozen=True, kw_only=True):
    """A header and its value."""

    name: str
    value: str


class HeaderModifier(Value, frozen=True, kw_only=True):
    """Headers of a request or a response that are set, added and removed."""

    set: tuple[Header, ...] = ()
    add: tuple[Header, ...] = ()
    remove: tuple[str, ...] = ()


class PathModifier(Value, frozen=True, kw_only=True):
    """Rewrite of the path of a request; the field of the type holds the new path."""

    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: str | None = None
    replace_prefix_match: str | None = None


class UrlRewrite(Value, frozen=True, kw_only=True):
    """Host name and path of a request as the pods receive them."""

    hostname: str | None = None
    path: PathModifier | None = None


class ExtensionRef(Value, frozen=True, kw_only=True):
    """Reference to a filter of a kind of the gateway, in the namespace of the route."""

    group: str
    kind: str
    name: str


class Cors(Value, frozen=True, kw_only=True):
    """Cross-origin requests that responses allow."""

    allow_origins: tuple[str, ...] = ()
    allow_credentials: bool | None = None
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: int = 5


class RouteFilter(Value, frozen=True, kw_only=True):
    """A filter of all rules of a route; the field of its type is set."""

    type: Literal["RequestHeaderModifier", "ResponseHeaderModifier", "URLRewrite", "ExtensionRef", "CORS"]
    request_header_modifier: HeaderModifier | None = None
    response_header_modifier: HeaderModifier | None = None
    url_rewrite: UrlRewrite | None = None
    extension_ref: ExtensionRef | None = None
    cors: Cors | None = None

    def __post_init__(self) -> None:
        """Refuse a filter without the field of its type, or with that of another."""
        fields = dict(zip(self.__struct_encode_fields__, self.__struct_fields__, strict=True))
        given = [name for name, field in fields.items() if name != "type" and getattr(self, field) is not None]
        if [name.lower() for name in given] != [self.type.lower()]:
            raise ValueError(f"a filter of type {self.type} has the field of its type and no other; found {given}")


class GatewayRouting(Value, frozen=True, kw_only=True):
    """An HTTPRoute of the Gateway API (`trafficRouting.gatewayAPI`)."""

    parent_refs: tuple[ParentRef, ...]
    hostnames: tuple[str, ...] = ()
    path_prefix: str = "/"
    timeouts: RouteTimeouts | None = None
    filters: tuple[RouteFilter, ...] = ()

    def response_header_changes(self) -> Iterator[tuple[str, str, str]]:
        """Yield each change of a response header by the user's filters: its path in this struct, the verb, the name."""
        for index, one in enumerate(self.filters):
            modifier = one.response_header_modifier or HeaderModifier()
            path = f"gatewayAPI.filters[{index}].responseHeaderModifier"
            yield from ((f"{path}.set", "set", header.name) for header in modifier.set)
            yield from ((f"{path}.add", "add", header.name) for header in modifier.add)
            yield from ((f"{path}.remove", "remove", name) for name in modifier.remove)


#: Settings of a router, one struct for each; `model_operator.routers` has the router of a struct.
Routing: TypeAlias = GatewayRouting


class TrafficRoutingFields(Value, frozen=True, kw_only=True):
    """`trafficRouting` on the wire: exactly one router is set."""

    propagation: Seconds = field(name="propagationSeconds", default=Seconds(seconds=10))
    gateway: GatewayRouting | None = field(name="gatewayAPI", default=None)

    def router(self, path: str) -> Routing:
        """Return the settings of the router.

        Raises:
            InvalidSpec: there is none. The number of pods must not split the traffic where a router was requested.
        """
        given = [one for name in self.__struct_fields__ if isinstance(one := getattr(self, name), Routing)]
        if len(given) != 1:
            names = ", ".join(name for name in self.__struct_encode_fields__ if name != "propagationSeconds")
            raise InvalidSpec(f"{path}: write exactly one router, of {names}; Istio, Linkerd and Traefik implement it")
        return given[0]
