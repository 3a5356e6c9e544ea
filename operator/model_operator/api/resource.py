"""A ModelDeployment as a value: identity, spec, status, and the request annotations of users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from model_operator.api.json import Body
from model_operator.api.revision import revision_of
from model_operator.api.spec import Model, Spec, SpecFields, parse_spec
from model_operator.api.status import Status, status_from_body
from model_operator.api.values import unknown_fields
from model_operator.api.version import API_VERSION, GROUP

#: Annotations that request an action once; each names the revision that it refers to.
TOKENS = ("promote", "promote-full", "abort", "retry", "undo", "refresh")


_PREFIX = f"{GROUP}/"
#: What is read of the annotations of a resource, which may have 256 KiB: a revision with a user's name is shorter, and
#: so many of the unknown ones, each of which has an answer in the status, are enough to see what is wrong.
_LONGEST_TOKEN, _MOST_UNKNOWN = 512, 10


class ObjectKey(NamedTuple):
    """Key of a ModelDeployment in caches and queues."""

    namespace: str
    name: str


class ObjectVersion(NamedTuple):
    """One version of a ModelDeployment; a write with it fails when the object has changed since."""

    key: ObjectKey
    resource_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDeployment:
    """One custom resource.

    `target` is the revision that the spec asks for, `tokens` holds the annotations of `TOKENS` by
    their short name, `unknown_annotations` the short names of unknown annotations of the group, `unknown_fields` the
    paths of fields that a newer definition has, such as `spec.server.surprise`.
    """

    key: ObjectKey
    uid: str
    generation: int
    resource_version: str
    spec: Spec
    status: Status
    target: str
    tokens: Mapping[str, str] = field(default_factory=dict)
    unknown_annotations: tuple[str, ...] = ()
    unknown_fields: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the resource, and of its front Service."""
        return self.key.name

    @classmethod
    def from_body(cls, body: Body) -> ModelDeployment:
        """Read an object of the API server.

        Raises:
            InvalidSpec: the spec is invalid.
        """
        metadata = body["metadata"]
        annotations = metadata.get("annotations") or {}
        ours = {name.removeprefix(_PREFIX): value for name, value in annotations.items() if name.startswith(_PREFIX)}
        spec, status = parse_spec(body), status_from_body(body.get("status") or {})
        return cls(
            key=key_of(body),
            uid=metadata["uid"],
            generation=metadata["generation"],
            resource_version=metadata["resourceVersion"],
            spec=spec,
            target=revision_of(
                spec.revision_source,
                ours.get("refresh", ""),
                polled_fingerprint(spec.model, status),
                existing=status.revisions,
            ),
            status=status,
            tokens={token: ours[token][:_LONGEST_TOKEN] for token in TOKENS if ours.get(token)},
            unknown_annotations=tuple(sorted(ours.keys() - TOKENS)[:_MOST_UNKNOWN]),
            unknown_fields=tuple(sorted(unknown_fields(body["spec"], SpecFields, "spec"))),
        )


def polled_fingerprint(model: Model, status: Status) -> str:
    """Return the fingerprint that polling last found at the spec's URI; empty while the object has not changed."""
    source = status.source
    return source.fingerprint if model.poll_interval and source and source.uri == model.storage_uri else ""


def version_of(body: Body) -> ObjectVersion:
    """Return the version of an object of the API server, without parsing its spec."""
    return ObjectVersion(key_of(body), body["metadata"]["resourceVersion"])


def owner_reference(kind: str, name: str, uid: str) -> dict[str, Any]:
    """Return the reference of what a resource owns: garbage collection deletes that with it."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def key_of(body: Body) -> ObjectKey:
    """Return the key of any namespaced object."""
    metadata = body["metadata"]
    return ObjectKey(metadata["namespace"], metadata["name"])
