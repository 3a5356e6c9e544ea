"""A ModelDeployment as the operator sees it: identity, spec, status, and the tokens people left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from model_operator.api.revision import revision_of
from model_operator.api.spec import Model, Spec, parse_spec
from model_operator.api.status import Status, status_from_body
from model_operator.api.version import GROUP

Body = Mapping[str, Any]

#: Annotations that ask for something once; each names the revision it speaks of.
TOKENS = ("promote", "promote-full", "abort", "retry", "undo", "refresh")


class ObjectKey(NamedTuple):
    """What a ModelDeployment is known by in caches and queues."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDeployment:
    """One custom resource.

    `target` is the revision that the spec asks for, `tokens` holds the annotations of `TOKENS` by
    their short name.
    """

    key: ObjectKey
    uid: str
    generation: int
    resource_version: str
    spec: Spec
    status: Status
    target: str
    tokens: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the resource, and of its front Service."""
        return self.key.name

    @classmethod
    def from_body(cls, body: Body) -> ModelDeployment:
        """Read an object of the API server.

        Raises:
            InvalidSpec: the spec is not understood.
        """
        metadata = body["metadata"]
        annotations = metadata.get("annotations") or {}
        spec, status = parse_spec(body), status_from_body(body.get("status") or {})
        return cls(
            key=key_of(body),
            uid=metadata["uid"],
            generation=metadata["generation"],
            resource_version=metadata["resourceVersion"],
            spec=spec,
            target=revision_of(
                spec.revision_source, annotations.get(f"{GROUP}/refresh", ""), polled_mark(spec.model, status)
            ),
            status=status,
            tokens={token: annotations[f"{GROUP}/{token}"] for token in TOKENS if annotations.get(f"{GROUP}/{token}")},
        )


def polled_mark(model: Model, status: Status) -> str:
    """Return what polling last saw at the spec's URI, empty while that is what the spec began with."""
    source = status.source
    return source.mark if model.poll_interval and source and source.uri == model.storage_uri else ""


def key_of(body: Body) -> ObjectKey:
    """Return the key of any namespaced object."""
    metadata = body["metadata"]
    return ObjectKey(metadata["namespace"], metadata["name"])
