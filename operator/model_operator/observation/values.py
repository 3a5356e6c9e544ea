"""The observation of one ModelDeployment as frozen values, which `observation.observe` creates."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from model_operator.api.hooks import GateAnswer
from model_operator.api.inputs import Finding
from model_operator.api.json import Body
from model_operator.api.replay import ReplayCounts
from model_operator.api.status import ModelInfo, ServerInfo
from model_operator.api.traffic import RouteView


@dataclass(frozen=True, slots=True, kw_only=True)
class PodProblem:
    """Problem because of which one pod does not serve.

    `is_permanent`: a restart cannot help, so the rollout does not wait for one.
    """

    reason: str
    message: str
    restarts: int = 0
    is_permanent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InputReport:
    """What the servers of a revision find in their requests, next to the training data; the worst comes first."""

    has_requests: bool = False
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """The model as the server of a revision reports it.

    `changed_fingerprint` is the fingerprint of a changed object at its storage URI, empty if it has not changed.
    `source_problem` is the reason for which it cannot look there, empty while it can.
    `stream` is the reason for which it is not connected to its broker, empty while it is, None if it has none.
    `inputs` is what it finds in its requests, None if it does not compare them with the training data.
    `estimate` is the reason for which its estimated quality is not to be trusted, in the same way.
    """

    model: ModelInfo
    changed_fingerprint: str = ""
    source_problem: str = ""
    stream: str | None = None
    inputs: InputReport | None = None
    estimate: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionView:
    """One revision in the cluster.

    Attributes:
        desired: size of its Deployment, None without one.
        pods: all its pods that have not ended, also those that terminate.
        ready: pods that take requests.
        available: pods that have been ready for minReadySeconds.
        is_current: whether the Deployment's controller has observed its newest size.
        problems: why pods do not serve, or are not made.
        starting: what a pod that does not become ready says of its start, empty if none has said anything.
        autoscaler: why the number of pods does not follow the load.
        ended: why pods ended whose objects still exist. They are not counted.
        source: the part of the spec that it was created from, None if it was lost.
        changed_fingerprint: fingerprint of a changed object at its storage URI, empty if it has not changed.
        source_problem: why it cannot look there, empty while it can, None if that was not reported.
        stream: why it is not connected to its broker, empty while it is, None if that was not reported.
        inputs: what its servers find in their requests, None if that was not reported.
        estimate: why its estimated quality is not to be trusted, empty while it is, None if that was not reported.
        server: the image that it has and the one it would get, None without a Deployment or its source.
        is_model_pending: whether it has ready servers, and none has been asked yet which model it has.
    """

    revision: str
    desired: int | None = None
    pods: int = 0
    ready: int = 0
    available: int = 0
    is_current: bool = True
    problems: tuple[PodProblem, ...] = ()
    starting: str = ""
    autoscaler: PodProblem | None = None
    ended: tuple[PodProblem, ...] = ()
    source: Body | None = None
    model: ModelInfo | None = None
    changed_fingerprint: str = ""
    source_problem: str | None = None
    stream: str | None = None
    inputs: InputReport | None = None
    estimate: str | None = None
    server: ServerInfo | None = None
    is_model_pending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontView:
    """The selection of the front Service. `revision` is None while it selects all revisions."""

    exists: bool = False
    revision: str | None = None

    @property
    def selects_all_revisions(self) -> bool:
        """Whether pods of every revision receive its requests."""
        return self.exists and self.revision is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests that stable and canary counted since the applied weight was programmed."""

    stable: int = 0
    canary: int = 0


class Outcome(StrEnum):
    """Outcome of an analysis or of one metric. Undecided is not a failure.

    The last two belong to A/B tests: the test ended without a winner, or the observed split of users does not agree
    with the weight, so that the test is invalid.
    """

    PASS = "Pass"  # noqa: S105 -- a verdict, not a secret
    FAIL = "Fail"
    UNDECIDED = "Undecided"
    NO_DIFFERENCE = "NoDifference"
    SAMPLE_RATIO_MISMATCH = "SampleRatioMismatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainView:
    """Reason to train the live model again, empty if there is none; and the request that its hook has accepted.

    `problem` is the error of the last attempt.
    """

    cause: str = ""
    notified: datetime | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivatorView:
    """The activators, which hold the requests of a model that sleeps.

    Attributes:
        is_installed: whether the installation has activators.
        port: port on which they listen for the model, or that is free for it; 0 if there is none.
        endpoints: addresses of those that are ready and listen on the port; None while that is not known yet.
        held: requests for the model that they hold or carry.
    """

    is_installed: bool = False
    port: int = 0
    endpoints: tuple[str, ...] | None = None
    held: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricState:
    """State of one metric; each kind of metric has its own class (`policy.analysis`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricResult:
    """Outcome, one-line message and state of one metric.

    `problem` is the last error of its provider, and `problem_since` the time of the first consecutive error.
    """

    name: str
    outcome: Outcome
    message: str
    state: MetricState
    problem: str = ""
    problem_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Outcome and message of an analysis, and the result of each metric.

    `problem` has the last errors of metric providers, and `problem_since` the time of the first consecutive error.
    """

    outcome: Outcome = Outcome.UNDECIDED
    message: str = ""
    metrics: tuple[MetricResult, ...] = ()
    problem: str = ""
    problem_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Result of an evaluation Job: `values` by name over `rows`, or the `error` that it ended with.

    `groups` has values by column and group, and `notes` say which groups have too few rows.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    rows: int = 0
    error: str = ""
    groups: Mapping[str, Mapping[str, Mapping[str, float | None]]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayView:
    """A replay so far: the number of requests that stable's servers have `recorded`, None before the first look.

    `counts` is the candidate's result, None without one; `problem` is the error of the last attempt.
    """

    recorded: int | None = None
    counts: ReplayCounts | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Input of a decision besides spec, status and time.

    `measurements` has the results of finished evaluations, by the name of their Job; `hindrances` has the problems of
    unfinished ones. `idle_since` is the time of the last request that the pods of stable counted, None before the first
    look. `refusal` is the error of the API server about an object of the resource, empty without one.
    `missing_kinds` are the kinds that the cluster does not have.
    """

    revisions: Mapping[str, RevisionView] = field(default_factory=dict)
    front: FrontView = field(default_factory=FrontView)
    route: RouteView = field(default_factory=RouteView)
    traffic: Traffic | None = None
    verdict: Verdict = field(default_factory=Verdict)
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    hindrances: Mapping[str, str] = field(default_factory=dict)
    gates: Mapping[str, GateAnswer] = field(default_factory=dict)
    replay: ReplayView = field(default_factory=ReplayView)
    retrain: RetrainView = field(default_factory=RetrainView)
    activator: ActivatorView = field(default_factory=ActivatorView)
    idle_since: datetime | None = None
    refusal: str = ""
    missing_kinds: frozenset[str] = frozenset()

    def revision(self, name: str) -> RevisionView:
        """Return the view of a revision; an unknown revision has an empty one."""
        return self.revisions.get(name) or RevisionView(revision=name)
