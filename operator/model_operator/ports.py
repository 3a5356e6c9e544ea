"""What the engine needs from the world; `clients` implement it, `testing` has small real ones for tests."""

from collections.abc import Mapping, Set
from datetime import datetime
from typing import Protocol

from model_operator.api.analysis import MetricSource
from model_operator.api.hooks import GateAnswer, WebhookEndpoint
from model_operator.api.json import Body
from model_operator.api.resource import ModelDeployment, ObjectKey, ObjectVersion
from model_operator.api.shadow import ShadowRequest, ShadowResponse
from model_operator.api.status import ModelInfo
from model_operator.api.sums import SumStats


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Return the time, in UTC."""


class Cluster(Protocol):
    """Writes to the Kubernetes API. Every method raises `ApiError` when the server refuses."""

    async def apply(self, body: Body, *, force: bool = True) -> Body:
        """Apply an object server-side, as our field manager; return it as it is now.

        Without force an object whose fields are others' already is a conflict.
        """

    async def find(self, kind: str, key: ObjectKey) -> Body | None:
        """Return an object, None when there is none."""

    async def delete(self, kind: str, key: ObjectKey, uid: str) -> None:
        """Delete an object of this uid; one that is gone already is no error."""

    async def patch_status(self, resource: ModelDeployment | ObjectVersion, patch: Body) -> Body:
        """Merge into the status of exactly this resourceVersion; return the resource as it is now."""

    async def patch_spec(self, resource: ModelDeployment, patch: Body) -> Body:
        """Merge into the spec of exactly this resourceVersion; return the resource as it is now."""

    async def post_event(self, body: Body) -> None:
        """Create an Event (v1)."""


class PodMetrics(Protocol):
    """Reads what a pod's server says of itself."""

    async def read(self, url: str) -> "PodSample | None":
        """Return the counters of the pod whose server answers at this URL, None when it does not answer."""

    async def start(self, url: str) -> "PodStart | None":
        """Return how far the start of a server is, None when it does not answer or has come to its end."""


class Predictions(Protocol):
    """Asks pods what they answered last."""

    async def api_key(self, namespace: str, secret_name: str) -> str:
        """Return a key that servers accept whose keys this Secret holds.

        Raises:
            ProviderError: the Secret cannot be read, or holds none.
        """

    async def ask(self, url: str, question: ShadowRequest, api_key: str) -> ShadowResponse:
        """Return what a pod tells; `url` is that of its port for predictions.

        Raises:
            ProviderError: it does not answer in time, or not with predictions.
        """


class MetricValues(Protocol):
    """Fetches values from metric providers."""

    async def value(self, source: MetricSource, namespace: str) -> float | None:
        """Return the value, None when there is none yet; the source's templates are replaced already.

        `namespace` is that of the source's Secret.

        Raises:
            ProviderError: the provider failed, or answered with something that is no single number.
        """


class Webhooks(Protocol):
    """Asks gates and tells of changes."""

    async def ask(self, address: WebhookEndpoint, namespace: str, body: Body) -> GateAnswer:
        """Return whether a gate is open; one that does not answer is closed, and its message says so."""

    async def notify(self, address: WebhookEndpoint, namespace: str, body: Body) -> None:
        """Post a notice.

        Raises:
            ProviderError: nobody took it.
        """


class PodStart(Protocol):
    """What `GET /readyz` of a pod that is not ready says (docs/wire.md)."""

    @property
    def phase(self) -> str:
        """`downloading`, `loading` or `warming`."""

    @property
    def message(self) -> str:
        """How far it is, in words."""


class PodSample(Protocol):
    """What `GET /metrics` of one pod says (docs/wire.md)."""

    @property
    def model(self) -> ModelInfo | None:
        """The loaded model."""

    @property
    def changed_fingerprint(self) -> str:
        """Marks another object than the loaded one at the storage URI; empty when there is none."""

    @property
    def requests(self) -> int:
        """Answered predictions since the process began."""

    @property
    def assigned(self) -> int:
        """Users of an A/B test whom a router drew for this revision."""

    @property
    def errors(self) -> int:
        """Those of them that were answered with 5xx."""

    @property
    def drifted(self) -> Set[str]:
        """Features whose distribution is far from the reference."""

    @property
    def durations(self) -> Mapping[float, int]:
        """Predictions that took at most so many seconds, by the histogram's bucket edges."""

    @property
    def outputs(self) -> Mapping[str, float]:
        """Predictions by class or bucket."""

    @property
    def quality(self) -> Mapping[str, SumStats]:
        """Labelled answers, by metric."""
