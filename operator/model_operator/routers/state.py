"""Input and output of routers: their objects, and the observed state of the cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from model_operator.api.json import Body


@dataclass(frozen=True, slots=True)
class RouterKind:
    """A kind of object that a router writes and watches.

    `owned_fields` are the fields of `spec` that the router owns exclusively: the operator removes what another client
    adds there, since it would change the split.
    """

    api_version: str
    kind: str
    owned_fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RouterObject:
    """A desired object of a router; `content` has the fields beside metadata."""

    kind: RouterKind
    name: str
    content: Body


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterState:
    """Observed state that a router may use.

    Attributes:
        objects: live objects of the router's kinds, by kind and name.
        missing_kinds: kinds that the cluster does not serve.
        stable_ready: ready pods of the stable revision.
        canary_ready: ready pods of the canary.
        front_selects_all: whether the front Service selects all revisions.
    """

    objects: Mapping[tuple[str, str], Body] = field(default_factory=dict)
    missing_kinds: frozenset[str] = frozenset()
    stable_ready: int = 0
    canary_ready: int = 0
    front_selects_all: bool = False


@dataclass(frozen=True, slots=True)
class FrontAddress:
    """Address of the front Service of a model, which receives the requests that no router routes."""

    name: str
    namespace: str
    scheme: str = "http"

    @property
    def url(self) -> str:
        """Address inside the cluster."""
        return f"{self.scheme}://{self.name}.{self.namespace}.svc"
