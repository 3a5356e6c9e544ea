"""What routers and the rest of the operator give each other: objects, and what the cluster says of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from model_operator.api.json import Body


@dataclass(frozen=True, slots=True)
class RouterKind:
    """A kind of object that a router writes and watches.

    `owned_fields` are the fields of `spec` that belong to the router as a whole: what another client adds there is
    removed, since it would change who gets which requests.
    """

    api_version: str
    kind: str
    owned_fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RouterObject:
    """An object that a router needs; `content` are the fields next to metadata."""

    kind: RouterKind
    name: str
    content: Body


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterState:
    """What a router may look at.

    Attributes:
        objects: live objects of the router's kinds, by kind and name.
        missing_kinds: kinds that the cluster does not know.
        stable_ready: ready pods of the stable revision.
        canary_ready: ready pods of the canary.
        front_is_wide: whether the front Service selects all revisions.
    """

    objects: Mapping[tuple[str, str], Body] = field(default_factory=dict)
    missing_kinds: frozenset[str] = frozenset()
    stable_ready: int = 0
    canary_ready: int = 0
    front_is_wide: bool = False


@dataclass(frozen=True, slots=True)
class FrontAddress:
    """The front Service of a model: where requests go that no router takes elsewhere."""

    name: str
    namespace: str
    scheme: str = "http"

    @property
    def url(self) -> str:
        """Address inside the cluster."""
        return f"{self.scheme}://{self.name}.{self.namespace}.svc"
