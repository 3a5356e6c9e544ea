"""Protocols of the external systems that the engine uses; `clients` implements them, `testing` has fakes for tests."""

from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from typing import NamedTuple, Protocol

from model_operator.api.activation import Bound, Demand, Routes
from model_operator.api.analysis import MetricSource
from model_operator.api.batch import ShardProgress
from model_operator.api.estimate import EstimatedMetric
from model_operator.api.hooks import GateAnswer, WebhookEndpoint
from model_operator.api.inputs import InputSample
from model_operator.api.json import Body
from model_operator.api.pool import PoolSample
from model_operator.api.replay import RecordedRequests, ReplayCounts
from model_operator.api.resource import ModelDeployment, ObjectKey, ObjectVersion
from model_operator.api.shadow import ShadowRequest, ShadowResponse
from model_operator.api.source import VersionTags
from model_operator.api.status import ModelInfo
from model_operator.api.steps import Replay
from model_operator.api.sums import SliceCounts, SumStats


class Clock(Protocol):
    """A clock."""

    def now(self) -> datetime:
        """Return the time, in UTC."""


class Cluster(Protocol):
    """Writes to the Kubernetes API. Every method raises `ApiError` if the server rejects the request."""

    async def apply(self, body: Body) -> Body:
        """Apply an object server-side as the operator's field manager, with force; return its new version."""

    async def apply_new(self, body: Body) -> Body:
        """Apply an object that must not exist; one of the name is a conflict, and is not changed."""

    async def find(self, kind: str, key: ObjectKey) -> Body | None:
        """Return an object, or None if it does not exist."""

    async def delete(self, kind: str, key: ObjectKey, uid: str) -> None:
        """Delete the object with this uid; if it is gone, do nothing."""

    async def patch_status(self, resource: ModelDeployment | ObjectVersion, patch: Body) -> Body:
        """Merge into the status of exactly this resourceVersion; return its new version."""

    async def patch_spec(self, resource: ModelDeployment, patch: Body) -> Body:
        """Merge into the spec of exactly this resourceVersion; return its new version."""

    async def post_event(self, body: Body) -> None:
        """Create an Event (v1)."""


class BatchCluster(Protocol):
    """Writes of batches to the Kubernetes API. Every method raises `ApiError` if the server rejects the request."""

    async def apply_new(self, body: Body) -> Body:
        """Apply an object that must not exist; one of the name is a conflict, and is not changed."""

    async def find(self, kind: str, key: ObjectKey) -> Body | None:
        """Return an object, or None if it does not exist."""

    async def delete(self, kind: str, key: ObjectKey, uid: str) -> None:
        """Delete the object with this uid; if it is gone, do nothing."""

    async def merge(self, kind: str, key: ObjectKey, patch: Body, version: str, subresource: str = "") -> Body:
        """Merge into exactly this resourceVersion of an object; return its new version."""


class ShardMetrics(Protocol):
    """Reads the progress of the pods of batches."""

    async def shard(self, url: str) -> ShardProgress | None:
        """Return how far the pod with this URL is; None if it does not respond."""


class PoolCluster(Protocol):
    """Writes of pools to the Kubernetes API. Every method raises `ApiError` if the server rejects the request."""

    async def apply(self, body: Body) -> Body:
        """Apply an object server-side as the operator's field manager, with force; return its new version."""

    async def apply_new(self, body: Body) -> Body:
        """Apply an object that must not exist; one of the name is a conflict, and is not changed."""

    async def find(self, kind: str, key: ObjectKey) -> Body | None:
        """Return an object, or None if it does not exist."""

    async def delete(self, kind: str, key: ObjectKey, uid: str) -> None:
        """Delete the object with this uid; if it is gone, do nothing."""

    async def merge(self, kind: str, key: ObjectKey, patch: Body, version: str, subresource: str = "") -> Body:
        """Merge into exactly this resourceVersion of an object; return its new version."""


class PoolMetrics(Protocol):
    """Reads how the models of the pods of pools are."""

    async def pool(self, url: str, token_of: ObjectKey | None = None) -> PoolSample | None:
        """Return what the pod with this URL says; None if it does not respond.

        `token_of`: the pool whose token the pod wants; None if its metrics are open.
        """


class PodMetrics(Protocol):
    """Reads the state of a pod's server."""

    async def read(self, url: str, token_of: ObjectKey | None = None) -> "PodSample | None":
        """Return the counters of the pod with this URL; None if it does not respond.

        `token_of`: the model whose token the pod wants; None if its metrics are open.
        """

    async def start(self, url: str) -> "PodStart | None":
        """Return the progress of the start of a server; None if it does not respond or has finished starting."""


class Predictions(Protocol):
    """Reads the recent predictions of pods."""

    async def api_key(self, namespace: str, secret_name: str) -> str:
        """Return one of the API keys in a Secret.

        Raises:
            ProviderError: the Secret cannot be read, or has no keys.
        """

    def token(self, key: ObjectKey) -> str:
        """Return the token of a model's pods."""

    async def ask(self, url: str, question: ShadowRequest, api_key: str) -> ShadowResponse:
        """Return the predictions of a pod; `url` is that of its port for predictions.

        Raises:
            ProviderError: the pod does not respond in time, or not with predictions.
        """


