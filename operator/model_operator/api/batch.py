"""A ModelBatch as a value: `spec` field by field as in `crds/modelbatches.yaml`, and what its status remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from model_operator.api.json import Body
from model_operator.api.place import check_levels
from model_operator.api.resource import ObjectKey, key_of, owner_reference
from model_operator.api.spec import Cache, CertificateAuthority, PodFields, Signature
from model_operator.api.values import Number, Value, read
from model_operator.errors import InvalidSpec

BATCH_KIND = "ModelBatch"
BATCH_PLURAL = "modelbatches"
#: Reason of the condition SpecValid: the API server rejects an object of the batch.
APPLY_FAILED = "ApplyFailed"


class OnBadRow(StrEnum):
    """What happens to a row that cannot be predicted."""

    FAIL = "fail"
    SKIP = "skip"
    QUARANTINE = "quarantine"


class ConcurrencyPolicy(StrEnum):
    """What happens when a run is due while another is active; the words are those of a CronJob."""

    ALLOW = "Allow"
    FORBID = "Forbid"
    REPLACE = "Replace"


class BatchModel(Value, frozen=True, kw_only=True):
    """The model that predicts (`spec.model`): `name` of a ModelDeployment, or `storage_uri` of a package."""

    name: str | None = None
    storage_uri: str | None = None
    format: str = "auto"
    version: str | None = None
    sha256: str | None = None
    trusted: bool = False
    signature: Signature = Signature()
    secret_name: str | None = None
    ca: CertificateAuthority | None = None
    install_requirements: bool = False
    cache: Cache = Cache()


class BatchInput(Value, frozen=True, kw_only=True):
    """The table to predict (`spec.input`)."""

    uri: str
    format: str = "auto"
    split: bool = True


class BatchOutput(Value, frozen=True, kw_only=True):
    """The folder of the predictions (`spec.output`)."""

    uri: str
    format: str = "jsonl"


class BatchSpec(Value, frozen=True, kw_only=True):
    """Desired state of a ModelBatch (`spec`)."""

    model: BatchModel
    input: BatchInput
    output: BatchOutput
    secret_name: str | None = None
    parallelism: int = 1
    shards: int | None = None
    retries: int = 3
    on_bad_row: OnBadRow = OnBadRow.FAIL
    probabilities: bool = False
    suspend: bool = False
    active_deadline_seconds: int | None = None
    schedule: str | None = None
    time_zone: str | None = None
    concurrency_policy: ConcurrencyPolicy = ConcurrencyPolicy.FORBID
    starting_deadline_seconds: int | None = None
    successful_runs_history_limit: int = 3
    failed_runs_history_limit: int = 1
    server: PodFields = PodFields()

    @property
    def shard_count(self) -> int:
        """Number of shards."""
        return self.shards or self.parallelism


class PinnedModel(Value, frozen=True, kw_only=True):
    """The model with which a batch began (`status.model`)."""

    name: str = ""
    revision: str = ""
    storage_uri: str = ""
    version: str = ""
    sha256: str = ""


class BatchStatus(Value, frozen=True, kw_only=True):
    """What a ModelBatch remembers (`status`); the rest of it is computed at each pass."""

    model: PinnedModel | None = None
    start_time: str = ""
    completion_time: str = ""
    rows: int = 0
    failed_rows: int = 0
    rows_per_second: Number = 0
    last_schedule_time: str = ""
    last_successful_time: str = ""
    conditions: tuple[Mapping[str, Any], ...] = ()

    def is_true(self, type_: str) -> bool:
        """Whether a condition is True."""
        return any(one.get("type") == type_ and one.get("status") == "True" for one in self.conditions)

    def is_rejected(self, generation: int) -> bool:
        """Whether the API server rejected an object of the batch when it last tried, with the spec of a generation."""
        return any(
            (one.get("reason"), one.get("observedGeneration")) == (APPLY_FAILED, generation) for one in self.conditions
        )

    @property
    def is_over(self) -> bool:
        """Whether the batch has ended, for good."""
        return self.is_true("Complete") or self.is_true("Failed")


@dataclass(frozen=True, slots=True)
class ShardProgress:
    """How far a pod is (docs/wire.md); `share` is that of the bytes of its shard, from 0 to 1."""

    rows: int
    failed_rows: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBatch:
    """One custom resource; `body` is the object that it was read from."""

    key: ObjectKey
    uid: str
    generation: int
    created: str
    spec: BatchSpec
    status: BatchStatus
    body: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the resource, and of its Job."""
        return self.key.name

    @classmethod
    def from_body(cls, body: Body) -> ModelBatch:
        """Read an object of the API server.

        Raises:
            InvalidSpec: the spec is invalid.
        """
        metadata, spec = body["metadata"], body.get("spec")
        if not isinstance(spec, Mapping):
            raise InvalidSpec("spec: the field is missing; write at least model, input and output")
        check_levels(spec, "spec")
        return cls(
            key=key_of(body),
            uid=metadata["uid"],
            generation=metadata["generation"],
            created=metadata["creationTimestamp"],
            spec=read(spec, BatchSpec, "spec"),
            status=read(body.get("status") or {}, BatchStatus, "status"),
            body=body,
        )

    @property
    def owner_reference(self) -> dict[str, Any]:
        """The reference of what it owns: garbage collection deletes that with it."""
        return owner_reference(BATCH_KIND, self.name, self.uid)
