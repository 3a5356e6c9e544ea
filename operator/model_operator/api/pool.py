"""A ModelPool as a value: `spec` field by field as in `crds/modelpools.yaml`, and what its status remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from model_operator.api.json import Body
from model_operator.api.place import check_levels
from model_operator.api.quantities import parse_quantity
from model_operator.api.resource import ObjectKey, key_of, owner_reference
from model_operator.api.spec import Auth, CertificateAuthority, PodFields, SecretRef, Server, Signature, parse_server
from model_operator.api.values import Value, read
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
    concurrency: int | None = None


class PoolServer(PodFields, frozen=True, kw_only=True):
    """Settings of the pods (`spec.server`): those of a ModelDeployment's servers that a pool has as well."""

    image_pull_policy: str | None = None
    log_level: str = "info"
    request_timeout_seconds: int = 30
    auth: Auth | None = None
    tls: SecretRef | None = None
    grpc_port: int | None = None


class PoolMonitoring(Value, frozen=True, kw_only=True):
    """What tells Prometheus of the pods (`spec.monitoring`)."""

    service_monitor: bool = False
    scrape_key: str | None = None


class PoolSpec(Value, frozen=True, kw_only=True):
    """Desired state of a ModelPool (`spec`)."""

    models: tuple[PooledModel, ...]
    secret_name: str | None = None
    ca: CertificateAuthority | None = None
    signature: Signature = Signature()
    memory_budget: str = "1Gi"
    replicas: int = 1
    processes: int = 2
    model_concurrency: int = 64
    preload: int = 0
    server: PoolServer = PoolServer()
    monitoring: PoolMonitoring = PoolMonitoring()

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
        check_levels(raw, "spec")
        spec = read(raw, PoolSpec, "spec")
        if spec.memory_bytes < _LEAST_BYTES:
            raise InvalidSpec(f"spec.memoryBudget: {spec.memory_budget} is less than 64Mi")
        return cls(key=key_of(body), uid=metadata["uid"], generation=metadata["generation"], spec=spec, body=body)

    @property
    def owner_reference(self) -> dict[str, Any]:
        """The reference of what it owns: garbage collection deletes that with it."""
        return owner_reference(POOL_KIND, self.name, self.uid)

    @property
    def server(self) -> Server:
        """Its settings as those of a ModelDeployment's server, without the overlay of the pod template."""
        written = self.body["spec"].get("server") or {}
        known = {one.encode_name for one in structs.fields(PoolServer)} - {"podTemplate"}
        return parse_server({name: value for name, value in written.items() if name in known})
