"""A ModelPool as a value: `spec` field by field as in `crds/modelpools.yaml`, and what its status remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import field

from model_operator.api.json import Body
from model_operator.api.quantities import parse_quantity
from model_operator.api.resource import ObjectKey, key_of
from model_operator.api.values import Value, read
from model_operator.api.version import API_VERSION
from model_operator.errors import InvalidSpec

POOL_KIND = "ModelPool"
POOL_PLURAL = "modelpools"
#: The least budget that the server takes.
_LEAST_BYTES = 64 * 2**20


class PooledModel(Value, frozen=True, kw_only=True):
    """One model of the list (`spec.models[]`)."""

    name: str
    storage_uri: str
    format: str = "auto"
    version: str | None = None
    sha256: str | None = None
    trusted: bool = False


class PoolServer(Value, frozen=True, kw_only=True):
    """Settings of the pods (`spec.server`)."""

    image: str = ""
    log_level: str = "info"
    request_timeout_seconds: int = 30
    auth_secret_name: str | None = None
    env: tuple[Body, ...] = ()
    resources: Body = field(default_factory=dict)


class PoolSpec(Value, frozen=True, kw_only=True):
    """Desired state of a ModelPool (`spec`)."""

    models: tuple[PooledModel, ...]
    secret_name: str | None = None
    memory_budget: str = "1Gi"
    replicas: int = 1
    processes: int = 2
    model_concurrency: int = 64
    preload: int = 0
    server: PoolServer = PoolServer()

    @property
    def memory_bytes(self) -> int:
        """The budget in bytes."""
        return int(parse_quantity(self.memory_budget))


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSample:
    """What a pod of a pool says of its models; `failures` are names and reasons of some that failed."""

    loaded: int
    failed: int
    failures: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPool:
    """One custom resource; `body` is the object that it was read from."""

    key: ObjectKey
    uid: str
    generation: int
    spec: PoolSpec
    body: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the resource, and of its Deployment and Service."""
        return self.key.name

    @classmethod
    def from_body(cls, body: Body) -> ModelPool:
        """Read an object of the API server.

        Raises:
            InvalidSpec: the spec is invalid.
        """
        metadata, raw = body["metadata"], body.get("spec")
        if not isinstance(raw, Mapping):
            raise InvalidSpec("spec: the field is missing; write at least models")
        spec = read(raw, PoolSpec, "spec")
        if spec.memory_bytes < _LEAST_BYTES:
            raise InvalidSpec(f"spec.memoryBudget: {spec.memory_budget} is less than 64Mi")
        return cls(key=key_of(body), uid=metadata["uid"], generation=metadata["generation"], spec=spec, body=body)

    @property
    def owner_reference(self) -> dict[str, Any]:
        """The reference of what it owns: garbage collection deletes that with it."""
        return {
            "apiVersion": API_VERSION,
            "kind": POOL_KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