class Replays(Protocol):
    """Has pods keep requests and answer those of others."""

    def token(self, key: ObjectKey) -> str:
        """Return the token of a model's pods."""

    async def requests(self, url: str, *, size: int, seconds: float, answer: int, token: str) -> RecordedRequests:
        """Have a pod keep `size` requests for so many seconds; return how many it has, and `answer` of them.

        Raises:
            ProviderError: the pod does not respond in time, or keeps no requests.
        """

    async def compare(self, url: str, step: Replay, sample: Sequence[bytes], *, token: str) -> ReplayCounts:
        """Have a pod answer requests of another, and compare.

        Raises:
            ProviderError: the pod does not respond in time, or not with counts.
        """


class ActivatorPod(NamedTuple):
    """One pod of the activator: its address, the URL at which the operator asks it, and whether it takes requests."""

    address: str
    url: str
    is_ready: bool


class Activators(Protocol):
    """The pods that hold the requests of models that sleep."""

    @property
    def is_installed(self) -> bool:
        """Whether the installation has activators."""

    async def find(self) -> Sequence[ActivatorPod]:
        """Return the pods that run.

        Raises:
            ApiError: the API server does not answer as it should.
        """

    async def tell(self, url: str, routes: Routes) -> Bound:
        """Tell a pod the routes of all models; return the ports on which it listens.

        Raises:
            ProviderError: the pod does not respond in time, or not as an activator.
        """

    async def demand(self, url: str, after: int) -> Demand:
        """Return for which models a pod has requests, as soon as that is another version than `after`.

        Raises:
            ProviderError: the pod does not respond in time, or not as an activator.
        """


class MetricValues(Protocol):
    """Fetches values from metric providers."""

    async def value(self, source: MetricSource, namespace: str) -> float | None:
        """Return the value, or None if there is none yet; templates in the source are already replaced.

        `namespace` is that of the source's Secret.

        Raises:
            ProviderError: the provider timed out, returned an error, or returned no single number.
        """


class Webhooks(Protocol):
    """Calls gates and sends notifications."""

    async def ask(self, address: WebhookEndpoint, namespace: str, body: Body) -> GateAnswer:
        """Return the answer of a gate; one that does not respond is closed, with a message that says so."""

    async def notify(self, address: WebhookEndpoint, namespace: str, body: Body) -> None:
        """Post a notification.

        Raises:
            ProviderError: the webhook did not accept it.
        """


class Registries(Protocol):
    """Writes tags into registries of models."""

    async def write(self, address: WebhookEndpoint, namespace: str, wanted: VersionTags) -> None:
        """Set the tags of a version that are not there yet.

        Raises:
            ProviderError: the registry did not accept one.
        """


class PodStart(Protocol):
    """Response to `GET /readyz` of a pod that is not ready (docs/wire.md)."""

    @property
    def phase(self) -> str:
        """`downloading`, `loading` or `warming`."""

    @property
    def message(self) -> str:
        """Progress, as text."""


class PodSample(Protocol):
    """Counters in `GET /metrics` of one pod (docs/wire.md)."""

    @property
    def model(self) -> ModelInfo | None:
        """The loaded model."""

    @property
    def changed_fingerprint(self) -> str:
        """Fingerprint of a changed object at the storage URI; empty if it has not changed."""

    @property
    def source_problem(self) -> str:
        """Reason for which the server cannot look at the storage URI; empty while it can, or does not look."""

    @property
    def stream(self) -> str | None:
        """Reason for which the server is not connected to its broker; empty while it is, None where it has none."""

    @property
    def requests(self) -> int:
        """Predictions since the start of the process."""

    @property
    def assigned(self) -> int:
        """Users of an A/B test that the router assigned to this revision."""

    @property
    def errors(self) -> int:
        """Predictions with a 5xx response."""

    @property
    def refusals(self) -> int | None:
        """Requests that the model, its schema or a limit refused; None of a server that does not count them."""

    @property
    def explanations(self) -> int:
        """Requests for explanations since the start of the process."""

    @property
    def in_flight(self) -> int:
        """Predictions that are being answered."""

    @property
    def inputs(self) -> InputSample | None:
        """Requests that were compared with the training data; None of a server that does not compare them."""

    @property
    def drifted(self) -> Set[str]:
        """Features whose distribution is far from the reference."""

    @property
    def durations(self) -> Mapping[float, int]:
        """Cumulative number of predictions by the upper bound of the histogram bucket, in seconds."""

    @property
    def outputs(self) -> Mapping[str, float]:
        """Predictions by class or bucket."""

    @property
    def quality(self) -> Mapping[str, SumStats]:
        """Labelled answers, by metric."""

    @property
    def slices(self) -> Mapping[tuple[str, str], SliceCounts]:
        """Answers by slice and group."""

    @property
    def estimate(self) -> str | None:
        """Why the estimated quality is not to be trusted; empty while it is, None where nothing is estimated."""

    @property
    def estimated(self) -> Mapping[str, EstimatedMetric]:
        """Metrics that are estimated without labels."""
